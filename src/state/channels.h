/*
 * channels: one row for each configured channel, made by the master when it makes the state, and the
 * numbers that all channels share. Key: the channel's number (u32, big-endian), its index in the configuration.
 *
 * The row is the authority for a channel's head. An ephemeral channel's moves with the transaction that
 * appends to its log; a durable one's is moved by the store process after its commit has reached
 * the disk, with the answers to the publishers. Nobody reads a log beyond it.
 */
#ifndef LIMINAL_STATE_CHANNELS_H
#define LIMINAL_STATE_CHANNELS_H

#include <stdint.h>

#include "base/err.h"
#include "form/conf.h"
#include "state/log.h"
#include "state/state.h"

#define CHANNELS_VERSION	1
#define CHANNELS_NAME_SIZE	256

struct channels_row {
	uint16_t version;
	uint8_t is_durable;
	uint8_t pad;
	uint32_t n_subscriptions;	/* live ones; kept by subscriptions.c */
	uint32_t store_number;		/* durable: its number in the store; 0 = not known yet */
	uint32_t pad2;
	struct log_mark mark;		/* durable: as far as publishers were told */
	struct log_bound bound;		/* what the configuration says, for onlookers */
	char name[CHANNELS_NAME_SIZE];	/* with a NUL */
};

/* Write the rows of CONF's channels into a state that was just created. Only for the master, before its
 * first fork. 0, or a negative code with the reason in ERR. */
int	channels_create(const char *runtime_dir, const struct conf *conf, struct err *err);

/* ERR_NOTFOUND: the configuration has no such channel. */
/* What the configuration has it keep. */
static inline struct log_bound
channels_bound(const struct conf_channel *channel)
{
	return (struct log_bound){ channel->keep_messages, channel->keep_bytes,
	    channel->keep_age_ns };
}

int	channels_get(struct state_txn *txn, uint32_t number, struct channels_row *row);
int	channels_put(struct state_txn *txn, uint32_t number, const struct channels_row *row);
int	channels_each(struct state_txn *txn,
	    int (*visit)(void *arg, uint32_t number, const struct channels_row *row), void *arg);

/* log_trim() of an ephemeral channel, with its row. */
int	channels_trim(struct state_txn *txn, uint32_t number, const struct log_bound *bound,
	    uint64_t consumed, int64_t now_ns, int limit);

/* The next N ids of messages (from 1) / the next id of a subscription (from 1). 0 or a negative code.
 * The rows are in the counters table, "next/message" and "next/subscription". */
int	channels_message_ids(struct state_txn *txn, uint64_t n, uint64_t *first);
int	channels_subscription_id(struct state_txn *txn, uint64_t *id);

#endif
