# crash, close and drain: the right process gets the right signal, and nobody else. (A7, H5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $d = Liminal::Daemon->start(name => 'signalled');
my $other = $d->client(name => 'other');

note '-- crash';
for (['SEGV'], ['ABRT', '-s', 'ABRT'], ['KILL', '--signal=SIGKILL'], ['XCPU', '-s', 'xcpu'], ['QUIT', '-s', '3']) {
	my ($name, @options) = @$_;
	my $victim = $d->client(name => 'victim');
	my $id = $d->conn_id_of($victim);
	tool_is(tool($d, 'crash', @options, $id), 0, qr/\A\z/, "crash @options");
	$victim->expect_close("the connection ends by $name");
	ok $d->wait_log(qr/conn=$id .*\(SIG$name\)/), 'and the daemon knows why';
	await_counts($d, { connections => 1 }, 'its row is gone');
	$d->expect_log(qr/\(SIG$name\)/);
}
my $victim = $d->client(name => 'victim');
my ($id, $pid) = ($d->conn_id_of($victim), $d->pid_of($victim));
my $run = tool($d, 'crash', '-j', $id);
is_deeply [json_of($run)], [{ conn_id => $id, pid => $pid, signal => 'SEGV' }], 'as JSON';
$victim->expect_close;
await_counts($d, { connections => 1 }, 'its row is gone');

note '-- close';
my $worker = $d->worker(name => 'worker');
$id = $d->conn_id_of($worker);
tool_is(tool($d, 'close', $id), 0, qr/\A\z/, 'close');
$worker->expect('Disconnect', {}, 'the client is told');
$worker->expect_close;
await_counts($d, { connections => 1, workers => 0, pool => 0 }, 'nothing of it is left');

note '-- who is not there';
for my $subcommand ('crash', 'close') {
	tool_is(tool($d, $subcommand, 999), 1, qr/no connection 999/, "$subcommand: unknown");
	tool_is(tool($d, $subcommand, $id), 1, qr/no connection $id/, "$subcommand: ended");
	tool_is(tool($d, $subcommand, $_), 2, qr/./, "$subcommand $_") for 0, -1, 'x', '1x';
	tool_is(tool($d, $subcommand), 2, qr/usage/, "$subcommand nothing");
}
tool_is(tool($d, 'crash', '-s', 'NOSUCH', 1), 2, qr/signal/, 'no such signal');
tool_is(tool($d, 'drain', 'now'), 2, qr/usage/, 'drain takes nothing');
$other->barrier;
pass 'the other one noticed nothing';

note '-- a row whose process is not the daemon\'s child';
my $second = Liminal::Daemon->start(name => 'second');
my $far = $second->client(name => 'far');
my $far_id = $second->conn_id_of($far);
$second->signal('STOP');
kill STOP => $second->keeper_pid;
kill KILL => $second->pid_of($far);
wait_until(sub { (json_of(tool($second, 'connections', '-j')))[0]{state} eq 'ended' }, 'a row whose process is dead');
tool_is(tool($second, 'crash', $far_id), 1, qr/has ended|No such process/, 'is not signalled');
kill CONT => $second->keeper_pid;
$second->signal('CONT');
await_counts($second, { connections => 0 }, 'and is cleaned up');
$second->expect_log(qr/\(SIGKILL\)/);

note '-- drain';
my $busy = $d->worker(name => 'busy');
$other->open(1, 'aion.dispatch.test.jobs')->ask(1, 'last job');
my $push = $busy->expect('Push');
tool_is(tool($d, 'drain', '-j'), 0, qr/\A\z/, 'drain');
ok $d->wait_log(qr/shutdown begins/), 'the daemon drains';
$busy->reply($push, 'done');
$other->expect_answer(1, 'done', 'what runs is finished');
$_->hang_up for $busy, $other;
is $d->await_end, 0, 'then it ends';
tool_is(tool($d, $_), 1, qr/no liminald is running/, "$_: nobody is there") for 'drain';
tool_is(tool($d, $_, 1), 1, qr/no liminald is running/, "$_: nobody is there") for 'crash', 'close';

note '-- the master is gone, but not all of it';
my $third = Liminal::Daemon->start(name => 'third');
open my $lock, '<', $third->dir . '/run/liminald.lock' or die "lock: $!";
$third->kill9;
wait_until(sub { !$third->processes }, 'killed');
flock $lock, 1 or die "flock: $!";
tool_is(tool($third, 'drain'), 1, qr/no liminald/, 'another onlooker is no daemon');
flock $lock, 2 or die "flock: $!";
tool_is(tool($third, 'drain'), 1, qr/is gone/, 'a lock without its master');

finish_testing;
