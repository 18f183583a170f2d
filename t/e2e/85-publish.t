# Publish and Subscribe on a channel that is not configured are errors with its name, also beside configured
# ones; what belongs to subscriptions is ignored without one. (G1, wire.md)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $d = Liminal::Daemon->start(name => 'channels', conf => <<~'CONF');
	channel "fast" { }
	channel "kept" { durable = true }
	CONF
my $c = $d->client;

$c->send('Publish', channel => 'orders', payload => 'x', stream => 3);
$c->expect('PublishError', { code => R_NO_CHANNEL, stream => 3,
    message => "channel 'orders' is not configured" }, 'Publish: an error on the same stream');
$c->send('Publish', channel => "\xE2\x98\x83 '", payload => 'x', key => 'k-1');
$c->expect('PublishError', { code => R_NO_CHANNEL, message => "channel '\xE2\x98\x83 '' is not configured" },
    'any name, with an idempotency key');
$c->send('Publish', channel => '', payload => 'x' x 100000);
$c->expect('PublishError', { code => R_NO_CHANNEL }, 'an empty name');
$c->send('Publish', channel => 'n' x 70000);
$c->expect('PublishError', { code => R_NO_CHANNEL }, 'a very long name');

$c->send('Subscribe', channel => 'orders', max_in_flight => 1, stream => 8);
$c->expect('SubscribeError', { code => R_NO_CHANNEL, stream => 8, message => qr/orders/ }, 'Subscribe: an error');
$c->send('Subscribe', channel => 'orders', max_in_flight => 1, schemas => ["\1" x 32, "\2" x 32]);
$c->expect('SubscribeError', { code => R_NO_CHANNEL }, 'also with accepted schemas');

$c->send('Unsubscribe', subscription => 1);
$c->expect_quiet('an unknown subscription id is ignored');
$c->send('Accept', reference => '1')->send('Defer', reference => '1', reason => 'later')->send('Reject', reference => '');
$c->expect_quiet('Accept, Defer and Reject without a subscription are ignored');

$c->open(1, 'echo');
$c->send_all(['Publish', channel => 'a'], ['Ping'], ['Subscribe', channel => 'b', max_in_flight => 9],
    ['ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'e'], ['Publish', channel => 'c']);
$c->expect('PublishError', { message => qr/'a'/ });
$c->expect('Pong');
$c->expect('SubscribeError', { message => qr/'b'/ });
$c->expect_answer(1, 'e');
$c->expect('PublishError', { message => qr/'c'/ }, 'the answers come in the order of the frames');

$c->send('Publish', channel => $_, payload => 'x')->expect('PublishError', { code => R_NO_CHANNEL, message => "channel '$_' is not configured" },
    'names are compared whole') for 'Fast', 'fas', 'fastx', "fast\0", ' fast', 'fast ';

my $other = $d->client(name => 'other');
for my $name ('fastest' x 36, 'f', "fast\0", 'fas') {
	$other->publish('fast', 'x');
	$other->send('Publish', channel => $name, payload => 'x');
	$other->expect('PublishError', { code => R_NO_CHANNEL, message => "channel '$name' is not configured" }, 'also behind one that is there');
}

$c->send_all(map { ['Publish', channel => $_] } qw(a fast b kept c fast));
my @answers = map { $c->next_frame // { type => 'nothing' } } 1 .. 6;
is_deeply [map { $_->{message} // $_->{type} } @answers],
    ["channel 'a' is not configured", 'PublishAck', "channel 'b' is not configured", 'PublishAck', "channel 'c' is not configured", 'PublishAck'],
    'beside those that are: each its answer, in order';
is_deeply [sort map { $_->{message_id} // () } @answers], [5, 6, 7], 'errors use no message id';

finish_testing;
