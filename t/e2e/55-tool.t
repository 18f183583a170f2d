# The command line tool as a person and a script use it: what it prints, how it exits, and
# what becomes of a worker's programs. (H5, E2, E5, E6, F2)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use POSIX ':sys_wait_h';
use Test::More;
use Liminal;
use Liminal::Wire;

my $TOOL = $ENV{LIMINAL} || 'build/liminal';
my $SRC = $ENV{LIMINAL_SRCDIR} || "$FindBin::Bin/../..";
my $BOUND = 30;
my ($d, $n, %running);

sub slurp ($path) { return Liminal::Daemon::slurp($path) }

# Run the tool in the background with INPUT; its standard output and error go to files.
sub start ($input, @arguments) {
	my $base = $d->dir . '/tool' . ++$n;
	open my $in, '>:raw', "$base.in" or die "$base.in: $!";
	print $in $input;
	close $in;
	defined(my $pid = fork) or die "fork: $!";
	if (!$pid) {
		setpgrp;
		open STDIN, '<', "$base.in" or POSIX::_exit(99);
		open STDOUT, '>', "$base.out" or POSIX::_exit(99);
		open STDERR, '>', "$base.err" or POSIX::_exit(99);
		$ENV{LIMINAL_SERVER} //= $d->address;
		exec $TOOL, @arguments or POSIX::_exit(99);
	}
	$running{$pid} = 1;
	return { pid => $pid, base => $base, name => "@arguments" };
}

# Its exit status (256 + signal), or undef when it does not end.
sub await ($tool) {
	Liminal::Daemon::poll_until(sub {
		$tool->{status} = $? if !defined $tool->{status} && waitpid($tool->{pid}, WNOHANG) == $tool->{pid};
		defined $tool->{status} }, $BOUND) or return undef;
	delete $running{$tool->{pid}};
	return $tool->{status} & 127 ? 256 + ($tool->{status} & 127) : $tool->{status} >> 8;
}

sub out ($tool) { return slurp("$tool->{base}.out") }
sub err ($tool) { return slurp("$tool->{base}.err") }

# Three TAP results: EXIT, OUT and ERR (a pattern) of a run with INPUT.
sub run_is ($input, $arguments, $exit, $out, $err, $name) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $tool = start($input, @$arguments);
	is await($tool), $exit, "$name: exit $exit" or diag err($tool);
	ok out($tool) eq $out, "$name: output" or diag substr out($tool), 0, 200;
	like err($tool), $err, "$name: messages";
	return;
}

# A worker that serves.
sub work (@arguments) {
	my $tool = start('', 'work', @arguments);
	wait_until(sub { err($tool) =~ /serving/ }, "work @arguments serves") or diag err($tool);
	return $tool;
}

sub end_work ($tool) {
	kill TERM => $tool->{pid};
	is await($tool), 0, "work ends by TERM: $tool->{name}";
	return;
}

END { local $?; kill KILL => $_ for keys %running; }

$d = Liminal::Daemon->start(name => 'tool');

note '-- usage';
run_is('', [], 2, '', qr/dispatch.*work/s, 'no subcommand');
run_is('', ['nonsense'], 2, '', qr/nonsense/, 'an unknown one');
for (['ping', '-x'], ['ping', 'extra'], ['ping', '-t', 'soon'], ['dispatch'], ['dispatch', 'a'], ['dispatch', 'a/b.c'],
    ['dispatch', '--node', 'n', 'a/b'], ['dispatch', '--node-required', 'a/b', 't'],
    ['dispatch', '-R', 'a/b', 't'], ['dispatch', '-o', '1', 'a/b', 't'], ['dispatch', '--ordinal', '1', 'a/b', 't'],
    ['dispatch', '-w', 'wf', '-o', '-1', 'a/b', 't'], ['dispatch', '-w', 'wf', '-o', 'x', 'a/b', 't'], ['dispatch', '-w', 'wf', 'a/b'], ['dispatch', '-N', 'n', 'a/b'], ['push', 'one'], ['push', '0'], ['ask'],
    ['work', 'a/b'], ['work', 'a/b', '-n', '0', '--', 'cat'], ['ping', '-s', 'nowhere']) {
	run_is('', $_, 2, '', qr/./, "wrong: @$_");
}
my $help = start('', 'dispatch', '-h');
is await($help), 0, 'help is no failure';
like out($help), qr/--schedule-to-close.*--node/s, 'and tells of the options';

note '-- the daemon';
my $ping = start('', 'ping', '-j');
is await($ping), 0, 'ping';
like out($ping), qr/"round_trip_us":\d+\}\n\z/, 'and how fast';
{
	local $ENV{LIMINAL_SERVER} = '127.0.0.1:1';
	run_is('', ['ping'], 1, '', qr/refused/, 'nobody listens there');
}
run_is("any\0bytes", ['ask', 'some/thing'], 0, "any\0bytes", qr/\A\z/, 'ask is echoed');

note '-- dispatch and work';
run_is('x', ['dispatch', 'test/none'], 1, '', qr/NoWorkersAvailable/, 'no worker');
my $upper = work('test/emails', '--', "$SRC/contrib/examples/upper");
run_is("hello\n", ['dispatch', 'test/emails'], 0, "HELLO\n", qr/\A\z/, 'opaque');
run_is("hello\n", ['dispatch', 'test/emails', 'greet'], 0, "HELLO\n", qr/\A\z/, 'typed');
run_is("hello\n", ['dispatch', '-j', 'test/emails', 'greet'], 0, qq({"status":"completed","payload":"HELLO\\n"}\n), qr/\A\z/, 'as JSON');
end_work($upper);
my $cat = work('test/cat', '-n', '4', '--', 'cat');
my $big = join '', map { chr int rand 256 } 1 .. 2_000_000;
run_is($big, ['dispatch', 'test/cat'], 0, $big, qr/\A\z/, '2 MB opaque');
run_is($big, ['dispatch', 'test/cat', 't'], 0, $big, qr/\A\z/, '2 MB typed');
my @many = map { start("job $_", 'dispatch', 'test/cat') } 1 .. 20;
is_deeply [map { await($_) . out($_) } @many], [map { "0job $_" } 1 .. 20], 'twenty at a time, each gets its own';
end_work($cat);

note '-- programs that fail';
my $fails = work('test/fails', '-j', '-l', '2s', '--', 'sh', '-c', <<'PROGRAM');
read how
echo "about to $how" >&2
case $how in
status) exit 3 ;;
signal) kill -SEGV $$ ;;
endless) exec yes ;;
slow) exec sleep 100 ;;
background) sleep 100 & echo done ;;
closed) exec >/dev/null 2>&1; sleep 0.2 ;;
type) echo "$LIMINAL_ACTIVITY_TYPE $LIMINAL_WORKFLOW_ID $LIMINAL_ORDINAL" ;;
esac
PROGRAM
run_is("status\n", ['dispatch', 'test/fails', 't'], 1, '', qr/failed activity: exit status 3: about to status/, 'status');
run_is("signal\n", ['dispatch', 'test/fails', 't'], 1, '', qr/killed by signal 11 \(SIGSEGV\)/, 'signal');
run_is("endless\n", ['dispatch', 'test/fails', 't'], 1, '', qr/larger than a frame/, 'endless output');
run_is("slow\n", ['dispatch', 'test/fails', 't'], 1, '', qr/took too long/, 'over its limit');
run_is("background\n", ['dispatch', 'test/fails', 't'], 0, "done\n", qr/\A\z/, 'a pipe held open by another process');
run_is("closed\n", ['dispatch', 'test/fails', 't'], 0, '', qr/\A\z/, 'output closed at once');
run_is("type\n", ['dispatch', '--workflow-id', 'wf', '--ordinal', '7', 'test/fails', 'sing'], 0, "sing wf 7\n", qr/\A\z/, 'what it is told of the activity');
run_is("status\n", ['dispatch', 'test/fails'], 0, '', qr/\A\z/, 'opaque: an empty reply');
like err($fails), qr/^about to status\n/m, 'standard error is passed on';
like err($fails), qr/job \d+ failed: exit status 3/, 'and the failure reported';
is scalar(() = out($fails) =~ /"status":"completed"/g), 3, 'one line of JSON for each';
end_work($fails);
my $deaf = work('test/deaf', '--', 'true');
run_is($big, ['dispatch', 'test/deaf', 't'], 0, '', qr/\A\z/, 'a program that does not read its input');
end_work($deaf);
run_is('', ['work', 'test/q', '--', '/nonexistent/program'], 1, '', qr/nonexistent/, 'no such program');

note '-- time';
my $slow = work('test/slow', '--', 'sh', '-c', 'sleep 1; cat');
run_is('x', ['dispatch', '--schedule-to-close', '200ms', 'test/slow', 't'], 3, '', qr/timed out/, 'the daemon\'s time is over');
run_is('x', ['dispatch', '-t', '200ms', 'test/slow'], 3, '', qr/timed out/, 'the tool\'s time is over');
end_work($slow);

note '-- push';
my $target = $d->client(name => 'target');
my $push = start('ping?', 'push', $d->conn_id_of($target));
$target->reply($target->expect('Push', { payload => 'ping?' }), 'pong!');
is await($push), 0, 'push: replied';
is out($push), 'pong!', 'with these bytes';
$push = start('ping?', 'push', $d->conn_id_of($target));
$target->expect('Push');
$target->hang_up;
is await($push), 4, 'push: the connection ended';
run_is('x', ['push', '999999'], 4, '', qr/./, 'push: nobody there');

note '-- leaving';
my $first = work('test/leave', '-n', '2', '--', 'sh', '-c', 'echo begun >&2; sleep 1; cat');
my $job = start('finish me', 'dispatch', 'test/leave', 't');
wait_until(sub { err($first) =~ /begun/ }, 'a job runs');
kill TERM => $first->{pid};
wait_until(sub { err($first) =~ /finishing 1 job/ }, 'TERM lets it finish');
run_is('x', ['dispatch', 'test/leave'], 1, '', qr/NoWorkersAvailable/, 'while nothing new is taken');
is await($job), 0, 'the job is done';
is out($job), 'finish me', 'with its result';
is await($first), 0, 'and the worker gone';

my $program = 'echo begun >&2; test -e "$0" || { touch "$0"; exec sleep 100; }; cat';
for my $how ('two signals', 'KILL') {
	my $mark = $d->dir . '/mark' . ++$n;
	my $one = work('test/again', '--', 'sh', '-c', $program, $mark);
	$job = start('again', 'dispatch', 'test/again', 't');
	wait_until(sub { -e $mark }, "$how: a job hangs");
	my $two = work('test/again', '--', 'sh', '-c', $program, $mark);
	if ($how eq 'KILL') {
		kill KILL => $one->{pid};
		is await($one), 256 + 9, 'KILL: the worker is dead';
	} else {
		kill TERM => $one->{pid};
		wait_until(sub { err($one) =~ /finishing/ }, "$how: it waits");
		kill TERM => $one->{pid};
		is await($one), 1, "$how: it gives up";
	}
	is await($job), 0, "$how: another worker does it";
	is out($job), 'again', "$how: one result";
	end_work($two);
}

note '-- the daemon goes';
my $mark = $d->dir . '/last';
my $orphan = work('test/orphan', '--', 'sh', '-c', 'trap "echo ended >&2; exit 1" TERM; touch "$0"; sleep 100 & wait', $mark);
$job = start('x', 'dispatch', 'test/orphan', 't');
wait_until(sub { -e $mark }, 'a job runs');
$d->kill9;
is await($orphan), 4, 'a worker without its daemon exits';
like err($orphan), qr/^ended$/m, 'its program was told';
is await($job), 4, 'so does the caller';

note '-- a token';
$d = Liminal::Daemon->start(name => 'token', env => { LIMINAL_AUTH_TOKEN => 'sesame' });
$d->expect_log(qr/authentication failed/);
my $file = $d->dir . '/token-file';
for (["sesame\n", 0], ['sesame', 0], ["sesame\n\n", 1], ['', 1]) {
	my ($content, $exit) = @$_;
	open my $out, '>', $file or die "$file: $!";
	print $out $content;
	close $out;
	is await(start('', 'ping', '-T', $file)), $exit, 'token file of ' . length($content) . " bytes: exit $exit";
}
run_is('', ['ping', '-T', "$file.absent"], 1, '', qr/absent/, 'no token file');

finish_testing;
