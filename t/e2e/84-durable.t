# Durable channels: an acknowledged message survives everything; the store process may die in the middle
# and nobody loses, doubles or reorders; plain subscribers get the same as from an ephemeral channel. (G2, G3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $CONF = <<~'CONF';
	drain_timeout = "300ms"
	channel "orders" { durable = true }
	channel "fast" { }
	channel "audit" { durable = true }
	CONF

# Read what is kept of CHANNEL from the oldest on, as consumer NAME, until sequence HEAD or the payload LAST.
sub replay ($d, $channel, $name, $head, $last = undef) {
	my $c = $d->client(name => $name);
	$c->subscribe($channel, stream => 1, max_in_flight => 1_000_000, consumer => $name, start => START_OLDEST);
	my @got;
	$c->gather(sub ($stream, $sequence, $payload, $flags) { push @got, [$sequence, $payload] });
	Liminal::Client::pump([$c], sub { @got && (defined $last ? $got[-1][1] eq $last : $got[-1][0] >= $head) });
	$c->hang_up;
	return @got;
}

{
	my $d = Liminal::Daemon->start(name => 'durable', conf => $CONF);
	my $p = $d->client(name => 'publisher');
	my $s = $d->client(name => 'subscriber');

	note '-- acknowledged after the commit';
	my $store = $d->service_pid('store');
	ok $store, 'there is a store process';
	is_deeply [@{ $p->publish('orders', 'first', stream => 3) }{qw(message_id flags)}], [1, 0], 'the first message id, delivered to nobody';
	$s->subscribe('orders', stream => 6);
	kill 'STOP', $store;
	$p->send('Publish', channel => 'orders', payload => 'second', stream => 4, clock => 7, parent_id => 'first');
	$p->expect_quiet('no acknowledgement before the store has it');
	$s->expect_quiet('nor is it delivered');
	is $p->publish('fast', 'meanwhile')->{message_id}, 2, 'ephemeral channels do not wait for the disk';
	kill 'CONT', $store;
	$p->expect('PublishAck', { message_id => 3, stream => 4, flags => F_DELIVERED }, 'acknowledged, delivered');
	my ($frame) = $s->expect_deliveries(['second'], 'delivered: a plain subscription, from 1', stream => 6);
	is_deeply [@$frame{qw(flags clock parent_id)}], [0, 7, 'first'], 'as from any channel';
	is $frame->{schema_id}, schema_id_of('{}'), 'with the channel\'s schema id';

	note '-- answers on one stream come in the order of the publishes';
	my @kinds = map { (qw(orders fast orders nowhere audit fast))[$_ % 6] } 0 .. 59;
	$p->send_all(map { ['Publish', channel => $_, payload => 'x', stream => 5] } @kinds);
	my @answers = map { $p->next_frame // { type => 'nothing' } } @kinds;
	is_deeply [map { $_->{type} } @answers], [map { $_ eq 'nowhere' ? 'PublishError' : 'PublishAck' } @kinds], 'of all kinds of channels';
	my @flags = map { $kinds[$_] eq 'nowhere' ? () : $answers[$_]{flags} // 9 } 0 .. $#kinds;
	is_deeply \@flags, [map { $_ eq 'nowhere' ? () : $_ eq 'orders' ? F_DELIVERED : 0 } @kinds], 'each its own';
	$s->expect_deliveries([('x') x 20], 'orders', from => 2);

	note '-- many publishers, many subscribers';
	my @subscribers = map { my $c = $d->client(name => "s$_"); $c->subscribe('orders'); flow_subscriber($c) } 1 .. 4;
	my $n = $ENV{LIMINAL_SANITIZED} ? 1000 : 4000;
	my @publishers = map { flow_publisher($d->client(name => "p$_"), 'orders', who => "p$_", n => $n) } 1 .. 8;
	ok flow(@publishers, @subscribers, { until => sub {
		!grep({ $_->{acked} < $n } @publishers) && !grep { $_->{n} < 8 * $n } @subscribers;
	} }), 'all are acknowledged and arrive';
	is_deeply [map { @{ $_->{faults} } } @publishers, @subscribers], [], 'gapless, in order, exactly once';
	is scalar(keys %{ { map { $_->{sha}->clone->hexdigest => 1 } @subscribers } }), 1, 'in one order';

	note '-- the store process is killed in the middle';
	$d->expect_log(qr/store ended .*killed by signal 9/);
	my @nth = (1) x 8;
	for my $round (1 .. 5) {
		@$_{qw(sent acked delivered from)} = (0, 0, 0, $round * $n + 1) for @publishers;
		my $total = ($round + 1) * 8 * $n;
		my $killed = 0;
		my $done = flow(@publishers, @subscribers, { until => sub {
			my $acked = 0;
			$acked += $_->{acked} for @publishers;
			if (!$killed && $acked > 8 * $n * $round / 7) {
				my $pid = $d->service_pid('store');
				kill 'KILL', $pid if $pid;
				$killed = !!$pid;
			}
			return $acked == 8 * $n && !grep { $_->{n} < $total } @subscribers;
		} });
		ok $done && $killed, "round $round: all are acknowledged and arrive" or diag 'acked ' . join ' ', map { $_->{acked} } @publishers;
		last if !$done;
	}
	is_deeply [map { @{ $_->{faults} } } @publishers, @subscribers], [], 'gapless, in order, exactly once, whatever was killed';
	is scalar(keys %{ { map { $_->{sha}->clone->hexdigest => 1 } @subscribers } }), 1, 'in one order';

	note '-- a publisher\'s process is killed while it waits for the store';
	my $brief = $d->client(name => 'brief');
	my $pid = $d->pid_of($brief);
	$d->expect_log(qr/conn=\d+.*killed by signal 9/);
	$store = $d->service_pid('store');
	kill 'STOP', $store;
	$brief->send('Publish', channel => 'audit', payload => 'from the dead')->expect_quiet;
	kill 'KILL', $pid;
	$brief->expect_close('it is gone');
	kill 'CONT', $store;
	await_counts($d, { connections => 14 }, 'and its rows');
	$p->publish('audit', 'alive');
	my @audit = map { $_->[1] } replay($d, 'audit', 'all', 0, 'alive');
	like join(' ', @audit), qr/^(?:x ){10}(?:from the dead )?alive$/, 'what had no answer may be there or not';
	is $d->check_state, undef, 'the state keeps its rules' if $ENV{LIMINAL_CHECK_STATE};
	$d->finish;
}

{
	note '-- restarts';
	my $d = Liminal::Daemon->start(name => 'before', conf => $CONF);
	my $p = flow_publisher($d->client(name => 'p'), 'orders', n => 1000, size => 100);
	ok flow($p), 'a thousand are acknowledged';
	my $large = 'L' x (3 << 20);
	my $c = $d->client(name => 'large');
	$c->publish('orders', $large, parent_id => 'p', clock => 9);
	$c->publish('fast', 'volatile');
	$c->publish('audit', "audit $_") for 1 .. 3;
	is $d->stop, 0, 'TERM';
	my $again = Liminal::Daemon->start(name => 'after', conf => $CONF, dir => $d->dir);
	my @got = replay($again, 'orders', 'reader', 1001);
	is_deeply [map { $_->[0] } @got], [1 .. 1001], 'all are there, with their sequences';
	is_deeply [map { (unpack 'A8 N', $_->[1])[1] } @got[0 .. 999]], [1 .. 1000], 'in their order';
	ok $got[1000][1] eq $large, 'also the large one';
	$p = $again->client(name => 'p');
	is $p->publish('orders', 'more')->{message_id}, 1, 'message ids are the daemon\'s, from 1';
	my $s = $again->client(name => 's');
	$s->subscribe('orders');
	$p->publish('orders', 'and more');
	$s->expect_deliveries(['and more'], 'a plain subscription counts from 1');
	is_deeply [map { "@$_" } (replay($again, 'orders', 'other', 1003))[-2, -1]], ['1002 more', '1003 and more'], 'the channel counts on';
	is_deeply [map { "@$_" } replay($again, 'audit', 'reader', 3)], ['1 audit 1', '2 audit 2', '3 audit 3'], 'each channel for itself';
	$again->kill9;
	my $third = Liminal::Daemon->start(name => 'reordered', dir => $d->dir, conf => <<~'CONF');
		channel "new" { durable = true }
		channel "audit" { durable = true }
		channel "orders" { durable = true }
		CONF
	is_deeply [map { "@$_" } replay($third, 'audit', 'again', 3)], ['1 audit 1', '2 audit 2', '3 audit 3'],
	    'after kill -9, and with channels in another order in the configuration';
	is scalar(replay($third, 'orders', 'again', 1003)), 1003, 'a channel is found by its name';
	$third->client(name => 'p')->publish('new', 'first');
	is_deeply [map { "@$_" } replay($third, 'new', 'again', 1)], ['1 first'], 'a new one begins with 1';
	is $third->stop, 0;
	my $fourth = Liminal::Daemon->start(name => 'without', dir => $d->dir, conf => 'channel "orders" { }');
	$fourth->client(name => 'p')->publish('orders', 'not stored');
	is $fourth->stop, 0;
	my $fifth = Liminal::Daemon->start(name => 'with', dir => $d->dir, conf => $CONF);
	is scalar(replay($fifth, 'orders', 'fifth', 1003)), 1003, 'what a configuration leaves out for a while is kept';
	is_deeply [map { "@$_" } replay($fifth, 'audit', 'fifth', 3)], ['1 audit 1', '2 audit 2', '3 audit 3'], 'also a whole channel';
	$_->finish for $fifth, $fourth, $third, $again, $d;
}

{
	note '-- shut down with publishes under way';
	my $d = Liminal::Daemon->start(name => 'leaving', conf => $CONF);
	my $c = $d->client(name => 'p');
	my $p = flow_publisher($c, 'orders', n => 1_000_000, size => 100);
	my $signalled;
	flow($p, { until => sub {
		$signalled = $d->signal('TERM') if !$signalled && $p->{acked} > 2000;
		return !$c->is_open;
	} });
	is $d->await_end, 0, 'the daemon ends';
	my $acked = $p->{acked};
	my $again = Liminal::Daemon->start(name => 'back', conf => $CONF, dir => $d->dir);
	my @got = replay($again, 'orders', 'all', $acked);
	cmp_ok scalar @got, '>=', $acked, "all of the $acked that were acknowledged are there";
	my @numbers = map { (unpack 'A8 N', $_->[1])[1] } @got;
	is_deeply \@numbers, [1 .. @numbers], 'once each, in order';
	$_->finish for $again, $d;
}

finish_testing;
