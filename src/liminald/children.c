/* children: see children.h. */
#include <sys/wait.h>

#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/children.h"
#include "liminald/master.h"

#define CHILDREN_LOG_BURST		20
#define CHILDREN_LOG_INTERVAL_NS	(CLOCK_SECOND)

/* An end that the connection itself chose, in order. */
static int
children_is_orderly(int wait_status)
{
	if (!WIFEXITED(wait_status))
		return 0;
	switch (WEXITSTATUS(wait_status)) {
	case ROLE_EXIT_OK:
	case ROLE_EXIT_PROTOCOL:
	case ROLE_EXIT_REFUSED:
	case ROLE_EXIT_SHED:
		return 1;
	default:
		return 0;
	}
}

static void
children_log_end(const struct slots_slot *s, int wait_status)
{
	static struct log_limit orderly_lines, crash_lines;
	int is_orderly = children_is_orderly(wait_status);
	char reason[128];
	unsigned held;

	if (wait_status == 0) {
		log_debug("ended conn=%" PRIu64 " pid=%d peer=%s reason=\"exited with status 0\"",
		    s->conn_id, (int)s->pid, s->peer);
		return;
	}
	if (!log_limit_allows(is_orderly ? &orderly_lines : &crash_lines, CHILDREN_LOG_BURST,
	    CHILDREN_LOG_INTERVAL_NS, &held))
		return;
	(is_orderly ? log_info : log_warnx)("ended conn=%" PRIu64
	    " pid=%d peer=%s reason=\"%s\"%s%s%s suppressed=%u", s->conn_id, (int)s->pid,
	    s->peer, role_describe_end(wait_status, reason, sizeof(reason)),
	    s->killed_for != NULL ? " cause=\"" : "",
	    s->killed_for != NULL ? s->killed_for : "",
	    s->killed_for != NULL ? "\"" : "", held);
}

static void
children_connection_ended(struct master *master, uint32_t i, int wait_status)
{
	if (!children_is_orderly(wait_status))
		atomic_fetch_add(&master->board->connections_crashed, 1);
	children_log_end(&master->slots.slot[i], wait_status);
	slots_reaped(&master->slots, i, wait_status);
}

void
children_reap(struct master *master, int64_t now_ns)
{
	int wait_status;
	uint32_t i;
	pid_t pid;

	/* Signals coalesce: one SIGCHLD may stand for any number of ends. */
	for (;;) {
		pid = waitpid(-1, &wait_status, WNOHANG);
		if (pid == -1 && errno == EINTR)
			continue;
		if (pid <= 0)
			break;
		i = slots_find_pid(&master->slots, pid);
		if (i == SLOTS_NONE)
			log_debug("reaped stranger pid=%d", (int)pid);
		else if (master->slots.slot[i].kind != BOARD_CONNECTION)
			services_ended(master, i, wait_status, now_ns);
		else
			children_connection_ended(master, i, wait_status);
	}
	notices_send(master, now_ns);
}

void
children_signal_connections(struct master *master, int sig, const char *reason)
{
	struct slots *slots = &master->slots;

	for (uint32_t i = slots->live.first; i != SLOTS_NONE; i = slots->slot[i].next)
		slots_kill(slots, i, sig, reason);
}
