/*
 * liminal crash, close, drain: signals to a connection's process or to the master.
 *
 * A pid that was read somewhere may belong to somebody else by now. So a process is taken hold of
 * first (pidfd), and only then it is verified that it is still the one that was meant; the
 * signal goes to what is held.
 */
#include <sys/pidfd.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "liminal/inspect.h"

static int
signal_number(const struct cli *cli, const char *name)
{
	const char *known;

	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (int sig = 1; sig < NSIG; sig++)
		if ((known = sigabbrev_np(sig)) != NULL && strcasecmp(known, name) == 0)
			return sig;
	return (int)cli_number(cli, name, 1, NSIG - 1, "signal");
}

/* What the state says about CONN_ID; 0, or -1 after a complaint. */
static int
signal_find(struct look *look, uint64_t conn_id, struct connections_row *row)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(look->state, &txn)) == 0) {
		rc = connections_get(txn, conn_id, row);
		state_abort(txn);
	}
	if (rc == ERR_NOTFOUND)
		cli_complain(look->cli, "no connection %llu", (unsigned long long)conn_id);
	else if (rc != 0)
		cli_complain(look->cli, "cannot read the state: %s",
		    state_error_text(look->state));
	return rc == 0 ? 0 : -1;
}

static int
signal_send(struct cli *cli, int pidfd, pid_t pid, int sig)
{
	if (pidfd_send_signal(pidfd, sig, NULL, 0) == 0)
		return 0;
	cli_complain(cli, "cannot signal process %d: %s", (int)pid, strerror(errno));
	if (errno == EPERM)
		cli_complain(cli, "try as root or as the daemon's user");
	return -1;
}

static int
signal_report(struct cli *cli, uint64_t conn_id, pid_t pid, int sig)
{
	const char *name = sigabbrev_np(sig);
	struct listing listing;

	if (!cli->json)
		return CLI_DONE;
	listing_open(&listing, cli, NULL, 0);
	listing_begin_row(&listing, NULL);
	if (conn_id != 0)
		listing_number(&listing, "conn_id", conn_id);
	listing_number(&listing, "pid", (uint64_t)pid);
	listing_string(&listing, "signal", name != NULL ? name : "?");
	listing_end_row(&listing);
	return listing_close(&listing) == 0 ? CLI_DONE : CLI_FAILED;
}

/* The process of CONN_ID, held and verified: a pidfd, or -1 after a complaint. */
static int
signal_hold(struct look *look, uint64_t conn_id, pid_t *pid)
{
	struct connections_row row;
	int pidfd;

	if (signal_find(look, conn_id, &row) != 0)
		return -1;
	*pid = row.pid;
	if ((pidfd = pidfd_open(*pid, 0)) == -1) {
		cli_complain(look->cli, "connection %llu: process %d: %s",
		    (unsigned long long)conn_id, (int)*pid, strerror(errno));
		return -1;
	}
	/* Had it ended before it was held, its row would be gone, or its parent be another. */
	if (signal_find(look, conn_id, &row) == 0) {
		if (row.pid == *pid && look_child(look, *pid) != LOOK_ENDED)
			return pidfd;
		cli_complain(look->cli, "connection %llu: process %d has ended",
		    (unsigned long long)conn_id, (int)*pid);
	}
	close(pidfd);
	return -1;
}

static int
signal_connection(struct cli *cli, uint64_t conn_id, int sig)
{
	struct err err = { 0 };
	struct look look;
	pid_t pid = 0;
	int pidfd, r = -1;

	if (look_require_running(cli, NULL) != 0)
		return CLI_FAILED;
	if (look_open_quietly(&look, cli, &err) != 0) {
		cli_complain(cli, "%s", err.text);
		return CLI_FAILED;
	}
	if ((pidfd = signal_hold(&look, conn_id, &pid)) != -1) {
		r = signal_send(cli, pidfd, pid, sig);
		close(pidfd);
	}
	r = look_close(&look, r == 0 ? CLI_DONE : CLI_FAILED);
	return r == CLI_DONE ? signal_report(cli, conn_id, pid, sig) : r;
}

int
command_crash(struct cli *cli)
{
	static const struct option longs[] = {
		{ "signal", required_argument, NULL, 's' }, { NULL, 0, NULL, 0 }
	};
	int c, sig = SIGSEGV;
	char **arguments;

	while ((c = cli_next_option(cli, "s:", longs)) != -1)
		sig = signal_number(cli, optarg);
	arguments = cli_arguments(cli, 1, 1);
	return signal_connection(cli, (uint64_t)cli_number(cli, arguments[0], 1, INT64_MAX,
	    "connection"), sig);
}

int
command_close(struct cli *cli)
{
	char **arguments;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	arguments = cli_arguments(cli, 1, 1);
	return signal_connection(cli, (uint64_t)cli_number(cli, arguments[0], 1, INT64_MAX,
	    "connection"), SIGTERM);
}

int
command_drain(struct cli *cli)
{
	pid_t pid, again;
	int pidfd, r;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	if (look_require_running(cli, &pid) != 0)
		return CLI_FAILED;
	if (pid <= 0 || (pidfd = pidfd_open(pid, 0)) == -1) {
		cli_complain(cli, "the master of %s is gone; what it left behind goes by itself",
		    cli->dir);
		return CLI_FAILED;
	}
	/* The lock's owner writes its pid there and takes it away at its end. */
	if (look_is_running(cli->dir, &again) != 1 || again != pid) {
		cli_complain(cli, "the liminald of %s has just ended", cli->dir);
		r = -1;
	} else {
		r = signal_send(cli, pidfd, pid, SIGTERM);
	}
	close(pidfd);
	return r == 0 ? signal_report(cli, 0, pid, SIGTERM) : CLI_FAILED;
}
