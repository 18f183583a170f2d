/* check_channels: the rules between the tables that channels have, for check_state.c and check_store.c. */
#ifndef LIMINAL_T_TOOLS_CHECK_CHANNELS_H
#define LIMINAL_T_TOOLS_CHECK_CHANNELS_H

#include "state/keys.h"
#include "state/log.h"

typedef void check_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Everything that channels have in the state. */
void	check_channels(struct state_txn *txn, check_say *violation);

/* A channel's log: whole from MARK's first to its head. Returns how many of the table's rows it has. */
uint64_t check_log(const struct log *log, const struct log_mark *mark, check_say *violation);

/* All rows of a table of messages: TOTAL were found by check_log. */
void	check_log_rows(struct state_txn *txn, enum state_table table, uint64_t total,
	    check_say *violation);

/* Everything that durable channels have in the store. */
void	check_store_channels(struct state_txn *txn, check_say *violation);

/* Keys, keys by age, and the counts. */
void	check_keys(struct state_txn *txn, enum keys_place place, check_say *violation);

#endif
