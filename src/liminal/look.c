/*
 * look: opening the state of a daemon that may be dead, and finding out whether it is.
 */
#include <sys/file.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "liminal/inspect.h"
#include "state/counters.h"
#include "state/store.h"

#define LOOK_LOCK_NAME	"liminald.lock"		/* os/rundir.h */

const char *const look_process_names[] = { "ended", "stopped", "live" };

int
look_is_running(const char *dir, pid_t *pid)
{
	char path[4096], text[24];
	int fd, is_taken;
	ssize_t n;

	if (pid != NULL)
		*pid = 0;
	snprintf(path, sizeof(path), "%s/" LOOK_LOCK_NAME, dir);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) == -1)
		return errno == ENOENT ? 0 : -1;
	/* Shared, so that two onlookers do not see each other; given back at once: a daemon that
	 * starts at this instant tries again. */
	is_taken = flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK;
	if (!is_taken)
		flock(fd, LOCK_UN);
	if (pid != NULL && (n = pread(fd, text, sizeof(text) - 1, 0)) > 0) {
		text[n] = '\0';
		*pid = (pid_t)strtol(text, NULL, 10);
	}
	close(fd);
	return is_taken;
}

int
look_require_running(struct cli *cli, pid_t *pid)
{
	int is_running = look_is_running(cli->dir, pid);

	if (is_running == 1)
		return 0;
	if (is_running == -1)
		cli_complain(cli, "%s/" LOOK_LOCK_NAME ": %s", cli->dir, strerror(errno));
	else
		cli_complain(cli, "no liminald is running on %s", cli->dir);
	return -1;
}

static pid_t
look_read_master(struct look *look)
{
	struct state_txn *txn;
	uint64_t pid = 0;

	if (state_begin_read(look->state, &txn) != 0)
		return 0;
	if (counters_get(txn, "master_pid", &pid) != 0 || pid > INT32_MAX)
		pid = 0;
	state_abort(txn);
	return (pid_t)pid;
}

int
look_open_quietly(struct look *look, struct cli *cli, struct err *err)
{
	memset(look, 0, sizeof(*look));
	look->cli = cli;
	look->is_running = look_is_running(cli->dir, NULL) == 1;
	if (state_open_readonly(&look->state, cli->dir, err) != 0)
		return -1;
	look->master = look_read_master(look);
	return 0;
}

int
look_open(struct look *look, struct cli *cli)
{
	struct err err = { 0 };

	if (look_open_quietly(look, cli, &err) != 0) {
		cli_complain(cli, "%s", err.text);
		if (err.sys == ENOENT || access(cli->dir, F_OK) == -1)
			cli_complain(cli, "is %s the runtime_dir of a liminald (-d)?", cli->dir);
		return -1;
	}
	if (!look->is_running)
		cli_complain(cli, "no liminald is running on %s; this is what the last one left",
		    cli->dir);
	return 0;
}

int
look_open_store(struct look *look, struct cli *cli)
{
	struct err err = { 0 };

	memset(look, 0, sizeof(*look));
	look->cli = cli;
	if (store_open_readonly(&look->state, cli->dir, &err) == 0)
		return 0;
	cli_complain(cli, "%s", err.text);
	if (err.sys == ENOENT || access(cli->dir, F_OK) == -1)
		cli_complain(cli, "is %s the persist_dir of a liminald?", cli->dir);
	return -1;
}

int
look_close(struct look *look, int status)
{
	state_close(look->state);
	look->state = NULL;
	if (look->n_unreadable == 0)
		return status;
	cli_complain(look->cli, "%llu rows do not read back",
	    (unsigned long long)look->n_unreadable);
	return status == CLI_DONE ? CLI_FAILED : status;
}

enum look_process
look_child(const struct look *look, pid_t pid)
{
	char path[40], text[512], *end, letter;
	int fd, parent;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return LOOK_ENDED;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return LOOK_ENDED;
	text[n] = '\0';
	/* The name in parentheses may itself contain any of these characters. */
	end = strrchr(text, ')');
	if (end == NULL || sscanf(end + 1, " %c %d", &letter, &parent) != 2 ||
	    parent != (int)look->master || strchr("ZXx", letter) != NULL)
		return LOOK_ENDED;
	return letter == 'T' || letter == 't' ? LOOK_STOPPED : LOOK_LIVE;
}
