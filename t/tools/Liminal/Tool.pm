# The command line tool, run as a person or a script would: with files or pipes for its standard
# input, output and error. LIMINAL names it (default build/liminal).
package Liminal::Tool;
use v5.36;
use Carp 'croak';
use Exporter 'import';
use JSON::PP ();
use POSIX ':sys_wait_h';
use Test::More ();
use Liminal::Client;
use Liminal::Daemon;

our @EXPORT = qw(tool tool_start tool_await tool_is json_of);
our $PROGRAM = $ENV{LIMINAL} || 'build/liminal';

my $OWNER = $$;
my (%running, $n);

# In the background. DIR gets its files; $o{stdout} and $o{stdin} are handles to use instead,
# $o{server} and $o{env} go to the environment, which otherwise has nothing of ours.
sub tool_start ($dir, $arguments, %o) {
	my $base = "$dir/run-tool" . ++$n;
	defined(my $pid = fork) or croak "fork: $!";
	if (!$pid) {
		delete @ENV{ grep { /^LIMINAL_/ } keys %ENV };
		%ENV = (%ENV, %{ $o{env} // {} });
		open STDIN, $o{stdin} ? '<&' : '<', $o{stdin} // '/dev/null' or POSIX::_exit(99);
		open STDOUT, $o{stdout} ? '>&' : '>', $o{stdout} // "$base.out" or POSIX::_exit(99);
		open STDERR, '>', "$base.err" or POSIX::_exit(99);
		my @program = $o{program} ? @{ $o{program} } : $PROGRAM;
		exec @program, @$arguments or POSIX::_exit(99);
	}
	$running{$pid} = 1;
	return { pid => $pid, base => $base, name => "@$arguments" };
}

# Wait for its end; adds exit (256 + signal; undef: none came), out, err.
sub tool_await ($run) {
	my $status;
	Liminal::Daemon::poll_until(sub {
		$status = $? if waitpid($run->{pid}, WNOHANG) == $run->{pid};
		return defined $status;
	});
	delete $running{$run->{pid}} if defined $status;
	$run->{exit} = !defined $status ? undef : $status & 127 ? 256 + ($status & 127) : $status >> 8;
	$run->{out} = Liminal::Daemon::slurp("$run->{base}.out");
	$run->{err} = Liminal::Daemon::slurp("$run->{base}.err");
	return $run;
}

# Run it on the runtime directory of DAEMON.
sub tool ($daemon, $subcommand, @arguments) {
	return tool_await(tool_start($daemon->dir, [$subcommand, '-d', $daemon->dir . '/run', @arguments]));
}

# One TAP result: exit code, and what stands on standard error.
sub tool_is ($run, $exit, $err, $name) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = defined $run->{exit} && $run->{exit} == $exit && $run->{err} =~ $err;
	Test::More::ok($good, "$name: exit $exit") or
	    Test::More::diag('exit ' . ($run->{exit} // 'none') . "\n$run->{out}$run->{err}");
	return $good;
}

# The objects of its output; dies on a line that is no JSON in UTF-8.
sub json_of ($run) {
	return map { JSON::PP->new->utf8->boolean_values(0, 1)->decode($_) } split /\n/, $run->{out};
}

END {
	if ($$ == $OWNER) {
		local $?;
		kill KILL => $_ for keys %running;
	}
}

1;
