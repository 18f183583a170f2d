# The notifier: accepts and rejects workers, is told of each end once, may take publishes for itself;
# its crash or hang costs one process and one bounded wait, nothing else. (C1 to C4)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $MODULES = $ENV{LIMINAL_MODULES} || 'build/t/modules';
my $TIMEOUT = 0.4;

sub conf ($module, $args = '"%D/calls"', $more = '') {
	return qq[notifier { module = "$MODULES/$module.so" args = { $args } timeout = "${\int($TIMEOUT * 1000)}ms" }\n$more];
}

# The module's notes without pids: [CALL CONN_ID WHAT, ...] of those that were entered.
sub calls ($d) {
	return map { /^\d+ enter (.*)$/ ? $1 : () } split /\n/, Liminal::Daemon::slurp($d->dir . '/calls');
}

sub notifier_pid ($d) {
	return (map { $_->{pid} } grep { $_->{title} =~ /^liminald: notifier/ && $_->{state} ne 'Z' } $d->children)[0];
}

sub rejected ($client, $text, $name, %o) {
	$client->send_register(%o);
	return $client->expect('WorkerRegisterAck', { rejected => $text }, $name);
}

sub accepted ($client, $name, %o) {
	$client->send_register(%o);
	return $client->expect('WorkerRegisterAck', { rejected => undef }, $name);
}

sub serves ($d, $worker, $name) {
	my $caller = $d->client(name => 'caller');
	$caller->open(1, 'aion.dispatch.test.jobs')->ask(1, 'job');
	$worker->reply($worker->expect('Push', { payload => 'job' }, "$name: gets work"), 'done');
	$caller->expect_answer(1, 'done', "$name: its answer arrives");
	return $caller->hang_up;
}

sub is_unserved ($d, $name) {
	my $caller = $d->client(name => 'caller');
	$caller->open(1, 'aion.dispatch.test.jobs')->ask(1, 'job');
	$caller->expect_refusal(1, R_NO_WORKER, qr/NoWorkers/, "$name: no worker");
	return $caller->hang_up;
}

{
	my $d = Liminal::Daemon->start(name => 'verdicts', conf => conf('notifier_script'));
	my ($w, $id);

	note '-- accepted, and its end';
	$w = $d->client(name => 'w');
	$id = $d->conn_id_of($w);
	accepted($w, 'accepted', identity => 'w');
	serves($d, $w, 'accepted');
	await_counts($d, { workers => 1, registrations => 1 }, 'one record of it');
	$w->hang_up;
	wait_until(sub { (calls($d))[-1] eq "unregistered $id w" }, 'unregistered comes with its end');
	await_counts($d, { workers => 0, registrations => 0, connections => 0 }, 'nothing is left');
	is_deeply [calls($d)], ["registered $id w", "unregistered $id w"], 'each was called once';

	note '-- rejected';
	$w = $d->client(name => 'r');
	rejected($w, 'not you', 'with its text', identity => 'reject:not you');
	is_unserved($d, 'rejected');
	await_counts($d, { workers => 0, registrations => 0, pool => 0 }, 'no record of it');
	rejected($w, 'queue=q node=n identity=describe namespace=a namespace=b type=t type=u', 'is told everything',
	    identity => 'describe', namespaces => ['a', 'b'], queue => 'q', node => 'n', types => ['t', 'u']);
	rejected($w, 'queue=jobs node=(none) identity=describe namespace=test', 'and what is absent', identity => 'describe');
	rejected($w, qr/without a reason/, 'without a text', identity => 'silent');
	rejected($w, qr/^no\\M/, 'a text that is none is escaped', identity => 'bytes');
	rejected($w, qr/^x{511}$/, 'a long text is cut', identity => 'long');
	rejected($w, qr/dot/, 'invalid names are rejected without the notifier', namespaces => ['a.b'], identity => 'describe');
	rejected($w, qr/NUL/, 'so is a type that is no C string', types => ["a\0b"], identity => 'describe');
	accepted($w, 'and the same connection accepted', identity => 'late');
	$w->hang_up;

	note '-- replaced';
	$w = $d->client(name => 'again');
	$id = $d->conn_id_of($w);
	my $before = scalar calls($d);
	accepted($w, 'the first', identity => 'one');
	accepted($w, 'the second', identity => 'two');
	serves($d, $w, 'replaced');
	rejected($w, 'no third', 'the third is rejected', identity => 'reject:no third');
	serves($d, $w, 'the second stays');
	is_deeply [grep { / $id / } calls($d)], ["registered $id one", "unregistered $id one", "registered $id two",
	    "unregistered $id two", "registered $id reject:no third", "registered $id two"],
	    'the notifier sees an unregister and a register, and is asked about the old one again';
	await_counts($d, { workers => 1, registrations => 1 }, 'one record');
	$w->hang_up;
	wait_until(sub { (grep { /^unregistered $id two$/ } calls($d)) == 2 }, 'and its end');

	note '-- replaced by none';
	$w = $d->client(name => 'lost');
	accepted($w, 'the first', identity => 'only-once');
	rejected($w, 'no second', 'neither the second nor the first again', identity => 'reject:no second');
	is_unserved($d, 'lost');
	await_counts($d, { workers => 0, registrations => 0, pool => 0 }, 'no record');
	accepted($w, 'a new one', identity => 'new');
	serves($d, $w, 'new');

	note '-- many at once, in order, and others do not wait';
	my $many = $d->client(name => 'many');
	$many->open(1, 'echo');
	$many->send_all(map({ ['WorkerRegister', namespaces => ['test'], task_queue => 'other', identity => $_] }
	    'slow1', 'reject:slow', 'slow2'), ['ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'e']);
	$many->expect_answer(1, 'e', 'another frame is answered first');
	$many->expect('WorkerRegisterAck', { rejected => undef }, 'first');
	$many->expect('WorkerRegisterAck', { rejected => 'slow' }, 'second');
	$many->expect('WorkerRegisterAck', { rejected => undef }, 'third');
	$_->hang_up for $many, $w;
	await_counts($d, { registrations => 0, inbox => 0 }, 'nothing is left');
}

{
	note '-- crashes and hangs';
	my $d = Liminal::Daemon->start(name => 'crashes', conf => conf('notifier_script'));
	$d->allow_log(qr/notifier/);
	my $watcher = $d->client(name => 'watcher');
	my $other = $d->worker(name => 'other', identity => 'other');
	my $pid = notifier_pid($d);
	for my $how (qw(crash abort exit hang spin)) {
		my $w = $d->client(name => $how);
		my $began = now;
		rejected($w, qr/did not answer within notifier timeout \(400 ms\)/, "$how in registered: rejected",
		    identity => $how);
		cmp_ok now - $began, '<', $TIMEOUT + 1.5 + slack, "$how: within bounds";
		is $d->check_state, undef, 'the state keeps its rules' if $ENV{LIMINAL_CHECK_STATE};
		accepted($w, "$how: then accepted", identity => 'fine');
		$w->hang_up;
		$w = $d->worker(name => "leave $how", identity => "leave-$how");
		my $id = $d->conn_id_of($w);
		$w->hang_up;
		wait_until(sub { grep { $_ eq "unregistered $id leave-$how" } calls($d) }, "$how in unregistered");
		wait_until(sub { !$d->mdb_counts->{inbox} }, "$how in unregistered: another one goes on");
		accepted($w = $d->client(name => 'after'), "$how in unregistered: the next is accepted", identity => 'after');
		is scalar(grep { /^unregistered $id / } calls($d)), 1, 'it is not called again';
		$w->hang_up;
		$watcher->send('Publish', channel => $how, payload => 'p', stream => 9);
		$watcher->expect('PublishError', { code => R_NO_CHANNEL, stream => 9 }, "$how in publish: not consumed");
		$watcher->send('Publish', channel => "tap-$how", payload => 'p', stream => 10);
		$watcher->expect('PublishError', { code => R_NO_CHANNEL, stream => 10 }, "$how in a tap: not consumed");
	}
	isnt notifier_pid($d), $pid, 'it was another process then';
	ok $watcher->is_open, 'connections live on';
	serves($d, $other, 'registered with an earlier process');
	my $id = $d->conn_id_of($other);
	$other->hang_up;
	wait_until(sub { grep { /^unregistered $id / } calls($d) }, 'the successor is told of the end of what an earlier one accepted');
	is scalar(grep { /^registered $id / } calls($d)), 1, 'which was asked about once';
	await_counts($d, { registrations => 0, inbox => 0 }, 'nothing is owed');

	note '-- a stopped notifier';
	kill 'STOP', notifier_pid($d);
	my $w = $d->client(name => 'unheard');
	my $began = now;
	rejected($w, qr/did not answer within notifier timeout/, 'rejected', identity => 'unheard');
	cmp_ok now - $began, '<', $TIMEOUT + 2 + slack, 'within bounds';
	$w->send('Publish', channel => 'tap', stream => 3);
	$w->expect('PublishError', { code => R_NO_CHANNEL, stream => 3 }, 'a publish is not consumed');
	kill 'CONT', notifier_pid($d);
	accepted($w, 'it goes on', identity => 'heard');
	is scalar(grep { /unheard|publish \d+ tap / } calls($d)), 0, 'nobody is called for what was given up';
	$w->hang_up;

	note '-- a module that closes what is not its own';
	accepted($w = $d->client(name => 'closes'), 'accepted', identity => 'close');
	$w->hang_up;
	accepted($w = $d->client(name => 'after'), 'another one goes on', identity => 'after');
	$w->hang_up;

	note '-- given up while it is asked';
	kill 'STOP', notifier_pid($d);
	$w = $d->client(name => 'gone');
	$w->send_register(identity => 'gone');
	wait_until(sub { $d->mdb_counts->{registrations} == 1 }, 'the question is there');
	$w->hang_up;
	wait_until(sub { $d->mdb_counts->{registrations} == 0 }, 'and goes with its connection');
	kill 'CONT', notifier_pid($d);
	$w = $d->worker(name => 'next', identity => 'next');
	is scalar(grep { / gone$/ } calls($d)), 0, 'it was never asked';
}

{
	note '-- a shutdown with more to tell than twice the timeout is enough for';
	my $d = Liminal::Daemon->start(name => 'telling', conf => conf('notifier_script', '"%D/calls"', 'drain_timeout = "100ms"'));
	my @workers = map { $d->worker(name => $_, identity => "leave-slow$_") } 1 .. 12;
	is $d->stop, 0, 'the daemon ends';
	is scalar(grep { /leave unregistered/ } split /\n/, Liminal::Daemon::slurp($d->dir . '/calls')), 12,
	    'and has told of each worker';
}

{
	note '-- children of the module';
	my $d = Liminal::Daemon->start(name => 'children', conf => conf('notifier_script'));
	my $w = $d->client(name => 'w');
	accepted($w, 'one that goes on in the caller', identity => 'copy');
	accepted($w, 'one that is left', identity => 'child');
	my ($left) = Liminal::Daemon::slurp($d->dir . '/calls') =~ /left child (\d+)/;
	wait_until(sub { !grep { $_->{pid} != $left && $_->{ppid} == notifier_pid($d) } $d->processes },
	    'the copy of the notifier ends');
	is scalar(grep { /accepted$/ } split /\n/, Liminal::Daemon::slurp($d->dir . '/calls')), 3, 'each leaves the module\'s code';
	$w->hang_up;
	await_counts($d, { registrations => 0, inbox => 0 }, 'nothing is owed');
	is $d->stop, 0, 'the daemon ends';
	ok kill(0, $left), 'the child lives on';
	my $next = eval { Liminal::Daemon->start(name => 'next', dir => $d->dir, conf => conf('notifier_script')) };
	ok $next, 'and does not keep the next daemon from its directories' or diag $@;
	kill 'KILL', $left;
	$next->finish if $next;
}

{
	note '-- the tap';
	my $d = Liminal::Daemon->start(name => 'tap', conf => conf('notifier_script', '"%D/calls"', 'limits { outbound_bytes = "64K" }'));
	my $p = $d->client(name => 'publisher');
	my $id = $d->conn_id_of($p);
	$p->send('Publish', channel => 'tap.x', payload => "bytes \xff\n", key => 'k', stream => 4);
	$p->expect_quiet('consumed: nothing on the wire');
	wait_until(sub { grep { $_ eq "publish $id tap.x 8 bytes \xff" } calls($d) }, 'the payload as it came');
	$p->send('Publish', channel => 'orders', payload => 'x', stream => 5);
	$p->expect('PublishError', { code => R_NO_CHANNEL, stream => 5, message => "channel 'orders' is not configured" },
	    'not consumed: its usual way');
	$p->send('Publish', channel => 'two', stream => 6);
	$p->expect('PublishError', { stream => 6 }, 'only 1 is consumed');
	$p->send('Publish', channel => "tap\0x", stream => 7);
	$p->expect('PublishError', { stream => 7, code => R_NO_CHANNEL }, 'a name that is no C string is not asked about');
	$p->send_all(map { ['Publish', channel => $_ % 3 ? "c$_" : 'tap', stream => $_, payload => 'y' x $_] } 1 .. 60);
	my @got = map { ($p->next_frame // { stream => 'nothing' })->{stream} } grep { $_ % 3 } 1 .. 60;
	is_deeply \@got, [grep { $_ % 3 } 1 .. 60], 'many: the answers in their order';
	wait_until(sub { grep { /^publish $id tap 60 / } calls($d) }, 'the last one is consumed');
	my @seen = map { /^publish $id (?:c\d+|tap) (\d+) / ? $1 : () } calls($d);
	splice @seen, 0, @seen - 60;
	is_deeply \@seen, [1 .. 60], 'and the calls';
	$p->open(1, 'echo');
	$p->send_all(['Publish', channel => 'slow', stream => 61], ['ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'e']);
	$p->expect_answer(1, 'e', 'other frames do not wait');
	$p->expect('PublishError', { stream => 61 });

	note '-- who publishes and leaves before the keeper knows of it';
	kill 'STOP', $d->keeper_pid;
	my $brief = $d->client(name => 'brief');
	$brief->send('Publish', channel => 'tap', payload => 'brief', stream => 1);
	$brief->hang_up;
	wait_until(sub { grep { /^publish \d+ tap 5 brief/ } calls($d) }, 'the module gets it');
	kill 'CONT', $d->keeper_pid;

	note '-- one behind a call that does not return';
	$d->allow_log(qr/notifier/);
	$p->send_all(map { ['Publish', channel => $_, stream => 70, payload => 'behind'] } 'hang', 'tap');
	$p->expect('PublishError', { stream => 70, message => qr/'hang'/ }, 'that one goes its usual way');
	$p->expect_quiet('the next one is consumed');
	wait_until(sub { grep { /^publish $id tap 6 behind/ } calls($d) }, 'by the next process');

	note '-- more than may wait';
	kill 'STOP', notifier_pid($d);
	$p->send_all(map { ['Publish', channel => 'tap', stream => 100 + $_, payload => 'z' x 30000] } 1 .. 4);
	$p->expect('PublishError', { code => R_OTHER, stream => 104, message => qr/outbound_bytes/ }, 'is refused');
	kill 'CONT', notifier_pid($d);
	$p->expect_quiet('the others are consumed');
	wait_until(sub { (grep { /^publish $id tap 30000/ } calls($d)) == 3 }, 'all of them');
}

{
	note '-- no entry points';
	my $d = Liminal::Daemon->start(name => 'nulls', conf => conf('notifier_nulls', ''));
	my $w = $d->worker(name => 'w');
	serves($d, $w, 'accepted');
	$w->send('Publish', channel => 'x', stream => 2);
	$w->expect('PublishError', { code => R_NO_CHANNEL, stream => 2 }, 'nothing is consumed');
	accepted($w, 'replaced', identity => 'other');
	$w->hang_up;
	await_counts($d, { registrations => 0, inbox => 0, workers => 0 }, 'nothing is left');
}

note '-- modules that cannot be';
for (
	['no such file',     'nothing-here', '', qr/nothing-here/],
	['another version',  'notifier_newer', '', qr/version 2 of liminal\/notifier\.h, this daemon has version 1/],
	['not a notifier',   'notifier_other', '', qr/has no 'liminal_notifier'/],
	['init fails',       'notifier_script', '"%D/calls", "fail"', qr/its init failed with 7/],
	['init crashes',     'notifier_script', '"%D/calls", "crash"', qr/notifier/],
	['init hangs',       'notifier_script', '"%D/calls", "hang"', qr/notifier/],
) {
	my ($what, $module, $args, $text) = @$_;
	my ($status, $log) = Liminal::Daemon->run_to_end(name => $what, conf => conf($module, $args));
	is $status, 1, "$what: the daemon refuses to start";
	like $log, $text, 'and says why';
}

finish_testing;
