/*
 * inspect: what the subcommands that read the state share.
 *
 * They ask the daemon nothing: they look into the state and /proc, so they work while it hangs
 * and after it has died. A reader holds back the reuse of pages for as long as its transaction
 * lasts; so a transaction here copies a bounded batch, and has ended before anything is
 * formatted or written.
 */
#ifndef LIMINAL_LIMINAL_INSPECT_H
#define LIMINAL_LIMINAL_INSPECT_H

#include <stdint.h>
#include <sys/types.h>

#include "form/record.h"
#include "liminal/cli.h"
#include "liminal/listing.h"
#include "state/connections.h"
#include "state/pool.h"
#include "state/state.h"

/* ---- look.c: a look at one runtime directory ---- */

struct look {
	struct cli *cli;
	struct state *state;
	int is_running;			/* the runtime directory is locked: somebody is alive */
	pid_t master;			/* as the state says; 0 = it does not */
	uint64_t n_unreadable;		/* rows that did not read back */
};

/* 0, or -1 with the reason in ERR. Says nothing when nobody runs. */
int	look_open_quietly(struct look *look, struct cli *cli, struct err *err);
/* The same, with a complaint, and with a note when nobody runs. */
int	look_open(struct look *look, struct cli *cli);

/* The same for the store; cli->dir is the persistence directory. Nothing is known then about who
 * runs. */
int	look_open_store(struct look *look, struct cli *cli);

/* Complains if there were unreadable rows. Returns STATUS, or CLI_FAILED then. */
int	look_close(struct look *look, int status);

/* 1 if a daemon has DIR: its lock is taken; 0 if not; -1 with errno if that cannot be seen. *PID
 * (may be NULL): of its master, 0 if unknown. */
int	look_is_running(const char *dir, pid_t *pid);
/* 0, or -1 after a complaint that none is. */
int	look_require_running(struct cli *cli, pid_t *pid);

enum look_process { LOOK_ENDED, LOOK_STOPPED, LOOK_LIVE };
extern const char *const look_process_names[];

/* How PID is, as a child of the master: ENDED also when it is no longer one. */
enum look_process look_child(const struct look *look, pid_t pid);

/* ---- walk.c: through a table in short read transactions ---- */

#define WALK_SKIP	1

struct walk {
	enum state_table table;
	size_t item_size;
	/* Inside the transaction: copy a row into the zeroed ITEM. 0, WALK_SKIP, or a code. */
	int	(*copy)(struct state_txn *txn, const struct state_view *key,
		    const struct state_view *row, void *item);
	/* Outside of it. 0, or -1 to end the walk. */
	int	(*show)(void *arg, void *item);
	/* Free what COPY allocated; may be NULL. */
	void	(*release)(void *item);
	/* After each batch; may be NULL. 0, or -1 to end the walk. */
	int	(*flush)(void *arg);
	/* NULL = all rows; else only those whose keys stand behind this one and begin with its
	 * first PREFIX_LEN bytes. */
	const uint8_t *from;
	size_t from_len, prefix_len;
};

/* The rows that are there from first to last, in the order of their keys. 0, or -1 after a complaint. */
int	walk_table(struct look *look, const struct walk *walk, void *arg);

/* A listing that is one walk: opens the state, prints. ARGUMENT of the callbacks: struct show. */
struct show { struct look look; struct listing listing; int64_t now_ns; };
int	show_table(struct cli *cli, const struct walk *walk, const char *const *columns, size_t n);
int	show_flush(void *arg);

/* ---- connections.c, workers.c ---- */

struct connections_item { uint64_t conn_id; struct connections_row row; };

/* The keys that connections and workers have in common. */
void	connections_show(struct show *show, const struct connections_item *item);

struct workers_item {
	struct connections_item connection;
	struct record_registration registration;	/* owned */
	uint32_t in_flight, max_concurrent;
};

int	workers_copy(struct state_txn *txn, const struct state_view *key,
	    const struct state_view *row, void *item);
void	workers_release(void *item);

/* ---- pools.c ---- */

struct pools_item {
	struct pool_name name;
	uint64_t id, workers, pending, in_flight;
	int64_t oldest_ns;		/* monotonic; 0 = none waits */
};
struct pools { struct pools_item *list; size_t n, size; };	/* in the order of names */

/* 0, or -1 after a complaint; free in any case. */
int	pools_collect(struct look *look, struct pools *pools);
void	pools_free(struct pools *pools);
void	pools_show(struct listing *listing, const struct pools_item *item, int64_t now_ns);
extern const char *const pools_columns[];
#define POOLS_N_COLUMNS	5

/* ---- status.c ---- */

#define STATUS_COUNTERS_MAX	48

struct status {
	uint64_t service_pids[BOARD_N_SERVICES];	/* by BOARD_SERVICE_SLOT; 0 = none */
	char store_fault[256];		/* why the store cannot be written; "" = it can */
	uint64_t connections, workers, pools, in_flight, pending, pushes, conversations;
	uint64_t channels, subscriptions, messages;
	struct status_counter { char name[64]; uint64_t value; } counters[STATUS_COUNTERS_MAX];
	size_t n_counters;
};

/* 0, or -1 after a complaint. */
int	status_collect(struct look *look, struct status *status);
/* Collect and print. 0, or -1 after a complaint. */
int	status_show(struct look *look);
/* 0 for a counter that is not there. */
uint64_t status_counter(const struct status *status, const char *name);

#endif
