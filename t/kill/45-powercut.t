# The power is cut: only what had reached the device is there afterwards. The store lies on a file system in a
# file; at a random moment everything is stopped and that file is copied as it is, without what the kernel still holds
# back. A daemon that starts on the copy has every message that was acknowledged. (G3)
#
# LIMINAL_ROUNDS: how many times (default 6). LIMINAL_SEED: repeats a choice of moments.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $ROUNDS = $ENV{LIMINAL_ROUNDS} || 6;
my $SEED = $ENV{LIMINAL_SEED} || time;
note "LIMINAL_ROUNDS=$ROUNDS LIMINAL_SEED=$SEED";
srand $SEED;

my $CONF = <<~'CONF';
	channel "orders" { durable = true  keep_messages = 100000000  keep_bytes = "8G" }
	channel "source" { }
	channel "copies" { durable = true  keep_messages = 100000000  keep_bytes = "8G" }
	route "all" { from = "source" to = "copies" }
	CONF
my %READ = (orders => 'orders', source => 'copies');

my $base = Liminal::Daemon->prepare(name => 'base');
my ($image, $mounted) = ($base->dir . '/image', $base->dir . '/persist');

sub plug_in () { return system("mount -o loop,noatime $image $mounted 2>/dev/null") == 0 }

if ($> != 0 || system("truncate -s 512M $image && mkfs.ext4 -q -F $image 2>/dev/null") != 0 || !plug_in) {
	$base->{finished} = 1;
	$base->_remove;
	plan skip_all => 'cannot mount a file system in a file';
}
END { local $?; system "umount -l $mounted 2>/dev/null" if $base && -d $mounted }

# By channel that is published to: the last number sent and acknowledged, and what was found, by sequence.
my %sent = map { $_ => 0 } keys %READ;
my (%acked, %found, @faults);
my $n_acked = 0;

sub fault ($text) { push @faults, $text if @faults < 10; return }

sub look ($d, $round) {
	for my $channel (sort keys %READ) {
		my $end = $d->client(name => 'end');
		$end->publish($READ{$channel}, "end $round");
		my $c = $d->client(name => 'reader');
		$c->subscribe($READ{$channel}, stream => 1, max_in_flight => 100_000_000, consumer => "look$round", start => START_OLDEST);
		my ($expected, @numbers, $is_done) = (1);
		$c->gather(sub ($stream, $sequence, $payload, $flags) {
			fault("round $round: $channel: sequence $sequence, not $expected") if $sequence != $expected;
			$expected = $sequence + 1;
			return $is_done = $payload eq "end $round" if $payload =~ /^end /;
			my $number = unpack 'x8 N', $payload;
			fault("round $round: $channel: $sequence was $found{$channel}[$sequence], is $number")
			    if ($found{$channel}[$sequence] // $number) != $number;
			fault("round $round: $channel: number $number, after " . ($numbers[-1] // 0)) if $number <= ($numbers[-1] // 0);
			$found{$channel}[$sequence] = $number;
			push @numbers, $number;
		});
		Liminal::Client::pump([$c], sub { $is_done }) or fault("round $round: $channel: stuck at $expected");
		my %there = map { $_ => 1 } @numbers;
		my @lost = grep { !$there{$_} } @{ $acked{$channel} // [] };
		fault("round $round: $channel: $lost[0] and others were acknowledged and are lost: " . @lost) if @lost;
		fault("round $round: $channel: $numbers[-1] was never sent") if @numbers && $numbers[-1] > $sent{$channel};
		$_->hang_up for $end, $c;
	}
	return;
}

for my $round (1 .. $ROUNDS + 1) {
	my $d = Liminal::Daemon->start(name => "round $round", dir => $base->dir, conf => $CONF);
	$d->allow_log(qr/./);
	look($d, $round);
	if ($round > $ROUNDS || @faults) {
		is $d->stop, 0, 'the last one ends well';
		$d->{finished} = 1;
		last;
	}
	my %p;
	for my $channel (sort keys %READ) {
		my $c = $d->client(name => $channel);
		my @waiting;
		$c->gather(sub { }, sub ($stream, $id, $flags) {
			push @{ $acked{$channel} }, shift @waiting;
			$n_acked++;
		});
		$p{$channel} = { client => $c, waiting => \@waiting };
	}
	my $goal = $n_acked + int rand 3000;
	Liminal::Client::pump([map { $_->{client} } values %p], sub {
		for my $channel (keys %p) {
			while (@{ $p{$channel}{waiting} } < 64) {
				push @{ $p{$channel}{waiting} }, ++$sent{$channel};
				$p{$channel}{client}->queue_bytes(encode_frame('Publish', channel => $channel,
				    payload => flow_message('p', $sent{$channel}, 40 + int rand 400)));
			}
		}
		return $n_acked >= $goal;
	}) or fault("round $round: stuck");
	kill 'STOP', map { $_->{pid} } $d->processes;
	system("cp --sparse=always $image $image.cut") == 0 or die 'cp failed';
	# What had been acknowledged by then is on its way or here.
	Liminal::Client::pump([map { $_->{client} } values %p], sub { 0 }, 0.1);
	$_->{client}->hang_up for values %p;
	kill 'KILL', $d->pid, map { $_->{pid} } $d->processes;
	$d->kill9;
	Liminal::Daemon::poll_until(sub { !$d->processes });
	$d->{finished} = 1;
	system("umount $mounted") == 0 or die 'umount failed';
	rename "$image.cut", $image or die "rename: $!";
	plug_in or fault("round $round: the file system cannot be mounted");
}
is_deeply \@faults, [], 'what was acknowledged is there, once, in order';
cmp_ok $n_acked, '>', 500 * $ROUNDS, "$n_acked were acknowledged";
system "umount -l $mounted";
$base->finish;
finish_testing;
