/*
 * client: sockets and buffers of one bench client, the same for every server.
 *
 * Blocking sockets with TCP_NODELAY. Output is gathered until the input is used up and then
 * written at once, which is what the fast clients of each of these servers do.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pubsub.h"

#define READ_SIZE	65536u

int
bench_complain(const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "bench: %s\n", text);
	return -1;
}

int
bench_conn_open(struct bench_conn *conn, const struct bench_server *server)
{
	const struct timeval bound = { .tv_sec = BENCH_WAIT_NS / 1000000000 };
	int one = 1;

	conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (conn->fd < 0)
		return bench_complain("socket: %s", strerror(errno));
	setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
	if (connect(conn->fd, (const struct sockaddr *)&server->address,
	    sizeof server->address) != 0) {
		bench_complain("connect to %s: %s", server->driver->name, strerror(errno));
		close(conn->fd);
		conn->fd = -1;
		return -1;
	}
	return 0;
}

int
bench_conn_append(struct bench_conn *conn, const void *bytes, size_t len)
{
	return buf_append(&conn->out, bytes, len) == 0 ? 0 : bench_complain("out of memory");
}

int
bench_conn_printf(struct bench_conn *conn, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return bench_conn_append(conn, text, (size_t)n);
}

static int
read_some(struct bench_conn *conn, int flags)
{
	uint8_t *room = buf_reserve(&conn->in, READ_SIZE);
	ssize_t n;

	if (room == NULL)
		return bench_complain("out of memory");
	do
		n = recv(conn->fd, room, READ_SIZE, flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (flags & MSG_DONTWAIT) && errno == EAGAIN)
		return 0;
	if (n < 0)
		return bench_complain("recv: %s",
		    errno == EAGAIN ? "no answer in time" : strerror(errno));
	if (n == 0)
		return bench_complain("the server closed a connection");
	buf_commit(&conn->in, (size_t)n);
	return 0;
}

int
bench_conn_fill(struct bench_conn *conn)
{
	return read_some(conn, 0);
}

int
bench_conn_poll(struct bench_conn *conn)
{
	return read_some(conn, MSG_DONTWAIT);
}

/* Reads meanwhile, because a server may stop to read from those who do not. */
int
bench_conn_flush(struct bench_conn *conn)
{
	struct pollfd pfd = { .fd = conn->fd, .events = POLLIN | POLLOUT };
	ssize_t n;

	while (buf_len(&conn->out) > 0) {
		n = send(conn->fd, buf_head(&conn->out), buf_len(&conn->out),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			buf_consume(&conn->out, (size_t)n);
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return bench_complain("send: %s", strerror(errno));
		if (poll(&pfd, 1, (int)(BENCH_WAIT_NS / 1000000)) == 0)
			return bench_complain("send: the server does not read");
		if ((pfd.revents & POLLIN) && bench_conn_poll(conn) != 0)
			return -1;
	}
	return 0;
}

const char *
bench_conn_line(struct bench_conn *conn, size_t *len, size_t *used)
{
	const char *start, *end;

	if (buf_len(&conn->in) < 2)
		return NULL;
	start = (const char *)buf_head(&conn->in);
	end = memchr(start, '\n', buf_len(&conn->in));
	if (end == NULL)
		return NULL;
	*used = (size_t)(end - start) + 1;
	*len = *used - (end > start && end[-1] == '\r' ? 2 : 1);
	return start;
}

int
bench_conn_expect(struct bench_conn *conn, const char *expected)
{
	size_t len, used;
	const char *line;

	if (bench_conn_flush(conn) != 0)
		return -1;
	while ((line = bench_conn_line(conn, &len, &used)) == NULL)
		if (bench_conn_fill(conn) != 0)
			return -1;
	if (len < strlen(expected) || memcmp(line, expected, strlen(expected)) != 0)
		return bench_complain("expected \"%s\", got \"%.*s\"", expected, (int)len, line);
	buf_consume(&conn->in, used);
	return 0;
}

int
bench_client_open(struct bench_client *client, const struct bench_server *server,
    enum bench_role role, const char *queue, unsigned index, unsigned capacity)
{
	client->role = role;
	client->server = server;
	client->queue = queue;
	client->index = index;
	client->capacity = capacity;
	client->conn[0].fd = client->conn[1].fd = -1;
	memset(client->state, 0, sizeof client->state);
	client->token_len = 0;
	if (role == BENCH_PUBLISHER || role == BENCH_SUBSCRIBER)
		return server->driver->pubsub->open(client);
	return server->driver->open(client);
}

void
bench_client_close(struct bench_client *client)
{
	struct bench_conn *conn;
	int i;

	for (i = 0; i < 2; i++) {
		conn = &client->conn[i];
		if (conn->fd >= 0)
			close(conn->fd);
		conn->fd = -1;
		buf_consume(&conn->in, buf_len(&conn->in));
		buf_consume(&conn->out, buf_len(&conn->out));
	}
}

int
bench_client_flush(struct bench_client *client)
{
	if (client->conn[1].fd >= 0 && bench_conn_flush(&client->conn[1]) != 0)
		return -1;
	return bench_conn_flush(&client->conn[0]);
}

int
bench_client_next(struct bench_client *client, struct bench_view *content)
{
	int r;

	for (;;) {
		r = client->server->driver->receive(client, content);
		if (r != 0)
			return r == 1 ? 0 : -1;
		if (bench_client_flush(client) != 0 || bench_conn_fill(&client->conn[0]) != 0)
			return -1;
	}
}
