# publish and subscribe as a person and a script use them: what is printed, what is accepted when,
# how they exit. (H5, G1, G2, G3, G5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use IO::Handle;
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $SRC = $ENV{LIMINAL_SRCDIR} || "$FindBin::Bin/../..";
my $d = Liminal::Daemon->start(name => 'channels', files => { 'order.json' => '{"type":"object"}' }, conf => <<~'CONF');
	channel "news" { }
	channel "narrow" { keep_messages = 100 }
	channel "orders" { durable = true }
	channel "again" { durable = true }
	channel "spooled" { durable = true }
	channel "strict" { schema = "order.json" }
	CONF
my @server = (env => { LIMINAL_SERVER => $d->address });
my $n = 0;

# In the background, with INPUT (text, or a handle).
sub start ($input, @arguments) {
	if (!ref $input) {
		my $path = $d->dir . '/input' . ++$n;
		open my $out, '>:raw', $path or die "$path: $!";
		print $out $input;
		close $out;
		open my $in, '<:raw', $path or die "$path: $!";
		$input = $in;
	}
	return tool_start($d->dir, \@arguments, stdin => $input, @server);
}

sub run ($input, @arguments) { return tool_await(start($input, @arguments)) }
sub out ($run) { return Liminal::Daemon::slurp("$run->{base}.out") }

# A subscriber that has begun.
sub subscriber (@arguments) {
	my $run = start('', 'subscribe', @arguments);
	wait_until(sub { Liminal::Daemon::slurp("$run->{base}.err") =~ /subscribed to/ }, "subscribe @arguments has begun");
	return $run;
}

# Two TAP results: its end, and what it had printed.
sub printed ($run, $exit, $err, $out, $name) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tool_is(tool_await($run), $exit, $err, $name);
	return is $run->{out}, $out, "$name: what it printed";
}

note '-- usage';
for (['publish'], ['publish', 'a', 'b'], ['publish', '-w', '0', 'a'], ['publish', '-k', 'k' x 2000, 'a'], ['publish', '--clock', '-1', 'a'],
    ['subscribe'], ['subscribe', '-n', '0', 'a'], ['subscribe', '--from', 'now', 'a'], ['subscribe', '--from', '0', 'a'],
    ['subscribe', '--durable', '', 'a'], ['subscribe', '-D', 'c' x 256, 'a']) {
	tool_is(run('', @$_), 2, qr/./, 'wrong: ' . substr "@$_", 0, 60);
}
tool_is(run('x', 'publish', 'absent'), 1, qr/channel 'absent' is not configured/, 'publish: no such channel');
tool_is(run('', 'subscribe', 'absent'), 1, qr/channel 'absent' is not configured/, 'subscribe: no such channel');
tool_is(run('', 'subscribe', '--durable', 'me', 'news'), 1, qr/not durable/, 'a durable consumer needs a durable channel');
tool_is(run('', 'subscribe', '--from', 'start', 'news'), 1, qr/not durable/, 'and so does --from');

note '-- one message';
my %one = map { $_->[0] => subscriber('-n', 3, @$_[1 .. $#$_], 'news') } ['lines'], ['raw', '-r'], ['null', '-0'], ['json', '-j'];
tool_is(run("hello\n", 'publish', 'news'), 0, qr/\A\z/, 'a line');
my $ack = run("a\0\xff", 'publish', '-j', 'news');
tool_is($ack, 0, qr/\A\z/, 'bytes');
like $ack->{out}, qr/\A\{"status":"completed","message_id":\d+,"delivered":true\}\n\z/, 'what became of them, as JSON';
tool_is(run('', 'publish', '--parent', '17', '--clock', '5', 'news'), 0, qr/\A\z/, 'nothing, with causal context');
printed($one{lines}, 0, qr/subscribed/, "hello\na\0\xff\n\n", 'by default: a newline where there is none');
printed($one{raw}, 0, qr/subscribed/, "hello\na\0\xff", 'raw: as they are');
printed($one{null}, 0, qr/subscribed/, "hello\n\0a\0\xff\0\0", 'NUL behind each');
tool_is(tool_await($one{json}), 0, qr/subscribed/, 'JSON');
is_deeply [json_of($one{json})], [
	{ channel => 'news', sequence => 1, payload => "hello\n" },
	{ channel => 'news', sequence => 2, payload_base64 => 'YQD/' },
	{ channel => 'news', sequence => 3, payload => '', parent_id => '17', vector_clock => 5 },
    ], 'JSON: what it printed';
$ack = run('x', 'publish', '-j', 'news');
is +(json_of($ack))[0]{delivered}, 0, 'delivered to nobody';

note '-- many';
my $lines = join '', map { "line $_\n" } 1 .. 20_000;
my $all = subscriber('-n', 20_000, 'news');
tool_is(run($lines, 'publish', '-l', '-w', 7000, 'news'), 0, qr/\A\z/, '20,000 lines');
printed($all, 0, qr/subscribed/, $lines, 'each, in order, once');
my $sub = subscriber('-0n', 5, 'news');
tool_is(run("\n\nlast", 'publish', '-l', '-w', 1, 'news'), 0, qr/\A\z/, 'empty lines, and one without its newline');
tool_is(run("two\nlines\0one", 'publish', '-0', 'news'), 0, qr/\A\z/, 'messages between NUL bytes');
printed($sub, 0, qr/subscribed/, "\0\0last\0two\nlines\0one\0", 'so they came');
pipe my $from, my $to;
$to->autoflush;
$sub = subscriber('news');
my $pub = start($from, 'publish', '-l', 'news');
for my $i (1 .. 3) {
	print $to "live $i\n";
	wait_until(sub { out($sub) eq join '', map { "live $_\n" } 1 .. $i }, "line $i of a pipe is there before the next is written");
}
print $to 'rest';
close $to;
tool_is(tool_await($pub), 0, qr/\A\z/, 'the pipe ends');
wait_until(sub { out($sub) =~ /rest\n\z/ }, 'and its rest was a message');
kill INT => $sub->{pid};
printed($sub, 0, qr/subscribed/, "live 1\nlive 2\nlive 3\nrest\n", 'INT ends a subscriber');

note '-- refused';
my $mixed = join '', map { $_ % 4 ? "{}\n" : "no\n" } 1 .. 10;
my $run = run($mixed, 'publish', '-lj', '-w', 1, 'strict');
tool_is($run, 1, qr/line 4: .*JSON/, 'a line that the schema refuses');
is_deeply [map { [@$_{qw(line status)}] } json_of($run)], [(map { [$_, 'completed'] } 1 .. 3), [4, 'failed']], 'is the last';
$run = run($mixed, 'publish', '-ljK', 'strict');
tool_is($run, 1, qr/line 4: .*line 8: /s, 'or not, by --keep-going');
is_deeply [map { [@$_{qw(line status)}] } json_of($run)], [map { [$_, $_ % 4 ? 'completed' : 'failed'] } 1 .. 10], 'all others are published';
$run = run('[]', 'publish', '-j', 'strict');
tool_is($run, 1, qr/type/, 'one message that it refuses');
is_deeply [map { @$_{qw(status reason)} } json_of($run)], ['failed', 0xFFFF], 'with its reason' or diag $run->{out};
is tool_await(subscriber('-t', '100ms', '-S', $d->dir . '/order.json', 'strict'))->{exit}, 3, 'a subscriber that accepts the schema';
tool_is(run('', 'subscribe', '-S', "$SRC/README", 'strict'), 1, qr/schema/, 'and one that accepts another one only');

note '-- idempotency';
$sub = subscriber('-n', 4, 'again');
tool_is(run("1\n2\n", 'publish', '-l', '-k', 'file', 'again'), 0, qr/\A\z/, 'two numbered lines');
$run = run("1\n2\n3\n", 'publish', '-lj', '-k', 'file', 'again');
is_deeply [map { $_->{delivered} } json_of($run)], [0, 0, 1], 'again with a third: the first two are known' or diag $run->{out};
tool_is(run('once', 'publish', '-k', 'file:1', 'again'), 0, qr/\A\z/, 'the first was published under its number');
tool_is(run('once', 'publish', '-k', 'other', 'again'), 0, qr/\A\z/, 'another key');
printed($sub, 0, qr/subscribed/, "1\n2\n3\nonce\n", 'each once');

note '-- durable';
is tool_await(subscriber('-t', '50ms', '--durable', 'c', 'orders'))->{exit}, 3, 'a new consumer: nothing yet';
run(join('', map { "order $_\n" } 1 .. 3000), 'publish', '-l', 'orders');
my @orders = map { "order $_\n" } 1 .. 3000;
printed(start('', 'subscribe', '-D', 'c', '-n', 2, 'orders'), 0, qr/subscribed/, join('', @orders[0, 1]), 'what came since');
printed(start('', 'subscribe', '-D', 'c', '-n', 2500, 'orders'), 0, qr/subscribed/, join('', @orders[2 .. 2501]), 'goes on, at once');
printed(start('', 'subscribe', '-D', 'c', '-t', '300ms', 'orders'), 3, qr/in time/, join('', @orders[2502 .. 2999]), 'to the end');
printed(start('', 'subscribe', '-D', 'c', '--from', 2999, '-n', 2, 'orders'), 0, qr/subscribed/, join('', @orders[2998, 2999]), 'back to a sequence');
printed(start('', 'subscribe', '--from', 'start', '-n', 3000, 'orders'), 0, qr/subscribed/, join('', @orders), 'from the start, as nobody');
my @both = map { start('', 'subscribe', '--from', 2000, '-jn', 1, 'orders') } 1 .. 2;
is_deeply [map { json_of(tool_await($_)) } @both], [({ channel => 'orders', sequence => 2000, payload => 'order 2000' }) x 2], 'two at a time';
my $holder = subscriber('--durable', 'c', 'orders');
tool_is(run('', 'subscribe', '--durable', 'c', 'orders'), 1, qr/./, 'a name that is in use');
kill TERM => $holder->{pid};
tool_is(tool_await($holder), 0, qr/subscribed/, 'TERM');

note '-- what did not get out is not accepted';
my $large = 'x' x 300_000;
run($large, 'publish', 'again') for 1 .. 3;
pipe my $reader, my $writer;
my $blocked = tool_start($d->dir, ['subscribe', '--durable', 'slow', '--from', 5, 'again'], stdout => $writer, @server);
close $writer;
sysread $reader, my $first, 8;
is $first, 'xxxxxxxx', 'its reader takes eight bytes of more than a pipe holds';
close $reader;
is tool_await($blocked)->{exit}, 256 + 13, 'and goes';
printed(start('', 'subscribe', '-j', '--durable', 'slow', '-n', 1, 'again'), 0, qr/subscribed/,
    qq({"channel":"again","sequence":5,"payload":"$large"}\n), 'so it comes again');

note '-- a reader that takes nothing';
pipe $reader, $writer;
$blocked = tool_start($d->dir, ['subscribe', 'narrow'], stdout => $writer, @server);
close $writer;
wait_until(sub { Liminal::Daemon::slurp("$blocked->{base}.err") =~ /subscribed/ }, 'subscribed');
my $flood = ('x' x 4095 . "\n") x 20_000;
tool_is(run($flood, 'publish', '-l', 'narrow'), 0, qr/\A\z/, '80 MB are published meanwhile');
my ($got, $read) = (0);
$got += $read while $read = sysread $reader, my $bytes, 1 << 20;
tool_is(tool_await($blocked), 1, qr/subscribed.*\n.*(shed|behind|slow)/s, 'shed, and told so');
is $got % 4096, 0, 'after whole messages';
cmp_ok $got, '<', 80_000_000, 'not all of them';
$d->expect_log(qr/warn shed .* channel="narrow"/);
for my $signal ('INT', 'HUP') {
	pipe $reader, $writer;
	$blocked = tool_start($d->dir, ['subscribe', '--durable', 'deaf', '--from', 5, 'again'], stdout => $writer, @server);
	is sysread($reader, $first, 8), 8, 'it writes more than a pipe holds';
	wait_until(sub { Liminal::Daemon::slurp("/proc/$blocked->{pid}/stat") =~ /\) S / }, 'and sleeps in it');
	kill $signal => $blocked->{pid};
	is tool_await($blocked)->{exit}, 0, "$signal ends it all the same";
	$run = tool_await(start('', 'subscribe', '-j', '--durable', 'deaf', '-n', 1, 'again'));
	is +(json_of($run))[0]{sequence}, 5, 'without having accepted anything' or diag $run->{err};
}

note '-- the examples: from one spool into another';
my $examples = $ENV{LIMINAL_EXAMPLES} // 'build/t/examples';
my ($spool, $archive) = map { $d->dir . "/$_" } 'spool', 'archive';
sub in_dir ($dir) { opendir my $in, $dir or die "$dir: $!"; my @files = sort grep { !/^\./ } readdir $in; return @files }
sub spool (@files) {
	for (@files) {
		open my $out, '>', "$spool/$_" or die "$spool/$_: $!";
		print $out "content of $_";
		close $out;
	}
	return;
}
sub consumer { return tool_start($d->dir, [$d->address, 'spooled', 'archive', $archive], program => ["$examples/consume-spool"]) }
mkdir $_ or die "$_: $!" for $spool, $archive;
my $consumer = consumer();
wait_until(sub { $d->mdb_counts->{subscriptions} == 1 }, 'a consumer');
spool(map { sprintf 'file-%04d', $_ } 1 .. 1000);
my @publish = ($d->dir, [$d->address, 'spooled', $spool], program => ["$examples/publish-spool"]);
my $publisher = tool_start(@publish);
wait_until(sub { in_dir($archive) > 100 }, 'messages come');
kill KILL => $_->{pid} for $publisher, $consumer;
tool_await($_) for $publisher, $consumer;
tool_is(tool_await(tool_start(@publish)), 0, qr/\A\z/, 'both were killed; published again');
is_deeply [in_dir($spool)], [], 'the spool is empty';
wait_until(sub { $d->mdb_counts->{listeners} == 0 }, 'the name is free');
$consumer = consumer();
wait_until(sub { in_dir($archive) == 1000 }, 'all are in the archive');
is join(' ', sort map { Liminal::Daemon::slurp("$archive/$_") =~ s/content of //r } in_dir($archive)),
    join(' ', map { sprintf 'file-%04d', $_ } 1 .. 1000), 'each once';
tool_is(tool_await(tool_start($d->dir, [$d->address, 'absent', $spool], program => ["$examples/publish-spool"])), 0, qr/\A\z/, 'nothing to publish');
spool('refused');
tool_is(tool_await(tool_start($d->dir, [$d->address, 'absent', $spool], program => ["$examples/publish-spool"])), 1, qr/refused: channel 'absent'/, 'no such channel');
is_deeply [in_dir($spool)], ['refused'], 'the file stays';

note '-- the daemon goes';
$sub = subscriber('news');
pipe $from, $to;
$pub = start($from, 'publish', '-l', 'news');
$to->autoflush;
print $to "last words\n";
wait_until(sub { out($sub) eq "last words\n" }, 'both are there');
$d->kill9;
printed($sub, 4, qr/closed|broke|goodbye/, "last words\n", 'the subscriber');
tool_is(tool_await($consumer), 1, qr/closed|broke|goodbye/, 'the example');
tool_is(tool_await($pub), 4, qr/0 without an acknowledgement/, 'the publisher');
tool_is(run('x', 'publish', 'news'), 1, qr/refused/, 'nobody listens there');

finish_testing;
