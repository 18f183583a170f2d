# What bash offers behind "liminal": all that there is, and nothing that there is not. (H5)
use v5.36;
use FindBin;
use lib "$FindBin::Bin/../tools";
use Test::More;
use Liminal;
use Liminal::Tool;

my $SRC = $ENV{LIMINAL_SRCDIR} || "$FindBin::Bin/../..";
plan skip_all => 'no bash' if !grep { -x "$_/bash" } split /:/, $ENV{PATH};
my $d = Liminal::Daemon->start(name => 'completed', conf => 'channel "news" { } channel "orders" { }');

# The offers for a line of WORDS, the last of which is being typed.
sub offers (@words) {
	my $run = tool_await(tool_start($d->dir, ['-c', <<'SCRIPT', $SRC, $Liminal::Tool::PROGRAM, @words], program => ['bash'], env => { LIMINAL_RUNTIME_DIR => $d->dir . '/run' }));
source "$0/contrib/completions/liminal"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_liminal
printf '%s\n' "${COMPREPLY[@]}"
SCRIPT
	is $run->{err}, '', "liminal @words" . '<TAB>';
	return sort grep { length } split /\n/, $run->{out};
}

my @subcommands = tool_await(tool_start($d->dir, ['-h']))->{out} =~ /^  (\w+) /mg;
cmp_ok scalar @subcommands, '>', 15, 'the tool names its subcommands';
is_deeply [offers('')], [sort @subcommands, '-h', '-V'], 'all of them are offered';
is_deeply [offers('co')], [qw(connections conversations)], 'those that begin like that';
for my $subcommand (@subcommands) {
	my $help = tool_await(tool_start($d->dir, [$subcommand, '-h']))->{out};
	my @takes = grep { defined } $help =~ /^  (--?[\w-]+)|\((-\w)\)$/mg;
	cmp_ok scalar @takes, '>=', 2, "$subcommand has options";
	my %offered = map { $_ => 1 } offers($subcommand, '-');
	is_deeply [grep { !$offered{$_} } sort @takes], [], "$subcommand: every option";
}
is_deeply [offers('dump', 'pen')], ['pending'], 'tables';
is_deeply [offers('dump', '-p', '/tmp', '')], [qw(channels closed consumers history keys keys_by_age messages meta open workflows)], 'tables of the store';
is_deeply [offers('crash', '-s', 'S')], ['SEGV', 'STOP'], 'signals';
is_deeply [offers('work', 'a/b', '--', 'bas')] , [grep { /^bas/ } offers('work', 'a/b', '--', 'bas')], 'programs';
ok scalar(grep { $_ eq 'bash' } offers('work', 'a/b', '--', 'bas')), 'such as this one';

note '-- what there is now';
my $worker = $d->worker(name => 'w', namespaces => ['default'], queue => 'emails');
my $id = $d->conn_id_of($worker);
my @dir = ('-d', $d->dir . '/run');
is_deeply [offers('crash', @dir, '')], [$id], 'connections';
is_deeply [offers('dispatch', @dir, 'def')], ['default/emails'], 'pools';
is_deeply [offers('subscribe', 'ne')], ['news'], 'channels';
is_deeply [offers('publish', '-l', '')], ['news', 'orders'], 'all of them';
is_deeply [offers('subscribe', '--from', '')], ['start'], 'where to begin';
is_deeply [offers('crash', '-d', '/nonexistent', '')], [], 'or nothing';

$d->finish;
done_testing;
