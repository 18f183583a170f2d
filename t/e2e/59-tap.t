# The notifier's tap before configured channels: what it consumes reaches nobody and is not answered, what it
# lets pass goes its usual way, in its order. (C3, G1)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $MODULES = $ENV{LIMINAL_MODULES} || 'build/t/modules';

my $d = Liminal::Daemon->start(name => 'tap', files => { 'number.json' => '{"type":"number"}' }, conf => <<~"CONF");
	notifier { module = "$MODULES/notifier_script.so"  args = { "%D/calls" }  timeout = "2s" }
	channel "tap" { }
	channel "tap-typed" { schema = "number.json" }
	channel "tap-kept" { durable = true }
	channel "orders" { }
	channel "kept" { durable = true }
	channel "two" { }
	channel "slow" { }
	channel "crash" { }
	channel "from" { }
	route "into-tap" { from = "from" to = "tap" }
	CONF
$d->allow_log(qr/notifier/);

sub calls () { return map { /^\d+ enter (publish .*)$/ ? $1 : () } split /\n/, Liminal::Daemon::slurp($d->dir . '/calls') }

my $p = $d->client(name => 'publisher');
my %s = map { my $c = $d->client(name => "sub $_"); $c->subscribe($_); ($_ => $c) } qw(tap tap-typed tap-kept orders kept two slow crash from);
my %n;

note '-- consumed';
for my $channel (qw(tap tap-typed tap-kept)) {
	$p->send('Publish', channel => $channel, payload => 'no number', key => 'k');
	$p->expect_quiet("$channel: no answer");
	wait_until(sub { grep { / \Q$channel\E 9 no number/ } calls }, "$channel: the module has it");
	$s{$channel}->expect_quiet("$channel: no fan-out");
}

note '-- passed';
is $p->publish('orders', 'passed', stream => 5)->{message_id}, 1, 'what is consumed uses no message id';
$s{orders}->expect_deliveries(['passed'], 'fan-out');
is $p->publish('kept', 'passed')->{flags}, F_DELIVERED, 'also to a durable channel';
$s{kept}->expect_deliveries(['passed']);
$p->publish('two', 'only 1 consumes');
$s{two}->expect_deliveries(['only 1 consumes']);
is scalar(grep { / (?:orders|kept|two) / } calls), 3, 'the module was asked about each';

note '-- in one write, each its own way, in order';
my @channels = map { (qw(orders tap kept slow tap-kept two nowhere orders))[$_ % 8] } 0 .. 47;
$p->send_all(map { ['Publish', channel => $channels[$_], payload => "m$_", stream => $_ + 1] } 0 .. $#channels);
my @answered = grep { $channels[$_] !~ /^tap/ } 0 .. $#channels;
my @answers = map { $p->next_frame // { type => 'nothing', stream => 0 } } @answered;
is_deeply [map { "$_->{stream} $_->{type}" } @answers],
    [map { $_ + 1 . ($channels[$_] eq 'nowhere' ? ' PublishError' : ' PublishAck') } @answered], 'those that are answered';
for my $channel (qw(orders kept slow two)) {
	$s{$channel}->expect_deliveries([map { "m$_" } grep { $channels[$_] eq $channel } 0 .. $#channels], "$channel: in order",
	    from => $channel eq 'slow' ? 1 : 2);
}
$_->expect_quiet('and no others') for values %s;

note '-- a module that fails';
$p->publish('crash', 'passed');
$s{crash}->expect_deliveries(['passed'], 'its crash is not consumption');

note '-- copies that rules make were not published by a client';
$p->publish('from', 'routed');
$s{$_}->expect_deliveries(['routed'], "$_: arrives") for qw(from tap);

finish_testing;
