# Durable subscriptions: a consumer has a name and goes on where it left off, from the oldest, or from a
# sequence; it accepts, defers and rejects; no more than max_in_flight are outstanding, and what was not
# acknowledged comes again. (G3, G7, wire.md "Extensions")
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Time::HiRes 'sleep';
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $SCHEMA = '{"type":"string"}';
my %FILES = (files => { 'schema.json' => $SCHEMA });
my $CONF = <<~'CONF';
	drain_timeout = "300ms"
	channel "orders" { durable = true  redelivery_delay = "400ms" }
	channel "other" { durable = true }
	channel "many" { durable = true }
	channel "typed" { durable = true  schema = "schema.json" }
	channel "plain" { }
	CONF

my $d = Liminal::Daemon->start(name => 'consumers', conf => $CONF, %FILES);
my $p = $d->client(name => 'publisher');
my $head = 0;		# of orders

# N more messages, "m" and their sequence.
sub publish_more ($n) {
	my @payloads = map { 'm' . ++$head } 1 .. $n;
	$p->send_all(map { ['Publish', channel => 'orders', payload => $_] } @payloads);
	$p->expect('PublishAck') for @payloads;
	return;
}

# The next Deliver frames have these sequences.
sub gets ($c, $sequences, $name, $stream = 1) {
	my @got;
	for (@$sequences) {
		my $frame = $c->next_frame // { type => 'nothing' };
		my $good = $frame->{type} eq 'Deliver' && $frame->{payload} eq "m$frame->{sequence}"
		    && $frame->{flags} == F_DURABLE && $frame->{stream} == $stream;
		push @got, $good ? $frame->{sequence} : Liminal::Wire::show_frame({ flags => 0, stream => 0, %$frame });
		last if !$good;
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply \@got, $sequences, $c->name . ": $name";
}

sub verdict ($c, $type, @sequences) {
	return $c->send_all(map { [$type, reference => "$_", stream => 1] } @sequences);
}

sub consume ($name, %o) {
	my $c = ($o{daemon} // $d)->client(name => $name);
	delete $o{daemon};
	$c->subscribe('orders', stream => 1, max_in_flight => 100, consumer => $name, %o);
	return $c;
}

sub refused ($c, $code, $message, $name, %o) {
	$c->send('Subscribe', channel => 'orders', stream => 2, max_in_flight => 1, %o);
	return $c->expect('SubscribeError', { defined $code ? (code => $code) : (), stream => 2, message => $message }, $name);
}

note '-- where a consumer begins';
is $p->{capabilities} & CAP_DURABLE_SUBSCRIPTION, CAP_DURABLE_SUBSCRIPTION, 'the extension is announced';
publish_more(3);
my $first = consume('a');
$first->expect_quiet('a new one begins now');
publish_more(2);
gets($first, [4, 5], 'the channel\'s own sequences');
my $back = consume('b', start => START_OLDEST);
gets($back, [1 .. 5], 'from the oldest');
my $c = consume('c', start => START_SEQUENCE, sequence => 3);
gets($c, [3 .. 5], 'from a sequence');
my $n = consume('n', start => START_SEQUENCE, sequence => 6);
$n->expect_quiet('from the next one');
publish_more(1);
gets($_, [6], 'each gets its own') for $first, $back, $c, $n;

note '-- it goes on where it left off';
verdict($first, 'Accept', 4, 5);
$first->expect_quiet('accepted: nothing comes');
$first->hang_up;
publish_more(1);
$first = consume('a');
gets($first, [6, 7], 'what was not acknowledged, and what is new');
verdict($first, 'Accept', 6, 7);
$first->expect_quiet;
verdict($back, 'Accept', 1, 3, 6);
verdict($back, 'Reject', 4);
gets($back, [7], 'what is new');
$back->expect_quiet;
$back->hang_up;
$back = consume('b');
gets($back, [2, 5, 7], 'accepted and rejected ones do not come again');
verdict($back, 'Accept', 2, 5, 7);
$back->expect_quiet;
$back->hang_up;
publish_more(1);
gets($first, [8], 'the other');
$back = consume('b');
gets($back, [8], 'now all before it are done');
$back->hang_up;
$back = consume('b', start => START_OLDEST);
gets($back, [1 .. 8], 'from the oldest again, when it says so');
$back->hang_up;
$back = consume('b', start => START_SEQUENCE, sequence => 7);
gets($back, [7, 8], 'or from a sequence');
verdict($back, 'Accept', 7, 8);
$back->expect_quiet;
$back->hang_up;
$back = consume('b');
$back->expect_quiet('then it goes on from there');

note '-- Unsubscribe, and again';
my $u = $d->client(name => 'u');
my $id = $u->subscribe('orders', stream => 1, max_in_flight => 10, consumer => 'u', start => START_SEQUENCE, sequence => 7)->{subscription};
gets($u, [7, 8], 'u');
verdict($u, 'Accept', 7);
$u->send('Unsubscribe', subscription => $id)->expect_quiet;
verdict($u, 'Accept', 8);
$u->expect_quiet('a verdict without its subscription is ignored');
$u->subscribe('orders', stream => 1, max_in_flight => 10, consumer => 'u');
gets($u, [8], 'on the same connection: what was not acknowledged');
$u->hang_up;

note '-- max_in_flight';
my $w = consume('w', max_in_flight => 3);
publish_more(10);			# 9 .. 18
gets($w, [9 .. 11], 'no more than three');
$w->expect_quiet('are outstanding');
verdict($w, 'Accept', 10);
gets($w, [12], 'one is accepted: one more');
$w->expect_quiet;
verdict($w, 'Reject', 9);
verdict($w, 'Accept', 12, 11);
gets($w, [13 .. 15], 'three more');
$w->expect_quiet;
verdict($w, 'Accept', 10, 9, 1, 17, 18, 1000);
$w->expect_quiet('verdicts on what is not outstanding are ignored');
$w->send('Accept', reference => $_, stream => 1) for '', 'abc', '-13', '13x', ' 13', '013x', '9' x 40, "\0";
$w->expect_quiet('so is what is no sequence');
$w->send('Accept', reference => '13', stream => 9)->expect_quiet('so is another stream');
$w->hang_up;
$w = consume('w', max_in_flight => 1);
for (13 .. 18) {
	gets($w, [$_], 'one at a time');
	$w->expect_quiet;
	verdict($w, 'Accept', $_);
}
$w->expect_quiet('that was all');
$w->hang_up;

note '-- Defer';
my $l = consume('l', max_in_flight => 8, start => START_SEQUENCE, sequence => 11);
gets($l, [11 .. 18], 'eight');
my $at = now;
$l->send('Defer', reference => '12', reason => 'not now', stream => 1);
verdict($l, 'Accept', 11, 13, 14);
publish_more(2);			# 19, 20
my @more = map { $l->next_frame // { sequence => 0, at => now } } 1 .. 3;
is_deeply [map { $_->{sequence} } @more], [19, 20, 12], 'others go on meanwhile, then it comes again';
my ($again) = grep { $_->{sequence} == 12 } @more;
verdict($l, 'Accept', 17 .. 20);
cmp_ok +($again->{at} // 0) - $at, '>=', 0.39, 'not before redelivery_delay';
cmp_ok +($again->{at} // 0) - $at, '<', 1.5 + slack, 'but then';
$at = now;
verdict($l, 'Defer', 12);
gets($l, [12], 'again');
cmp_ok now - $at, '>=', 0.39, 'after the delay';
verdict($l, 'Reject', 12);
verdict($l, 'Accept', 15);
sleep 0.6;
$l->expect_quiet('rejected: no more');
verdict($l, 'Defer', 16);
$l->expect_quiet;
$l->hang_up;
$l = consume('l', max_in_flight => 10);
gets($l, [16], 'a deferred one comes at once to who comes anew');
$l->hang_up;

note '-- one holder';
my $h = consume('held');
my $other = $d->client(name => 'other');
refused($other, R_PRESSURE, qr/consumer name/, 'the name is held', consumer => 'held');
refused($h, R_PRESSURE, qr/consumer name/, 'also on one connection', consumer => 'held');
$other->subscribe('other', stream => 3, max_in_flight => 1, consumer => 'held');
$other->expect_quiet('free on another channel');
publish_more(1);			# 21
gets($h, [21], 'the holder is not disturbed');
$h->hang_up;
await_counts($d, { consumers => 5 }, 'the name is given back');
$h = consume('held');
gets($h, [21], 'the next holder gets what was not acknowledged');
my $pid = $d->pid_of($h);
$d->expect_log(qr/conn=\d+.*killed by signal 9/);
kill 'KILL', $pid;
$h->expect_close;
my $taken;
wait_until(sub {
	$taken = $d->client(name => 'heir');
	$taken->send('Subscribe', channel => 'orders', stream => 1, max_in_flight => 5, consumer => 'held');
	my $frame = $taken->next_frame;
	$taken->hang_up if !$frame || $frame->{type} ne 'SubscribeAck';
	return $frame && $frame->{type} eq 'SubscribeAck';
}, 'after kill -9 of the holder the name is free');
gets($taken, [21], 'the heir gets it');
verdict($taken, 'Accept', 21);
$taken->expect_quiet;

note '-- others on the same connection';
my $m = $d->client(name => 'mixed');
$m->subscribe('orders', stream => 1, max_in_flight => 10, consumer => 'm1');
$m->subscribe('orders', stream => 2, max_in_flight => 10, consumer => 'm2');
$m->subscribe('orders', stream => 3);
$m->subscribe('orders', stream => 4, flags => F_DURABLE);
publish_more(1);			# 22
my %got = map { my $f = $m->next_frame // { stream => 0 }; ($f->{stream} => $f) } 1 .. 4;
is_deeply [map { [@{ $got{$_} // {} }{qw(sequence flags)}] } 1 .. 4], [[22, F_DURABLE], [22, F_DURABLE], [1, 0], [1, 0]],
    'consumers with the channel\'s sequence, plain ones with their own; the flag alone makes none';
$m->send('Accept', reference => '22', stream => 1)->send('Accept', reference => '1', stream => 3)->expect_quiet;
$m->hang_up;
$m = $d->client(name => 'mixed again');
$m->subscribe('orders', stream => 1, max_in_flight => 10, consumer => 'm1');
$m->expect_quiet('one has accepted it');
$m->subscribe('orders', stream => 2, max_in_flight => 10, consumer => 'm2');
gets($m, [22], 'the other has not', 2);
$m->hang_up;

note '-- refused';
my $r = $d->client(name => 'refused');
refused($r, undef, qr/durable/, 'not on an ephemeral channel', channel => 'plain', consumer => 'r');
refused($r, R_NO_CHANNEL, qr/nowhere/, 'nor on none', channel => 'nowhere', consumer => 'r') ;
refused($r, R_SCHEMA, qr//, 'nor without its schema', channel => 'typed', consumer => 'r', schemas => ["\1" x 32]);
is $r->subscribe('typed', stream => 1, consumer => 'r' x 255, schemas => [schema_id_of($SCHEMA)])->{schema_id},
    schema_id_of($SCHEMA), 'the longest name';
is $d->client(name => 'bytes')->subscribe('other', consumer => "\xE2\x98\x83", stream => 8)->{stream}, 8, 'any text is a name';
my %broken = (
	'an empty name' => encode_frame('Subscribe', channel => 'orders', max_in_flight => 1, consumer => ''),
	'a name of 256 bytes' => encode_frame('Subscribe', channel => 'orders', max_in_flight => 1, consumer => 'x' x 256),
	'a start that is none' => encode_frame('Subscribe', channel => 'orders', max_in_flight => 1, consumer => 'x', start => 3),
);
for my $what (sort keys %broken) {
	my $broken = $d->client(name => $what);
	$d->expect_log(qr/peer=/);
	$broken->send_bytes($broken{$what});
	$broken->expect_close("$what does not decode");
}

note '-- shutdown and restart';
$_->hang_up for $first, $back, $c, $n, $taken;
my $s = consume('s', start => START_OLDEST);
gets($s, [1 .. 22], 'all');
verdict($s, 'Accept', 1 .. 10, 12, 22);
$s->expect_quiet;
is $d->stop, 0;
my $again_d = Liminal::Daemon->start(name => 'restarted', conf => $CONF, dir => $d->dir, %FILES);
$s = consume('s', daemon => $again_d);
gets($s, [11, 13 .. 21], 'a restart: what it had not acknowledged');
verdict($s, 'Accept', 11, 13 .. 20);
$s->expect_quiet;
$s->hang_up;
$s = consume('s', daemon => $again_d);
gets($s, [21], 'and less');
is $again_d->check_state, undef, 'the state keeps its rules' if $ENV{LIMINAL_CHECK_STATE};
$again_d->kill9;
my $third = Liminal::Daemon->start(name => 'after kill -9', conf => $CONF, dir => $d->dir, %FILES);
$s = consume('s', daemon => $third);
gets($s, [21], 'after kill -9 of all');
verdict($s, 'Accept', 21);
$s->expect_quiet;
$s->hang_up;
$s = consume('s', daemon => $third);
$s->expect_quiet('that was all');
$s->hang_up;

note '-- one that reads late, when nothing else happens any more';
{
	my $c = $third->client(name => 'late');
	$c->subscribe('other', stream => 1, max_in_flight => 1_000_000, consumer => 'late');
	my $p = flow_publisher($third->client(name => 'large'), 'other', n => 10_000, size => 1000);
	ok flow($p), 'ten thousand are published';
	$p->{client}->hang_up;
	my $n = 0;
	$c->gather(sub { $n++ });
	ok Liminal::Client::pump([$c], sub { $n == 10_000 }), 'all arrive' or diag "arrived: $n";
	$c->hang_up;
}

note '-- many, and one that dies again and again';
{
	my $p = flow_publisher($third->client(name => 'many'), 'many', n => 5000, size => 40);
	ok flow($p), 'five thousand are published';
	my (%accepted, %seen, $rounds, @faults);
	while (keys %accepted < 5000 && ++$rounds < 60) {
		my $c = $third->client(name => "round $rounds");
		$c->subscribe('many', stream => 1, max_in_flight => 64, consumer => 'many', start => $rounds == 1 ? START_OLDEST : START_LEFT_OFF);
		my ($n, $before, $quota) = (0, 0, 100 + int rand 400);
		my $left = 5000 - keys %accepted;
		my $expected = $quota + 64 < $left ? $quota + 64 : $left;
		my $accepts = '';
		$c->gather(sub ($stream, $sequence, $payload, $flags) {
			push @faults, "sequence $sequence after $before" if $sequence <= $before;
			push @faults, "$sequence was accepted" if $accepted{$sequence} && @faults < 5;
			push @faults, "$sequence is not $payload" if unpack('x8 N', $payload) != $sequence;
			$before = $sequence;
			$seen{$sequence}++;
			$n++;
			return if $n > $quota;
			$accepted{$sequence} = 1;
			$accepts .= encode_frame('Accept', reference => "$sequence", stream => 1);
		});
		my $ended = Liminal::Client::pump([$c], sub {
			$c->queue_bytes($accepts) if $accepts ne '';
			$accepts = '';
			return $n >= $expected && !$c->n_queued;
		}, 5);
		push @faults, "round $rounds: stuck after $n" if !$ended;
		push @faults, 'more than max_in_flight outstanding' if $n > $expected;
		$c->{gathers}[0] = sub (@) { push @faults, 'more than max_in_flight' };
		eval { $c->barrier; 1 } or push @faults, "round $rounds: $@";
		$c->hang_up;
		last if @faults;
	}
	is_deeply \@faults, [], 'what is accepted never comes again, what is not comes again, in order';
	is scalar(keys %accepted), 5000, "all are accepted, in $rounds rounds";
	my $doubled = grep { $_ > 1 } values %seen;
	cmp_ok $doubled, '<=', 64 * $rounds, "$doubled came more than once";
}
$_->finish for $third, $again_d, $d;

finish_testing;
