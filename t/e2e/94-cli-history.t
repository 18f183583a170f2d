# liminal history on stores that hold whatever they hold, with nobody running: what people see, what
# scripts get, which bounds it keeps. (E8, H4, H5)
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Encode 'encode_utf8';
use File::Temp 'tempdir';
use Test::More;
use Liminal;
use Liminal::Tool;

my $WRITE = $ENV{LIMINAL_WRITE_HISTORY} || 'build/write-history';
my $T = 1_700_000_000_000_000_000;
my $MS = 1_000_000;
my %KIND = (opened => 1, selected => 2, sent => 3, received => 4, exited => 5, closed => 6);
my %ACTIVITY = ('-' => 0, scheduled => 1, started => 2, completed => 3, failed => 4, retry => 4);

# A directory with a store of STEPS.
sub store (@steps) {
	my $dir = tempdir(CLEANUP => 1);
	open my $write, '|-', $WRITE, $dir or die "$WRITE: $!";
	for my $step (@steps) {
		print $write "garbage $step->{garbage}\n" and next if $step->{garbage};
		my $operations = join ',', map {
			my ($kind, $activity) = split /:/;
			"$KIND{$kind}:$ACTIVITY{$activity}:" . ($activity eq 'retry' ? 1 : 0);
		} @{ $step->{operations} };
		print $write join("\t", map { s/([^\x21-\x24\x26-\x7e])/sprintf '%%%02x', ord $1/ger }
		    map { encode_utf8($_) } (@$step{qw(workflow dispatch step at)}, $step->{ordinal} // '-',
		    $step->{conversation} // 'uuid', $step->{channel} // 'aion.dispatch.default.emails',
		    map { $step->{$_} // '' } qw(type worker message)), $step->{code} // 0),
		    "\t$operations\t", ($step->{result} // '') =~ s/([^\x21-\x24\x26-\x7e])/sprintf '%%%02x', ord $1/ger, "\n";
	}
	close $write or die "$WRITE: $?";
	return $dir;
}

# The steps of a dispatch that goes well, with RESULT.
sub well ($workflow, $dispatch, $ordinal, $at, $result, %more) {
	my %all = (workflow => $workflow, dispatch => $dispatch, ordinal => $ordinal, %more);
	return ({ %all, step => 0, at => $at, type => 'send', operations => ['opened:scheduled'] },
	    { %all, step => 1, at => $at + $MS, worker => 'w#1', operations => ['selected:scheduled', 'sent:started'] },
	    { %all, step => 2, at => $at + 12 * $MS + 345_678, worker => 'w#1', result => $result,
		operations => ['received:completed', 'closed:-'] });
}

my $scratch = tempdir(CLEANUP => 1);
sub history ($dir, @arguments) {
	return tool_await(tool_start($scratch, ['history', '-d', $dir, @arguments], env => { TZ => 'UTC' }));
}
sub rows ($dir, @arguments) {
	my $run = history($dir, '-j', @arguments);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tool_is($run, 0, qr/\A\z/, "@arguments -j") or return;
	return json_of($run);
}

note '-- one workflow';
my $typed = '{"content_type":"application/vnd.aion.dispatch.response+json","worker_id":"w#1","result":' .
    '{"status":"completed","output":{"content_type":"text/plain","data":"HELLO"}}}';
my @retried = (
	{ step => 0, at => $T + 60e9, type => 'send', operations => ['opened:scheduled'] },
	{ step => 1, at => $T + 60e9, worker => 'w#1', operations => ['selected:scheduled', 'sent:started'] },
	{ step => 2, at => $T + 90e9, worker => 'w#1', message => 'killed by signal 9 (SIGKILL)', operations => ['exited:retry'] },
	{ step => 3, at => $T + 90e9, worker => 'w#2', operations => ['selected:scheduled', 'sent:started'] },
	{ step => 4, at => $T + 260e9, worker => 'w#2', message => 'no such address', code => 0x107,
	    operations => ['received:failed', 'closed:-'] });
my $dir = store(
	well('other', 1, 1, $T, 'no'), well('order', 2, 7, $T, $typed),
	(map { { workflow => 'order', dispatch => 4, ordinal => 8, %$_ } } @retried),
	{ workflow => 'order', dispatch => 9, step => 0, at => $T + 3600e9, type => 'send', channel => 'plain',
	    operations => ['opened:scheduled'] },
	{ workflow => 'none', dispatch => 10, step => 0, at => $T, message => 'no workers', code => 0x104,
	    operations => ['opened:scheduled', 'closed:retry'] },
	well('order2', 3, 1, $T, 'no'), well('orde', 5, 1, $T, 'no'));
my $run = history($dir, 'order');
tool_is($run, 0, qr/\A\z/, 'for people');
is $run->{out}, <<'TEXT', 'a head for each dispatch, its operations under it';
7  default/emails  send  completed  2023-11-14T22:13:20.000  12.345ms  uuid
    22:13:20.000     0.000ms  conversation opened  scheduled
    22:13:20.001     1.000ms  worker selected      scheduled       w#1
    22:13:20.001     1.000ms  message sent         started         w#1
    22:13:20.012    12.345ms  message received     completed       w#1  "HELLO" (5 bytes)
    22:13:20.012    12.345ms  conversation closed  -
8  default/emails  send  failed  2023-11-14T22:14:20.000  3m20s  uuid
    22:14:20.000     0.000ms  conversation opened  scheduled
    22:14:20.000     0.000ms  worker selected      scheduled       w#1
    22:14:20.000     0.000ms  message sent         started         w#1
    22:14:50.000     30.000s  worker exited        failed (retry)  w#1  killed by signal 9 (SIGKILL)
    22:14:50.000     30.000s  worker selected      scheduled       w#2
    22:14:50.000     30.000s  message sent         started         w#2
    22:17:40.000       3m20s  message received     failed          w#2  no such address  (reason 0x0107)
    22:17:40.000       3m20s  conversation closed  -
-  plain  send  scheduled (open)  2023-11-14T23:13:20.000  0.000ms  uuid
    23:13:20.000     0.000ms  conversation opened  scheduled
TEXT

is history($dir, 'none')->{out}, <<'TEXT', 'a reason stands with what failed';
-  default/emails  -  failed  2023-11-14T22:13:20.000  0.000ms  uuid
    22:13:20.000     0.000ms  conversation opened  scheduled
    22:13:20.000     0.000ms  conversation closed  failed (retry)  no workers  (reason 0x0104)
TEXT
is_deeply [map { [@$_{qw(reason message)}] } rows($dir, 'none')], [[undef, undef], [0x104, 'no workers']], 'for scripts too';

my @rows = rows($dir, 'order');
is scalar @rows, 5 + 8 + 1, 'an object for each operation';
is_deeply [map { $_->{operation} } @rows[0 .. 4]], [qw(conversation_opened worker_selected message_sent message_received conversation_closed)], 'in order';
is_deeply $rows[3], {
	time => '2023-11-14T22:13:20.012345678Z', dispatch => 2, ordinal => 7, conversation_id => 'uuid',
	channel => 'aion.dispatch.default.emails', activity_type => 'send', operation => 'message_received',
	worker_id => 'w#1', activity_state => 'completed', retry_eligible => undef, reason => undef, message => undef,
	result => $typed }, 'with all that is known, and the answer as it was given';
is_deeply [@{ $rows[0] }{qw(worker_id activity_state)}, exists $rows[0]{result}], [undef, 'scheduled', ''], 'nothing made up';
is_deeply [map { [@$_{qw(operation worker_id retry_eligible reason message activity_state)}] } @rows[8, 11]],
    [['worker_exited', 'w#1', 1, undef, 'killed by signal 9 (SIGKILL)', 'failed'],
     ['message_received', 'w#2', 0, 0x107, 'no such address', 'failed']], 'what failed, and why';
is $rows[13]{ordinal}, undef, 'no ordinal';

note '-- the last ones';
is_deeply [map { $_->{dispatch} } rows($dir, '-n', 1, 'order')], [9], '-n 1';
is_deeply [map { $_->{dispatch} } rows($dir, '--last', 2, 'order')], [(4) x 8, 9], '--last 2';
is scalar @{ [rows($dir, '-n', 3, 'order')] }, 14, 'as many as there are';
is scalar @{ [rows($dir, '-n', 65536, 'order')] }, 14, 'or fewer than asked for';

note '-- all workflows';
$run = history($dir);
is $run->{out}, <<'TEXT', 'for people';
DISPATCHES  FIRST                LAST                 WORKFLOW_ID
         1  2023-11-14T22:13:20  2023-11-14T22:13:20  none
         1  2023-11-14T22:13:20  2023-11-14T22:13:20  orde
         3  2023-11-14T22:13:20  2023-11-14T23:13:20  order
         1  2023-11-14T22:13:20  2023-11-14T22:13:20  order2
         1  2023-11-14T22:13:20  2023-11-14T22:13:20  other
TEXT
is_deeply [(rows($dir))[2]], [{ workflow_id => 'order', dispatches => 3,
	first => '2023-11-14T22:13:20.000Z', last => '2023-11-14T23:13:20.000Z' }], 'for scripts';

note '-- its tables';
my @dumped = json_of(tool_await(tool_start($scratch, ['dump', '-j', '-p', $dir])));
is_deeply { map { $_->{table} => 1 } @dumped }, { history => 1, workflows => 1, meta => 1 }, 'dump -p';
is scalar(grep { $_->{table} eq 'history' } @dumped), 3 * 4 + 5 + 1 + 1, 'every step';
is_deeply [map { @$_{qw(dispatch step operations worker_id ordinal result_bytes code time)} } grep { $_->{table} eq 'history' && $_->{dispatch} == 4 } @dumped],
    [4, 0, 'conversation opened', undef, 8, 0, 0, '2023-11-14T22:14:20.000Z', 4, 1, 'worker selected, message sent', 'w#1', 8, 0, 0, '2023-11-14T22:14:20.000Z',
     4, 2, 'worker exited', 'w#1', 8, 0, 0, '2023-11-14T22:14:50.000Z', 4, 3, 'worker selected, message sent', 'w#2', 8, 0, 0, '2023-11-14T22:14:50.000Z',
     4, 4, 'message received, conversation closed', 'w#2', 8, 0, 0x107, '2023-11-14T22:17:40.000Z'], 'decoded';
is_deeply [json_of(tool_await(tool_start($scratch, ['dump', '-j', '--persist-dir', $dir, 'workflows'])))],
    [map { { table => 'workflows', kind => 'dispatch', workflow_id => $_->[0], dispatch => $_->[1], time => $_->[2] // '2023-11-14T22:13:20.000Z' } }
	['none', 10], ['orde', 5], ['order', 2], ['order', 4, '2023-11-14T22:14:20.000Z'], ['order', 9, '2023-11-14T23:13:20.000Z'], ['order2', 3], ['other', 1]],
    'one table';
tool_is(tool_await(tool_start($scratch, ['dump', '-p', $dir, 'pushes'])), 2, qr/no table.*history workflows/, 'the store has tables of its own');
tool_is(tool_await(tool_start($scratch, ['dump', 'history'])), 2, qr/no table/, 'and the state others');

note '-- what is not there';
tool_is(history($dir, 'ord'), 1, qr/no record of workflow "ord"/, 'an unknown workflow');
tool_is(history($dir, 'order%'), 1, qr/no record/, 'another');
tool_is(history($dir, ''), 1, qr/no record/, 'no name');
tool_is(history($dir, 'x' x 256), 1, qr/no record/, 'a name that cannot be');
tool_is(history($dir, "\e[31m"), 1, qr/no record of workflow "\\\^\[\[31m"/, 'and one that is no text');
tool_is(history("$dir/none", 'order'), 1, qr/none.*persist_dir/s, 'no such directory');
tool_is(history($scratch, 'order'), 1, qr/persist_dir/, 'no store in it');
is_deeply [rows(store())], [], 'an empty one';
$run = tool_await(tool_start($scratch, ['history', 'order'], env => { LIMINAL_PERSIST_DIR => $dir }));
tool_is($run, 0, qr/\A\z/, 'LIMINAL_PERSIST_DIR');
$run = tool_await(tool_start($scratch, ['history', 'order'], env => { LIMINAL_RUNTIME_DIR => $dir, LIMINAL_PERSIST_DIR => "$dir/none" }));
tool_is($run, 1, qr/none/, 'and not LIMINAL_RUNTIME_DIR');
tool_is(history($dir, @$_), 2, qr/./, "wrong: history @$_") for ['-n', 0, 'order'], ['-n', 'x', 'order'], ['-n', 1], ['a', 'b'], ['-x'];

note '-- hostile content';
my $nasty = "\e[31m\n\"\\\x{7f}ünï";
my $bytes = join '', map chr, 0 .. 255;
$dir = store(well($nasty, 1, 1, $T, $bytes, conversation => $nasty, channel => "aion.dispatch.$nasty.q",
	worker => $nasty, message => $nasty));
$run = history($dir, encode_utf8($nasty));
tool_is($run, 0, qr/\A\z/, 'a workflow with any name');
unlike $run->{out}, qr/[^\x20-\x7e\n]/, 'people see nothing that a terminal would obey';
is scalar(() = $run->{out} =~ /\n/g), 6, 'a line for each operation and one for the head';
like $run->{out}, qr/\.\.\." \(256 bytes\)$/m, 'of a result: how it begins, and its size';
unlike history($dir)->{out}, qr/[^\x20-\x7e\n]/, 'nor in the list';
@rows = rows($dir, encode_utf8($nasty));
is_deeply [@{ $rows[3] }{qw(conversation_id worker_id channel)}, $rows[4]{message}], [$nasty, 'w#1', "aion.dispatch.$nasty.q", $nasty], 'scripts get what it was';
ok !exists $rows[3]{result}, 'a result that is no text';
require MIME::Base64;
is $rows[3]{result_base64}, MIME::Base64::encode($bytes, ''), 'comes in base64';

note '-- rows that do not read back';
$dir = store(well('order', 2, 7, $T, 'x'), { garbage => 'order' });
$run = history($dir, '-j', 'order');
tool_is($run, 1, qr/1 rows do not read back/, 'are counted');
is scalar(() = $run->{out} =~ /\n/g), 5, 'and the others shown';

note '-- a long one, and nobody who reads on';
$dir = store(map { well('long', $_, $_, $T + $_ * $MS, 'r' x 2000) } 1 .. 3000);
@rows = rows($dir, 'long');
is scalar @rows, 15000, 'every operation';
is_deeply [map { $_->{ordinal} } @rows[0, 5, 14999]], [1, 2, 3000], 'each once, in order';
is scalar(() = history($dir, 'long')->{out} =~ /^\d+  default/mg), 3000, 'every head';
is_deeply [map { $_->{dispatch} } rows($dir, '-n', 2, 'long')], [(2999) x 5, (3000) x 5], 'the last two';
pipe my $read, my $write or die;
my $tool = tool_start($scratch, ['history', '-d', $dir, '-j', 'long'], stdout => $write);
close $write;
sysread $read, my $some, 1000;
wait_until(sub {
	my $held = pack 'i', 0;
	ioctl $read, 0x541B, $held or die "FIONREAD: $!";
	return unpack('i', $held) > 32768 && Liminal::Daemon::slurp("/proc/$tool->{pid}/stat") =~ /\) S /;
}, 'it waits for its reader');
is scalar(() = `mdb_stat -r $dir/store` =~ /^ +\d+ [0-9a-f]+ (?!-)/mg), 0, 'and holds no transaction';
close $read;
tool_await($tool);
isnt $tool->{exit}, 0, 'a reader that goes away ends it';

done_testing;
