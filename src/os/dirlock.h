/*
 * dirlock: the lock that makes one master the owner of a directory.
 *
 * A flock(2) on a file in it. It belongs to the open file, so children keep it: it is free only
 * when the master and every process of it are gone. The file itself is never removed (a new
 * one would be a second lock) and holds the owner's pid.
 */
#ifndef LIMINAL_OS_DIRLOCK_H
#define LIMINAL_OS_DIRLOCK_H

#include <sys/types.h>

#include "base/err.h"

struct dirlock_place {
	const char *setting;	/* that names the directory, for texts: "runtime_dir" */
	const char *path;	/* of the directory, for texts */
	const char *name;	/* of the file in it */
};

/*
 * Take the lock in the open directory DIR, waiting up to 5 s for the processes of a master that
 * has just died. The file is made if it is missing, and given to OWNER unless that is
 * (uid_t)-1. *LOCK_FD is the lock. 0, ERR_BUSY (somebody has it; the text says who) or
 * ERR_SYSTEM.
 */
int	dirlock_take(int dir, const struct dirlock_place *place, uid_t owner, gid_t group,
	    int *lock_fd, struct err *err);

/* Forget the pid in the file; the lock itself ends with its last process. */
void	dirlock_close(int lock_fd);

#endif
