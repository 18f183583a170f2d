# A store with damaged rows: whoever asks for them is told, everybody and everything else goes on. (G3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $CONF = <<~'CONF';
	channel "hurt" { durable = true }
	channel "well" { durable = true }
	CONF
# Before a row's payload: the row's head, and of its first message's frame what comes before the payload.
my $ROW_HEAD = 48;
my $FRAME_HEAD = 64;

my $first = Liminal::Daemon->start(name => 'first', conf => $CONF);
my $p = $first->client(name => 'publisher');
for my $n (1 .. 5) {
	$p->publish($_, "$_ number $n") for qw(hurt well);
}
$p->hang_up;
is $first->stop, 0, 'stopped';

# Every copy of the row that begins with PAYLOAD, WHERE bytes before it.
sub damage ($payload, $where) {
	my $file = $first->dir . '/persist/store/data.mdb';
	open my $store, '+<:raw', $file or die "$file: $!";
	my $bytes = do { local $/; <$store> };
	my $n = 0;
	while ($bytes =~ /\Q$payload\E/g) {
		seek $store, $-[0] - $where, 0;
		print {$store} "\x7f\x7f";
		$n++;
	}
	close $store or die "$file: $!";
	return $n;
}

ok damage('hurt number 3', $ROW_HEAD + $FRAME_HEAD), 'a row has another version';
ok damage('hurt number 5', $FRAME_HEAD - 6), 'a frame is longer than its row';

my $d = Liminal::Daemon->start(name => 'damaged', conf => $CONF, dir => $first->dir);
$d->expect_log(qr/error channel "hurt": what is stored does not read back/);
my $c = $d->client(name => 'consumer');
$c->subscribe('hurt', stream => 1, max_in_flight => 10, consumer => 'a', start => START_OLDEST);
$c->expect_deliveries(['hurt number 1', 'hurt number 2'], 'what comes before the damage');
$c->expect('SubscribeError', { stream => 1, code => R_OTHER, message => qr/does not read back/ }, 'then it is told');
$c->subscribe('well', stream => 2, max_in_flight => 10, consumer => 'a', start => START_OLDEST);
$c->expect_deliveries([map { "well number $_" } 1 .. 5], 'its connection goes on, and so do other channels');

$c->subscribe('hurt', stream => 3, max_in_flight => 10, consumer => 'a', start => START_SEQUENCE, sequence => 4);
$c->expect_deliveries(['hurt number 4'], 'it may go on behind the damage', from => 4);
$c->expect('SubscribeError', { stream => 3, code => R_OTHER, message => qr/does not read back/ }, 'up to the next one');

my $s = $d->client(name => 'plain');
$s->subscribe('hurt');
$p = $d->client(name => 'again');
is $p->publish('hurt', 'hurt number 6')->{flags}, F_DELIVERED, 'new messages are taken';
$s->expect_deliveries(['hurt number 6'], 'and delivered');
$first->allow_log(qr/does not read back/);	# its log is the same file
$_->finish for $d, $first;

finish_testing;
