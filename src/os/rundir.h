/*
 * rundir: the runtime directory and the lock that makes one master its owner.
 *
 * The lock is a flock(2) on <runtime_dir>/liminald.lock. It belongs to the open file, so
 * children keep it: it is free only when the master and every process of it are gone. The
 * file itself is never removed (a new one would be a second lock) and holds the owner's pid.
 */
#ifndef LIMINAL_OS_RUNDIR_H
#define LIMINAL_OS_RUNDIR_H

#include <sys/types.h>

#include "base/err.h"

/*
 * Create PATH (mode 0700; its parent must exist) if it is missing, give it to OWNER unless
 * that is (uid_t)-1, and take the lock, waiting up to 5 s for the processes of a master that
 * has just died. *LOCK_FD is the lock. 0, ERR_BUSY (somebody has it; the text says
 * who) or ERR_SYSTEM.
 */
int	rundir_open(const char *path, uid_t owner, gid_t group, int *lock_fd, struct err *err);

/* Forget the pid in the lock file; the lock itself ends with its last process. */
void	rundir_close(int lock_fd);

#endif
