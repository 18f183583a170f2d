/* limits: see limits.h. */
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "liminald/limits.h"
#include "liminald/slots.h"

/* Read a small file whole; -1 if that is not possible. */
static int
limits_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd == -1)
		return -1;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return -1;
	text[n] = '\0';
	return 0;
}

/* How many processes our control group may have; ULONG_MAX = unlimited or unknown. */
static unsigned long
limits_cgroup_pids(void)
{
	char text[PATH_MAX], path[PATH_MAX + 64], *group, *end;
	unsigned long max;

	/* "0::/system.slice/liminald.service" */
	if (limits_read("/proc/self/cgroup", text, sizeof(text)) == -1)
		return ULONG_MAX;
	group = strstr(text, "0::/");
	if (group == NULL || (group != text && group[-1] != '\n'))
		return ULONG_MAX;
	group += strlen("0::");
	group[strcspn(group, "\n")] = '\0';
	snprintf(path, sizeof(path), "/sys/fs/cgroup%s/pids.max", group);
	if (limits_read(path, text, sizeof(text)) == -1)
		return ULONG_MAX;
	max = strtoul(text, &end, 10);
	return end != text ? max : ULONG_MAX;	/* "max" */
}

void
limits_check(uint32_t max_connections)
{
	unsigned long needed = (unsigned long)max_connections + BOARD_N_SERVICES + 1;
	unsigned long allowed = limits_cgroup_pids();
	struct rlimit nproc;

	if (allowed < needed)
		log_warnx("limit pids.max=%lu needed=%lu advice=\"raise TasksMax of the service "
		    "or lower limits connections\"", allowed, needed);
	/* Root is not bound by it. */
	if (geteuid() != 0 && getrlimit(RLIMIT_NPROC, &nproc) == 0 &&
	    nproc.rlim_cur != RLIM_INFINITY && nproc.rlim_cur < needed)
		log_warnx("limit nproc=%lu needed=%lu advice=\"raise LimitNPROC (ulimit -u) or "
		    "lower limits connections\"", (unsigned long)nproc.rlim_cur, needed);
}
