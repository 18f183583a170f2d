/* dirlock: see dirlock.h. */
#include <sys/file.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/dirlock.h"

/* Children of a killed master are killed by the kernel: what takes longer than this to go
 * is stuck, and somebody has to look at it. */
#define DIRLOCK_PATIENCE_NS	(5 * CLOCK_SECOND)
#define DIRLOCK_RETRY_NS	(20 * CLOCK_MS)

static long
dirlock_read_owner(int lock_fd)
{
	char text[24];
	ssize_t n = pread(lock_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtol(text, NULL, 10);
}

static int
dirlock_lock(int lock_fd, const struct dirlock_place *place, struct err *err)
{
	const struct timespec pause = { .tv_nsec = DIRLOCK_RETRY_NS };
	int64_t give_up = clock_now_ns() + DIRLOCK_PATIENCE_NS;
	long owner;

	while (flock(lock_fd, LOCK_EX | LOCK_NB) == -1) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(err, errno, "cannot lock %s %s/%s", place->setting,
			    place->path, place->name);
		if (clock_now_ns() < give_up) {
			nanosleep(&pause, NULL);
			continue;
		}
		owner = dirlock_read_owner(lock_fd);
		if (owner > 0)
			return err_set(err, ERR_BUSY, "%s %s is in use by the liminald "
			    "with pid %ld or by a process that it left behind", place->setting,
			    place->path, owner);
		return err_set(err, ERR_BUSY, "%s %s is in use by another liminald",
		    place->setting, place->path);
	}
	return 0;
}

int
dirlock_take(int dir, const struct dirlock_place *place, uid_t owner, gid_t group,
    int *lock_fd, struct err *err)
{
	char text[24];
	int n, rc;

	/* Closed on exec, not on fork: a program that a connection runs must not keep it. */
	*lock_fd = openat(dir, place->name,
	    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (*lock_fd == -1)
		return err_sys(err, errno, "cannot open %s %s/%s", place->setting, place->path,
		    place->name);
	/* The file belongs to root or to the user; either can open it the next time. */
	rc = owner == (uid_t)-1 || fchown(*lock_fd, owner, group) == 0 ?
	    dirlock_lock(*lock_fd, place, err) :
	    err_sys(err, errno, "cannot give %s %s/%s away", place->setting, place->path,
	    place->name);
	if (rc != 0) {
		close(*lock_fd);
		*lock_fd = -1;
		return rc;
	}
	/* For people only; a failure costs them the pid. */
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(*lock_fd, 0) == 0)
		(void)!pwrite(*lock_fd, text, (size_t)n, 0);
	return 0;
}

void
dirlock_close(int lock_fd)
{
	(void)!ftruncate(lock_fd, 0);
	close(lock_fd);
}
