/*
 * notices: what the master and the keeper tell one another.
 *
 * Every end of a connection is told to the keeper and answered; what a keeper did not
 * answer before it died is told to its successor. Sending never blocks: what does not fit
 * stays with its slot until the socket has room. The keeper's process is services.h's.
 */
#ifndef LIMINAL_LIMINALD_NOTICES_H
#define LIMINAL_LIMINALD_NOTICES_H

#include <stdint.h>

struct master;

struct notices {
	int is_full;		/* poll for writing */
	int drain_is_due;	/* the keeper has to hear of the shutdown */
	int poke_is_due;	/* ... that a service has died, perhaps before it woke somebody */
};

/* Tell what is to be told, as far as it fits. */
void	notices_send(struct master *master, int64_t now_ns);

/* Read the answers. */
void	notices_receive(struct master *master, int64_t now_ns);

/* The process of service I, the keeper or another one, has been reaped. */
void	notices_service_ended(struct master *master, uint32_t i, int wait_status);

/* Kill the keeper if it has not answered for too long. */
void	notices_step(struct master *master, int64_t now_ns);
int64_t	notices_deadline(const struct master *master);

/* Shutdown begins: the keeper tells every connection. */
void	notices_drain(struct master *master, int64_t now_ns);

#endif
