#!/usr/bin/perl
# A responder for 53-responder.t: answers in upper case, and does what messages that begin with '!'
# tell it, most of which no responder should do. An argument "deaf" makes it never read.
use v5.36;
use Time::HiRes 'sleep';

binmode STDIN;
binmode STDOUT;
$| = 1;

sub take ($n) {
	my $bytes = '';
	while (length $bytes < $n) {
		my $got = sysread STDIN, $bytes, $n - length $bytes, length $bytes;
		die "read: $!\n" if !defined $got;
		exit 0 if !$got && !$::stubborn;
		sleep 1000 if !$got;
	}
	return $bytes;
}

sub put ($bytes) {
	while (length $bytes) {
		my $n = syswrite STDOUT, $bytes;
		die "write: $!\n" if !defined $n;
		substr $bytes, 0, $n, '';
	}
	return;
}

sub message () { return take(unpack 'N', take(4)) }
sub answer ($text) { return put(pack 'N/a*', $text) }

my %does = (
	pid     => sub { answer($$) },
	parent  => sub { answer(getppid) },
	group   => sub { answer(getpgrp) },
	args    => sub { answer(join '|', @ARGV) },
	env     => sub { answer(join "\n", map { "$_=$ENV{$_}" } sort keys %ENV) },
	fds     => sub { answer(join ' ', sort { $a <=> $b } grep { -e "/proc/self/fd/$_" } map { m{(\d+)$} } glob '/proc/self/fd/*') },
	exit    => sub ($status) { exit $status },
	signal  => sub ($name) { kill $name, $$; sleep 1000 },
	ignore  => sub { $SIG{TERM} = 'IGNORE'; $::stubborn = 1; answer('ignoring') },
	escape  => sub { my $pid = fork // die; if (!$pid) { setpgrp; close STDOUT; sleep 1000; exit } setpgrp $pid, $pid; setpgrp 0, $pid; answer($pid) },
	child   => sub { my $pid = fork // die; if (!$pid) { close STDOUT; sleep 1000; exit } answer($pid) },
	silence => sub { },
	late    => sub ($seconds) { sleep $seconds; answer('late') },
	big     => sub ($size) { answer('x' x $size) },
	header  => sub ($length) { put(pack 'N', $length); sleep 1000 },
	half    => sub { put("\0\0\0\5he"); sleep 1000 },
	bytewise => sub ($text) { for my $byte (split //, pack 'N/a*', $text) { put($byte); sleep 0.002 } },
	twice   => sub { put(pack('N/a*', 'one') . pack('N/a*', 'two')); sleep 1000 },
	flood   => sub { my $small = pack('N/a*', 'x' x 12) x 4096; put($small) while 1 },
	'4gib'  => sub { put(pack 'N', 0xFFFF_FFFF); my $part = 'x' x (1 << 20); put($part) for 1 .. 4096; },
	# Answer this one and the next, then die with a third unanswered.
	last    => sub { my $next = message(); message(); put(pack('N/a*', 'first') . pack('N/a*', uc $next)); kill 'KILL', $$ },
	# Answer with more than a pipe usually holds, and be dead before it is read.
	legacy  => sub { sleep 0.3; fcntl(STDOUT, 1031, 1 << 20) or die "F_SETPIPE_SZ: $!\n"; put(pack 'N/a*', 'x' x 900_000); kill 'KILL', $$ },
	say     => sub ($text) { print STDERR "$text\n"; answer('said') },
	words   => sub ($text) { print STDERR $text; kill 'KILL', $$ },
	shout   => sub ($lines) { print STDERR "line $_\n" for 1 .. $lines; answer('shouted') },
	roar    => sub ($size) { print STDERR 'y' x 65536 for 1 .. $size / 65536; answer('roared') },
	'close-out' => sub { close STDOUT; sleep 1000 },
	'close-in'  => sub { close STDIN; answer('closed'); sleep 1000 },
);

if (($ARGV[0] // '') eq 'deaf') {
	print STDERR "deaf\n";
	sleep 1000 while 1;
}
while (1) {
	my $text = message();
	if ($text =~ /^!(\S+) ?(.*)/s && $does{$1}) {
		my ($does, $argument) = ($does{$1}, $2);
		$does->(length $argument ? $argument : ());
	} else {
		answer($text =~ tr/a-z/A-Z/r);
	}
}
