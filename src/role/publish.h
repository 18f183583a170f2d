/*
 * publish: what the files of a connection's process that deal with Publish share. Internal to them.
 *
 *	publish.c	what arrives is noted for the turn: for the state, or for the store
 *	publish_apply.c	the turn's messages in the state's transaction; waking who listens
 *	publish_answer.c  acknowledgements and errors, and what waits for the store's word
 */
#ifndef LIMINAL_ROLE_PUBLISH_H
#define LIMINAL_ROLE_PUBLISH_H

#include <bsd/sys/queue.h>

#include "role/channel.h"
#include "state/publication.h"

/* What one entry for the store holds at most, unless one message is larger. */
#define PUBLISH_ENTRY		((size_t)256 << 10)

/* A message of this turn, or a copy of the one before it that a rule made. */
struct published {
	uint32_t channel;		/* number */
	uint32_t stream;
	uint8_t is_routed, has_key;
	uint8_t outcome;		/* enum publication_outcome */
	uint8_t is_done;		/* its channel's turn has come */
	struct frame_view key;
};

/* What is known of a channel between turns. */
struct publisher_channel {
	uint64_t consumed;		/* everybody has what was appended up to this transaction */
	int has_moved;			/* somebody is to be woken */
};

/* Handed over to the store. */
struct publish_batch {
	TAILQ_ENTRY(publish_batch) link;
	uint64_t number;
	size_t bytes;
	struct buf behind;			/* answers to what came behind it on its streams */
	uint64_t may_have;			/* a bit for each of its streams; several share one */
	uint32_t n;
	uint32_t streams[];
};

TAILQ_HEAD(publish_queue, publish_batch);

struct publisher {
	/* The turn's, for the state. Views into the input. */
	struct published *items;
	struct log_message *messages, *gathered;
	size_t n, size;
	uint64_t first_id;
	uint64_t state_streams;			/* a bit for each of theirs; several share one */
	struct publisher_channel *channels;	/* by number */
	const struct conf_channel *last;	/* that was published to */

	/* The turn's, for the store. */
	struct buf body;
	struct buf streams;			/* uint32_t each */
	uint64_t store_streams;			/* a bit for each */
	int is_used;				/* since publish_tidy() */

	struct publish_queue waiting;		/* oldest first */
	uint64_t n_batches;
	size_t waiting_bytes, behind_bytes;
	int is_answering;			/* what the store has answered: it waits for nothing */
};

/* What of a turn goes to the state and what goes to the store is told apart by streams, so that answers on
 * one keep their order: one with bits in both makes two turns. */
static inline uint64_t
publish_stream_bit(uint32_t stream)
{
	return UINT64_C(1) << stream % 64;
}

static inline int
publish_is_acknowledged(const struct published *item)
{
	return item->outcome <= PUBLICATION_DUPLICATE;
}

/* publish_apply.c: poke those who listen to what has moved, after the commit. */
void	publish_wake(struct connection *c);

/* publish_answer.c */
void	publish_error(struct connection *c, uint32_t stream, uint16_t reason, const char *text,
	    size_t len);

#endif
