# A daemon under test: its own directory, session and port. Owns everything that it starts,
# and finish() verifies that nothing of it is left: no process, no row, no socket file, no
# warning in the log that the test has not announced.
package Liminal::Daemon;
use v5.36;
use Carp 'croak';
use File::Path 'remove_tree';
use File::Temp 'tempdir';
use POSIX qw(WNOHANG setsid _exit);
use Scalar::Util 'weaken';
use Test::More ();
use Time::HiRes qw(sleep);
use Liminal::Client;

my $PROGRAM = $ENV{LIMINALD} || 'build/liminald';
my @DAEMONS;		# weak

# Warnings that say something about who runs the tests.
my @ALWAYS_ALLOWED = (qr/running as root/);

my $OWNER = $$;

# What a configuration gets unless the test says otherwise. %D is the daemon's directory.
my %DEFAULTS = (
	listen        => '{ "127.0.0.1:0" }',
	runtime_dir   => '"%D/run"',
	persist_dir   => '"%D/persist"',
	drain_timeout => '"5s"',
);

sub bound () { return $Liminal::Client::BOUND }
sub now () { return Liminal::Client::now() }
sub program ($class) { return $PROGRAM }

# Poll CONDITION until it holds; for what can only be looked at (/proc, mdb_stat). Returns its
# value, false after the bound.
sub poll_until ($condition, $bound = bound()) {
	my $deadline = now() + $bound;
	my $pause = 0.005;
	while (1) {
		my $value = $condition->();
		return $value if $value || now() > $deadline;
		sleep $pause;
		$pause *= 1.1 if $pause < 0.05;
	}
}

sub slurp ($path) {
	open my $file, '<:raw', $path or return '';
	local $/;
	return scalar(<$file>) // '';
}

# A directory with configuration and files, but no process yet.
#   conf  => text; files => { name => text }; env => { }; args => [more arguments]
#   ulimit => arguments for another ulimit, such as '-v 400000'
#   dir   => take over another daemon's directory (which then stays that one's)
sub prepare ($class, %o) {
	my $base = -d '/dev/shm' && -w _ ? '/dev/shm' : '/tmp';
	my $self = bless {
		name => $o{name} // 'daemon', pid => 0, status => undef, expected => [],
		allowed => [], clients => [], env => $o{env} // {}, args => $o{args} // [],
		ulimit => defined $o{ulimit} ? "ulimit $o{ulimit}; " : '',
		dir => $o{dir} // tempdir('liminal-test-XXXXXXXX', DIR => $base),
		owns_dir => !$o{dir}, log_from => 0, n_clients => 0,
	}, $class;
	mkdir "$self->{dir}/$_", 0700 for qw(run persist);
	my $text = $o{conf} // '';
	for my $key (sort keys %DEFAULTS) {
		$text = "$key = $DEFAULTS{$key}\n$text" if $text !~ /^\s*$key\s*=/m;
	}
	my %files = (%{ $o{files} // {} }, 'liminald.conf' => $text);
	for my $name (keys %files) {
		open my $file, '>:raw', "$self->{dir}/$name" or croak "$self->{dir}/$name: $!";
		chmod 0600, $file;
		print {$file} $files{$name} =~ s/%D/$self->{dir}/gr;
		close $file or croak "$self->{dir}/$name: $!";
	}
	push @DAEMONS, $self;
	weaken $DAEMONS[-1];
	return $self;
}

# A running daemon that has said that it is ready; dies if it does not.
sub start ($class, %o) { return $class->prepare(%o)->run->wait_ready }

sub run ($self) {
	my $log = "$self->{dir}/log";
	$self->{log_from} = -s $log // 0;
	defined(my $pid = fork) or croak "fork: $!";
	if (!$pid) {
		setsid;
		delete @ENV{ grep { /^LIMINAL_/ } keys %ENV };
		%ENV = (%ENV, %{ $self->{env} });
		# Room for process titles, however little the caller's environment holds.
		$ENV{TITLE_ROOM} = 'x' x 200;
		# A process that a test sends SEGV must die of it under a sanitizer, too.
		$ENV{ASAN_OPTIONS} = join ':', 'handle_segv=0:handle_abort=0', $ENV{ASAN_OPTIONS} // ();
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', "$self->{dir}/out";
		open STDERR, '>>', $log;
		exec '/bin/sh', '-c', qq[ulimit -c 0; $self->{ulimit}exec "\$0" "\$@"], $PROGRAM,
		    '-f', '-c', "$self->{dir}/liminald.conf",
		    map { s/%D/$self->{dir}/gr } @{ $self->{args} } or _exit(127);
	}
	@$self{qw(pid status)} = ($pid, undef);
	return $self;
}

sub wait_ready ($self) {
	poll_until(sub { $self->addresses || defined $self->reap });
	my @addresses = $self->addresses;
	if (!@addresses) {
		my $status = $self->reap;
		croak "$self->{name} is not ready: "
		    . (defined $status ? "exit status $status" : 'no ready line') . "\n" . $self->log;
	}
	$self->{addresses} = \@addresses;
	return $self;
}

# Run a daemon that is expected to end by itself: (exit status, standard error).
sub run_to_end ($class, %o) {
	my $self = $class->prepare(%o)->run;
	my $status = $self->await_end;
	my $log = $self->log;
	$self->{finished} = 1;
	kill 'KILL', $self->{pid} if !defined $status;
	$self->_remove;
	return ($status, $log);
}

# -- Looking ------------------------------------------------------------------------------

sub dir ($self) { return $self->{dir} }
sub pid ($self) { return $self->{pid} }
sub log ($self) { return substr slurp("$self->{dir}/log"), $self->{log_from} }
sub log_lines ($self, $pattern = qr//) { return grep { $_ =~ $pattern } split /\n/, $self->log }

# Wait for a log line; its text, or undef.
sub wait_log ($self, $pattern) {
	return poll_until(sub { ($self->log_lines($pattern))[0] });
}

# The addresses of the ready lines, in their order.
sub addresses ($self) { return $self->log =~ /^.*?ready: listening on (\S+)\n/mg }
sub address ($self, $n = 0) { return $self->{addresses}[$n] }
sub port ($self) { return ($self->address =~ /:(\d+)$/)[0] }

sub _stat ($pid) {
	my ($state, $ppid, undef, $session) = slurp("/proc/$pid/stat")
	    =~ /^\d+ \(.*\) (\S) (\d+) (\d+) (\d+)/s or return;
	return { pid => $pid, state => $state, ppid => $ppid, session => $session };
}

sub _all_processes () {
	opendir my $proc, '/proc' or croak "/proc: $!";
	return map { _stat($_) } grep { /^\d+$/ } readdir $proc;
}

# Living processes of this daemon's session.
sub processes ($self) {
	return grep { $_->{session} == $self->{pid} && $_->{state} !~ /[ZX]/ } _all_processes();
}

# The master's children: { pid, title, state }, zombies included.
sub children ($self) {
	my @children = grep { $_->{ppid} == $self->{pid} } _all_processes();
	$_->{title} = slurp("/proc/$_->{pid}/cmdline") =~ s/\0+$//r =~ s/\0/ /gr for @children;
	return @children;
}

sub connection_pids ($self) {
	return map { $_->{pid} } grep { $_->{state} ne 'Z' && $_->{title} =~ /^liminald: \d+ / } $self->children;
}

# The process of the service NAME ("store"), or undef.
sub service_pid ($self, $name) {
	return (map { $_->{pid} } grep { $_->{state} ne 'Z' && $_->{title} =~ /^liminald: \Q$name\E *$/ } $self->children)[0];
}

sub keeper_pid ($self) { return $self->service_pid('keeper') }

# The process that holds CLIENT's connection, found by the socket that it has open.
sub pid_of ($self, $client) {
	my ($port, $mine) = ($self->port, $client->local_port);
	return poll_until(sub {
		for my $line (split /\n/, slurp('/proc/net/tcp') . slurp('/proc/net/tcp6')) {
			my @f = split ' ', $line;
			next if @f < 10 || $f[1] !~ /:(\w+)$/ || hex $1 != $port;
			next if $f[2] !~ /:(\w+)$/ || hex $1 != $mine;
			for my $child ($self->children) {
				for my $fd (glob "/proc/$child->{pid}/fd/*") {
					return $child->{pid} if (readlink $fd // '') eq "socket:[$f[9]]";
				}
			}
		}
		return undef;
	});
}

# The conn id of CLIENT, from the title of its process.
sub conn_id_of ($self, $client) {
	return poll_until(sub {
		my $pid = $self->pid_of($client) // return undef;
		return (slurp("/proc/$pid/cmdline") =~ /^liminald: (\d+) /)[0];
	});
}

# Table name => number of rows, as mdb_stat sees it.
sub mdb_counts ($self) {
	my (%counts, $table);
	for (split /\n/, `mdb_stat -a $self->{dir}/run/state 2>/dev/null`) {
		$table = $1 if /^Status of (.+)$/;
		$counts{$table} = $1 if defined $table && /^\s*Entries: (\d+)/;
	}
	delete $counts{'Main DB'};
	return \%counts;
}

# What belongs to no connection.
my %KEPT = map { $_ => 1 } qw(counters channels messages keys keys_by_age);

# The tables of NAMES (without: those of connections) that have rows, as text.
sub rows ($self, @names) {
	my $counts = $self->mdb_counts;
	return 'no tables' if !%$counts;
	@names = grep { !$KEPT{$_} } sort keys %$counts if !@names;
	return join ' ', map { "$_=" . ($counts->{$_} // 'absent') }
	    grep { $counts->{$_} // 1 } @names;
}

# -- Clients -------------------------------------------------------------------------------

sub connect ($self, %o) {
	my $client = Liminal::Client->new(address => $self->address,
	    name => 'client' . ++$self->{n_clients}, %o);
	push @{ $self->{clients} }, $client;
	weaken $self->{clients}[-1];
	return $client;
}

# A client with its handshake done; token => if needed.
sub client ($self, %o) {
	my $token = delete $o{token};
	return $self->connect(%o)->handshake(defined $token ? (token => $token) : ());
}

# A registered worker; name => and what Liminal::Client::register takes.
sub worker ($self, %o) {
	return $self->client(name => $o{name} // 'worker')->register(%o);
}

# -- Ending -------------------------------------------------------------------------------

# The wait status, if the master has ended.
sub reap ($self) {
	return $self->{status} if defined $self->{status} || !$self->{pid};
	$self->{status} = $? if waitpid($self->{pid}, WNOHANG) == $self->{pid};
	return $self->{status};
}

sub signal ($self, $signal) { return kill $signal, $self->{pid} }

# Wait for the end: exit status, or 256 + signal, or undef.
sub await_end ($self, $bound = bound()) {
	poll_until(sub { defined $self->reap }, $bound);
	my $status = $self->{status} // return undef;
	return $status & 127 ? 256 + ($status & 127) : $status >> 8;
}

sub stop ($self, $bound = bound()) {
	$self->signal('TERM');
	return $self->await_end($bound);
}

# kill -9 the master; its children are expected to follow.
sub kill9 ($self) {
	$self->signal('KILL');
	$self->await_end;
	return $self->{killed} = 1;
}

# A warning or error that must be in the log, or (allow) may be.
sub expect_log ($self, @patterns) { push @{ $self->{expected} }, @patterns; return $self }
sub allow_log ($self, @patterns) { push @{ $self->{allowed} }, @patterns; return $self }

sub _log_faults ($self) {
	my @lines = split /\n/, $self->log;
	my @fine = (@ALWAYS_ALLOWED, @{ $self->{expected} }, @{ $self->{allowed} });
	my @faults;
	for my $line (@lines) {
		next if $line !~ /^(?:[^:]{1,32}: )?(?:warn|error|fatal|panic)\b|Sanitizer|runtime error/i;
		push @faults, "unexpected: $line" if !grep { $line =~ $_ } @fine;
	}
	for my $pattern (@{ $self->{expected} }) {
		push @faults, "missing: $pattern" if !grep { $_ =~ $pattern } @lines;
	}
	splice @faults, 20 if @faults > 20;
	return @faults;
}

# Stop the daemon and verify that it left nothing behind: one TAP result. Clients that are
# still there hang up first.
sub finish ($self) {
	return if $self->{finished}++;
	my @faults;
	if ($self->{pid}) {
		$_->hang_up for grep { defined } @{ $self->{clients} };
		if (!defined $self->reap) {
			my $status = $self->stop;
			push @faults, 'does not end after TERM' if !defined $status;
			push @faults, "exit status $status" if $status;
		}
		my $left;
		poll_until(sub { !($left = join ' ', map { $_->{pid} } $self->processes) },
		    $self->{killed} ? bound() : 1);
		push @faults, "processes left: $left" if $left;
		kill 'KILL', map { $_->{pid} } $self->processes;
		if (!$self->{killed}) {
			my $rows = $self->rows;
			push @faults, "rows left: $rows" if $rows;
		}
		push @faults, grep({ defined } $self->check_state), $self->_log_faults;
	}
	my $good = Test::More::ok(!@faults, "$self->{name}: ended well, nothing is left");
	if (!$good) {
		Test::More::diag(join "\n", @faults);
		my @lines = split /\n/, $self->log;
		splice @lines, 0, @lines - 60 if @lines > 60;
		Test::More::diag("log of $self->{name}:", map { "\n  $_" } @lines);
	}
	$self->_remove;
	return $good;
}

# What LIMINAL_CHECK_STATE finds wrong with the state, or undef; also while the daemon runs.
sub check_state ($self) {
	my $checker = $ENV{LIMINAL_CHECK_STATE} or return undef;
	my $text = `$checker $self->{dir}/run 2>&1`;
	return $? ? "state checker: $text" : undef;
}

sub _remove ($self) {
	remove_tree($self->{dir}) if $self->{owns_dir} && !$ENV{LIMINAL_TEST_KEEP};
	return;
}

# Finish every daemon that is still there; for the end of a test.
sub finish_all () { $_->finish for grep { defined } @DAEMONS; return }

# Whatever happened: leave no process and no directory.
END {
	if ($$ == $OWNER) {
		local $?;
		for my $self (grep { defined && !$_->{finished} } @DAEMONS) {
			kill 'KILL', map { $_->{pid} } $self->processes if $self->{pid};
			$self->_remove;
		}
	}
}

sub DESTROY ($self) {
	return if $$ != $OWNER || $self->{finished} || ${^GLOBAL_PHASE} eq 'DESTRUCT';
	$self->finish;
	return;
}

1;
