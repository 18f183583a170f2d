/* watchdog: see watchdog.h. */
#include <inttypes.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/master.h"
#include "liminald/watchdog.h"

/* A quarter of the shortest limit below: none is exceeded by much more than that. */
#define WATCHDOG_TICK_NS	(500 * CLOCK_MS)

/* A turn's write transaction takes microseconds, milliseconds at worst. Two seconds are
 * never work; and they bound how long one broken process can hold up the rest. */
#define WATCHDOG_WRITE_NS	(2 * CLOCK_SECOND)

/* A reader blocks nobody, it only keeps freed pages from being used again, so it gets
 * more patience (a debugger's "continue", a listing on a loaded machine). */
#define WATCHDOG_READ_NS	(10 * CLOCK_SECOND)

/* A waiter that is awake at one look may just have been woken; not at several, with the lock
 * standing still all the time. */
#define WATCHDOG_STUCK_LOOKS	3

/* A service that was stopped, by a signal or a debugger, may be continued within this time. */
#define WATCHDOG_STOPPED_NS	(5 * CLOCK_SECOND)

/* A tick that is this late says that the machine stood still, not one process: everybody gets
 * until the next tick. */
#define WATCHDOG_LATE_NS	CLOCK_SECOND

static int64_t
watchdog_age(const _Atomic int64_t *since_ns, int64_t now_ns)
{
	int64_t since = atomic_load(since_ns);

	return since == 0 ? 0 : now_ns - since;
}

static void
watchdog_kill(struct master *master, uint32_t i, const char *reason, int64_t age_ns)
{
	const struct slots_slot *s = &master->slots.slot[i];

	log_warnx("watchdog conn=%" PRIu64 " pid=%d peer=%s reason=\"%s\" for_ms=%" PRId64
	    " action=kill", s->conn_id, (int)s->pid, s->kind == BOARD_CONNECTION ? s->peer :
	    master->services.of[i].name, reason, age_ns / CLOCK_MS);
	slots_kill(&master->slots, i, SIGKILL, reason);
}

/* What one look at all live processes finds. */
struct watchdog_look {
	int64_t now_ns;
	int64_t longest_wait_ns;
	int somebody_writes;
	int has_moved;		/* the lock has changed hands since the last look */
};

static void
watchdog_look_at(struct master *master, uint32_t i, struct watchdog_look *look)
{
	const struct board_slot *b = &master->board->slots[i];
	struct slots_slot *s = &master->slots.slot[i];
	int64_t write_ns = watchdog_age(&b->write_txn_ns, look->now_ns);
	int64_t read_ns = watchdog_age(&b->read_txn_ns, look->now_ns);
	int64_t waits_since = atomic_load(&b->write_wait_ns);

	if (s->killed_for != NULL)
		return;
	if (write_ns != 0)
		look->somebody_writes = 1;
	if (waits_since != 0 && look->now_ns - waits_since > look->longest_wait_ns)
		look->longest_wait_ns = look->now_ns - waits_since;
	if (s->seen_wait_ns != 0 && s->seen_wait_ns != waits_since)
		look->has_moved = 1;
	s->seen_wait_ns = waits_since;
	if (write_ns > WATCHDOG_WRITE_NS)
		watchdog_kill(master, i, "it held the write lock", write_ns);
	else if (read_ns > WATCHDOG_READ_NS)
		watchdog_kill(master, i, "it held a read transaction", read_ns);
}

/*
 * The lock does not move and nobody says that he has it: somebody got it and was stopped, or
 * loops, before he could say so. He is among those that asked for it. Who merely waits
 * sleeps in the kernel; the one that has it is stopped, or runs. (One that was stopped
 * while it waited goes too: it was of no use to anybody.)
 */
static void
watchdog_look_for_holder(struct master *master, uint32_t i, struct watchdog_look *look)
{
	struct slots_slot *s = &master->slots.slot[i];
	int64_t wait_ns = watchdog_age(&master->board->slots[i].write_wait_ns, look->now_ns);
	char state;

	/* Who began to wait after the last look has not been shown to stay. */
	if (wait_ns < WATCHDOG_TICK_NS || s->killed_for != NULL)
		return;
	state = process_state(s->pid);
	if (state == 'T' || state == 't')
		watchdog_kill(master, i, "it was stopped while it asked for the write lock",
		    wait_ns);
	else if (state == 'R' && master->watchdog.stuck_looks >= WATCHDOG_STUCK_LOOKS)
		watchdog_kill(master, i, "it loops and seems to hold the write lock", wait_ns);
}

static void
watchdog_each(struct master *master, struct watchdog_look *look,
    void (*visit)(struct master *, uint32_t, struct watchdog_look *))
{
	struct slots *slots = &master->slots;

	for (uint32_t i = 0; i < BOARD_N_SERVICES; i++)
		if (slots->slot[i].state == SLOTS_LIVE)
			visit(master, i, look);
	for (uint32_t i = slots->live.first; i != SLOTS_NONE; i = slots->slot[i].next)
		visit(master, i, look);
}

/* Those that others wait for; how long the keeper may be silent is the business of notices. */
static void
watchdog_look_for_stopped(struct master *master, int64_t now_ns)
{
	for (uint32_t i = BOARD_SERVICE_SLOT(BOARD_STORE); i < BOARD_N_SERVICES; i++) {
		int64_t *since_ns = &master->watchdog.stopped_ns[i];
		const struct slots_slot *s = &master->slots.slot[i];
		char state = s->state == SLOTS_LIVE ? process_state(s->pid) : 0;

		if (state != 'T' && state != 't')
			*since_ns = 0;
		else if (*since_ns == 0)
			*since_ns = now_ns;
		else if (now_ns - *since_ns > WATCHDOG_STOPPED_NS && s->killed_for == NULL)
			watchdog_kill(master, i, "it was stopped", now_ns - *since_ns);
	}
}

static void
watchdog_look(struct master *master, int64_t now_ns)
{
	struct watchdog *watchdog = &master->watchdog;
	struct watchdog_look look = { .now_ns = now_ns, .has_moved = watchdog->somebody_wrote };

	watchdog_each(master, &look, watchdog_look_at);
	watchdog_look_for_stopped(master, now_ns);
	watchdog->somebody_wrote = look.somebody_writes;
	/* Under load it is normal that one waits long while the lock changes hands. */
	if (look.longest_wait_ns <= WATCHDOG_WRITE_NS || look.somebody_writes ||
	    look.has_moved) {
		watchdog->stuck_looks = 0;
		return;
	}
	watchdog->stuck_looks++;
	watchdog_each(master, &look, watchdog_look_for_holder);
}

/* Nobody holds anything that somebody else waits for. At the end the master waits for the services. */
static int
watchdog_is_idle(const struct master *master)
{
	return master->slots.live.n == 0 && slots_n_uncleaned(&master->slots) == 0 &&
	    master->drain.phase != DRAIN_SERVICES;
}

void
watchdog_step(struct master *master, int64_t now_ns)
{
	struct watchdog *watchdog = &master->watchdog;
	int is_late;

	if (watchdog_is_idle(master)) {
		watchdog->last_ns = 0;
		return;
	}
	if (watchdog->last_ns == 0)
		watchdog->last_ns = now_ns;
	if (now_ns - watchdog->last_ns < WATCHDOG_TICK_NS)
		return;
	is_late = now_ns - watchdog->last_ns > WATCHDOG_TICK_NS + WATCHDOG_LATE_NS;
	watchdog->last_ns = now_ns;
	if (is_late && !watchdog->was_late) {
		watchdog->was_late = 1;
		return;
	}
	watchdog->was_late = is_late;
	watchdog_look(master, now_ns);
}

int64_t
watchdog_deadline(const struct master *master, int64_t now_ns)
{
	if (watchdog_is_idle(master))
		return INT64_MAX;
	return (master->watchdog.last_ns == 0 ? now_ns : master->watchdog.last_ns) +
	    WATCHDOG_TICK_NS;
}
