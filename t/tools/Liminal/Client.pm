# A client of the daemon under test, on one TCP or Unix socket. Keeps a transcript of what was
# sent and what came, which every failed expectation prints. All waits are bounded; a client that
# once waited in vain waits only briefly from then on, so that a broken daemon fails a
# test quickly.
package Liminal::Client;
use v5.36;
use Carp 'croak';
use Errno qw(EAGAIN EINTR EPIPE ECONNRESET EINPROGRESS);
use IO::Poll qw(POLLIN POLLOUT POLLHUP POLLERR);
use IO::Socket::IP;
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM IPPROTO_TCP TCP_NODELAY SO_LINGER SOL_SOCKET);
use Test::More ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
use Liminal::Wire;

our $BOUND = $ENV{LIMINAL_TEST_BOUND} || 20;

# address => "host:port", "[v6]:port" or "unix:/path"; name => for the transcript. Dies with
# the system's reason if nobody accepts.
sub new ($class, %o) {
	my $socket;
	if ($o{address} =~ /^unix:(.*)/) {
		$socket = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $1);
	} else {
		my ($host, $port) = $o{address} =~ /^\[?(.*?)\]?:(\d+)$/;
		$socket = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port,
		    Type => SOCK_STREAM);
		$socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1) if $socket;
	}
	$socket or die "connect $o{address}: $!\n";
	$socket->blocking(0);
	return bless {
		socket => $socket, name => $o{name} // 'client', in => '', out => '',
		frames => [], transcript => [], eof => 0, patience => $BOUND,
		local => $o{address} =~ /^unix:/ ? undef : $socket->sockport,
	}, $class;
}

sub now () { return clock_gettime(CLOCK_MONOTONIC) }
sub local_port ($self) { return $self->{local} }
sub name ($self) { return $self->{name} }
sub is_open ($self) { return $self->{socket} && !$self->{eof} }

sub _note ($self, $line) {
	push @{ $self->{transcript} }, $line;
	splice @{ $self->{transcript} }, 0, 100 if @{ $self->{transcript} } > 400;
	return;
}

# Read and write what is possible, waiting for at most WAIT seconds for the first of it.
sub _turn ($self, $wait) {
	my $socket = $self->{socket} or return;
	my $poll = IO::Poll->new;
	$poll->mask($socket => ($self->{eof} ? 0 : POLLIN) | (length $self->{out} ? POLLOUT : 0));
	$poll->poll($wait);
	my $events = $poll->events($socket);
	if (length $self->{out} && $events & (POLLOUT | POLLERR | POLLHUP)) {
		local $SIG{PIPE} = 'IGNORE';
		my $n = syswrite $socket, $self->{out}, 1 << 20;
		if (defined $n) {
			substr $self->{out}, 0, $n, '';
		} elsif ($! != EAGAIN && $! != EINTR) {
			$self->{out} = '';
		}
	}
	if (!$self->{eof} && $events & (POLLIN | POLLERR | POLLHUP)) {
		my $n = sysread $socket, $self->{in}, 1 << 18, length $self->{in};
		if (!defined $n) {
			return if $! == EAGAIN || $! == EINTR;
			$self->_note("<- (" . lc("$!") . ")");
			$self->{eof} = 1;
		} elsif ($n == 0) {
			$self->_note('<- (end of stream)');
			$self->{eof} = 1;
		}
		$self->_decode;
	}
	return;
}

sub _decode ($self) {
	my $at = now();
	my $gathers = $self->{gathers};
	if ($gathers) {
		my @frames = eval { take_batch(\$self->{in}, @$gathers) };
		if ($@) {
			$self->_note("<- does not decode: $@");
			$self->{eof} = 1;
			$self->{undecodable} = $@;
			return;
		}
		for my $frame (@frames) {
			$frame->{at} = $at;
			$self->_note('<- ' . show_frame($frame));
			push @{ $self->{frames} }, $frame;
		}
		return;
	}
	while (1) {
		my $frame = eval { decode_frame(\$self->{in}) };
		if ($@) {
			$self->_note("<- does not decode: $@");
			$self->{eof} = 1;
			$self->{undecodable} = $@;
			return;
		}
		return if !$frame;
		$frame->{at} = $at;
		$self->_note('<- ' . show_frame($frame));
		push @{ $self->{frames} }, $frame;
	}
}

# Bytes as they are.
sub send_bytes ($self, $bytes, $what = length($bytes) . ' bytes') {
	$self->_note("-> $what");
	$self->{out} .= $bytes;
	my $deadline = now() + $self->{patience};
	while (length $self->{out} && now() < $deadline) {
		$self->_turn($deadline - now());
	}
	return $self;
}

sub send ($self, $type, %fields) {
	my $bytes = encode_frame($type, %fields);
	my $flags = unpack 'xC', $bytes;
	my $stream = unpack 'x2N', $bytes;
	return $self->send_bytes($bytes,
	    show_frame({ type => $type, %fields, flags => $flags, stream => $stream }));
}

# Frames in one write: [type, fields...], ...
sub send_all ($self, @frames) {
	return $self->send_bytes(join('', map { encode_frame(@$_) } @frames),
	    join ' + ', map { $_->[0] } @frames);
}

# The next frame, or undef at the end of the stream or after the bound.
sub next_frame ($self, $bound = $self->{patience}) {
	my $deadline = now() + $bound;
	while (!@{ $self->{frames} }) {
		return undef if $self->{eof} || !$self->{socket};
		my $left = $deadline - now();
		if ($left <= 0) {
			$self->_note(sprintf '   (waited %.1f s)', $bound);
			$self->{patience} = 1;
			return undef;
		}
		$self->_turn($left);
	}
	return shift @{ $self->{frames} };
}

sub put_back ($self, $frame) { unshift @{ $self->{frames} }, $frame; return }

# Whatever is there at once; never waits.
sub frames_so_far ($self) {
	$self->_turn(0) if $self->is_open;
	return splice @{ $self->{frames} };
}

# Write without ever reading, until nothing more is taken for half a second; how much was.
sub write_deaf ($self, $bytes) {
	my $written = 0;
	local $SIG{PIPE} = 'IGNORE';
	while ($written < length $bytes) {
		my $poll = IO::Poll->new;
		$poll->mask($self->{socket} => POLLOUT);
		last if !$poll->poll(0.5);
		my $n = syswrite $self->{socket}, $bytes, 1 << 20, $written;
		last if !defined $n && $! != EAGAIN;
		$written += $n // 0;
	}
	$self->_note("-> $written bytes, reading nothing");
	return $written;
}

sub shut_write ($self) { shutdown $self->{socket}, 1; $self->_note('-> (end of stream)'); return }

sub hang_up ($self) {
	close $self->{socket} if $self->{socket};
	$self->{socket} = undef;
	$self->{eof} = 1;
	$self->_note('-> (closed)');
	return;
}

# From now on, what comes in numbers goes to DELIVER and ACK (Liminal::Wire::take_batch) instead of
# the frames and the transcript.
sub gather ($self, $deliver, $ack = sub { }) {
	$self->{gathers} = [$deliver, $ack];
	# What came with the last answer.
	my @frames = splice @{ $self->{frames} };
	for my $frame (@frames) {
		if ($frame->{type} eq 'Deliver') {
			$deliver->(@$frame{qw(stream sequence payload flags)});
		} elsif ($frame->{type} eq 'PublishAck') {
			$ack->(@$frame{qw(stream message_id flags)});
		} else {
			push @{ $self->{frames} }, $frame;
		}
	}
	return $self;
}

sub gather_no_more ($self) { delete $self->{gathers}; return $self }

# To be written by pump(), or by whatever is sent next.
sub queue_bytes ($self, $bytes) { $self->{out} .= $bytes; return $self }
sub n_queued ($self) { return length $self->{out} }

# Read and write for all CLIENTS until DONE says so (looked at after each turn), or BOUND seconds have
# passed without a byte for any of them. Returns DONE's value, false after the bound.
sub pump ($clients, $done, $bound = $BOUND) {
	my $deadline = now() + $bound;
	while (1) {
		my $value = $done->();
		return $value if $value;
		my ($reads, $writes, %by_fd) = ('', '');
		for my $client (grep { $_->is_open } @$clients) {
			my $fd = fileno $client->{socket};
			$by_fd{$fd} = $client;
			vec($reads, $fd, 1) = 1;
			vec($writes, $fd, 1) = 1 if length $client->{out};
		}
		my $left = $deadline - now();
		return $done->() if $left <= 0 || !%by_fd;
		# DONE may also wait for what is no news here.
		next if select($reads, $writes, undef, $left < 0.2 ? $left : 0.2) <= 0;
		$deadline = now() + $bound;
		for my $fd (keys %by_fd) {
			$by_fd{$fd}->_turn(0) if vec($reads, $fd, 1) || vec($writes, $fd, 1);
		}
	}
}

# Close with a reset, as a killed machine would.
sub reset ($self) {
	setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
	return $self->hang_up;
}

# -- What a test says; each is one TAP result unless it says otherwise --------------------

sub _ok ($self, $good, $name, $why = undef) {
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	Test::More::ok($good, "$self->{name}: $name") and return $good;
	Test::More::diag($why) if $why;
	# Only what is new since the last failure.
	my @last = splice @{ $self->{transcript} };
	splice @last, 0, @last - 25 if @last > 25;
	Test::More::diag("transcript of $self->{name}:", map { "\n  $_" } @last);
	return $good;
}

# Why FRAME is not of TYPE with FIELDS (values or patterns), or undef.
sub _mismatch ($frame, $type, $fields) {
	return "expected $type, nothing came" if !$frame;
	return "expected $type" if $frame->{type} ne $type;
	for my $field (sort keys %$fields) {
		my ($want, $have) = ($fields->{$field}, $frame->{$field});
		my $good = ref $want eq 'Regexp' ? defined $have && $have =~ $want
		    : ref $want eq 'CODE' ? $want->($have)
		    : ref $want eq 'ARRAY' ? ref $have eq 'ARRAY' && "@$want" eq "@$have"
		    : !defined $want ? !defined $have : defined $have && $have eq $want;
		next if $good;
		return sprintf "expected %s with %s %s, it is %s", $type, $field,
		    map { defined $_ ? (length "$_" > 100 ? length("$_") . ' bytes' : "'$_'") : 'absent' }
		    $want, $have;
	}
	return undef;
}

# The next frame is this one; returns it.
sub expect ($self, $type, $fields = {}, $name = undef) {
	my $frame = $self->next_frame;
	my $why = _mismatch($frame, $type, $fields);
	$self->_ok(!defined $why, $name // "gets $type", $why);
	return $frame // { type => 'nothing', at => now() };
}

# The stream ends, and nothing comes before that.
sub expect_close ($self, $name = 'the connection is closed') {
	my $frame = $self->next_frame;
	my $why = $frame ? 'expected the end, got ' . show_frame($frame)
	    : !$self->{eof} ? 'expected the end, it is still open'
	    : length $self->{in} ? 'a part of a frame came before the end' : undef;
	return $self->_ok(!defined $why, $name, $why);
}

# Nothing has come by the time that a Ping that is sent now is answered.
sub expect_quiet ($self, $name = 'nothing else comes') {
	$self->send('Ping');
	my $frame = $self->next_frame;
	my $why = _mismatch($frame, 'Pong', {});
	return $self->_ok(!defined $why, $name, $why);
}

# A conversation's answer with this payload, or (expect_refusal) the error with this code and
# text, or one of several codes.
sub expect_answer ($self, $conversation, $payload, $name = "answer in conversation $conversation") {
	my $frame = $self->next_frame;
	my $why = _mismatch($frame, 'ConversationMessage', { conversation => $conversation,
	    payload => $payload, flags => sub ($f) { $f & F_REPLY } });
	$self->_ok(!defined $why, $name, $why);
	return $frame;
}

sub expect_refusal ($self, $conversation, $code, $message = qr//, $name = "refusal in conversation $conversation") {
	my @codes = ref $code ? @$code : defined $code ? $code : ();
	my $frame = $self->next_frame;
	my $why = _mismatch($frame, 'ConversationError', {
		conversation => $conversation, message => $message,
		code => sub ($c) { !@codes || grep { $_ == $c } @codes },
	});
	$self->_ok(!defined $why, $name, $why);
	return $frame;
}

# -- Things that clients do; no TAP results, they die when refused ------------------------

sub handshake ($self, %fields) {
	$self->send('Connect', %fields);
	my $frame = $self->next_frame;
	croak "$self->{name}: no handshake: " . ($frame ? show_frame($frame) : 'nothing came')
	    if !$frame || $frame->{type} ne 'ConnectAck';
	$self->{capabilities} = $frame->{capabilities};
	return $self;
}

# WorkerRegister without waiting for the answer. namespaces, queue, types, node, identity, capacity.
sub send_register ($self, %o) {
	return $self->send('WorkerRegister',
		namespaces => $o{namespaces} // ['test'], task_queue => $o{queue} // 'jobs',
		node => $o{node}, activity_types => $o{types} // [],
		identity => $o{identity} // $self->{name},
		census => $o{census}, max_concurrent => $o{capacity});
}

sub register ($self, %o) {
	$self->send_register(%o);
	my $frame = $self->next_frame;
	croak "$self->{name}: not registered: " . ($frame ? show_frame($frame) : 'nothing came')
	    if !$frame || $frame->{type} ne 'WorkerRegisterAck' || defined $frame->{rejected};
	return $self;
}

sub open ($self, $conversation, $subject, %more) {
	return $self->send('ConversationOpen', conversation => $conversation,
	    subject => $subject, %more);
}

# A message that wants an answer.
sub ask ($self, $conversation, $payload, %more) {
	return $self->send('ConversationMessage', conversation => $conversation,
	    payload => $payload, flags => F_REPLY, %more);
}

sub close_conversation ($self, $conversation) {
	return $self->send('ConversationClose', conversation => $conversation);
}

# Subscribe; returns the SubscribeAck. stream, schemas, max_in_flight; consumer, start, sequence.
sub subscribe ($self, $channel, %o) {
	$self->send('Subscribe', channel => $channel, max_in_flight => 1, %o);
	my $frame = $self->next_frame;
	croak "$self->{name}: not subscribed: " . ($frame ? show_frame($frame) : 'nothing came')
	    if !$frame || $frame->{type} ne 'SubscribeAck' || $frame->{stream} != ($o{stream} // 1);
	return $frame;
}

# Publish and wait for the PublishAck; returns it.
sub publish ($self, $channel, $payload, %o) {
	$self->send('Publish', channel => $channel, payload => $payload, %o);
	my $frame = $self->next_frame;
	croak "$self->{name}: not published: " . ($frame ? show_frame($frame) : 'nothing came')
	    if !$frame || $frame->{type} ne 'PublishAck' || $frame->{stream} != ($o{stream} // 1);
	return $frame;
}

# Deliver frames with these payloads and these sequences (from 1, unless FROM), and no other frame between
# them; one TAP result. Returns the frames.
sub expect_deliveries ($self, $payloads, $name = 'the messages', %o) {
	my ($sequence, @frames, $why) = ($o{from} // 1);
	for my $payload (@$payloads) {
		my $frame = $self->next_frame;
		$why = _mismatch($frame, 'Deliver', { payload => $payload, sequence => $sequence++,
		    defined $o{stream} ? (stream => $o{stream}) : () });
		push @frames, $frame if $frame;
		last if defined $why;
	}
	$why .= sprintf ' (number %d of %d%s)', scalar @frames, scalar @$payloads,
	    @frames ? ': ' . show_frame($frames[-1]) : '' if defined $why;
	$self->_ok(!defined $why, $name, $why);
	return @frames;
}

# Answer a Push.
sub reply ($self, $push, $payload) {
	return $self->send('PushReply', correlation => $push->{correlation} // 0,
	    payload => $payload);
}

sub barrier ($self) {
	$self->send('Ping');
	my $frame = $self->next_frame;
	croak "$self->{name}: no Pong: " . ($frame ? show_frame($frame) : 'nothing came')
	    if !$frame || $frame->{type} ne 'Pong';
	return $self;
}

# Wait until one of CLIENTS gets a frame: (client, frame), or nothing after the bound.
sub whoever_gets (@clients) {
	my $deadline = now() + $BOUND;
	while (1) {
		for my $client (@clients) {
			return ($client, shift @{ $client->{frames} }) if @{ $client->{frames} };
		}
		my $poll = IO::Poll->new;
		my @open = grep { $_->is_open } @clients;
		$poll->mask($_->{socket} => POLLIN) for @open;
		my $left = $deadline - now();
		return if $left <= 0 || !@open;
		$poll->poll($left);
		$_->_turn(0) for @open;
	}
}

1;
