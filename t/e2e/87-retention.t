# What a durable channel keeps: so many messages, so many bytes, so long; exact when it is read, whatever
# lies on the disk, whose use does not grow with what was published. (G3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $CONF = <<~'CONF';
	drain_timeout = "300ms"
	channel "count" { durable = true  keep_messages = 10 }
	channel "bytes" { durable = true  keep_bytes = "100K" }
	channel "young" { durable = true  keep_age = "3s" }
	channel "volume" { durable = true  keep_messages = 1000 }
	channel "one" { durable = true  keep_messages = 1 }
	CONF

my $readers = 0;

# The sequences that a new consumer gets of CHANNEL, from START on.
sub kept ($d, $channel, %start) {
	my $c = $d->client(name => 'reader' . ++$readers);
	%start = (start => START_OLDEST) if !%start;
	$c->subscribe($channel, stream => 1, max_in_flight => 1_000_000, consumer => $c->name, %start);
	my @got;
	$c->gather(sub ($stream, $sequence, $payload, $flags) { push @got, $sequence });
	# What it gets at once comes before the answer to a Ping that is sent when nothing more does.
	my $before = -1;
	while ($before != @got) {
		$before = @got;
		$c->barrier;
	}
	$c->hang_up;
	return \@got;
}

sub publish_n ($c, $channel, $n, $size) {
	$c->send_all(map { ['Publish', channel => $channel, payload => 'x' x $size] } 1 .. $n);
	my $acks = grep { ($c->next_frame // { type => '' })->{type} eq 'PublishAck' } 1 .. $n;
	return is $acks, $n, "$n more are acknowledged";
}

my $d = Liminal::Daemon->start(name => 'retention', conf => $CONF);
$d->expect_log(qr/warn consumer missed messages .*channel="count"/, qr/warn shed .*channel="count"/);
my $p = $d->client(name => 'publisher');

note '-- by age, the first part';
publish_n($p, 'young', 1, 10);
my $first_at = now;

note '-- by count';
publish_n($p, 'count', 7, 10);
is_deeply kept($d, 'count'), [1 .. 7], 'fewer than it may: all';
publish_n($p, 'count', 18, 10);
is_deeply kept($d, 'count'), [16 .. 25], 'more: exactly the last ten, also out of one write';
is_deeply kept($d, 'count', start => START_SEQUENCE, sequence => 3), [16 .. 25], 'from a sequence that is not kept any more: the oldest';
is_deeply kept($d, 'count', start => START_SEQUENCE, sequence => 24), [24, 25], 'or one that is';
for my $n (1 .. 11) {
	$p->publish('count', 'one more');
	my $got = kept($d, 'count');
	is "@$got", join(' ', 16 + $n .. 25 + $n), "$n more" if $n % 4 == 3;
}
publish_n($p, 'one', 5, 10);
is_deeply kept($d, 'one'), [5], 'a channel of one message';

note '-- by bytes';
publish_n($p, 'bytes', 5, 10_000);
is_deeply kept($d, 'bytes'), [1 .. 5], 'fewer than it may: all';
publish_n($p, 'bytes', 20, 10_000);
is_deeply kept($d, 'bytes'), [16 .. 25], 'more: as many as there is room for, and the little that each one costs';
publish_n($p, 'bytes', 1, 90_000);
is_deeply kept($d, 'bytes'), [25, 26], 'a large one takes the place of many';
$p->publish('bytes', 'x' x 9_000);
is_deeply kept($d, 'bytes'), [26, 27], 'the next one that of the oldest';
$p->send('Publish', channel => 'bytes', payload => 'x' x 110_000);
$p->expect('PublishError', { message => qr/keep_bytes/ }, 'one that is larger than all is refused');
is_deeply kept($d, 'bytes'), [26, 27], 'and takes nothing';

note '-- a consumer that was away';
my $c = $d->client(name => 'away');
$c->subscribe('count', max_in_flight => 4, consumer => 'away', start => START_OLDEST);
my @got = map { ($c->next_frame // {})->{sequence} // 0 } 1 .. 4;
is_deeply \@got, [27 .. 30], 'the oldest four';
$c->send('Accept', reference => '28', stream => 1);
$c->expect('Deliver', { sequence => 31 }, 'one accepted, one more');
$c->barrier;
$c->hang_up;
publish_n($p, 'count', 13, 10);				# 37 .. 49; 40 .. 49 are kept
$c = $d->client(name => 'away');
$c->subscribe('count', max_in_flight => 4, consumer => 'away');
@got = map { ($c->next_frame // {})->{sequence} // 0 } 1 .. 4;
is_deeply \@got, [40 .. 43], 'what is not kept any more is given up: it goes on with the oldest';
publish_n($p, 'count', 20, 10);				# 50 .. 69; 60 .. 69 are kept
$c->send('Accept', reference => "$_", stream => 1) for 40 .. 43;
@got = map { ($c->next_frame // {})->{sequence} // 0 } 1 .. 4;
is_deeply \@got, [60 .. 63], 'also in the middle of it, and it is not shed';
$c->hang_up;

note '-- the disk';
my $volume = flow_publisher($d->client(name => 'volume'), 'volume', n => 10_000, size => 1000);
ok flow($volume), 'ten thousand';
my $file = $d->dir . '/persist/store/data.mdb';
my $size = 512 * (stat $file)[12];
@$volume{qw(n from sent acked)} = (30_000, 10_001, 0, 0);
ok flow($volume), 'and three times as many';
my $grown = 512 * (stat $file)[12] - $size;
cmp_ok $grown, '<', 4 << 20, "what is kept is what costs ($size bytes, then $grown more)";
is_deeply kept($d, 'volume'), [39_001 .. 40_000], 'the last thousand';
$volume->{client}->hang_up;

note '-- plain subscribers';
my $s = $d->client(name => 'plain');
$s->subscribe('count', stream => 4);
my $pid = $d->pid_of($s);
kill 'STOP', $pid;
publish_n($p, 'count', 10, 10);
kill 'CONT', $pid;
$s->expect_deliveries([('x' x 10) x 10], 'as far behind as the bound allows: all');
kill 'STOP', $pid;
publish_n($p, 'count', 11, 10);
kill 'CONT', $pid;
$s->expect('SubscribeError', { code => R_SHED, stream => 4 }, 'further: shed');
$s->expect_quiet;

note '-- by age, the second part';
my $age = now - $first_at;
if ($age < 1.5) {
	wait_until(sub { now > $first_at + 1.5 }, 'a while later');
}
publish_n($p, 'young', 1, 10);
my $second_at = now;
if ($second_at - $first_at < 2.8) {
	is_deeply kept($d, 'young'), [1, 2], 'both are young enough';
}
wait_until(sub { now > $first_at + 3.05 }, 'the first one\'s time passes');
my $young = kept($d, 'young');
SKIP: {
	skip 'too slow for this', 1 if now > $second_at + 2.9;
	is_deeply $young, [2], 'it is not there any more';
}
wait_until(sub { now > $second_at + 3.05 }, 'the second one\'s time passes');
is_deeply kept($d, 'young'), [], 'nor is the other';
$p->publish('young', 'x');
is_deeply kept($d, 'young'), [3], 'sequences go on';

note '-- the same after a restart, and with another bound';
is $d->stop, 0;
my $again = Liminal::Daemon->start(name => 'again', conf => $CONF =~ s/keep_messages = 10 /keep_messages = 4 /r, dir => $d->dir);
is_deeply kept($again, 'count'), [87 .. 90], 'the new bound';
is_deeply kept($again, 'bytes'), [26, 27], 'the old ones';
is_deeply kept($again, 'volume'), [39_001 .. 40_000], 'where more was';
is_deeply kept($again, 'one'), [5], 'and less';
$_->finish for $again, $d;

finish_testing;
