# A connection's process that is stopped, or loops, does not freeze the rest: it is found and
# ended when others wait for it, and its jobs go elsewhere. (A6, E5, architecture.md: write lock)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

my $d = Liminal::Daemon->start(name => 'stuck');
$d->expect_log(qr/killed by signal 9 \(SIGKILL\)/);
$d->allow_log(qr/stuck|does not look|killed by signal/);
my $caller = $d->client(name => 'caller');
$caller->open($_, $POOL) for 1 .. 9;
my $bystander = $d->client(name => 'bystander');
my $by_worker = $d->worker(name => 'by-worker', namespaces => ['by']);
$bystander->open(1, 'aion.dispatch.by.jobs')->open(2, 'echo');

# Round trips of others, each within a second.
sub others_are_served ($name, $rounds = 20) {
	my $worst = 0;
	for my $n (1 .. $rounds) {
		my $before = now;
		$bystander->ask(1, "b$n")->ask(2, "e$n");
		my $push = $by_worker->next_frame // last;
		$by_worker->reply($push, "r$n");
		my %got = map { ($_ // {})->{payload} // 'nothing' => 1 } map { $bystander->next_frame } 1 .. 2;
		$worst = 99 if !$got{"r$n"} || !$got{"e$n"};
		$worst = now - $before if now - $before > $worst;
	}
	cmp_ok $worst, '<', 1 + slack, sprintf '%s: others are served meanwhile (worst %.1f ms)', $name, 1000 * $worst;
	return;
}

{
	note '-- stopped before it has read its job';
	my $first = $d->worker(name => 'first', capacity => 1);
	my $second = $d->worker(name => 'second', capacity => 1);
	kill 'STOP', my $pid = $d->pid_of($first);
	$caller->ask(1, 'one')->ask(2, 'two');
	my $push = $second->expect('Push', {}, 'the other worker gets its job');
	others_are_served('a stopped worker');
	$second->reply($push, 'done');
	my $again = $second->expect('Push', {}, 'and, when the stopped one has been found, that one\'s');
	isnt $again->{payload}, $push->{payload}, 'the other job';
	$second->reply($again, 'done');
	$caller->expect('ConversationMessage', { payload => 'done' }) for 1 .. 2;
	$first->expect_close('the client of the stopped process sees the end');
	wait_until(sub { !kill 0, $pid }, 'the process is gone');
	$second->send('Disconnect')->expect_close;
	await_counts($d, { workers => 1, pool => 1, pushes => 0 }, 'nothing of it is left');
}

{
	note '-- stopped with a job that its client works on; then a second one comes for it';
	my $first = $d->worker(name => 'first', capacity => 2);
	$caller->ask(1, 'one');
	$first->expect('Push');
	kill 'STOP', $d->pid_of($first);
	$caller->ask(2, 'two')->barrier;
	my $second = $d->worker(name => 'second', capacity => 2);
	others_are_served('a stopped worker with jobs');
	my @pushes = map { $second->expect('Push') } 1 .. 2;
	is join(' ', sort map { $_->{payload} } @pushes), 'one two', 'both jobs go to the other worker';
	$second->reply($_, "done $_->{payload}") for @pushes;
	my %answer = map { $_->{conversation} => $_->{payload} } map { $caller->expect('ConversationMessage') } 1 .. 2;
	is_deeply \%answer, { 1 => 'done one', 2 => 'done two' }, 'one answer for each request';
	$caller->expect_quiet;
	$second->send('Disconnect')->expect_close;
}

{
	note '-- a stopped caller: its worker is free at once';
	my $worker = $d->worker(name => 'worker');
	my $stopped = $d->client(name => 'stopped');
	$stopped->open(1, $POOL)->ask(1, 'x');
	my $push = $worker->expect('Push');
	kill 'STOP', my $pid = $d->pid_of($stopped);
	$worker->reply($push, 'y');
	$caller->ask(1, 'next');
	$push = $worker->expect('Push', { payload => 'next' }, 'the worker gets its next job');
	$worker->reply($push, 'z');
	$caller->expect_answer(1, 'z');
	others_are_served('a stopped caller');
	kill 'CONT', $pid;
	my $frame = $stopped->next_frame;
	ok !$frame || $frame->{payload} eq 'y', 'continued, it gets its answer, or it was ended before';
	$_->hang_up for $stopped, $worker;
}

{
	note '-- a burst of stops under way: whoever has the write lock is found, too';
	my @workers = map { $d->worker(name => "w$_", capacity => 4) } 1 .. 3;
	for my $round (1 .. 2) {
		my ($victim) = splice @workers, 0, 1;
		my $pid = $d->pid_of($victim);
		$caller->ask(1 + $_ % 8, "r$round.$_") for 1 .. 9;
		kill 'STOP', $pid;
		push @workers, $d->worker(name => "new$round", capacity => 20);
		my $answered = 0;
		while ($answered < 9) {
			my ($at, $frame) = Liminal::Client::whoever_gets($caller, @workers);
			last if !$frame;
			if ($frame->{type} eq 'Push') {
				$at->reply($frame, "a $frame->{payload}");
			} else {
				$answered += $frame->{type} eq 'ConversationMessage';
			}
		}
		is $answered, 9, "round $round: every request is answered";
		$victim->hang_up;
		kill 'CONT', $pid if kill 0, $pid;
	}
	$caller->expect_quiet('exactly once');
	$_->hang_up for @workers;
}

finish_testing;
