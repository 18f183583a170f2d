# Typed dispatch: requests and results with a defined shape, activity types, timeouts, and
# affinity to a node. (E2, E3, E5, E5a, E6)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

{
	my $d = Liminal::Daemon->start(name => 'typed');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', identity => 'upper-1', types => ['upper', 'lower']);
	my $id = 'upper-1#' . $d->conn_id_of($worker);
	$caller->open(1, $POOL);

	note '-- a request and its results';
	my $request = typed_request('upper', 'hello', conversation_id => 'c-1');
	$caller->ask(1, $request);
	my $push = $worker->expect('Push', { payload => $request }, 'the request comes as it was sent');
	my $response = typed_response($id, output => 'HELLO');
	$worker->reply($push, $response);
	my $answer = $caller->expect('ConversationMessage', { conversation => 1, flags => F_REPLY });
	is_deeply from_json($answer->{payload}), from_json($response), 'a completed result comes as a response';

	$request = typed_request('lower', [0, 255, 10], start_to_close_timeout_ms => 60000);
	$caller->ask(1, $request);
	$push = $worker->expect('Push', { payload => $request }, 'data as an array of byte values');
	$worker->reply($push, typed_response($id, output => [1, 2]));
	$answer = $caller->expect('ConversationMessage');
	is_deeply from_json($answer->{payload})->{result}{output}{data}, [1, 2], 'also in the output';

	note '-- a failed activity is an error and is not retried';
	my $second = $d->worker(name => 'second', types => ['upper']);
	my %name = ($worker->name => $id, $second->name => 'second#' . $d->conn_id_of($second));
	$caller->ask(1, typed_request('upper', 'x'));
	my ($at, $failing) = whoever_gets('one of two gets it', $worker, $second);
	$at->reply($failing, typed_response($name{ $at->name }, error => 'disk on fire'));
	$caller->expect_refusal(1, R_ACTIVITY_FAILED,
	    qr/^worker '\Q$name{ $at->name }\E' failed activity: disk on fire$/, 'the caller gets 0x0107 and the text');
	$_->expect_quiet('no second attempt') for $worker, $second;
	$second->send('Disconnect')->expect_close;

	note '-- activity types';
	$caller->ask(1, typed_request('cube', 1));
	$caller->expect_refusal(1, R_NO_WORKER, qr/./, 'workers, but none accepts the type: refused at once');
	my $able = $d->worker(name => 'able', types => ['cube']);
	$caller->ask(1, typed_request('cube', 2));
	$push = $able->expect('Push', {}, 'whoever accepts it gets it');
	$able->reply($push, typed_response('able', output => '8'));
	$caller->expect('ConversationMessage');
	my $all = $d->worker(name => 'all');
	$caller->ask(1, typed_request('anything', 3));
	$push = $all->expect('Push', {}, 'no declared types: accepts every type');
	$all->reply($push, typed_response('all', output => '27'));
	$caller->expect('ConversationMessage');
	$_->expect_quiet for $worker, $able;

	note '-- requests that are wrong reach nobody';
	my %wrong = (
		'shaped as a response'  => typed_response('w', output => 'x'),
		'no request'            => '{"content_type":"' . TYPED_REQUEST . '","conversation_id":"c"}',
		'no conversation_id'    => '{"content_type":"' . TYPED_REQUEST . '","request":{"activity_type":"upper","input":{"content_type":"t","data":""},"task_queue":"jobs"}}',
		'no activity_type'      => typed_request('x', 'y') =~ s/"activity_type":"x",?//r,
		'no input'              => typed_request('x', 'y') =~ s/"input":\{.*?\},?//r,
		'no data'               => typed_request('x', 'y') =~ s/,?"data":"y"//r,
		'no task_queue'         => typed_request('x', 'y') =~ s/,?"task_queue":"jobs"//r,
		'a negative timeout'    => typed_request('x', 'y', schedule_to_close_timeout_ms => -1),
		'a timeout that is text' => typed_request('x', 'y', start_to_close_timeout_ms => 'soon'),
		'data above a byte'     => typed_request('x', [256]),
		'data of another kind'  => typed_request('x', { }),
		'a type that is no text' => typed_request([], 'y'),
	);
	for my $what (sort keys %wrong) {
		$caller->ask(1, $wrong{$what});
		$caller->expect_refusal(1, undef, qr/./, "$what: refused");
	}
	$_->expect_quiet('no worker sees any') for $worker, $able, $all;

	note '-- answers that are wrong do no harm';
	for my $reply ('not JSON', typed_request('upper', 'x'), '{"content_type":"' . TYPED_RESPONSE . '"}') {
		$caller->ask(1, typed_request('upper', 'x'));
		($at, $push) = whoever_gets('a worker gets the request', $worker, $all);
		$at->reply($push, $reply);
		my $frame = $caller->next_frame;
		ok $frame && $frame->{conversation} == 1, "'$reply': exactly one answer";
		$caller->expect_quiet;
	}
}

{
	note '-- timeouts (E6)';
	my $d = Liminal::Daemon->start(name => 'timeouts', conf => 'conversation { reply_timeout = "300ms" }');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w');
	my $spare = $d->worker(name => 'spare', namespaces => ['spare']);
	$caller->open(1, $POOL);
	$caller->open(2, $POOL);

	my $before = now;
	$caller->ask(1, typed_request('x', 1, start_to_close_timeout_ms => 200));
	my $late = $worker->expect('Push');
	my $frame = $caller->expect_refusal(1, R_TIMED_OUT, qr/./, 'start-to-close: 0x0102');
	cmp_ok $frame->{at} - $before, '>=', 0.2, 'not before its time';
	$caller->ask(1, typed_request('x', 2, schedule_to_close_timeout_ms => 200));
	$worker->expect_quiet('the worker is occupied by the job that timed out');
	$frame = $caller->expect_refusal(1, R_TIMED_OUT, qr/./, 'schedule-to-close bounds the time in the queue');
	is $d->mdb_counts->{pending}, 0, 'and takes the request out of the queue';
	$caller->ask(1, 'opaque, no timeouts')->barrier;
	$worker->reply($late, typed_response('w', output => 'late'));
	my $push = $worker->expect('Push', { payload => 'opaque, no timeouts' }, 'room again after the late answer');
	$caller->expect_quiet('which is dropped');

	$before = now;
	$d->conn_id_of($worker);
	$caller->ask(2, typed_request('x', 3, schedule_to_close_timeout_ms => 700));
	$caller->expect_refusal(2, R_TIMED_OUT, qr/./, 'another conversation\'s timeout');
	cmp_ok now - $before, '>=', 0.7, 'comes in its time';
	$worker->reply($push, 'after twice the reply timeout');
	$caller->expect_answer(1, 'after twice the reply timeout', 'reply_timeout does not bound a dispatch');

	note '-- a late answer to what has timed out, but waits for the answer before it';
	my $second = $d->worker(name => 'second', types => ['y']);
	$caller->ask(1, typed_request('x', 'first'));
	my $first_push = $worker->expect('Push');
	$caller->ask(1, typed_request('y', 'second', start_to_close_timeout_ms => 100));
	my $second_push = $second->expect('Push');
	$caller->ask(2, typed_request('y', 'a clock', schedule_to_close_timeout_ms => 300));
	$caller->expect_refusal(2, R_TIMED_OUT, qr/schedule/, 'its time has passed');
	$second->reply($second_push, typed_response('s', output => 'late'))->barrier;
	$worker->reply($first_push, typed_response('w', output => 'F'));
	$caller->expect('ConversationMessage', { conversation => 1 }, 'the first answer');
	$caller->expect_refusal(1, R_TIMED_OUT, qr/^timed out: start_to_close_timeout passed$/, 'then the timeout, as it was');
	$caller->expect_quiet('and nothing of the late answer');
	$second->send('Disconnect')->expect_close;

	note '-- start-to-close counts from the start, not from the queue';
	$caller->ask(1, 'holds the worker')->barrier;
	$push = $worker->expect('Push');
	$caller->ask(2, typed_request('x', 4, start_to_close_timeout_ms => 400));
	$caller->open(3, 'liminal.connection.' . $d->conn_id_of($spare))->ask(3, 'clock');
	$caller->expect_refusal(3, R_TIMED_OUT, qr/./, '300 ms later');
	$caller->open(4, 'liminal.connection.' . $d->conn_id_of($spare))->ask(4, 'clock');
	$caller->expect_refusal(4, R_TIMED_OUT, qr/./, '600 ms later it still waits');
	$worker->reply($push, 'free');
	$caller->expect_answer(1, 'free');
	$push = $worker->expect('Push', {}, 'then it starts');
	$worker->reply($push, typed_response('w', output => 'in time'));
	$caller->expect('ConversationMessage', { conversation => 2 }, 'and is in time');

	note '-- an attempt that expires is not retried, though another worker is free';
	my $two = $d->worker(name => 'two');
	$caller->ask(1, typed_request('x', 5, start_to_close_timeout_ms => 150));
	(my $first, $push) = whoever_gets('one of two gets it', $worker, $two);
	$caller->expect_refusal(1, R_TIMED_OUT, qr/./, 'timed out');
	$_->expect_quiet('no second attempt') for $worker, $two;
	is $d->mdb_counts->{pushes}, 1, 'the slot is kept until its worker answers; those of timed-out pushes are not';
	$first->reply($push, 'late')->barrier;
	is $d->mdb_counts->{pushes}, 0, 'then it is gone';
}

{
	note '-- node affinity (E3)';
	my $d = Liminal::Daemon->start(name => 'nodes', conf => 'dispatch { router = "node_affinity" }');
	my $caller = $d->client(name => 'caller');
	my %on = map { $_ => $d->worker(name => $_, node => $_, capacity => 2) } qw(n1 n2 n3);
	$caller->open(1, $POOL);
	for my $node (qw(n2 n3 n1 n3 n3 n1)) {
		$caller->ask(1, typed_request('x', $node, node => $node));
		my $push = $on{$node}->expect('Push', {}, "wanted on $node, goes to $node");
		$on{$node}->reply($push, typed_response($node, output => $node));
		$caller->expect('ConversationMessage');
	}
	$caller->ask(1, typed_request('x', 'y', node => 'n9', node_required => JSON::PP::true()));
	$caller->expect_refusal(1, R_NO_WORKER, qr/./, 'a required node that nobody is on: refused');
	$caller->ask(1, typed_request('x', 'y', node => 'n9'));
	my ($any, $push) = whoever_gets('a node that is only wished for: any worker does', @on{qw(n1 n2 n3)});
	$any->reply($push, typed_response('any', output => 1));
	$caller->expect('ConversationMessage');

	$caller->open(2, $POOL);
	$caller->ask(2, typed_request('x', "full $_", node => 'n1', node_required => JSON::PP::true())) for 1 .. 3;
	my @held = map { $on{n1}->expect('Push') } 1 .. 2;
	$caller->barrier;
	$on{n1}->expect_quiet('its two places are taken');
	$_->expect_quiet('the third waits for the required node') for @on{qw(n2 n3)};
	$on{n1}->reply($_, typed_response('n1', output => 1)) for @held;
	$on{n1}->reply($on{n1}->expect('Push'), typed_response('n1', output => 1));
	$caller->expect('ConversationMessage', { conversation => 2 }) for 1 .. 3;
}

finish_testing;
