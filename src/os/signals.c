/* signals: see signals.h. */
#include <stddef.h>

#include "os/signals.h"

static const struct {
	int sig;
	enum signals_event event;
} signals_table[] = {
	{ SIGTERM, SIGNALS_SHUTDOWN },
	{ SIGINT, SIGNALS_SHUTDOWN },
	{ SIGQUIT, SIGNALS_SHUTDOWN },
	{ SIGCHLD, SIGNALS_CHILD },
	{ SIGHUP, SIGNALS_RELOAD },
	{ SIGUSR1, SIGNALS_STATUS },
	{ SIGUSR2, SIGNALS_UPGRADE },
};

#define SIGNALS_N (sizeof(signals_table) / sizeof(signals_table[0]))

static volatile sig_atomic_t signals_seen[SIGNALS_N_EVENTS];

static void
signals_handle(int sig)
{
	for (size_t i = 0; i < SIGNALS_N; i++)
		if (signals_table[i].sig == sig)
			signals_seen[signals_table[i].event]++;
}

void
signals_init(sigset_t *wait_mask)
{
	struct sigaction sa = { .sa_handler = signals_handle };
	sigset_t blocked;

	/* While one handler runs, the others wait: the counts are never torn. */
	sigfillset(&sa.sa_mask);
	sigprocmask(SIG_SETMASK, NULL, wait_mask);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (size_t i = 0; i < SIGNALS_N; i++) {
		sigaddset(&blocked, signals_table[i].sig);
		sigdelset(wait_mask, signals_table[i].sig);
	}
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	for (size_t i = 0; i < SIGNALS_N; i++) {
		signals_seen[signals_table[i].event] = 0;
		sigaction(signals_table[i].sig, &sa, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
}

int
signals_take(enum signals_event event)
{
	int n = signals_seen[event];

	signals_seen[event] = 0;
	return n;
}

void
signals_reset_child(void)
{
	sigset_t mask;

	/* The mask first: what was meant for the master's process group and is pending here goes
	 * to the master's handler, which does nothing in this process. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	for (size_t i = 0; i < SIGNALS_N; i++)
		signal(signals_table[i].sig, SIG_DFL);
}
