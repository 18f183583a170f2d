# Shutdown: the daemon ends within the drain timeout plus a second whatever its clients do, lets
# running jobs finish, tells those that stay, and exits with 0. (A9, A10, H2)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

# TERM now; what is done meanwhile; exit 0 within LIMIT seconds.
sub ends_within ($d, $limit, $name, $meanwhile = undef) {
	my $before = now;
	$d->signal('TERM');
	$meanwhile->() if $meanwhile;
	is $d->await_end, 0, "$name: exit 0";
	my $took = now - $before;
	cmp_ok $took, '<', $limit + slack, sprintf '%s: after %.2f s', $name, $took;
	return $took;
}

{
	my $d = Liminal::Daemon->start(name => 'empty', conf => 'drain_timeout = "10s"');
	ends_within($d, 1, 'no clients');

	$d = Liminal::Daemon->start(name => 'interrupted', conf => 'drain_timeout = "10s"');
	$d->signal('INT');
	is $d->await_end, 0, 'INT is as good as TERM';
}

{
	note '-- idle clients';
	my $d = Liminal::Daemon->start(name => 'idle', conf => 'drain_timeout = "1s"');
	my @idle = map { $d->client(name => "idle$_") } 1 .. 5;
	push @idle, $d->connect(name => 'before-handshake'), $d->worker(name => 'worker');
	my $took = ends_within($d, 2, 'idle clients', sub {
		$d->wait_log(qr/drain/i);
		$idle[0]->expect_quiet('served during the drain');
		ok !eval { $d->client->barrier; 1 }, 'but nobody new';
	});
	for my $c (@idle) {
		my $frame = $c->next_frame;
		is $frame ? $frame->{type} : 'end', 'Disconnect', 'one Disconnect for ' . $c->name if $c->name !~ /before/;
		$c->expect_close('then the end') if $c->name !~ /before/;
	}
}

{
	note '-- the drain ends early when the last connection ends';
	my $d = Liminal::Daemon->start(name => 'early', conf => 'drain_timeout = "60s"');
	my @c = map { $d->client } 1 .. 2;
	ends_within($d, 10, 'clients that leave', sub {
		$d->wait_log(qr/drain/i);
		$c[0]->hang_up;
		$c[1]->expect_quiet('who stays is served');
		$c[1]->send('Disconnect')->expect_close;
	});
}

{
	note '-- a running job is finished';
	my $d = Liminal::Daemon->start(name => 'busy', conf => 'drain_timeout = "60s"');
	my $worker = $d->worker(name => 'worker');
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL)->ask(1, 'running')->ask(1, 'waiting');
	my $push = $worker->expect('Push');
	ends_within($d, 10, 'a job that runs', sub {
		$d->wait_log(qr/drain/i);
		$worker->reply($push, 'result');
		$caller->expect_answer(1, 'result', 'the answer still comes');
		$push = $worker->expect('Push', { payload => 'waiting' });
		$worker->reply($push, 'and this');
		$caller->expect_answer(1, 'and this', 'also for what had to wait');
		$_->hang_up for $caller, $worker;
	});
}

{
	note '-- a job that never ends';
	my $d = Liminal::Daemon->start(name => 'never', conf => 'drain_timeout = "1s"');
	my $worker = $d->worker(name => 'worker');
	my $caller = $d->client(name => 'caller');
	$caller->open(1, $POOL)->ask(1, 'for ever');
	$worker->expect('Push');
	my $took = ends_within($d, 2, 'a job that never ends');
	cmp_ok $took, '>=', 1, 'it had its time';
	is $d->rows, '', 'no row is left';
}

{
	note '-- clients that do not read';
	my $d = Liminal::Daemon->start(name => 'deaf', conf => 'drain_timeout = "1s"');
	my $deaf = $d->client(name => 'deaf');
	$deaf->open(1, 'echo')->barrier;
	my $echo = encode_frame('ConversationMessage', conversation => 1, flags => F_REPLY, payload => 'x' x (1 << 20));
	$deaf->write_deaf($echo x 20);
	ends_within($d, 2, 'a client that does not read');
}

{
	note '-- a stopped connection process';
	my $d = Liminal::Daemon->start(name => 'stuck', conf => 'drain_timeout = "1s"');
	my $stuck = $d->client(name => 'stuck');
	my $fine = $d->client(name => 'fine');
	kill 'STOP', $d->pid_of($stuck);
	$d->allow_log(qr/killed by signal 9|exited with status/, qr/shutdown kill=1/);
	ends_within($d, 2, 'a stopped process');
	$fine->expect('Disconnect', {}, 'the others are told properly');
	$fine->expect_close;
}

{
	note '-- the keeper is stopped or dead';
	for my $signal (qw(KILL STOP)) {
		my $d = Liminal::Daemon->start(name => "keeper-$signal", conf => 'drain_timeout = "1s"');
		$d->client(name => 'idle')->barrier;
		my @c = map { $d->client } 1 .. 2;
		kill $signal, $d->keeper_pid;
		$d->allow_log(qr/keeper|shutdown not_cleaned_up=/);
		ends_within($d, 2, "keeper gets $signal");
	}
}

{
	note '-- a second TERM shortens the drain';
	my $d = Liminal::Daemon->start(name => 'second', conf => 'drain_timeout = "60s"');
	my @idle = map { $d->client(name => "idle$_") } 1 .. 3;
	ends_within($d, 5, 'a second TERM', sub {
		$d->wait_log(qr/drain/i);
		$idle[0]->expect_quiet('draining');
		$d->signal('TERM');
	});
	for my $c (@idle) {
		$c->expect('Disconnect');
		$c->expect_close;
	}
}

{
	note '-- force-close of one connection: TERM to its process';
	my $d = Liminal::Daemon->start(name => 'force-close');
	my ($one, $other) = map { $d->client(name => $_) } 'one', 'other';
	kill 'TERM', $d->pid_of($one);
	$one->expect('Disconnect', {}, 'one Disconnect');
	$one->expect_close;
	$other->expect_quiet('the other is not disturbed');
	await_counts($d, { connections => 1 }, 'its row is gone');
}

{
	note '-- subscribers are told at once, once';
	my $d = Liminal::Daemon->start(name => 'subscribers', conf => <<~'CONF');
		drain_timeout = "60s"
		channel "news" { }
		channel "kept" { durable = true }
		CONF
	my %c = map { ($_ => $d->client(name => $_)) } qw(idle one two durable former publisher);
	$c{$_}->subscribe('news') for qw(one two two former);
	$c{durable}->subscribe('kept', consumer => 'c');
	$c{former}->send('Unsubscribe', subscription => 4)->barrier;
	ends_within($d, 5, 'subscribers', sub {
		$d->wait_log(qr/drain/i);
		$c{$_}->expect('Disconnect', {}, 'a Disconnect, while the drain has just begun') for qw(one two durable);
		$c{$_}->expect_quiet('who has no subscription gets none yet') for qw(idle former publisher);
		$c{publisher}->publish('news', 'last words');
		$c{one}->expect_deliveries(['last words'], 'subscriptions go on during the drain');
		$c{$_}->expect('Deliver') for 'two', 'two';
		$c{publisher}->publish('kept', 'kept');
		$c{durable}->expect('Deliver', { payload => 'kept' });
		$d->signal('TERM');
	});
	$c{$_}->expect_close('no second Disconnect') for qw(one two durable);
	for (qw(idle former publisher)) {
		$c{$_}->expect('Disconnect', {}, 'the others get theirs with the end');
		$c{$_}->expect_close;
	}

	note '-- a subscriber that does not read';
	$d = Liminal::Daemon->start(name => 'deaf subscriber', conf => qq[drain_timeout = "500ms"\nchannel "news" { }]);
	my ($deaf, $p) = map { $d->client(name => $_) } 'deaf', 'p';
	$deaf->subscribe('news');
	$p->send_all(map { ['Publish', channel => 'news', payload => 'x' x (1 << 20)] } 1 .. 20);
	$p->expect('PublishAck') for 1 .. 20;
	ends_within($d, 2, 'a subscriber that does not read');
}

finish_testing;
