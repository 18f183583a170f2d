/* notices: see notices.h. */
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/master.h"
#include "liminald/notices.h"

/* One clean-up is a transaction of microseconds. With the write lock stuck it waits for
 * the watchdog (2 s and a tick) at most; after this long the keeper itself is stuck. */
#define NOTICES_ANSWER_NS	(10 * CLOCK_SECOND)

/* The same once the connections are being closed: there is a second for everything then, and
 * another keeper can still clean up in it. */
#define NOTICES_ANSWER_CLOSING_NS	(200 * CLOCK_MS)

/* Answers per turn of the loop. */
#define NOTICES_PER_TURN	256

static struct services_service *
notices_keeper(struct master *master)
{
	return services_get(&master->services, BOARD_KEEPER);
}

static void
notices_broken(struct master *master, int64_t now_ns)
{
	master->notices.is_full = 0;
	services_hung_up(master, BOARD_SERVICE_SLOT(BOARD_KEEPER), now_ns);
}

/* 1 sent, 0 not now. */
static int
notices_write(struct master *master, const struct role_notice *notice, int64_t now_ns)
{
	struct notices *notices = &master->notices;

	if (send(notices_keeper(master)->fd, notice, sizeof(*notice),
	    MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*notice)) {
		notices->is_full = 0;
		return 1;
	}
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR)
		notices->is_full = 1;
	else
		notices_broken(master, now_ns);
	return 0;
}

/* One that says nothing but its kind, if *IS_DUE. 0 when it does not fit. */
static int
notices_write_due(struct master *master, int *is_due, enum role_notice_kind kind,
    int64_t now_ns)
{
	const struct role_notice notice = { .kind = (uint32_t)kind };

	if (*is_due && !notices_write(master, &notice, now_ns))
		return 0;
	*is_due = 0;
	return 1;
}

void
notices_send(struct master *master, int64_t now_ns)
{
	struct notices *notices = &master->notices;
	const struct services_service *keeper = notices_keeper(master);
	struct slots *slots = &master->slots;
	uint32_t i;

	if (keeper->fd == -1 ||
	    !notices_write_due(master, &notices->drain_is_due, ROLE_NOTICE_DRAIN, now_ns) ||
	    !notices_write_due(master, &notices->poke_is_due, ROLE_NOTICE_SERVICE_ENDED,
	    now_ns))
		return;
	while (keeper->fd != -1 && (i = slots->ended.first) != SLOTS_NONE) {
		const struct slots_slot *s = &slots->slot[i];
		struct role_notice notice = { .kind = ROLE_NOTICE_ENDED, .slot = i,
		    .conn_id = s->conn_id, .wait_status = s->wait_status, .pid = s->pid };

		if (!notices_write(master, &notice, now_ns))
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
notices_receive(struct master *master, int64_t now_ns)
{
	const struct services_service *keeper = notices_keeper(master);
	struct role_answer answer;
	ssize_t n;

	for (int i = 0; i < NOTICES_PER_TURN && keeper->fd != -1; i++) {
		n = recv(keeper->fd, &answer, sizeof(answer), MSG_DONTWAIT);
		if (n == (ssize_t)sizeof(answer))
			notices_answered(master, &answer);
		else if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		else
			notices_broken(master, now_ns);
	}
}

void
notices_service_ended(struct master *master, uint32_t i, int wait_status)
{
	struct notices *notices = &master->notices;

	if (i == BOARD_SERVICE_SLOT(BOARD_KEEPER)) {
		/* The next one looks after everybody when it starts. */
		notices->is_full = 0;
		notices->poke_is_due = 0;
		notices->drain_is_due = drain_has_begun(&master->drain);
		slots_untell(&master->slots);
	} else if (wait_status != 0) {
		notices->poke_is_due = 1;
	}
}

/* When the keeper will have been silent for too long; INT64_MAX = it owes no answer. */
static int64_t
notices_patience_ends(const struct master *master)
{
	const uint32_t keeper = BOARD_SERVICE_SLOT(BOARD_KEEPER);
	const struct slots *slots = &master->slots;
	int64_t patience = master->drain.phase >= DRAIN_CLOSING ?
	    NOTICES_ANSWER_CLOSING_NS : NOTICES_ANSWER_NS;

	if (slots->told.n == 0 || master->services.of[keeper].phase == SERVICES_DOWN ||
	    slots->slot[keeper].killed_for != NULL)
		return INT64_MAX;
	return slots->slot[slots->told.first].told_ns + patience;
}

void
notices_step(struct master *master, int64_t now_ns)
{
	const uint32_t keeper = BOARD_SERVICE_SLOT(BOARD_KEEPER);
	struct slots *slots = &master->slots;

	if (now_ns < notices_patience_ends(master))
		return;
	log_warnx("keeper stuck pid=%d unanswered=%u", (int)slots->slot[keeper].pid,
	    slots->told.n);
	slots_kill(slots, keeper, SIGKILL, "it did not answer");
}

int64_t
notices_deadline(const struct master *master)
{
	return notices_patience_ends(master);
}

void
notices_drain(struct master *master, int64_t now_ns)
{
	master->notices.drain_is_due = 1;
	notices_send(master, now_ns);
}
