# Wire protocol 1.0 in Perl, from its description alone: nothing is shared with the C codec, so
# that the two check each other. Owns the names of frame types, reason codes, capability bits
# and flags for all tests.
#
# A frame is a flat hash: type (its name), flags, stream, and its fields. An envelope's parts
# stand beside the other fields as schema_id, parent_id, clock, payload. All strings are bytes.
# Decoding dies with a text that starts with the class of the error.
package Liminal::Wire;
use v5.36;
use Exporter 'import';
use JSON::PP ();

use constant {
	# Reason codes.
	R_INCOMPLETE_HEADER => 0x0001, R_TRUNCATED_PAYLOAD => 0x0002,
	R_UNKNOWN_TYPE      => 0x0003, R_INVALID_STREAM    => 0x0004,
	R_INVALID_STATE     => 0x0005, R_AUTHENTICATION    => 0x0006,
	R_VERSION           => 0x0007, R_SCHEMA            => 0x0008,
	R_CODEC             => 0x0009, R_NO_CHANNEL        => 0x0101,
	R_TIMED_OUT         => 0x0102, R_DISCONNECTED      => 0x0103,
	R_NO_WORKER         => 0x0104, R_PRESSURE          => 0x0105,
	R_SHED              => 0x0106, R_ACTIVITY_FAILED   => 0x0107,
	R_OTHER             => 0xFFFF,

	# Capability bits of ConnectAck.
	CAP_WORKER_CAPACITY => 0x00010000, CAP_DURABLE_SUBSCRIPTION => 0x00020000,

	# Flags.
	F_REPLY => 0x01, F_CAPACITY => 0x01, F_DELIVERED => 0x01, F_IDEMPOTENCY_KEY => 0x02,
	F_DURABLE => 0x01,

	# Where a durable subscription begins.
	START_LEFT_OFF => 0, START_OLDEST => 1, START_SEQUENCE => 2,

	HEADER_SIZE    => 10,
	NO_WORKERS     => 'NoWorkersAvailable: no dispatch workers are available',
	TYPED_REQUEST  => 'application/vnd.aion.dispatch.request+json',
	TYPED_RESPONSE => 'application/vnd.aion.dispatch.response+json',
};

our @EXPORT = qw(
	R_INCOMPLETE_HEADER R_TRUNCATED_PAYLOAD R_UNKNOWN_TYPE R_INVALID_STREAM R_INVALID_STATE
	R_AUTHENTICATION R_VERSION R_SCHEMA R_CODEC R_NO_CHANNEL R_TIMED_OUT R_DISCONNECTED
	R_NO_WORKER R_PRESSURE R_SHED R_ACTIVITY_FAILED R_OTHER
	CAP_WORKER_CAPACITY CAP_DURABLE_SUBSCRIPTION F_REPLY F_CAPACITY F_DELIVERED
	F_IDEMPOTENCY_KEY F_DURABLE START_LEFT_OFF START_OLDEST START_SEQUENCE
	NO_WORKERS TYPED_REQUEST TYPED_RESPONSE
	encode_frame encode_raw decode_frame take_batch show_frame schema_id_of
	typed_request typed_response from_json);

# name => [type, class (C control, A application), field => kind, ...]
my %FRAMES = (
	Connect             => [0x01, 'C', min => 'version', max => 'version', token => 'bytes'],
	ConnectAck          => [0x02, 'C', version => 'version', capabilities => 'u32'],
	ConnectError        => [0x03, 'C', code => 'u16', message => 'opt_string'],
	Disconnect          => [0x04, 'C'],
	Subscribe           => [0x05, 'A', channel => 'string', schemas => 'schemas',
	                        max_in_flight => 'u32', consumer => 'consumer'],
	SubscribeAck        => [0x06, 'A', subscription => 'u64', schema_id => 'schema'],
	SubscribeError      => [0x07, 'A', code => 'u16', message => 'opt_string'],
	Unsubscribe         => [0x08, 'A', subscription => 'u64'],
	Publish             => [0x09, 'A', channel => 'string', envelope => 'envelope',
	                        key => 'key'],
	PublishAck          => [0x0A, 'A', message_id => 'u64'],
	PublishError        => [0x0B, 'A', code => 'u16', message => 'opt_string'],
	ConversationOpen    => [0x0C, 'A', conversation => 'u64', subject => 'string'],
	ConversationMessage => [0x0D, 'A', conversation => 'u64', envelope => 'envelope'],
	ConversationClose   => [0x0E, 'A', conversation => 'u64', code => 'opt_u16',
	                        message => 'opt_string'],
	ConversationError   => [0x0F, 'A', conversation => 'u64', code => 'u16',
	                        message => 'opt_string'],
	Accept              => [0x10, 'A', reference => 'string'],
	Defer               => [0x11, 'A', reference => 'string', reason => 'opt_string'],
	Reject              => [0x12, 'A', reference => 'string', reason => 'opt_string'],
	Ping                => [0x13, 'C'],
	Pong                => [0x14, 'C'],
	Push                => [0x15, 'A', correlation => 'u64', payload => 'bytes'],
	PushReply           => [0x16, 'A', correlation => 'u64', payload => 'bytes'],
	WorkerRegister      => [0x17, 'C', namespaces => 'strings', task_queue => 'string',
	                        node => 'opt_string', activity_types => 'strings',
	                        identity => 'string', census => 'census'],
	WorkerRegisterAck   => [0x18, 'C', rejected => 'ack'],
	Deliver             => [0x19, 'A', sequence => 'u64', envelope => 'envelope'],
);
my %NAME = map { $FRAMES{$_}[0] => $_ } keys %FRAMES;
my $ZERO_SCHEMA = "\0" x 32;

sub _bytes ($value) { return pack('N/a*', $value) }

my %ENCODE = (
	u16        => sub ($v, $f) { pack('n', $v // 0) },
	u32        => sub ($v, $f) { pack('N', $v // 0) },
	u64        => sub ($v, $f) { pack('Q>', $v // 0) },
	version    => sub ($v, $f) { pack('nn', @{ $v // [1, 0] }) },
	bytes      => sub ($v, $f) { _bytes($v // '') },
	string     => sub ($v, $f) { _bytes($v // '') },
	schema     => sub ($v, $f) { $v // $ZERO_SCHEMA },
	opt_string => sub ($v, $f) { defined $v ? "\1" . _bytes($v) : "\0" },
	opt_u16    => sub ($v, $f) { defined $v ? pack('Cn', 1, $v) : "\0" },
	strings    => sub ($v, $f) { pack('N', scalar @{ $v // [] }) . join '', map { _bytes($_) } @{ $v // [] } },
	schemas    => sub ($v, $f) { pack('N', scalar @{ $v // [] }) . join '', @{ $v // [] } },
	key        => sub ($v, $f) { $f->{flags} & F_IDEMPOTENCY_KEY ? _bytes($v // '') : '' },
	# Of a durable subscription; start and sequence stand beside it.
	consumer   => sub ($v, $f) { defined $v ? _bytes($v) . pack('CQ>', $f->{start} // 0, $f->{sequence} // 0) : '' },
	ack        => sub ($v, $f) { defined $v ? "\1" . _bytes($v) : "\0" },
	envelope   => sub ($v, $f) {
		my $context = (defined $f->{parent_id} ? "\1" . _bytes($f->{parent_id}) : "\0")
		    . (defined $f->{clock} ? pack('CQ>', 1, $f->{clock}) : "\0");
		return _bytes(($f->{schema_id} // $ZERO_SCHEMA) . _bytes($context)
		    . _bytes($f->{payload} // ''));
	},
	# Left out when undefined, unless the capacity that follows needs it.
	census     => sub ($v, $f) {
		my $capacity = defined $f->{max_concurrent} ? pack('N', $f->{max_concurrent}) : '';
		$v //= [] if $capacity ne '';
		return defined $v
		    ? pack('N', scalar @$v) . join('', map { join '', map { _bytes($_) } @$_ } @$v) . $capacity
		    : '';
	},
);

# Any header around any payload.
sub encode_raw ($type, $flags, $stream, $payload) {
	return pack('CCNN', $type, $flags, $stream, length $payload) . $payload;
}

# Application frames go out on stream 1 and control frames on 0 unless told otherwise.
sub encode_frame ($name, %fields) {
	my ($type, $class, @layout) = @{ $FRAMES{$name} // die "no frame type $name" };
	$fields{flags} //= $name eq 'WorkerRegister' && defined $fields{max_concurrent} ? F_CAPACITY
	    : $name eq 'Publish' && defined $fields{key} ? F_IDEMPOTENCY_KEY
	    : $name eq 'Subscribe' && defined $fields{consumer} ? F_DURABLE : 0;
	my $payload = '';
	while (my ($field, $kind) = splice @layout, 0, 2) {
		$payload .= $ENCODE{$kind}->($fields{$field}, \%fields);
	}
	return encode_raw($type, $fields{flags}, $fields{stream} // ($class eq 'C' ? 0 : 1), $payload);
}

# A reader of one payload: takes bytes off the front of $$in, or dies.
sub _take ($in, $n) {
	die "CodecError: payload field exceeded payload length\n" if $n > length $$in;
	return substr($$in, 0, $n, '');
}
sub _take_bytes ($in) { return _take($in, unpack 'N', _take($in, 4)) }
sub _take_string ($in) {
	my $bytes = _take_bytes($in);
	my $text = $bytes;
	# Perl's own check also lets surrogates and what is above U+10FFFF pass.
	utf8::decode($text) && $text !~ /[\x{D800}-\x{DFFF}]|[^\x{0}-\x{10FFFF}]/
	    or $bytes =~ /\A[\x00-\x7F]*\z/
	    or die "CodecError: payload string field was not valid utf-8\n";
	return $bytes;
}
sub _take_opt ($in, $take) {
	my $tag = ord _take($in, 1);
	die "CodecError: invalid option tag $tag\n" if $tag > 1;
	return $tag ? $take->($in) : undef;
}

my %DECODE = (
	u16        => sub ($in, $f) { unpack 'n', _take($in, 2) },
	u32        => sub ($in, $f) { unpack 'N', _take($in, 4) },
	u64        => sub ($in, $f) { unpack 'Q>', _take($in, 8) },
	version    => sub ($in, $f) { [unpack 'nn', _take($in, 4)] },
	bytes      => sub ($in, $f) { _take_bytes($in) },
	string     => sub ($in, $f) { _take_string($in) },
	schema     => sub ($in, $f) { _take($in, 32) },
	opt_string => sub ($in, $f) { _take_opt($in, \&_take_string) },
	opt_u16    => sub ($in, $f) { _take_opt($in, sub ($i) { unpack 'n', _take($i, 2) }) },
	strings    => sub ($in, $f) { _take_vec($in, 4, \&_take_string) },
	schemas    => sub ($in, $f) { _take_vec($in, 32, sub ($i) { _take($i, 32) }) },
	key        => sub ($in, $f) { $f->{flags} & F_IDEMPOTENCY_KEY ? _take_string($in) : undef },
	consumer   => sub ($in, $f) {
		return undef if $$in eq '' || !($f->{flags} & F_DURABLE);
		my $name = _take_string($in);
		@$f{qw(start sequence)} = unpack 'CQ>', _take($in, 9);
		return $name;
	},
	ack        => sub ($in, $f) {
		my $status = ord _take($in, 1);
		die "CodecError: invalid status $status\n" if $status > 1;
		return $status ? _take_string($in) : undef;
	},
	envelope   => sub ($in, $f) {
		my $envelope = _take_bytes($in);
		$f->{schema_id} = _take(\$envelope, 32);
		my $context = _take_bytes(\$envelope);
		$f->{parent_id} = _take_opt(\$context, \&_take_string);
		$f->{clock} = _take_opt(\$context, sub ($i) { unpack 'Q>', _take($i, 8) });
		$f->{payload} = _take_bytes(\$envelope);
		die "CodecError: bytes left in envelope\n" if length $context || length $envelope;
		return undef;
	},
	census     => sub ($in, $f) {
		return undef if $$in eq '';
		my $census = _take_vec($in, 12, sub ($i) { [map { _take_string($i) } 1 .. 3] });
		if ($f->{flags} & F_CAPACITY && $$in ne '') {
			$f->{max_concurrent} = unpack 'N', _take($in, 4)
			    or die "CodecError: capacity of 0\n";
		}
		return $census;
	},
);

sub _take_vec ($in, $least, $take) {
	my $n = unpack 'N', _take($in, 4);
	die "CodecError: payload field exceeded payload length\n" if $n * $least > length $$in;
	return [map { $take->($in) } 1 .. $n];
}

# Take one frame off the front of $$buffer. undef: more bytes are needed.
sub decode_frame ($buffer) {
	return undef if length $$buffer < HEADER_SIZE;
	my ($type, $flags, $stream, $length) = unpack 'CCNN', $$buffer;
	return undef if length $$buffer < HEADER_SIZE + $length;
	my $payload = substr(substr($$buffer, 0, HEADER_SIZE + $length, ''), HEADER_SIZE);
	my %frame = (type => $NAME{$type} // 'Unknown', number => $type, flags => $flags,
	    stream => $stream);
	if ($frame{type} eq 'Unknown') {
		$frame{payload} = $payload;
		return \%frame;
	}
	my (undef, $class, @layout) = @{ $FRAMES{ $frame{type} } };
	die "InvalidStream: $frame{type} on stream $stream\n" if ($class eq 'C') != ($stream == 0);
	while (my ($field, $kind) = splice @layout, 0, 2) {
		my $value = $DECODE{$kind}->(\$payload, \%frame);
		$frame{$field} = $value unless $kind eq 'envelope';
	}
	die "CodecError: $frame{type} has trailing bytes\n" if length $payload;
	if ($frame{type} eq 'Subscribe' && !$frame{max_in_flight}) {
		die "CodecError: max_in_flight of 0\n";
	}
	return \%frame;
}

# Take all whole frames off the front of $$buffer, for tests that move many: DELIVER gets (stream,
# sequence, payload, flags) of each Deliver, ACK gets (stream, message id, flags) of each
# PublishAck; returns the other frames, as decode_frame does.
sub take_batch ($buffer, $deliver, $ack) {
	my ($at, $end, @others) = (0, length $$buffer);
	while ($end - $at >= HEADER_SIZE) {
		my ($type, $flags, $stream, $length) = unpack "x$at CCNN", $$buffer;
		my $next = $at + HEADER_SIZE + $length;
		last if $next > $end;
		die "InvalidStream: type $type on stream 0\n" if !$stream && ($type == 0x19 || $type == 0x0A);
		if ($type == 0x19) {
			my ($sequence, $envelope, $context, $payload) =
			    unpack "x$at x10 Q> N x32 N/a N/a", $$buffer;
			die "CodecError: Deliver\n" if !defined $payload || $envelope + 12 != $length
			    || length($context) + length($payload) + 40 != $envelope;
			$deliver->($stream, $sequence, $payload, $flags);
		} elsif ($type == 0x0A) {
			die "CodecError: PublishAck\n" if $length != 8;
			$ack->($stream, unpack("x$at x10 Q>", $$buffer), $flags);
		} else {
			my $one = substr $$buffer, $at, $next - $at;
			push @others, decode_frame(\$one);
		}
		$at = $next;
	}
	substr $$buffer, 0, $at, '';
	return @others;
}

# The id of a schema's bytes.
sub schema_id_of ($bytes) {
	my $id = '';
	for (1 .. 4) {
		use integer;
		my $hash = -3750763034362895579;	# FNV-1a's offset basis, 0xcbf29ce484222325
		$hash = ($hash ^ $_) * 1099511628211 for unpack 'C*', $bytes;
		$id .= $bytes = pack 'q>', $hash;
	}
	return $id;
}

# One line for a transcript.
sub show_frame ($frame) {
	my @fields = map {
		my $v = $frame->{$_};
		$v = '[' . join(',', @$v) . ']' if ref $v eq 'ARRAY';
		$v = sprintf '0x%04X', $v if $_ eq 'code';
		my $length = length $v;
		my $shown = $length <= 100 ? $v : substr $v, 0, 20;
		$v = $shown =~ s/([^\x20-\x7E])/sprintf '\\x%02X', ord $1/ger;
		$v .= "...($length bytes)" if length $shown < $length;
		"$_=$v";
	} grep { defined $frame->{$_} && !/^(?:type|number|flags|stream|at|schema_id)$/ } sort keys %$frame;
	return sprintf '%s flags=%02X stream=%u %s', @$frame{qw(type flags stream)}, "@fields";
}

# The typed payload forms of a dispatch.
my $JSON = JSON::PP->new->canonical->utf8;

sub from_json ($text) { return eval { $JSON->decode($text) } }

# Text, unless it is an array of byte values (or something wrong on purpose).
sub _data ($data) { return ref $data ? $data : "$data" }

sub typed_request ($activity_type, $data, %request) {
	my %beside = map { $_ => delete $request{$_} } grep { exists $request{$_} } qw(workflow_id ordinal);
	return $JSON->encode({
		content_type    => TYPED_REQUEST,
		conversation_id => delete $request{conversation_id} // '00000000-0000-4000-8000-000000000001',
		request         => {
			activity_type => $activity_type,
			input         => { content_type => 'text/plain', data => _data($data) },
			task_queue    => 'jobs',
			%request,
		},
		%beside,
	});
}

# Either output => DATA or error => TEXT.
sub typed_response ($worker_id, %result) {
	return $JSON->encode({
		content_type => TYPED_RESPONSE,
		worker_id    => $worker_id,
		result       => exists $result{error}
		    ? { status => 'failed', error => $result{error} }
		    : { status => 'completed',
			output => { content_type => 'text/plain', data => _data($result{output}) } },
	});
}

1;
