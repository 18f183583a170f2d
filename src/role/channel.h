/*
 * channel: what the files of a connection's process that deal with channels share. Internal to them and
 * to turn.c.
 *
 *	channel.c	answers that are the same for all; the channel of a name
 *	publish.h	Publish: its files are named there
 *	route.c		schema, rules: what a message leads to
 *	subscription.c	Subscribe, Unsubscribe; whose news are waited for
 *	deliver.h	Deliver frames: its files are named there
 *	consumer.c	durable subscriptions: cursor, what is outstanding, verdicts, redelivery
 */
#ifndef LIMINAL_ROLE_CHANNEL_H
#define LIMINAL_ROLE_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include "form/conf.h"
#include "role/connection.h"
#include "state/channels.h"
#include "state/log.h"
#include "state/subscriptions.h"

struct consumer;

struct subscription {
	RB_ENTRY(subscription) link;
	uint64_t id;
	uint32_t number;		/* of the channel */
	const struct conf_channel *channel;
	uint32_t stream, max_in_flight;
	int is_listed;			/* in the connection's tree */
	int is_live;			/* acknowledged: it may be delivered to */
	int is_shed;			/* it fell behind: it will be ended */
	int is_unreadable;		/* what it is to get does not read back: it as well */
	int is_over;			/* its end is noted */
	uint64_t base;			/* plain: delivery sequence = channel's sequence - BASE */
	uint64_t next;			/* plain: channel's sequence that comes next */
	uint64_t head;			/* of the channel, when it was last looked at */
	struct consumer *consumer;	/* NULL = a plain subscription */
};

/* A run of messages to be delivered: COUNT from FIRST on. */
struct channel_run { uint64_t first, count; };

RB_PROTOTYPE(subscription_tree, subscription, link, subscription_compare)

/* channel.c */
/* Append a SubscribeError or PublishError to OUT. */
void	channel_error(struct connection *c, struct buf *out, uint8_t type, uint32_t stream,
	    uint16_t reason, const void *text, size_t len);
/* "channel 'NAME' is not configured" to TEXT. 0 or ERR_NOMEM. */
int	channel_not_configured_text(struct buf *text, const struct frame_view *name);
uint32_t channel_number(const struct connection *c, const struct conf_channel *channel);

/* subscription.c */
struct subscription *subscription_find(struct connection *c, uint64_t id);
/* The first one with an id at or behind ID / behind S; after the last one comes the first. */
struct subscription *subscription_from(struct connection *c, uint64_t id);
struct subscription *subscription_after(struct connection *c, struct subscription *s);
/* It is acknowledged to the client and may be delivered to. */
void	subscription_go(struct connection *c, struct subscription *subscription);
/* It ends with this turn, and if REASON is not 0 the client reads why (SubscribeError). */
void	subscription_end(struct connection *c, struct subscription *subscription, uint16_t reason,
	    const char *text);

/* deliver.c: something may be delivered that is no news of the state's. */
void	deliver_again(struct connection *c);

/*
 * consumer.c. The life of a durable subscription: SUBSCRIBE's intent takes the name in the state (subscription.c);
 * consumer_ask() asks the store where to go on; consumer_opened() has the answer: the
 * subscription becomes live and SubscribeAck is sent, or it ends with SubscribeError.
 */
int	consumer_new(struct connection *c, struct subscription *subscription,
	    const struct frame *frame);		/* 0, ERR_NOMEM */
void	consumer_free(struct consumer *consumer);
const struct frame_view *consumer_name(const struct consumer *consumer);
/* In the transaction that takes the name: post INBOX_CONSUMER_OPEN. ROW as it was added. */
int	consumer_ask(struct connection *c, struct state_txn *txn, struct subscription *subscription,
	    const struct subscriptions_row *row);
/* INBOX_CONSUMER came. */
void	consumer_opened(struct connection *c, const struct inbox_entry *entry, const void *body);
/* What may be delivered now: redeliveries that are due, then what is new, as far as max_in_flight
 * leaves room. 1 with *RUN, or 0. */
int	consumer_next(struct subscription *subscription, int64_t now_ns, struct channel_run *run);
/* N messages of that run, from its FIRST on, were written. */
void	consumer_sent(struct subscription *subscription, uint64_t first, uint64_t n);
/* Messages up to (not with) OLDEST are not kept any more: those that were to be delivered, or delivered again,
 * count as given up, and how many they are is returned; what the client has stays with it until it judges.
 * What consumer_next() said before is void. */
uint64_t consumer_lost(struct subscription *subscription, uint64_t oldest);
/* Accept, Defer, Reject. */
void	consumer_verdict_frame(struct connection *c, const struct frame *frame);
/* When something becomes due for redelivery, or a cursor may be posted; INT64_MAX = never. And noting
 * that it has. */
int64_t	consumer_next_deadline(const struct connection *c);
void	consumer_tick(struct connection *c, int64_t now_ns);
/* Before a turn is applied: an intent for each cursor that has moved. */
void	consumer_note_moved(struct connection *c);
/* INTENT_CURSOR: post where it was then to the store (INBOX_CURSOR). */
int	consumer_apply_cursor(struct connection *c, struct state_txn *txn, struct intent *intent);
void	consumer_done_cursor(struct connection *c, struct intent *intent);
/* The subscription, or the connection, ends: save the cursor with this turn if it has moved. */
void	consumer_save(struct connection *c, struct subscription *subscription);

#endif
