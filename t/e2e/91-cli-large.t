# Many rows: nothing is left out or shown twice while others come and go, and whoever reads
# slowly holds up nobody: no transaction is open while something is written. (H4, H5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $N = 3000;
my $d = Liminal::Daemon->start(name => 'large',
    conf => "limits { conversations_per_connection = 100000 }");
my $worker = $d->worker(name => 'worker');
my $caller = $d->client(name => 'caller');
my ($w, $c) = map { $d->conn_id_of($_) } $worker, $caller;
for my $from (map { 100 * $_ } 0 .. $N / 100 - 1) {
	$caller->send_all(map { ['ConversationOpen', conversation => $_, subject => 'aion.dispatch.test.jobs'] }
	    $from + 1 .. $from + 100);
	$caller->send_all(map { ['ConversationMessage', conversation => $_, payload => 'x', flags => F_REPLY] }
	    $from + 1 .. $from + 100);
}
$caller->barrier;
await_counts($d, { conversations => $N, pending => $N - 1, pushes => 1 }, 'a large state');

note '-- all of it';
my @rows = json_of(tool($d, 'conversations', '-j'));
is_deeply [map { $_->{conversation_id} } @rows], [1 .. $N], 'each conversation once, in order';
my @lines = split /\n/, tool($d, 'conversations')->{out};
is scalar @lines, $N + 1, 'for people, too';
is scalar(() = tool($d, 'dump', 'pending')->{out} =~ /^pending /mg), $N - 1, 'dump';
is_deeply [map { @$_{qw(pool pending in_flight)} } json_of(tool($d, 'pools', '-j'))], ['test/jobs', $N - 1, 1], 'pools';

note '-- while others come and go';
my $base = 1_000_000;
my @runs = map { tool_start($d->dir, ['conversations', '-j', '-d', $d->dir . '/run']) } 1 .. 4;
for (1 .. 50) {
	my @ids = map { ++$base } 1 .. 20;
	$caller->send_all(map { ['ConversationOpen', conversation => $_, subject => 'echo'] } @ids);
	$caller->send_all(map { ['ConversationClose', conversation => $_] } @ids);
}
$caller->barrier;
for my $run (@runs) {
	tool_await($run);
	is_deeply [grep { $_ <= $N } map { $_->{conversation_id} } json_of($run)], [1 .. $N], 'those that stay are shown once';
}

note '-- a reader that does not read';
pipe my $reader, my $writer or die "pipe: $!";
my $run = tool_start($d->dir, ['dump', '-d', $d->dir . '/run'], stdout => $writer);
close $writer;
my $blocked = sub {
	return Liminal::Daemon::slurp("/proc/$run->{pid}/wchan") =~ /pipe/
	    || Liminal::Daemon::slurp("/proc/$run->{pid}/syscall") =~ /^1 0x1 /;
};
wait_until($blocked, 'it waits in write(2)');
my $readers = `mdb_stat -r $d->{dir}/run/state`;
unlike $readers, qr/^\s*$run->{pid}\s/m, 'and has no transaction open';
kill STOP => $run->{pid};
$worker->reply($worker->expect('Push'), 'done');
$caller->expect('ConversationMessage', { payload => 'done' }, 'the daemon goes on');
kill CONT => $run->{pid};
my $text = do { local $/; <$reader> };
tool_is(tool_await($run), 0, qr/\A\z/, 'it ends when it is read');
my %seen;
$seen{$_}++ for $text =~ /^conversations conn_id=$c conversation_id=(\d+) /mg;
is_deeply [sort { $a <=> $b } keys %seen], [1 .. $N], 'and has shown each';

note '-- a reader that goes away';
pipe $reader, $writer or die "pipe: $!";
$run = tool_start($d->dir, ['dump', '-d', $d->dir . '/run'], stdout => $writer);
close $writer;
close $reader;
tool_await($run);
is $run->{exit}, 256 + 13, 'ends it by SIGPIPE';

finish_testing;
