/*
 * signals: what the master is told by signals.
 *
 * The signals are blocked always and let in only while the master waits in ppoll(2), so a
 * handler that sets a flag is enough: no self-pipe, no signalfd, nothing that a
 * child would inherit and share.
 */
#ifndef LIMINAL_OS_SIGNALS_H
#define LIMINAL_OS_SIGNALS_H

#include <signal.h>

enum signals_event {
	SIGNALS_SHUTDOWN,	/* TERM, INT, QUIT */
	SIGNALS_CHILD,		/* CHLD; any number of ends */
	SIGNALS_RELOAD,		/* HUP */
	SIGNALS_STATUS,		/* USR1 */
	SIGNALS_UPGRADE,	/* USR2 */
	SIGNALS_N_EVENTS
};

/* Block them, install the handlers (explicit ones: as pid 1 the default actions do not
 * happen), ignore PIPE. WAIT_MASK is what ppoll(2) gets. */
void	signals_init(sigset_t *wait_mask);

/* How often EVENT has come since the last call (CHILD: at least 1 when any has). To be called
 * while the signals are blocked. */
int	signals_take(enum signals_event event);

/* In a child: as a fresh program has them, except that PIPE stays ignored and TERM stays
 * blocked until the role has its own handler. */
void	signals_reset_child(void);

#endif
