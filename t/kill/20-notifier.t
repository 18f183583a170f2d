# Connections register, replace their registration and leave, while their processes, the notifier's and
# the keeper's are killed at random moments: the module is told of the end of each registration
# that it accepted, once. What a killed notifier was in the middle of counts as said in
# liminal/notifier.h, and its successor's log names it. (C3, C4)
#
# LIMINAL_KILLS: how many (default 150). LIMINAL_SEED: repeats a choice of victims.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Time::HiRes 'usleep';
use Liminal;
use Liminal::Wire;

my $KILLS = $ENV{LIMINAL_KILLS} || 150;
my $SEED = $ENV{LIMINAL_SEED} || time;
my $MODULES = $ENV{LIMINAL_MODULES} || 'build/t/modules';
note "LIMINAL_KILLS=$KILLS LIMINAL_SEED=$SEED";
srand $SEED;

my $d = Liminal::Daemon->start(name => 'notifier', conf => <<~CONF);
	notifier { module = "$MODULES/notifier_script.so" args = { "%D/calls" } timeout = "5s" }
	CONF
$d->allow_log(qr/killed by signal|keeper|notifier|conn=/);

sub notifier_pid () {
	return (map { $_->{pid} } grep { $_->{title} =~ /^liminald: notifier/ && $_->{state} ne 'Z' } $d->children)[0];
}

# It answers questions again.
sub wait_notifier () {
	return Liminal::Daemon::poll_until(sub {
		my $pid = notifier_pid();
		return $pid && !$d->mdb_counts->{inbox} && $pid;
	});
}

my (@clients, %done);
my @who = ('nap', 'nap', 'w', 'reject:no', 'only-once');

sub strike ($what) { $done{$what}++; return }

sub newcomer () {
	my $client = eval { $d->client } or return;
	$client->send_register(identity => $who[rand @who]);
	push @clients, $client;
	return;
}

newcomer() for 1 .. 8;
my $killed = 0;
my $broken;
while ($killed < $KILLS) {
	my $dice = rand;
	my $i = int rand @clients;
	my $client = $clients[$i];
	if (@clients < 4 || (@clients < 16 && $dice < 0.3)) {
		newcomer();
	} elsif ($dice < 0.55) {
		$client->send_register(identity => $who[rand @who]) if $client->is_open;
	} elsif ($dice < 0.65) {
		splice @clients, $i, 1;
		rand() < 0.5 ? $client->hang_up : $client->reset;
		strike('client leaves');
	} elsif ($dice < 0.90) {
		my @pids = $d->connection_pids;
		kill 'KILL', $pids[rand @pids] if @pids;
		$killed++;
		strike('connection killed');
	} elsif ($dice < 0.98) {
		# While it has something to do.
		my $pid = wait_notifier() or last;
		$_->send_register(identity => $who[rand @who]) for grep { $_->is_open } @clients;
		(splice @clients, int rand @clients, 1)->hang_up for 1 .. 2;
		usleep int rand 4000;
		kill 'KILL', $pid;
		$killed++;
		strike('notifier killed');
	} else {
		my $pid = $d->keeper_pid;
		kill 'KILL', $pid if $pid;
		strike('keeper killed');
	}
	usleep int rand 3000 if rand() < 0.5;
	$_->frames_so_far, @{ $_->{transcript} } = () for @clients;
	@clients = grep { $_->is_open } @clients;
	last if defined $d->reap || ($killed % 50 == 1 && defined($broken = $d->check_state));
}
ok !defined $d->reap, 'the daemon lives';
is $broken, undef, 'the state keeps its rules meanwhile';
note join ', ', map { "$_: $done{$_}" } sort keys %done;

note '-- what works after all that';
my $last;
wait_until(sub { $last = eval { $d->worker(name => 'last', identity => 'w') } }, 'a worker is accepted');
$_->hang_up for @clients, $last // ();
await_counts($d, { map { $_ => 0 } qw(registrations inbox workers connections) }, 'nothing is owed');

note '-- every accepted registration has ended once';
my $text = Liminal::Daemon::slurp($d->dir . '/calls');
my (%lost, %calls, @faults);
my $log = $d->log;
$lost{$1}{$2}++ while $log =~ /notifier call=worker_(\w+) conn=(\d+) did not return/g;
for (split /\n/, $text) {
	my ($event, $call, $conn, $what) = /^\d+ (enter|leave) (\w+) (\d+)(?: (.*))?$/ or next;
	push @{ $calls{$conn} }, $event eq 'enter' ? "enter $call" : $call eq 'registered' ? $what : ();
}
my ($accepted, $ended, $cut) = (0, 0, 0);
for my $conn (sort { $a <=> $b } keys %calls) {
	my $open = 0;
	for my $event (@{ $calls{$conn} }, 'end') {
		if ($event eq 'accepted') {
			$accepted++;
			$open = 1;
		} elsif ($event eq 'enter unregistered') {
			$ended++;
			push @faults, "$conn: unregistered without a registration" if !$open;
			$open = 0;
		} elsif ($open && ($event eq 'end' || $event eq 'enter registered')) {
			# Its process ended between the module's note and the end of the call, or in the
			# beginning of the next call.
			my $in = $lost{registered}{$conn} ? 'registered' : $lost{unregistered}{$conn} ? 'unregistered' : undef;
			push @faults, "$conn: accepted, and no unregistered before " . ($event eq 'end' ? 'the end' : 'the next') if !$in;
			$lost{$in}{$conn}-- if $in;
			$cut++;
			$open = 0;
		}
	}
	push @faults, "  of: @{ $calls{$conn} }" if @faults && $faults[-1] =~ /^$conn:/;
}
splice @faults, 20 if @faults > 20;
is_deeply \@faults, [], 'unregistered once for each accepted';
note "accepted: $accepted, unregistered: $ended, killed in the call: $cut, calls that were cut: "
    . join ', ', map { my $n = 0; $n += $_ for values %{ $lost{$_} }; "$_ $n" } sort keys %lost;
cmp_ok $accepted, '>', $KILLS / 4, 'there were enough of them';

finish_testing;
