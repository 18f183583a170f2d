# Everything is killed at random moments, again and again, on durable channels: an outside witness counts what
# was acknowledged, and none of it is lost, doubled or changed, and nothing is there that nobody published;
# with an idempotency key a message is there exactly once, however often it had to be published. (G3, G5)
#
# LIMINAL_ROUNDS: how many times (default 30). LIMINAL_SEED: repeats a choice of moments.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use POSIX ();
use Test::More;
use Time::HiRes 'sleep';
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $ROUNDS = $ENV{LIMINAL_ROUNDS} || 30;
my $SEED = $ENV{LIMINAL_SEED} || time;
my $LONGEST = $ENV{LIMINAL_SANITIZED} ? 0.5 : 0.15;	# seconds between two strikes
note "LIMINAL_ROUNDS=$ROUNDS LIMINAL_SEED=$SEED";
srand $SEED;

# Routed messages come to "kept" from an ephemeral channel.
my $CONF = <<~'CONF';
	channel "orders" { durable = true  keep_messages = 100000000  keep_bytes = "60G" }
	channel "kept" { durable = true  keep_messages = 100000000  keep_bytes = "60G" }
	channel "source" { }
	route "all" { from = "source" to = "kept" }
	CONF
my $base = Liminal::Daemon->prepare(name => 'base');

my %PUBLISHERS = (
	plain1 => { channel => 'orders' }, plain2 => { channel => 'orders', size => 3000, window => 16 },
	keyed => { channel => 'orders', keyed => 1 }, one => { channel => 'orders', window => 1 },
	routed => { channel => 'source', to => 'kept' }, direct => { channel => 'kept' },
);
# Of each: numbers up to SENT were published, those in ACKED acknowledged; REPEAT are to be published again.
$_->{sent} = 0, $_->{acked} = '', $_->{repeat} = [] for values %PUBLISHERS;
my %head = (orders => 0, kept => 0);		# what the last look found, by channel
my %seen = (orders => [undef], kept => [undef]);	# sequence => its message, as it was first seen
my %reached;					# by consumer: the highest sequence it ever got
my ($n_acked, @faults) = (0);

sub fault ($text) { push @faults, $text if @faults < 10; return }

# A publisher's turn on a new connection: acknowledgements come in order.
sub go_on ($d, $name) {
	my $p = $PUBLISHERS{$name};
	my $client = $d->client(name => $name);
	my @waiting;
	$p->{client} = $client;
	$p->{waiting} = \@waiting;
	$client->gather(sub { fault("$name gets a Deliver") }, sub ($stream, $id, $flags) {
		my $number = shift @waiting // return fault("$name: an acknowledgement too many");
		vec($p->{acked}, $number, 1) = 1;
		$n_acked++;
	});
	return;
}

sub fill ($p, $name) {
	my $window = $p->{window} // 64;
	my $bytes = '';
	while (@{ $p->{waiting} } < $window) {
		my $number = shift @{ $p->{repeat} } // ++$p->{sent};
		push @{ $p->{waiting} }, $number;
		$bytes .= encode_frame('Publish', channel => $p->{channel}, payload => flow_message($name, $number, $p->{size} // 40),
		    $p->{keyed} ? (key => "$name.$number") : ());
	}
	$p->{client}->queue_bytes($bytes) if $bytes ne '';
	return;
}

# Its connection has ended: what was not acknowledged may be there or not; with a key it is tried again.
sub gives_up ($p) {
	unshift @{ $p->{repeat} }, @{ $p->{waiting} } if $p->{keyed};
	$p->{client}->hang_up;
	return;
}

# A consumer that accepts what it gets, and checks that it is what was there before.
sub consume ($d, $channel, $name, %o) {
	my $c = $d->client(name => $name);
	my ($accepts, $before, $n) = ('', 0, 0);
	$c->subscribe($channel, stream => 1, max_in_flight => 500, consumer => $name, %o);
	$c->gather(sub ($stream, $sequence, $payload, $flags) {
		fault("$name: sequence $sequence after $before") if $before && $sequence != $before + 1;
		fault("$name: goes on with $sequence, had got to $reached{$name}")
		    if !$before && $reached{$name} && $sequence > $reached{$name} + 1;
		$reached{$name} = $sequence if $sequence > ($reached{$name} // 0);
		$before = $sequence;
		$n++;
		my $head = substr $payload, 0, 12;
		fault("$name: sequence $sequence is " . unpack('H*', $head) . ', was ' . unpack 'H*', $seen{$channel}[$sequence])
		    if defined $seen{$channel}[$sequence] && $seen{$channel}[$sequence] ne $head;
		$seen{$channel}[$sequence] = $head;
		$accepts .= encode_frame('Accept', reference => "$sequence", stream => 1);
	});
	return { client => $c, channel => $channel, at => sub { $before }, n => sub { $n },
	    flush => sub { $c->queue_bytes($accepts); $accepts = '' } };
}

# Let everybody go on until DONE; false when nothing moves.
sub play ($done, $consumers, @publishers) {
	return Liminal::Client::pump([map({ $_->{client} } @$consumers), map { $PUBLISHERS{$_}{client} } @publishers], sub {
		fill($PUBLISHERS{$_}, $_) for @publishers;
		$_->{flush}->() for @$consumers;
		return $done->() || @faults;
	});
}

# Read CHANNEL from sequence FROM to what is published now, and check it against the witness.
sub look ($d, $channel, $from, $what) {
	my $last = $d->client(name => 'end');
	$last->publish($channel, flow_message('end', ++$PUBLISHERS{end}{$channel}));
	vec($PUBLISHERS{end}{acked}{$channel}, $PUBLISHERS{end}{$channel}, 1) = 1;
	$last->hang_up;
	my $end = flow_message('end', $PUBLISHERS{end}{$channel});
	my $reader = consume($d, $channel, "look$from$what", start => START_SEQUENCE, sequence => $from);
	my $there = play(sub { ($seen{$channel}[-1] // '') eq $end && $reader->{at}->() == $#{ $seen{$channel} } }, [$reader]);
	fault("$what: $channel stuck at " . $reader->{at}->()) if !$there;
	$reader->{client}->hang_up;
	return if !$there;
	fault("$what: $channel begins with " . ($reader->{at}->() - $reader->{n}->() + 1)) if $reader->{at}->() - $reader->{n}->() + 1 != $from;
	return $head{$channel} = $reader->{at}->();
}

# All that is known of CHANNEL: everything that was acknowledged once, nothing else.
sub verify ($channel, $what) {
	my %there;
	for my $sequence (1 .. $#{ $seen{$channel} }) {
		my ($who, $number) = unpack 'A8 N', $seen{$channel}[$sequence] // (fault("$what: $channel $sequence was never seen"), next);
		next if $who eq 'end';
		my $p = $PUBLISHERS{$who};
		fault("$what: $channel $sequence is of '$who'") if !$p || ($p->{to} // $p->{channel}) ne $channel;
		fault("$what: $who never published $number") if $number > $p->{sent};
		fault("$what: $who $number is there twice") if vec $there{$who} //= '', $number, 1;
		fault("$what: $who $number is there after $p->{latest}") if !$p->{keyed} && $number <= ($p->{latest} // 0);
		vec($there{$who}, $number, 1) = 1;
		$p->{latest} = $number;
	}
	for my $who (grep { $_ ne 'end' && ($PUBLISHERS{$_}{to} // $PUBLISHERS{$_}{channel}) eq $channel } keys %PUBLISHERS) {
		my $p = $PUBLISHERS{$who};
		delete $p->{latest};
		for my $number (1 .. $p->{sent}) {
			fault("$what: $who $number was acknowledged and is lost") if vec($p->{acked}, $number, 1) && !vec $there{$who} //= '', $number, 1;
		}
	}
	return;
}

my @names = sort keys %PUBLISHERS;
my %n_rounds;
for my $round (1 .. $ROUNDS) {
	my $d = Liminal::Daemon->start(name => "round $round", dir => $base->dir, conf => $CONF);
	$d->allow_log(qr/killed by signal|keeper|store|conn=/);
	look($d, $_, $head{$_} + 1, "round $round") for sort keys %head;
	go_on($d, $_) for @names;
	my $consumer = consume($d, 'orders', 'away', $round == 1 ? (start => START_OLDEST) : ());
	my $kind = $round % 3 ? 'all' : 'store';
	$n_rounds{$kind}++;
	# Somebody else strikes, so that it can be in the middle of anything.
	my $killer = fork // die "fork: $!";
	if (!$killer) {
		for (0 .. ($kind eq 'store' ? rand 3 : 0)) {
			sleep rand $LONGEST;
			kill 'KILL', $kind eq 'all' ? ($d->pid, map { $_->{pid} } $d->processes) : ($d->service_pid('store') // ());
		}
		POSIX::_exit(0);
	}
	if ($kind eq 'store') {
		# Everybody goes on, and gets all answers.
		play(sub { waitpid($killer, POSIX::WNOHANG) == $killer }, [$consumer], @names) or fault("round $round: stuck");
		my $goal = $n_acked + 1000;
		play(sub { $n_acked >= $goal }, [$consumer], @names) or fault("round $round: stuck after the store's end");
		my $all = Liminal::Client::pump([$consumer->{client}, map { $PUBLISHERS{$_}{client} } @names], sub {
			$consumer->{flush}->();
			return !grep { @{ $PUBLISHERS{$_}{waiting} } } @names;
		});
		fault("round $round: not all were answered") if !$all;
	} else {
		play(sub { !grep { $PUBLISHERS{$_}{client}->is_open } @names }, [$consumer], @names) or fault("round $round: stuck");
		waitpid $killer, 0;
	}
	kill 'KILL', $d->pid, map { $_->{pid} } $d->processes;
	$d->kill9;
	# What had arrived by then was acknowledged.
	for my $name (@names) {
		my $p = $PUBLISHERS{$name};
		Liminal::Client::pump([$p->{client}], sub { !$p->{client}->is_open });
		gives_up($p);
	}
	$consumer->{client}->hang_up;
	Liminal::Daemon::poll_until(sub { !$d->processes }) or fault("round $round: processes are left");
	$d->{finished} = 1;
	last if @faults;
}
note "acknowledged: $n_acked, " . join ', ', map { "$_ killed: $n_rounds{$_} times" } sort keys %n_rounds;

my $d = Liminal::Daemon->start(name => 'last', dir => $base->dir, conf => $CONF);
# Those with keys are tried until they are acknowledged.
if (!@faults) {
	my $keyed = $PUBLISHERS{keyed};
	go_on($d, 'keyed');
	play(sub { !@{ $keyed->{repeat} } }, [], 'keyed') or fault('keyed: stuck');
	Liminal::Client::pump([$keyed->{client}], sub { !@{ $keyed->{waiting} } }) or fault('keyed: not all were answered');
	look($d, $_, 1, 'at last') for sort keys %head;
	verify($_, 'at last') for sort keys %head;
	my %n = map { $_ => 0 } 1 .. $keyed->{sent};
	$n{ (unpack 'A8 N', $_)[1] }++ for grep { defined && /^keyed / } @{ $seen{orders} };
	is scalar(grep { $_ != 1 } values %n), 0, 'with a key: exactly once, all of ' . $keyed->{sent};
	# The consumer that was away goes on, and has missed nothing.
	my $consumer = consume($d, 'orders', 'away');
	my $c = $d->client(name => 'final');
	$c->publish('orders', flow_message('end', 999_999));
	ok play(sub { ($seen{orders}[-1] // '') eq flow_message('end', 999_999) && $consumer->{at}->() == $#{ $seen{orders} } }, [$consumer]),
	    'the consumer reaches the end';
}
is_deeply \@faults, [], 'what was acknowledged is there, once, unchanged, in order; nothing is invented';
cmp_ok $n_acked, '>', 100 * $ROUNDS, "$n_acked were acknowledged";
$d->finish;
$base->finish;
finish_testing;
