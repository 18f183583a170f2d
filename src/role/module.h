/*
 * module: the process that runs somebody else's code.
 *
 * A module is a shared object that the configuration names: a notifier or a router. It is loaded
 * here and nowhere else, so its crash ends this process only: the master starts another one,
 * which loads it again and goes on with what is still in the inbox. A call that does not
 * return within its time is ended by a timer that kills the process, and so counts as a
 * crash. What was being called when the process died is not called again: the board's record of
 * the service says what it was, and the successor answers for it.
 *
 * Everything that the module is asked comes through this service's inbox, one call after the
 * other, one row each. The row goes in the transaction that holds what came of it, so that what
 * is still there has not been answered. No transaction is open during a call.
 */
#ifndef LIMINAL_ROLE_MODULE_H
#define LIMINAL_ROLE_MODULE_H

#include <stdint.h>
#include <time.h>

#include "base/buf.h"
#include "form/conf.h"
#include "os/wake.h"
#include "role/role.h"
#include "state/inbox.h"
#include "state/state.h"

struct module;

struct module_kind {
	enum board_kind service;	/* BOARD_NOTIFIER or BOARD_ROUTER */
	const char *name;		/* for log and title: "notifier", "router" */
	const char *symbol;		/* that the shared object exports */
	const char *header;		/* where it is declared, for people */
	uint32_t version;		/* that its first uint32_t must be */
	/* Look at the loaded object and start it. 0, or ERR_INVALID with the reason. */
	int	(*start)(struct module *module, const void *symbol, struct err *err);
	/*
	 * Handle one entry of the inbox: calls between module_begin and module_end, then
	 * module_write for what came of them (else the entry just goes). LOST: the last process
	 * died over this entry, in the call (BOARD_CALL_BEGUN), or after it but before its
	 * result was written (BOARD_CALL_DONE; the result is module->lost.result); else
	 * BOARD_CALL_NONE. 0 or a negative code, which ends the process.
	 */
	int	(*handle)(struct module *module, const struct inbox_entry *entry,
		    const void *body, enum board_call lost);
};

/* What the predecessor's record on the board says. */
struct module_lost { enum board_call phase; struct inbox_entry what; uint64_t result; };

struct module {
	const struct role_context *context;
	const struct module_kind *kind;
	struct board_slot *mine;
	struct wake wake;
	struct state *state;
	const char *path;
	const struct conf_list *args;
	int64_t timeout_ns;
	const void *symbol;

	int control;
	int is_closing;			/* the master has closed CONTROL */
	timer_t timer;
	struct module_lost lost;
	uint64_t row;			/* of the inbox; what is being handled */
	int is_done;			/* it is not there any more */
	struct buf body;		/* its */
};

/*
 * Around each call of the module's code. WHAT (its kind, conn_id and request) names the call for
 * the successor: the entry itself, or where an entry leads to several calls, one of them. RESULT
 * is what the module said, for a successor that finds BOARD_CALL_DONE.
 */
void	module_begin(struct module *module, const struct inbox_entry *what);
void	module_end(struct module *module, uint64_t result);

/* Whether the predecessor died over WHAT. */
enum board_call module_was_calling(const struct module *module, const struct inbox_entry *what);

/*
 * One write transaction with what APPLY (may be NULL) does in it, tried again for a while when the
 * state is full: APPLY may run several times. When APPLY returns 0, the entry that is being handled
 * is done and goes with it; MODULE_MORE: what was done is written, the entry stays. Returns what
 * APPLY did, or a negative code: nothing has happened. From the first one on, nothing counts
 * as lost any more.
 */
#define MODULE_MORE 1
int	module_write(struct module *module, int (*apply)(struct state_txn *txn, void *arg),
	    void *arg);

/* Load, start, say that it is ready, serve until the master closes CONTROL and the inbox is
 * empty. Returns a role_exit. */
int	module_main(const struct module_kind *kind, const struct role_context *context, int control,
	    const char *path, const struct conf_list *args, int64_t timeout_ns);

#endif
