/*
 * publication: what a publisher's process hands to the store process (INBOX_APPEND), and what comes
 * back (INBOX_APPENDED): all publishes of one turn that go through the store, in one entry.
 *
 * An item is one message for one channel. Copies that routes make of a message follow it, marked as
 * routed; they fall away with it when it is a duplicate. Only the messages that were published are
 * counted and answered.
 */
#ifndef LIMINAL_STATE_PUBLICATION_H
#define LIMINAL_STATE_PUBLICATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"

#define PUBLICATION_ROUTED	0x01
#define PUBLICATION_KEYED	0x02	/* KEY counts, also when it is empty */

struct publication_item {
	uint32_t channel;		/* number: index in the configuration */
	uint32_t flags;
	struct frame_view key, causal, payload;
};

/* Append ITEM to a body. 0 or ERR_NOMEM. */
int	publication_add(struct buf *body, const struct publication_item *item);

/* Visit the items of a body, in order; views into it. VISIT's first result other than 0 ends the walk and is
 * returned; ERR_CORRUPT: items do not fill it exactly. */
int	publication_each(const void *body, size_t len,
	    int (*visit)(void *arg, const struct publication_item *item), void *arg);

/* What became of each published message. The body of the answer is the struct, then N outcomes. */
enum publication_outcome {
	PUBLICATION_STORED,		/* acknowledged; nobody was subscribed */
	PUBLICATION_DELIVERED,		/* acknowledged; a subscription was there to take it */
	PUBLICATION_DUPLICATE,		/* acknowledged; its key was known */
	PUBLICATION_KEYS_FULL,		/* refused: the channel remembers as many keys as it may */
	PUBLICATION_REFUSED,		/* refused with the rest of its turn; never of an answer */
};

/* ENTRY.code of INBOX_APPENDED is 0, or the wire's reason for all of them and the body is its text. */
struct publication_answer {
	uint64_t first_id;		/* of the acknowledged ones, in order */
	uint32_t n;
	uint32_t pad;
};

#endif
