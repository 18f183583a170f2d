# Numbered messages in large numbers: publishers that keep so many unanswered, and subscribers that
# check what they get as it comes. A message is the publisher's name (8 bytes), its number from 1
# (u32) and padding.
#
#   my $p = flow_publisher($client, 'orders', who => 'a', n => 10000, size => 64, window => 256);
#   my $s = flow_subscriber($other);
#   flow($p, $s, { until => sub { $p->{acked} == $p->{n} && $s->{n} == $p->{n} } });
#
# Both are plain hashes; {faults} lists what was wrong (nothing after the first few).
package Liminal::Flow;
use v5.36;
use Digest::SHA ();
use Exporter 'import';
use Liminal::Client;
use Liminal::Wire;

our @EXPORT = qw(flow_message flow_publisher flow_subscriber flow);

sub flow_message ($who, $number, $size = 12) {
	my $head = pack 'A8 N', $who, $number;
	return $size > 12 ? $head . 'x' x ($size - 12) : $head;
}

sub _fault ($self, $text) {
	push @{ $self->{faults} }, $text if @{ $self->{faults} } < 5;
	return;
}

# CLIENT publishes N messages to CHANNEL; WINDOW of them may be unanswered. size; stream; from: the first
# number; keyed: each with an idempotency key of its own. Counts: sent, acked, delivered (acks with that
# flag), and {ids}: first and last message id; ids must ascend.
sub flow_publisher ($client, $channel, %o) {
	my $self = { client => $client, channel => $channel, window => 256, size => 64, stream => 1,
	    from => 1, who => 'p', %o, sent => 0, acked => 0, delivered => 0, ids => [], faults => [] };
	$client->gather(sub { _fault($self, 'a Deliver') }, sub ($stream, $id, $flags) {
		$self->{acked}++;
		$self->{delivered}++ if $flags & F_DELIVERED;
		_fault($self, "an answer on stream $stream") if $stream != $self->{stream};
		_fault($self, "message id $id after $self->{ids}[1]") if $self->{ids}[1] && $id <= $self->{ids}[1];
		$self->{ids}[0] //= $id;
		$self->{ids}[1] = $id;
	});
	return $self;
}

# CLIENT's subscriptions are looked at together, as one: sequences go on from {sequence}, and each publisher's
# numbers from {last}{WHO}. Counts: n, and n_of by publisher. {sha} is of all payloads, in their order.
#   joined => a publisher's first number may be any; stream => what comes must come on it
sub flow_subscriber ($client, %o) {
	my $self = { client => $client, sequence => 0, n => 0, n_of => {}, last => {}, faults => [],
	    sha => Digest::SHA->new(1), %o };
	my ($last, $sha, $n_of) = @$self{qw(last sha n_of)};
	$client->gather(sub ($stream, $sequence, $payload, $flags) {
		_fault($self, "sequence $sequence after $self->{sequence}")
		    if $sequence != $self->{sequence} + 1;
		$self->{sequence} = $sequence;
		$self->{n}++;
		my ($who, $number) = unpack 'A8 N', $payload;
		$n_of->{$who}++;
		my $before = $last->{$who} // 0;
		_fault($self, "number $number of $who after $before")
		    if $number != $before + 1 && ($before || !$self->{joined});
		$last->{$who} = $number;
		_fault($self, "stream $stream") if defined $self->{stream} && $stream != $self->{stream};
		$sha->add($payload);
	}, sub { _fault($self, 'a PublishAck') });
	return $self;
}

sub _fill ($p) {
	my $room = $p->{window} - ($p->{sent} - $p->{acked});
	my $left = $p->{n} - $p->{sent};
	$room = $left if $left < $room;
	return if $room < $p->{window} / 4 && $room < $left;
	my $bytes = '';
	while ($room-- > 0) {
		my $number = $p->{from} + $p->{sent}++;
		$bytes .= encode_frame('Publish', channel => $p->{channel}, stream => $p->{stream},
		    payload => flow_message($p->{who}, $number, $p->{size}),
		    $p->{keyed} ? (key => "$p->{who}.$number") : ());
	}
	$p->{client}->queue_bytes($bytes);
	return;
}

# Let PARTS, publishers and subscribers, go on until CONDITION holds; false when nothing moves for BOUND
# seconds before that. A publisher that has a {brake} does not publish more while it says so.
sub flow (@parts) {
	my %o = ref $parts[-1] eq 'HASH' && !$parts[-1]{client} ? %{ pop @parts } : ();
	my @publishers = grep { $_->{channel} } @parts;
	my $until = $o{until} // sub { !grep { $_->{acked} < $_->{n} } @publishers };
	return Liminal::Client::pump([map { $_->{client} } @parts], sub {
		_fill($_) for grep { $_->{sent} < $_->{n} && !($_->{brake} && $_->{brake}->()) } @publishers;
		return $until->();
	}, $o{bound} // $Liminal::Client::BOUND);
}

1;
