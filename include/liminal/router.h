/*
 * liminal/router.h: choose the worker of each job by code of your own.
 *
 * A router is a shared object that exports one constant:
 *
 *	const struct liminal_router liminal_router = {
 *		.version = LIMINAL_ROUTER_VERSION,
 *		.select = my_select,
 *	};
 *
 * built with `cc -shared -fPIC -o my.so my.c` and named in liminald.conf(5):
 *
 *	dispatch { router = "/usr/local/lib/liminal/my.so"
 *	           router_args = { "one", "two" }  router_timeout = "1s" }
 *
 * Where it runs. In one process of its own, "liminald: router", a child of the daemon, loaded
 * with dlopen(3) (RTLD_NOW, RTLD_LOCAL). It calls init once, then select for one job after the
 * other, by its one thread; no transaction of the daemon is open meanwhile. What the module keeps in
 * memory stays until that process ends. It may block, but every job that needs it waits.
 *
 * When it is asked. For each job that some worker accepts and has room for; also again for a job
 * whose worker ended before it answered. Jobs are asked about in the order in which they came in. It
 * is not asked when no worker accepts the job (the caller is refused) or when all that do are
 * busy: then the job waits in the pool's queue, and goes to the first worker with room that
 * accepts it, without a choice.
 *
 * What becomes of the answer. The job goes to the worker at that index. Should that worker end or
 * have become busy during the call, select is called again with those that are left, a few times
 * at most. An index that is none fails the job: "the router selected a worker that is not
 * a candidate". No other router steps in, ever.
 *
 * A crash (a signal, exit(3), abort(3)) in any call ends that process and nothing else: not the
 * daemon, not a connection. The daemon starts another one, which loads the module and calls init
 * again, and goes on with the jobs that it had not been asked about yet. The job of the call
 * that crashed fails with an error (0xFFFF) that says so, and is not asked about again.
 *
 * Time. Each call, init included, may take router_timeout (default 1 s). At its end the process is
 * killed with SIGKILL, whatever the module does with signals, and that counts as a crash.
 * Loading (constructors) gets at least 5 s. A job that waits for its turn, or for a new process, much
 * longer than one call may take fails, too.
 *
 * The process. It has the daemon's user and directory. SIGPIPE is ignored and SIGTERM blocked.
 * Standard error is the daemon's log, in the foreground. The module may start threads and children
 * and keep descriptors open (a child of fork(2) has none of the daemon's, and must not return
 * from the call); it must not close descriptors that it did not open, nor change signal
 * dispositions or masks lastingly. When the daemon ends, the process ends with _exit(2).
 *
 * Ownership and lengths. Everything that select gets is the daemon's, constant, and valid until
 * it returns; copy what is to be kept. Strings are UTF-8 and end with NUL. They come from
 * callers and workers: whoever can connect can put anything there, as long as limits max_frame_bytes
 * allows. The payload is bytes with a length, and no NUL behind it.
 */
#ifndef LIMINAL_ROUTER_H
#define LIMINAL_ROUTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LIMINAL_ROUTER_API __attribute__((visibility("default")))
#else
#define LIMINAL_ROUTER_API
#endif

/* Raised when a module that was built with an older header would not work any more. A module of
 * another version is not loaded. */
#define LIMINAL_ROUTER_VERSION 1

/* At most so many candidates are shown: the ones with the lowest conn ids. */
#define LIMINAL_ROUTER_WORKERS_MAX 4096

/* A candidate: it accepts the job (activity type, required node), and has room. */
struct liminal_router_worker {
	uint64_t conn_id;		/* never used again while the daemon runs */
	const char *worker_id;		/* "<identity>#<conn id>" */
	const char *node;		/* NULL: it named none */
	uint32_t in_flight;		/* jobs that it has, less than max_concurrent */
	uint32_t max_concurrent;
	int64_t since;			/* its registration, in nanoseconds since 1970 */
};

/* The job. */
struct liminal_router_request {
	const char *workflow_id;	/* NULL: it has none */
	const char *channel;		/* "aion.dispatch.<namespace>.<task queue>" */
	const char *activity_type;	/* NULL: an opaque payload */
	const char *node;		/* that it prefers or requires; NULL: none */
	int node_required;		/* then all candidates are on that node */
	const void *payload;		/* whole, as its caller sent it */
	size_t length;
	const char *const *excluded;	/* worker ids: they had it and ended, in that order */
	size_t n_excluded;
};

struct liminal_router {
	uint32_t version;		/* LIMINAL_ROUTER_VERSION; stays the first member */

	/*
	 * Called once in each process before anything else, with router_args: ARGV has ARGC of them
	 * (argv[0] is the first one, not a name) and a NULL behind; they stay valid. 0 = good;
	 * anything else: the daemon refuses to start, or, when it is running, tries again with
	 * growing pauses. NULL: nothing.
	 */
	int	(*init)(int argc, const char *const *argv);

	/*
	 * The index of the chosen one of N >= 1 workers, which stand in the order of their conn
	 * ids; or -1 for none of them: the caller gets error 0x0104 (no worker) with the text in
	 * REASON (REASON_SIZE bytes, an empty text before the call). Must not be NULL.
	 */
	long	(*select)(const struct liminal_router_request *request,
		    const struct liminal_router_worker *workers, size_t n,
		    char *reason, size_t reason_size);
};

/* What a module exports. */
extern LIMINAL_ROUTER_API const struct liminal_router liminal_router;

#ifdef __cplusplus
}
#endif

#endif
