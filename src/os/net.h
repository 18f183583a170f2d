/*
 * net: listening addresses, accepted peers and their names for people.
 *
 * Everything that a connection's socket needs (no delay, keepalive) is set on the listening
 * socket, from which Linux copies it: nothing of it costs a call per connection.
 */
#ifndef LIMINAL_OS_NET_H
#define LIMINAL_OS_NET_H

#include <sys/types.h>

#include <stdint.h>

#include "base/err.h"

#define NET_ADDRESS_SIZE 16	/* IPv6, or IPv4 mapped into it */

struct net_listener {
	int fd;			/* non-blocking; -1 = closed */
	char text[128];		/* as a client would write it, with the real port */
	char path[108];		/* of a Unix socket; "" otherwise */
	dev_t dev;		/* the socket file that we made */
	ino_t ino;
};

struct net_peer {
	char text[64];		/* "10.0.0.7:40112", "[::1]:5", "unix" */
	uint8_t address[NET_ADDRESS_SIZE];
	int has_address;	/* 0 for a Unix socket */
	int is_local;		/* loopback or a Unix socket */
};

/*
 * Listen on ADDRESS: "host:port", "[v6]:port" or "unix:/path". The socket file of a
 * dead daemon is replaced; one that somebody answers on is an error, as is anything that is no
 * socket. 0, ERR_INVALID (not an address), ERR_BUSY (somebody listens there) or ERR_SYSTEM.
 */
int	net_listen(struct net_listener *listener, const char *address, struct err *err);

/* Close it; a socket file goes too, unless somebody else has replaced it. */
void	net_listener_close(struct net_listener *listener);

/* accept4(2): a non-blocking socket and who is there, or -1 with errno. */
int	net_accept(const struct net_listener *listener, struct net_peer *peer);

#endif
