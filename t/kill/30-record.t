# Everything is killed at random moments, again and again, on one record: an outcome that a
# caller has seen is the answer for ever, whatever was killed; nothing is answered that no worker
# said; and each dispatch is closed once. (E8, E10)
#
# LIMINAL_ROUNDS: how many times (default 30). LIMINAL_SEED: repeats a choice of moments.
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Time::HiRes 'sleep';
use Liminal;
use Liminal::Tool;
use Liminal::Wire;

my $ROUNDS = $ENV{LIMINAL_ROUNDS} || 30;
my $SEED = $ENV{LIMINAL_SEED} || time;
my ($PER_ROUND, $OUTSTANDING) = (60, 16);
note "LIMINAL_ROUNDS=$ROUNDS LIMINAL_SEED=$SEED";
srand $SEED;

my $base = Liminal::Daemon->prepare(name => 'base');
my (%seen, %said);	# by ordinal: what the caller got; what workers ever answered
my ($ordinal, $nonce, $replayed, @faults) = (0, 0, 0);

sub request ($n) { return typed_request('t', 'x' x 100, workflow_id => 'w', ordinal => 0 + $n) }

# Ask for ORDINALS, working at the same time, until they are answered or KILL_AT frames have come.
sub play ($d, $kill_at, @ordinals) {
	my ($caller, $worker) = ($d->client(name => 'caller'), $d->worker(name => 'w', capacity => $OUTSTANDING));
	$caller->open(1, 'aion.dispatch.test.jobs');
	my ($frames, @waiting) = (0);
	while (@ordinals || @waiting) {
		while (@ordinals && @waiting < $OUTSTANDING) {
			push @waiting, shift @ordinals;
			$caller->ask(1, request($waiting[-1]));
		}
		my ($who, $frame) = Liminal::Client::whoever_gets($caller, $worker);
		if (!$frame) {
			push @faults, "no answer for @waiting";
			last;
		}
		last if ++$frames == $kill_at;
		if ($frame->{type} eq 'Push') {
			my ($n) = $frame->{payload} =~ /"ordinal":(\d+)/;
			push @faults, "ordinal $n had been answered and touches a worker" if exists $seen{$n};
			my $answer = typed_response('w', output => ++$nonce);
			$said{$n}{$answer} = 1;
			$worker->reply($frame, $answer);
		} elsif ($frame->{type} eq 'ConversationMessage') {
			my $n = shift @waiting;
			$replayed++ if exists $seen{$n};
			push @faults, "ordinal $n is answered anew: $frame->{payload}, was $seen{$n}"
			    if exists $seen{$n} && $seen{$n} ne $frame->{payload};
			push @faults, "ordinal $n: nobody said $frame->{payload}" if !$said{$n}{$frame->{payload}};
			$seen{$n} = $frame->{payload};
		} else {
			push @faults, show_frame($frame);
			last;
		}
		@{ $_->{transcript} } = () for $caller, $worker;
	}
	return;
}

for my $round (1 .. $ROUNDS) {
	my $d = Liminal::Daemon->start(name => "round $round", dir => $base->dir);
	$d->allow_log(qr/killed by signal|keeper|store|conn=/);
	my @some = grep { rand() < 0.3 } keys %seen;
	splice @some, 20 if @some > 20;
	my @unknown = grep { !exists $seen{$_} } 1 .. $ordinal;
	my @new = map { ++$ordinal } 1 .. $PER_ROUND;
	# Some rounds lose the store process only, and go on.
	if ($round % 3 == 0) {
		my $pid = fork // die "fork: $!";
		if (!$pid) {
			my ($store) = grep { $_->{title} =~ /\bstore\b/ } $d->children;
			sleep rand 0.2;
			kill 'KILL', $store->{pid} if $store;
			POSIX::_exit(0);
		}
		play($d, 0, @some, @unknown, @new);
		waitpid $pid, 0;
	} else {
		play($d, 1 + int rand 2 * $PER_ROUND, @some, @unknown, @new);
	}
	kill 'KILL', map { $_->{pid} } $d->processes;
	$d->kill9;
	$d->{finished} = 1;
	last if @faults;
}

my $d = Liminal::Daemon->start(name => 'last', dir => $base->dir);
play($d, 0, sort { $a <=> $b } keys %seen);
play($d, 0, grep { !exists $seen{$_} } 1 .. $ordinal);
is_deeply \@faults, [], 'each answer that was seen is the answer for ever, and nothing is invented';
cmp_ok $replayed, '>=', scalar(keys %seen) / 2, "answered from the record: $replayed";

my (%open, %closed, @order);
my $run = tool_await(tool_start($d->dir, ['history', '-d', $d->dir . '/persist', '-j', 'w']));
for my $o (json_of($run)) {
	$open{ $o->{dispatch} }++ if $o->{operation} eq 'conversation_opened';
	$closed{ $o->{dispatch} }++ if $o->{operation} eq 'conversation_closed';
	push @order, "dispatch $o->{dispatch}: $o->{operation} while not open"
	    if !$open{ $o->{dispatch} } || ($closed{ $o->{dispatch} } // 0) > ($o->{operation} eq 'conversation_closed');
}
is_deeply \@order, [], 'each operation stands between an opening and a close';
is_deeply \%closed, \%open, 'each dispatch was opened once and closed once';
$d->finish;
$base->finish;
finish_testing;
