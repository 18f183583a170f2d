# Eight publishers and sixty-four subscribers: everybody gets everything, once, each publisher's messages in
# its order, and all subscribers see the same order; also those who come while it goes on, and
# beside those who end in the middle. (G2, A6)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $EACH = $ENV{LIMINAL_SANITIZED} ? 300 : 1500;

my $d = Liminal::Daemon->start(name => 'fanout', conf => <<~'CONF');
	channel "news" { keep_messages = 1000000  keep_bytes = "256M" }
	channel "quiet" { }
	CONF

# What each of SUBSCRIBERS has got is EXPECTED messages, the same for all.
sub same_for_all ($expected, $name, @subscribers) {
	is_deeply [map { @{ $_->{faults} } } @subscribers], [], "$name: gapless, each publisher's in its order";
	is_deeply [grep { $_ != $expected } map { $_->{n} } @subscribers], [], "$name: each gets all of the $expected";
	my %orders = map { $_->{sha}->clone->hexdigest => 1 } @subscribers;
	return is scalar keys %orders, 1, "$name: one order for all";
}

{
	note '-- one to one';
	my $s = flow_subscriber(do { my $c = $d->client(name => 'one'); $c->subscribe('news'); $c }, stream => 1);
	my $p = flow_publisher($d->client(name => 'alone'), 'news', n => 50 * $EACH, window => 1000);
	ok flow($p, $s, { until => sub { $p->{acked} == $p->{n} && $s->{n} >= $p->{n} } }), 'all arrive'
	    or diag "acked $p->{acked} arrived $s->{n}";
	same_for_all($p->{n}, 'one to one', $s);
	is_deeply $p->{faults}, [], 'every publish is answered, ids ascend';
	is $p->{delivered}, $p->{n}, 'delivered';
	is $p->{ids}[1] - $p->{ids}[0] + 1, $p->{n}, 'an id for each';
	$_->{client}->hang_up for $s, $p;
}

await_counts($d, { connections => 0, subscriptions => 0 }, 'they are gone');

{
	note '-- one that reads late, when nothing else happens any more';
	my $c = $d->client(name => 'late');
	$c->subscribe('news', stream => 1);
	my $p = flow_publisher($d->client(name => 'alone'), 'news', n => 20 * $EACH, size => 1000);
	ok flow($p), 'all are acknowledged';
	$p->{client}->hang_up;
	my $s = flow_subscriber($c, stream => 1);
	ok flow($s, { until => sub { $s->{n} == $p->{n} } }), 'all arrive' or diag "arrived: $s->{n}";
	same_for_all($p->{n}, 'late', $s);
	$c->hang_up;
}

my @subscribers = map { my $c = $d->client(name => "s$_"); $c->subscribe('news', stream => $_); flow_subscriber($c, stream => $_) } 1 .. 64;
my @quiet = map { my $c = $d->client(name => "q$_"); $c->subscribe('quiet'); $c } 1, 2;
my @publishers = map { flow_publisher($d->client(name => "p$_"), 'news', who => "p$_", n => $EACH, window => 128, size => 64) } 1 .. 8;

{
	note '-- eight to sixty-four';
	my $all = 8 * $EACH;
	ok flow(@publishers, @subscribers, { until => sub {
		return !grep({ $_->{acked} < $_->{n} } @publishers) && !grep { $_->{n} < $all } @subscribers;
	} }), 'all arrive';
	same_for_all($all, 'eight to sixty-four', @subscribers);
	is_deeply [map { @{ $_->{faults} } } @publishers], [], 'every publish is answered';
	is_deeply [grep { $_->{delivered} != $EACH } @publishers], [], 'delivered';
	my ($least, $most) = (sort { $a <=> $b } map { @{ $_->{ids} } } @publishers)[0, -1];
	is $most - $least + 1, $all, 'ids without a gap';
}

{
	note '-- some come, some end, some are killed meanwhile';
	my @before = map { $_->{sequence} } @subscribers;
	my @going = @subscribers[0 .. 7];
	my @killed = @subscribers[8 .. 11];
	my @staying = @subscribers[12 .. 63];
	my %pid = map { $_ => $d->pid_of($_->{client}) } @killed;
	$d->expect_log(qr/killed by signal 9/);
	@$_{qw(sent acked delivered from)} = (0, 0, 0, $EACH + 1) for @publishers;
	my ($step, @late) = (0);
	my @parts = (@publishers, @subscribers);
	my $all = 8 * $EACH;
	my $done = Liminal::Client::pump([map { $_->{client} } @parts], sub {
		Liminal::Flow::_fill($_) for grep { $_->{sent} < $_->{n} } @publishers;
		my $acked = 0;
		$acked += $_->{acked} for @publishers;
		while ($step < 8 && $acked > $all * ($step + 1) / 10) {
			$going[$step]{client}->hang_up;
			kill 'KILL', $pid{ $killed[$step] } if $step < 4;
			my $c = $d->connect(name => "late$step");
			$c->send_all(['Connect'], ['Subscribe', channel => 'news', max_in_flight => 1, stream => 2]);
			push @late, flow_subscriber($c, stream => 2, joined => 1);
			$step++;
		}
		# The late ones are read below: nobody waits for them.
		return $acked == $all && !grep { $_->{n} < 2 * $all } @staying;
	});
	ok $done, 'all arrive at those who stay';
	same_for_all(2 * $all, 'those who stay', @staying);
	is_deeply [map { @{ $_->{faults} } } @publishers], [], 'every publish is answered';
	is $step, 8, 'all that was meant to happen did';
	my $c = $d->client(name => 'last');
	$c->publish('news', flow_message('last', 1, 64));
	ok flow(@late, { until => sub { !grep { !$_->{last}{'last'} } @late } }), 'the late ones get the last message';
	is_deeply [map { @{ $_->{faults} } } @late], [], 'the late ones: from 1, gapless, in order';
	# Once they had a publisher's message they had all of its later ones.
	my @short = grep { my $l = $_; grep { ($l->{last}{"p$_"} // 2 * $EACH) != 2 * $EACH } 1 .. 8 } @late;
	is scalar @short, 0, 'to the end';
	ok flow(@staying, { until => sub { !grep { !$_->{last}{'last'} } @staying } }), 'so do the others';
	for my $subscriber (@killed) {
		wait_until(sub { $subscriber->{client}->_turn(0); !$subscriber->{client}->is_open }, 'the killed one\'s connection is closed')
		    if $subscriber->{client}->is_open;
		is_deeply $subscriber->{faults}, [], 'what the killed one got was in order';
	}
	await_counts($d, { subscriptions => 52 + 8 + 2 }, 'rows of those who live');
	is $d->check_state, undef, 'the state keeps its rules' if $ENV{LIMINAL_CHECK_STATE};
}

$_->expect_quiet('other channels are not disturbed') for @quiet;

finish_testing;
