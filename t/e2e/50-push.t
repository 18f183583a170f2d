# A conversation with one named connection: each message is a push to it, its reply the answer.
# Slow, gone and never there are different things. (B1 to B6, F2, F5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

sub subject ($conn_id) { return "liminal.connection.$conn_id" }

{
	my $d = Liminal::Daemon->start(name => 'push', conf => 'limits { pushes_per_connection = 50 }');
	my $pusher = $d->client(name => 'pusher');
	my $target = $d->client(name => 'target');
	my $id = $d->conn_id_of($target);

	note '-- reply';
	$pusher->open(1, subject($id))->ask(1, "bytes \0\xFF", stream => 4);
	my $push = $target->expect('Push', { payload => "bytes \0\xFF", stream => 1 }, 'a Push on stream 1');
	is $d->mdb_counts->{pushes}, 1, 'its slot exists when the target sees it';
	$target->reply($push, "\0reply");
	$pusher->expect('ConversationMessage', { conversation => 1, stream => 4, flags => F_REPLY,
	    payload => "\0reply" }, 'the reply, on the stream of the message');
	is $d->mdb_counts->{pushes}, 0, 'the slot is gone';
	$target->reply($push, 'again')->expect_quiet;
	$pusher->expect_quiet('a second reply: nothing');

	note '-- several, answered in any order, by several connections at once';
	my $second = $d->client(name => 'second');
	$pusher->open(2, subject($d->conn_id_of($second)));
	$pusher->open(3, subject($id));
	$pusher->ask($_->[0], $_->[1]) for [1, 'a'], [1, 'b'], [2, 'c'], [3, 'd'];
	my %push = map { $_->{payload} => $_ } map { $target->expect('Push') } 1 .. 3;
	my $c = $second->expect('Push', { payload => 'c' });
	$second->reply($push{a}, 'foreign')->reply($c, 'C');
	$pusher->expect_answer(2, 'C');
	$target->reply($push{d}, 'D');
	$pusher->expect_answer(3, 'D');
	$target->reply($push{b}, 'B')->barrier;
	$pusher->expect_quiet('order within a conversation');
	$target->reply($push{a}, 'A');
	$pusher->expect_answer(1, 'A');
	$pusher->expect_answer(1, 'B');

	note '-- to oneself, and both ways at once';
	$pusher->open(4, subject($d->conn_id_of($pusher)))->ask(4, 'self');
	$push = $pusher->expect('Push', { payload => 'self' });
	$pusher->reply($push, 'me');
	$pusher->expect_answer(4, 'me');
	$target->open(1, subject($d->conn_id_of($pusher)))->ask(1, 'to pusher');
	$pusher->ask(1, 'to target');
	$push = $target->expect('Push');
	my $back = $pusher->expect('Push');
	$target->reply($push, 'p');
	$pusher->reply($back, 't');
	$target->expect_answer(1, 't');
	$pusher->expect_answer(1, 'p');

	note '-- the limit (B6)';
	$pusher->ask(3, "n$_") for 1 .. 51;
	my @pushes = map { $target->expect('Push') } 1 .. 50;
	$target->reply($_, $_->{payload}) for @pushes;
	$pusher->expect_answer(3, "n$_") for 1 .. 50;
	$pusher->expect_refusal(3, R_PRESSURE, qr/./, 'one too many: refused under pressure');
	$target->expect_quiet;

	note '-- disconnected: at once, with the reason';
	for my $how (['hangs up', sub { $_[0]->hang_up }], ['is reset', sub { $_[0]->reset }],
	    ['says Disconnect', sub { $_[0]->send('Disconnect') }],
	    ['is killed', sub { kill 'KILL', $d->pid_of($_[0]) }]) {
		my $victim = $d->client(name => 'victim');
		$pusher->open(9, subject($d->conn_id_of($victim)))->ask(9, 'one')->ask(9, 'two');
		$victim->expect('Push') for 1 .. 2;
		my $before = now;
		$how->[1]->($victim);
		$pusher->expect_refusal(9, R_DISCONNECTED, qr/./, "the target $how->[0]") for 1 .. 2;
		cmp_ok now - $before, '<', 4 + slack, 'not after the reply timeout';
		is $d->mdb_counts->{pushes}, 0, 'no slot is left';
		$pusher->ask(9, 'three');
		$pusher->expect_refusal(9, R_DISCONNECTED, qr/./, 'a message after that: an error at once');
		$pusher->close_conversation(9);
	}
	$d->expect_log(qr/killed by signal 9 \(SIGKILL\)/);

	note '-- never there';
	for my $nobody (999999, 0, ~0) {
		$pusher->open(9, subject($nobody))->ask(9, 'x')->send('Ping');
		my $frame = $pusher->expect_refusal(9, undef, qr/./, "connection $nobody: an error at once");
		1 while ($frame = $pusher->next_frame) && $frame->{type} eq 'ConversationError';
		is $frame && $frame->{type}, 'Pong', 'and life goes on';
		$pusher->close_conversation(9);
	}
	for my $bad ('', 'x', '-1', '1x', '99999999999999999999999', ' 1') {
		$pusher->open(9, subject($bad))->send('Ping');
		$pusher->expect_refusal(9, undef, qr/./, "'$bad' is no conn id: refused at open");
		$pusher->expect('Pong');
	}
	is $d->rows('pushes'), '', 'no slot is left';
}

{
	note '-- timeout: connected, but slow (F5)';
	my $d = Liminal::Daemon->start(name => 'slow', conf => 'conversation { reply_timeout = "400ms" }');
	my $pusher = $d->client(name => 'pusher');
	my $target = $d->client(name => 'target');
	$pusher->open(1, subject($d->conn_id_of($target)))->open(2, 'echo');
	my $before = now;
	$pusher->ask(1, 'slow')->ask(2, 'quick');
	my $push = $target->expect('Push');
	$pusher->expect_answer(2, 'quick', 'other conversations do not wait');
	my $frame = $pusher->expect_refusal(1, R_TIMED_OUT, qr/./, 'timed out');
	cmp_ok $frame->{at} - $before, '>=', 0.4, 'not before the reply timeout';
	$target->reply($push, 'late')->expect_quiet;
	$pusher->expect_quiet('the late reply is dropped');
	$pusher->ask(1, 'again');
	$target->reply($target->expect('Push', { payload => 'again' }), 'in time');
	$pusher->expect_answer(1, 'in time', 'the conversation goes on');
	is $d->mdb_counts->{pushes}, 0, 'no slot is left';
}

{
	note '-- who may';
	my $conf = qq(listen = { "127.0.0.1:0", "unix:%D/s" }\nconversation { connection_subjects = "%s" });
	for my $who (qw(off local any)) {
		my $d = Liminal::Daemon->start(name => $who, conf => $conf =~ s/%s"/$who"/r);
		my $target = $d->client(name => 'target');
		my $subject = subject($d->conn_id_of($target));
		for my $from ($d->client(name => 'loopback'),
		    $d->connect(name => 'unix', address => $d->address(1))->handshake) {
			$from->open(1, $subject);
			if ($who eq 'off') {
				$from->expect_refusal(1, undef, qr/./, 'off: refused');
				next;
			}
			$from->ask(1, 'x');
			$target->reply($target->expect('Push'), 'y');
			$from->expect_answer(1, 'y', "$who: allowed");
		}
		$target->expect_quiet;
	}
	SKIP: {
		my ($address) = grep { !/^127\./ } `hostname -I 2>/dev/null` =~ /(\d+\.\d+\.\d+\.\d+)/g;
		skip 'this machine has no address besides loopback', 1 if !$address;
		my $d = Liminal::Daemon->start(name => 'remote', conf => qq(listen = { "$address:0" }));
		my $target = $d->client(name => 'target');
		my $from = $d->client(name => 'remote');
		$from->open(1, subject($d->conn_id_of($target)));
		$from->expect_refusal(1, undef, qr/./, 'local: refused to one from another address than loopback');
		$target->expect_quiet;
	}
}

finish_testing;
