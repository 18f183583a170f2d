# Idempotency keys: a key is published once per channel within its window; a duplicate is acknowledged and not
# delivered, a publish that failed frees its key, durable channels remember across restarts. (G5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Time::HiRes 'sleep';
use Liminal;
use Liminal::Wire;

my %FILES = (files => { 'number.json' => '{"type":"number"}' });
my $CONF = <<~'CONF';
	drain_timeout = "300ms"
	channel "fast" { }
	channel "kept" { durable = true }
	channel "fast2" { }
	channel "kept2" { durable = true }
	channel "fast-typed" { schema = "number.json" }
	channel "kept-typed" { durable = true  schema = "number.json" }
	channel "fast-brief" { dedup_window = "1s" }
	channel "kept-brief" { durable = true  dedup_window = "1s" }
	channel "fast-few" { dedup_keys = 5  dedup_window = "1s" }
	channel "kept-few" { durable = true  dedup_keys = 5  dedup_window = "1s" }
	CONF

my $d = Liminal::Daemon->start(name => 'keys', conf => $CONF, %FILES);
my ($p, $q) = map { $d->client(name => $_) } 'publisher', 'another';
my %s = map { my $c = $d->client(name => "sub $_"); $c->subscribe($_); ($_ => $c) }
    map { ("fast$_", "kept$_") } '', 2, '-typed', '-brief', '-few';
my %n;

# One that is delivered, or a duplicate.
sub first ($from, $channel, $payload, $key, $name) {
	my $ack = $from->publish($channel, $payload, defined $key ? (key => $key) : ());
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is $ack->{flags}, F_DELIVERED, "$name: delivered";
	$s{$channel}->expect_deliveries([$payload], "$name: arrives", from => ++$n{$channel});
	return $ack->{message_id};
}

sub duplicate ($from, $channel, $payload, $key, $name) {
	my $ack = $from->publish($channel, $payload, key => $key);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is $ack->{flags}, 0, "$name: acknowledged, not delivered";
	$s{$channel}->expect_quiet("$name: nothing arrives");
	return $ack->{message_id};
}

for my $kind (qw(fast kept)) {
	note "-- $kind";
	my $id = first($p, $kind, 'one', 'k', 'a key');
	is duplicate($p, $kind, 'one', 'k', 'the same key'), $id + 1, 'a duplicate uses a message id';
	duplicate($q, $kind, 'another payload', 'k', 'from another connection, whatever the payload');
	first($q, $kind, 'two', 'l', 'another key');
	first($p, "${kind}2", 'one', 'k', 'the same key on another channel');
	first($p, $kind, 'none', undef, 'no key');
	first($p, $kind, 'none', undef, 'no key again');
	first($p, $kind, 'empty', '', 'an empty key is a key');
	duplicate($p, $kind, 'empty', '', 'an empty key');
	my $long = 'K' x 100_000;
	first($p, $kind, 'long', $long . 'a', 'a long key');
	first($p, $kind, 'long', $long . 'b', 'one that differs in its last byte');
	duplicate($p, $kind, 'long', $long . 'a', 'a long key');
	duplicate($p, $kind, 'long', $long . 'b', 'the other one');
	first($p, $kind, 'case', 'K', 'upper case');
	first($p, $kind, 'nul', "k\0", 'a NUL behind it');

	note '-- in one write';
	$p->send_all(map { ['Publish', channel => $kind, payload => "w$_", stream => $_, key => 'w' . ($_ % 3)] } 1 .. 9);
	my @flags = map { ($p->next_frame // { flags => 'nothing' })->{flags} } 1 .. 9;
	is_deeply \@flags, [(F_DELIVERED) x 3, (0) x 6], 'the first of each key is delivered';
	$s{$kind}->expect_deliveries(['w1', 'w2', 'w3'], 'once', from => $n{$kind} + 1);
	$s{$kind}->expect_quiet;
	$n{$kind} += 3;

	note '-- at once from two connections';
	my ($delivered, $acks) = (0, 0);
	for my $c ($p, $q) {
		$c->queue_bytes(join '', map { encode_frame('Publish', channel => $kind, payload => "race$_", key => "race$_") } 1 .. 200);
		$c->gather(sub { }, sub ($stream, $id, $flags) { $acks++; $delivered += $flags & F_DELIVERED });
	}
	ok Liminal::Client::pump([$p, $q], sub { $acks == 400 }), 'each is acknowledged';
	is $delivered, 200, 'one of each two is delivered';
	$_->gather_no_more for $p, $q;
	my %raced = map { ($s{$kind}->next_frame // { payload => 'nothing' })->{payload} => 1 } 1 .. 200;
	is scalar(keys %raced), 200, 'each arrives';
	$s{$kind}->expect_quiet('once');
	$n{$kind} += 200;

	note '-- a publish that failed';
	$p->send('Publish', channel => "$kind-typed", payload => '"text"', key => 'k');
	$p->expect('PublishError', {}, 'is refused');
	first($p, "$kind-typed", '1', 'k', 'its key is free');
	duplicate($p, "$kind-typed", '1', 'k', 'and taken then');

	note '-- the window';
	first($p, "$kind-brief", 'a', 'k', 'a key');
	my $at = now;
	duplicate($p, "$kind-brief", 'a', 'k', 'within the window') if now - $at < 0.9;
	wait_until(sub { now > $at + 1.05 }, 'the window passes');
	first($p, "$kind-brief", 'a', 'k', 'the key is forgotten');
	duplicate($p, "$kind-brief", 'a', 'k', 'and remembered anew');

	note '-- as many keys as may be remembered';
	$at = now;
	first($p, "$kind-few", $_, "key $_", "key $_") for 1 .. 5;
	$p->send('Publish', channel => "$kind-few", payload => 'x', key => 'key 6');
	$p->expect('PublishError', { message => qr/dedup_keys/ }, 'one more is refused');
	duplicate($p, "$kind-few", 1, 'key 3', 'those that are known are known');
	first($p, "$kind-few", 'keyless', undef, 'those without a key are taken');
	wait_until(sub { now > $at + 1.5 }, 'the window passes');
	first($p, "$kind-few", 6, 'key 6', 'then there is room again');
}
await_counts($d, { inbox => 0 }, 'nothing is owed');

note '-- restarts';
$p->publish('kept', 'last', key => 'last');
my @keys = ('k', 'l', '', 'K', "k\0", ('K' x 100_000) . 'b', 'w0', 'race200', 'last');
is $d->stop, 0;
my $again = Liminal::Daemon->start(name => 'again', conf => $CONF, dir => $d->dir, %FILES);
my $c = $again->client(name => 'again');
$s{kept} = $again->client(name => 'sub again');
$s{kept}->subscribe('kept');
duplicate($c, 'kept', 'x', $_, 'after a restart ' . substr $_, 0, 10) for @keys;
$c->publish('kept', 'new', key => 'just now');
$again->kill9;
my $third = Liminal::Daemon->start(name => 'third', conf => $CONF, dir => $d->dir, %FILES);
$c = $third->client(name => 'third');
$s{kept} = $third->client(name => 'sub third');
$s{kept}->subscribe('kept');
duplicate($c, 'kept', 'x', $_, 'after kill -9 ' . substr $_, 0, 10) for @keys, 'just now';
$n{kept} = 0;
first($c, 'kept', 'new', 'never seen', 'and a new one');
$_->finish for $third, $again, $d;

finish_testing;
