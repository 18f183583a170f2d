/* rundir: see rundir.h. */
#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/rundir.h"

#define RUNDIR_LOCK_NAME	"liminald.lock"

/* Directories made below by the daemon; given to its user together with the directory. */
static const char *const rundir_below[] = { "state" };

/* Children of a killed master are killed by the kernel: what takes longer than this to go
 * is stuck, and somebody has to look at it. */
#define RUNDIR_LOCK_PATIENCE_NS	(5 * CLOCK_SECOND)
#define RUNDIR_LOCK_RETRY_NS	(20 * CLOCK_MS)

static int
rundir_give(int dir, const char *path, uid_t owner, gid_t group, struct err *err)
{
	if (fchown(dir, owner, group) == -1)
		return err_sys(err, errno, "cannot give %s to the configured user", path);
	for (size_t i = 0; i < sizeof(rundir_below) / sizeof(rundir_below[0]); i++) {
		/* No link is followed: the user could point one at anything. */
		int fd = openat(dir, rundir_below[i],
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd == -1)
			continue;
		if (fchown(fd, owner, group) == -1) {
			err_sys(err, errno, "cannot give %s/%s to the configured user", path,
			    rundir_below[i]);
			close(fd);
			return ERR_SYSTEM;
		}
		close(fd);
	}
	return 0;
}

static long
rundir_read_owner(int lock_fd)
{
	char text[24];
	ssize_t n = pread(lock_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtol(text, NULL, 10);
}

static int
rundir_lock(int lock_fd, const char *path, struct err *err)
{
	const struct timespec pause = { .tv_nsec = RUNDIR_LOCK_RETRY_NS };
	int64_t give_up = clock_now_ns() + RUNDIR_LOCK_PATIENCE_NS;
	long owner;

	while (flock(lock_fd, LOCK_EX | LOCK_NB) == -1) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(err, errno, "cannot lock %s/" RUNDIR_LOCK_NAME, path);
		if (clock_now_ns() < give_up) {
			nanosleep(&pause, NULL);
			continue;
		}
		owner = rundir_read_owner(lock_fd);
		if (owner > 0)
			return err_set(err, ERR_BUSY, "runtime_dir %s is in use by the liminald "
			    "with pid %ld or by a process that it left behind", path, owner);
		return err_set(err, ERR_BUSY, "runtime_dir %s is in use by another liminald",
		    path);
	}
	return 0;
}

int
rundir_open(const char *path, uid_t owner, gid_t group, int *lock_fd, struct err *err)
{
	char text[24];
	int dir, n, rc;

	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return err_sys(err, errno, "cannot create runtime_dir %s", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir == -1)
		return err_sys(err, errno, "cannot use runtime_dir %s", path);
	if (owner != (uid_t)-1) {
		rc = rundir_give(dir, path, owner, group, err);
		if (rc != 0) {
			close(dir);
			return rc;
		}
	}
	/* Closed on exec, not on fork: a program that a connection runs must not keep it. */
	*lock_fd = openat(dir, RUNDIR_LOCK_NAME,
	    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (*lock_fd == -1) {
		rc = err_sys(err, errno, "cannot open %s/" RUNDIR_LOCK_NAME, path);
		close(dir);
		return rc;
	}
	close(dir);
	/* The file belongs to root or to the user; either can open it the next time. */
	rc = owner == (uid_t)-1 || fchown(*lock_fd, owner, group) == 0 ?
	    rundir_lock(*lock_fd, path, err) :
	    err_sys(err, errno, "cannot give %s/" RUNDIR_LOCK_NAME " away", path);
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
rundir_close(int lock_fd)
{
	(void)!ftruncate(lock_fd, 0);
	close(lock_fd);
}
