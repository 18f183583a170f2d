/*
 * bare: what forking and sockets alone can do. A publisher's process reads bytes and writes them to each
 * subscriber, one after the other; it knows no channels, no messages and no acknowledgements.
 * A slow subscriber stops everybody, so it is no broker, but a measure for them.
 *
 * It takes subscribers until a publisher comes, who gets all of them; then it begins anew.
 */
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pubsub.h"

#define READ_SIZE	65536

static void
write_all(int fd, const uint8_t *at, size_t left)
{
	ssize_t n;

	for (; left > 0; at += n, left -= (size_t)n)
		if ((n = write(fd, at, left)) <= 0)
			_exit(1);
}

_Noreturn static void
serve_publisher(int fd, const int *subscribers, unsigned n_subscribers)
{
	static uint8_t bytes[READ_SIZE];
	unsigned i;
	ssize_t n;

	while ((n = read(fd, bytes, sizeof bytes)) > 0)
		for (i = 0; i < n_subscribers; i++)
			write_all(subscribers[i], bytes, (size_t)n);
	_exit(n < 0);
}

/* The first byte of a connection is its role; a subscriber gets it back. */
_Noreturn static void
serve(int listener)
{
	int subscribers[BENCH_MAX_CLIENTS], fd, one = 1;
	unsigned n = 0;
	char role;

	signal(SIGCHLD, SIG_IGN);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (read(fd, &role, 1) != 1) {
			close(fd);
		} else if (role == 's' && n < BENCH_MAX_CLIENTS) {
			write_all(fd, (const uint8_t *)&role, 1);
			subscribers[n++] = fd;
		} else {
			if (bench_fork() == 0)
				serve_publisher(fd, subscribers, n);
			close(fd);
			while (n > 0)
				close(subscribers[--n]);
		}
	}
	_exit(1);
}

static int
bare_start(struct bench_server *server)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (listener < 0 || bind(listener, (const struct sockaddr *)&server->address,
	    sizeof server->address) != 0 || listen(listener, BENCH_MAX_CLIENTS) != 0)
		return bench_complain("bare: cannot listen on port %s", server->port);
	if ((server->pid = bench_fork()) == 0)
		serve(listener);
	close(listener);
	return server->pid > 0 ? 0 : bench_complain("bare: cannot fork");
}

static int
bare_open(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];
	int is_subscriber = client->role == BENCH_SUBSCRIBER;

	if (bench_conn_open(conn, client->server) != 0 ||
	    bench_conn_append(conn, is_subscriber ? "s" : "p", 1) != 0 ||
	    bench_conn_flush(conn) != 0)
		return -1;
	if (!is_subscriber)
		return 0;
	if (bench_conn_fill(conn) != 0)
		return -1;
	buf_consume(&conn->in, 1);
	return 0;
}

static int
bare_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	(void)client;
	return buf_append(out, message.data, message.len) == 0 ? 0 :
	    bench_complain("out of memory");
}

/* Its process ends when it has written everything. */
static int
bare_finish(struct bench_client *client)
{
	char byte;

	shutdown(client->conn[0].fd, SHUT_WR);
	return read(client->conn[0].fd, &byte, 1) == 0 ? 0 :
	    bench_complain("bare: the publisher's process has failed");
}

static int
bare_take(struct bench_client *client, struct bench_view *messages, unsigned max, size_t *used)
{
	return bench_take_framed(client, messages, max, 0, used);
}

static int
bare_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

static const struct bench_pubsub pubsub_bare = {
	.open = bare_open,
	.encode = bare_encode,
	.finish = bare_finish,
	.take = bare_take,
};

const struct bench_driver bench_driver_bare = {
	.name = "bare",
	.start = bare_start, .bye = bare_bye, .pubsub = &pubsub_bare,
};
