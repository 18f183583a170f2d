# Conversations with the built-in echo: answers in order, errors for what is not open, limits,
# and closing. (F1, F2, F4a, wire.md)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $ALREADY_OPEN = qr/^\Qconversation id is already open on this connection; close it before reopening or use a fresh id\E$/;
my $NOT_OPEN = qr/^\Qconversation is not open on this connection\E$/;

{
	my $d = Liminal::Daemon->start(name => 'echo');
	my $c = $d->client;

	note '-- one answer, on the same stream, with an empty context';
	$c->open(7, 'some subject', stream => 5);
	$c->expect_quiet('ConversationOpen: nothing');
	$c->ask(7, "bytes \0\xFF\n", stream => 5, schema_id => "\xA1" x 32, parent_id => 'm-1', clock => 9);
	$c->expect('ConversationMessage', {
		conversation => 7, stream => 5, payload => "bytes \0\xFF\n", flags => F_REPLY,
		schema_id => "\0" x 32, parent_id => undef, clock => undef,
	}, 'echo');
	$c->ask(7, '', stream => 6);
	$c->expect('ConversationMessage', { payload => '', stream => 6 }, 'an empty payload, another stream');
	$c->send('ConversationMessage', conversation => 7, payload => 'no answer wanted');
	$c->expect_quiet('without the reply flag: nothing');
	$c->ask(7, 'x', flags => 0xF1);
	$c->expect_answer(7, 'x', 'unknown flag bits are ignored');

	note '-- a hundred in one write come back in order';
	$c->send_all(map { ['ConversationMessage', conversation => 7, flags => F_REPLY, payload => "n$_"] } 1 .. 100);
	is join(' ', map { ($c->next_frame // {})->{payload} // 'nothing' } 1 .. 100),
	    join(' ', map { "n$_" } 1 .. 100), 'in request order';
	$c->expect_quiet;

	note '-- large and small';
	for my $size (1, 65535, 65536, 1 << 20, (16 << 20) - 100) {
		my $payload = pack('N*', 1 .. 256) x ($size / 1024 + 1);
		substr($payload, $size) = '';
		$c->ask(7, $payload);
		$c->expect_answer(7, $payload, "$size bytes");
	}

	note '-- ids';
	$c->open(7, 'again');
	$c->expect_refusal(7, undef, $ALREADY_OPEN, 'an id that is open is refused');
	$c->ask(7, 'still');
	$c->expect_answer(7, 'still', 'and the conversation of that id goes on');
	$c->close_conversation(7)->expect_quiet('ConversationClose: nothing');
	$c->ask(7, 'x');
	$c->expect_refusal(7, undef, $NOT_OPEN, 'a message after the close');
	$c->send('ConversationMessage', conversation => 7, payload => 'x', stream => 9);
	$c->expect('ConversationError', { conversation => 7, stream => 9, message => $NOT_OPEN },
	    'also one without the reply flag');
	$c->close_conversation(7)->close_conversation(12345)->expect_quiet('closing what is not open: nothing');
	$c->send('ConversationClose', conversation => 8, code => R_OTHER, message => 'bye')->expect_quiet;
	$c->open(7, 'anew');
	$c->ask(7, 'anew');
	$c->expect_answer(7, 'anew', 'a closed id may be opened again');
	for my $id (0, 1, ~0) {
		$c->open($id, '');
		$c->ask($id, "id $id");
		$c->expect_answer($id, "id $id", "id $id, empty subject");
	}

	note '-- the same id on two connections';
	my $other = $d->client;
	$other->ask(7, 'x');
	$other->expect_refusal(7, undef, $NOT_OPEN, 'conversations belong to one connection');
	$other->open(7, 'other');
	$other->ask(7, 'other');
	$c->ask(7, 'mine');
	$other->expect_answer(7, 'other');
	$c->expect_answer(7, 'mine');

	note '-- invalid subjects are refused at open';
	$c->send_all(['ConversationOpen', conversation => 70, subject => 'aion.dispatch.one'], ['Ping']);
	$c->expect_refusal(70, undef, qr/./, 'aion.dispatch. and no pool name');
	$c->expect('Pong');
}

{
	note '-- the limit';
	my $d = Liminal::Daemon->start(name => 'few', conf => 'limits { conversations_per_connection = 3 }');
	my $c = $d->client;
	$c->open($_, 'x') for 1 .. 3;
	$c->expect_quiet('three are allowed');
	$c->open(4, 'x');
	$c->expect_refusal(4, R_PRESSURE, qr/conversations_per_connection.*\b3\b/, 'the fourth is refused with name and number');
	$c->ask($_, "in $_") for 1 .. 3;
	$c->expect_answer($_, "in $_") for 1 .. 3;
	$c->close_conversation(2)->open(4, 'x')->ask(4, 'room');
	$c->expect_answer(4, 'room', 'a close makes room');
	my $other = $d->client;
	$other->open(1, 'x')->ask(1, 'y');
	$other->expect_answer(1, 'y', 'the limit is per connection');
}

{
	note '-- who does not read the answers is cut off, with bounded memory';
	my $d = Liminal::Daemon->start(name => 'deaf', conf => 'limits { outbound_bytes = "4M" }');
	my ($deaf, $other) = ($d->client(name => 'deaf'), $d->client(name => 'other'));
	$_->open(1, 'x')->barrier for $deaf, $other;
	my $pid = $d->pid_of($deaf);
	my $echo = encode_frame('ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'x' x (1 << 20));
	$deaf->write_deaf($echo x 100);
	$d->expect_log(qr/end conn=1 .*outbound_bytes/);
	ok $d->wait_log(qr/end conn=1 .*outbound_bytes/), 'the log names the limit';
	my $is_sanitized = $ENV{LIMINAL_SANITIZED};
	my ($most) = Liminal::Daemon::slurp("/proc/$pid/status") =~ /VmHWM:\s+(\d+)/;
	cmp_ok $most // 0, '<', 32 * 1024, 'kB at most, while it was there' if !$is_sanitized;
	$other->ask(1, 'y');
	$other->expect_answer(1, 'y', 'another is not disturbed');
}

{
	note '-- fallback = "refuse"';
	my $d = Liminal::Daemon->start(name => 'refuse', conf => 'conversation { fallback = "refuse" }');
	my $c = $d->client;
	$c->open(1, 'anything')->send('Ping');
	$c->expect_refusal(1, undef, qr/./, 'a subject without a participant is refused at open');
	$c->expect('Pong');
	$c->ask(1, 'x');
	$c->expect_refusal(1, undef, $NOT_OPEN, 'and is not open then');
	my $w = $d->worker;
	$c->open(2, 'aion.dispatch.test.jobs')->ask(2, 'job');
	$w->reply($w->expect('Push'), 'done');
	$c->expect_answer(2, 'done', 'pools are not concerned');
}

finish_testing;
