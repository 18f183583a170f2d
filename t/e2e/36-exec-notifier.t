# exec.so runs a program per event, as liminal-exec-notifier(8) says; the example in contrib, built
# from the installed header alone, reads a list. (C5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $MODULES = $ENV{LIMINAL_MODULES} || 'build/t/modules';
my $EXEC = Liminal::Daemon->program =~ s{[^/]*$}{notifier/exec.so}r;

# Writes down what it gets, then does what the worker's identity says.
my $HOOK = <<~'SH';
	#!/bin/sh
	dir=${0%/*}
	out=$dir/event.$$
	ls /proc/$$/fd > "$out.fds"
	{
		echo "args: $*"
		env | grep ^LIMINAL_ | sort
		echo "stdin: $(test "$3" = deaf || test "$4" = deaf || head -c 200000 | wc -c)"
		sed 's/^/fd /' "$out.fds"
	} > "$out"
	mv "$out" "$dir/$2-$3"
	case $2,$LIMINAL_IDENTITY in
	registered,no)     echo "not today"; echo "second line"; exit 3 ;;
	registered,crlf)   printf 'dos text\r\n'; exit 1 ;;
	registered,silent) exit 9 ;;
	registered,killed) kill -9 $$ ;;
	registered,flood)  yes flood | head -c 3000000; exit 1 ;;
	registered,orphan) sleep 30 & echo "left a child"; exit 1 ;;
	registered,slow)   echo $$ > "$dir/slow"; exec sleep 30 ;;
	unregistered,*)    exit 4 ;;
	publish,*)         test "$4" != refuse ;;
	esac
	SH

sub event ($d, $name) {
	return wait_until(sub { -e $d->dir . "/$name" && Liminal::Daemon::slurp($d->dir . "/$name") }, "$name was run") || '';
}

sub rejected ($d, $identity, $text, $name) {
	my $w = $d->client(name => $identity);
	$w->send_register(identity => $identity);
	$w->expect('WorkerRegisterAck', { rejected => $text }, $name);
	return $w->hang_up;
}

{
	my $d = Liminal::Daemon->prepare(name => 'exec', files => { hook => $HOOK }, conf => <<~CONF,
		notifier { module = "$EXEC" args = { "--tap=audit", "--tap=deaf", "--tap=refuse", "%D/hook", "one two" } timeout = "3s" }
		CONF
	    env => { LIMINAL_DRAIN_TIMEOUT => '5s' });
	chmod 0700, $d->dir . '/hook';
	$d->run->wait_ready;
	$d->allow_log(qr/exec\.so: unregistered/);

	note '-- registered, unregistered';
	my $w = $d->client(name => 'w');
	my $id = $d->conn_id_of($w);
	$w->send_register(namespaces => ['a', 'b'], queue => 'q', node => 'n 1', types => ['t', 'u'], identity => "me \$(x)");
	$w->expect('WorkerRegisterAck', { rejected => undef }, 'exit 0 accepts');
	my $text = event($d, "registered-$id");
	is $text =~ s/^stdin.*//msr, <<~TEXT, 'arguments and environment';
		args: one two registered $id
		LIMINAL_ACTIVITY_TYPES=t,u
		LIMINAL_IDENTITY=me \$(x)
		LIMINAL_NAMESPACES=a,b
		LIMINAL_NODE=n 1
		LIMINAL_TASK_QUEUE=q
		TEXT
	like $text, qr/^stdin: 0$/m, 'standard input is empty';
	# A shell keeps its own from 10 on.
	unlike $text, qr/fd [3-9]\b/, 'no other descriptor is open';
	$w->hang_up;
	like event($d, "unregistered-$id"), qr/\Aargs: one two unregistered $id\nstdin/, 'unregistered: without a registration';
	ok $d->wait_log(qr/exec\.so: unregistered conn=$id: .*status 4/), 'its failure is logged';
	my $n = $d->worker(name => 'n', types => []);
	$id = $d->conn_id_of($n);
	$text = event($d, "registered-$id");
	unlike $text, qr/LIMINAL_NODE/, 'no node: no variable';
	like $text, qr/^LIMINAL_ACTIVITY_TYPES=$/m, 'all types: an empty one';

	note '-- rejected';
	rejected($d, 'no', 'not today', 'the first line of its output');
	rejected($d, 'crlf', 'dos text', 'without its line end');
	rejected($d, 'silent', qr/program exited with status 9/, 'or how it ended');
	rejected($d, 'killed', qr/program was killed by signal 9/, 'by a signal');
	rejected($d, 'flood', 'flood', 'a flood of output');
	my $began = now;
	rejected($d, 'orphan', 'left a child', 'a child that keeps its output open');
	cmp_ok now - $began, '<', 2.5 + slack, 'is not waited for';
	my @zombies = grep { $_->{state} eq 'Z' } Liminal::Daemon::_all_processes();
	my $host = (grep { $_->{title} =~ /notifier/ } $d->children)[0]{pid};
	is scalar(grep { $_->{ppid} == $host } @zombies), 0, 'no zombie is left';
	kill 'KILL', map { $_->{pid} } grep { Liminal::Daemon::slurp("/proc/$_->{pid}/cmdline") =~ /^sleep/ } $d->processes;

	note '-- publish';
	my $p = $d->client(name => 'p');
	$id = $d->conn_id_of($p);
	$p->send('Publish', channel => 'audit', payload => 'x' x 150000, stream => 1);
	$p->expect_quiet('exit 0 consumes');
	$text = event($d, "publish-$id");
	like $text, qr/\Aargs: one two publish $id audit\nstdin: 150000$/m, 'connection, channel, payload';
	$p->send('Publish', channel => 'deaf', payload => 'x' x 1000000, stream => 2);
	$p->send('Publish', channel => 'refuse', payload => 'x', stream => 3);
	$p->expect('PublishError', { code => R_NO_CHANNEL, stream => 3 }, 'one that is not read is consumed, a refused one goes on');
	unlink $d->dir . "/publish-$id";
	$p->send('Publish', channel => 'other', payload => 'x', stream => 4);
	$p->expect('PublishError', { code => R_NO_CHANNEL, stream => 4 }, 'a channel that is not tapped');
	ok !-e $d->dir . "/publish-$id", 'runs nothing';
	ok -d "/proc/$host", 'all of it in one notifier';

	note '-- too slow';
	$d->allow_log(qr/notifier/);
	my $s = $d->client(name => 'slow');
	$s->send_register(identity => 'slow');
	$s->expect('WorkerRegisterAck', { rejected => qr/notifier timeout/ }, 'rejected');
	chomp(my $pid = Liminal::Daemon::slurp($d->dir . '/slow'));
	wait_until(sub { !-d "/proc/$pid" || Liminal::Daemon::_stat($pid)->{state} eq 'Z' }, 'its program is killed');
	$_->hang_up for $n, $p, $s;
	await_counts($d, { registrations => 0, inbox => 0 }, 'nothing is owed');
}

note '-- arguments that cannot be';
for (['no program', '"--tap=x"', qr/has no program/], ['a relative path', '"hook"', qr/'hook' is neither/],
    ['no such program', '"/nonexistent"', qr{/nonexistent: No such file}], ['a directory', '"/tmp"', qr{/tmp: not a regular file}], ['an unknown option', '"--tab=x", "/bin/true"', qr/--tab=x/]) {
	my ($what, $args, $why) = @$_;
	my ($status, $log) = Liminal::Daemon->run_to_end(name => $what,
	    conf => qq[notifier { module = "$EXEC" args = { $args } }\n]);
	is $status, 1, "$what: the daemon refuses to start";
	like $log, $why, 'and says why';
}

{
	note '-- the example';
	my $d = Liminal::Daemon->prepare(name => 'allowlist', files => { list => "# workers\nann\nbob # the builder\n# " . 'x' x 509 . "mallory\n" },
	    conf => qq[notifier { module = "$MODULES/notifier-allowlist.so" args = { "%D/list" } }\n]);
	$d->run->wait_ready;
	$d->worker(name => 'ann');
	$d->worker(name => 'bob');
	rejected($d, 'eve', "worker 'eve' is not on the list", 'not listed');
	rejected($d, 'mallory', "worker 'mallory' is not on the list", 'the end of a long line');
	open my $list, '>>', $d->dir . '/list';
	print {$list} "eve\n";
	close $list;
	ok $d->worker(name => 'eve'), 'listed meanwhile';
}

finish_testing;
