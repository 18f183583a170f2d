/*
 * address: from "host:port", "[v6]:port" or "unix:/path" to a connected socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "client/client.h"

#define ADDRESS_HOST_SIZE	256
#define ADDRESS_PORT_SIZE	6

/* A peer whose machine vanished is noticed after a minute: 30 s of silence, then 3 probes. */
#define ADDRESS_KEEPALIVE_IDLE_S	30
#define ADDRESS_KEEPALIVE_INTERVAL_S	10
#define ADDRESS_KEEPALIVE_PROBES	3

struct address {
	char host[ADDRESS_HOST_SIZE];
	char port[ADDRESS_PORT_SIZE];
};

/* 0, or -1 if it is no address. */
static int
address_parse(const char *text, struct address *address)
{
	const char *colon = strrchr(text, ':'), *host = text;
	size_t host_len, port_len;
	unsigned long port;

	if (colon == NULL)
		return -1;
	host_len = (size_t)(colon - text);
	if (text[0] == '[') {
		if (host_len < 3 || text[host_len - 1] != ']')
			return -1;
		host++;
		host_len -= 2;
	} else if (memchr(text, ':', host_len) != NULL)
		return -1;
	port_len = strlen(colon + 1);
	if (host_len == 0 || host_len >= sizeof(address->host) || port_len == 0 ||
	    port_len >= sizeof(address->port) ||
	    strspn(colon + 1, "0123456789") != port_len)
		return -1;
	port = strtoul(colon + 1, NULL, 10);
	if (port < 1 || port > 65535)
		return -1;
	memcpy(address->host, host, host_len);
	address->host[host_len] = '\0';
	memcpy(address->port, colon + 1, port_len + 1);
	return 0;
}

static void
address_set_options(int fd)
{
	int one = 1, idle = ADDRESS_KEEPALIVE_IDLE_S, probes = ADDRESS_KEEPALIVE_PROBES,
	    interval = ADDRESS_KEEPALIVE_INTERVAL_S;

	/* Whatever is refused here costs time, not correctness. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* Wait until the connection under way is there. 0 or an errno. */
static int
address_await(int fd, struct client_wait *wait)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int64_t deadline = client_deadline(wait);
	socklen_t len = sizeof(int);
	int n, error = 0;

	while ((n = poll(&pfd, 1, clock_poll_ms(deadline, clock_now_ns()))) < 0)
		if (errno != EINTR)
			return errno;
	if (n == 0)
		return ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

/* 0 or an errno. */
static int
address_try(const struct addrinfo *info, struct client_wait *wait, int *out)
{
	int fd, error = 0;

	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return errno;
	address_set_options(fd);
	if (connect(fd, info->ai_addr, info->ai_addrlen) != 0) {
		error = errno;
		if (error == EINPROGRESS || error == EINTR)
			error = address_await(fd, wait);
	}
	if (error == 0 && fcntl(fd, F_SETFL, 0) != 0)
		error = errno;
	if (error != 0) {
		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

static int
address_failed(struct liminal *conn, const char *text, int error)
{
	switch (error) {
	case ETIMEDOUT:
	case EAGAIN:
		return client_fail(conn, LIMINAL_TIMED_OUT, "%s: no connection in time", text);
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return client_fail(conn, LIMINAL_SYSTEM, "%s: %s", text, strerror(error));
	default:
		return client_fail(conn, LIMINAL_DISCONNECTED, "%s: %s", text, strerror(error));
	}
}

static int
address_connect_tcp(struct liminal *conn, const char *text, struct client_wait *wait)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV }, *list, *info;
	struct address address;
	int error, fd = -1;

	if (address_parse(text, &address) != 0)
		return client_fail(conn, LIMINAL_INVALID,
		    "\"%s\" is no address: host:port, [v6]:port or unix:/path", text);
	if ((error = getaddrinfo(address.host, address.port, &hints, &list)) != 0)
		return client_fail(conn, LIMINAL_SYSTEM, "%s: %s", text, gai_strerror(error));
	for (info = list; info != NULL; info = info->ai_next)
		if ((error = address_try(info, wait, &fd)) == 0)
			break;
	freeaddrinfo(list);
	if (fd < 0)
		return address_failed(conn, text, error);
	conn->fd = fd;
	return LIMINAL_OK;
}

static int
address_connect_unix(struct liminal *conn, const char *text, struct client_wait *wait)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *path = text + strlen("unix:");
	size_t len = strlen(path);
	struct timeval limit = { 0 };
	int fd, error, left_ms;

	if (len == 0 || len >= sizeof(sun.sun_path))
		return client_fail(conn, LIMINAL_INVALID,
		    "\"%s\": the path of a socket has 1 to %zu bytes", text,
		    sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, len);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
		return address_failed(conn, text, errno);
	/* A full backlog makes connect(2) wait, for as long as a send may take; it is a state that
	 * poll(2) cannot wait for. 0 would be no limit. */
	left_ms = clock_poll_ms(client_deadline(wait), clock_now_ns());
	if (left_ms == 0)
		limit.tv_usec = 1;
	else if (left_ms > 0) {
		limit.tv_sec = left_ms / 1000;
		limit.tv_usec = left_ms % 1000 * 1000;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	do
		error = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 ? 0 : errno;
	while (error == EINTR);
	if (error != 0) {
		close(fd);
		return address_failed(conn, text, error);
	}
	conn->fd = fd;
	return LIMINAL_OK;
}

int
client_connect(struct liminal *conn, const char *address, struct client_wait *wait)
{
	if (strncmp(address, "unix:", strlen("unix:")) == 0)
		return address_connect_unix(conn, address, wait);
	return address_connect_tcp(conn, address, wait);
}
