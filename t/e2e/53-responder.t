# Executed responders: one process for each conversation, {packet, 4} on its standard input and
# output; its end is an event; nothing that it does harms anybody else. (F1 to F5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Time::HiRes 'sleep';
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $PROGRAM = "$FindBin::Bin/responder.pl";
my $CRASHED = qr/^conversation participant \d+ crashed; message rejected$/;
my $IS_SANITIZED = $ENV{LIMINAL_SANITIZED};

sub responder ($subject, @exec) {
	return qq(responder "$subject" { exec = { ) . join(', ', map { qq("$_") } @exec) . " } }\n";
}

my $UPPER = responder('upper', $PROGRAM);
my $CAT = responder('cat', '/bin/cat');

# Processes whose parent is PID, zombies included: { pid, state }.
sub children_of ($pid) { return grep { $_->{ppid} == $pid } Liminal::Daemon::_all_processes() }
sub is_gone ($pid) { my $stat = Liminal::Daemon::_stat($pid); return !$stat || $stat->{state} =~ /[ZX]/ }
sub await_gone ($pid, $what) { return wait_until(sub { is_gone($pid) }, $what) }

# Ask what has an answer, and return it.
sub asked ($client, $conversation, $text) {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$client->ask($conversation, $text);
	return $client->expect('ConversationMessage', { conversation => $conversation, flags => F_REPLY }, "answer to $text")->{payload} // '';
}

sub peak_kb ($pid) { return (Liminal::Daemon::slurp("/proc/$pid/status") =~ /VmHWM:\s+(\d+)/)[0] // 0 }

{
	note '-- a process of its own, that answers';
	my $d = Liminal::Daemon->start(name => 'upper', env => { LIMINAL_AUTH_TOKEN => 'secret', FOREIGN => 'variable' },
	    conf => $UPPER . $CAT . responder('args', $PROGRAM, 'a b', '$HOME;', '*', "'"));
	my $c = $d->client(token => 'secret');
	$c->open(1, 'upper')->expect_quiet('ConversationOpen: nothing');
	is asked($c, 1, 'hello'), 'HELLO', 'the answer is its own';
	is asked($c, 1, ''), '', 'an empty message';
	$c->ask(1, "bytes \0\xFF\n", stream => 9);
	$c->expect('ConversationMessage', { stream => 9, payload => "BYTES \0\xFF\n", schema_id => "\0" x 32 }, 'on the stream of its message');
	is asked($c, 1, '!bytewise slowly'), 'slowly', 'an answer that comes byte by byte';

	my $pid = asked($c, 1, '!pid');
	my $connection = $d->pid_of($c);
	is asked($c, 1, '!parent'), $connection, q(it is a child of the connection's process);
	is asked($c, 1, '!group'), $pid, 'in its own process group';
	is asked($c, 1, '!fds'), '0 1 2', 'with three descriptors';
	my %env = map { split /=/, $_, 2 } split /\n/, asked($c, 1, '!env');
	like delete $env{LIMINAL_CONVERSATION_UUID}, qr/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'LIMINAL_CONVERSATION_UUID';
	is_deeply \%env, {
		PATH => '/usr/local/bin:/usr/bin:/bin', LIMINAL_SUBJECT => 'upper',
		LIMINAL_CONN_ID => $d->conn_id_of($c), LIMINAL_CONVERSATION_ID => 1,
	}, 'and an environment that has nothing else';
	my ($row) = json_of(tool($d, 'conversations', '-j'));
	is "@$row{qw(participant pid phase subject)}", "responder $pid active upper", 'liminal conversations shows it';
	is $row->{target}, undef, 'whose target is no connection';

	note '-- arguments are handed over as they are';
	$c->open(2, 'args');
	is asked($c, 2, '!args'), q(a b|$HOME;|*|'), 'no shell';

	note '-- order, and messages that want no answer';
	$c->send_all(map { ['ConversationMessage', conversation => 1, flags => $_ % 3 ? F_REPLY : 0, payload => "n$_"] } 1 .. 300);
	is join(' ', map { ($c->next_frame // {})->{payload} // 'nothing' } 1 .. 200),
	    join(' ', map { "N$_" } grep { $_ % 3 } 1 .. 300), 'each answer is the one to its message';
	$c->expect_quiet('what was told has none');

	note '-- another conversation is another process';
	$c->open(3, 'upper');
	isnt asked($c, 3, '!pid'), $pid, 'another pid';
	$c->open(4, 'uppe')->open(5, 'upper2');
	is asked($c, $_, 'echo'), 'echo', 'another subject keeps the echo' for 4, 5;

	note '-- large';
	$c->open(6, 'cat');
	for my $size (65531, 65532, 65533, 1 << 20, (16 << 20) - 54) {
		my $payload = substr pack('N*', 1 .. $size / 4 + 1), 0, $size;
		$c->ask(6, $payload);
		$c->expect_answer(6, $payload, "$size bytes there and back");
	}

	note '-- closing';
	my @all = map { $_->{pid} } children_of($connection);
	is scalar @all, 4, 'four processes for four conversations';
	$c->close_conversation($_) for 1, 2, 3, 6;
	$c->expect_quiet('closing: nothing');
	await_gone($_, 'killed with its conversation') for @all;
	wait_until(sub { !children_of($connection) }, 'and no zombie is left');
	$c->open(1, 'upper');
	is asked($c, 1, 'again'), 'AGAIN', 'a closed id may be opened again';
}

{
	note '-- the end of a responder is an event';
	my $d = Liminal::Daemon->start(name => 'ends', conf => $UPPER . $CAT);
	$d->allow_log(qr/responder-crashed/);
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	$c->open(100, 'cat');
	my %ends = (
		'gets KILL'  => [sub ($pid) { kill 'KILL', $pid }, 'killed by signal 9 (SIGKILL)'],
		'gets SEGV'  => [sub ($pid) { kill 'SEGV', $pid }, 'killed by signal 11 (SIGSEGV)'],
		'gets TERM'  => [sub ($pid) { kill 'TERM', $pid }, 'killed by signal 15 (SIGTERM)'],
		'exits with 3' => ['!exit 3', 'exited with status 3'],
		'exits with 10' => ['!exit 10', 'exited with status 10'],
		'exits with 0' => ['!exit 0', 'exited with status 0, by itself'],
	);
	my $id = 0;
	for my $name (sort keys %ends) {
		my ($how, $reason) = @{ $ends{$name} };
		note "-- it $name";
		$id++;
		$c->open($id, 'upper');
		my $pid = asked($c, $id, '!pid');
		$c->ask($id, '!silence')->ask($id, '!silence', stream => 7);
		my $before = now;
		if (ref $how) {
			$c->barrier;
			$before = now;
			$how->($pid);
		} else {
			$c->send('ConversationMessage', conversation => $id, payload => $how);
		}
		my $text = qr/^responder $pid ended before it answered: \Q$reason\E$/;
		my $frame = $c->expect_refusal($id, R_DISCONNECTED, $text, 'the waiting reply ends with the reason');
		cmp_ok $frame->{at} - $before, '<', 1 + slack, 'at once';
		$c->expect('ConversationError', { stream => 7, message => $text, code => R_DISCONNECTED }, 'and so does the next one, on its stream');
		$c->ask($id, 'x');
		$c->expect_refusal($id, R_DISCONNECTED, qr/^conversation participant $pid crashed; message rejected$/, 'later messages are refused');
		$c->send('ConversationMessage', conversation => $id, payload => 'x', stream => 3);
		$c->expect('ConversationError', { stream => 3, message => $CRASHED }, 'also one that wants no answer');
		my ($row) = grep { $_->{conversation_id} == $id } json_of(tool($d, 'conversations', '-j'));
		is "@$row{qw(phase pid)}", "failed $pid", 'its row says so';
		ok $d->wait_log(qr/responder-crashed subject="upper" conn=\d+ pid=$pid reason="\Q$reason\E"/), 'so does the log';
		$c->close_conversation($id)->expect_quiet('closing is no error');
	}
	is scalar(children_of($connection)), 1, 'no zombie is left, and the bystander lives';
	is asked($c, 100, 'untouched'), 'untouched', 'which has not noticed';
	is $d->mdb_counts->{conversations}, 1, 'one row is left';

	note '-- without anybody waiting: told with the next message';
	$c->open(50, 'upper');
	my $pid = asked($c, 50, '!pid');
	kill 'KILL', $pid;
	ok $d->wait_log(qr/responder-crashed .*pid=$pid/), 'it is seen without a message';
	$c->expect_quiet;
	$c->ask(50, 'x');
	$c->expect_refusal(50, R_DISCONNECTED, $CRASHED);
	$c->close_conversation(50)->expect_quiet;

	note '-- within a millisecond: the best of some';
	my $best = 1000;
	for my $n (200 .. 219) {
		$c->open($n, 'cat')->ask($n, 'warm');
		$c->next_frame;
		my ($row) = grep { $_->{conversation_id} == $n } json_of(tool($d, 'conversations', '-j'));
		kill 'STOP', $row->{pid};
		$c->ask($n, 'waits')->barrier;
		my $before = now;
		kill 'KILL', $row->{pid};
		my $frame = $c->next_frame // { at => $before + 100, type => 'nothing' };
		diag "expected ConversationError, got $frame->{type}" if $frame->{type} ne 'ConversationError';
		my $took = ($frame->{at} - $before) * 1000;
		$best = $took if $took < $best;
		$c->close_conversation($n);
	}
	note sprintf 'from kill to error at best %.2f ms', $best;
	cmp_ok $best, '<', 1 + 1000 * slack, 'milliseconds from the kill to the error';

	note '-- what it had answered before it died is delivered first';
	$c->open(60, 'upper')->ask(60, '!last')->ask(60, 'second')->ask(60, 'third');
	$c->expect_answer(60, 'first');
	$c->expect_answer(60, 'SECOND');
	$c->expect_refusal(60, R_DISCONNECTED, qr/killed by signal 9/);
	$c->close_conversation(60)->expect_quiet;

	$c->open(62, 'upper');
	$pid = asked($c, 62, '!pid');
	$c->ask(62, '!legacy')->barrier;
	kill 'STOP', $connection;
	await_gone($pid, 'dead before a byte of its answer was read');
	kill 'CONT', $connection;
	is length($c->expect('ConversationMessage', { conversation => 62 })->{payload} // ''), 900_000, 'all of it, however much the pipe holds';
	$c->ask(62, 'x');
	$c->expect_refusal(62, R_DISCONNECTED);
	$c->close_conversation(62)->expect_quiet;

	note '-- what it started dies with it';
	$c->open(61, 'upper');
	my $child = asked($c, 61, '!child');
	$pid = asked($c, 61, '!pid');
	kill 'KILL', $pid;
	await_gone($child, 'a grandchild in its group');
	$c->ask(61, 'x');
	$c->expect_refusal(61, R_DISCONNECTED);
}

{
	note '-- it cannot be started';
	# What is wrong at the start is an error of the configuration: it happens later.
	my %why = (absent => qr/No such file or directory/, forbidden => qr/Permission denied/,
	    dir => qr/Permission denied/, text => qr/Exec format error/, interpreter => qr/No such file or directory/);
	my $d = Liminal::Daemon->prepare(name => 'exec',
	    files => { (map { $_ => "no program\n" } keys %why), interpreter => "#!/nonexistent/interpreter\n" },
	    conf => join '', map { responder($_, "%D/$_") } keys %why);
	my $dir = $d->dir;
	chmod 0755, map { "$dir/$_" } keys %why;
	$d->run->wait_ready;
	unlink "$dir/absent", "$dir/dir";
	mkdir "$dir/dir";
	chmod 0600, "$dir/forbidden";
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	my $id = 0;
	for my $subject (sort keys %why) {
		$id++;
		$c->open($id, $subject, stream => 5);
		$c->expect('ConversationError', { conversation => $id, stream => 5, message => $why{$subject}, code => R_OTHER }, "$subject: refused at open with the reason");
		$c->ask($id, 'x');
		$c->expect_refusal($id, undef, qr/not open/, 'and not open');
	}
	$d->allow_log(qr/responder-failed/);
	$d->expect_log(qr/responder-failed .*program="\Q$dir\E\/absent" reason=".*No such file/);
	is scalar(children_of($connection)), 0, 'no process is left of it';
	is $d->rows('conversations'), '', 'no row';
	$c->open(9, 'other');
	is asked($c, 9, 'x'), 'x', 'the connection goes on';
}

{
	note '-- no room for another one';
	my $d = Liminal::Daemon->start(name => 'room', conf => $CAT);
	$d->expect_log(qr/responder-failed .*Too many open files/);
	is system('prlimit', '--pid', $d->pid, '--nofile=40:40'), 0, 'few descriptors';
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	my $n = 0;
	my $frame;
	while ($n < 20) {
		$c->open(++$n, 'cat')->ask($n, 'x');
		$frame = $c->next_frame // last;
		last if $frame->{type} eq 'ConversationError';
	}
	is sprintf('%s %04x', $frame->{type}, $frame->{code} // 0), sprintf('ConversationError %04x', R_PRESSURE), 'refused for pressure';
	like $frame->{message}, qr/Too many open files/, 'with the reason';
	$c->expect_refusal($n, undef, qr/not open/);
	is scalar(children_of($connection)), $n - 1, 'nothing is left of it';
	is asked($c, 1, 'y'), 'y', 'the others go on';
	$c->close_conversation(1);
	wait_until(sub { children_of($connection) == $n - 2 }, 'one ends');
	$c->open(50, 'cat');
	is asked($c, 50, 'z'), 'z', 'and there is room again';
}

{
	note '-- one that never answers';
	my $d = Liminal::Daemon->start(name => 'silent', conf => "$UPPER$CAT\nconversation { reply_timeout = \"1s\" }");
	my $c = $d->client;
	$c->open(1, 'upper')->open(2, 'cat');
	is asked($c, 1, 'x'), 'X', 'it has started';
	my $before = now;
	$c->ask(1, '!late 1.5')->ask(2, 'meanwhile');
	$c->expect_answer(2, 'meanwhile', 'another conversation does not wait');
	my $frame = $c->expect_refusal(1, R_TIMED_OUT, qr/reply timeout/);
	cmp_ok $frame->{at} - $before, '>=', 0.999, 'not before the reply timeout';
	cmp_ok $frame->{at} - $before, '<', 1.3 + slack, 'and soon after it';
	is asked($c, 1, 'next'), 'NEXT', 'its late answer is dropped, the next one is the one to the next message';
	is asked($c, 1, 'after'), 'AFTER', 'and so on';

	note '-- half an answer';
	$c->open(3, 'upper');
	is asked($c, 3, 'x'), 'X';
	$c->ask(3, '!half');
	$c->expect_refusal(3, R_TIMED_OUT);
	$c->close_conversation(3)->expect_quiet('and closing is no error');

	note '-- many of them, one after another';
	$c->open(4, 'upper');
	is asked($c, 4, 'x'), 'X';
	$c->ask(4, '!silence') for 1 .. 10;
	$c->expect_refusal(4, R_TIMED_OUT) for 1 .. 10;
	$c->expect_quiet;
}

{
	note '-- one that never reads';
	my $d = Liminal::Daemon->start(name => 'deaf',
	    conf => responder('deaf', $PROGRAM, 'deaf') . $CAT . qq(conversation { reply_timeout = "2s" }\nlimits { outbound_bytes = "8M" }));
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	$c->open(1, 'deaf')->open(2, 'cat');
	$c->send('ConversationMessage', conversation => 1, payload => 'x' x (1 << 20)) for 1 .. 12;
	my @refused = ($c->expect('ConversationError', { conversation => 1, code => R_PRESSURE, message => qr/limits outbound_bytes \(8388608\)/ }, 'over the limit: refused, naming it'));
	$c->ask(2, 'y' x (1 << 20));
	my $frame;
	while (($frame = $c->next_frame) && $frame->{type} eq 'ConversationError') {
		push @refused, $frame;
	}
	is length($frame->{payload} // ''), 1 << 20, 'there is room for another responder';
	cmp_ok scalar @refused, '>=', 6, 'at most half of the room is for one';
	cmp_ok peak_kb($connection), '<', 32 * 1024, 'kB at most' if !$IS_SANITIZED;
	$c->open(3, 'deaf')->ask(3, 'small');
	$c->expect_refusal(3, R_TIMED_OUT, qr/./, 'one that fits times out');
	$c->close_conversation(1)->close_conversation(3);
	wait_until(sub { children_of($connection) == 1 }, 'they are killed with their conversations');
	is length(asked($c, 2, 'z' x (5 << 20))), 5 << 20, 'and their room is free again';
}

{
	note '-- what no responder may write';
	my $d = Liminal::Daemon->start(name => 'hostile', conf => "$UPPER$CAT");
	$d->allow_log(qr/responder-crashed/);
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	$c->open(100, 'cat');
	my %faults = (
		'!header 4294967295' => qr/announced a packet of 4294967295 bytes.*max_frame_bytes \(16777216\)/,
		'!header 2147483648' => qr/announced a packet of 2147483648 bytes.*max_frame_bytes \(16777216\)/,
		'!header 16777163'   => qr/announced a packet of 16777163 bytes.*max_frame_bytes \(16777216\)/,
		'!4gib'              => qr/announced a packet of 4294967295 bytes/,
	);
	my $id = 0;
	for my $fault (sort keys %faults) {
		$id++;
		$c->open($id, 'upper');
		my $pid = asked($c, $id, '!pid');
		$c->send_all(map { ['ConversationMessage', conversation => $id, flags => F_REPLY, payload => $_] } $fault, 'behind');
		$c->expect_refusal($id, R_DISCONNECTED, $faults{$fault}, "$fault: ended, naming length and limit") for 1 .. 2;
		$c->ask($id, 'x');
		$c->expect_refusal($id, R_DISCONNECTED, $CRASHED);
		await_gone($pid, 'and killed');
		ok $d->wait_log(qr/responder-crashed .*pid=$pid reason="killed because it announced/), 'with a line in the log';
		$c->close_conversation($id)->expect_quiet;
	}
	note '-- packets that nobody asked for';
	for my $fault ('!twice', '!flood') {
		$id++;
		$c->open($id, 'upper');
		my $pid = asked($c, $id, '!pid');
		$c->ask($id, $fault);
		$c->expect('ConversationMessage', { conversation => $id }, "$fault: the first is the answer");
		await_gone($pid, 'for the second it is killed');
		ok $d->wait_log(qr/responder-crashed .*pid=$pid reason="killed because it sent a packet that nobody asked for"/), 'with a line in the log';
		$c->ask($id, 'x');
		$c->expect_refusal($id, R_DISCONNECTED, $CRASHED);
		$c->close_conversation($id)->expect_quiet;
	}
	note '-- pipes that it closes';
	for my $fault ('!close-out', '!close-in') {
		$id++;
		$c->open($id, 'upper');
		my $pid = asked($c, $id, '!pid');
		$c->ask($id, $fault);
		if ($fault eq '!close-in') {
			$c->expect_answer($id, 'closed');
			$c->ask($id, 'unheard');
		}
		$c->expect_refusal($id, R_DISCONNECTED, qr/closed its standard input or output/, "$fault: the conversation fails");
		await_gone($pid, 'and it is killed');
		$c->close_conversation($id)->expect_quiet;
	}
	cmp_ok peak_kb($connection), '<', 32 * 1024, 'kB of memory at most' if !$IS_SANITIZED;
	is asked($c, 100, 'untouched'), 'untouched', 'another conversation has not noticed';
	is scalar(children_of($connection)), 1, 'nothing is left of the others';
	$c->open(101, 'upper');
	is length asked($c, 101, '!big ' . ((16 << 20) - 54)), (16 << 20) - 54, 'the largest answer that fits a frame';
}

{
	note '-- standard error';
	my $d = Liminal::Daemon->start(name => 'stderr', conf => "$UPPER$CAT");
	$d->allow_log(qr/responder-crashed/);
	my $c = $d->client;
	$c->open(1, 'upper')->open(2, 'cat');
	my ($pid, $conn) = (asked($c, 1, '!pid'), $d->conn_id_of($c));
	is asked($c, 1, qq(!say one\ntwo \e[31m"red"\xFF)), 'said';
	ok $d->wait_log(qr/responder subject="upper" conn=$conn pid=$pid text="one"/), 'a line is in the log, with its name';
	ok $d->wait_log(qr/pid=$pid text="two \\\^\[\[31m\\"red\\"\\M\^\?"/), 'and the next, made harmless';
	is asked($c, 1, '!say ' . 'x' x 10000), 'said';
	my $line = $d->wait_log(qr/pid=$pid text="x{400}\.\.\."/);
	ok $line, 'a long one is cut';
	is asked($c, 1, '!shout 100000'), 'shouted', 'a flood does not hold it up';
	cmp_ok scalar($d->log_lines(qr/pid=$pid text="line/)), '<=', 20, 'and is limited in the log';
	is asked($c, 1, '!roar ' . (64 << 20)), 'roared', 'nor does a line without end';
	is asked($c, 2, 'untouched'), 'untouched';
	cmp_ok peak_kb($d->pid_of($c)), '<', 32 * 1024, 'kB of memory at most' if !$IS_SANITIZED;
	$c->close_conversation(1);
	ok $d->wait_log(qr/pid=$pid suppressed=\d{5}/), 'what was left out is counted';
	$c->open(3, 'upper');
	$pid = asked($c, 3, '!pid');
	$c->ask(3, '!words last words');
	$c->expect_refusal(3, R_DISCONNECTED);
	ok $d->wait_log(qr/pid=$pid text="last words"/), 'last words without a newline';
}

{
	note '-- those who do not want to end';
	my $d = Liminal::Daemon->start(name => 'stubborn', conf => "$UPPER$CAT\nlimits { conversations_per_connection = 4 }");
	my $c = $d->client(name => 'c');
	my $connection = $d->pid_of($c);
	$c->open(1, 'upper');
	asked($c, 1, '!ignore');
	my ($pid, $child) = (asked($c, 1, '!pid'), asked($c, 1, '!child'));
	$c->open(2, 'cat');
	my $before = now;
	$c->close_conversation(1)->expect_quiet;
	is asked($c, 2, 'x'), 'x', 'nobody waits for it';
	await_gone($pid, 'killed some time after the end of its conversation');
	cmp_ok now - $before, '>', 0.9, 'not before it had time to tidy up';
	cmp_ok now - $before, '<', 3 + slack, 'but soon';
	await_gone($child, 'with all of its group');
	ok $d->wait_log(qr/responder-killed .*pid=$pid/), 'the log tells';

	note '-- opening and closing fast';
	for my $round (1 .. 12) {
		$c->open(1, 'upper')->ask(1, '!ignore');
		$c->expect_answer(1, 'ignoring');
		$c->close_conversation(1);
	}
	cmp_ok scalar(grep { $_->{state} ne 'Z' } children_of($connection)), '<=', 1 + 8, 'leaves a bounded number of them';
	wait_until(sub { children_of($connection) == 1 }, 'and in the end none');

	note '-- the connection ends';
	for my $how (['hangs up', sub ($client) { $client->hang_up }], ['is reset', sub ($client) { $client->reset }],
	    ['has its process terminated', sub ($client) { kill 'TERM', $d->pid_of($client) }],
	    ['has its process killed', sub ($client) { $d->allow_log(qr/killed by signal 9/); kill 'KILL', $d->pid_of($client) }]) {
		my $client = $d->client(name => 'ending');
		my $mine = $d->pid_of($client);
		$client->open($_, 'upper') for 1 .. 3;
		my @pids;
		for (1 .. 3) {
			asked($client, $_, '!ignore');
			push @pids, asked($client, $_, '!pid');
		}
		$client->ask(1, '!silence')->close_conversation(3)->barrier;
		$before = now;
		$how->[1]->($client);
		await_gone($_, "a client that $how->[0] takes its responders along") for @pids;
		cmp_ok now - $before, '<', 0.9 + slack, 'at once, not after a time';
		await_gone($mine, 'and its process');
	}
	await_counts($d, { connections => 1, conversations => 1 }, 'nothing of them is left');
}

{
	note '-- one that leaves its group';
	my $d = Liminal::Daemon->start(name => 'escape', conf => $UPPER);
	my $c = $d->client;
	$c->open(1, 'upper');
	my $pid = asked($c, 1, '!pid');
	asked($c, 1, '!ignore');
	my $heir = asked($c, 1, '!escape');
	isnt asked($c, 1, '!group'), $pid, 'it is in another group';
	$c->close_conversation(1);
	await_gone($pid, 'it ends with its conversation all the same');
	kill 'KILL', $heir;
	$c->expect_quiet;
	$d->finish;
}

{
	note '-- many';
	my $d = Liminal::Daemon->start(name => 'many', conf => $CAT);
	$d->allow_log(qr/responder-crashed/);
	my $c = $d->client;
	my $connection = $d->pid_of($c);
	my $n = 200;
	$c->send_all(map { (['ConversationOpen', conversation => $_, subject => 'cat'],
	    ['ConversationMessage', conversation => $_, flags => F_REPLY, payload => "to $_"]) } 1 .. $n);
	my %got = map { ($_->{conversation} => $_->{payload}) } grep { defined } map { $c->next_frame } 1 .. $n;
	is_deeply \%got, { map { $_ => "to $_" } 1 .. $n }, "$n responders at once, each with its answer";
	is scalar(children_of($connection)), $n, "are $n processes";
	my %pid = map { ($_->{conversation_id} => $_->{pid}) } json_of(tool($d, 'conversations', '-j'));
	kill 'STOP', @pid{1 .. 50};
	$c->send_all(map { ['ConversationMessage', conversation => $_, flags => F_REPLY, payload => 'x'] } 1 .. $n);
	my %answered = map { ($_->{conversation} => $_->{type}) } grep { defined } map { $c->next_frame } 51 .. $n;
	is_deeply [sort { $a <=> $b } keys %answered], [51 .. $n], 'fifty that are stopped hold up nobody else';
	kill 'KILL', @pid{1 .. 50};
	my %failed = map { ($_->{conversation} => $_->{type}) } grep { defined } map { $c->next_frame } 1 .. 50;
	is_deeply \%failed, { map { $_ => 'ConversationError' } 1 .. 50 }, 'killed all at once, each is told';
	wait_until(sub { children_of($connection) == $n - 50 }, 'and reaped');
	$c->expect_quiet;
	$c->hang_up;
	wait_until(sub { is_gone($connection) }, 'the connection ends');
	is scalar(grep { !is_gone($_) } @pid{51 .. $n}), 0, 'and all of them have ended by then';
}

{
	note '-- the master is killed';
	my $d = Liminal::Daemon->start(name => 'orphans', conf => $UPPER);
	my $c = $d->client;
	$c->open(1, 'upper');
	asked($c, 1, '!ignore');
	my $pid = asked($c, 1, '!pid');
	$d->kill9;
	await_gone($pid, 'no responder is left');
}

finish_testing;
