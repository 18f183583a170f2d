/*
 * notices: the keeper, and what the master and the keeper tell one another.
 *
 * Every end of a connection is told to the keeper and answered; what a keeper did not
 * answer before it died is told to its successor. Sending never blocks: what does not fit
 * stays with its slot until the socket has room. A keeper that dies is replaced, at once the
 * first time, then with growing pauses.
 */
#ifndef LIMINAL_LIMINALD_NOTICES_H
#define LIMINAL_LIMINALD_NOTICES_H

#include <stdint.h>

struct master;

struct notices {
	int fd;			/* to the keeper; -1 = there is none */
	uint32_t slot;		/* the keeper's; SLOTS_NONE = it has no process */
	int is_full;		/* poll for writing */
	int drain_is_due;	/* the keeper has to hear of the shutdown */
	int is_closed;		/* no keeper is wanted any more */
	int64_t started_ns;
	int64_t pause_ns;	/* before the next replacement */
	int64_t restart_ns;	/* when; INT64_MAX = not due */
};

void	notices_init(struct notices *notices);

/* Start a keeper. 0 or -1 (logged; another try is due later). Never returns in the keeper. */
int	notices_start(struct master *master, int64_t now_ns);

/* Tell what is to be told, as far as it fits. */
void	notices_send(struct master *master, int64_t now_ns);

/* Read the answers. */
void	notices_receive(struct master *master);

/* The keeper's process has been reaped. */
void	notices_ended(struct master *master, int wait_status, int64_t now_ns);

/* Replace it if that is due; kill it if it has not answered for too long. */
void	notices_step(struct master *master, int64_t now_ns);
int64_t	notices_deadline(const struct master *master);

/* Shutdown begins: it tells every connection. / It is over: the keeper may go. */
void	notices_drain(struct master *master, int64_t now_ns);
void	notices_close(struct master *master);

#endif
