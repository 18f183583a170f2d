/*
 * master: the process that accepts, forks, reaps and supervises.
 *
 * One loop around ppoll(2), in a fixed order: what was asked by signal, ends, the services'
 * answers, what is due, new connections. It parses no client byte, never blocks, opens no
 * LMDB environment, takes no lock that a child can hold, keeps nothing per message, and
 * allocates nothing once it runs.
 */
#ifndef LIMINAL_LIMINALD_MASTER_H
#define LIMINAL_LIMINALD_MASTER_H

#include <signal.h>
#include <stdint.h>

#include "base/err.h"
#include "form/conf.h"
#include "liminald/admit.h"
#include "liminald/drain.h"
#include "liminald/notices.h"
#include "liminald/refuse.h"
#include "liminald/services.h"
#include "liminald/slots.h"
#include "liminald/watchdog.h"
#include "os/board.h"
#include "os/net.h"
#include "os/process.h"
#include "role/role.h"

#define MASTER_LISTEN_MAX 32

/* What the children are; each returns the exit status of its process. */
struct master_roles {
	int (*connection)(const struct role_context *context, const struct role_peer *peer);
	int (*keeper)(const struct role_context *context, int notices);
	/* Needed only when the configuration asks for them. */
	int (*store)(const struct role_context *context, int control);
	int (*notifier)(const struct role_context *context, int control);
	int (*router)(const struct role_context *context, int control);
};

/* What service scripts hold on to. */
enum master_exit {
	MASTER_EXIT_OK = 0,
	MASTER_EXIT_CONFIGURATION = 1,
	MASTER_EXIT_USAGE = 2,
	MASTER_EXIT_ENVIRONMENT = 3,	/* an address or a directory cannot be used */
	MASTER_EXIT_FLUSH = 4,		/* what had to be durable may not be */
	MASTER_EXIT_INTERNAL = 70,
};

struct master {
	const struct conf *conf;	/* not owned */
	const struct master_roles *roles;
	struct process_family family;
	struct board *board;
	struct slots slots;
	sigset_t wait_mask;
	struct net_listener listeners[MASTER_LISTEN_MAX];
	unsigned n_listeners;
	struct admit admit;
	struct refuse refuse;
	struct services services;
	struct notices notices;
	struct watchdog watchdog;
	struct drain drain;
	int is_ready;			/* the services work: connections are accepted */
};

/* Nothing is forked and no descriptor but the watch is opened. */
int	master_init(struct master *master, const struct conf *conf,
	    const struct master_roles *roles, struct err *err);

/* Bind every configured address. ERR_INVALID, ERR_BUSY, ERR_SYSTEM. */
int	master_listen(struct master *master, struct err *err);

/* Make the board, take over the signals and start the services. The environments have been
 * created and closed before. */
int	master_start(struct master *master, struct err *err);

/* Say that we are ready when the services are, then serve until a shutdown is complete; returns
 * the exit status of the daemon, an enum master_exit. */
int	master_run(struct master *master);
void	master_fini(struct master *master);

/* What a child in SLOT gets. */
struct role_context master_context(const struct master *master, uint32_t slot);

#endif
