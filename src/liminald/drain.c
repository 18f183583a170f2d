/* drain: see drain.h. */
#include <inttypes.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/children.h"
#include "liminald/drain.h"
#include "liminald/master.h"

/* Counted from the first use of force; together less than the second that a shutdown may take
 * beyond the drain timeout. A connection asked to go needs a Disconnect and one transaction;
 * one that does not listen is stopped or loops. */
#define DRAIN_CLOSING_NS	(500 * CLOCK_MS)
#define DRAIN_SETTLED_NS	(650 * CLOCK_MS)
#define DRAIN_KEEPER_NS		(300 * CLOCK_MS)

/* What the notifier and the router get: two calls of their modules, but never less than what a
 * handful of short ones takes, nor more than an operator waits for. A notifier whose calls
 * return has one for each worker that was there, and gets as long as the store. */
#define DRAIN_MODULE_CALLS	2
#define DRAIN_MODULE_MIN_NS	CLOCK_SECOND
#define DRAIN_MODULE_MAX_NS	(5 * CLOCK_SECOND)

/* What the store gets: a disk may be slow, and what is lost here was promised. */
#define DRAIN_STORE_NS		(30 * CLOCK_SECOND)

/* From a kill to the last look: only what the kernel cannot end is still there. */
#define DRAIN_BURY_NS		CLOCK_SECOND

#define DRAIN_LOG_NS		CLOCK_SECOND
#define DRAIN_LOG_UNCHANGED_NS	(5 * CLOCK_SECOND)
#define DRAIN_LOG_FLUSH_NS	(5 * CLOCK_SECOND)

static void
drain_enter(struct drain *drain, enum drain_phase phase, int64_t deadline_ns)
{
	drain->phase = phase;
	drain->deadline_ns = deadline_ns;
}

static void
drain_close_listeners(struct master *master)
{
	for (unsigned i = 0; i < master->n_listeners; i++)
		net_listener_close(&master->listeners[i]);
	master->n_listeners = 0;
}

static void
drain_force(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;

	drain->end_ns = now_ns + DRAIN_SETTLED_NS;
	drain_enter(drain, DRAIN_CLOSING, now_ns + DRAIN_CLOSING_NS);
	if (master->slots.live.n != 0)
		log_info("shutdown force_close=%u", master->slots.live.n);
	children_signal_connections(master, SIGTERM, "shutdown");
}

void
drain_request(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;
	int64_t timeout = master->conf->drain_timeout_ns;

	if (drain->phase == DRAIN_RUNNING) {
		log_info("shutdown begins connections=%u drain_timeout_ms=%" PRId64,
		    master->slots.live.n, timeout / CLOCK_MS);
		drain_enter(drain, DRAIN_WAITING, now_ns + timeout);
		drain->progress_ns = now_ns + DRAIN_LOG_NS;
		drain->logged_ns = now_ns;
		drain->logged_n = master->slots.live.n;
		drain_close_listeners(master);
		notices_drain(master, now_ns);
	} else if (drain->phase == DRAIN_WAITING) {
		log_info("shutdown asked again: not waiting any longer");
		drain_force(master, now_ns);
	}
}

void
drain_set_status(struct drain *drain, int status)
{
	if (drain->exit_status == MASTER_EXIT_OK)
		drain->exit_status = status;
}

void
drain_fail(struct master *master, int status, int64_t now_ns)
{
	drain_set_status(&master->drain, status);
	if (!drain_has_begun(&master->drain))
		drain_request(master, now_ns);
}

static void
drain_log_progress(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;

	if (now_ns < drain->progress_ns)
		return;
	drain->progress_ns = now_ns + DRAIN_LOG_NS;
	if (drain->logged_n == master->slots.live.n &&
	    now_ns - drain->logged_ns < DRAIN_LOG_UNCHANGED_NS)
		return;
	log_info("shutdown drains connections=%u left_ms=%" PRId64, master->slots.live.n,
	    (drain->deadline_ns - now_ns) / CLOCK_MS);
	drain->logged_ns = now_ns;
	drain->logged_n = master->slots.live.n;
}

/* The phases in which connections are still there. */
static void
drain_step_connections(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;

	if (master->slots.live.n == 0) {
		/* Without any force there is a whole second left for the rest. */
		if (drain->phase == DRAIN_WAITING)
			drain->end_ns = now_ns + DRAIN_SETTLED_NS;
		drain_enter(drain, DRAIN_SETTLING, drain->end_ns);
	} else if (now_ns < drain->deadline_ns) {
		if (drain->phase == DRAIN_WAITING)
			drain_log_progress(master, now_ns);
	} else if (drain->phase == DRAIN_WAITING) {
		drain_force(master, now_ns);
	} else if (drain->phase == DRAIN_CLOSING) {
		log_warnx("shutdown kill=%u", master->slots.live.n);
		drain_enter(drain, DRAIN_KILLING, drain->end_ns);
		children_signal_connections(master, SIGKILL, "it did not leave at shutdown");
	} else {
		/* They are dead, the kernel just has not buried them all. */
		drain_enter(drain, DRAIN_SETTLING, drain->end_ns);
	}
}

static int64_t
drain_module_ns(int64_t timeout_ns)
{
	int64_t ns = timeout_ns < DRAIN_MODULE_MAX_NS ? DRAIN_MODULE_CALLS * timeout_ns :
	    DRAIN_MODULE_MAX_NS;

	return ns < DRAIN_MODULE_MIN_NS ? DRAIN_MODULE_MIN_NS :
	    ns > DRAIN_MODULE_MAX_NS ? DRAIN_MODULE_MAX_NS : ns;
}

/* The keeper has cleaned up: nothing new gets into an inbox but by the services themselves. */
static void
drain_enter_services(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;
	const struct conf *conf = master->conf;

	services_leave(master, BOARD_NOTIFIER, drain_module_ns(conf->notifier_timeout_ns),
	    DRAIN_STORE_NS, now_ns);
	services_leave(master, BOARD_ROUTER, drain_module_ns(conf->router_timeout_ns), 0, now_ns);
	services_leave(master, BOARD_STORE, DRAIN_STORE_NS, DRAIN_STORE_NS, now_ns);
	drain_enter(drain, DRAIN_SERVICES, now_ns + DRAIN_STORE_NS + DRAIN_BURY_NS);
	drain->progress_ns = now_ns + DRAIN_LOG_FLUSH_NS;
}

static void
drain_step_services(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;
	const struct services_service *store = services_get(&master->services, BOARD_STORE);

	if (now_ns >= drain->progress_ns) {
		if (!services_is_over(master, BOARD_NOTIFIER))
			log_info("shutdown notifier_tells pid=%d",
			    services_pid(master, BOARD_NOTIFIER));
		drain->progress_ns = now_ns + DRAIN_LOG_FLUSH_NS;
		if (!services_is_over(master, BOARD_STORE))
			log_info("shutdown store_flushes pid=%d left_ms=%" PRId64,
			    services_pid(master, BOARD_STORE),
			    (store->leave_by_ns - now_ns) / CLOCK_MS);
	}
	if (now_ns < drain->deadline_ns && !(services_is_over(master, BOARD_STORE) &&
	    services_is_over(master, BOARD_NOTIFIER) && services_is_over(master, BOARD_ROUTER)))
		return;
	/* It failed, was killed, or could not be started again in its time. */
	if (store->main != NULL && store->was_ready && !store->has_finished) {
		log_errorx("store did not flush setting=\"persist_dir\" advice=\"what was recorded "
		    "last may be missing\"");
		drain_set_status(drain, MASTER_EXIT_FLUSH);
	}
	drain_enter(drain, DRAIN_DONE, now_ns);
}

void
drain_step(struct master *master, int64_t now_ns)
{
	struct drain *drain = &master->drain;
	uint32_t uncleaned;

	if (drain->phase >= DRAIN_WAITING && drain->phase <= DRAIN_KILLING)
		drain_step_connections(master, now_ns);
	if (drain->phase == DRAIN_SETTLING) {
		uncleaned = slots_n_uncleaned(&master->slots) + master->slots.live.n;
		if (uncleaned != 0 && now_ns < drain->deadline_ns)
			return;
		if (uncleaned != 0)
			log_warnx("shutdown not_cleaned_up=%u", uncleaned);
		drain_enter(drain, DRAIN_KEEPER, now_ns + DRAIN_KEEPER_NS);
		services_leave(master, BOARD_KEEPER, drain->deadline_ns - now_ns, 0, now_ns);
	}
	/* Who kills the keeper at the deadline does not wait for it: it dies with its master at
	 * the latest. */
	if (drain->phase == DRAIN_KEEPER && (services_is_over(master, BOARD_KEEPER) ||
	    now_ns >= drain->deadline_ns))
		drain_enter_services(master, now_ns);
	if (drain->phase == DRAIN_SERVICES)
		drain_step_services(master, now_ns);
}

int64_t
drain_deadline(const struct drain *drain)
{
	switch (drain->phase) {
	case DRAIN_RUNNING:
		return INT64_MAX;
	case DRAIN_WAITING:
	case DRAIN_SERVICES:
		return drain->progress_ns < drain->deadline_ns ? drain->progress_ns :
		    drain->deadline_ns;
	default:
		return drain->deadline_ns;
	}
}
