/*
 * role: what the master and its children agree on.
 *
 * A role is the life of one forked child. It is entered after the common set-up
 * (os/process.h), and its return value is the process's exit status, one of enum role_exit,
 * which the master reads and logs.
 */
#ifndef LIMINAL_ROLE_ROLE_H
#define LIMINAL_ROLE_ROLE_H

#include <stdint.h>

#include "form/conf.h"
#include "os/board.h"

enum role_exit {
	ROLE_EXIT_OK = 0,		/* the peer left, or was asked to */
	ROLE_EXIT_PROTOCOL = 10,	/* bytes that do not decode, or against the protocol */
	ROLE_EXIT_REFUSED = 11,		/* wrong token, no common version, handshake too slow */
	ROLE_EXIT_SHED = 12,		/* the peer does not read what it asked for */
	ROLE_EXIT_STATE = 13,		/* the state environment cannot be used */
	ROLE_EXIT_SYSTEM = 14,		/* memory or a system call failed */
	ROLE_EXIT_FLUSH = 15,		/* the store could not make durable what it had to */
	ROLE_EXIT_MODULE = 16,		/* a module cannot be loaded or does not want to start */
};

/* A sentence for an exit status ("the peer sent bytes that do not decode"). */
const char *role_exit_text(int status);

/* What every child gets from the master; lives as long as the process. */
struct role_context {
	const struct conf *conf;
	struct board *board;
	uint32_t slot;			/* mine */
	int master_fd;			/* reads end-of-file when the master is gone */
};

struct role_peer {
	int fd;				/* the accepted socket, non-blocking; the role closes it */
	uint64_t conn_id;
	char address[64];		/* "10.0.0.7:40112", "[::1]:5", "unix" */
	int is_local;			/* loopback or a Unix socket */
};

/* One connection, from handshake to end. */
int	connection_main(const struct role_context *context, const struct role_peer *peer);

/* The keeper. NOTICES is a SOCK_SEQPACKET socket to the master. */
int	keeper_main(const struct role_context *context, int notices);

/*
 * The other services: the store (group commit of the dispatch record and of durable channels), and
 * the hosts of the notifier's and the router's module. CONTROL is a SOCK_SEQPACKET socket to the master: a service
 * sends one struct role_answer of kind ROLE_ANSWER_READY when it can work, and finishes what it
 * has in its inbox, then ends, when it reads end-of-file from it.
 */
int	store_main(const struct role_context *context, int control);
int	notifier_main(const struct role_context *context, int control);
int	router_main(const struct role_context *context, int control);

/* Master -> keeper, one packet each. */
enum role_notice_kind {
	ROLE_NOTICE_ENDED,	/* a connection's process has ended: clean up, then answer */
	ROLE_NOTICE_DRAIN,	/* shutdown begins: tell every connection */
	ROLE_NOTICE_SERVICE_ENDED,	/* a service has died: wake whoever it may not have woken */
};
struct role_notice {
	uint32_t kind;
	uint32_t slot;
	uint64_t conn_id;
	int32_t wait_status;	/* as wait(2) gave it */
	int32_t pid;
};

/* Keeper or service -> master, one packet each. */
enum role_answer_kind {
	ROLE_ANSWER_CLEAN,	/* nothing of conn_id is left: its slot is free again */
	ROLE_ANSWER_STUCK,	/* conn_id does not look at its inbox: end it */
	ROLE_ANSWER_READY,	/* a service has begun to work; the other fields are 0 */
};
struct role_answer {
	uint32_t kind;
	uint32_t slot;
	uint64_t conn_id;
	int64_t stuck_ns;	/* for how long */
};

/* How a process ended, for people: "exited with status 10 (...)", "killed by signal 9
 * (SIGKILL)", with ", core dumped". Returns OUT. */
char	*role_describe_end(int wait_status, char *out, size_t size);
/* The same of a program that is not ours, whose exit statuses mean nothing here. */
char	*role_describe_program_end(int wait_status, char *out, size_t size);

#endif
