/*
 * services: the processes beside those of the connections: keeper, store, notifier, router.
 *
 * The one home for starting, replacing and ending them; what the keeper is told is notices.h.
 * Each has a control socket whose end tells it to finish and go. Until a service has once said
 * that it is ready, its end is the end of the daemon's start; later ends are mended: at once the
 * first time, then with growing pauses. Nothing here waits.
 */
#ifndef LIMINAL_LIMINALD_SERVICES_H
#define LIMINAL_LIMINALD_SERVICES_H

#include <stdint.h>

#include "os/board.h"

struct master;
struct role_context;

enum services_phase {
	SERVICES_DOWN,		/* no process */
	SERVICES_STARTING,	/* one that has not said yet that it is ready */
	SERVICES_READY,
};

struct services_service {
	const char *name;	/* for log and title */
	/* NULL = not configured, everything below is without meaning */
	int (*main)(const struct role_context *context, int control);
	enum services_phase phase;
	int fd;			/* its control socket; -1 = closed */
	int was_ready;		/* some process of it has worked */
	int is_leaving;		/* it was asked to go */
	int has_finished;	/* and has done so in order */
	int64_t since_ns;	/* of the phase */
	int64_t patience_ns;	/* how long STARTING may take */
	int64_t pause_ns;	/* before the next replacement */
	int64_t restart_ns;	/* when; INT64_MAX = not due */
	int64_t gone_by_ns;	/* it has closed its end: killed then; INT64_MAX = it has not */
	/* is_leaving: killed then; as long as it gets on, it gets LEAVE_MORE_NS again and again */
	int64_t leave_by_ns;
	int64_t leave_from_ns, leave_more_ns, leave_limit_ns;
	uint64_t leave_looked;	/* the board's count of its rounds at LEAVE_FROM_NS */
};

struct services {
	struct services_service of[BOARD_N_SERVICES];	/* each at its BOARD_SERVICE_SLOT */
};

static inline struct services_service *
services_get(struct services *services, enum board_kind kind)
{
	return &services->of[BOARD_SERVICE_SLOT(kind)];
}

/* Which ones the configuration wants; starts nothing. */
void	services_init(struct master *master);

/* Start all. 0, or -1 when one has no process (logged). Never returns in a child. */
int	services_start(struct master *master, int64_t now_ns);

/* 1 when every configured service has been ready once. */
int	services_are_ready(const struct master *master);

/* The control socket of service I can be read. */
void	services_receive(struct master *master, uint32_t i, int64_t now_ns);

/* The process of service I has been reaped. */
void	services_ended(struct master *master, uint32_t i, int wait_status, int64_t now_ns);

/* Service I has closed its end of the control socket. Most likely it is just ending. */
void	services_hung_up(struct master *master, uint32_t i, int64_t now_ns);

/* Replace, and kill, what is due. */
void	services_step(struct master *master, int64_t now_ns);
int64_t	services_deadline(const struct master *master);

/* Ask the service to finish and go; who has something to finish and no process gets one for it.
 * What is still there after PATIENCE_NS is killed, unless it has got on meanwhile, and LIMIT_NS are
 * not over. */
void	services_leave(struct master *master, enum board_kind kind, int64_t patience_ns,
	    int64_t limit_ns, int64_t now_ns);

/* 1 when it has no process and gets none any more (also: when it is not configured). */
int	services_is_over(const struct master *master, enum board_kind kind);

/* The pid of its process, or 0. */
int	services_pid(const struct master *master, enum board_kind kind);

#endif
