# Slots of pushes whose answer nobody awaits any more do not count against their target: it stays
# reachable, however often it did not answer. (B3, B4, B6)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $d = Liminal::Daemon->start(name => 'slots', conf => <<'CONF');
limits { pushes_per_connection = 4 }
conversation { reply_timeout = "100ms" }
CONF
my $target = $d->client(name => 'target');
my $subject = 'liminal.connection.' . $d->conn_id_of($target);

{
	note '-- timed out, more often than the limit';
	my $pusher = $d->client(name => 'pusher');
	$pusher->open(1, $subject);
	my $first;
	for my $n (1 .. 10) {
		$pusher->ask(1, "n$n");
		my $push = $target->expect('Push', { payload => "n$n" }, "push $n arrives");
		$first //= $push;
		$pusher->expect_refusal(1, R_TIMED_OUT);
	}
	await_counts($d, { pushes => 0 }, 'no slot is left of them');
	$target->reply($first, 'late')->barrier;
	$pusher->expect_quiet('a late answer finds nobody');
}

{
	note '-- without the reply flag: done once it is on its way';
	my $teller = $d->client(name => 'teller');
	$teller->open(1, $subject);
	$teller->send('ConversationMessage', conversation => 1, payload => "t$_") for 1 .. 3;
	$target->expect('Push', { payload => "t$_" }) for 1 .. 3;
	await_counts($d, { pushes => 0 }, 'nobody waits, nothing is kept');
	$teller->expect_quiet;
}

{
	note '-- the pusher leaves while it waits';
	my $leaver = $d->client(name => 'leaver');
	$leaver->open(1, $subject)->ask(1, 'unwanted');
	$target->expect('Push', { payload => 'unwanted' });
	$leaver->close_conversation(1)->barrier;
	await_counts($d, { pushes => 0 }, 'closing takes the slot back');
	$leaver->open(2, $subject)->ask(2, 'unwanted too');
	$target->expect('Push', { payload => 'unwanted too' });
	$leaver->send('Disconnect')->expect_close;
	await_counts($d, { pushes => 0 }, 'so does leaving');
}

finish_testing;
