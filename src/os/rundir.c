/* rundir: see rundir.h. */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "os/dirlock.h"
#include "os/rundir.h"

/* Names of their own, so that one directory may be both, of one daemon or of two. */
#define RUNDIR_LOCK_NAME		"liminald.lock"
#define RUNDIR_LOCK_PERSISTENT_NAME	"liminald-store.lock"

/* Directories made below by the daemon; given to its user together with the directory. */
static const char *const rundir_below[] = { "state" };

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

int
rundir_open(const char *path, uid_t owner, gid_t group, int *lock_fd, struct err *err)
{
	const struct dirlock_place place = { "runtime_dir", path, RUNDIR_LOCK_NAME };
	int dir, rc = 0;

	if (mkdir(path, 0700) == -1 && errno != EEXIST)
		return err_sys(err, errno, "cannot create runtime_dir %s", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir == -1)
		return err_sys(err, errno, "cannot use runtime_dir %s", path);
	if (owner != (uid_t)-1)
		rc = rundir_give(dir, path, owner, group, err);
	if (rc == 0)
		rc = dirlock_take(dir, &place, owner, group, lock_fd, err);
	close(dir);
	return rc;
}

int
rundir_open_persistent(const char *path, int *lock_fd, struct err *err)
{
	const struct dirlock_place place = { "persist_dir", path, RUNDIR_LOCK_PERSISTENT_NAME };
	int dir, rc;

	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir == -1)
		return err_sys(err, errno, "cannot use persist_dir %s", path);
	if (faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) == -1)
		rc = err_sys(err, errno, "persist_dir %s cannot be written by uid %ld", path,
		    (long)geteuid());
	else
		rc = dirlock_take(dir, &place, (uid_t)-1, (gid_t)-1, lock_fd, err);
	close(dir);
	return rc;
}
