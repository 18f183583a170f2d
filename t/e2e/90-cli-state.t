# The subcommands that read the state: what they show of a busy daemon, of one that hangs, and
# of one that is dead. (A2, A3, D4, E7, H4, H5)
use v5.36;
use utf8;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Encode 'encode_utf8';
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my @LISTINGS = qw(status connections workers pools pushes conversations channels top dump);
my $RFC3339 = qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/;

# The rows of a listing, as the objects of its JSON.
sub rows ($d, @arguments) {
	my $run = tool($d, @arguments, '-j');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tool_is($run, 0, qr/\A\z/, "@arguments -j") or return;
	return json_of($run);
}

sub keys_of ($row) { return join ' ', sort keys %$row }

note '-- an empty daemon';
my $d = Liminal::Daemon->start(name => 'looked at');
wait_until(sub { (json_of(tool($d, 'status', '-j')))[0]{master_pid} }, 'the keeper has begun');
is_deeply [rows($d, $_)], [], "no $_" for qw(connections workers pools pushes conversations channels);
my $run = tool($d, 'connections');
is $run->{out}, "CONN_ID  PID  ROLE  STATE  SINCE  PEER\n", 'a heading above nothing';

note '-- a busy one';
my $hostile = "id\e[31m\n\"\\\x{7f}ünï#";
my $worker = $d->worker(name => 'w', namespaces => ['one', 'two'], queue => 'jobs',
    node => 'here', types => ['a', 'b'], identity => encode_utf8($hostile));
my $any = $d->worker(name => 'any', namespaces => ['one'], queue => 'other');
my $caller = $d->client(name => 'caller');
$caller->open(18446744073709551615, 'aion.dispatch.one.other');
$caller->open(2, 'aion.dispatch.one.other')->open(3, encode_utf8("écho\n\0"));
$caller->open(4, 'liminal.connection.' . $d->conn_id_of($worker));
$caller->ask($_, 'payload') for 18446744073709551615, 2, 4;
my $push = $any->expect('Push');
my $direct = $worker->expect('Push');
$caller->barrier;
my ($w, $a, $c) = map { $d->conn_id_of($_) } $worker, $any, $caller;

my @rows = rows($d, 'connections');
is keys_of($rows[0]), 'conn_id live peer pid role since state', 'keys of a connection';
is_deeply [map { $_->{conn_id} } @rows], [$w, $a, $c], 'in the order of their ids';
is_deeply [map { $_->{role} } @rows], [qw(worker worker client)], 'roles';
is_deeply [map { $_->{pid} } @rows], [map { $d->pid_of($_) } $worker, $any, $caller], 'pids';
is_deeply [map { "$_->{state} $_->{live}" } @rows], [('live 1') x 3], 'they live';
is $rows[0]{peer}, '127.0.0.1:' . $worker->local_port, 'peer';
like $rows[0]{since}, $RFC3339, 'since';

@rows = rows($d, 'workers');
is scalar @rows, 2, 'two workers';
is keys_of($rows[0]), join(' ', sort qw(conn_id pid peer role since state live worker_id identity
    namespaces task_queue node activity_types in_flight max_concurrent registered)), 'keys of a worker';
is $rows[0]{identity}, $hostile, 'an identity is what was sent';
is $rows[0]{worker_id}, "$hostile#$w", 'worker id';
is_deeply [@{ $rows[0] }{qw(namespaces task_queue node activity_types in_flight max_concurrent)}],
    [['one', 'two'], 'jobs', 'here', ['a', 'b'], 0, 1], 'what it declared';
is_deeply [@{ $rows[1] }{qw(namespaces task_queue node activity_types in_flight)}],
    [['one'], 'other', undef, [], 1], 'the other one';
$run = tool($d, 'workers');
unlike $run->{out}, qr/[^\x20-\x7e\n]/, 'people see nothing that a terminal would obey';
is scalar(() = $run->{out} =~ /\n/g), 3, 'a line each';

@rows = rows($d, 'pools');
is_deeply [map { delete $_->{oldest_pending_ms}; $_ } grep { $_->{pending} } @rows],
    [{ pool => 'one/other', workers => 1, in_flight => 1, pending => 1 }], 'a pool with a queue';
is_deeply [grep { !$_->{pending} } @rows],
    [map { { pool => "$_/jobs", workers => 1, in_flight => 0, pending => 0, oldest_pending_ms => undef } } qw(one two)],
    'pools without; a push to a connection is no job';
my ($age) = map { $_->{oldest_pending_ms} } grep { $_->{pending} } rows($d, 'pools');
wait_until(sub { ((rows($d, 'pools'))[1]{oldest_pending_ms} // 0) > $age }, 'what waits gets older');

@rows = rows($d, 'pushes');
is keys_of($rows[0]), 'age_ms awaiter correlation_id kind target', 'keys of a push';
is_deeply [map { [@$_{qw(target awaiter kind correlation_id)}] } @rows],
    [[$w, $c, 'direct', $direct->{correlation}], [$a, $c, 'job', $push->{correlation}]], 'pushes';
ok !(grep { $_->{age_ms} < 0 || $_->{age_ms} > 600_000 } @rows), 'their ages';

@rows = rows($d, 'conversations');
is keys_of($rows[0]), 'conn_id conversation_id participant phase pid since subject target uuid', 'keys of a conversation';
is_deeply [map { [@$_{qw(conn_id conversation_id subject phase participant target)}] } @rows], [
	[$c, 2, 'aion.dispatch.one.other', 'active', 'pool', undef],
	[$c, 3, "écho\n\0", 'created', 'echo', undef],
	[$c, 4, "liminal.connection.$w", 'active', 'connection', $w],
	[$c, 18446744073709551615, 'aion.dispatch.one.other', 'active', 'pool', undef],
], 'conversations, in the order of their ids';

my $status;
wait_until(sub { ($status) = json_of(tool($d, 'status', '-j')); $status->{queued} }, 'counters arrive');
is_deeply [@$status{qw(running master_pid connections workers pools in_flight pending pushes conversations)}],
    [1, $d->pid, 3, 2, 3, 1, 1, 2, 4], 'status: the numbers';
is_deeply [@$status{qw(dispatched pushes_sent completed failed connections_accepted)}],
    [2, 2, 0, 0, 3], 'and the counters';
ok exists $status->{store_fault} && !defined $status->{store_fault}, 'nothing is wrong with the store';
is $status->{keeper_pid}, $d->keeper_pid, 'the keeper';
ok exists $status->{"${_}_pid"} && !defined $status->{"${_}_pid"}, "no $_ runs" for qw(notifier router);
$run = tool($d, 'status');
like $run->{out}, qr/^running +yes\n.*^in_flight +1\n/ms, 'for people';

note '-- dump';
my @all = rows($d, 'dump');
my %tables;
push @{ $tables{$_->{table}} }, $_ for @all;
my $counts = $d->mdb_counts;
is_deeply { map { $_ => scalar @{ $tables{$_} // [] } } grep { !/counters|inbox/ } keys %$counts },
    { map { $_ => $counts->{$_} } grep { !/counters|inbox/ } keys %$counts }, 'every row, decoded';
ok !(grep { $_->{unreadable} } @all), 'all of them';
is_deeply [map { $_->{pid} } @{ $tables{connections} }], [map { $d->pid_of($_) } $worker, $any, $caller], 'connections';
is $tables{workers}[0]{identity}, $hostile, 'workers';
is_deeply [map { $_->{payload_bytes} } @{ $tables{pushes} }], [7, 7], 'payloads by their sizes';
is_deeply [@{ $tables{pending}[0] }{qw(awaiter payload_bytes typed)}], [$c, 7, 0], 'pending';
my %pools = map { $_->{pool_id} => $_->{pool} } grep { $_->{pool} } @{ $tables{counters} };
is_deeply [sort map { "$pools{$_->{pool_id}} $_->{conn_id} $_->{in_flight}" } @{ $tables{pool} }],
    [sort "one.jobs $w 0", "two.jobs $w 0", "one.other $a 1"], 'pool';
is_deeply [map { delete $_->{age_ms}; $_ } rows($d, 'dump', 'pushes')],
    [map { delete $_->{age_ms}; $_ } @{ $tables{pushes} }], 'one table';
$run = tool($d, 'dump', 'workers');
unlike $run->{out}, qr/[^\x20-\x7e\n]/, 'people see nothing that a terminal would obey';
like $run->{out}, qr/\Aworkers conn_id=$w identity=".*" namespaces=one,two task_queue=jobs /, 'as pairs';

note '-- usage';
tool_is(tool($d, $_, '-h'), 0, qr/\A\z/, "$_ -h") for @LISTINGS, qw(crash close drain);
tool_is(tool($d, $_, 'extra', 'words'), 2, qr/usage/, "$_ with too much") for @LISTINGS;
tool_is(tool($d, 'dump', 'nonsense'), 2, qr/no table "nonsense".*connections/, 'no such table');
tool_is(tool($d, 'workers', '-x'), 2, qr/no option -x/, 'no such option');
$run = tool_await(tool_start($d->dir, ['status', '-j'], env => { LIMINAL_RUNTIME_DIR => $d->dir . '/run' }));
tool_is($run, 0, qr/\A\z/, 'LIMINAL_RUNTIME_DIR');
is ((json_of($run))[0]{master_pid}, $d->pid, 'names the directory');

note '-- top, not for a terminal and for one';
$run = tool($d, 'top');
like $run->{out}, qr/\Aliminald .*running.*\nconnections 3 .*\n\nPOOL.*\none\/other +1 +1 +1 .*\n\nCONN_ID.*\n +$a /s, 'one picture, the busiest first';
unlike $run->{out}, qr/[^\x20-\x7e\n]/, 'in plain text';
SKIP: {
	skip 'no script(1)', 5 if !grep { -x "$_/script" } split /:/, $ENV{PATH};
	pipe my $keys_in, my $keys or die "pipe: $!";
	my $command = "stty rows 20 cols 60; $Liminal::Tool::PROGRAM top -d $d->{dir}/run";
	$run = tool_start($d->dir, ['-qec', $command, '/dev/null'], program => ['script'],
	    stdin => $keys_in, env => { TERM => 'xterm', SHELL => '/bin/sh' });
	my $seen = sub { Liminal::Daemon::slurp("$run->{base}.out") };
	wait_until(sub { () = $seen->() =~ /\e\[H/g; (() = $seen->() =~ /\e\[H/g) >= 2 }, 'top draws again and again');
	syswrite $keys, 'q';
	tool_await($run);
	is $run->{exit}, 0, 'q quits';
	like $run->{out}, qr/\e\[\?1049h.*\e\[\?1049l/s, 'and gives the screen back';
	my ($last) = $run->{out} =~ /.*\e\[H(.*?)\e\[J/s;
	my @lines = split /\e\[K\r*\n/, $last;
	cmp_ok scalar @lines, '<', 20, 'no more lines than there is room for';
	ok !(grep { length > 60 } @lines), 'nor longer ones';
}

note '-- a daemon that hangs: its state as it was when it stopped';
kill STOP => $d->pid, $d->keeper_pid;
kill STOP => $d->pid_of($caller);
$any->reply($push, 'answer');
wait_until(sub { rows_in($d, 'inbox') }, 'an answer that the stopped caller does not fetch');
kill STOP => map { $_->{pid} } $d->children;
sub rows_in ($d, $table) { return $d->mdb_counts->{$table} }
is_deeply [map { [@$_{qw(conn_id kind from body_bytes)}] } grep { $_->{kind} eq 'reply' } rows($d, 'dump', 'inbox')],
    [[$c, 'reply', $a, 6]], 'dump inbox';
for (@LISTINGS) {
	tool_is(tool($d, $_, '-j'), 0, qr/\A\z/, "$_ -j");
	tool_is(tool($d, $_), 0, qr/\A\z/, $_);
}
is_deeply [map { "$_->{state} $_->{live}" } rows($d, 'connections')], [('stopped 1') x 3], 'they are stopped';

note '-- a dead one';
kill KILL => map { $_->{pid} } $d->children;
$d->kill9;
wait_until(sub { !$d->processes }, 'all are dead');
for (@LISTINGS) {
	tool_is(tool($d, $_, '-j'), 0, qr/no liminald is running on \S+; this is what the last one left\n\z/, "$_ -j: what was left");
}
@rows = json_of(tool($d, 'connections', '-j'));
is_deeply [map { "$_->{conn_id} $_->{state} $_->{live}" } @rows], [map { "$_ ended 0" } $w, $a, $c], 'connections that ended';
is ((json_of(tool($d, 'status', '-j')))[0]{running}, 0, 'not running');
like tool($d, 'top')->{out}, qr/NOT RUNNING/, 'top says so';
my $again = Liminal::Daemon->start(name => 'again', dir => $d->dir);
is_deeply [rows($again, 'connections')], [], 'looking does not hinder the next one';
$again->finish;

note '-- nothing to look at';
mkdir $d->dir . '/empty', 0700;
for (@LISTINGS) {
	tool_is(tool_await(tool_start($d->dir, [$_, '-d', $d->dir . '/empty'])), 1, qr/cannot open the state/, "$_ of an empty directory");
	tool_is(tool_await(tool_start($d->dir, [$_, '-d', $d->dir . '/absent'])), 1, qr/runtime_dir/, "$_ of none");
}
is_deeply [glob $d->dir . '/empty/*'], [], 'and nothing is created there';
SKIP: {
	my @nobody = $> == 0 ? qw(setpriv --reuid=65534 --regid=65534 --clear-groups) : ();
	my @program = (@nobody, $Liminal::Tool::PROGRAM);
	skip 'nobody cannot run the tool', 2 if system("@program -V >/dev/null 2>&1") != 0;
	chmod 0, $d->dir . '/empty';
	for ('connections', 'drain') {
		tool_is(tool_await(tool_start($d->dir, [$_, '-d', $d->dir . '/empty'], program => \@program)), 1, qr/Permission denied/, "$_ without permission");
	}
}

finish_testing;
