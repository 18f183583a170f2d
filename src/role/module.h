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
 * Everything that the module is asked comes through this service's inbox, one call after the other.
 */
#ifndef LIMINAL_ROLE_MODULE_H
#define LIMINAL_ROLE_MODULE_H

#include <stdint.h>

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
	uint32_t version;		/* that its first uint32_t must be */
	/* Look at the loaded object and start it. 0, or ERR_INVALID with the reason. */
	int	(*start)(struct module *module, const void *symbol, struct err *err);
	/* Handle one entry of the inbox: calls between module_begin and module_end, then one write
	 * transaction for what came of it. LOST: the last process died while it handled this
	 * entry, inside the call that the board's record names. 0 or a negative code. */
	int	(*handle)(struct module *module, const struct inbox_entry *entry,
		    const void *body, int lost);
};

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
};

/* Around each call of the module's code. */
void	module_begin(struct module *module, const struct inbox_entry *entry);
void	module_end(struct module *module);

/* Load, start, say that it is ready, serve until the master closes CONTROL. Returns a
 * role_exit. */
int	module_main(const struct module_kind *kind, const struct role_context *context, int control,
	    const char *path, const struct conf_list *args, int64_t timeout_ns);

#endif
