/*
 * children: the ends of processes.
 *
 * SIGCHLD says that there is at least one; every end is read, logged once with its real reason,
 * and passed on. Children that are not ours (as pid 1 we inherit orphans) are reaped and
 * forgotten.
 */
#ifndef LIMINAL_LIMINALD_CHILDREN_H
#define LIMINAL_LIMINALD_CHILDREN_H

#include <stdint.h>

struct master;

void	children_reap(struct master *master, int64_t now_ns);

/* Send SIG to every live connection; REASON is static text for the log. */
void	children_signal_connections(struct master *master, int sig, const char *reason);

#endif
