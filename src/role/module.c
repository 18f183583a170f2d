/*
 * The host of a module: see module.h.
 *
 * Owns the loaded object, the timer and the record of the call on the board. The order around a
 * call is what the successor relies on: the record names the call before it is made and
 * holds its result after it; the transaction that writes what came of it comes next; only then is
 * another call begun. So a record that names a call of an entry that is still there tells
 * how far that call got, and any other record tells nothing.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/module.h"

/* Reading an object from a cold disk is not the module's doing: loading gets at least this. */
#define MODULE_LOAD_NS		(5 * CLOCK_SECOND)
/* While the state is full, others make room by finishing what they have. */
#define MODULE_FULL_TRIES	200
#define MODULE_FULL_PAUSE_NS	(10 * CLOCK_MS)
/* A body beyond this is given back when it is done. */
#define MODULE_KEEP		(64 * 1024)
/* Where our descriptors are: a process begins with few, and gets the lowest free ones. */
#define MODULE_FDS_END		64

/* What a copy of this process, which only the module can make, must not have. */
static int module_fds[MODULE_FDS_END];
static int module_n_fds;
static volatile sig_atomic_t module_is_copy;

/* A child that the module leaves behind may outlive the daemon, whose directories would
 * still be locked by it. */
static void
module_become_copy(void)
{
	module_is_copy = 1;
	while (module_n_fds > 0)
		close(module_fds[--module_n_fds]);
}

/* Before the module is loaded, all that is open is ours. */
static int
module_watch_forks(struct err *err)
{
	int fd, rc;

	for (fd = STDERR_FILENO + 1; fd < MODULE_FDS_END; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			module_fds[module_n_fds++] = fd;
	if ((rc = pthread_atfork(NULL, NULL, module_become_copy)) != 0)
		return err_sys(err, rc, "pthread_atfork");
	return 0;
}

/* A child of the module that returns out of a call, as after an exec that failed, would go on as
 * a second one of us. */
static void
module_refuse_copy(void)
{
	if (module_is_copy)
		_exit(ROLE_EXIT_MODULE);
}

/* SIGKILL, because nothing that the module does with signals and masks can keep it away. */
static int
module_create_timer(struct module *m, struct err *err)
{
	struct sigevent event;

	memset(&event, 0, sizeof event);
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGKILL;
	if (timer_create(CLOCK_MONOTONIC, &event, &m->timer) == -1)
		return err_sys(err, errno, "timer for the calls of the %s's module",
		    m->kind->name);
	return 0;
}

/* 0 = disarm. */
static void
module_arm(struct module *m, int64_t ns)
{
	struct itimerspec when;

	memset(&when, 0, sizeof when);
	when.it_value.tv_sec = ns / CLOCK_SECOND;
	when.it_value.tv_nsec = ns % CLOCK_SECOND;
	if (timer_settime(m->timer, 0, &when, NULL) == -1)
		log_panic("the module's timer: %s", strerror(errno));
}

void
module_begin(struct module *m, const struct inbox_entry *what)
{
	/* Dying between these lines: the last call's result has been written, so a record of it
	 * that is half overwritten must not pass for one of this call. */
	atomic_store(&m->mine->call_phase, BOARD_CALL_NONE);
	atomic_store(&m->mine->call_kind, what->kind);
	atomic_store(&m->mine->call_conn_id, what->conn_id);
	atomic_store(&m->mine->call_request, what->request);
	atomic_store(&m->mine->call_result, 0);
	module_arm(m, m->timeout_ns);
	atomic_store(&m->mine->call_phase, BOARD_CALL_BEGUN);
}

void
module_end(struct module *m, uint64_t result)
{
	module_refuse_copy();
	atomic_store(&m->mine->call_result, result);
	atomic_store(&m->mine->call_phase, BOARD_CALL_DONE);
	module_arm(m, 0);
}

enum board_call
module_was_calling(const struct module *m, const struct inbox_entry *what)
{
	if (m->lost.what.kind != what->kind || m->lost.what.conn_id != what->conn_id ||
	    m->lost.what.request != what->request)
		return BOARD_CALL_NONE;
	return m->lost.phase;
}

/* Into memory, because the record on the board is overwritten by the next call. */
static void
module_read_lost(struct module *m)
{
	m->lost.phase = (enum board_call)atomic_load(&m->mine->call_phase);
	m->lost.what.kind = atomic_load(&m->mine->call_kind);
	m->lost.what.conn_id = atomic_load(&m->mine->call_conn_id);
	m->lost.what.request = atomic_load(&m->mine->call_request);
	m->lost.result = atomic_load(&m->mine->call_result);
}

static int
module_write_once(struct module *m, int (*apply)(struct state_txn *txn, void *arg), void *arg)
{
	struct state_txn *txn;
	int more = 0, rc;

	if ((rc = state_begin_write(m->state, &txn)) != 0)
		return rc;
	if (apply != NULL)
		more = apply(txn, arg);
	rc = more == 0 ? inbox_remove(txn, INBOX_SERVICE(m->kind->service), m->row) :
	    more < 0 ? more : 0;
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return (rc = state_commit(txn)) == 0 ? more : rc;
}

int
module_write(struct module *m, int (*apply)(struct state_txn *txn, void *arg), void *arg)
{
	const struct timespec pause = { 0, MODULE_FULL_PAUSE_NS };
	int rc, tries;

	for (tries = 0; ; tries++) {
		rc = module_write_once(m, apply, arg);
		if (rc != ERR_FULL || tries == MODULE_FULL_TRIES)
			break;
		nanosleep(&pause, NULL);
	}
	if (rc >= 0) {
		m->is_done |= rc == 0;
		m->lost.phase = BOARD_CALL_NONE;
	}
	return rc;
}

/* Take the first entry of the inbox out of the map, so that no transaction is open while it is
 * handled. */
static int
module_take(struct module *m, struct inbox_entry *entry)
{
	struct state_txn *txn;
	const void *body;
	int rc;

	buf_consume(&m->body, buf_len(&m->body));
	buf_trim(&m->body, MODULE_KEEP);
	if ((rc = state_begin_read(m->state, &txn)) != 0)
		return rc;
	rc = inbox_first(txn, INBOX_SERVICE(m->kind->service), &m->row, entry, &body);
	if (rc == 0 && entry->len > 0)
		rc = buf_append(&m->body, body, entry->len);
	state_abort(txn);
	return rc;
}

/* 0, ERR_NOTFOUND when there is nothing to do, or worse. */
static int
module_handle_one(struct module *m)
{
	struct inbox_entry entry;
	int rc;

	if ((rc = module_take(m, &entry)) != 0)
		return rc;
	m->is_done = 0;
	rc = m->kind->handle(m, &entry, buf_head(&m->body), module_was_calling(m, &entry));
	if (rc == 0 && !m->is_done)
		rc = module_write(m, NULL, NULL);
	return rc;
}

/* Sleep until there may be something. 0 or ERR_SYSTEM. */
static int
module_wait(struct module *m)
{
	struct pollfd fds[3] = {
		{ .fd = m->wake.fd, .events = POLLIN },
		{ .fd = m->context->master_fd, .events = POLLIN },
		{ .fd = m->control, .events = POLLIN },
	};
	char byte;

	if (poll(fds, 3, -1) == -1)
		return errno == EINTR ? 0 : ERR_SYSTEM;
	/* The module has closed what is ours: without it this would spin, or wait for ever. */
	if ((fds[0].revents | fds[1].revents | fds[2].revents) & POLLNVAL) {
		log_errorx("%s module %s has closed descriptors of the daemon", m->kind->name,
		    m->path);
		_exit(ROLE_EXIT_SYSTEM);
	}
	if (fds[1].revents != 0)
		_exit(ROLE_EXIT_OK);	/* the master is gone, and the state with it */
	if (fds[0].revents != 0)
		wake_drain(&m->wake);
	/* The master says nothing here, it only leaves. */
	if (fds[2].revents != 0)
		m->is_closing = recv(m->control, &byte, sizeof byte, MSG_DONTWAIT) <= 0;
	return 0;
}

static int
module_serve(struct module *m)
{
	int rc;

	for (;;) {
		atomic_store(&m->mine->looked, atomic_load(&m->mine->looked) + 1);
		if ((rc = module_handle_one(m)) == ERR_NOTFOUND) {
			/* Once more after having said so: whoever commits later sees it and pokes. */
			wake_will_sleep(&m->wake);
			rc = module_handle_one(m);
			if (rc == ERR_NOTFOUND && m->is_closing)
				return 0;
			if (rc == ERR_NOTFOUND)
				rc = module_wait(m);
			wake_is_awake(&m->wake);
		}
		if (rc != 0)
			return rc;
	}
}

static int
module_load(struct module *m, struct err *err)
{
	const char *reason;
	uint32_t version;
	void *object;
	int rc;

	module_arm(m, m->timeout_ns > MODULE_LOAD_NS ? m->timeout_ns : MODULE_LOAD_NS);
	object = dlopen(m->path, RTLD_NOW | RTLD_LOCAL);
	module_refuse_copy();
	if (object == NULL) {
		reason = dlerror();
		return err_set(err, ERR_INVALID, "%s module %s cannot be loaded: %s",
		    m->kind->name, m->path, reason != NULL ? reason : "unknown reason");
	}
	m->symbol = dlsym(object, m->kind->symbol);
	if (m->symbol == NULL)
		return err_set(err, ERR_INVALID, "%s module %s has no '%s' (see %s)",
		    m->kind->name, m->path, m->kind->symbol, m->kind->header);
	memcpy(&version, m->symbol, sizeof version);
	if (version != m->kind->version)
		return err_set(err, ERR_INVALID, "%s module %s is made for version %u of %s, "
		    "this daemon has version %u: build the module again", m->kind->name, m->path,
		    version, m->kind->header, m->kind->version);
	module_arm(m, m->timeout_ns);
	rc = m->kind->start(m, m->symbol, err);
	module_refuse_copy();
	if (rc != 0)
		return ERR_INVALID;
	module_arm(m, 0);
	return 0;
}

static int
module_tell_ready(struct module *m)
{
	struct role_answer ready;

	memset(&ready, 0, sizeof ready);
	ready.kind = ROLE_ANSWER_READY;
	return send(m->control, &ready, sizeof ready, MSG_NOSIGNAL) == sizeof ready ? 0 :
	    ERR_CLOSED;
}

/* What the process needs of us comes before the module, which may then do what it wants. */
static int
module_open(struct module *m, struct err *err)
{
	int rc;

	module_read_lost(m);
	rc = wake_open(&m->wake, m->context->board, m->context->slot, err);
	if (rc == 0)
		rc = state_open(&m->state, m->context->conf->runtime_dir, &m->wake, err);
	if (rc == 0)
		rc = module_create_timer(m, err);
	if (rc == 0)
		rc = module_watch_forks(err);
	return rc;
}

int
module_main(const struct module_kind *kind, const struct role_context *context, int control,
    const char *path, const struct conf_list *args, int64_t timeout_ns)
{
	struct module m = { .context = context, .kind = kind, .control = control, .path = path,
	    .args = args, .timeout_ns = timeout_ns };
	struct err err = { 0 };
	int rc;

	log_set_name(kind->name);
	m.mine = &context->board->slots[context->slot];
	if (module_open(&m, &err) != 0) {
		log_errorx("%s cannot start: %s", kind->name, err.text);
		return ROLE_EXIT_STATE;
	}
	if (module_load(&m, &err) != 0) {
		log_errorx("%s cannot start: %s", kind->name, err.text);
		return ROLE_EXIT_MODULE;
	}
	rc = module_tell_ready(&m);
	if (rc == 0)
		rc = module_serve(&m);
	if (rc != 0 && rc != ERR_CLOSED)
		log_errorx("%s ends: %s", kind->name, state_error_text(m.state));
	state_close(m.state);
	wake_close(&m.wake);
	buf_free(&m.body);
	/* Without the module's own endings: they are not bounded, and nothing depends on them. */
	return rc == 0 || rc == ERR_CLOSED ? ROLE_EXIT_OK : ROLE_EXIT_STATE;
}
