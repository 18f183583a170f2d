/* user: whom a daemon that was started as root becomes. */
#ifndef LIMINAL_OS_USER_H
#define LIMINAL_OS_USER_H

#include <sys/types.h>

#include "base/err.h"

struct user {
	uid_t uid;
	gid_t gid;
	char name[64];
};

/* 0, ERR_NOTFOUND (no such user) or ERR_SYSTEM. */
int	user_find(struct user *user, const char *name, struct err *err);

/* Become USER with its groups, for good. Core dumps stay possible. */
int	user_become(const struct user *user, struct err *err);

#endif
