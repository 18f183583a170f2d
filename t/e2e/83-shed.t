# A subscriber that falls behind beyond its channel's bound loses its subscription and nothing else: one
# SubscribeError, its connection lives; publishers do not wait for it, others do not notice, and what is
# stored stays within the bound however long it goes on. (G2)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Socket qw(SOL_SOCKET SO_RCVBUF);
use Test::More;
use Liminal;
use Liminal::Flow;
use Liminal::Wire;

my $N = $ENV{LIMINAL_SANITIZED} ? 10_000 : 40_000;
my $FIRST = 10_000;	# more than sockets take

# A client whose socket takes little.
sub narrow ($d, $name) {
	my $c = $d->client(name => $name);
	$c->{socket}->setsockopt(SOL_SOCKET, SO_RCVBUF, 65536);
	return $c;
}

# A number that the kernel has of a process, or the sum of several.
sub of_process ($pid, $file, $what) {
	my $sum = 0;
	$sum += $_ for Liminal::Daemon::slurp("/proc/$pid/$file") =~ /^$what:\s+(\d+)/mg;
	return $sum;
}

sub state_bytes ($d) { return 512 * (stat $d->dir . '/run/state/data.mdb')[12] }

# Publish N messages of SIZE, never more than WINDOW ahead of the slowest of the good READERS.
sub publish_to ($d, $channel, $n, $size, $window, @readers) {
	my $c = $d->client(name => "to $channel");
	my $p = flow_publisher($c, $channel, n => $n, size => $size, window => $window / 4);
	$p->{brake} = sub { grep { $p->{sent} - $_->{n} > $window / 2 } @readers };
	my $good = flow($p, @readers, { until => sub { $p->{acked} == $n && !grep { $_->{n} < $n } @readers } });
	ok $good, "$n messages to $channel are acknowledged and get to those who read";
	is_deeply [map { @{ $_->{faults} } } $p, @readers], [], 'in order, exactly once';
	$c->hang_up;
	return $p;
}

# C, which has not been reading, finds what had been sent, from 1, then one SubscribeError on STREAM, and its
# connection lives. Returns how many it got.
sub was_shed ($c, $stream, $name) {
	my $s = flow_subscriber($c, stream => $stream);
	$c->send('Ping');
	my @others;
	Liminal::Client::pump([$c], sub {
		push @others, splice @{ $c->{frames} };
		return @others == 2;
	});
	is_deeply [sort map { $_->{type} } @others], ['Pong', 'SubscribeError'], "$name: one SubscribeError, and its Ping is answered";
	my ($error) = grep { $_->{type} eq 'SubscribeError' } @others;
	is_deeply [@{ $error // {} }{qw(code stream)}], [R_SHED, $stream], "$name: shed, on the subscription's stream";
	my $n = $s->{n};
	$c->expect_quiet("$name: nothing more");
	is $s->{n}, $n, "$name: also no message";
	is_deeply $s->{faults}, [], "$name: what it had got before was gapless";
	$c->gather_no_more;
	return $s->{n};
}

{
	my $d = Liminal::Daemon->start(name => 'shed', conf => <<~'CONF');
		channel "narrow" { keep_messages = 1000  keep_bytes = "64M" }
		channel "bytes" { keep_bytes = "1M"  keep_messages = 1000000 }
		channel "wide" { }
		CONF
	$d->expect_log(qr/warn shed .*channel="narrow"/, qr/warn shed .*channel="bytes"/);
	my $deaf = narrow($d, 'deaf');
	$deaf->subscribe('narrow', stream => 1);
	$deaf->subscribe('wide', stream => 2);
	my $stopped = $d->client(name => 'stopped');
	$stopped->subscribe('narrow', stream => 3);
	my $stopped_pid = $d->pid_of($stopped);
	my @good = map { my $c = $d->client(name => "good$_"); $c->subscribe('narrow'); flow_subscriber($c) } 1 .. 3;
	my $bystander = $d->client(name => 'bystander');
	$bystander->subscribe('wide');
	await_counts($d, { subscriptions => 7 }, 'all are there');

	note '-- beyond keep_messages';
	kill 'STOP', $stopped_pid;
	my $began = publish_to($d, 'narrow', $FIRST, 1024, 800, @good);
	is $began->{delivered}, $FIRST, 'publishers do not wait for those two';
	await_counts($d, { subscriptions => 6 }, 'the one that does not read has lost its subscription, without reading');
	my $size = state_bytes($d);
	$_->{n} = 0, $_->{last} = {} for @good;
	@good = map { my $s = flow_subscriber($_->{client}); $s->{sequence} = $FIRST; $s } @good;
	publish_to($d, 'narrow', $N, 1024, 800, @good);
	cmp_ok state_bytes($d) - $size, '<', 4 << 20, 'what is stored does not grow with what is published';
	cmp_ok state_bytes($d), '<', 16 << 20, 'and is little';
	SKIP: {
		skip 'a sanitizer\'s memory is its own', 1 if $ENV{LIMINAL_SANITIZED};
		my $private = of_process($d->pid_of($deaf), 'smaps_rollup', 'Private_\w+');
		cmp_ok $private, '<', 8 << 10, "nor does the process of the one that does not read gather it ($private kB)";
	}
	my $publisher = $d->client(name => 'publisher');
	$publisher->publish('wide', 'for all');
	$bystander->expect_deliveries(['for all'], 'another channel is not disturbed');
	kill 'CONT', $stopped_pid;
	await_counts($d, { subscriptions => 5 }, 'the one that was stopped loses its subscription when it goes on');
	is was_shed($stopped, 3, 'stopped'), 0, 'it had got nothing';

	note '-- what the deaf one finds';
	my $s = flow_subscriber($deaf);
	my (@others, @wide);
	$deaf->gather(sub ($stream, $sequence, $payload, $flags) {
		return push @wide, "$sequence $payload" if $stream == 2;
		push @wide, 'after the error' if grep { $_->{type} eq 'SubscribeError' } @others, @{ $deaf->{frames} };
		$s->{sequence}++ == $sequence - 1 or push @{ $s->{faults} }, "sequence $sequence";
	});
	$deaf->send('Ping');
	Liminal::Client::pump([$deaf], sub {
		push @others, splice @{ $deaf->{frames} };
		return @wide && @others == 2;
	});
	is_deeply [sort map { $_->{type} } @others], ['Pong', 'SubscribeError'], 'one SubscribeError, and an answer to Ping';
	my ($error) = grep { $_->{type} eq 'SubscribeError' } @others;
	is_deeply [@{ $error // {} }{qw(code stream)}], [R_SHED, 1], 'shed, on the subscription\'s stream';
	ok length($error->{message} // ''), 'with a text';
	is_deeply $s->{faults}, [], 'what came before was gapless';
	cmp_ok $s->{sequence}, '<', $N, "and a part of all ($s->{sequence})";
	is_deeply \@wide, ['1 for all'], 'its other subscription lives';
	$deaf->gather_no_more;
	$publisher->publish('narrow', 'x');
	$deaf->expect_quiet('nothing more of that channel');
	$deaf->subscribe('narrow', stream => 1);
	$publisher->publish('narrow', 'anew');
	$deaf->expect_deliveries(['anew'], 'it may subscribe again');
	$_->{client}->hang_up for @good;

	note '-- beyond keep_bytes';
	my $slow = narrow($d, 'slow');
	$slow->subscribe('bytes', stream => 5);
	my $client = $d->client(name => 'good');
	$client->subscribe('bytes');
	publish_to($d, 'bytes', 300, 100_000, 8, flow_subscriber($client));
	wait_until(sub { $d->mdb_counts->{subscriptions} == 4 }, 'it has lost its subscription');
	cmp_ok was_shed($slow, 5, 'slow'), '<', 300, 'a part of all';
	is $d->check_state, undef, 'the state keeps its rules' if $ENV{LIMINAL_CHECK_STATE};
	$_->hang_up for $deaf, $stopped, $slow, $client, $publisher;
	$bystander->expect_quiet('the bystander has noticed nothing');
}

{
	note '-- beyond keep_age';
	my $d = Liminal::Daemon->start(name => 'age', conf => 'channel "brief" { keep_age = "300ms" }');
	$d->expect_log(qr/warn shed .*channel="brief"/);
	my ($late, $fine) = map { my $c = $d->client(name => $_); $c->subscribe('brief', stream => 4); $c } 'late', 'fine';
	my $p = $d->client(name => 'publisher');
	my $pid = $d->pid_of($late);
	kill 'STOP', $pid;
	$p->publish('brief', 'one');
	$fine->expect_deliveries(['one'], 'who is there gets it');
	my $at = now;
	wait_until(sub { now > $at + 0.4 }, 'its time passes');
	kill 'CONT', $pid;
	was_shed($late, 4, 'late');
	$p->publish('brief', 'two');
	$fine->expect_deliveries(['two'], 'the other goes on', from => 2);
}

{
	note '-- many that do not read, and those who publish do not notice';
	my $d = Liminal::Daemon->start(name => 'crowd', conf => 'channel "c" { keep_messages = 100  keep_bytes = "64M" }');
	$d->expect_log(qr/warn shed .*channel="c"/);
	my @deaf = map { my $c = narrow($d, "deaf$_"); $c->subscribe('c'); $c } 1 .. 16;
	my $client = $d->client(name => 'good');
	$client->subscribe('c');
	publish_to($d, 'c', 2000, 8192, 80, flow_subscriber($client));
	await_counts($d, { subscriptions => 1, connections => 17 }, 'all of them have lost their subscriptions, and live');
	was_shed($deaf[$_], 1, "deaf$_") for 0, 15;
}

{
	note '-- who stops reading and goes on within the bound gets everything, though nothing else happens';
	my $d = Liminal::Daemon->start(name => 'pause', conf => 'channel "c" { }');
	my $pausing = narrow($d, 'pausing');
	$pausing->subscribe('c');
	my $pid = $d->pid_of($pausing);
	my $private = sub { of_process($pid, 'smaps_rollup', 'Private_\w+') };
	my $wakes = sub { of_process($pid, 'status', 'voluntary_ctxt_switches') };
	my $before = $private->();
	my $p = $d->client(name => 'publisher');
	my @payloads = (map({ "$_ " . 'x' x 12_000_000 } 1 .. 3), map { "$_ " . 'y' x 1000 } 1 .. 5000);
	$p->publish('c', $_) for @payloads[0 .. 2];
	$p->send_all(map { ['Publish', channel => 'c', payload => $_] } @payloads[3 .. $#payloads]);
	is scalar(grep { ($p->next_frame // { type => '' })->{type} eq 'PublishAck' } 3 .. $#payloads), 5000, 'acknowledged, whoever does not read';
	wait_until(sub {
		my ($had, $at) = ($wakes->(), now);
		1 while now < $at + 0.2;
		return $wakes->() == $had;
	}, 'waiting for its client costs its process nothing');
	$pausing->expect_deliveries(\@payloads, 'all of them in order');
	SKIP: {
		skip 'a sanitizer\'s memory is its own', 1 if $ENV{LIMINAL_SANITIZED};
		wait_until(sub { $private->() < $before + 150 }, 'when all is done, the process is as small as before')
		    or diag "$before kB, then " . $private->();
	}
}

{
	note '-- a message that is larger than what may wait for a connection';
	my $d = Liminal::Daemon->start(name => 'large', conf => 'channel "c" { }  limits { outbound_bytes = "64K" }');
	my $slow = narrow($d, 'slow');
	$slow->subscribe('c');
	my $large = 'x' x 12_000_000;
	my $p = $d->client(name => 'publisher');
	my $pid = $d->pid_of($slow);
	my $before = of_process($pid, 'status', 'voluntary_ctxt_switches');
	$p->publish('c', $large);
	$p->publish('c', 'small');
	wait_until(sub { of_process($pid, 'status', 'voluntary_ctxt_switches') > $before }, 'its process has written what it could');
	$slow->expect_deliveries([$large, 'small'], 'its subscriber may take its time');
}

finish_testing;
