/*
 * liminal/notifier.h: what a notifier module for liminald exports.
 *
 * A notifier is told of workers as they come and go, may reject them, and may take published
 * messages for itself. It is a shared object that exports one constant:
 *
 *	const struct liminal_notifier liminal_notifier = {
 *		.version = LIMINAL_NOTIFIER_VERSION,
 *		.worker_registered = my_worker_registered,
 *	};
 *
 * built with `cc -shared -fPIC -o my.so my.c` and named in liminald.conf(5):
 *
 *	notifier { module = "/usr/local/lib/liminal/my.so" args = { "one", "two" } timeout = "1s" }
 *
 * Where it runs. In one process of its own, "liminald: notifier", a child of the daemon, loaded
 * with dlopen(3) (RTLD_NOW, RTLD_LOCAL). All calls are made there, by its one thread, one after
 * the other. Clients wait for their own answers only: everything else of their connection
 * goes on.
 *
 * A crash (a signal, exit(3), abort(3)) in any call ends that process and nothing else: not the
 * daemon, not a connection. The daemon starts another one, which loads the module and calls init
 * again, and goes on with what was not yet handled. The call that crashed counts as said below,
 * and is not made again. Memory of earlier processes is gone: a module that has to remember
 * keeps what it knows outside (a file, a database).
 *
 * Time. Each call, init included, may take the configured timeout (default 1 s). At its end the
 * process is killed with SIGKILL, whatever the module does with signals, and that counts as
 * a crash. Loading (constructors) gets at least 5 s.
 *
 * Order. The calls for one connection come in the order in which things happened; accepted
 * worker_registered and worker_unregistered alternate. There is no order between connections
 * but that of the calls.
 *
 * The process. It has the daemon's user and directory. SIGPIPE is ignored and SIGTERM blocked: a
 * module that starts programs resets both for them. Standard error is the daemon's log, in the
 * foreground. The module may start threads and children and keep descriptors open (a child of
 * fork(2) has none of the daemon's, and must not return from the call); it must not
 * close descriptors that it did not open, change signal dispositions or masks lastingly, change
 * PR_SET_PDEATHSIG, or keep the pointers that it is given beyond a call. When the daemon ends, the process ends
 * with _exit(2): nothing of the module is called then, so what must be on disk has to be there
 * at the end of each call.
 *
 * Text is UTF-8 and NUL-terminated.
 */
#ifndef LIMINAL_NOTIFIER_H
#define LIMINAL_NOTIFIER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LIMINAL_NOTIFIER_API __attribute__((visibility("default")))
#else
#define LIMINAL_NOTIFIER_API
#endif

/* Raised when a module that was built with an older header would not work any more. A module of
 * another version is not loaded: at its start the daemon says so and exits with status 1. */
#define LIMINAL_NOTIFIER_VERSION 1

/* What a worker declared. */
struct liminal_registration {
	const char *const *namespaces;		/* at least one */
	size_t n_namespaces;
	const char *task_queue;
	const char *node;			/* NULL when absent */
	const char *const *activity_types;	/* none = all */
	size_t n_activity_types;
	const char *identity;
};

/* Any of the four may be NULL. */
struct liminal_notifier {
	uint32_t version;		/* LIMINAL_NOTIFIER_VERSION; stays the first member */

	/*
	 * Called once in each process before anything else, with the module's args of the
	 * configuration: ARGV has ARGC of them (argv[0] is the first one, not a name) and a NULL
	 * behind; they stay valid. 0 = good; anything else: the daemon refuses to start,
	 * or, when it is running, tries again with growing pauses.
	 */
	int (*init)(int argc, const char *const *argv);

	/*
	 * The worker of connection CONN_ID wants to register. 0 = accepted; else it is rejected
	 * with the text in REASON (REASON_SIZE bytes, an empty text before the call), and nothing
	 * of it is recorded. The worker has no acknowledgement, and gets no work, before this
	 * returns. A crash, or no answer within the timeout, is a rejection; worker_unregistered
	 * is then not called for it. NULL: accepted.
	 *
	 * A worker that registers again on one connection replaces its registration: the module
	 * sees worker_unregistered for the old one, then worker_registered for the new one. If it
	 * rejects that, it is asked about the old one again, which it should accept: else the
	 * worker has no registration at all.
	 */
	int (*worker_registered)(uint64_t conn_id,
	    const struct liminal_registration *registration, char *reason, size_t reason_size);

	/*
	 * A registration that was accepted has ended: its connection has ended, however it did,
	 * or is about to replace it, or did not wait long enough for the acceptance. Called exactly
	 * once for each accepted registration, also for one that an earlier process had
	 * accepted. A call during which the process ends counts as made. What cannot be told: when
	 * the daemon itself is killed, or these calls hang or take more than 30 seconds together
	 * while it shuts down, its workers are gone, and the next daemon's conn ids begin
	 * from 1 again. NULL: nothing.
	 */
	void (*worker_unregistered)(uint64_t conn_id);

	/*
	 * Connection CONN_ID publishes to CHANNEL, before anybody gets it. PAYLOAD is the
	 * application's payload in the message's envelope, LENGTH bytes, byte for byte. 1 = consumed: nobody else gets
	 * the message, the publisher gets no answer, and the channel need not be configured.
	 * Else it takes its usual way, as it does after a crash or without an answer within the
	 * timeout (so a message whose call took too long may be seen twice: here and by
	 * subscribers). Publishes of one connection are asked about, and take effect, in their order. While this
	 * is NULL publishing costs nothing extra.
	 */
	int (*channel_publish)(uint64_t conn_id, const char *channel, const void *payload,
	    size_t length);
};

/* What a module exports. */
extern LIMINAL_NOTIFIER_API const struct liminal_notifier liminal_notifier;

#ifdef __cplusplus
}
#endif

#endif
