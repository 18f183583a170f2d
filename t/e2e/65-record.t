# The dispatch record: operations in order, outcomes by workflow, channel and ordinal, answers from
# the record, retention. (E8, E10)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $POOL = 'aion.dispatch.test.jobs';

# The operations of a workflow, as scripts see them.
sub history ($d, $workflow) {
	return json_of(tool_await(tool_start($d->dir, ['history', '-d', $d->dir . '/persist', '-j', $workflow])));
}

# Wait for N operations; as "operation state" lines.
sub await_history ($d, $workflow, $n, $name) {
	my @operations;
	wait_until(sub { (@operations = history($d, $workflow)) >= $n }, "$name: $n operations");
	return @operations;
}

sub brief (@operations) {
	return map { my $o = $_; join ' ', map { $_ // () } $o->{operation}, $o->{activity_state},
	    $o->{retry_eligible} ? 'retry' : () } @operations;
}

sub recorded ($ordinal, $data = 'x', %more) {
	return typed_request('upper', $data, workflow_id => 'w-1', ordinal => $ordinal, %more);
}

{
	my $d = Liminal::Daemon->start(name => 'first');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', identity => 'up', types => ['upper'], capacity => 4);
	my $id = 'up#' . $d->conn_id_of($worker);
	$caller->open(1, $POOL);

	note '-- a dispatch and its operations';
	$caller->ask(1, recorded(1, 'hello', conversation_id => 'c-1'));
	my $push = $worker->expect('Push', { payload => recorded(1, 'hello', conversation_id => 'c-1') });
	my @seen = await_history($d, 'w-1', 3, 'while the worker has it');
	is_deeply [brief(@seen)], ['conversation_opened scheduled', 'worker_selected started', 'message_sent'],
	    'opened, selected, sent';
	is $seen[1]{worker_id}, $id, 'by whom';
	my $response = typed_response($id, output => 'HELLO');
	$worker->reply($push, $response);
	$caller->expect_answer(1, $response);
	@seen = history($d, 'w-1');
	is_deeply [brief(@seen[3 .. $#seen])], ['message_received completed', 'conversation_closed'],
	    'whoever has the answer finds it in the record';
	is_deeply [map { $_->{channel} } @seen], [($POOL) x 5], 'the channel';
	is_deeply [map { $_->{conversation_id} } @seen], [('c-1') x 5], 'the conversation id';
	is_deeply [map { $_->{ordinal} } @seen], [(1) x 5], 'the ordinal';
	is $seen[3]{result}, $response, 'the result';
	is $seen[3]{worker_id}, $id, 'of that worker';
	my @times = map { $_->{time} } @seen;
	is_deeply \@times, [sort @times], 'time goes on';

	note '-- the same again';
	$caller->ask(1, recorded(1, 'hello'));
	$caller->expect_answer(1, $response, 'answered from the record');
	$worker->expect_quiet('no worker is touched');
	is scalar(history($d, 'w-1')), 5, 'and nothing is recorded anew';
	my $other = $d->client(name => 'other');
	$other->open(1, $POOL);
	$other->ask(1, recorded(1, 'whatever the input'));
	$other->expect_answer(1, $response, 'for any caller: ordinals name activities, inputs do not');

	note '-- what is another request';
	for my $request (recorded(2), typed_request('upper', 'x', workflow_id => 'w-2', ordinal => 1)) {
		$caller->ask(1, $request);
		$push = $worker->expect('Push', { payload => $request }, 'another ordinal, another workflow: live');
		$worker->reply($push, typed_response($id, output => 'X'));
		$caller->expect('ConversationMessage');
	}
	my $elsewhere = $d->worker(name => 'elsewhere', identity => 'e', namespaces => ['elsewhere']);
	$caller->open(2, 'aion.dispatch.elsewhere.jobs');
	$caller->ask(2, recorded(1));
	$push = $elsewhere->expect('Push', {}, 'the same ordinal on another channel: live');
	$elsewhere->reply($push, typed_response('e', output => 'E'));
	$caller->expect('ConversationMessage');

	note '-- a failure is an outcome';
	$caller->ask(1, recorded(3));
	$push = $worker->expect('Push');
	$worker->reply($push, typed_response($id, error => 'disk on fire'));
	$caller->expect_refusal(1, R_ACTIVITY_FAILED, qr/^worker '\Q$id\E' failed activity: disk on fire$/);
	$caller->ask(1, recorded(3));
	$caller->expect_refusal(1, R_ACTIVITY_FAILED, qr/^worker '\Q$id\E' failed activity: disk on fire$/,
	    'the same failure from the record');
	$caller->ask(1, recorded(4, 'x', start_to_close_timeout_ms => 100));
	my $late = $worker->expect('Push');
	$caller->expect_refusal(1, R_TIMED_OUT, qr/start_to_close/);
	$caller->ask(1, recorded(4));
	$caller->expect_refusal(1, R_TIMED_OUT, qr/start_to_close/, 'so is a timeout');
	$worker->reply($late, typed_response($id, output => 'late'));
	$worker->expect_quiet('no worker is touched');

	note '-- without an ordinal: recorded, never answered from the record';
	for (1, 2) {
		$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w-3'));
		$push = $worker->expect('Push');
		$worker->reply($push, typed_response($id, output => 'X'));
		$caller->expect('ConversationMessage');
	}
	is scalar(await_history($d, 'w-3', 10, 'both')), 10, 'each with its five operations';

	note '-- no outcome: it may be tried again';
	$caller->open(3, 'aion.dispatch.nobody.jobs');
	$caller->ask(3, typed_request('upper', 'x', workflow_id => 'w-4', ordinal => 1));
	$caller->expect_refusal(3, R_NO_WORKER, qr/^NoWorkersAvailable/);
	@seen = await_history($d, 'w-4', 2, 'refused');
	is_deeply [brief(@seen)], ['conversation_opened scheduled', 'conversation_closed failed retry'],
	    'opened and closed, may be retried';
	my $somebody = $d->worker(name => 'somebody', namespaces => ['nobody']);
	$caller->ask(3, typed_request('upper', 'x', workflow_id => 'w-4', ordinal => 1));
	$push = $somebody->expect('Push', {}, 'live now');
	$somebody->reply($push, typed_response('somebody', output => 'S'));
	$caller->expect('ConversationMessage');

	note '-- waiting, and a worker that ends';
	my $mortal = $d->worker(name => 'mortal', identity => 'm', namespaces => ['mortal']);
	my $mortal_id = 'm#' . $d->conn_id_of($mortal);
	$caller->open(4, 'aion.dispatch.mortal.jobs');
	$caller->ask(4, typed_request('upper', 1, workflow_id => 'w-5', ordinal => $_)) for 1, 2;
	$mortal->expect('Push', {}, 'one is under way, one waits');
	my $heir = $d->worker(name => 'heir', identity => 'h', namespaces => ['mortal']);
	my $heirs = $heir->expect('Push', {}, 'goes to whoever has room');
	$heir->reply($heirs, typed_response('h', output => 2));
	$mortal->hang_up;
	$heirs = $heir->expect('Push', {}, 'the worker ended: the other goes there, too');
	$heir->reply($heirs, typed_response('h', output => 1));
	$caller->expect('ConversationMessage');
	$caller->expect('ConversationMessage');
	@seen = history($d, 'w-5');
	is_deeply [brief(grep { $_->{ordinal} == 1 } @seen)], ['conversation_opened scheduled',
	    'worker_selected started', 'message_sent', 'worker_exited failed retry',
	    'worker_selected started', 'message_sent', 'message_received completed', 'conversation_closed'],
	    'the exit and the second attempt';
	my ($exit) = grep { $_->{operation} eq 'worker_exited' } @seen;
	is $exit->{worker_id}, $mortal_id, 'who exited';
	like $exit->{message}, qr/closed the connection/, 'and why';
	is_deeply [brief(grep { $_->{ordinal} == 2 } @seen)], ['conversation_opened scheduled',
	    'worker_selected started', 'message_sent', 'message_received completed', 'conversation_closed'],
	    'the one that waited';

	note '-- closed on every path';
	$caller->open(5, $POOL);
	$caller->ask(5, typed_request('upper', 'x', workflow_id => 'w-6', ordinal => 1));
	$push = $worker->expect('Push');
	$caller->close_conversation(5);
	@seen = await_history($d, 'w-6', 4, 'closed by the client');
	is_deeply [brief($seen[3])], ['conversation_closed failed retry'], 'closed';
	$worker->reply($push, typed_response($id, output => 'X'));
	for my $how (qw(hang_up kill)) {
		my $victim = $d->client(name => $how);
		$victim->open(1, $POOL);
		$victim->ask(1, typed_request('upper', 'x', workflow_id => "w-$how", ordinal => 1));
		$push = $worker->expect('Push');
		if ($how eq 'kill') {
			$d->expect_log(qr/killed by signal 9/);
			kill 'KILL', $d->pid_of($victim);
		} else {
			$victim->hang_up;
		}
		@seen = await_history($d, "w-$how", 4, $how);
		is_deeply [brief($seen[3])], ['conversation_closed failed retry'], "$how: closed";
		like $seen[3]{message}, qr/connection/, 'and it says why';
		$worker->reply($push, typed_response($id, output => 'X'));
	}

	note '-- two at once: the first outcome is the one';
	my @pushes;
	for my $who ($other, $caller) {
		$who->ask(1, recorded(7));
		push @pushes, $worker->expect('Push');
	}
	my $first = typed_response($id, output => 'first');
	$worker->reply($pushes[0], $first);
	$other->expect_answer(1, $first);
	$worker->reply($pushes[1], typed_response($id, output => 'second'));
	$caller->expect_answer(1, $first, 'both callers get it');

	note '-- names';
	$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w' x 255, ordinal => 1));
	$push = $worker->expect('Push', {}, 'the longest workflow id');
	$worker->reply($push, typed_response($id, output => 'X'));
	$caller->expect('ConversationMessage');
	$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w' x 256, ordinal => 1));
	$caller->expect_refusal(1, undef, qr/workflow_id is longer than 255 bytes/);
	$caller->ask(1, typed_request('upper', 'x', workflow_id => '', ordinal => 1));
	$caller->expect_refusal(1, undef, qr/workflow_id must not be empty/);
	$caller->ask(1, recorded(8, 'x', conversation_id => 'c' x 1025));
	$caller->expect_refusal(1, undef, qr/conversation_id is longer than 1024 bytes/);
	$worker->expect_quiet('no worker sees any');

	note '-- opened when everything is killed';
	$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w-8', ordinal => 1));
	$worker->expect('Push');
	await_history($d, 'w-8', 3, 'under way');
	$d->kill9;

	my $again = Liminal::Daemon->start(name => 'again', dir => $d->dir);
	$caller = $again->client(name => 'caller again');
	$worker = $again->worker(name => 'worker again', types => ['upper']);
	$caller->open(1, $POOL);
	@seen = await_history($again, 'w-8', 4, 'after the restart');
	is_deeply [brief($seen[3])], ['conversation_closed failed retry'], 'what was open is closed';
	like $seen[3]{message}, qr/daemon/, 'and it says why';
	$caller->ask(1, recorded(1));
	$caller->expect_answer(1, $response, 'outcomes survive');
	$caller->ask(1, recorded(3));
	$caller->expect_refusal(1, R_ACTIVITY_FAILED, qr/disk on fire/, 'failed ones alike');
	$worker->expect_quiet('no worker is touched');
	$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w-8', ordinal => 1));
	$push = $worker->expect('Push', {}, 'what had no outcome is live');
	$worker->reply($push, typed_response('w', output => 'X'));
	$caller->expect('ConversationMessage');
	$again->finish;
	$d->finish;
}

{
	note '-- the store process is killed while an answer waits for it';
	my $d = Liminal::Daemon->start(name => 'store');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper']);
	$caller->open(1, $POOL);
	$caller->ask(1, recorded(1));
	my $push = $worker->expect('Push');
	my ($store) = grep { $_->{title} =~ /\bstore\b/ } $d->children;
	ok $store, 'there is a store process';
	kill 'STOP', $store->{pid};
	$worker->reply($push, typed_response('w', output => 'X'));
	$caller->expect_quiet('no answer before it is on disk');
	$d->expect_log(qr/store ended .*killed by signal 9/);
	kill 'KILL', $store->{pid};
	$caller->expect_answer(1, typed_response('w', output => 'X'), 'its successor goes on');
	is scalar(await_history($d, 'w-1', 5, 'history')), 5, 'exactly once';
	$d->finish;
}

{
	note '-- the store process is killed while the daemon waits for it at its end';
	my $d = Liminal::Daemon->start(name => 'leaving', conf => 'drain_timeout = "100ms"');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper']);
	$caller->open(1, $POOL);
	$caller->ask(1, recorded(1));
	my $push = $worker->expect('Push');
	my $store = $d->service_pid('store');
	kill 'STOP', $store;
	$worker->reply($push, typed_response('w', output => 'X'))->barrier;
	$d->signal('TERM');
	wait_until(sub { !defined $d->keeper_pid }, 'only the store is left');
	$d->expect_log(qr/store ended .*killed by signal 9/);
	kill 'KILL', $store;
	is $d->await_end, 0, 'its successor goes on, and nothing is lost';
	my @seen = history($d, 'w-1');
	is_deeply [brief(@seen[3 .. $#seen])], ['message_received completed', 'conversation_closed'], 'the outcome is there';
	$d->finish;
}

{
	note '-- an answer that no record takes';
	my $d = Liminal::Daemon->start(name => 'large', conf => 'limits { max_frame_bytes = "48M" }');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper']);
	my $large = typed_response('w', output => 'x' x (33 << 20));
	$caller->open(1, $POOL);
	$caller->ask(1, recorded(1));
	$worker->reply($worker->expect('Push'), $large);
	$caller->expect_refusal(1, R_OTHER, qr/could not be recorded: the answer is larger than the dispatch record takes/);
	my @seen = await_history($d, 'w-1', 5, 'it is closed');
	like $seen[-1]{message}, qr/larger/, 'and says why';
	$caller->ask(1, typed_request('upper', 'x', workflow_id => 'w-2'));
	$worker->reply($worker->expect('Push'), $large);
	ok $caller->expect('ConversationMessage')->{payload} eq $large, 'without an ordinal the caller gets it';
	$d->finish;
}

SKIP: {
	note '-- a caller that ends while the disk is full';
	my $d = Liminal::Daemon->prepare(name => 'full');
	my $dir = $d->dir . '/persist';
	if ($> != 0 || system("mount -t tmpfs -o size=24m tmpfs $dir 2>/dev/null") != 0) {
		$d->{finished} = 1;
		$d->_remove;
		skip 'cannot mount a small file system', 15;
	}
	$d->run->wait_ready;
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper'], capacity => 3);
	$caller->open(1, $POOL);
	$caller->ask(1, recorded(1));
	$worker->expect('Push');
	await_history($d, 'w-1', 3, 'under way');
	my $staying = $d->client(name => 'staying');
	$staying->open(1, $POOL);
	$staying->ask(1, typed_request('upper', 'x', workflow_id => 'w-2', ordinal => 1));
	my $push = $worker->expect('Push');
	await_history($d, 'w-2', 3, 'another one');
	system "head -c 64M /dev/zero > $dir/fill 2>/dev/null";
	$d->expect_log(qr/the store cannot be written: persist_dir \S+: (?:no space|the disk is nearly full)/i);
	$d->allow_log(qr/outcome not recorded|dispatch record: dropped/);
	# What the file has ahead takes a little more.
	my $other = $d->client(name => 'other');
	my $frame = { type => 'ConversationMessage' };
	$other->open(1, $POOL);
	for (my $n = 0; $n < 100 && $frame->{type} eq 'ConversationMessage'; $n++) {
		$other->ask(1, typed_request('upper', 'x', workflow_id => 'w-full', ordinal => $n));
		my ($who, $got) = Liminal::Client::whoever_gets($other, $worker);
		if ($got && $got->{type} eq 'Push') {
			$worker->reply($got, typed_response('w', output => 'x' x 100_000));
			$got = $other->next_frame;
		}
		$frame = $got // { type => 'nothing' };
	}
	is $frame->{type}, 'ConversationError', 'the disk is full: refused';
	is $frame->{code}, R_PRESSURE, 'under pressure';
	like $frame->{message}, qr/record.*persist_dir/, 'with the reason';
	$worker->reply($push, typed_response('w', output => 'x' x 1_000_000));
	$staying->expect_refusal(1, R_PRESSURE, qr/^the outcome could not be recorded: persist_dir/,
	    'nor is an answer given that is not recorded');
	$caller->hang_up;
	unlink "$dir/fill" or die "unlink: $!";
	my @seen = await_history($d, 'w-1', 4, 'once there is room it is closed');
	is_deeply [brief($seen[3])], ['conversation_closed failed retry'], 'as when there had been';
	@seen = await_history($d, 'w-2', 4, 'so is the one whose caller is still there');
	is_deeply [brief($seen[3])], ['conversation_closed failed retry'], 'without its outcome';
	like $seen[3]{message}, qr/could not be recorded/, 'and it says so';
	$_->hang_up for $worker, $other, $staying;
	$d->stop;
	system "umount -l $dir";
	$d->finish;
}

{
	note '-- no record';
	my $d = Liminal::Daemon->start(name => 'none', conf => 'dispatch { record = false }');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper']);
	$caller->open(1, $POOL);
	for (1, 2) {
		$caller->ask(1, recorded(1));
		my $push = $worker->expect('Push', {}, 'live each time');
		$worker->reply($push, typed_response('w', output => 'X'));
		$caller->expect('ConversationMessage');
	}
	ok !(grep { $_->{title} =~ /\bstore\b/ } $d->children), 'and no store process';
	$d->finish;
}

{
	note '-- retention by count and by age';
	my $d = Liminal::Daemon->start(name => 'few', conf => 'dispatch { record_keep = 3 }');
	my $caller = $d->client(name => 'caller');
	my $worker = $d->worker(name => 'w', types => ['upper'], capacity => 16);
	$caller->open(1, $POOL);
	for my $ordinal (1 .. 6) {
		$caller->ask(1, recorded($ordinal));
		my $push = $worker->expect('Push');
		$worker->reply($push, typed_response('w', output => $ordinal));
		$caller->expect('ConversationMessage');
	}
	my @kept;
	wait_until(sub {
		@kept = map { $_->{ordinal} } grep { $_->{operation} eq 'conversation_closed' } history($d, 'w-1');
		return @kept <= 3;
	}, 'soon no more than three are kept');
	is_deeply \@kept, [4, 5, 6], 'the last three';
	$caller->ask(1, recorded(6));
	$caller->expect_answer(1, typed_response('w', output => 6));
	$caller->ask(1, recorded(1));
	my $push = $worker->expect('Push', {}, 'what was forgotten is live');
	$worker->reply($push, typed_response('w', output => 'anew'));
	$caller->expect('ConversationMessage');
	$d->finish;

	$d = Liminal::Daemon->start(name => 'young', conf => 'dispatch { record_keep_age = "1s" }');
	$caller = $d->client(name => 'caller');
	$worker = $d->worker(name => 'w', types => ['upper']);
	$caller->open(1, $POOL);
	$caller->ask(1, recorded(1));
	$push = $worker->expect('Push');
	$worker->reply($push, typed_response('w', output => 'old'));
	$caller->expect('ConversationMessage');
	wait_until(sub { !history($d, 'w-1') }, 'after its time it is gone');
	$caller->ask(1, recorded(1));
	$push = $worker->expect('Push', {}, 'and live again');
	$worker->reply($push, typed_response('w', output => 'new'));
	$caller->expect('ConversationMessage');
	$d->finish;
}

finish_testing;
