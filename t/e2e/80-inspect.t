# mdb_stat shows the right counts right after each step, while the daemon runs and after it has
# crashed. (A1 to A3, D4, D5, H4)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';
my @SHOWN = qw(connections workers pool pushes pending conversations);

my $d = Liminal::Daemon->start(name => 'inspected');

# The counts of @SHOWN, in that order, now; or soon, where nobody tells us when.
sub shows ($want, $name) {
	my $counts = $d->mdb_counts;
	return is join(' ', map { $counts->{$_} // '-' } @SHOWN), $want, $name;
}
sub will_show ($want, $name) {
	my @want = split ' ', $want;
	return await_counts($d, { map { $SHOWN[$_] => $want[$_] } 0 .. $#SHOWN }, $name);
}

for my $table (qw(connections workers pool pushes inbox pending channels messages subscriptions conversations counters)) {
	ok exists $d->mdb_counts->{$table}, "there is a table $table";
}
shows('0 0 0 0 0 0', 'at the start');

my $probe = $d->connect(name => 'probe');
ok $d->pid_of($probe), 'a probe that says nothing has its process';
shows('0 0 0 0 0 0', 'but no row');
my $caller = $d->client(name => 'caller');
shows('1 0 0 0 0 0', 'a client past its handshake');
my $plain = $d->connect(name => 'plain')->barrier;
shows('2 0 0 0 0 0', 'a client past its first frame');
my $w1 = $d->worker(name => 'w1', namespaces => ['test', 'more'], queue => 'jobs');
shows('3 1 2 0 0 0', 'a worker of two pools');
my $w2 = $d->worker(name => 'w2');
shows('4 2 3 0 0 0', 'another of one');
$w1->register;
shows('4 2 2 0 0 0', 'the first registers anew for one pool');
$caller->open($_, $POOL) for 1 .. 4;
$caller->barrier;
shows('4 2 2 0 0 4', 'four conversations');
$caller->ask($_, "j$_") for 1 .. 4;
my @pushes = (['w1', $w1->expect('Push')], ['w2', $w2->expect('Push')]);
$caller->barrier;
shows('4 2 2 2 2 4', 'two jobs run, two wait');
$w1->reply($pushes[0][1], 'x');
my $push = $w1->expect('Push');
shows('4 2 2 2 1 4', 'one is answered, the next is sent');
$caller->expect('ConversationMessage');
$w2->hang_up;
will_show('3 1 1 1 2 4', 'a worker ends: its job waits again');
$w1->reply($push, 'x');
$push = $w1->expect('Push');
shows('3 1 1 1 1 4', 'the next');
$w1->reply($push, 'x');
$push = $w1->expect('Push');
shows('3 1 1 1 0 4', 'the last');
$w1->reply($push, 'x');
$caller->expect('ConversationMessage') for 1 .. 3;
shows('3 1 1 0 0 4', 'all are answered');
$caller->close_conversation($_) for 1 .. 3;
$caller->barrier;
shows('3 1 1 0 0 1', 'three conversations are closed');
kill 'KILL', $d->pid_of($caller);
will_show('2 1 1 0 0 0', 'the caller is killed');
$d->expect_log(qr/killed by signal 9 \(SIGKILL\)/);
$plain->send('Disconnect')->expect_close;
will_show('1 1 1 0 0 0', 'a client leaves');

note '-- what ps shows (A2, A3)';
my @titles = map { $_->{title} } grep { $_->{title} =~ /^liminald: \d/ } $d->children;
is scalar @titles, 2, 'a process per connection, the probe included';
my ($mine) = grep { /\b127\.0\.0\.1:${\$w1->local_port}\b/ } @titles;
like $mine // "@titles", qr{^liminald: \d+ \S+ worker test/jobs}, 'the title says who, where, what';
is $d->conn_id_of($probe), 1, 'conn ids count from 1';
my $next = $d->client(name => 'next');
cmp_ok $d->conn_id_of($next), '>', $d->conn_id_of($w1), 'and are never given out twice';

note '-- a process that dies at its very first instructions leaves nothing (A1)';
for (1 .. 20) {
	my $c = $d->connect(name => 'victim');
	kill 'KILL', $d->pid_of($c);
	$c->expect_close;
}
will_show('2 1 1 0 0 0', 'no row');
wait_until(sub { scalar($d->connection_pids) == 3 }, 'no process, no zombie');

note '-- after kill -9 of everything the state can still be read (H4)';
my $caller2 = $d->client(name => 'caller2');
$caller2->open(1, $POOL)->ask(1, 'x');
$w1->expect('Push');
$d->signal('STOP');
kill 'KILL', map { $_->{pid} } $d->children;
$d->kill9;
wait_until(sub { !$d->processes }, 'all are dead');
shows('3 1 1 1 0 1', 'the rows are those of the last moment');
my $again = Liminal::Daemon->start(name => 'again', dir => $d->dir);
is $again->rows, '', 'a new daemon begins empty';
$again->client->expect_quiet;
$again->finish;

finish_testing;
