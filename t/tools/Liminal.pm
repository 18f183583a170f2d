# The harness of t/e2e and t/kill: starts the real daemon, speaks to it with an independent
# implementation of the protocol, looks at it from outside (/proc, mdb_stat).
#
#   my $d = Liminal::Daemon->start(conf => 'limits { connections = 2 }');
#   my $c = $d->client;
#   $c->open(1, 'anything');
#   $c->ask(1, 'hello');
#   $c->expect_answer(1, 'hello');
#   finish_testing;
#
# LIMINALD names the daemon (default build/liminald), LIMINAL_CHECK_STATE a program that
# verifies a state directory after each daemon's end, LIMINAL_TEST_BOUND the seconds that any
# wait may take, LIMINAL_TEST_SLACK what is added to the times that are promised (for
# sanitizers and slow machines); with LIMINAL_TEST_KEEP the directories stay.
package Liminal;
use v5.36;
use Exporter 'import';
use Liminal::Client;
use Liminal::Daemon;
use Test::More ();

our @EXPORT = qw(wait_until finish_testing now slack await_counts whoever_gets);

sub now :prototype() () { return Liminal::Client::now() }
# (client, Push) of the first of CLIENTS that gets a frame; one TAP result.
sub whoever_gets ($name, @clients) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($client, $frame) = Liminal::Client::whoever_gets(@clients);
	Test::More::is($frame ? $frame->{type} : 'nothing', 'Push', $name);
	return ($client // $clients[0], $frame // {});
}

sub slack :prototype() () { return $ENV{LIMINAL_TEST_SLACK} || 0 }

# One TAP result: CONDITION comes to hold.
sub wait_until ($condition, $what, $bound = $Liminal::Client::BOUND) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $value = Liminal::Daemon::poll_until($condition, $bound);
	Test::More::ok($value, $what);
	return $value;
}

# One TAP result: the state comes to have these numbers of rows.
sub await_counts ($daemon, $want, $what) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $have;
	Liminal::Daemon::poll_until(sub {
		$have = $daemon->mdb_counts;
		return !grep { ($have->{$_} // -1) != $want->{$_} } keys %$want;
	});
	return Test::More::is_deeply({ map { $_ => $have->{$_} } keys %$want }, $want, $what);
}

sub finish_testing :prototype() () {
	Liminal::Daemon::finish_all();
	Test::More::done_testing();
	return;
}

1;
