# The daemon starts, says where it listens, refuses what cannot work with the promised exit
# codes, and ends with 0. (H1, H2, A10; interface.md: programs, environment, exit codes)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use IO::Socket::UNIX;
use Socket 'SOCK_STREAM';
use Test::More;
use Liminal;
use Liminal::Wire;

my $program = Liminal::Daemon->program;
sub command (@args) {
	my $text = `exec 2>&1; $program @args`;
	return ($? >> 8, $text);
}

{
	note '-- ready line, port 0';
	my $d = Liminal::Daemon->start;
	my @ready = $d->log_lines(qr/ready: listening on/);
	is scalar @ready, 1, 'one ready line for one address';
	like $ready[0], qr/^ready: listening on 127\.0\.0\.1:\d+$/, 'the line is plain and names the address';
	isnt $d->port, 0, 'with the real port';
	$d->client->expect_quiet('a client that connects then is served');
	is $d->stop, 0, 'TERM: exit 0';
}

{
	note '-- several addresses: TCP, IPv6 if there is any, Unix socket';
	my $v6 = IO::Socket::IP->new(LocalHost => '::1', Listen => 1) ? ', "[::1]:0"' : '';
	my $d = Liminal::Daemon->start(conf => qq(listen = { "127.0.0.1:0", "unix:%D/s"$v6 }));
	my @addresses = $d->addresses;
	is scalar @addresses, $v6 ? 3 : 2, 'a ready line for each address';
	for my $address (@addresses) {
		my $c = $d->connect(address => $address, name => $address)->handshake;
		$c->open(1, 'x');
		$c->ask(1, "via $address");
		$c->expect_answer(1, "via $address");
	}
	ok -S $d->dir . '/s', 'the Unix socket is there';
	is $d->stop, 0, 'exit 0';
	ok !-e $d->dir . '/s', 'the Unix socket is gone after the end';
}

{
	note '-- a stale Unix socket is reclaimed, another daemon\'s live one is not';
	my $first = Liminal::Daemon->start(name => 'first', conf => 'listen = { "unix:%D/s" }');
	my $path = $first->dir . '/s';
	my ($status, $text) = Liminal::Daemon->run_to_end(conf => qq(listen = { "unix:$path" }));
	is $status, 3, 'a socket that somebody listens on: exit 3';
	like $text, qr/\Q$path/, 'and the text names it';
	$first->connect(address => "unix:$path")->handshake->expect_quiet('the first is not disturbed');
	$first->kill9;
	ok -S $path, 'after kill -9 the socket file is still there';
	my $second = Liminal::Daemon->start(name => 'second', dir => $first->dir,
	    conf => 'listen = { "unix:%D/s" }');
	$second->connect(address => "unix:$path")->handshake->expect_quiet('a new daemon has taken it over');
	$second->finish;
}

{
	note '-- one daemon per runtime directory';
	my $d = Liminal::Daemon->start(name => 'owner');
	my $run = $d->dir . '/run';
	my ($status, $text) = Liminal::Daemon->run_to_end(conf => qq(runtime_dir = "$run"));
	is $status, 3, 'a second one: exit 3';
	like $text, qr/\Q$run/, 'and the text names the directory';
	$d->client->expect_quiet('the owner is not disturbed');
}

{
	note '-- exit codes 1, 2, 3';
	my ($status, $text) = Liminal::Daemon->run_to_end(conf => "drain_timeout = \"soon\"\nno_such_key = 1\n");
	is $status, 1, 'a bad configuration: 1';
	like $text, qr/liminald\.conf:\d+: /, 'with file and line';
	($status, $text) = command('-f', '-c', '/nonexistent/liminald.conf');
	is $status, 1, 'a named file that does not exist: 1';
	($status, $text) = command('-X');
	is $status, 2, 'an unknown option: 2';
	my $busy = IO::Socket::IP->new(LocalHost => '127.0.0.1', Listen => 1);
	my $port = $busy->sockport;
	($status, $text) = Liminal::Daemon->run_to_end(conf => qq(listen = { "127.0.0.1:$port" }));
	is $status, 3, 'a port in use: 3';
	like $text, qr/127\.0\.0\.1:$port/, 'and the text names the address';
	($status, $text) = Liminal::Daemon->run_to_end(conf => 'runtime_dir = "/proc/self/nothing"');
	is $status, 3, 'a directory that cannot be used: 3';
	like $text, qr{/proc/self/nothing}, 'and the text names it';
}

{
	note '-- -V and -t';
	my ($status, $text) = command('-V');
	is $status, 0, '-V: exit 0';
	like $text, qr/\d+\.\d+/, 'prints a version';

	my $good = Liminal::Daemon->prepare(name => 'good', conf => 'limits { connections = 7 }');
	($status, $text) = command('-t', '-c', $good->dir . '/liminald.conf');
	is $status, 0, '-t with a good file: 0';
	my $bad = Liminal::Daemon->prepare(name => 'bad', conf => <<~'CONF');
		drain_timeout = "soon"
		dispatch { router = "by_smell" }
		limits { max_frame_bytes = "many" }
		CONF
	my $file = $bad->dir . '/liminald.conf';
	($status, $text) = command('-t', '-c', $file);
	is $status, 1, '-t with a bad file: 1';
	my @lines = map { /^\Q$file\E:(\d+): \S/ ? $1 : () } split /\n/, $text;
	cmp_ok scalar @lines, '>=', 3, 'every error is listed as file:line: text, not only the first'
	    or diag $text;
	ok !-e $bad->dir . '/run/state', 'nothing was created';
}

{
	note '-- -o and the environment: defaults, file, environment, -o';
	my $d = Liminal::Daemon->start(name => 'environment',
	    conf => 'listen = { "unix:%D/never" }', env => { LIMINAL_LISTEN => '127.0.0.1:0' });
	like $d->address, qr/^127/, 'LIMINAL_LISTEN wins over the file';
	my $dir = $d->dir;
	ok !-e "$dir/never", 'and replaces it';
	$d->finish;

	$d = Liminal::Daemon->start(name => 'override', args => ['-o', 'drain_timeout=250ms'],
	    env => { LIMINAL_DRAIN_TIMEOUT => '60s' });
	my $c = $d->client;
	my $before = now;
	is $d->stop, 0, 'exit 0 with a client connected';
	cmp_ok now - $before, '<', 1.25 + slack, '-o drain_timeout wins over LIMINAL_DRAIN_TIMEOUT';

	my ($status, $text) = Liminal::Daemon->run_to_end(args => ['-o', 'no_such_key=1']);
	is $status, 1, 'an unknown key after -o: 1';
	like $text, qr/no_such_key/, 'and the text names it';
	($status, $text) = Liminal::Daemon->run_to_end(env => { LIMINAL_DRAIN_TIMEOUT => 'soon' });
	is $status, 1, 'a bad value in the environment: 1';
	like $text, qr/LIMINAL_DRAIN_TIMEOUT/, 'and the text names the variable';
}

{
	note '-- kill -9 of the master: its children end by themselves';
	my $d = Liminal::Daemon->start(name => 'killed');
	my $c = $d->client;
	$d->kill9;
	$c->expect_close('a client sees the end');
	wait_until(sub { !$d->processes }, 'no process is left');
}

finish_testing;
