# liminal channels, and what status and dump tell of channels: what is kept, exactly, who listens, and that
# what nobody needs any more goes. (H4, H5, G1, G3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Digest::SHA 'sha256_hex';
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $d = Liminal::Daemon->start(name => 'channels', conf => <<~"CONF");
	channel "news" { keep_messages = 3 }
	channel "\xE2\x98\x83\\n" { }
	channel "orders" { durable = true  keep_messages = 5 }
	CONF

# What a subscriber that was stopped meanwhile has missed.
$d->allow_log(qr/warn shed conn=1 subscription=1/, qr/warn consumer missed messages conn=1 .* oldest=5/);

sub rows (@arguments) {
	my $run = tool($d, @arguments, '-j');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	tool_is($run, 0, qr/\A\z/, "@arguments -j") or return;
	return json_of($run);
}
sub one ($name) { return (grep { $_->{channel} eq $name } rows('channels'))[0] }
sub store_rows ($table) { return rows('dump', '-p', "$d->{dir}/persist", $table) }

note '-- as configured';
is_deeply [rows('channels')], [
	{ channel => 'news', durable => 0, messages => 0, subscriptions => 0, head => 0 },
	{ channel => "\x{2603}\n", durable => 0, messages => 0, subscriptions => 0, head => 0 },
	{ channel => 'orders', durable => 1, messages => 0, subscriptions => 0, head => 0 },
], 'in their order';
my $run = tool($d, 'channels');
like $run->{out}, qr/\ACHANNEL +DURABLE +MESSAGES +SUBSCRIPTIONS +HEAD\nnews +/, 'as columns';
unlike $run->{out}, qr/[^\x20-\x7e\n]/, 'people see nothing that a terminal would obey';

note '-- with a subscriber that does not come to it';
my $s = $d->client(name => 'subscriber');
$s->subscribe('news', stream => 7);
my $id = $s->subscribe('orders', stream => 8, flags => F_DURABLE, consumer => 'me', max_in_flight => 2, start => 0, sequence => 0)->{subscription};
my $conn = $d->conn_id_of($s);
kill STOP => $d->pid_of($s);
my $p = $d->client(name => 'publisher');
$p->publish('news', "n$_") for 1 .. 10;
$p->publish('orders', "o$_") for 1 .. 8;
$p->publish('news', 'keyed', key => 'the key');
$p->publish('orders', 'keyed', key => 'another');
is_deeply [map { [@$_{qw(messages subscriptions head)}] } one('news'), one('orders')],
    [[3, 1, 11], [5, 1, 9]], 'what is kept is what the bound says';
my %status = %{ (rows('status'))[0] };
is_deeply [@status{qw(channels subscriptions)}], [3, 2], 'status counts them';
cmp_ok $status{messages}, '>=', 8, 'and the messages';
wait_until(sub { (rows('status'))[0]{published} == 20 }, 'published, as the keeper writes it down');

my @subscriptions = rows('dump', 'subscriptions');
is_deeply [map { my %r = %$_; delete @r{qw(table since)}; \%r } @subscriptions],
    [{ conn_id => $conn, subscription => $id - 1, channel_number => 0, stream => 7, max_in_flight => 1, base => 0, consumer => undef },
    { conn_id => $conn, subscription => $id, channel_number => 2, stream => 8, max_in_flight => 2, base => 0, consumer => 'me' }],
    'dump subscriptions';
is_deeply [map { [@$_{qw(channel_number conn_id subscriptions)}] } rows('dump', 'listeners')],
    [[0, $conn, 1], [2, $conn, 1]], 'dump listeners';
is_deeply [map { [@$_{qw(channel_number consumer conn_id subscription)}] } rows('dump', 'consumers')],
    [[2, 'me', $conn, $id]], 'dump consumers';
is_deeply [map { [@$_{qw(number channel durable subscriptions head)}] } rows('dump', 'channels')],
    [[0, 'news', 0, 1, 11], [1, "\x{2603}\n", 0, 0, 0], [2, 'orders', 1, 1, 9]], 'dump channels';
my @messages = rows('dump', 'messages');
is_deeply [$messages[-1]{channel_number}, $messages[-1]{sequence} + $messages[-1]{messages} - 1, $messages[-1]{piece}],
    [0, 11, 0], 'dump messages, the newest last';
is_deeply [map { $_->{keys} // $_->{sha256} } rows('dump', 'keys')], [1, sha256_hex('the key')], 'dump keys: how many, and their hashes';
is_deeply [map { $_->{sha256} } rows('dump', 'keys_by_age')], [sha256_hex('the key')], 'dump keys_by_age';

note '-- what is in the store';
is_deeply [map { [@$_{qw(number channel head)}] } store_rows('channels')], [[1, 'orders', 9]], 'channels';
my @stored = store_rows('messages');
is $stored[-1]{sequence} + $stored[-1]{messages} - 1, 9, 'messages';
is_deeply [map { $_->{keys} // $_->{sha256} } store_rows('keys')], [1, sha256_hex('another')], 'keys';
is_deeply [map { [@$_{qw(channel_number consumer cursor)}] } store_rows('consumers')], [[1, 'me', 0]], 'consumers';

note '-- what nobody needs goes, although nobody publishes any more';
$p->hang_up;
kill CONT => $d->pid_of($s);
$s->hang_up;
wait_until(sub { !rows('dump', 'messages') }, 'the keeper has swept');
is_deeply [@{ one('news') }{qw(messages subscriptions head)}], [0, 0, 11], 'nothing is kept';
is_deeply [@{ one('orders') }{qw(messages subscriptions head)}], [5, 0, 9], 'of a durable channel, what retention says';

$d->finish;
done_testing;
