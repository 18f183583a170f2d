# Under load, connection processes, workers, callers and the keeper are killed at random moments,
# hundreds of times: every caller that lives gets exactly one answer to each request, those who
# are not hit lose nothing, and nothing is left. (A4 to A6, D3, D5, E4, E5)
#
# LIMINAL_KILLS: how many (default 300). LIMINAL_SEED: repeats a choice of victims.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use POSIX qw(_exit WNOHANG);
use IO::Handle;
use IO::Poll 'POLLIN';
use JSON::PP qw(encode_json decode_json);
use Test::More;
use Liminal;
use Liminal::Wire;

my $KILLS = $ENV{LIMINAL_KILLS} || 300;
my $STOPS = $ENV{LIMINAL_STOPS} // 2;
my $SEED = $ENV{LIMINAL_SEED} || time;
my ($CALLERS, $WORKERS, $OUTSTANDING) = (4, 4, 16);
note "LIMINAL_KILLS=$KILLS LIMINAL_STOPS=$STOPS LIMINAL_SEED=$SEED";
srand $SEED;

my $d = Liminal::Daemon->start(name => 'storm', conf => <<~'CONF');
	dispatch { max_attempts = 1000  queue_limit = 100000  first_push_delay = "1ms" }
	drain_timeout = "10s"
	CONF
$d->allow_log(qr/killed by signal|exited with status|peer=|keeper|stuck|conn=/);

# -- The load: processes of this file, which report to the controller by a pipe --------------

my ($own_worker, $watcher);	# not to be held open by forked processes

# Fork CODE; it gets a handle for one line of JSON per report.
sub spawn ($kind, $code) {
	pipe my $read, my $write or die "pipe: $!";
	defined(my $pid = fork) or die "fork: $!";
	if (!$pid) {
		close $_ for $read, map { $_ ? $_->{socket} // () : () } $own_worker, $watcher;
		$write->autoflush(1);
		eval { $code->(sub (%report) { syswrite $write, encode_json(\%report) . "\n" }); 1 }
		    or syswrite $write, encode_json({ died => "$@" }) . "\n";
		_exit(0);
	}
	close $write;
	$read->blocking(0);
	return { pid => $pid, kind => $kind, read => $read, buffer => '' };
}

sub connected ($name) {
	my $deadline = now + 20;
	while (1) {
		my $client = eval { Liminal::Client->new(address => $d->address, name => $name)->handshake };
		return $client if $client;
		die "cannot connect: $@" if now > $deadline;
	}
}

# Works until killed: answers each job with "re:" and the job. Survives its connection.
sub worker_life ($report) {
	while (1) {
		my $client = connected('worker');
		eval { $client->register(capacity => 1 + int rand 8) } or next;
		while (my $push = $client->next_frame(3600)) {
			$client->reply($push, "re:$push->{payload}") if $push->{type} eq 'Push';
			@{ $client->{transcript} } = ();
		}
		$client->hang_up;
	}
}

# Keeps jobs outstanding in several conversations until told to stop (USR1); checks that
# each gets one answer, in order, and its own. A connection that breaks voids what was
# outstanding on it and nothing else.
sub caller_life ($report, $subject = 'aion.dispatch.test.jobs', $size = 64) {
	my $stop = 0;
	local $SIG{USR1} = sub { $stop = 1 };
	my %n = map { $_ => 0 } qw(asked answered failed void broken wrong);
	my ($seq, @faults, %codes) = (0);
	until ($stop) {
		my $client = connected('caller');
		my @waiting = map { [] } 0 .. 3;
		$client->open($_, $subject) for 0 .. 3;
		while (1) {
			my $outstanding = 0;
			$outstanding += @$_ for @waiting;
			last if $stop && !$outstanding;
			while (!$stop && $outstanding++ < $OUTSTANDING) {
				my $c = int rand 4;
				my $job = join '.', $$, ++$seq, 'x' x int rand $size;
				push @{ $waiting[$c] }, $job;
				$client->ask($c, $job);
				$n{asked}++;
			}
			my $frame = $client->next_frame;
			@{ $client->{transcript} } = ();
			if (!$frame) {
				push @faults, 'no answer within the bound: '
				    . join ' ', map { @$_ ? $_->[0] =~ s/x*$//r : () } @waiting if $client->is_open;
				last;
			}
			next if $frame->{type} eq 'Disconnect';
			my $job = shift @{ $waiting[$frame->{conversation} // 0] };
			if ($frame->{type} eq 'ConversationMessage' && defined $job && $frame->{payload} eq "re:$job") {
				$n{answered}++;
				$report->(progress => 50) if $n{answered} % 50 == 0;
			} elsif ($frame->{type} eq 'ConversationError' && defined $job
			    && grep { $frame->{code} == $_ } R_NO_WORKER, R_DISCONNECTED) {
				$n{failed}++;
			} else {
				$n{wrong}++;
				push @faults, 'for ' . ($job // 'nothing') . ': ' . show_frame($frame);
			}
		}
		if (!$client->is_open) {
			$n{broken}++;
			$n{void} += @$_ for @waiting;
		} elsif ($stop) {
			eval { $client->barrier; 1 } or push @faults, "after the last answer: $@";
		}
		last if @faults;
	}
	splice @faults, 5 if @faults > 5;
	$report->(done => 1, %n, faults => \@faults);
	return;
}

my @load = ((map { spawn(worker => \&worker_life) } 1 .. $WORKERS),
    map { spawn(caller => \&caller_life) } 1 .. $CALLERS);

# Those whom nothing is done to: a worker and a caller of a pool of their own, large payloads.
$own_worker = $d->worker(name => 'own', namespaces => ['own'], capacity => 64);
my $own_pid = fork // die "fork: $!";
if (!$own_pid) {
	while (my $push = $own_worker->next_frame(3600)) {
		$own_worker->reply($push, "re:$push->{payload}");
		@{ $own_worker->{transcript} } = ();
	}
	_exit(0);
}
close $own_worker->{socket};
my $untouched = spawn(untouched => sub ($report) {
	caller_life($report, 'aion.dispatch.own.jobs', 20000);
});
$watcher = $d->client(name => 'watcher');
$watcher->open(1, 'echo');

# -- The controller --------------------------------------------------------------------------

my (%progress, @reports);

# Read what has been reported; true while PROCESS may report more.
sub listen_to ($process) {
	my $n = sysread $process->{read}, $process->{buffer}, 65536, length $process->{buffer};
	while ($process->{buffer} =~ s/^(.*)\n//) {
		my $report = decode_json($1);
		$progress{ $process->{kind} } += $report->{progress} // 0;
		push @reports, { kind => $process->{kind}, %$report } if !$report->{progress};
	}
	return !defined $n || $n > 0;
}

# Wait until callers have got ANSWERS more answers: the load goes on.
sub load_goes_on ($answers) {
	my $goal = ($progress{caller} // 0) + $answers;
	my $deadline = now + $Liminal::Client::BOUND;
	while (($progress{caller} // 0) < $goal) {
		return 0 if now > $deadline;
		my $poll = IO::Poll->new;
		my @live = (@load, $untouched);
		$poll->mask($_->{read} => POLLIN) for @live;
		$poll->poll($deadline - now);
		listen_to($_) for @live;
	}
	return 1;
}

ok load_goes_on(200), 'the load runs';
# Neither these nor the caller among the untouched are ever victims.
my %safe = map { $_ => 1 } $d->pid_of($own_worker), $d->pid_of($watcher);
for my $child ($d->children) {
	next if $child->{title} !~ / 127\.0\.0\.1:(\d+)/;
	$safe{ $child->{pid} } = 1 if grep { socket_is($untouched->{pid}, $_) } $1;
}

# Whether process PID has a TCP socket with this local port.
sub socket_is ($pid, $port) {
	my %inodes = map { my @f = split; $f[1] =~ /:(\w+)$/ && hex $1 == $port ? ($f[9] => 1) : () }
	    grep { /^\s*\d+:/ } split /\n/, Liminal::Daemon::slurp('/proc/net/tcp');
	return grep { (readlink($_) // '') =~ /^socket:\[(\d+)\]$/ && $inodes{$1} } glob "/proc/$pid/fd/*";
}
is scalar keys %safe, 3, 'those who are to be left alone are known';

my (%struck, %worst, $stalled, $broken);
for my $n (1 .. $KILLS) {
	last if defined $d->reap;
	my $dice = rand;
	my $what;
	if ($STOPS && $n % int(1 + $KILLS / ($STOPS + 1)) == 0) {
		my @victims = grep { !$safe{$_} } $d->connection_pids;
		kill 'STOP', $victims[rand @victims] if @victims;
		$what = 'connection STOP';
	} elsif ($dice < 0.75) {
		my @victims = grep { !$safe{$_} } $d->connection_pids or redo;
		my $signal = (qw(KILL KILL SEGV ABRT))[rand 4];
		kill $signal, $victims[rand @victims];
		$what = "connection $signal";
	} elsif ($dice < 0.99) {
		my $i = int rand @load;
		my $victim = $load[$i];
		kill 'KILL', $victim->{pid};
		waitpid $victim->{pid}, 0;
		$load[$i] = spawn($victim->{kind}, $victim->{kind} eq 'worker' ? \&worker_life : \&caller_life);
		$what = "$victim->{kind}'s client";
	} else {
		my $keeper = $d->keeper_pid;
		kill 'KILL', $keeper if $keeper;
		$what = 'keeper KILL';
	}
	$struck{$what}++;
	my $before = now;
	my $goes_on = load_goes_on(50);
	my $pause = now - $before;
	$worst{$what} = $pause if $pause > ($worst{$what} // 0);
	if (!$goes_on) {
		$stalled = "the load stalled after kill $n: $what";
		last;
	}
	last if grep { $_->{faults} && @{ $_->{faults} } } @reports;
	# What must hold between any two transactions holds also now.
	if ($n % 50 == 0 && defined($broken = $d->check_state)) {
		last;
	}
}
note sprintf '%s: %d times, longest wait for 50 more answers %.0f ms', $_, $struck{$_}, 1000 * $worst{$_}
    for sort keys %struck;
is $stalled, undef, "the load goes on after each of $KILLS kills";
is $broken, undef, 'the state keeps its rules under load' if $ENV{LIMINAL_CHECK_STATE};
ok !defined $d->reap, 'the daemon lives';
$watcher->ask(1, 'still there');
$watcher->expect_answer(1, 'still there');

# -- The end: callers finish what they have, then workers leave -------------------------------

kill 'USR1', map { $_->{pid} } $untouched, grep { $_->{kind} eq 'caller' } @load;
for my $process ($untouched, grep { $_->{kind} eq 'caller' } @load) {
	wait_until(sub { !listen_to($process) }, "$process->{kind} $process->{pid} finishes", 60);
	waitpid $process->{pid}, 0;
}
my %sum;
for my $report (@reports) {
	is_deeply $report->{faults} // [$report->{died}], [], "$report->{kind}: exactly one answer to each request, in order";
	is $report->{asked} // 'died', ($report->{answered} // 0) + ($report->{failed} // 0) + ($report->{void} // 0),
	    "$report->{kind}: as many answers as requests";
	$sum{$_} += $report->{$_} // 0 for qw(asked answered failed void broken);
	next if $report->{kind} ne 'untouched';
	is_deeply [@$report{qw(failed void broken)}], [0, 0, 0], 'untouched: nothing failed, nothing was lost';
}
note join ', ', map { "$_: $sum{$_}" } sort keys %sum;
is scalar(grep { $_->{kind} eq 'untouched' } @reports), 1, 'the untouched have reported';

my @workers = grep { $_->{kind} eq 'worker' } @load;
kill 'KILL', map({ $_->{pid} } @workers), $own_pid;
waitpid $_, 0 for map({ $_->{pid} } @workers), $own_pid;
await_counts($d, { connections => 1, conversations => 1, map { $_ => 0 } qw(workers pool pushes pending inbox) },
    'no row is left but those of the watcher');
wait_until(sub { scalar($d->connection_pids) == 1 }, 'no process is left but the watcher\'s');
$watcher->hang_up;

finish_testing;
