/* services: see services.h. */
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminald/master.h"
#include "liminald/services.h"
#include "state/inbox.h"

/* Pauses before replacements, so that a service which dies at once does not eat a core; short,
 * since others wait for it. One that has worked for a while has earned the immediate
 * replacement again. */
#define SERVICES_PAUSE_MIN_NS	(10 * CLOCK_MS)
#define SERVICES_PAUSE_MAX_NS	(500 * CLOCK_MS)
#define SERVICES_EARNED_NS	CLOCK_SECOND

/* How long a start may take: a module's own timer ends it first; the store may have to read
 * a large file from a slow disk. */
#define SERVICES_MODULE_EXTRA_NS	(5 * CLOCK_SECOND)
#define SERVICES_STORE_START_NS		(60 * CLOCK_SECOND)

/* From the end of the control socket to that of the process. */
#define SERVICES_GONE_NS	CLOCK_SECOND

/* A module that cannot be loaded any more says so again and again. */
#define SERVICES_LOG_BURST		5
#define SERVICES_LOG_INTERVAL_NS	(10 * CLOCK_SECOND)

static void
services_want(struct master *master, enum board_kind kind, const char *name,
    int (*service_main)(const struct role_context *, int), int64_t patience_ns)
{
	struct services_service *s = services_get(&master->services, kind);

	s->main = service_main;
	s->name = name;
	s->patience_ns = patience_ns;
}

void
services_init(struct master *master)
{
	const struct master_roles *roles = master->roles;
	const struct conf *conf = master->conf;

	for (int i = 0; i < BOARD_N_SERVICES; i++)
		master->services.of[i] = (struct services_service){ .fd = -1,
		    .restart_ns = INT64_MAX, .gone_by_ns = INT64_MAX };
	services_want(master, BOARD_KEEPER, "keeper", roles->keeper, 0);
	if (conf_needs_store(conf))
		services_want(master, BOARD_STORE, "store", roles->store,
		    SERVICES_STORE_START_NS);
	if (conf->notifier_module != NULL)
		services_want(master, BOARD_NOTIFIER, "notifier", roles->notifier,
		    conf->notifier_timeout_ns + SERVICES_MODULE_EXTRA_NS);
	if (conf->router == CONF_ROUTER_MODULE)
		services_want(master, BOARD_ROUTER, "router", roles->router,
		    conf->router_timeout_ns + SERVICES_MODULE_EXTRA_NS);
}

int
services_pid(const struct master *master, enum board_kind kind)
{
	uint32_t i = BOARD_SERVICE_SLOT(kind);

	return master->services.of[i].phase == SERVICES_DOWN ? 0 :
	    (int)master->slots.slot[i].pid;
}

int
services_is_over(const struct master *master, enum board_kind kind)
{
	const struct services_service *s = &master->services.of[BOARD_SERVICE_SLOT(kind)];

	return s->main == NULL || (s->phase == SERVICES_DOWN && s->restart_ns == INT64_MAX);
}

int
services_are_ready(const struct master *master)
{
	for (int i = 0; i < BOARD_N_SERVICES; i++)
		if (master->services.of[i].main != NULL && !master->services.of[i].was_ready)
			return 0;
	return 1;
}

static void
services_close_control(struct services_service *s)
{
	if (s->fd != -1)
		close(s->fd);
	s->fd = -1;
}

/* The next process is due after a pause that doubles. */
static void
services_schedule(struct services_service *s, int64_t now_ns)
{
	s->restart_ns = now_ns + s->pause_ns;
	if (s->pause_ns == 0)
		s->pause_ns = SERVICES_PAUSE_MIN_NS;
	else if (s->pause_ns < SERVICES_PAUSE_MAX_NS / 2)
		s->pause_ns *= 2;
	else
		s->pause_ns = SERVICES_PAUSE_MAX_NS;
}

static void
services_became_ready(struct services_service *s, int64_t now_ns)
{
	s->phase = SERVICES_READY;
	s->since_ns = now_ns;
	s->was_ready = 1;
	/* It was only left open so that this could be said. */
	if (s->is_leaving)
		services_close_control(s);
}

static int
services_start_failed(struct services_service *s, const char *what, int64_t now_ns)
{
	log_warn("%s not started: %s", s->name, what);
	if (s->pause_ns == 0)
		s->pause_ns = SERVICES_PAUSE_MIN_NS;
	services_schedule(s, now_ns);
	return -1;
}

/* Give service I a process. 0, or -1: another try is due later. */
static int
services_start_one(struct master *master, uint32_t i, int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];
	struct process_child child;
	int ends[2], saved;
	pid_t pid;

	/* Blocking, for the service; this end is only used with MSG_DONTWAIT. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == -1)
		return services_start_failed(s, "socketpair", now_ns);
	if (slots_take(&master->slots, (enum board_kind)(i + 1), 0, NULL) != i)
		log_panic("%s has no slot", s->name);
	child = (struct process_child){ .board = master->board, .slot = i,
	    .title = s->name, .keep_fd = ends[1], .failure_status = ROLE_EXIT_SYSTEM };
	pid = process_fork(&master->family, &child);
	if (pid == 0) {
		struct role_context context = master_context(master, i);

		_exit(s->main(&context, ends[1]));
	}
	saved = errno;
	close(ends[1]);
	if (pid == -1) {
		close(ends[0]);
		slots_give_back(&master->slots, i);
		errno = saved;
		return services_start_failed(s, "fork", now_ns);
	}
	slots_forked(&master->slots, i, pid);
	s->fd = ends[0];
	s->phase = SERVICES_STARTING;
	s->since_ns = now_ns;
	s->gone_by_ns = INT64_MAX;
	log_debug("%s started pid=%d", s->name, (int)pid);
	if (i == BOARD_SERVICE_SLOT(BOARD_KEEPER)) {
		/* It can work from its first moment on: what it is told waits in the socket. */
		services_became_ready(s, now_ns);
		notices_send(master, now_ns);
	}
	return 0;
}

int
services_start(struct master *master, int64_t now_ns)
{
	for (uint32_t i = 0; i < BOARD_N_SERVICES; i++)
		if (master->services.of[i].main != NULL &&
		    services_start_one(master, i, now_ns) == -1)
			return -1;
	return 0;
}

/* What a service that cannot start makes of the whole daemon. */
static void
services_fail_start(struct master *master, uint32_t i, const char *reason, int64_t now_ns)
{
	static const struct { const char *setting, *advice; enum master_exit status; } failures[] = {
		[BOARD_SERVICE_SLOT(BOARD_STORE)] = { "persist_dir", "", MASTER_EXIT_ENVIRONMENT },
		[BOARD_SERVICE_SLOT(BOARD_NOTIFIER)] = { "notifier module",
		    " advice=\"signal 9 is also how a start ends that takes longer than notifier "
		    "timeout\"", MASTER_EXIT_CONFIGURATION },
		[BOARD_SERVICE_SLOT(BOARD_ROUTER)] = { "dispatch router",
		    " advice=\"signal 9 is also how a start ends that takes longer than dispatch "
		    "router_timeout\"", MASTER_EXIT_CONFIGURATION },
	};

	log_errorx("start failed service=%s pid=%d reason=\"%s\" setting=\"%s\"%s",
	    master->services.of[i].name, (int)master->slots.slot[i].pid, reason,
	    failures[i].setting, strstr(reason, "signal 9") != NULL ? failures[i].advice : "");
	drain_fail(master, failures[i].status, now_ns);
}

void
services_hung_up(struct master *master, uint32_t i, int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];

	services_close_control(s);
	/* A kill now would hide why it ends, which its status tells in a moment. */
	s->gone_by_ns = now_ns + SERVICES_GONE_NS;
}

void
services_receive(struct master *master, uint32_t i, int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];
	struct role_answer answer;
	ssize_t n;

	if (i == BOARD_SERVICE_SLOT(BOARD_KEEPER)) {
		notices_receive(master, now_ns);
		return;
	}
	if (s->fd == -1)
		return;
	n = recv(s->fd, &answer, sizeof(answer), MSG_DONTWAIT);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != (ssize_t)sizeof(answer)) {
		services_hung_up(master, i, now_ns);
	} else if (answer.kind == ROLE_ANSWER_READY && s->phase == SERVICES_STARTING) {
		log_debug("%s ready pid=%d took_ms=%" PRId64, s->name,
		    (int)master->slots.slot[i].pid, (now_ns - s->since_ns) / CLOCK_MS);
		services_became_ready(s, now_ns);
	}
}

/* What a module was doing when its process died; its successor does not do it again. */
static void
services_log_call(const struct master *master, uint32_t i)
{
	static const char *const calls[] = {
		[INBOX_REGISTER] = "worker_registered",
		[INBOX_UNREGISTER] = "worker_unregistered",
		[INBOX_PUBLISH] = "channel_publish",
		[INBOX_ROUTE] = "route",
	};
	const struct board_slot *b = &master->board->slots[i];
	uint32_t kind = atomic_load(&b->call_kind);

	if (master->services.of[i].phase != SERVICES_READY ||
	    atomic_load(&b->call_phase) != BOARD_CALL_BEGUN)
		return;
	log_warnx("%s ended inside its module call=%s conn=%" PRIu64 " request=%" PRIu64,
	    master->services.of[i].name,
	    kind < sizeof(calls) / sizeof(calls[0]) && calls[kind] != NULL ? calls[kind] :
	    "unknown", atomic_load(&b->call_conn_id), atomic_load(&b->call_request));
}

static void
services_log_end(const struct master *master, uint32_t i, const char *reason, int64_t now_ns)
{
	static struct log_limit lines[BOARD_N_SERVICES];
	const struct services_service *s = &master->services.of[i];
	const struct slots_slot *slot = &master->slots.slot[i];
	char next[40] = "restart=no";
	unsigned held;

	if (!log_limit_allows(&lines[i], SERVICES_LOG_BURST, SERVICES_LOG_INTERVAL_NS, &held))
		return;
	if (s->restart_ns != INT64_MAX)
		snprintf(next, sizeof(next), "restart_in_ms=%" PRId64,
		    (s->restart_ns - now_ns) / CLOCK_MS);
	log_warnx("%s ended pid=%d reason=\"%s\"%s%s%s %s suppressed=%u", s->name,
	    (int)slot->pid, reason, slot->killed_for != NULL ? " cause=\"" : "",
	    slot->killed_for != NULL ? slot->killed_for : "",
	    slot->killed_for != NULL ? "\"" : "", next, held);
}

/* The module does not want to start, or cannot be loaded. */
static int
services_is_refusal(int wait_status)
{
	return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == ROLE_EXIT_MODULE;
}

/* It was asked to go and is gone: 1 if another one has to finish what it has left. */
static int
services_has_left_work(struct services_service *s, uint32_t i, int wait_status)
{
	s->has_finished = wait_status == 0;
	if (s->has_finished || !s->was_ready)
		return 0;
	/* Whoever killed the store did not kill what waits in its inbox. One that failed by itself is not
	 * tried again: the daemon says with its exit status that something may be lost. */
	if (i == BOARD_SERVICE_SLOT(BOARD_STORE))
		return WIFSIGNALED(wait_status);
	/* There may be workers whose end the module has not been told of. */
	return i == BOARD_SERVICE_SLOT(BOARD_NOTIFIER) && !services_is_refusal(wait_status);
}

/* What follows the end of a process: 1 if it has to be said. */
static int
services_go_on(struct master *master, uint32_t i, int wait_status, const char *reason,
    int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];

	if (s->is_leaving) {
		if (!services_has_left_work(s, i, wait_status) || now_ns >= s->leave_by_ns)
			return wait_status != 0 && s->was_ready;
	} else if (!s->was_ready) {
		if (!drain_has_begun(&master->drain))
			services_fail_start(master, i, reason, now_ns);
		return 0;
	}
	if (s->phase == SERVICES_READY && now_ns - s->since_ns >= SERVICES_EARNED_NS)
		s->pause_ns = 0;
	/* The next one would hardly find another file there. */
	if (services_is_refusal(wait_status))
		s->pause_ns = SERVICES_PAUSE_MAX_NS;
	services_schedule(s, now_ns);
	return 1;
}

void
services_ended(struct master *master, uint32_t i, int wait_status, int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];
	char reason[128];

	role_describe_end(wait_status, reason, sizeof(reason));
	if (services_go_on(master, i, wait_status, reason, now_ns))
		services_log_end(master, i, reason, now_ns);
	services_log_call(master, i);
	s->phase = SERVICES_DOWN;
	services_close_control(s);
	slots_reaped(&master->slots, i, wait_status);
	notices_service_ended(master, i, wait_status);
}

/* When the process of service I is to be killed; INT64_MAX = for now it is not. */
static int64_t
services_kill_at(const struct master *master, uint32_t i)
{
	const struct services_service *s = &master->services.of[i];
	int64_t at = s->gone_by_ns, limit = INT64_MAX;

	if (s->phase == SERVICES_DOWN || master->slots.slot[i].killed_for != NULL)
		return INT64_MAX;
	if (s->is_leaving)
		limit = s->leave_by_ns;
	else if (s->phase == SERVICES_STARTING)
		limit = s->since_ns + s->patience_ns;
	return at < limit ? at : limit;
}

/* 1: one process has been at work all the time, and gets more of it. One that is killed in
 * call after call would need for ever. */
static int
services_gets_on(struct master *master, uint32_t i, int64_t now_ns)
{
	struct services_service *s = &master->services.of[i];
	uint64_t looked = atomic_load(&master->board->slots[i].looked);

	if (!s->is_leaving || now_ns < s->leave_by_ns || now_ns >= s->gone_by_ns ||
	    s->leave_by_ns >= s->leave_limit_ns || s->phase != SERVICES_READY ||
	    s->since_ns > s->leave_from_ns || looked == s->leave_looked)
		return 0;
	s->leave_looked = looked;
	s->leave_from_ns = now_ns;
	s->leave_by_ns = s->leave_limit_ns - now_ns < s->leave_more_ns ? s->leave_limit_ns :
	    now_ns + s->leave_more_ns;
	return 1;
}

static void
services_kill(struct master *master, uint32_t i, int64_t now_ns)
{
	const struct services_service *s = &master->services.of[i];
	const char *reason = "it did not get ready in time";

	if (s->is_leaving) {
		reason = "it did not leave at shutdown";
		log_warnx("shutdown kill service=%s pid=%d%s", s->name,
		    services_pid(master, (enum board_kind)(i + 1)),
		    i == BOARD_SERVICE_SLOT(BOARD_NOTIFIER) && s->was_ready ?
		    " advice=\"its module may not have been told of every worker's end\"" : "");
	} else if (now_ns >= s->gone_by_ns) {
		reason = "it left its master";
	} else if (!s->was_ready && !drain_has_begun(&master->drain)) {
		/* Not when it is reaped: what waits for a dead disk may never be. */
		services_fail_start(master, i, reason, now_ns);
	}
	services_close_control(&master->services.of[i]);
	slots_kill(&master->slots, i, SIGKILL, reason);
}

void
services_step(struct master *master, int64_t now_ns)
{
	for (uint32_t i = 0; i < BOARD_N_SERVICES; i++) {
		struct services_service *s = &master->services.of[i];

		if (now_ns >= services_kill_at(master, i) && !services_gets_on(master, i, now_ns))
			services_kill(master, i, now_ns);
		if (now_ns < s->restart_ns)
			continue;
		s->restart_ns = INT64_MAX;
		if (!s->is_leaving || now_ns < s->leave_by_ns)
			(void)services_start_one(master, i, now_ns);
	}
}

int64_t
services_deadline(const struct master *master)
{
	int64_t first = INT64_MAX, at;

	for (uint32_t i = 0; i < BOARD_N_SERVICES; i++) {
		at = services_kill_at(master, i);
		if (at < first)
			first = at;
		if (master->services.of[i].restart_ns < first)
			first = master->services.of[i].restart_ns;
	}
	return first;
}

void
services_leave(struct master *master, enum board_kind kind, int64_t patience_ns,
    int64_t limit_ns, int64_t now_ns)
{
	struct services_service *s = services_get(&master->services, kind);

	if (s->main == NULL || s->is_leaving)
		return;
	s->is_leaving = 1;
	/* One that never worked has nothing to finish. */
	if (!s->was_ready && patience_ns > SERVICES_GONE_NS)
		patience_ns = SERVICES_GONE_NS;
	s->leave_by_ns = now_ns + patience_ns;
	s->leave_more_ns = patience_ns;
	s->leave_limit_ns = now_ns + limit_ns;
	s->leave_from_ns = now_ns;
	s->leave_looked = atomic_load(&master->board->slots[BOARD_SERVICE_SLOT(kind)].looked);
	s->restart_ns = INT64_MAX;
	if (s->phase == SERVICES_DOWN && s->was_ready &&
	    (kind == BOARD_STORE || kind == BOARD_NOTIFIER))
		s->restart_ns = now_ns;
	/* One that is just being replaced first says that it is ready: nothing it does may fail
	 * only because nobody listens. */
	if (s->phase != SERVICES_STARTING || !s->was_ready)
		services_close_control(s);
}
