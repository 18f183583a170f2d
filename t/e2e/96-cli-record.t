# liminal history and dump on the record of a real daemon: while it runs, while it hangs, and after
# its end. (E8, H4, H5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;

my $d = Liminal::Daemon->start(name => 'recorded', conf => 'dispatch { record = true }');
my @store = ('-d', $d->dir . '/persist');
my %env = (env => { LIMINAL_SERVER => $d->address, LIMINAL_RUNTIME_DIR => $d->dir . '/run' });
sub run (@arguments) { return tool_await(tool_start($d->dir, [@arguments], %env)) }
sub rows (@arguments) {
	my $run = run('history', @store, '-j', @arguments);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tool_is($run, 0, qr/\A\z/, "history -j @arguments");
	return json_of($run);
}

is_deeply [rows()], [], 'nothing is recorded yet';
tool_is(run('history', @store, 'order'), 1, qr/no record of workflow "order"/, 'of no workflow');
my $work = tool_start($d->dir, ['work', '-i', 'w', 'default/emails', '--', 'sh', '-c',
    'echo ran >&2; read x; test "$x" = bad && exit 3; echo "did $x"'], %env);
wait_until(sub { Liminal::Daemon::slurp("$work->{base}.err") =~ /serving/ }, 'a worker serves');
sub dispatch ($ordinal, $input, @more) {
	open my $stdin, '+>', undef or die;
	print $stdin $input;
	seek $stdin, 0, 0;
	return tool_await(tool_start($d->dir, ['dispatch', '-w', 'order', '-o', $ordinal, @more, 'default/emails', 'send'], %env, stdin => $stdin));
}
sub times_run { return scalar(() = Liminal::Daemon::slurp("$work->{base}.err") =~ /^ran$/mg) }
is dispatch(1, "one\n")->{out}, "did one\n", 'an activity';
tool_is(dispatch(2, "bad\n"), 1, qr/exit status 3/, 'one that fails');
is dispatch(1, "one\n")->{out}, "did one\n", 'the first again';
tool_is(dispatch(2, "bad\n"), 1, qr/exit status 3/, 'the second again');
is times_run(), 2, 'the worker has seen each once';

sub look ($how) {
	my @rows = rows('order');
	is_deeply [map { "$_->{ordinal} $_->{operation}" } @rows], [map { my $n = $_;
		map { "$n $_" } qw(conversation_opened worker_selected message_sent message_received conversation_closed)
	} 1, 2], "$how: its operations, and none of what came from the record";
	is_deeply [map { $_->{activity_state} } grep { $_->{operation} eq 'message_received' } @rows], ['completed', 'failed'], 'how they ended';
	like $rows[3]{result}, qr/did one/, 'the result';
	like $rows[8]{message}, qr/exit status 3/, 'the reason';
	is scalar(grep { $_->{activity_type} ne 'send' || $_->{channel} ne 'aion.dispatch.default.emails' } @rows), 0, 'of what';
	is scalar(grep { ($_->{worker_id} // '') !~ /^w#\d+$/ } @rows[1 .. 3]), 0, 'by whom';
	is_deeply [map { $_->{ordinal} } rows('-n', 1, 'order')], [(2) x 5], 'the last one';
	like run('history', @store, 'order')->{out}, qr/^1  default\/emails  send  completed .*^2  default\/emails  send  failed /ms, 'for people';
	is_deeply [map { [@$_{qw(workflow_id dispatches)}] } rows()], [['order', 2]], 'the list';
	return;
}
look('while it runs');
wait_until(sub { (json_of(run('status', '-j')))[0]{store_pid} }, 'who writes it: the keeper tells within a second');
my %tables;
push @{ $tables{$_->{table}} }, $_ for json_of(run('dump', '-j', '-p', $store[1]));
is scalar(grep { $_->{unreadable} } map { @$_ } values %tables), 0, 'every row of the store reads back';
is_deeply [sort map { "$_->{kind} " . ($_->{ordinal} // '-') } @{ $tables{workflows} }], ['dispatch -', 'dispatch -', 'outcome 1', 'outcome 2'], 'dispatches and outcomes';
is_deeply [map { @$_{qw(workflow_id ordinal)} } @{ $tables{closed} }], ['order', 1, 'order', 2], 'what retention will forget';
is_deeply $tables{open} // [], [], 'nothing is open';
is scalar(grep { $_->{next_dispatch} } @{ $tables{meta} }), 1, 'and how far it has come';

kill STOP => $d->pid, map { $_->{pid} } $d->children;
look('while it hangs');
kill CONT => $d->pid, map { $_->{pid} } $d->children;
kill TERM => $work->{pid};
tool_await($work);
$d->stop;
look('when it has ended');

$d->finish;
done_testing;
