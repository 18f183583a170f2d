# Routing rules: a message that a rule's predicate holds for is published anew to another channel, whose schema
# applies, with its idempotency key, also from and to durable channels, and on from there. (G6)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

{
	note '-- predicates';
	# predicate => [what it holds for], [what it does not hold for]
	my @predicates = (
		['amount > 1000', ['{"amount":1001}', '{"amount":1e9}', '{"amount":1000.5}'],
		    ['{"amount":1000}', '{"amount":"2000"}', '{}', '[]', '2000', 'no json', '', '{"amount":null}', '{"Amount":2000}']],
		['amount >= 1000', ['{"amount":1000}'], ['{"amount":999.9}']],
		['amount < -1.5', ['{"amount":-2}'], ['{"amount":-1.5}', '{}']],
		['amount <= -1.5', ['{"amount":-1.5}'], ['{"amount":0}']],
		["region == 'eu'", ['{"region":"eu"}'], ['{"region":"EU"}', '{"region":"e"}', '{"region":["eu"]}', '{}']],
		["region != 'eu'", ['{"region":"us"}'], ['{"region":"eu"}', '{}']],
		["not (region == 'eu')", ['{"region":"us"}', '{}', 'no json'], ['{"region":"eu"}']],
		['exists(customer.id)', ['{"customer":{"id":0}}', '{"customer":{"id":""}}'], ['{"customer":{}}', '{"customer":5}', '{"customer.id":1}', '{}']],
		['not exists(customer)', ['{}', 'no json'], ['{"customer":{}}']],
		['qty in 1..9', ['{"qty":1}', '{"qty":9}', '{"qty":1.5}'], ['{"qty":0}', '{"qty":10}', '{"qty":"5"}', '{}']],
		['a.b.c == 1', ['{"a":{"b":{"c":1}}}'], ['{"a":{"b":{"c":2}}}', '{"a":{"b":1}}', '{"a":1}']],
		['flag == true', ['{"flag":true}'], ['{"flag":false}', '{"flag":1}', '{"flag":"true"}']],
		['nothing == null', ['{"nothing":null}'], ['{"nothing":0}', '{}']],
		['a == 1 and b == 1 or c == 1', ['{"a":1,"b":1}', '{"c":1}'], ['{"a":1}', '{"b":1}']],
		['a == 1 and (b == 1 or c == 1)', ['{"a":1,"b":1}', '{"a":1,"c":1}'], ['{"c":1}', '{"b":1,"c":1}']],
		["amount > 1000 and region == 'eu' and exists(customer.id) and qty in 1..9",
		    ['{"amount":2000,"region":"eu","customer":{"id":7},"qty":3}'],
		    ['{"amount":2000,"region":"eu","customer":{},"qty":3}', '{"amount":2000,"region":"eu","customer":{"id":7},"qty":30}']],
		[undef, ['{}', 'no json', ''], []],
	);
	my $conf = "channel \"source\" { }\n";
	for my $i (0 .. $#predicates) {
		my $when = defined $predicates[$i][0] ? "when = \"$predicates[$i][0]\"" : '';
		$conf .= "channel \"t$i\" { }\nroute \"r$i\" { from = \"source\" to = \"t$i\" $when }\n";
	}
	my $d = Liminal::Daemon->start(name => 'predicates', conf => $conf);
	my $p = $d->client(name => 'publisher');
	my $s = $d->client(name => 'subscriber');
	$s->subscribe("t$_", stream => $_ + 1) for 0 .. $#predicates;
	# Each payload's marker tells which of them came where; only the streams matter here.
	my (%payloads, %wanted);
	for my $i (0 .. $#predicates) {
		$payloads{$_} = 1 for @{ $predicates[$i][1] }, @{ $predicates[$i][2] };
	}
	my @payloads = sort keys %payloads;
	$p->send_all(map { ['Publish', channel => 'source', payload => $_] } @payloads);
	$p->expect('PublishAck') for @payloads;
	$p->publish('t' . $#predicates, 'the end');
	my @got;
	while (my $frame = $s->next_frame) {
		push @{ $got[ $frame->{stream} - 1 ] }, $frame->{payload};
		last if $frame->{payload} eq 'the end';
	}
	push @{ $got[ $_->{stream} - 1 ] }, $_->{payload} for map { $s->send('Ping'); my @f; while (my $f = $s->next_frame) { last if $f->{type} eq 'Pong'; push @f, $f } @f } 1;
	for my $i (0 .. $#predicates) {
		my ($when, $yes, $no) = @{ $predicates[$i] };
		my %came = map { $_ => 1 } @{ $got[$i] // [] };
		is_deeply [grep { !$came{$_} } @$yes], [], ($when // 'no predicate') . ': holds';
		is_deeply [grep { $came{$_} } @$no], [], ($when // 'no predicate') . ': does not hold';
	}
	my @order = grep { $_ ne 'the end' } @{ $got[$#predicates] };
	is_deeply \@order, \@payloads, 'copies come in the order of the messages';
}

{
	note '-- chains, schemas, both kinds of channels';
	my %o = (files => { 'small.json' => '{"properties":{"n":{"maximum":10}}}' }, conf => <<~'CONF');
		channel "a" { }
		channel "b" { durable = true }
		channel "c" { }
		channel "strict" { schema = "small.json" }
		channel "behind" { }
		channel "e" { }
		channel "f" { }
		route "a-b" { from = "a" to = "b" when = "n > 0" }
		route "b-c" { from = "b" to = "c" when = "n > 1" }
		route "a-strict" { from = "a" to = "strict" }
		route "strict-behind" { from = "strict" to = "behind" }
		route "e-f" { from = "e" to = "f" }
		CONF
	my $d = Liminal::Daemon->start(name => 'chains', %o);
	$d->expect_log(qr/warn route name="a-strict" refused .*maximum/);
	my $p = $d->client(name => 'publisher');
	my %s = map { my $c = $d->client(name => "sub $_"); $c->subscribe($_); ($_ => $c) } qw(a b c strict behind e f);
	my $ack = $p->publish('a', '{"n":5}', parent_id => 'parent', clock => 11, schema_id => "\7" x 32);
	is_deeply [@$ack{qw(message_id flags)}], [1, F_DELIVERED], 'the source is acknowledged';
	for (qw(a b c strict behind)) {
		my ($frame) = $s{$_}->expect_deliveries(['{"n":5}'], 'arrives');
		is_deeply [@$frame{qw(parent_id clock)}], ['parent', 11], "$_: with its causal context";
		is $frame->{schema_id}, schema_id_of($_ eq 'strict' ? '{"properties":{"n":{"maximum":10}}}' : '{}'), "$_: with its own channel's schema id";
	}
	is $p->publish('a', '{"n":1}')->{message_id}, 2, 'copies use no message ids';
	$s{$_}->expect_deliveries(['{"n":1}'], 'as far as the rules hold', from => 2) for qw(a b strict behind);
	$p->publish('a', '{"n":50}');
	$s{$_}->expect_deliveries(['{"n":50}'], 'arrives', from => { a => 3, b => 3, c => 2 }->{$_}) for qw(a b c);
	$s{$_}->expect_quiet('a copy that the target\'s schema refuses goes nowhere; the source was acknowledged') for qw(strict behind c);
	$p->publish('b', '{"n":2}');
	$s{b}->expect_deliveries(['{"n":2}'], 'published in the middle of a chain', from => 4);
	$s{c}->expect_deliveries(['{"n":2}'], 'goes on from there', from => 3);
	$p->publish('e', '{"n":3}');
	$s{$_}->expect_deliveries(['{"n":3}'], 'another chain', ) for qw(e f);
	$_->expect_quiet for values %s;

	note '-- in order with what is published directly';
	my (@a, @b);
	$p->send_all(map { my $to = $_ % 2 ? 'a' : 'b'; ['Publish', channel => $to, payload => "{\"n\":2,\"i\":$_}"] } 1 .. 200);
	$p->expect('PublishAck', {}) for 1 .. 200;
	$s{b}->expect_deliveries([map { "{\"n\":2,\"i\":$_}" } 1 .. 200], 'one publisher, two ways: one order', from => 5);
	$s{c}->expect_deliveries([map { "{\"n\":2,\"i\":$_}" } 1 .. 200], 'and on', from => 4);
	$s{strict}->expect_deliveries([map { "{\"n\":2,\"i\":$_}" } grep { $_ % 2 } 1 .. 200], 'and elsewhere', from => 3);

	note '-- what was acknowledged has reached the durable target';
	my $c = $d->client(name => 'last');
	$c->publish('a', '{"n":7,"last":true}');
	$d->kill9;
	my $again = Liminal::Daemon->start(name => 'again', dir => $d->dir, %o);
	$c = $again->client(name => 'reader');
	$c->subscribe('b', consumer => 'reader', start => START_SEQUENCE, sequence => 200, max_in_flight => 100);
	my ($last) = (map { $c->next_frame // { payload => 'nothing' } } 1 .. 6)[-1];
	is_deeply [@$last{qw(payload sequence)}], ['{"n":7,"last":true}', 205], 'kill -9 of all: it is there';
	$_->finish for $again, $d;
}

{
	note '-- keys go with the message';
	my $d = Liminal::Daemon->start(name => 'keys', conf => <<~'CONF');
		channel "in" { }
		channel "out" { }
		channel "kept" { durable = true }
		route "one" { from = "in" to = "out" }
		route "two" { from = "out" to = "kept" }
		CONF
	my $p = $d->client(name => 'publisher');
	my %s = map { my $c = $d->client(name => "sub $_"); $c->subscribe($_); ($_ => $c) } qw(in out kept);
	is $p->publish('in', '1', key => 'k')->{flags}, F_DELIVERED, 'a key';
	$s{$_}->expect_deliveries(['1']) for qw(in out kept);
	is $p->publish('in', '1', key => 'k')->{flags}, 0, 'a duplicate at the source';
	is $p->publish('out', '1', key => 'k')->{flags}, 0, 'at the target: the key came with the copy';
	is $p->publish('kept', '1', key => 'k')->{flags}, 0, 'and at the end of the chain';
	$_->expect_quiet('nothing comes again') for values %s;
	is $p->publish('out', '2', key => 'l')->{flags}, F_DELIVERED, 'the target has this key first';
	$s{$_}->expect_deliveries(['2'], 'arrives', from => 2) for qw(out kept);
	is $p->publish('in', '3', key => 'l')->{flags}, F_DELIVERED, 'the source has not seen it';
	$s{in}->expect_deliveries(['3'], 'arrives at the source', from => 2);
	$s{$_}->expect_quiet('where the key is known the copy is a duplicate') for qw(out kept);
	$p->publish('in', '4');
	$s{$_}->expect_deliveries(['4'], 'without a key', from => 3) for qw(in out kept);
}

note '-- what cannot be a rule';
for (
	['a cycle', 'channel "a" { } channel "b" { } route "x" { from = "a" to = "b" } route "y" { from = "b" to = "a" }', qr/cycle/],
	['to itself', 'channel "a" { } route "x" { from = "a" to = "a" }', qr/cycle|itself/],
	['from nowhere', 'channel "a" { } route "x" { from = "n" to = "a" }', qr/'?n'?/],
	['to nowhere', 'channel "a" { } route "x" { from = "a" to = "n" }', qr/'?n'?/],
	['an error in the predicate', 'channel "a" { } channel "b" { } route "x" { from = "a" to = "b" when = "amount >> 5" }', qr/9|10/],
	['an unfinished one', 'channel "a" { } channel "b" { } route "x" { from = "a" to = "b" when = "amount > " }', qr/when/],
) {
	my ($what, $conf, $message) = @$_;
	my ($status, $log) = Liminal::Daemon->run_to_end(name => $what, conf => "$conf\n" =~ s/ (channel|route) "/\n$1 "/gr);
	is $status, 1, "$what: the configuration is refused";
	like $log, $message, 'and it says why';
}

finish_testing;
