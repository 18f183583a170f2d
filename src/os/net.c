/* net: see net.h. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/net.h"

/* A peer host that has vanished is noticed after 60 + 4 * 15 s = 2 minutes of silence; the
 * kernel's own default is more than two hours. */
#define NET_KEEPALIVE_IDLE_S		60
#define NET_KEEPALIVE_INTERVAL_S	15
#define NET_KEEPALIVE_COUNT		4

#define NET_UNIX_PREFIX "unix:"

union net_sockaddr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
};

static void
net_text(const union net_sockaddr *from, char *text, size_t size)
{
	char ip[INET6_ADDRSTRLEN];

	switch (from->sa.sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &from->in.sin_addr, ip, sizeof(ip));
		snprintf(text, size, "%s:%u", ip, ntohs(from->in.sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &from->in6.sin6_addr, ip, sizeof(ip));
		snprintf(text, size, "[%s]:%u", ip, ntohs(from->in6.sin6_port));
		break;
	default:
		snprintf(text, size, "unix");
	}
}

static int
net_set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

static int
net_set_tcp_options(int fd, int family)
{
	if (net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == -1 ||
	    net_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1) == -1 ||
	    net_set(fd, IPPROTO_TCP, TCP_NODELAY, 1) == -1 ||
	    net_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, NET_KEEPALIVE_IDLE_S) == -1 ||
	    net_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, NET_KEEPALIVE_INTERVAL_S) == -1 ||
	    net_set(fd, IPPROTO_TCP, TCP_KEEPCNT, NET_KEEPALIVE_COUNT) == -1)
		return -1;
	/* So that 0.0.0.0 and [::] with one port can stand beside each other. */
	return family == AF_INET6 ? net_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
}

static int
net_fail(struct net_listener *listener, struct err *err, int errnum, const char *address)
{
	if (listener->fd != -1)
		close(listener->fd);
	listener->fd = -1;
	err_sys(err, errnum, "cannot listen on %s", address);
	if (errnum != EADDRINUSE)
		return ERR_SYSTEM;
	if (err != NULL)
		err->code = ERR_BUSY;
	return ERR_BUSY;
}

static int
net_bind_tcp(struct net_listener *listener, const struct addrinfo *to, const char *address,
    struct err *err)
{
	union net_sockaddr bound;
	socklen_t len = sizeof(bound);

	listener->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd == -1 || net_set_tcp_options(listener->fd, to->ai_family) == -1 ||
	    bind(listener->fd, to->ai_addr, to->ai_addrlen) == -1 ||
	    listen(listener->fd, SOMAXCONN) == -1 ||
	    getsockname(listener->fd, &bound.sa, &len) == -1)
		return net_fail(listener, err, errno, address);
	net_text(&bound, listener->text, sizeof(listener->text));
	return 0;
}

static int
net_listen_tcp(struct net_listener *listener, const char *address, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV | AI_NUMERICHOST };
	struct addrinfo *list;
	char host[256];
	const char *colon = strrchr(address, ':'), *start = address;
	size_t len;
	int rc;

	if (colon == NULL || colon[1] == '\0')
		return err_set(err, ERR_INVALID, "%s: an address is host:port, [v6]:port or "
		    "unix:/path", address);
	len = (size_t)(colon - address);
	if (*address == '[' && len >= 2 && colon[-1] == ']') {
		start++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof(host))
		return err_set(err, ERR_INVALID, "%s: the host is missing or too long", address);
	memcpy(host, start, len);
	host[len] = '\0';
	/* A name is looked up only if it is one: the resolver's modules make forks dearer. */
	rc = getaddrinfo(host, colon + 1, &hints, &list);
	if (rc == EAI_NONAME) {
		hints.ai_flags &= ~AI_NUMERICHOST;
		rc = getaddrinfo(host, colon + 1, &hints, &list);
	}
	if (rc != 0)
		return err_set(err, ERR_INVALID, "cannot listen on %s: %s", address,
		    gai_strerror(rc));
	rc = net_bind_tcp(listener, list, address, err);
	freeaddrinfo(list);
	return rc;
}

/* 1 if PATH is a socket on which nobody listens any more. */
static int
net_unix_is_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd, stale;

	/* connect(2) refuses for any file: what is no socket must not be taken for a stale one. */
	if (lstat(sun->sun_path, &st) == -1 || !S_ISSOCK(st.st_mode))
		return 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return 0;
	stale = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == -1 &&
	    errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int
net_listen_unix(struct net_listener *listener, const char *address, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *path = address + strlen(NET_UNIX_PREFIX);
	struct stat st;
	int bound;

	if (*path == '\0' || strlen(path) >= sizeof(sun.sun_path))
		return err_set(err, ERR_INVALID, "%s: the path of a Unix socket has 1 to %zu bytes",
		    address, sizeof(sun.sun_path) - 1);
	strcpy(sun.sun_path, path);
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd == -1)
		return net_fail(listener, err, errno, address);
	bound = bind(listener->fd, (struct sockaddr *)&sun, sizeof(sun));
	if (bound == -1 && errno == EADDRINUSE) {
		if (!net_unix_is_stale(&sun))
			return net_fail(listener, err, EADDRINUSE, address);
		unlink(path);
		bound = bind(listener->fd, (struct sockaddr *)&sun, sizeof(sun));
	}
	if (bound == -1 || listen(listener->fd, SOMAXCONN) == -1 || lstat(path, &st) == -1)
		return net_fail(listener, err, errno, address);
	strcpy(listener->path, path);
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	snprintf(listener->text, sizeof(listener->text), "%s%s", NET_UNIX_PREFIX, path);
	return 0;
}

int
net_listen(struct net_listener *listener, const char *address, struct err *err)
{
	*listener = (struct net_listener){ .fd = -1 };
	if (strncmp(address, NET_UNIX_PREFIX, strlen(NET_UNIX_PREFIX)) == 0)
		return net_listen_unix(listener, address, err);
	return net_listen_tcp(listener, address, err);
}

void
net_listener_close(struct net_listener *listener)
{
	struct stat st;

	if (listener->fd == -1)
		return;
	if (listener->path[0] != '\0' && lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->dev && st.st_ino == listener->ino)
		(void)unlink(listener->path);
	close(listener->fd);
	listener->fd = -1;
}

int
net_accept(const struct net_listener *listener, struct net_peer *peer)
{
	union net_sockaddr from;
	socklen_t len = sizeof(from);
	int fd;

	from.sa.sa_family = AF_UNIX;	/* a nameless Unix peer leaves it untouched */
	fd = accept4(listener->fd, &from.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1)
		return -1;
	net_text(&from, peer->text, sizeof(peer->text));
	peer->has_address = 1;
	switch (from.sa.sa_family) {
	case AF_INET:
		memcpy(peer->address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
		memcpy(peer->address + 12, &from.in.sin_addr, 4);
		peer->is_local = peer->address[12] == 127;
		break;
	case AF_INET6:
		memcpy(peer->address, &from.in6.sin6_addr, NET_ADDRESS_SIZE);
		peer->is_local = IN6_IS_ADDR_LOOPBACK(&from.in6.sin6_addr);
		break;
	default:
		peer->has_address = 0;
		peer->is_local = 1;
	}
	return fd;
}
