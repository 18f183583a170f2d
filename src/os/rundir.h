/*
 * rundir: the two directories that the daemon has to itself, and their locks.
 *
 * The runtime directory is made if it is missing and given to the daemon's user. The
 * persistence directory is the administrator's: it has to be there and to be writable.
 */
#ifndef LIMINAL_OS_RUNDIR_H
#define LIMINAL_OS_RUNDIR_H

#include <sys/types.h>

#include "base/err.h"

/*
 * Create PATH (mode 0700; its parent must exist) if it is missing, give it to OWNER unless
 * that is (uid_t)-1, and take its lock (os/dirlock.h). 0, ERR_BUSY or ERR_SYSTEM.
 */
int	rundir_open(const char *path, uid_t owner, gid_t group, int *lock_fd, struct err *err);

/* Check the persistence directory PATH as the user that we are for good, and take its lock. 0,
 * ERR_BUSY or ERR_SYSTEM. */
int	rundir_open_persistent(const char *path, int *lock_fd, struct err *err);

#endif
