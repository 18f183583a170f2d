# A caller's message becomes a worker's job and the worker's reply the caller's answer: verbatim,
# in order, to whoever has room. (E1 to E3, E5a, E7, D1, D2, F1, B2, B3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

{
	my $d = Liminal::Daemon->start(name => 'dispatch');
	my $caller = $d->client(name => 'caller');

	note '-- no worker';
	$caller->open(1, $POOL)->ask(1, 'x', stream => 3);
	$caller->expect('ConversationError', { conversation => 1, code => R_NO_WORKER, stream => 3,
	    message => NO_WORKERS }, 'an error on the stream of the message');
	my $worker = $d->worker(name => 'w');

	note '-- opaque bytes, verbatim both ways';
	my $random = join '', map { chr int rand 256 } 1 .. 10000;
	for my $job ('', "\0", "text\n", $random, '{"content_type":"something/else"}', '[1,2', "\xFF\xFE",
	    $random x 105) {
		$caller->ask(1, $job, stream => 9, schema_id => "\x5A" x 32, parent_id => 'p', clock => 4);
		my $push = $worker->expect('Push', { payload => $job, stream => 1 }, length($job) . ' bytes to the worker');
		my $answer = reverse $job;
		$worker->reply($push, $answer);
		$caller->expect('ConversationMessage', { conversation => 1, stream => 9, payload => $answer,
		    flags => F_REPLY, schema_id => "\0" x 32, parent_id => undef, clock => undef },
		    'and back');
	}
	$caller->send('ConversationMessage', conversation => 1, payload => 'no reply flag');
	$caller->send('Ping');
	my $frame = $caller->next_frame;
	$frame = $caller->next_frame if $frame && $frame->{type} eq 'ConversationError';
	is $frame && $frame->{type}, 'Pong', 'a message without the reply flag: nothing, or an error';
	$worker->expect_quiet('but no activity');

	note '-- who may answer what';
	$caller->ask(1, 'mine');
	my $push = $worker->expect('Push', { payload => 'mine' });
	my $stranger = $d->client(name => 'stranger');
	$stranger->reply($push, 'stolen')->expect_quiet('another connection\'s PushReply: nothing');
	$worker->send('PushReply', correlation => $push->{correlation} + 1, payload => 'unknown')
	    ->send('PushReply', correlation => 0)->send('PushReply', correlation => ~0);
	$worker->expect_quiet('unknown correlation ids: nothing');
	$worker->reply($push, 'right')->reply($push, 'late')->expect_quiet('a second reply: nothing');
	$caller->expect_answer(1, 'right', 'the first reply of the right connection counts');
	$caller->expect_quiet('and no other');
	$caller->ask(1, 'next');
	my $next = $worker->expect('Push', { payload => 'next' }, 'the worker has room again');
	cmp_ok $next->{correlation}, '>', $push->{correlation}, 'correlation ids rise';
	$worker->reply($push, 'late again')->reply($next, 'n');
	$caller->expect_answer(1, 'n');

	note '-- closing drops what is awaited (F4a)';
	$caller->ask(1, 'unwanted');
	$push = $worker->expect('Push');
	$caller->close_conversation(1)->expect_quiet;
	$worker->reply($push, 'unwanted')->barrier;
	$caller->expect_quiet('no answer comes');
	$caller->open(1, $POOL)->ask(1, 'fresh');
	$push = $worker->expect('Push', { payload => 'fresh' });
	$worker->reply($push, 'fresh');
	$caller->expect_answer(1, 'fresh', 'the id opened anew gets its own answer');

	note '-- subjects that are no pool name (E5a)';
	for my $subject ('aion.dispatch.', 'aion.dispatch.a', 'aion.dispatch.a.', 'aion.dispatch..q',
	    'aion.dispatch.a.b.c', 'aion.dispatch..') {
		$caller->open(2, $subject)->send('Ping');
		$caller->expect_refusal(2, undef, qr/./, "'$subject' is refused at open");
		$caller->expect('Pong');
	}
}

{
	note '-- order and independence';
	my $d = Liminal::Daemon->start(name => 'order');
	my $worker = $d->worker(name => 'w', capacity => 1024);
	my $caller = $d->client(name => 'caller');
	$caller->open($_, $POOL) for 1 .. 3;
	$caller->ask(1, 'first')->ask(1, 'second')->ask(2, 'other');
	my %push = map { $_->{payload} => $_ } map { $worker->expect('Push') } 1 .. 3;
	$worker->reply($push{second}, 'SECOND')->barrier;
	$caller->expect_quiet('the answer to the second message waits for the first');
	$worker->reply($push{other}, 'OTHER');
	$caller->expect_answer(2, 'OTHER', 'another conversation does not wait');
	$caller->open(4, 'echo')->ask(4, 'e');
	$caller->expect_answer(4, 'e', 'nor does the echo');
	$worker->reply($push{first}, 'FIRST');
	$caller->expect_answer(1, 'FIRST');
	$caller->expect_answer(1, 'SECOND', 'request order within a conversation');

	note '-- a thousand outstanding, answered backwards';
	$caller->send_all(map { ['ConversationOpen', conversation => 1000 + $_, subject => $POOL] } 1 .. 1000);
	$caller->send_all(map { ['ConversationMessage', conversation => 1000 + $_, flags => F_REPLY, payload => "j$_"] } 1 .. 1000);
	my @pushes = map { $worker->next_frame // last } 1 .. 1000;
	is scalar @pushes, 1000, 'all are at the worker at once';
	is $d->mdb_counts->{pushes}, 1000, 'pushes has a row for each';
	is join(' ', map { $_->{payload} } @pushes), join(' ', map { "j$_" } 1 .. 1000), 'in the order in which they were asked';
	$worker->send_all(map { ['PushReply', correlation => $_->{correlation}, payload => "r$_->{payload}"] } reverse @pushes);
	my %answers;
	for (1 .. 1000) {
		my $frame = $caller->next_frame // last;
		$answers{ $frame->{conversation} } .= $frame->{payload} // $frame->{type};
	}
	is_deeply \%answers, { map { 1000 + $_ => "rj$_" } 1 .. 1000 }, 'each conversation gets its own answer';
	$caller->close_conversation(1000 + $_) for 1 .. 1000;
	$caller->expect_quiet;

	note '-- a thousand in one conversation';
	$caller->send_all(map { ['ConversationMessage', conversation => 3, flags => F_REPLY, payload => "k$_"] } 1 .. 1000);
	@pushes = map { $worker->next_frame // last } 1 .. 1000;
	my @mixed = sort { ($a->{correlation} * 7919) % 1009 <=> ($b->{correlation} * 7919) % 1009 } @pushes;
	$worker->send_all(map { ['PushReply', correlation => $_->{correlation}, payload => $_->{payload}] } @mixed);
	is join(' ', map { ($caller->next_frame // {})->{payload} // 'nothing' } 1 .. 1000),
	    join(' ', map { "k$_" } 1 .. 1000), 'come in request order';
	$caller->expect_quiet;
}

{
	note '-- capacity and queue (E7)';
	my $d = Liminal::Daemon->start(name => 'queue', conf => 'dispatch { queue_limit = 3 }');
	my $caller = $d->client(name => 'caller');
	my $one = $d->worker(name => 'one');
	my $two = $d->worker(name => 'two', capacity => 2);
	$caller->open($_, $POOL) for 1 .. 9;
	$caller->ask($_, "j$_") for 1 .. 3;
	my @two = map { $two->expect('Push') } 1 .. 2;
	my $held = $one->expect('Push');
	is join(' ', sort map { $_->{payload} } @two, $held), 'j1 j2 j3', 'three jobs for three places';
	$caller->ask($_, "j$_") for 4 .. 6;
	$caller->barrier;
	$_->expect_quiet('nothing beyond its capacity') for $one, $two;
	is $d->mdb_counts->{pending}, 3, 'three wait';
	$caller->ask(7, 'j7');
	$caller->expect_refusal(7, R_PRESSURE, qr/./, 'over queue_limit: refused');
	my $other = $d->client(name => 'other');
	$other->open(1, $POOL)->ask(1, 'o');
	$other->expect_refusal(1, R_PRESSURE, qr/./, 'the bound is the pool\'s');

	$one->reply($held, 'done');
	$caller->expect('ConversationMessage', { payload => 'done' });
	my $four = $one->expect('Push', { payload => 'j4' }, 'the first with room gets the oldest');
	$two->reply($two[1], 'done');
	$caller->expect('ConversationMessage', { payload => 'done' });
	my $five = $two->expect('Push', { payload => 'j5' }, 'then the next');
	my $three = $d->worker(name => 'three');
	my $six = $three->expect('Push', { payload => 'j6' }, 'a new worker gets what waits');
	$caller->ask(8, 'j8')->barrier;
	$two->reply($two[0], 'done');
	$two->reply($five, 'done');
	my $eight = $two->expect('Push', { payload => 'j8' });
	$one->reply($four, 'done');
	$three->reply($six, 'done');
	$two->reply($eight, 'done');
	$caller->expect('ConversationMessage', { payload => 'done' }) for 1 .. 5;
	$caller->expect_quiet;
	is $d->rows('pending', 'pushes'), '', 'nothing waits, nothing is outstanding';

	note '-- a caller that leaves takes what waits with it, not what runs (E6)';
	my $holder = $d->client(name => 'holder');
	$holder->open($_, $POOL) for 1 .. 6;
	$holder->ask($_, "h$_") for 1 .. 6;
	$holder->barrier;
	my @held = ([$one, $one->expect('Push')], [$three, $three->expect('Push')],
	    map { [$two, $two->expect('Push')] } 1 .. 2);
	is $d->mdb_counts->{pending}, 2, 'two wait';
	$holder->hang_up;
	await_counts($d, { pending => 0 }, 'they wait no more');
	$caller->ask(1, 'after')->barrier;
	$_->expect_quiet('still occupied') for $one, $two, $three;
	$_->[0]->reply($_->[1], 'for nobody') for @held;
	my ($free, $after) = whoever_gets('the next job goes to whoever has answered', $one, $two, $three);
	is $after->{payload}, 'after', 'and it is the job of the caller that is still there';
	$free->reply($after, 'yes');
	$caller->expect_answer(1, 'yes');
}

{
	note '-- routers';
	for my $router (qw(least_loaded round_robin)) {
		my $d = Liminal::Daemon->start(name => $router, conf => qq(dispatch { router = "$router" }));
		my $caller = $d->client(name => 'caller');
		my @workers = map { $d->worker(name => "w$_", capacity => 10) } 1 .. 3;
		$caller->open(1, $POOL);
		$caller->ask(1, "j$_") for 1 .. 9;
		$caller->barrier;
		for my $worker (@workers) {
			$worker->reply($worker->expect('Push'), 'x') for 1 .. 3;
			$worker->expect_quiet("$router: three jobs for each of three");
		}
		$caller->expect_answer(1, 'x') for 1 .. 9;
	}
}

finish_testing;
