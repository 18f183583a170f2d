# A worker that dies with a job: its caller hears of it at once, as an event, and gets exactly one
# answer, from another worker if there is one. (A4 to A6, D3, D5, E4, E5, E10)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

# name => [what does it, what the log says about the process]
my %DEATHS = (
	'the client hangs up'     => [sub ($d, $w) { $w->hang_up }, undef],
	'the client is reset'     => [sub ($d, $w) { $w->reset }, undef],
	'the client leaves'       => [sub ($d, $w) { $w->send('Disconnect') }, undef],
	'the client sends rubbish' => [sub ($d, $w) { $w->send_bytes("\x13\0\0\0\1" . "\0" x 5, 'rubbish') }, qr/offset/],
	'the process gets KILL'   => [sub ($d, $w) { kill 'KILL', $d->pid_of($w) }, qr/killed by signal 9 \(SIGKILL\)/],
	'the process gets SEGV'   => [sub ($d, $w) { kill 'SEGV', $d->pid_of($w) }, qr/killed by signal 11 \(SIGSEGV\)/],
	'the process gets ABRT'   => [sub ($d, $w) { kill 'ABRT', $d->pid_of($w) }, qr/killed by signal 6 \(SIGABRT\)/],
	'the process gets TERM'   => [sub ($d, $w) { kill 'TERM', $d->pid_of($w) }, undef],
);
my $ANY_END = qr/killed by signal|exited with status|offset/;

{
	my $d = Liminal::Daemon->start(name => 'deaths');
	$d->allow_log($ANY_END, qr/peer=127/);
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL);
	my $bystander = $d->client(name => 'bystander');
	my $by_worker = $d->worker(name => 'by-worker', namespaces => ['by']);
	$bystander->open(1, 'aion.dispatch.by.jobs');

	for my $death (sort keys %DEATHS) {
		my ($strike, $line) = @{ $DEATHS{$death} };
		note "-- $death";
		my $first = $d->worker(name => 'first');
		my $second;
		$bystander->ask(1, "during $death");
		my $untouched = $by_worker->expect('Push');

		$caller->ask(1, "job\0$death");
		my $push = $first->expect('Push');
		$second = $d->worker(name => 'second');
		my $before = now;
		$strike->($d, $first);
		my $again = $second->expect('Push', { payload => "job\0$death" }, 'the same job goes to the other worker');
		cmp_ok $again->{at} - $before, '<', 1 + slack, 'at once';
		isnt $again->{correlation}, $push->{correlation}, 'as a push of its own';
		$second->reply($again, 'done');
		$caller->expect_answer(1, 'done', 'the caller gets one answer');
		$caller->expect_quiet;

		$caller->ask(1, 'last');
		$second->expect('Push', { payload => 'last' });
		$before = now;
		$strike->($d, $second);
		my $frame = $caller->expect_refusal(1, R_NO_WORKER, qr/^\Q${\NO_WORKERS}\E$/, 'no other worker: NoWorkersAvailable');
		cmp_ok $frame->{at} - $before, '<', 1 + slack, 'at once';
		$caller->expect_quiet;

		if ($line) {
			wait_until(sub { $d->log_lines($line) >= 2 }, "the log has the real reason: $line");
		}
		$by_worker->reply($untouched, 'untouched');
		$bystander->expect_answer(1, 'untouched', 'another connection has not noticed');
		await_counts($d, { workers => 1, pool => 1, pushes => 0, pending => 0, connections => 3 },
		    'nothing of the dead is left');
	}
}

{
	note '-- several jobs of one worker, and busy others';
	my $d = Liminal::Daemon->start(name => 'several', conf => 'dispatch { max_attempts = 10 }');
	$d->allow_log($ANY_END);
	my $caller = $d->client(name => 'caller');
	$caller->open($_, $POOL) for 1 .. 8;
	my $first = $d->worker(name => 'first', capacity => 4);
	$caller->ask($_, "j$_") for 1 .. 4;
	$first->expect('Push') for 1 .. 4;
	my $second = $d->worker(name => 'second', capacity => 1);
	$caller->ask(5, 'j5');
	my $push = $second->expect('Push', { payload => 'j5' });
	$caller->ask(6, 'j6')->barrier;
	kill 'KILL', $d->pid_of($first);
	await_counts($d, { workers => 1, pushes => 1, pending => 5 }, 'the jobs of the dead worker wait for the other');
	my @order;
	for (1 .. 6) {
		push @order, $push->{payload};
		$second->reply($push, "done $push->{payload}");
		$push = $second->expect('Push') if $_ < 6;
	}
	is "@order", 'j5 j1 j2 j3 j4 j6', 'ahead of those that came later';
	my %answer = map { ($_->{conversation} => $_->{payload}) } map { $caller->expect('ConversationMessage') } 1 .. 6;
	is_deeply \%answer, { map { $_ => "done j$_" } 1 .. 6 }, 'every request has its answer';
	$caller->expect_quiet('and only one');

	note '-- waiting requests, and the last worker ends (E5a)';
	$caller->ask($_, "w$_") for 1 .. 4;
	$second->expect('Push');
	$caller->barrier;
	$second->hang_up;
	$caller->expect('ConversationError', { code => R_NO_WORKER, message => NO_WORKERS }) for 1 .. 4;
	$caller->expect_quiet;
	is $d->rows('pending', 'pushes', 'pool', 'workers'), '', 'nothing is left';
}

{
	note '-- max_attempts (E5a)';
	my $d = Liminal::Daemon->start(name => 'attempts', conf => 'dispatch { max_attempts = 3 }');
	$d->allow_log($ANY_END);
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL);
	my %worker = map { $_ => $d->worker(name => "w$_", identity => "w$_") } 1 .. 4;
	$caller->ask(1, 'poison');
	for my $attempt (1 .. 3) {
		my ($victim, $push) = whoever_gets("attempt $attempt", values %worker);
		is $push->{payload}, 'poison', 'the same job';
		delete $worker{ $victim->name =~ s/w//r };
		$victim->reset;
	}
	$caller->expect_refusal(1, [R_DISCONNECTED, R_NO_WORKER], qr/./, 'after three workers: given up');
	(values %worker)[0]->expect_quiet('the fourth never sees it');
	$caller->expect_quiet;
}

{
	note '-- typed requests are retried like opaque ones; failed ones are not';
	my $d = Liminal::Daemon->start(name => 'typed');
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL);
	my $able = $d->worker(name => 'able', types => ['t']);
	my $request = typed_request('t', 'x', schedule_to_close_timeout_ms => 60000);
	$caller->ask(1, $request);
	$able->expect('Push');
	my $other = $d->worker(name => 'other-type', types => ['u']);
	my $second = $d->worker(name => 'second', types => ['u', 't']);
	$able->hang_up;
	my $push = $second->expect('Push', { payload => $request }, 'to a worker that accepts the type');
	$other->expect_quiet('not to one that does not');
	$second->hang_up;
	$caller->expect_refusal(1, R_NO_WORKER, qr/./, 'and when none is left that does: refused');
	$other->expect_quiet;
}

{
	note '-- the caller dies';
	my $d = Liminal::Daemon->start(name => 'caller-dies');
	$d->allow_log($ANY_END);
	my $worker = $d->worker(name => 'worker');
	for my $how (['hangs up', sub ($c) { $c->hang_up }], ['is reset', sub ($c) { $c->reset }],
	    ['has its process killed', sub ($c) { kill 'KILL', $d->pid_of($c) }]) {
		my $caller = $d->client(name => 'caller');
		$caller->open(1, $POOL)->ask(1, 'runs')->ask(1, 'waits')->barrier;
		my $push = $worker->expect('Push', { payload => 'runs' }, "a caller that $how->[0]");
		$how->[1]->($caller);
		await_counts($d, { connections => 1, conversations => 0, pending => 0 }, 'is gone with what it waited for');
		is $d->mdb_counts->{pushes}, 1, 'its job runs on';
		$worker->reply($push, 'for nobody');
		$worker->expect_quiet('and what waited is not sent');
		is $d->mdb_counts->{pushes}, 0, 'the worker has room again';
	}

	note '-- worker and caller are one connection';
	my $both = $d->worker(name => 'both', namespaces => ['both']);
	$both->open(1, 'aion.dispatch.both.jobs')->ask(1, 'to myself');
	my $push = $both->expect('Push', { payload => 'to myself' });
	$both->reply($push, 'from myself');
	$both->expect_answer(1, 'from myself');
	$both->ask(1, 'again');
	$both->expect('Push');
	$both->hang_up;
	await_counts($d, { connections => 1, workers => 1, pushes => 0, conversations => 0, inbox => 0 }, 'its end leaves nothing');
}

{
	note '-- the keeper dies: it is replaced, and cleans up after those that ended meanwhile';
	my $d = Liminal::Daemon->start(name => 'keeper');
	$d->allow_log($ANY_END, qr/keeper/);
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL);
	my @workers = map { $d->worker(name => "w$_") } 1 .. 2;
	for (1 .. 3) {
		$caller->ask(1, 'x');
		my ($victim) = whoever_gets('a worker has the job', @workers);
		my $pid = $d->pid_of($victim);
		my $keeper = $d->keeper_pid;
		ok $keeper, 'there is a keeper';
		kill 'KILL', $keeper, $pid;
		@workers = grep { $_ != $victim } @workers;
		my $push = $workers[0]->expect('Push', { payload => 'x' }, 'the job goes to the other worker');
		$workers[0]->reply($push, 'y');
		$caller->expect_answer(1, 'y');
		wait_until(sub { my $new = $d->keeper_pid; $new && $new != $keeper }, 'a new keeper');
		push @workers, $d->worker(name => "new$_");
		await_counts($d, { connections => 3, workers => 2, pushes => 0 }, 'the state is right');
	}
}

finish_testing;
