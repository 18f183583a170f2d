# Workers register, are rejected for names that cannot be, replace their registration, leave;
# and are not spoken to before a simple client library is ready. (C1, C2, D2, D5, wire.md)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

sub dispatch ($caller, $pool, $payload) {
	state $id = 0;
	return $caller->open(++$id, "aion.dispatch.$pool")->ask($id, $payload) && $id;
}

# A worker in POOL gets a job and its answer arrives.
sub serves ($caller, $worker, $pool, $name) {
	my $id = dispatch($caller, $pool, "job for $pool");
	my $push = $worker->expect('Push', { payload => "job for $pool", stream => 1 }, "$name: $pool");
	$worker->reply($push, "done by $pool");
	$caller->expect_answer($id, "done by $pool");
	return;
}

sub is_unserved ($caller, $pool, $name) {
	my $id = dispatch($caller, $pool, 'job for nobody');
	$caller->expect_refusal($id, R_NO_WORKER, qr/^\Q${\NO_WORKERS}\E$/, "$name: $pool has no worker");
	return;
}

{
	my $d = Liminal::Daemon->start(name => 'workers');
	my $caller = $d->client(name => 'caller');

	note '-- register';
	is_unserved($caller, 'a.q', 'before');
	my $w = $d->client(name => 'worker');
	$w->send_register(namespaces => ['a', 'b'], queue => 'q');
	$w->expect('WorkerRegisterAck', { rejected => undef, stream => 0 }, 'accepted');
	serves($caller, $w, $_, 'one pool per namespace') for 'a.q', 'b.q';
	is_unserved($caller, $_, 'no other') for 'a.other', 'c.q', 'q.a';

	note '-- all forms of the frame';
	my %forms = (
		'long, empty census' => { census => [] },
		'long, a census'     => { census => [['upper', '{"type":"string"}', '{}'], ['', '', '']] },
		'everything'         => { node => 'host-1', types => ['upper', 'lower'], identity => 'w#1.x ☃' =~ s/☃/\xE2\x98\x83/r },
		'empty identity'     => { identity => '' },
		'empty node'         => { node => '' },
	);
	for my $form (sort keys %forms) {
		my $x = $d->client(name => $form);
		$x->send_register(namespaces => ['forms'], queue => 'q', %{ $forms{$form} });
		$x->expect('WorkerRegisterAck', { rejected => undef }, 'accepted');
		serves($caller, $x, 'forms.q', $form);
		$x->send('Disconnect')->expect_close;
	}
	my $flagged = $d->client(name => 'flag without bytes');
	$flagged->send_register(namespaces => ['flag'], queue => 'q');
	$flagged->expect('WorkerRegisterAck', { rejected => undef });
	$flagged->send('WorkerRegister', namespaces => ['flag'], task_queue => 'q', identity => 'f', flags => F_CAPACITY);
	$flagged->expect('WorkerRegisterAck', { rejected => undef }, 'the capacity flag counts only when bytes follow');
	serves($caller, $flagged, 'flag.q', 'and it works');

	note '-- rejections';
	my %bad = (
		'no namespaces'         => { namespaces => [] },
		'an empty namespace'    => { namespaces => ['good', ''] },
		'a dot in a namespace'  => { namespaces => ['good', 'a.b'] },
		'an empty task queue'   => { namespaces => ['good'], queue => '' },
		'a dot in a task queue' => { namespaces => ['good'], queue => 'a.b' },
	);
	my $before = $d->rows('workers', 'pool');
	for my $what (sort keys %bad) {
		my $x = $d->client(name => 'rejected');
		$x->send_register(queue => 'q', %{ $bad{$what} });
		$x->expect('WorkerRegisterAck', { rejected => qr/./ }, "$what: rejected with a reason");
		is $d->rows('workers', 'pool'), $before, 'no record is left';
		is_unserved($caller, 'good.q', 'rejected');
		$x->send_register(namespaces => ['second'], queue => 'q');
		$x->expect('WorkerRegisterAck', { rejected => undef }, 'it may try again');
		serves($caller, $x, 'second.q', 'and serves');
		$x->send('Disconnect')->expect_close;
	}

	note '-- registering again replaces';
	$w->register(namespaces => ['b', 'c'], queue => 'q');
	serves($caller, $w, $_, 'the new registration') for 'b.q', 'c.q';
	is_unserved($caller, 'a.q', 'the old one is gone');
	$w->send_register(namespaces => ['d', ''], queue => 'q');
	$w->expect('WorkerRegisterAck', { rejected => qr/./ }, 'a new registration that is rejected');
	serves($caller, $w, $_, 'leaves the old one in place') for 'b.q', 'c.q';
	is_unserved($caller, 'd.q', 'nothing of the rejected one counts');

	note '-- registering again with a job in hand';
	my $id = dispatch($caller, 'b.q', 'in hand');
	my $push = $w->expect('Push');
	$w->register(namespaces => ['e'], queue => 'q');
	is_unserved($caller, 'b.q', 'left the pool');
	$w->reply($push, 'from before');
	$caller->expect_answer($id, 'from before', 'the job from before is still its own');
	serves($caller, $w, 'e.q', 'and there is room again');

	note '-- leaving';
	$w->send('Disconnect')->expect_close;
	is_unserved($caller, 'e.q', 'after Disconnect');
	my $x = $d->worker(namespaces => ['f'], queue => 'q');
	$x->hang_up;
	wait_until(sub { $d->mdb_counts->{workers} == 1 }, 'after the end of the stream: one worker less');
	is_unserved($caller, 'f.q', 'after the end of the stream');
}

{
	note '-- the first push comes no sooner than 20 ms after the registration (wire.md)';
	my $d = Liminal::Daemon->start(name => 'default-delay');
	my $caller = $d->client(name => 'caller');
	my $early = 0;
	for my $n (1 .. 10) {
		my $w = $d->client(name => "w$n");
		my $before = now;
		$w->send_register(namespaces => ["n$n"]);
		$w->expect('WorkerRegisterAck', { rejected => undef });
		my $id = dispatch($caller, "n$n.jobs", $n);
		my $push = $w->expect('Push');
		$early++ if $push->{at} - $before < 0.020;
		$w->reply($push, 'done');
		$caller->expect_answer($id, 'done');
	}
	is $early, 0, 'never sooner than 20 ms';
	$d->finish;

	$d = Liminal::Daemon->start(name => 'long-delay', conf => 'dispatch { first_push_delay = "1500ms" }');
	$caller = $d->client(name => 'caller');
	my $plain = $d->client(name => 'plain');
	my $before = now;
	$plain->register(namespaces => ['plain']);
	my $able = $d->client(name => 'able')->register(namespaces => ['able'], capacity => 1);
	my $waiting = dispatch($caller, 'plain.jobs', 'p');
	$plain->expect_quiet('the plain worker: answers come meanwhile');
	serves($caller, $able, 'able.jobs', 'a worker that announced its capacity');
	cmp_ok now - $before, '<', 1.5 + slack, 'is not made to wait';
	my $push = $plain->expect('Push', { payload => 'p' });
	cmp_ok $push->{at} - $before, '>=', 1.5, 'the plain worker gets its job after the configured delay';
	$plain->reply($push, 'late');
	$caller->expect_answer($waiting, 'late');
	$before = now;
	serves($caller, $plain, 'plain.jobs', 'the second job');
	cmp_ok now - $before, '<', 1.5 + slack, 'is not delayed any more';
	$plain->register(namespaces => ['plain']);
	$before = now;
	serves($caller, $plain, 'plain.jobs', 'after registering again');
	cmp_ok now - $before, '>=', 1.4, 'it is delayed again';
}

finish_testing;
