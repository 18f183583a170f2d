/* notices: see notices.h. */
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/master.h"
#include "liminald/notices.h"

/* Pauses before replacements, so that a keeper which dies at once does not eat a core; short,
 * since the callers of workers that die meanwhile wait for it. One that has lived for a
 * while has earned the immediate replacement again. */
#define NOTICES_PAUSE_MIN_NS	(10 * CLOCK_MS)
#define NOTICES_PAUSE_MAX_NS	(500 * CLOCK_MS)
#define NOTICES_EARNED_NS	CLOCK_SECOND

/* One clean-up is a transaction of microseconds. With the write lock stuck it waits for
 * the watchdog (2 s and a tick) at most; after this long the keeper itself is stuck. */
#define NOTICES_ANSWER_NS	(10 * CLOCK_SECOND)

/* The same once the connections are being closed: there is a second for everything then, and
 * another keeper can still clean up in it. */
#define NOTICES_ANSWER_CLOSING_NS	(200 * CLOCK_MS)

/* Answers per turn of the loop. */
#define NOTICES_PER_TURN	256

void
notices_init(struct notices *notices)
{
	*notices = (struct notices){ .fd = -1, .slot = SLOTS_NONE, .restart_ns = INT64_MAX };
}

/* The next keeper is due after a pause that doubles. */
static void
notices_schedule(struct notices *notices, int64_t now_ns)
{
	if (notices->is_closed)
		return;
	notices->restart_ns = now_ns + notices->pause_ns;
	if (notices->pause_ns == 0)
		notices->pause_ns = NOTICES_PAUSE_MIN_NS;
	else if (notices->pause_ns < NOTICES_PAUSE_MAX_NS / 2)
		notices->pause_ns *= 2;
	else
		notices->pause_ns = NOTICES_PAUSE_MAX_NS;
}

static int
notices_start_failed(struct notices *notices, const char *what, int64_t now_ns)
{
	log_warn("keeper not started: %s", what);
	if (notices->pause_ns == 0)
		notices->pause_ns = NOTICES_PAUSE_MIN_NS;
	notices_schedule(notices, now_ns);
	return -1;
}

int
notices_start(struct master *master, int64_t now_ns)
{
	struct notices *notices = &master->notices;
	struct process_child child;
	int ends[2], saved;
	pid_t pid;

	notices->restart_ns = INT64_MAX;
	/* Blocking, for the keeper; this end is only used with MSG_DONTWAIT. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == -1)
		return notices_start_failed(notices, "socketpair", now_ns);
	notices->slot = slots_take(&master->slots, BOARD_KEEPER, 0, NULL);
	if (notices->slot == SLOTS_NONE)
		log_panic("keeper has no slot");
	child = (struct process_child){ .board = master->board, .slot = notices->slot,
	    .title = "keeper", .keep_fd = ends[1], .failure_status = ROLE_EXIT_SYSTEM };
	pid = process_fork(&master->family, &child);
	if (pid == 0) {
		struct role_context context = master_context(master, notices->slot);

		_exit(master->roles->keeper(&context, ends[1]));
	}
	saved = errno;
	close(ends[1]);
	if (pid == -1) {
		close(ends[0]);
		slots_give_back(&master->slots, notices->slot);
		notices->slot = SLOTS_NONE;
		errno = saved;
		return notices_start_failed(notices, "fork", now_ns);
	}
	slots_forked(&master->slots, notices->slot, pid);
	notices->fd = ends[0];
	notices->started_ns = now_ns;
	notices->is_full = 0;
	log_debug("keeper started pid=%d", (int)pid);
	notices_send(master, now_ns);
	return 0;
}

/* The keeper does not read any more. */
static void
notices_broken(struct master *master)
{
	struct notices *notices = &master->notices;

	close(notices->fd);
	notices->fd = -1;
	notices->is_full = 0;
	if (notices->slot != SLOTS_NONE)
		slots_kill(&master->slots, notices->slot, SIGKILL, "it left its master");
}

/* 1 sent, 0 not now. */
static int
notices_write(struct master *master, const struct role_notice *notice)
{
	struct notices *notices = &master->notices;

	if (send(notices->fd, notice, sizeof(*notice), MSG_DONTWAIT | MSG_NOSIGNAL) ==
	    (ssize_t)sizeof(*notice)) {
		notices->is_full = 0;
		return 1;
	}
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR)
		notices->is_full = 1;
	else
		notices_broken(master);
	return 0;
}

void
notices_send(struct master *master, int64_t now_ns)
{
	struct notices *notices = &master->notices;
	struct slots *slots = &master->slots;
	uint32_t i;

	if (notices->fd != -1 && notices->drain_is_due) {
		struct role_notice notice = { .kind = ROLE_NOTICE_DRAIN };

		if (!notices_write(master, &notice))
			return;
		notices->drain_is_due = 0;
	}
	while (notices->fd != -1 && (i = slots->ended.first) != SLOTS_NONE) {
		const struct slots_slot *s = &slots->slot[i];
		struct role_notice notice = { .kind = ROLE_NOTICE_ENDED, .slot = i,
		    .conn_id = s->conn_id, .wait_status = s->wait_status, .pid = s->pid };

		if (!notices_write(master, &notice))
			return;
		slots_told(slots, i, now_ns);
	}
}

static void
notices_answered(struct master *master, const struct role_answer *answer)
{
	struct slots *slots = &master->slots;
	const struct slots_slot *s;

	if (answer->slot >= slots->n)
		return;
	s = &slots->slot[answer->slot];
	if (s->kind != BOARD_CONNECTION || s->conn_id != answer->conn_id)
		return;
	if (answer->kind == ROLE_ANSWER_CLEAN && s->state == SLOTS_TOLD)
		slots_cleaned(slots, answer->slot);
	/* It may have ended since the keeper looked. */
	if (answer->kind == ROLE_ANSWER_STUCK && s->state == SLOTS_LIVE) {
		log_warnx("stuck conn=%" PRIu64 " pid=%d peer=%s since_ms=%" PRId64, s->conn_id,
		    (int)s->pid, s->peer, answer->stuck_ns / CLOCK_MS);
		slots_kill(slots, answer->slot, SIGKILL, "it did not look at its inbox");
	}
}

void
notices_receive(struct master *master)
{
	struct notices *notices = &master->notices;
	struct role_answer answer;
	ssize_t n;

	for (int i = 0; i < NOTICES_PER_TURN && notices->fd != -1; i++) {
		n = recv(notices->fd, &answer, sizeof(answer), MSG_DONTWAIT);
		if (n == (ssize_t)sizeof(answer))
			notices_answered(master, &answer);
		else if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		else
			notices_broken(master);
	}
}

void
notices_ended(struct master *master, int wait_status, int64_t now_ns)
{
	struct notices *notices = &master->notices;
	char reason[128];

	if (!notices->is_closed)
		log_warnx("keeper ended pid=%d reason=\"%s\" restart_in_ms=%d",
		    (int)master->slots.slot[notices->slot].pid,
		    role_describe_end(wait_status, reason, sizeof(reason)),
		    now_ns - notices->started_ns >= NOTICES_EARNED_NS ? 0 :
		    (int)(notices->pause_ns / CLOCK_MS));
	slots_reaped(&master->slots, notices->slot, wait_status);
	notices->slot = SLOTS_NONE;
	if (notices->fd != -1)
		close(notices->fd);
	notices->fd = -1;
	notices->is_full = 0;
	slots_untell(&master->slots);
	notices->drain_is_due = drain_has_begun(&master->drain);
	if (now_ns - notices->started_ns >= NOTICES_EARNED_NS)
		notices->pause_ns = 0;
	notices_schedule(notices, now_ns);
}

/* When the keeper will have been silent for too long; INT64_MAX = it owes no answer. */
static int64_t
notices_patience_ends(const struct master *master)
{
	const struct slots *slots = &master->slots;
	int64_t patience = master->drain.phase >= DRAIN_CLOSING ?
	    NOTICES_ANSWER_CLOSING_NS : NOTICES_ANSWER_NS;

	if (slots->told.n == 0 || master->notices.slot == SLOTS_NONE ||
	    slots->slot[master->notices.slot].killed_for != NULL)
		return INT64_MAX;
	return slots->slot[slots->told.first].told_ns + patience;
}

void
notices_step(struct master *master, int64_t now_ns)
{
	struct notices *notices = &master->notices;
	struct slots *slots = &master->slots;

	if (now_ns >= notices->restart_ns)
		(void)notices_start(master, now_ns);
	if (now_ns < notices_patience_ends(master))
		return;
	log_warnx("keeper stuck pid=%d unanswered=%u", (int)slots->slot[notices->slot].pid,
	    slots->told.n);
	slots_kill(slots, notices->slot, SIGKILL, "it did not answer");
}

int64_t
notices_deadline(const struct master *master)
{
	int64_t patience = notices_patience_ends(master);

	return patience < master->notices.restart_ns ? patience : master->notices.restart_ns;
}

void
notices_drain(struct master *master, int64_t now_ns)
{
	master->notices.drain_is_due = 1;
	notices_send(master, now_ns);
}

void
notices_close(struct master *master)
{
	struct notices *notices = &master->notices;

	notices->is_closed = 1;
	notices->restart_ns = INT64_MAX;
	if (notices->fd != -1)
		close(notices->fd);
	notices->fd = -1;
}
