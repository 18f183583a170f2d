# The processes beside the connections: ps shows them, each is replaced when it dies, the directory of
# the store has to be there and belongs to one daemon. (architecture.md: processes; A10)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

sub titles ($d) { return join ', ', sort map { $_->{title} =~ s/^liminald: //r =~ s/ +$//r } $d->children }

{
	note '-- who is there';
	my $d = Liminal::Daemon->start(name => 'recording');
	is titles($d), 'keeper, store', 'ps shows keeper and store';
	my $store = $d->service_pid('store');
	$d->signal('USR1');
	ok $d->wait_log(qr/^status .* store_pid=$store notifier_pid=0 router_pid=0 /), 'USR1 tells their pids';
	is $d->stop, 0, 'exit 0';

	$d = Liminal::Daemon->start(name => 'not-recording',
	    conf => qq(dispatch { record = false }\nchannel "c" { }\npersist_dir = "/nonexistent"\n));
	is titles($d), 'keeper', 'without a record and a durable channel there is no store, and no directory is needed for it';

	$d = Liminal::Daemon->start(name => 'durable',
	    conf => qq(dispatch { record = false }\nchannel "c" { durable = true }\n));
	is titles($d), 'keeper, store', 'a durable channel needs one, also without a record';
}

{
	note '-- each is replaced';
	my $d = Liminal::Daemon->start(name => 'killed');
	my $c = $d->client;
	for my $service (qw(keeper store)) {
		my $old = $d->service_pid($service);
		$d->expect_log(qr/\Q$service\E ended pid=$old reason="killed by signal 9 \(SIGKILL\)" restart_in_ms=0/);
		kill 'KILL', $old;
		wait_until(sub { my $new = $d->service_pid($service); $new && $new != $old }, "a new $service");
		$c->expect_quiet("served without the $service");
	}
	$d->client->expect_quiet('so is somebody new');
}

{
	note '-- killed all the time, it is replaced with pauses and the rest goes on';
	my $d = Liminal::Daemon->start(name => 'again');
	$d->expect_log(qr/store ended/);
	my $c = $d->client;
	for my $round (1 .. 10) {
		my $old;
		Liminal::Daemon::poll_until(sub { $old = $d->service_pid('store') });
		kill 'KILL', $old;
		Liminal::Daemon::poll_until(sub { ($d->service_pid('store') // $old) != $old });
	}
	$c->expect_quiet('served');
	wait_until(sub { $d->service_pid('store') }, 'the store is back');
}

{
	note '-- persist_dir cannot be used';
	my ($status, $text) = Liminal::Daemon->run_to_end(conf => 'persist_dir = "%D/missing"');
	is $status, 3, 'it does not exist: exit 3';
	like $text, qr{persist_dir \S*/missing: No such file}, 'the text names the setting and the directory';
	($status, $text) = Liminal::Daemon->run_to_end(
	    conf => qq(persist_dir = "%D/missing"\ndispatch { record = false }\nchannel "c" { durable = true }\n));
	is $status, 3, 'the same when only a durable channel needs it';
	like $text, qr{persist_dir \S*/missing: No such file}, 'and the text';
	($status, $text) = Liminal::Daemon->run_to_end(conf => 'persist_dir = "%D/file"', files => { file => '' });
	is $status, 3, 'it is a file: exit 3';
	like $text, qr{persist_dir \S*/file: Not a directory}, 'and the text says so';
	SKIP: {
		skip 'only root becomes somebody else', 2 if $>;
		my $d = Liminal::Daemon->prepare(name => 'nobody', conf => 'user = "nobody"');
		chmod 0755, $d->dir, $d->dir . '/persist';
		is $d->run->await_end, 3, 'the user cannot write it: exit 3';
		like $d->log, qr{persist_dir \S*/persist cannot be written by uid \d+: Permission denied}, 'and the text says who';
		$d->{finished} = 1;
		$d->_remove;
	}
}

{
	note '-- a store that is cut off';
	for my $size (5000, 9000, 20000) {
		my $d = Liminal::Daemon->start(name => 'whole');
		$d->stop;
		truncate $d->dir . '/persist/store/data.mdb', $size or die "truncate: $!";
		my $cut = Liminal::Daemon->prepare(name => 'cut', dir => $d->dir)->run;
		is $cut->await_end, 3, "$size bytes left: exit 3";
		like $cut->log, qr{error persist_dir: cannot \S+ (?:to )?the store in \S+/persist/store: \S.* \(it is damaged: put a copy},
		    'the text says what it is and what to do';
		$_->{finished} = 1 for $cut, $d;
		$d->_remove;
	}
}

{
	note '-- one daemon per persist_dir';
	my $d = Liminal::Daemon->start(name => 'owner');
	my ($dir, $pid) = ($d->dir . '/persist', $d->pid);
	my ($status, $text) = Liminal::Daemon->run_to_end(conf => qq(persist_dir = "$dir"));
	is $status, 3, 'a second one: exit 3';
	like $text, qr/persist_dir \Q$dir\E is in use by the liminald with pid $pid /, 'the text names the directory and the owner';
	$d->client->expect_quiet('the owner is not disturbed');
	$d->kill9;
	my $next = Liminal::Daemon->start(name => 'next', conf => qq(persist_dir = "$dir"));
	$next->client->expect_quiet('after its kill -9 the next one has it');
	$next->finish;
}

{
	note '-- one directory may be both';
	my $d = Liminal::Daemon->start(name => 'both', conf => 'persist_dir = "%D/run"');
	$d->client->expect_quiet('served');
}

finish_testing;
