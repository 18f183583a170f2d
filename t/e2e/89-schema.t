# A channel's schema: what does not conform is refused with where and why, and reaches nobody; without a
# schema any bytes pass. (G4)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $ORDER = <<~'JSON';
	{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"type": "object",
		"required": ["id", "customer"],
		"properties": {
			"id": { "type": "integer", "minimum": 1 },
			"customer": { "$ref": "#/$defs/customer" },
			"items": { "type": "array", "items": { "type": "object", "properties": { "qty": { "maximum": 9 } } }, "maxItems": 3 },
			"region": { "enum": ["eu", "us"] },
			"code": { "type": "string", "pattern": "^[A-Z]{2}\\d+$" },
			"a/b": { "type": "null" }
		},
		"additionalProperties": false,
		"$defs": { "customer": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string", "minLength": 1 } } } }
	}
	JSON

my $d = Liminal::Daemon->start(name => 'schema', files => { 'order.json' => $ORDER, 'false.json' => 'false' }, conf => <<~'CONF');
	channel "orders" { schema = "order.json" }
	channel "kept" { durable = true  schema = "order.json" }
	channel "never" { schema = "false.json" }
	channel "free" { }
	CONF

my $p = $d->client(name => 'publisher');
my %s = map { my $c = $d->client(name => "sub $_"); $c->subscribe($_); ($_ => $c) } qw(orders kept never free);
my %n;

sub accepted ($channel, $payload, $name) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$p->send('Publish', channel => $channel, payload => $payload, stream => 2);
	$p->expect('PublishAck', { stream => 2, flags => F_DELIVERED }, "$name: accepted");
	return $s{$channel}->expect_deliveries([$payload], "$name: delivered as it came", from => ++$n{$channel});
}

sub refused ($channel, $payload, $message, $name) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$p->send('Publish', channel => $channel, payload => $payload, stream => 3);
	return $p->expect('PublishError', { stream => 3, code => R_OTHER, message => $message }, "$name: refused");
}

for my $channel (qw(orders kept)) {
	note "-- $channel";
	accepted($channel, '{"id":1,"customer":{"name":"A"}}', 'what conforms');
	accepted($channel, " {\t\"customer\" : {\"name\":\"\\u2603 \xE2\x98\x83\", \"more\": [1e3]} ,\n\"id\": 12.0, \"items\":[{\"qty\":9},{}], \"code\":\"AB1\" } ",
	    'white space and order stay');
	refused($channel, '{"customer":{"name":"A"}}', qr/required/, 'something is missing');
	refused($channel, '{"id":0,"customer":{"name":"A"}}', qr{/id\b.*minimum}, 'too small');
	refused($channel, '{"id":"1","customer":{"name":"A"}}', qr{/id\b.*type}, 'another type');
	refused($channel, '{"id":1,"customer":{"name":""}}', qr{/customer/name\b.*minLength}, 'in the depth');
	refused($channel, '{"id":1,"customer":{}}', qr{/customer\b.*required}, 'missing in the depth');
	refused($channel, '{"id":1,"customer":{"name":"A"},"items":[{},{"qty":10}]}', qr{/items/1/qty\b.*maximum}, 'in an array');
	refused($channel, '{"id":1,"customer":{"name":"A"},"items":[{},{},{},{}]}', qr{/items\b.*maxItems}, 'too many');
	refused($channel, '{"id":1,"customer":{"name":"A"},"region":"asia"}', qr{/region\b.*enum}, 'none of these');
	refused($channel, '{"id":1,"customer":{"name":"A"},"code":"ab"}', qr{/code\b.*pattern}, 'a pattern');
	refused($channel, '{"id":1,"customer":{"name":"A"},"a/b":1}', qr{/a~1b\b.*type}, 'a name that has to be escaped in a path');
	refused($channel, '{"id":1,"customer":{"name":"A"},"x":1}', qr{additionalProperties}, 'something unknown');
	refused($channel, '[1]', qr{type}, 'another value');
	refused($channel, $_, qr/JSON/i, 'no JSON: ' . length . ' bytes') for '', 'x', '{"id":1', "{\"id\":\"\xFF\"}", '{} {}', "\0", '[' x 100_000;
	accepted($channel, '{"id":2,"customer":{"name":"B"}}', 'what conforms, again');
	$s{$channel}->expect_quiet('what was refused has reached nobody');
}
is $p->publish('free', 'x')->{message_id}, 7, 'and has used no message id';
$s{free}->expect_deliveries(['x']);
$n{free} = 1;

note '-- one write';
my @payloads = map { $_ % 3 ? sprintf '{"id":%d,"customer":{"name":"N"}}', $_ : '{"id":-1}' } 1 .. 30;
$p->send_all(map { ['Publish', channel => 'orders', payload => $payloads[$_], stream => 10 + $_] } 0 .. $#payloads);
my @answers = map { $p->next_frame // { type => 'nothing', stream => 0 } } @payloads;
is_deeply [map { "$_->{type} $_->{stream}" } @answers], [map { ($_ % 3 ? 'PublishAck ' : 'PublishError ') . ($_ + 9) } 1 .. 30], 'each gets its own answer';
$s{orders}->expect_deliveries([grep { !/-1/ } @payloads], 'and the good ones arrive', from => $n{orders} + 1);

note '-- without a schema, and with one that nothing conforms to';
accepted('free', $_, length . ' bytes') for '', "\xFF\0", '{"broken', 'x' x 100_000;
refused('never', $_, qr/./, $_) for '1', '{}';
$s{never}->expect_quiet;

note '-- what cannot be a schema';
for (
	['no JSON', '{"type":', qr/:\d+: .*bad\.json/],
	['no schema', '{"type":"strange"}', qr/type/],
	['a reference to nowhere', '{"$ref":"#/$defs/none"}', qr/none/],
	['a reference to elsewhere', '{"$ref":"https://example.com/x.json"}', qr/example\.com/],
	['a broken pattern', '{"pattern":"("}', qr/pattern/],
	['no file', undef, qr/bad\.json/],
) {
	my ($what, $text, $message) = @$_;
	my ($status, $log) = Liminal::Daemon->run_to_end(name => $what, conf => "channel \"c\" { schema = \"bad.json\" }\n",
	    files => defined $text ? { 'bad.json' => $text } : {});
	is $status, 1, "$what: the configuration is refused";
	like $log, $message, 'and it says why';
}

finish_testing;
