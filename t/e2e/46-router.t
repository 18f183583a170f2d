# Who gets a request: the built-in routers, and a router of one's own with its crashes and hangs. (E3)
use v5.36;
use File::Copy 'copy';
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';
my $MODULES = $ENV{LIMINAL_MODULES} // 'build/t/modules';
my $TRUE = JSON::PP::true();
my $CRASHED = qr/^dispatch router: its module crashed, or took longer than router_timeout \(\d+ ms\), while it selected a worker$/;

sub conf ($module, %o) {
	return qq(dispatch { router = "$MODULES/$module.so" router_args = { "%D"} )
	    . ($o{more} // '') . ' }';
}

# A job for the test router: what it is to do, as a workflow id.
sub job ($what, %o) { return typed_request('x', $what, workflow_id => $what, %o) }

sub done ($client, $push) { return $client->reply($push, typed_response('w', output => 'done')) }

sub touch_file ($path) { open my $file, '>', $path or die "$path: $!"; return }

{
	note '-- least loaded';
	my $d = Liminal::Daemon->start(name => 'least');
	my $caller = $d->client(name => 'caller');
	my @w = map { $d->worker(name => "w$_", capacity => 4) } 0 .. 2;
	$caller->open($_, $POOL) for 1 .. 9;
	my @at;
	for my $n (1 .. 4) {
		$caller->ask($n, "j$n");
		my ($w, $push) = whoever_gets("job $n", @w);
		push @at, [$w, $push];
	}
	is join(' ', map { $_->[0]->name } @at), 'w0 w1 w2 w0', 'each to one with the fewest';
	$at[1][0]->reply($at[1][1], 'x')->barrier;
	$caller->expect_answer(2, 'x');
	$caller->ask(5, 'j5');
	$w[1]->expect('Push', { payload => 'j5' }, 'to the one that has none now');
}

{
	note '-- round robin';
	my $d = Liminal::Daemon->start(name => 'robin', conf => 'dispatch { router = "round_robin" }');
	my @caller = map { $d->client(name => "caller$_") } 1, 2;
	my @w = map { $d->worker(name => "w$_", capacity => 2) } 0 .. 2;
	$_->open(1, $POOL) for @caller;
	my @order;
	for my $n (1 .. 5) {
		$caller[$n % 2]->ask(1, "j$n");
		my ($w, $push) = whoever_gets("job $n", @w);
		push @order, $w->name;
		$w->reply($push, 'x') if $n == 3;	# so that w2 has the fewest
		$w->barrier;
	}
	is join(' ', @order), 'w0 w1 w2 w0 w1', 'in turn, whoever asks and whatever they have';
	$caller[0]->ask(1, 'j6');
	my ($w) = whoever_gets('job 6', @w);
	$caller[0]->ask(1, 'j7');
	my ($next) = whoever_gets('job 7', @w);
	is join(' ', $w->name, $next->name), 'w2 w2', 'who has no room is passed over';
}

for my $router (qw(least_loaded round_robin node_affinity)) {
	note "-- a required node, with $router";
	my $d = Liminal::Daemon->start(name => "node-$router", conf => qq(dispatch { router = "$router" }));
	my $caller = $d->client(name => 'caller');
	my %on = map { $_ => $d->worker(name => $_, node => $_, capacity => 1) } qw(a b);
	my $bare = $d->worker(name => 'bare');
	$caller->open($_, $POOL) for 1 .. 6;
	my @must = (node => 'b', node_required => $TRUE);
	$caller->ask(1, typed_request('x', 'first', @must));
	my $push = $on{b}->expect('Push', {}, 'to the worker on that node');
	$caller->ask(2, typed_request('x', 'second', @must))->barrier;
	$_->expect_quiet('it waits, although others are free') for $on{a}, $bare;
	is $d->mdb_counts->{pending}, 1, 'in the queue';
	$caller->ask(3, typed_request('x', 'third'));
	my ($other, $third) = whoever_gets('nobody waits for it', $on{a}, $bare);
	done($on{b}, $push);
	$caller->expect('ConversationMessage', { conversation => 1 });
	done($on{b}, $on{b}->expect('Push', { payload => qr/second/ }, 'then that worker gets it'));
	$caller->expect('ConversationMessage', { conversation => 2 });
	$caller->ask(4, typed_request('x', 'nowhere', node => 'c', node_required => $TRUE));
	$caller->expect_refusal(4, R_NO_WORKER, qr/^\Q${\NO_WORKERS}\E$/, 'nobody on that node: refused at once');
	$caller->ask(4, typed_request('x', 'where', node => '', node_required => $TRUE));
	$caller->expect_refusal(4, R_OTHER, qr/request\.node is missing or empty/, 'no node at all');

	$caller->ask(5, typed_request('x', 'held', @must));
	$on{b}->expect('Push', { payload => qr/held/ });
	$caller->ask(6, typed_request('x', 'waits', @must))->barrier;
	$on{b}->hang_up;
	my @refused = sort { $a->{conversation} <=> $b->{conversation} }
	    map { $caller->expect('ConversationError', { code => R_NO_WORKER, message => NO_WORKERS }, 'the last one there ends: refused at once') } 1, 2;
	is join(' ', map { $_->{conversation} } @refused), '5 6', 'the one that it had, and the one that waited';
	done($other, $third);
	$caller->expect('ConversationMessage', { conversation => 3 });
}

{
	note '-- a preferred node';
	my $d = Liminal::Daemon->start(name => 'prefer', conf => 'dispatch { router = "node_affinity" }');
	my $caller = $d->client(name => 'caller');
	my %on = map { $_ => $d->worker(name => $_, node => $_, capacity => 1) } qw(a b);
	$caller->open($_, $POOL) for 1 .. 4;
	$caller->ask(1, typed_request('x', 1, node => 'b'));
	my $at_b = $on{b}->expect('Push', {}, 'goes there');
	$caller->ask(2, typed_request('x', 2, node => 'b'));
	my $at_a = $on{a}->expect('Push', {}, 'goes elsewhere while nobody there has room');
	$caller->ask(3, typed_request('x', 3, node => 'b'))->barrier;
	is $d->mdb_counts->{pending}, 1, 'waits when nobody has';
	done($on{a}, $at_a);
	$on{a}->expect('Push', { payload => qr/"3"/ }, 'for the first with room, wherever');
}

{
	note '-- a module of one\'s own';
	my $d = Liminal::Daemon->start(name => 'module', conf => conf('router'));
	my $caller = $d->client(name => 'caller');
	my @w = map { $d->worker(name => "w$_", node => "n$_", capacity => 2) } 0 .. 2;
	my @id = map { $_->name . '#' . $d->conn_id_of($_) } @w;
	my $router = $d->service_pid('router');
	ok $router, 'has a process of its own';
	$caller->open($_, $POOL) for 1 .. 20;

	for my $n (2, 0, 1, 1) {
		$caller->ask(1, job("index $n"));
		my $push = $w[$n]->expect('Push', { payload => job("index $n") }, "it selects worker $n, who gets it");
		done($w[$n], $push);
		$caller->expect('ConversationMessage', { conversation => 1 }, 'and answers');
	}
	$caller->ask(1, 'index 2');
	my $push = $w[2]->expect('Push', { payload => 'index 2' }, 'an opaque job, too');

	note '-- what it is shown';
	$caller->ask(2, job('report', node => 'n1'));
	my $length = length job('report', node => 'n1');
	$caller->expect_refusal(2, R_NO_WORKER, qr/^NoWorkersAvailable: the dispatch router selected none of 3 workers: \Q$POOL|x|n1|0|$length|$id[0]\E\@n0:0\/2 \Q$id[1]\E\@n1:0\/2 \Q$id[2]\E\@n2:1\/2 $/,
	    'none: no worker, with its reason');
	$caller->ask(2, 'report');
	$caller->expect_refusal(2, R_NO_WORKER, qr/: \Q$POOL\E\|none\|none\|0\|6\|/, 'of an opaque job');
	$caller->ask(2, job('report', node => 'n1', node_required => $TRUE));
	$caller->expect_refusal(2, R_NO_WORKER, qr/none of 1 workers: \Q$POOL|x|n1|1|\E\d+\|\Q$id[1]\E\@n1:0\/2 $/, 'only those on a required node');
	$w[2]->reply($push, 'x');
	$caller->expect_answer(1, 'x');
	$caller->ask(2, 'deface');
	$caller->expect_refusal(2, R_NO_WORKER, qr/: \?{255}$/, 'a reason that is no text is made one');
	my $picky = $d->worker(name => 'picky', queue => 'other', types => ['y']);
	$caller->open(30, 'aion.dispatch.test.other')->ask(30, job('report'));
	$caller->expect_refusal(30, R_NO_WORKER, qr/^\Q${\NO_WORKERS}\E$/, 'not asked when nobody accepts it');

	note '-- what is no candidate';
	$d->expect_log(qr/router conn=\d+ failed: the router selected a worker that is not a candidate/);
	for my $n (3, -2, 9_000_000_000) {
		$caller->ask(3, job("index $n"));
		$caller->expect_refusal(3, R_OTHER, qr/^the router selected a worker that is not a candidate \(index $n of 3\)$/, "index $n");
	}
	$_->expect_quiet('nobody got it') for @w;

	note '-- all are busy: the queue, without a question';
	$caller->ask(10 + $_, job('index 0')) for 1 .. 6;
	my @held;
	for my $n (0, 0, 1, 1, 2, 2) {
		push @held, [$w[$n], $w[$n]->expect('Push')];
	}
	$caller->ask(17, job('crash'))->barrier;
	wait_until(sub { $d->mdb_counts->{pending} == 1 }, 'it waits');
	done(@{ $held[2] });
	my $first = $w[1]->expect('Push', { payload => job('crash') }, 'the first with room gets it');
	done($w[1], $first);
	done(@$_) for @held[0, 1, 3, 4, 5];
	$caller->expect('ConversationMessage') for 1 .. 7;
	is $d->service_pid('router'), $router, 'it was not asked';

	note '-- in the record';
	$caller->ask(1, job('index 1', ordinal => 1));
	$push = $w[1]->expect('Push', { payload => qr/index 1/ });
	done($w[1], $push);
	my $answer = $caller->expect('ConversationMessage', { conversation => 1 });
	my @rows = json_of(tool_await(tool_start($d->dir, ['history', '-d', $d->dir . '/persist', '-j', 'index 1'])));
	is join(' ', map { $_->{operation} } @rows[-5 .. -1]),
	    'conversation_opened worker_selected message_sent message_received conversation_closed', 'all operations, in order';
	is $rows[-4]{worker_id}, $id[1], 'and whom it selected';
	$caller->ask(1, job('index 1', ordinal => 1));
	$caller->expect_answer(1, $answer->{payload}, 'the same again: from the record');
	$_->expect_quiet for @w;

	note '-- a death, and who is excluded';
	$caller->ask(1, job('loyal'));
	$w[0]->expect('Push', { payload => job('loyal') });
	$w[0]->hang_up;
	$caller->expect_refusal(1, R_NO_WORKER, qr/\|-\Q$id[0]\E \Q$id[1]\E\@n1:0\/2 \Q$id[2]\E\@n2:0\/2 $/, 'asked again, with the one that had it');
	is $d->rows('pending', 'pushes'), '', 'nothing is left';
}

{
	note '-- many at once, few places: nobody gets an error';
	my $d = Liminal::Daemon->start(name => 'many', conf => conf('router'));
	my @w = map { $d->worker(name => "w$_", capacity => 2) } 0 .. 4;
	my @callers = map { $d->client(name => "caller$_") } 1 .. 4;
	for my $caller (@callers) {
		$caller->open($_, $POOL) for 1 .. 50;
		$caller->send_all(map { ['ConversationMessage', conversation => $_, flags => F_REPLY, payload => 'index 0'] } 1 .. 50);
	}
	my %got;
	for (1 .. 200) {
		my ($w, $push) = Liminal::Client::whoever_gets(@w);
		last if !$push;
		$got{ $w->name }++;
		$w->reply($push, 'x');
	}
	my $answers = 0;
	for my $caller (@callers) {
		for (1 .. 50) {
			my $frame = $caller->next_frame // last;
			$answers++ if $frame->{type} eq 'ConversationMessage' && $frame->{payload} eq 'x';
		}
	}
	is $answers, 200, 'two hundred answers';
	await_counts($d, { pending => 0, pushes => 0, inbox => 0 }, 'nothing is left');
}

{
	note '-- while it is asked';
	my $d = Liminal::Daemon->start(name => 'gate', conf => conf('router'));
	my $caller = $d->client(name => 'caller');
	my $other = $d->client(name => 'other');
	my @w = map { $d->worker(name => "w$_", capacity => 1) } 0, 1;
	$caller->open($_, $POOL) for 1 .. 9;
	$other->open(1, $POOL);
	my $gate = 0;
	# Have the router wait at a gate with JOB; returns what opens it.
	my $ask = sub ($client, $conversation, %o) {
		my $name = 'g' . ++$gate;
		$client->ask($conversation, job("gate $name", %o));
		wait_until(sub { -e $d->dir . "/$name.asked" }, 'it is being asked');
		return sub { touch_file($d->dir . "/$name") };
	};
	my $settled = sub ($name) { await_counts($d, { pending => 0, pushes => 0, inbox => 0 }, $name) };

	my $open = $ask->($caller, 1);
	$caller->open(20, 'echo')->ask(20, 'e');
	$caller->expect_answer(20, 'e', 'its caller\'s other conversations go on');
	$w[0]->barrier;
	is $d->mdb_counts->{pending}, 1, 'it is counted as pending';
	is $d->check_state, undef, 'the state is sound meanwhile';
	$caller->close_conversation(1)->barrier;
	is $d->mdb_counts->{pending}, 0, 'closed: taken back';
	$open->();
	$settled->('the late choice finds nothing');
	$_->expect_quiet('nobody gets it') for @w;

	$open = $ask->($caller, 2, schedule_to_close_timeout_ms => 100);
	$caller->expect_refusal(2, R_TIMED_OUT, qr/^timed out: schedule_to_close_timeout passed$/, 'schedule-to-close bounds it, too');
	$open->();
	$settled->('the late choice finds nothing');

	$open = $ask->($other, 1);
	$other->hang_up;
	wait_until(sub { $d->mdb_counts->{pending} == 0 }, 'its caller ends: taken back');
	$open->();
	$settled->('the late choice finds nothing');
	$_->expect_quiet('nobody gets it') for @w;

	$open = $ask->($caller, 3);
	$w[1]->hang_up;
	wait_until(sub { $d->mdb_counts->{workers} == 1 }, 'the one that it is about to select ends');
	$open->();
	my $push = $w[0]->expect('Push', { payload => qr/gate/ }, 'it is asked again, with those that are left');
	done($w[0], $push);
	$caller->expect('ConversationMessage', { conversation => 3 });

	$open = $ask->($caller, 4);
	$w[0]->hang_up;
	$caller->expect_refusal(4, R_NO_WORKER, qr/^\Q${\NO_WORKERS}\E$/, 'the last worker ends: refused at once');
	$open->();
	$settled->('the late choice finds nothing');

	@w = $d->worker(name => 'w2', capacity => 2);
	$open = $ask->($caller, 5);
	$caller->ask(6, 'index 0')->ask(7, 'index 0')->ask(8, 'index 0')->barrier;
	$open->();
	my @pushes = map { $w[0]->expect('Push') } 1, 2;
	wait_until(sub { $d->mdb_counts->{pending} == 2 }, 'whoever finds no room any more, waits in the queue');
	$caller->close_conversation(8)->barrier;
	is $d->mdb_counts->{pending}, 1, 'closed: taken back from there';
	$w[0]->reply($_, typed_response('w', output => 'done')) for @pushes;
	my $last = $w[0]->expect('Push', { payload => 'index 0' });
	$w[0]->reply($last, 'x');
	$caller->expect('ConversationMessage') for 1 .. 3;
	$caller->expect_quiet;
	$settled->('nothing is left');
	touch_file($d->dir . "/g$_") for 1 .. $gate;
}

{
	note '-- crashes and hangs';
	my $d = Liminal::Daemon->start(name => 'crash',
	    conf => conf('router', more => 'router_timeout = "500ms"'));
	$d->allow_log(qr/router/);
	my $caller = $d->client(name => 'caller');
	my $other = $d->client(name => 'other');
	my $worker = $d->worker(name => 'w', capacity => 10);
	my $bystander = $d->worker(name => 'by', namespaces => ['by']);
	$caller->open($_, $POOL) for 1 .. 9;
	$other->open(1, $POOL);
	my $pid_of_caller = $d->pid_of($caller);
	my $works = sub ($name) {
		$other->ask(1, 'index 0');
		my $push = $worker->expect('Push', { payload => 'index 0' }, $name);
		$worker->reply($push, 'fine');
		$other->expect_answer(1, 'fine');
	};
	for my $how (qw(crash exit hang)) {
		my $router = $d->service_pid('router');
		my $before = now;
		$caller->ask(1, job($how));
		$other->ask(1, 'index 0');
		my $frame = $caller->expect_refusal(1, R_OTHER, $CRASHED, "$how: its caller gets the reason");
		cmp_ok $frame->{at} - $before, '>=', 0.5, 'not before its time' if $how eq 'hang';
		my $push = $worker->expect('Push', { payload => 'index 0' }, 'who asked meanwhile gets the new process\'s choice');
		$worker->reply($push, 'fine');
		$other->expect_answer(1, 'fine');
		isnt $d->service_pid('router'), $router, 'which is another one';
		$works->('and so it goes on');
	}
	$worker->expect_quiet('no job came twice');

	note '-- kill -9 while it is asked, and while it is not';
	$caller->ask(2, job('gate never'));
	wait_until(sub { -e $d->dir . '/never.asked' }, 'it is being asked');
	kill 'KILL', $d->service_pid('router');
	$caller->expect_refusal(2, R_OTHER, $CRASHED, 'killed in the call');
	wait_until(sub { $d->service_pid('router') }, 'another one is there');
	$works->('it works');
	kill 'STOP', my $stopped = $d->service_pid('router');
	$caller->ask(3, 'index 0')->barrier;
	kill 'KILL', $stopped;
	my $push = $worker->expect('Push', { payload => 'index 0' }, 'killed before it was asked: the next one is');
	$worker->reply($push, 'x');
	$caller->expect_answer(3, 'x');

	is $d->pid_of($caller), $pid_of_caller, 'no connection has noticed';
	$bystander->expect_quiet;
}

{
	note '-- no process of the router comes up any more';
	my $d = Liminal::Daemon->prepare(name => 'gone', conf => 'dispatch { router = "%D/router.so" router_args = { "%D" } router_timeout = "100ms" }');
	my $module = $d->dir . '/router.so';
	copy("$MODULES/router.so", $module) or die "$module: $!";
	$d->run->wait_ready->allow_log(qr/router/);
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', capacity => 10);
	$caller->open($_, $POOL) for 1 .. 3;
	rename $module, "$module.away" or die "$module: $!";
	kill 'KILL', $d->service_pid('router');
	ok $d->wait_log(qr/router.*cannot/), 'its successor cannot load the module';
	my $before = now;
	$caller->ask(1, 'index 0')->ask(2, typed_request('x', 1, schedule_to_close_timeout_ms => 200));
	$caller->expect_refusal(2, R_TIMED_OUT, qr/schedule_to_close/, 'a job\'s own time counts');
	my $frame = $caller->expect_refusal(1, R_OTHER, qr/^dispatch router: its module has not selected a worker in time$/, 'a job without one does not wait for ever');
	cmp_ok $frame->{at} - $before, '<', 15 + slack, 'but a while';
	rename "$module.away", $module or die "$module: $!";
	$caller->ask(3, 'index 0');
	my $push = $worker->expect('Push', { payload => 'index 0' }, 'the module is back: so is the router');
	$worker->reply($push, 'x');
	$caller->expect_answer(3, 'x');
	$worker->expect_quiet('nobody is asked about what has been answered');
}

{
	note '-- a module that cannot be used';
	my %wrong = (
		'another version' => [conf('router_old'), qr/version 2 of liminal\/router\.h, this daemon has version 1/],
		'no module'       => [conf('router') =~ s/router\.so/..\/..\/check-state/r, qr/router module .* cannot be loaded/],
		'init fails'      => [conf('router') =~ s/"%D"/"fail"/r, qr/init returned 7/],
		'init crashes'    => [conf('router') =~ s/"%D"/"crash"/r, qr/router/],
		'init hangs'      => [conf('router', more => 'router_timeout = "300ms"') =~ s/"%D"/"hang"/r, qr/router/],
	);
	for my $what (sort keys %wrong) {
		my ($status, $log) = Liminal::Daemon->run_to_end(name => $what, conf => $wrong{$what}[0]);
		isnt $status, 0, "$what: the daemon does not start";
		like $log, $wrong{$what}[1], 'and says why';
		unlike $log, qr/ready: listening/, 'nor said that it would';
	}
}

{
	note '-- the example: a workflow stays where it is';
	my $d = Liminal::Daemon->start(name => 'sticky', conf => conf('router-sticky'));
	my $caller = $d->client(name => 'caller');
	my @w = map { $d->worker(name => "w$_", capacity => 10) } 0 .. 3;
	$caller->open(1, $POOL);
	my (%at, %used);
	for my $round (1 .. 3) {
		for my $workflow (map { "wf-$_" } 1 .. 12) {
			$caller->ask(1, typed_request('x', $round, workflow_id => $workflow));
			my ($w, $push) = Liminal::Client::whoever_gets(@w);
			$at{$workflow}{ $w->name } = $used{ $w->name } = 1;
			done($w, $push);
			$caller->next_frame;
		}
	}
	is join(' ', grep { keys %{ $at{$_} } != 1 } sort keys %at), '', 'each of twelve always went to one worker';
	cmp_ok scalar keys %used, '>', 1, 'and not all to the same';
}

finish_testing;
