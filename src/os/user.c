/* user: see user.h. */
#include <sys/prctl.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "os/user.h"

int
user_find(struct user *user, const char *name, struct err *err)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL && errno != 0 && errno != ENOENT)
		return err_sys(err, errno, "cannot look up user %s", name);
	if (pw == NULL)
		return err_set(err, ERR_NOTFOUND, "user = \"%s\": there is no such user", name);
	user->uid = pw->pw_uid;
	user->gid = pw->pw_gid;
	snprintf(user->name, sizeof(user->name), "%s", name);
	return 0;
}

int
user_become(const struct user *user, struct err *err)
{
	if (initgroups(user->name, user->gid) == -1 ||
	    setresgid(user->gid, user->gid, user->gid) == -1 ||
	    setresuid(user->uid, user->uid, user->uid) == -1)
		return err_sys(err, errno, "cannot become user %s", user->name);
	/* The kernel has just made us undumpable, and with that /proc/self root's: a child
	 * could not raise its out-of-memory score again, and a crash would leave no core. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == -1)
		return err_sys(err, errno, "dumpable");
	return 0;
}
