/*
 * admit: from a listening socket to a connection's process, or a refusal.
 *
 * Owns the conn ids: counted up from 1, never given out twice. A connection is recorded (slot,
 * board) before its process exists. Nothing that the kernel can run out of ends the accepting:
 * the listeners leave the poll set for a moment and come back.
 */
#ifndef LIMINAL_LIMINALD_ADMIT_H
#define LIMINAL_LIMINALD_ADMIT_H

#include <stdint.h>

#include "base/log.h"

struct master;
struct net_listener;

struct admit {
	uint64_t last_conn_id;
	int64_t paused_until_ns;	/* 0 = not paused */
	struct log_limit resource_lines, refusal_lines;
};

/* 1 if the listeners belong into the poll set now. */
int	admit_is_open(struct master *master, int64_t now_ns);

/* When it will be open again if only time is missing; else INT64_MAX. */
int64_t	admit_deadline(const struct master *master);

/* Take the next few connections from LISTENER. Returns in connections' processes never. */
void	admit_accept(struct master *master, const struct net_listener *listener, int64_t now_ns);

#endif
