# What a connection may do before, during and after its handshake, and how it is turned away.
# (A12, wire.md: "Behaviour of the server")
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

# How a connection's process ends after bytes that do not decode.
my $ENDED = qr/exited with status [1-9]/;
my $PEER_FAULT = qr/end conn=\d+ peer=127/;
my $TOKEN = "s3cret \x{1}\xFF token";

sub oversize ($n) { return pack 'CCNN', 0x0D, 0, 1, $n }

{
	note '-- without authentication';
	my $d = Liminal::Daemon->start(name => 'open', conf => 'limits { max_frame_bytes = "64K" }');
	$d->allow_log($PEER_FAULT);

	my $c = $d->connect->send('Connect');
	my $ack = $c->expect('ConnectAck', { version => [1, 0], flags => 0, stream => 0 });
	ok $ack->{capabilities} & CAP_WORKER_CAPACITY, 'the capacity extension is announced';
	$c->expect_quiet;
	$d->connect->send('Connect', min => [0, 3], max => [2, 7])
	    ->expect('ConnectAck', { version => [1, 0] }, 'a range around 1.0 is served with 1.0');
	$d->connect->send('Connect', token => 'whatever')
	    ->expect('ConnectAck', {}, 'a token that nobody asked for does no harm');

	for ([[0, 0], [0, 9]], [[1, 1], [1, 9]], [[2, 0], [1, 0]], [[2, 0], [3, 0]]) {
		my ($min, $max) = @$_;
		$c = $d->connect->send('Connect', min => $min, max => $max);
		$c->expect('ConnectError', { code => R_VERSION,
		    message => qr/no mutually supported protocol version/ }, "@$min to @$max is refused");
		$c->expect_close;
	}

	$c = $d->client->send('Connect');
	$c->expect_close('a second Connect');

	$c = $d->connect->send('Ping');
	$c->expect('Pong', { stream => 0 }, 'Connect is optional: Ping');
	$c->open(1, 'x');
	$c->ask(1, 'no Connect');
	$c->expect_answer(1, 'no Connect');

	$c = $d->client->send('Disconnect');
	$c->expect_close('Disconnect: closed, and no Disconnect comes back');

	$c = $d->client;
	$c->send_all(['Ping'], ['Ping'], ['Disconnect'], ['Ping']);
	$c->expect('Pong');
	$c->expect('Pong');
	$c->expect_close('what stands after Disconnect is not read');

	note '-- types that are ignored';
	$c = $d->client;
	for my $type (qw(ConnectAck ConnectError SubscribeAck SubscribeError PublishAck PublishError
	    ConversationError Pong Push WorkerRegisterAck Deliver)) {
		$c->send($type);
	}
	for my $number (0x00, 0x1A, 0x7F, 0xFF) {
		$c->send_bytes(encode_raw($number, 0xFF, $number & 1, 'payload'), "type $number");
	}
	$c->expect_quiet('server-to-client and unknown types: nothing happens');
	$c->send_bytes(encode_raw(0x13, 0xA5, 0, ''), 'Ping with unknown flags')
	    ->expect('Pong', {}, 'unknown flag bits are ignored');

	note '-- the stream of bytes may come in any pieces';
	$c = $d->connect(name => 'dripping');
	$c->send_bytes($_, 'a byte') for split //, encode_frame('Connect') . encode_frame('Ping');
	$c->expect('ConnectAck');
	$c->expect('Pong');
	$c = $d->connect(name => 'pipelining')->send_all(['Connect'], ['Ping'],
	    ['ConversationOpen', conversation => 1, subject => 'x'],
	    ['ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'p']);
	$c->expect('ConnectAck');
	$c->expect('Pong');
	$c->expect_answer(1, 'p');

	note '-- oversize';
	$c = $d->connect->send_bytes(oversize(64 * 1024 + 1), 'a header of 64 K + 1');
	$c->expect('ConnectError', { code => R_CODEC }, 'too large before the handshake');
	$c->expect_close;
	$c = $d->client->send_bytes(oversize(64 * 1024 + 1), 'a header of 64 K + 1');
	$c->expect_close('too large after the handshake');
	$c = $d->client->send_bytes(oversize(0xFFFFFFFF), 'a header of 4 G');
	$c->expect_close('far too large');
	$c = $d->client->send_bytes(encode_raw(0x7F, 0, 1, 'x' x (64 * 1024)), 'exactly 64 K');
	$c->expect_quiet('exactly the limit is read');
}

{
	note '-- bytes that do not decode: process exits, answers before it are still written';
	my $d = Liminal::Daemon->start(name => 'decoder');
	my %bad = (
		'Ping on stream 1'             => encode_raw(0x13, 0, 1, ''),
		'ConversationOpen on stream 0' => encode_raw(0x0C, 0, 0, pack 'Q>N', 1, 0),
		'Ping with a payload'          => encode_raw(0x13, 0, 0, 'x'),
		'invalid UTF-8'                => encode_raw(0x0C, 0, 1, pack 'Q>N/a*', 1, "\xC0\x80"),
		'a length beyond the payload'  => encode_raw(0x0C, 0, 1, pack 'Q>Na*', 1, 5, 'abcd'),
		'an invalid option tag'        => encode_raw(0x0E, 0, 1, pack 'Q>C', 1, 2),
		'max_in_flight of 0'           => encode_frame('Subscribe', channel => 'c', max_in_flight => 0),
		'a count of four thousand million' => encode_raw(0x17, 0, 0, pack 'N', 0xFFFFFFFF),
		'an envelope with bytes left'  => encode_raw(0x0D, 0, 1, pack 'Q>N/a*', 1, "\0" x 80),
		'a capacity of 0'              => encode_frame('WorkerRegister', namespaces => ['a'],
		                                  task_queue => 'q', identity => 'i', max_concurrent => 0),
	);
	my $bystander = $d->client(name => 'bystander');
	$bystander->open(1, 'x');
	for my $what (sort keys %bad) {
		my $c = $d->client(name => $what);
		my $good = encode_frame('Ping');
		$bystander->ask(1, $what);
		$c->send_bytes($good . $bad{$what} . $good, "Ping + $what + Ping");
		$c->expect('Pong', {}, 'the answer to the frame before it is still written');
		$c->expect_close("$what: closed");
		my $port = $c->local_port;
		my $line = $d->wait_log(qr/127\.0\.0\.1:$port\b.*offset|offset.*127\.0\.0\.1:$port\b/);
		ok $line, 'the log names peer and offset' and note $line;
		$bystander->expect_answer(1, $what, 'nobody else is disturbed');
	}
	is scalar(grep { 1 } $d->log_lines($ENDED)), scalar(keys %bad), 'each process ended with an error status'
	    if wait_until(sub { $d->log_lines($ENDED) >= keys %bad }, 'the ends are logged');
	$d->allow_log($PEER_FAULT);

	my $c = $d->client(name => 'unfinished');
	$c->send_bytes(substr(encode_frame('ConversationOpen', conversation => 1, subject => 'abc'), 0, -1),
	    'a frame without its last byte');
	$c->shut_write;
	$c->expect_close('an unfinished frame at the end of the stream: closed, nothing is answered');
}

{
	note '-- with a token';
	my $d = Liminal::Daemon->start(name => 'token', files => { token => "$TOKEN\n" },
	    conf => 'auth { token_file = "%D/token" }');
	$d->allow_log($PEER_FAULT);
	my $c = $d->client(token => $TOKEN);
	$c->expect_quiet('the right token; the file\'s single trailing newline is not part of it');
	for ('', "$TOKEN\n", substr($TOKEN, 0, -1), 'x' x 5000) {
		$c = $d->connect->send('Connect', token => $_);
		$c->expect('ConnectError', { code => R_AUTHENTICATION }, 'a wrong token of ' . length() . ' bytes');
		$c->expect_close;
	}
	$c = $d->connect->send('Connect', token => 'wrong', min => [2, 0], max => [2, 0]);
	$c->expect('ConnectError', { code => R_AUTHENTICATION }, 'the token is looked at before the version');
	$c = $d->connect->send('Connect', token => $TOKEN, min => [2, 0], max => [2, 0]);
	$c->expect('ConnectError', { code => R_VERSION }, 'then the version');

	note '-- before a successful Connect';
	$c = $d->connect->send('Ping');
	$c->expect('Pong', {}, 'Ping is answered');
	$c->send('Pong')->send('ConnectAck')->send_bytes(encode_raw(0x7F, 0, 3, 'x'), 'unknown type');
	$c->expect_quiet('what is ignored anyway is ignored');
	$c->handshake(token => $TOKEN)->expect_quiet('and the handshake still works');
	$d->connect->send('Disconnect')->expect_close('Disconnect closes');
	for (['ConversationOpen', conversation => 1, subject => 'x'], ['Publish', channel => 'c'],
	    ['Subscribe', channel => 'c', max_in_flight => 1], ['PushReply'],
	    ['WorkerRegister', namespaces => ['a'], task_queue => 'q', identity => 'i'],
	    ['ConversationMessage', conversation => 1, flags => F_REPLY],
	    ['ConversationClose', conversation => 1], ['Unsubscribe', subscription => 1]) {
		$d->connect->send(@$_)->expect_close("$_->[0] closes silently");
	}
	is $d->mdb_counts->{workers}, 0, 'nothing came of them';
}

{
	note '-- the token from the environment';
	my $d = Liminal::Daemon->start(name => 'env-token', env => { LIMINAL_AUTH_TOKEN => 'from-env' });
	$d->allow_log($PEER_FAULT);
	$d->connect->send('Connect', token => 'x')->expect('ConnectError', { code => R_AUTHENTICATION });
	$d->client(token => 'from-env')->expect_quiet;
}

{
	note '-- limits';
	my $d = Liminal::Daemon->start(name => 'limited', conf => 'limits { connections = 3 }');
	$d->allow_log(qr/limit|connections/);
	my @in = map { $d->client } 1 .. 3;
	for (1 .. 3) {
		my $c = $d->connect;
		$c->expect('ConnectError', { code => R_OTHER, message => qr/./ }, 'the fourth is refused before it says a word');
		$c->expect_close;
	}
	$_->expect_quiet('those inside are not disturbed') for @in;
	(shift @in)->hang_up;
	wait_until(sub { eval { push @in, $d->client; 1 } }, 'when one has left, another may come');
	$d->finish;

	$d = Liminal::Daemon->start(name => 'per-address',
	    conf => qq(listen = { "127.0.0.1:0", "unix:%D/s" }\nlimits { connections_per_address = 2 }));
	$d->allow_log(qr/limit|connections/);
	@in = map { $d->client } 1 .. 2;
	my $c = $d->connect;
	$c->expect('ConnectError', { code => R_OTHER, message => qr/./ }, 'the third from one address is refused');
	$c->expect_close;
	$_->expect_quiet('the others are not disturbed') for @in;
	(shift @in)->send('Disconnect')->expect_close;
	wait_until(sub { eval { push @in, $d->client; 1 } }, 'when one has left, another may come');
	$d->finish;

	$d = Liminal::Daemon->start(name => 'patience', conf => 'limits { handshake_timeout = "300ms" }');
	$d->allow_log($PEER_FAULT);
	my $busy = $d->client;
	my $before = now;
	$c = $d->connect(name => 'silent');
	$c->expect('ConnectError', { message => qr/./ }, 'who says nothing is told so');
	cmp_ok now - $before, '>=', 0.3, 'not before the handshake timeout';
	$c->expect_close;
	$c = $d->connect(name => 'slow')->send_bytes(substr(encode_frame('Connect'), 0, 5), 'half a header');
	$c->expect('ConnectError', {}, 'half a frame is no handshake');
	$c->expect_close;
	$busy->expect_quiet('who is past the handshake may be idle for longer');
}

finish_testing;
