# The disk is full, the store's map is full, the directory became read-only: publishers to durable channels
# read why, everything else goes on, what was acknowledged stays, and room that is freed is used again. (issue of
# channels; G3)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Wire;

my $CONF = <<~'CONF';
	channel "orders" { durable = true  keep_messages = 1000000  keep_bytes = "8G" }
	channel "rolling" { durable = true  keep_messages = 20 }
	channel "fast" { }
	CONF

# Publish to orders, 50,000 bytes each, until one is refused or LIMIT are taken: (numbers that were acknowledged, the
# PublishError).
my $number = 0;
sub publish_until_refused ($c, $limit) {
	my @acked;
	for (1 .. $limit) {
		my @batch = map { ++$number } 1 .. 8;
		$c->send_all(map { ['Publish', channel => 'orders', payload => pack('N', $_) . 'x' x 50_000, stream => $_] } @batch);
		my $refused;
		for my $n (@batch) {
			my $frame = $c->next_frame // return (\@acked, { type => 'nothing' });
			push @acked, $frame->{stream} if $frame->{type} eq 'PublishAck';
			$refused //= $frame if $frame->{type} ne 'PublishAck';
		}
		return (\@acked, $refused) if $refused;
	}
	return (\@acked, undef);
}

# Everything else: an ephemeral channel, conversations, a new client.
sub all_else_goes_on ($d, $name) {
	my $s = $d->client(name => 'new');
	$s->subscribe('fast');
	my $p = $d->client(name => 'fast');
	is $p->publish('fast', 'still')->{flags}, F_DELIVERED, "$name: ephemeral channels go on";
	$s->expect_deliveries(['still'], $name);
	$p->open(1, 'echo')->ask(1, 'hello');
	$p->expect_answer(1, 'hello', "$name: so do conversations");
	$_->hang_up for $s, $p;
	return;
}

# All of ACKED are there, in order, and nothing twice.
sub all_are_there ($d, $acked, $head, $name) {
	my $c = $d->client(name => "check$head");
	$c->subscribe('orders', max_in_flight => 1_000_000, consumer => "check$head", start => START_OLDEST);
	my (@sequences, @numbers);
	$c->gather(sub ($stream, $sequence, $payload, $flags) { push @sequences, $sequence; push @numbers, unpack 'N', $payload });
	Liminal::Client::pump([$c], sub { @numbers && $numbers[-1] == $head });
	is_deeply \@sequences, [1 .. @sequences], "$name: gapless";
	my %there = map { $_ => 1 } @numbers;
	is scalar(keys %there), scalar(@numbers), "$name: nothing twice";
	is scalar(grep { !$there{$_} } @$acked), 0, "$name: all that were acknowledged are there";
	is scalar(@numbers), scalar(@$acked), "$name: and nothing else";
	$c->hang_up;
	return;
}

# Room comes back only when the daemon has noticed: the number that is acknowledged then.
sub publish_again ($c, $name) {
	my $acked;
	wait_until(sub {
		$number++;
		$c->send('Publish', channel => 'orders', payload => pack('N', $number) . 'again', stream => $number);
		my $frame = $c->next_frame // { type => 'nothing' };
		$acked = $number if $frame->{type} eq 'PublishAck';
		return $acked;
	}, "$name: publishes are taken again");
	return $acked // ();
}

# Pressure is what it is; that publishes know only one other reason may be read out of wire.md as well.
sub is_pressure ($frame, $name) {
	return ok !!(grep { ($frame->{code} // 0) == $_ } R_PRESSURE, R_OTHER), $name;
}

my $SKIPPED = 'cannot mount a small file system';

sub mount_small ($name, $size) {
	my $d = Liminal::Daemon->prepare(name => $name, conf => $CONF);
	my $dir = $d->dir . '/persist';
	if ($> != 0 || system("mount -t tmpfs -o size=$size tmpfs $dir 2>/dev/null") != 0) {
		$d->{finished} = 1;
		$d->_remove;
		return;
	}
	return ($d->run->wait_ready, $dir);
}

sub done_with ($d, $dir) {
	$_->hang_up for grep { defined } @{ $d->{clients} };
	is $d->stop, 0, 'the daemon ends well';
	system "umount -l $dir";
	$d->finish;
	return;
}

SKIP: {
	note '-- the disk is full';
	my ($d, $dir) = mount_small('disk', '40m');
	skip $SKIPPED, 20 if !$d;
	$d->allow_log(qr/persist_dir|store|disk/);
	my $p = $d->client(name => 'publisher');
	my $s = $d->client(name => 'subscriber');
	$s->subscribe('orders');
	my $n = 0;
	$s->gather(sub { $n++ });
	my ($acked, $refused) = publish_until_refused($p, 500);
	is $refused->{type} // 'nothing', 'PublishError', 'refused when it is full';
	is_pressure $refused, 'under pressure';
	like $refused->{message} // '', qr/persist_dir.*(?:space|full)/, 'and it says what is full';
	cmp_ok scalar @$acked, '>', 100, 'what there was room for was taken';
	$p->send('Publish', channel => 'orders', payload => 'x' x 50_000);
	$p->expect('PublishError', {}, 'refused again');
	all_else_goes_on($d, 'disk full');
	ok Liminal::Client::pump([$s], sub { $n >= @$acked }), 'subscribers get what was acknowledged';
	$s->barrier;
	is $n, scalar @$acked, 'and nothing else';
	ok system("mount -o remount,size=80m $dir") == 0, 'more room';
	push @$acked, publish_again($p, 'more room');
	all_are_there($d, $acked, $acked->[-1], 'more room');
	(my $more, $refused) = publish_until_refused($p, 500);
	push @$acked, @$more;
	is $refused->{type} // 'nothing', 'PublishError', 'until it is full again';
	cmp_ok scalar @$more, '>', 100, 'the room was used';
	# Retention needs no room that is not there.
	my $rolled = 0;
	for (1 .. 300) {
		$p->send('Publish', channel => 'rolling', payload => 'r' x 10);
		$rolled += ($p->next_frame // { type => '' })->{type} eq 'PublishAck';
	}
	note "rolling: $rolled of 300 were taken while the disk was full";
	$d->kill9;
	system "mount -o remount,size=120m $dir";
	my $again = Liminal::Daemon->start(name => 'disk again', conf => $CONF, dir => $d->dir);
	$p = $again->client(name => 'publisher');
	push @$acked, publish_again($p, 'after kill -9 with a full disk');
	all_are_there($again, $acked, $acked->[-1], 'after kill -9 with a full disk');
	done_with($again, $dir);
	$d->finish;
}

SKIP: {
	note '-- something else fills the disk, and is removed';
	my ($d, $dir) = mount_small('filled', '40m');
	skip $SKIPPED, 10 if !$d;
	$d->allow_log(qr/persist_dir|store|disk/);
	my $p = $d->client(name => 'publisher');
	$p->publish('orders', pack('N', ++$number) . 'first');
	my @acked = ($number);
	system "head -c 64M /dev/zero > $dir/fill 2>/dev/null";
	my ($taken, $refused) = publish_until_refused($p, 500);
	push @acked, @$taken;
	is $refused->{type} // 'nothing', 'PublishError', 'refused';
	is_pressure $refused, 'under pressure';
	all_else_goes_on($d, 'filled');
	unlink "$dir/fill";
	push @acked, publish_again($p, 'removed');
	all_are_there($d, \@acked, $acked[-1], 'removed');
	done_with($d, $dir);
}

SKIP: {
	note '-- the directory becomes read-only';
	my $d = Liminal::Daemon->prepare(name => 'readonly', conf => $CONF);
	my $dir = $d->dir . '/persist';
	$d->run->wait_ready;
	my $p = $d->client(name => 'publisher');
	$p->publish('orders', pack('N', ++$number) . 'first');
	my @acked = ($number);
	if ($> != 0 || system("mount --bind $dir $dir 2>/dev/null && mount -o remount,bind,ro $dir 2>/dev/null") != 0) {
		system "umount -l $dir 2>/dev/null";
		$d->finish;
		skip 'cannot mount', 10;
	}
	$d->allow_log(qr/persist_dir|store/);
	$d->expect_log(qr/store ended .*killed by signal 9/);
	kill 'KILL', $d->service_pid('store');
	my $began = now;
	$p->send('Publish', channel => 'orders', payload => 'refused');
	$p->expect('PublishError', { message => qr/persist_dir.*read-only/i }, 'refused, and it says why');
	cmp_ok now - $began, '<', 10 + slack, 'soon';
	all_else_goes_on($d, 'read-only');
	my $c = $d->client(name => 'reader');
	$c->send('Subscribe', channel => 'orders', max_in_flight => 1, stream => 1);
	$c->expect('SubscribeAck', {}, 'a plain subscription is possible');
	$c->hang_up;
	system "umount -l $dir";
	push @acked, publish_again($p, 'writable again');
	all_are_there($d, \@acked, $acked[-1], 'writable again');
	$_->hang_up for $p;
	$d->finish;
}

SKIP: {
	note '-- the store\'s map is full';
	skip 'a sanitizer needs more address space than this leaves', 10 if $ENV{LIMINAL_SANITIZED};
	my $d = eval { Liminal::Daemon->start(name => 'map', conf => $CONF, ulimit => '-v 1200000') };
	skip 'cannot run with little address space', 10 if !$d;
	$d->allow_log(qr/persist_dir|store|runtime_dir|state/);
	my $p = $d->client(name => 'publisher');
	my ($acked, $refused) = publish_until_refused($p, 1000);
	is $refused->{type} // 'nothing', 'PublishError', 'refused when it is full';
	is_pressure $refused, 'under pressure';
	like $refused->{message} // '', qr/store.*full|persist_dir.*full/, 'and it says what is full';
	note 'taken: ' . @$acked;
	all_else_goes_on($d, 'map full');
	$_->hang_up for $p;
	is $d->stop, 0;
	my $roomy = Liminal::Daemon->start(name => 'roomy', conf => $CONF, dir => $d->dir);
	push @$acked, publish_again($roomy->client(name => 'publisher'), 'a larger map');
	all_are_there($roomy, $acked, $acked->[-1], 'a larger map');
	is $roomy->stop, 0;
	# A smaller bound frees room.
	my $again = Liminal::Daemon->start(name => 'smaller', conf => $CONF =~ s/keep_messages = 1000000/keep_messages = 100/r,
	    dir => $d->dir, ulimit => '-v 1200000');
	# The log is one file.
	$_->allow_log(qr/persist_dir|store/) for $again, $roomy;
	$p = $again->client(name => 'publisher');
	publish_again($p, 'a smaller bound');
	my ($more, $again_refused) = publish_until_refused($p, 100);
	is $again_refused, undef, 'room that is freed is used again';
	is scalar @$more, 800, 'for ever';
	$_->hang_up for $p;
	$_->finish for $again, $roomy, $d;
}

finish_testing;
