/* master: see master.h. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/children.h"
#include "liminald/master.h"
#include "os/signals.h"

/* The poll set: the services that have a socket, the listeners, the refused. No more than there
 * is: ppoll(2) refuses sets larger than the limit on descriptors. */
struct master_poll {
	uint32_t services[BOARD_N_SERVICES];	/* whose socket comes first, second, ... */
	unsigned n_services;
	struct pollfd fds[BOARD_N_SERVICES + MASTER_LISTEN_MAX + REFUSE_LINGERING_MAX];
	unsigned n_listeners;	/* 0 while nothing is accepted */
	unsigned n_refused;
};

int
master_init(struct master *master, const struct conf *conf, const struct master_roles *roles,
    struct err *err)
{
	memset(master, 0, sizeof(*master));
	master->conf = conf;
	master->roles = roles;
	services_init(master);
	return process_init(&master->family, err);
}

int
master_listen(struct master *master, struct err *err)
{
	const struct conf *conf = master->conf;

	if (conf->n_listen > MASTER_LISTEN_MAX)
		return err_set(err, ERR_INVALID, "listen: %u addresses, at most %d are possible",
		    conf->n_listen, MASTER_LISTEN_MAX);
	for (unsigned i = 0; i < conf->n_listen; i++) {
		int rc = net_listen(&master->listeners[i], conf->listen[i], err);

		if (rc != 0)
			return rc;
		master->n_listeners++;
	}
	return 0;
}

int
master_start(struct master *master, struct err *err)
{
	int rc;

	master->board = board_create(slots_needed(master->conf->max_connections));
	if (master->board == NULL)
		return err_sys(err, errno, "cannot map the board (limits connections = %u)",
		    master->conf->max_connections);
	atomic_store(&master->board->master_pid, (int32_t)master->family.master);
	rc = slots_open(&master->slots, master->board, err);
	if (rc != 0)
		return rc;
	signals_init(&master->wait_mask);
	if (services_start(master, clock_now_ns()) == -1)
		return err_set(err, ERR_SYSTEM, "cannot start the services");
	return 0;
}

void
master_fini(struct master *master)
{
	refuse_close_all(&master->refuse);
	for (unsigned i = 0; i < master->n_listeners; i++)
		net_listener_close(&master->listeners[i]);
	if (master->slots.map != NULL)
		slots_close(&master->slots);
	process_fini(&master->family);
}

struct role_context
master_context(const struct master *master, uint32_t slot)
{
	return (struct role_context){ .conf = master->conf, .board = master->board,
	    .slot = slot, .master_fd = master->family.watch_fd };
}

static void
master_log_status(struct master *master)
{
	const struct board *board = master->board;
	char counters[512];
	size_t len = 0;

	for (int i = 0; i < BOARD_N_COUNTERS && len < sizeof(counters); i++)
		len += (size_t)snprintf(counters + len, sizeof(counters) - len, " %s=%" PRIu64,
		    board_counter_names[i], board_sum(board, (enum board_counter)i));
	/* It was asked for: no log level hides it. */
	log_plain("status pid=%d connections=%u limit=%u accepted=%" PRIu64 " refused=%" PRIu64
	    " crashed=%" PRIu64 " uncleaned=%u keeper_pid=%d store_pid=%d notifier_pid=%d"
	    " router_pid=%d draining=%d%s",
	    (int)master->family.master, master->slots.live.n, master->conf->max_connections,
	    atomic_load(&board->connections_accepted), atomic_load(&board->connections_refused),
	    atomic_load(&board->connections_crashed), slots_n_uncleaned(&master->slots),
	    services_pid(master, BOARD_KEEPER), services_pid(master, BOARD_STORE),
	    services_pid(master, BOARD_NOTIFIER), services_pid(master, BOARD_ROUTER),
	    drain_has_begun(&master->drain), counters);
}

static void
master_handle_signals(struct master *master, int64_t now_ns)
{
	for (int n = signals_take(SIGNALS_SHUTDOWN); n > 0; n--)
		drain_request(master, now_ns);
	if (signals_take(SIGNALS_CHILD))
		children_reap(master, now_ns);
	if (signals_take(SIGNALS_RELOAD))
		log_warnx("reload is not available in this version; restart to change settings");
	if (signals_take(SIGNALS_UPGRADE))
		log_warnx("upgrade in place is not available in this version");
	if (signals_take(SIGNALS_STATUS))
		master_log_status(master);
}

static void
master_fill_poll(struct master *master, struct master_poll *set, int64_t now_ns)
{
	set->n_services = 0;
	for (uint32_t i = 0; i < BOARD_N_SERVICES; i++) {
		int wants_room = i == BOARD_SERVICE_SLOT(BOARD_KEEPER) && master->notices.is_full;

		if (master->services.of[i].fd == -1)
			continue;
		set->fds[set->n_services] = (struct pollfd){ .fd = master->services.of[i].fd,
		    .events = (short)(POLLIN | (wants_room ? POLLOUT : 0)) };
		set->services[set->n_services++] = i;
	}
	set->n_listeners = admit_is_open(master, now_ns) ? master->n_listeners : 0;
	for (unsigned i = 0; i < set->n_listeners; i++)
		set->fds[set->n_services + i] = (struct pollfd){ .fd = master->listeners[i].fd,
		    .events = POLLIN };
	set->n_refused = master->refuse.n;
	refuse_poll(&master->refuse, &set->fds[set->n_services + set->n_listeners]);
}

/* The first time at which something is due although nothing happens. */
static int64_t
master_deadline(const struct master *master, int64_t now_ns)
{
	const int64_t times[] = {
		admit_deadline(master), refuse_deadline(&master->refuse),
		services_deadline(master), notices_deadline(master),
		watchdog_deadline(master, now_ns), drain_deadline(&master->drain),
	};
	int64_t first = INT64_MAX;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i] < first)
			first = times[i];
	return first;
}

static void
master_wait(struct master *master, struct master_poll *set)
{
	int64_t now_ns = clock_now_ns(), deadline_ns, left;
	struct timespec ts;
	unsigned n;

	master_fill_poll(master, set, now_ns);
	n = set->n_services + set->n_listeners + set->n_refused;
	deadline_ns = master_deadline(master, now_ns);
	left = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	ts = (struct timespec){ .tv_sec = left / CLOCK_SECOND, .tv_nsec = left % CLOCK_SECOND };
	/* The signals come in here and nowhere else. */
	if (ppoll(set->fds, n, deadline_ns == INT64_MAX ? NULL : &ts, &master->wait_mask) > 0)
		return;
	for (unsigned i = 0; i < n; i++)
		set->fds[i].revents = 0;
}

/* The first time that all services work. */
static void
master_check_ready(struct master *master)
{
	if (master->is_ready || drain_has_begun(&master->drain) || !services_are_ready(master))
		return;
	master->is_ready = 1;
	for (unsigned i = 0; i < master->n_listeners; i++)
		log_plain("ready: listening on %s", master->listeners[i].text);
}

static void
master_hear_services(struct master *master, const struct master_poll *set, int64_t now_ns)
{
	for (unsigned i = 0; i < set->n_services; i++) {
		if (set->fds[i].revents & POLLOUT)
			notices_send(master, now_ns);
		if (set->fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			services_receive(master, set->services[i], now_ns);
	}
}

int
master_run(struct master *master)
{
	struct master_poll set;
	int64_t now_ns;

	master_check_ready(master);
	while (!drain_is_done(&master->drain)) {
		master_wait(master, &set);
		now_ns = clock_now_ns();

		/* What was polled is handled before the sets behind it can change: a shutdown
		 * closes the listeners, and an accepted connection may be refused. */
		refuse_step(&master->refuse, &set.fds[set.n_services + set.n_listeners],
		    now_ns);
		master_handle_signals(master, now_ns);
		master_hear_services(master, &set, now_ns);
		services_step(master, now_ns);
		notices_step(master, now_ns);
		watchdog_step(master, now_ns);
		drain_step(master, now_ns);
		master_check_ready(master);
		for (unsigned i = 0; i < set.n_listeners && i < master->n_listeners; i++)
			if (set.fds[set.n_services + i].revents != 0)
				admit_accept(master, &master->listeners[i], now_ns);
	}
	log_info("shutdown complete status=%d", master->drain.exit_status);
	return master->drain.exit_status;
}
