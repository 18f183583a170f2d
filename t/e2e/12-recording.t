# A connection is recorded when its handshake is done, by the keeper or, when that one is stopped or
# dead, by itself; either way it is there once, can be addressed, and leaves nothing. (A1, A3, B1)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

sub has_state_open ($pid) {
	return scalar grep { (readlink($_) // '') =~ m{/state/data\.mdb$} } glob "/proc/$pid/fd/*";
}

{
	note '-- the usual way: the keeper writes the row, the connection never opens the state';
	my $d = Liminal::Daemon->start(name => 'usual');
	my @c = map { $d->client(name => "c$_") } 1 .. 5;
	is $d->mdb_counts->{connections}, 5, 'each has its row when it has its ConnectAck';
	ok !has_state_open($d->pid_of($c[0])), 'the idle have not opened the state';

	note '-- one that never used the state is addressed';
	my $pusher = $d->client(name => 'pusher');
	$pusher->open(1, 'liminal.connection.' . $d->conn_id_of($c[4]))->ask(1, 'hello');
	my $push = $c[4]->expect('Push', { payload => 'hello' }, 'it gets the Push');
	ok has_state_open($d->pid_of($c[4])), 'and has opened the state for it';
	$c[4]->reply($push, 'there');
	$pusher->expect_answer(1, 'there');
	$_->send('Disconnect')->expect_close for @c, $pusher;
	await_counts($d, { connections => 0, pushes => 0 }, 'nothing is left');
}

{
	note '-- the keeper is stopped: nobody waits for it';
	my $d = Liminal::Daemon->start(name => 'stopped');
	my $first = $d->client(name => 'first');
	$first->barrier;
	kill 'STOP', my $keeper = $d->keeper_pid;
	my $alone = $d->client(name => 'alone');
	$alone->barrier;
	is $d->mdb_counts->{connections}, 2, 'it has written its row itself';
	my $worker = $d->worker(name => 'w');
	my $caller = $d->client(name => 'caller');
	$caller->open(1, 'aion.dispatch.test.jobs')->ask(1, 'job');
	$worker->reply($worker->expect('Push', { payload => 'job' }), 'done');
	$caller->expect_answer(1, 'done', 'work goes on without a keeper');
	kill 'CONT', $keeper;
	$alone->send('Disconnect')->expect_close;
	await_counts($d, { connections => 3, workers => 1 }, 'its late work adds nothing');
}

{
	note '-- the keeper dies again and again while clients come and go';
	my $d = Liminal::Daemon->start(name => 'dying');
	$d->allow_log(qr/keeper ended/);
	my @stay;
	for my $round (1 .. 20) {
		my $keeper = $d->keeper_pid;
		kill 'KILL', $keeper if $keeper && $round % 2;
		push @stay, $d->client(name => "stay$round");
		my $go = $d->client(name => "go$round");
		$go->send('Disconnect')->expect_close;
	}
	$_->barrier for @stay;
	await_counts($d, { connections => 20 }, 'those who stayed are there, and nobody else');
	$_->send('Disconnect')->expect_close for @stay;
	await_counts($d, { connections => 0 }, 'and then nobody');
}

finish_testing;
