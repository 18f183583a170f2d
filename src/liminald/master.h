/*
 * master: the process that accepts, forks, reaps and supervises.
 *
 * One loop around ppoll(2), in a fixed order: what was asked by signal, ends, the keeper's
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
	struct notices notices;
	struct watchdog watchdog;
	struct drain drain;
};

/* Nothing is forked and no descriptor but the watch is opened. LOCK_FD: os/rundir.h; -1 = none. */
int	master_init(struct master *master, const struct conf *conf,
	    const struct master_roles *roles, int lock_fd, struct err *err);

/* Bind every configured address. ERR_INVALID, ERR_BUSY, ERR_SYSTEM. */
int	master_listen(struct master *master, struct err *err);

/* Make the board, take over the signals, start the services and say that we are ready. The
 * state environment has been created and closed before. */
int	master_start(struct master *master, struct err *err);

/* Until a shutdown is complete; returns the exit status of the daemon. */
int	master_run(struct master *master);
void	master_fini(struct master *master);

/* What a child in SLOT gets. */
struct role_context master_context(const struct master *master, uint32_t slot);

#endif
