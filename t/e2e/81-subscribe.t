# Ephemeral channels: who subscribes gets every message that is published from then on, in order,
# with a sequence from 1, byte for byte as it came, once; ids count as the protocol has them. (G1, G2, wire.md)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $SCHEMA = '{"type":"object"}';

my $d = Liminal::Daemon->start(name => 'ephemeral', files => { 'schema.json' => $SCHEMA }, conf => <<~"CONF");
	channel "news" { }
	channel "other" { }
	channel "\xE2\x98\x83 snow" { }
	channel "typed" { schema = "schema.json" }
	channel "small" { keep_bytes = "1M" }
	limits { subscriptions_per_connection = 5 }
	CONF

my $p = $d->client(name => 'publisher');

note '-- nobody listens';
is_deeply [@{ $p->publish('news', 'x', stream => 7) }{qw(message_id flags)}], [1, 0], 'the first message id is 1, delivered to nobody';
is $p->publish('other', 'x')->{message_id}, 2, 'one counter for all channels';
$p->send('Publish', channel => 'nowhere', payload => 'x', stream => 2);
$p->expect('PublishError', { code => R_NO_CHANNEL, stream => 2, message => "channel 'nowhere' is not configured" });
is $d->client(name => 'second')->publish('news', 'x')->{message_id}, 3, 'an error uses none, another connection the next';

note '-- one subscription';
my $s = $d->client(name => 'subscriber');
my $ack = $s->subscribe('news', stream => 9);
is $ack->{subscription}, 1, 'the first subscription id is 1';
is $ack->{schema_id}, schema_id_of('{}'), 'the schema id of a channel without a schema';
$s->expect_quiet('what was published before does not come');
my $answer = $p->publish('news', "bytes \0\xFF\n", schema_id => "\5" x 32, parent_id => "parent \xE2\x98\x83", clock => 2 ** 40);
is $answer->{flags} & F_DELIVERED, F_DELIVERED, 'delivered to somebody';
my ($frame) = $s->expect_deliveries(["bytes \0\xFF\n"], 'the payload, byte for byte, with sequence 1', stream => 9);
is_deeply [@$frame{qw(parent_id clock flags)}], ["parent \xE2\x98\x83", 2 ** 40, 0], 'the causal context as it came';
is $frame->{schema_id}, schema_id_of('{}'), 'the channel\'s schema id, not the publisher\'s';
for my $context ([undef, undef], ['', undef], [undef, 0], ['p' x 5000, ~0]) {
	$p->publish('news', 'c', parent_id => $context->[0], clock => $context->[1]);
	my $got = $s->expect('Deliver');
	is_deeply [@$got{qw(parent_id clock)}], $context, 'another causal context';
}
$p->publish('news', '');
$s->expect_deliveries([''], 'an empty payload', from => 6);
$p->publish('other', 'x');
$s->expect_quiet('nothing from another channel');

note '-- many at once';
my @many = map { "message $_" . 'x' x ($_ * 7 % 300) } 1 .. 500;
$p->send_all(map { ['Publish', channel => 'news', payload => $many[$_], stream => 100 + $_] } 0 .. $#many);
my @acks = map { $p->next_frame // { type => 'nothing' } } @many;
is_deeply [map { $_->{stream} } @acks], [map { 100 + $_ } 0 .. $#many], 'an answer to each, in their order, on its stream';
is_deeply [map { $_->{message_id} } @acks], [map { $acks[0]{message_id} + $_ } 0 .. $#many], 'ids without a gap';
$s->expect_deliveries(\@many, 'all of them in order', from => 7, stream => 9);
$s->expect_quiet;

note '-- several subscriptions on one connection';
my $twice = $d->client(name => 'twice');
my @ids = map { $twice->subscribe('news', stream => 4)->{subscription} } 1, 2;
push @ids, $twice->subscribe('news', stream => 5)->{subscription};
push @ids, $twice->subscribe('other', stream => 4)->{subscription};
is_deeply [map { $_ - $ids[0] } @ids], [0 .. 3], 'subscription ids count up';
cmp_ok $ids[0], '>', 1, 'from one counter for all connections';
await_counts($d, { subscriptions => 5 }, 'a row for each');
$p->publish('news', 'copy');
my %copies;
for (1 .. 3) {
	my $got = $twice->expect('Deliver', { payload => 'copy', sequence => 1 });
	$copies{ $got->{stream} }++;
}
is_deeply \%copies, { 4 => 2, 5 => 1 }, 'each gets its own copy, also two on one stream';
$p->publish('other', 'else');
$twice->expect_deliveries(['else'], 'and the other channel', stream => 4);
$twice->send('Subscribe', channel => 'nowhere', max_in_flight => 1, stream => 6);
$twice->expect('SubscribeError', { code => R_NO_CHANNEL, stream => 6 });
$twice->subscribe('typed', stream => 8);
$twice->send('Subscribe', channel => 'news', max_in_flight => 1, stream => 11);
$twice->expect('SubscribeError', { stream => 11, message => qr/subscriptions_per_connection.*5/ }, 'as many as the limit says');

note '-- unsubscribe';
$twice->send('Unsubscribe', subscription => $ids[1])->expect_quiet('is not answered');
await_counts($d, { subscriptions => 5 }, 'its row is gone');
$s->expect_deliveries(['copy'], 'the others were told', from => 507);
$p->publish('news', 'fewer');
%copies = ();
for (1, 2) {
	my $got = $twice->expect('Deliver', { payload => 'fewer', sequence => 2 });
	$copies{ $got->{stream} }++;
}
is_deeply \%copies, { 4 => 1, 5 => 1 }, 'the other two of this channel go on';
$twice->expect_quiet('without the third');
$s->expect_deliveries(['fewer'], 'and so do others', from => 508);
$twice->send('Unsubscribe', subscription => $ids[1])->send('Unsubscribe', subscription => ~0)
    ->send('Unsubscribe', subscription => $ack->{subscription})->expect_quiet('unknown and foreign ones are ignored');
$p->publish('news', 'still');
$s->expect_deliveries(['still'], 'whose subscription goes on', from => 509);
$twice->expect('Deliver', { payload => 'still' }) for 1, 2;
$twice->send('Unsubscribe', subscription => $_) for @ids;
$twice->expect_quiet;
my $again = $twice->subscribe('news', stream => 4);
$p->publish('news', 'new');
$twice->expect_deliveries(['new'], 'a new subscription begins at 1', stream => 4);
$s->expect_deliveries(['new'], 'while the other goes on', from => 510);
$twice->send('Unsubscribe', subscription => $again->{subscription})->expect_quiet;

note '-- the last one leaves';
$s->send('Unsubscribe', subscription => $ack->{subscription})->expect_quiet;
is $p->publish('news', 'unheard')->{flags} & F_DELIVERED, 0, 'delivered to nobody again';
$s->expect_quiet;

note '-- a subscriber that publishes';
$s->subscribe('news', stream => 3);
$s->send('Publish', channel => 'news', payload => 'mine', stream => 2);
my @both = map { $s->next_frame // { type => 'nothing' } } 1, 2;
is_deeply [sort map { "$_->{type} $_->{stream}" } @both], ['Deliver 3', 'PublishAck 2'], 'gets its own message, and the answer';
is +(grep { $_->{type} eq 'PublishAck' } @both)[0]{flags} & F_DELIVERED, F_DELIVERED, 'itself is somebody';
$s->send_all(['Publish', channel => 'news', payload => 'a', stream => 2], ['Subscribe', channel => 'news', max_in_flight => 1, stream => 12],
    ['Publish', channel => 'news', payload => 'b', stream => 2], ['Ping']);
my %got;
for (1 .. 7) {
	my $one = $s->next_frame // last;
	push @{ $got{"$one->{type} $one->{stream}"} }, $one->{payload} // '';
}
is_deeply \%got, { 'Pong 0' => [''], 'PublishAck 2' => ['', ''], 'SubscribeAck 12' => [''],
    'Deliver 3' => ['a', 'b'], 'Deliver 12' => ['b'] }, 'in one write: a subscription gets what was published after it';

note '-- names and schemas';
my $n = $d->client(name => 'names');
$n->subscribe("\xE2\x98\x83 snow");
$p->publish("\xE2\x98\x83 snow", 'cold');
$n->expect_deliveries(['cold'], 'a name beyond ASCII');
is $n->subscribe('typed', stream => 2, schemas => ["\1" x 32, schema_id_of($SCHEMA)])->{schema_id}, schema_id_of($SCHEMA),
    'the id of the schema file\'s bytes, accepted by the subscriber';
$p->publish('typed', '{}');
is $n->expect('Deliver', { stream => 2, payload => '{}' })->{schema_id}, schema_id_of($SCHEMA), 'in each Deliver';
$n->send('Subscribe', channel => 'typed', max_in_flight => 1, stream => 3, schemas => [schema_id_of('{}'), "\1" x 32]);
$n->expect('SubscribeError', { code => R_SCHEMA, stream => 3 }, 'a list without it is refused');
$n->send('Subscribe', channel => 'nowhere', max_in_flight => 1, schemas => ["\1" x 32]);
$n->expect('SubscribeError', { code => R_NO_CHANNEL }, 'an unknown channel comes first');
is $n->subscribe('news', stream => 4, schemas => [schema_id_of('{}')])->{schema_id}, schema_id_of('{}'), 'no schema has an id, too';

note '-- large messages';
my $l = $d->client(name => 'large');
$l->subscribe('news', stream => 2);
my $sequence = 0;
for my $size (65535, 65536, 70_000, 200_000, 1 << 20, (16 << 20) - 4 - 4 - 46) {
	my $large = join '', map { pack 'N', $_ * 2654435761 % 2 ** 32 } 1 .. $size / 4;
	$large .= 'y' x ($size - length $large);
	$p->publish('news', $large);
	ok +($l->next_frame // {})->{payload} // '' eq $large, "$size bytes";
	$p->publish('news', 'between');
	$l->expect_deliveries(['between'], 'and a small one behind it', from => $sequence += 2);
}
$l->hang_up;
my $b = $d->client(name => 'bounded');
$b->subscribe('small');
$p->publish('small', 'before');
$p->send('Publish', channel => 'small', payload => 'x' x (2 << 20));
$p->expect('PublishError', { message => qr/keep_bytes/ }, 'a message that is larger than the channel\'s bound is refused');
$p->publish('small', 'after');
$b->expect_deliveries(['before', 'after'], 'nobody notices');

note '-- connections end';
$_->hang_up for $s, $n, $b;
$twice->expect_deliveries(['{}'], 'what had come meanwhile', stream => 8);
$twice->send('Disconnect')->expect_close;
await_counts($d, { subscriptions => 0, listeners => 0 }, 'no row is left');
is $p->publish('news', 'x')->{flags} & F_DELIVERED, 0, 'nobody is there';

finish_testing;
