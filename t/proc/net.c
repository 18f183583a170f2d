/* Listening addresses and accepted peers; the runtime directory and its lock. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/net.h"
#include "os/dirlock.h"
#include "os/rundir.h"

static char dir[64];

static void
make_dir(void)
{
	strcpy(dir, "/tmp/liminal-net-XXXXXX");
	cr_assert(ne(ptr, mkdtemp(dir), NULL));
}

static void
remove_dir(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert(zero(int, system(command)));
}

static int
dial(const struct net_listener *listener)
{
	struct sockaddr_storage to;
	socklen_t len = sizeof(to);
	int fd;

	getsockname(listener->fd, (struct sockaddr *)&to, &len);
	fd = socket(to.ss_family, SOCK_STREAM, 0);
	cr_assert(zero(int, connect(fd, (struct sockaddr *)&to, len)));
	return fd;
}

/* Accept what dial() has sent. */
static int
take(const struct net_listener *listener, struct net_peer *peer)
{
	struct pollfd p = { .fd = listener->fd, .events = POLLIN };
	int fd;

	cr_assert(eq(int, poll(&p, 1, 10000), 1));
	fd = net_accept(listener, peer);
	cr_assert(ne(int, fd, -1));
	return fd;
}

static int
get(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	getsockopt(fd, level, option, &value, &len);
	return value;
}

Test(net, port_zero_becomes_a_real_port)
{
	struct net_listener one, two;
	struct err err;
	char same[64];

	cr_assert(zero(int, net_listen(&one, "127.0.0.1:0", NULL)));
	cr_expect(zero(int, strncmp(one.text, "127.0.0.1:", 10)));
	cr_expect(lt(int, 0, atoi(one.text + 10)));

	strcpy(same, one.text);
	cr_expect(eq(int, net_listen(&two, same, &err), ERR_BUSY));
	cr_expect(ne(ptr, strstr(err.text, same), NULL), "%s", err.text);
	net_listener_close(&one);
	net_listener_close(&one);
	cr_expect(zero(int, net_listen(&two, same, &err)));
	net_listener_close(&two);
}

Test(net, ipv6)
{
	struct net_listener listener;
	struct net_peer peer;
	int client, fd;

	if (net_listen(&listener, "[::1]:0", NULL) != 0)
		cr_skip("no IPv6 here");
	cr_expect(zero(int, strncmp(listener.text, "[::1]:", 6)));
	client = dial(&listener);
	fd = take(&listener, &peer);
	cr_expect(zero(int, strncmp(peer.text, "[::1]:", 6)));
	cr_expect(eq(int, peer.is_local, 1));
	cr_expect(eq(int, peer.has_address, 1));
	close(client);
	close(fd);
	net_listener_close(&listener);
}

Test(net, accepted_sockets_have_what_connections_need)
{
	struct net_listener listener;
	struct net_peer peer;
	int client, fd;

	cr_assert(zero(int, net_listen(&listener, "127.0.0.1:0", NULL)));
	cr_expect(eq(int, net_accept(&listener, &peer), -1), "nobody there, and not blocked");
	client = dial(&listener);
	fd = take(&listener, &peer);
	cr_expect(zero(int, strncmp(peer.text, "127.0.0.1:", 10)));
	cr_expect(eq(int, peer.is_local, 1));
	cr_expect(eq(int, get(fd, IPPROTO_TCP, TCP_NODELAY), 1));
	cr_expect(eq(int, get(fd, SOL_SOCKET, SO_KEEPALIVE), 1));
	cr_expect(eq(int, get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60));
	cr_expect(eq(int, get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 15));
	cr_expect(eq(int, get(fd, IPPROTO_TCP, TCP_KEEPCNT), 4));
	cr_expect(ne(int, fcntl(fd, F_GETFL) & O_NONBLOCK, 0));
	cr_expect(ne(int, fcntl(fd, F_GETFD) & FD_CLOEXEC, 0));
	close(client);
	close(fd);
	net_listener_close(&listener);
}

Test(net, what_is_no_address)
{
	static const char *const bad[] = { "", "7677", ":7677", "127.0.0.1:", "127.0.0.1:x",
	    "[::1]", "unix:" };
	struct net_listener listener;
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect(eq(int, net_listen(&listener, bad[i], &err), ERR_INVALID), "%s", bad[i]);
}

Test(net, unix_sockets, .init = make_dir, .fini = remove_dir)
{
	struct net_listener one, two;
	struct net_peer peer;
	struct stat st;
	char address[128], *path = address + strlen("unix:");
	int client, fd;

	snprintf(address, sizeof(address), "unix:%s/s", dir);
	cr_assert(zero(int, net_listen(&one, address, NULL)));
	cr_expect(eq(str, one.text, address));
	client = dial(&one);
	fd = take(&one, &peer);
	cr_expect(zero(int, strcmp(peer.text, "unix")), "%s", peer.text);
	cr_expect(eq(int, peer.is_local, 1));
	cr_expect(zero(int, peer.has_address));
	close(client);
	close(fd);

	cr_expect(eq(int, net_listen(&two, address, NULL), ERR_BUSY), "somebody answers");

	/* Its owner dies without a word. */
	close(one.fd);
	cr_expect(zero(int, lstat(path, &st)));
	cr_assert(zero(int, net_listen(&two, address, NULL)), "stale");
	net_listener_close(&two);
	cr_expect(eq(int, lstat(path, &st), -1), "removed");
}

Test(net, only_sockets_are_replaced, .init = make_dir, .fini = remove_dir)
{
	struct net_listener listener;
	struct stat st;
	char address[128], *path = address + strlen("unix:");

	snprintf(address, sizeof(address), "unix:%s/s", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	cr_expect(eq(int, net_listen(&listener, address, NULL), ERR_BUSY));
	cr_expect(zero(int, lstat(path, &st)));
	cr_expect(ne(int, S_ISREG(st.st_mode), 0));
}

Test(rundir, made_private_below_an_existing_parent, .init = make_dir, .fini = remove_dir)
{
	struct err err;
	struct stat st;
	char path[128];
	int lock;

	snprintf(path, sizeof(path), "%s/a/b", dir);
	cr_expect(eq(int, rundir_open(path, (uid_t)-1, (gid_t)-1, &lock, &err), ERR_SYSTEM));
	cr_expect(ne(ptr, strstr(err.text, path), NULL), "%s", err.text);

	snprintf(path, sizeof(path), "%s/a", dir);
	cr_assert(zero(int, rundir_open(path, (uid_t)-1, (gid_t)-1, &lock, &err)));
	cr_expect(zero(int, stat(path, &st)));
	cr_expect(eq(int, st.st_mode & 07777, 0700));
	dirlock_close(lock);

	snprintf(path, sizeof(path), "%s/file", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	cr_expect(eq(int, rundir_open(path, (uid_t)-1, (gid_t)-1, &lock, &err), ERR_SYSTEM));
}

/* The owner dies and leaves a child: the directory is taken until that is gone too. */
Test(rundir, an_orphan_keeps_the_lock, .init = make_dir, .fini = remove_dir)
{
	struct err err;
	char mine[24], line[24] = "";
	int lock, ends[2], fd;
	int64_t begin;
	pid_t orphan;

	cr_assert(zero(int, pipe(ends)));
	if (fork() == 0) {
		if (rundir_open(dir, (uid_t)-1, (gid_t)-1, &lock, NULL) != 0)
			_exit(1);
		orphan = fork();
		if (orphan == 0)
			for (;;)
				pause();
		(void)!write(ends[1], &orphan, sizeof(orphan));
		_exit(0);
	}
	cr_assert(eq(int, (int)read(ends[0], &orphan, sizeof(orphan)), (int)sizeof(orphan)));
	wait(NULL);

	begin = clock_now_ns();
	cr_expect(eq(int, rundir_open(dir, (uid_t)-1, (gid_t)-1, &lock, &err), ERR_BUSY));
	cr_expect(le(i64, 5 * CLOCK_SECOND, clock_now_ns() - begin), "it was given time");
	cr_expect(ne(ptr, strstr(err.text, "pid"), NULL), "%s", err.text);

	kill(orphan, SIGKILL);
	cr_assert(zero(int, rundir_open(dir, (uid_t)-1, (gid_t)-1, &lock, &err)));
	snprintf(mine, sizeof(mine), "%d\n", (int)getpid());
	snprintf(err.text, sizeof(err.text), "%s/liminald.lock", dir);
	fd = open(err.text, O_RDONLY);
	(void)!read(fd, line, sizeof(line) - 1);
	close(fd);
	cr_expect(eq(str, line, mine));
	dirlock_close(lock);
}
