/*
 * The process behind an executed responder: its start, its standard error, its end.
 *
 * Its end is an event of its pidfd. It is reaped here and nowhere else, after its group was
 * killed, because until then its number is its own. If this process is killed the kernel
 * kills the responder (PR_SET_PDEATHSIG); what the responder has itself started then only
 * reads end-of-file.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "role/responder.h"

/* Its environment has nothing of ours; documented in liminal-responder(7). */
#define RESPONDER_PATH		"PATH=/usr/local/bin:/usr/bin:/bin"
/* How long it may take to end by itself once its conversation is over. */
#define RESPONDER_LEAVE_NS	CLOCK_SECOND
/* How long the connection's end waits for those that it has killed. */
#define RESPONDER_REAP_NS	(100 * CLOCK_MS)

/* Lines of standard error in the log: of one responder, and of all of a connection's. */
#define RESPONDER_LOG_BURST	20
#define RESPONDER_LOG_BURST_ALL	100
#define RESPONDER_LOG_WINDOW_NS	(10 * CLOCK_SECOND)

/* "subject=… conn=… pid=…" */
static const char *
responder_name(const struct connection *c, const struct responder *responder, char *out,
    size_t size)
{
	char subject[128];

	log_vis(subject, sizeof subject, responder->subject, strlen(responder->subject));
	snprintf(out, size, "subject=\"%s\" conn=%llu pid=%ld", subject,
	    (unsigned long long)c->peer->conn_id, (long)responder->process.pid);
	return out;
}

/* Standard error, line by line. */

static void
responder_log_line(struct connection *c, struct responder *responder)
{
	static struct log_limit all;
	size_t len = responder->line_len;
	char text[3 * RESPONDER_LINE], name[200];
	unsigned held, held_all = 0;
	int is_cut = len > RESPONDER_LINE;

	responder->line_len = 0;
	if (len == 0 || !log_limit_allows(&responder->line_limit, RESPONDER_LOG_BURST,
	    RESPONDER_LOG_WINDOW_NS, &held))
		return;
	if (!log_limit_allows(&all, RESPONDER_LOG_BURST_ALL, RESPONDER_LOG_WINDOW_NS, &held_all)) {
		responder->line_limit.held += held + 1;
		return;
	}
	log_vis(text, sizeof text, responder->line, is_cut ? RESPONDER_LINE : len);
	log_info("responder %s text=\"%s%s\" suppressed=%u",
	    responder_name(c, responder, name, sizeof name), text, is_cut ? "..." : "", held);
}

static void
responder_take_line(struct connection *c, struct responder *responder, const char *bytes,
    size_t len)
{
	const char *newline;
	size_t n, room;

	while (len > 0) {
		newline = memchr(bytes, '\n', len);
		n = newline != NULL ? (size_t)(newline - bytes) : len;
		room = responder->line_len < RESPONDER_LINE ?
		    RESPONDER_LINE - responder->line_len : 0;
		memcpy(responder->line + RESPONDER_LINE - room, bytes, n < room ? n : room);
		if (n <= room)
			responder->line_len += n;
		else
			responder->line_len = RESPONDER_LINE + 1;
		if (newline == NULL)
			return;
		responder_log_line(c, responder);
		bytes += n + 1;
		len -= n + 1;
	}
}

/* Read once; what read(2) gave. It is never left unread, so that it cannot hold the responder up. */
static ssize_t
responder_read_err(struct connection *c, struct responder *responder)
{
	char bytes[16 * 1024];
	ssize_t n = read(responder->process.err_fd, bytes, sizeof bytes);

	if (n > 0)
		responder_take_line(c, responder, bytes, (size_t)n);
	return n;
}

static void
responder_err_ready(struct connection *c, struct watch *watch, uint32_t events)
{
	struct responder *responder = RESPONDER_OF(watch, err_watch);

	(void)events;
	if (responder->process.err_fd != -1 && responder_read_err(c, responder) == 0)
		responder_close_fd(c, &responder->process.err_fd);
}

/* Its last words: what the pipe still holds, and a line without an end. */
static void
responder_drain_err(struct connection *c, struct responder *responder)
{
	char name[200];
	int i;

	for (i = 0; i < 8 && responder->process.err_fd != -1; i++)
		if (responder_read_err(c, responder) <= 0)
			break;
	responder_log_line(c, responder);
	if (responder->line_limit.held > 0)
		log_info("responder %s suppressed=%u",
		    responder_name(c, responder, name, sizeof name),
		    responder->line_limit.held);
}

/* The end. */

/*
 * Not left to close(2): epoll forgets a descriptor with its last copy only, and a process that is being
 * started has a copy of each of ours until its exec is through, which is after vfork(2) has let us
 * go on. An event would then name memory that is free.
 */
void
responder_close_fd(struct connection *c, int *fd)
{
	if (*fd == -1)
		return;
	(void)epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, *fd, NULL);	/* not every one is watched */
	close(*fd);
	*fd = -1;
}

void
responder_log_end(struct connection *c, struct responder *responder, const char *reason)
{
	static struct log_limit limit;
	char name[200];
	unsigned held;

	if (log_limit_allows(&limit, RESPONDER_LOG_BURST, RESPONDER_LOG_WINDOW_NS, &held))
		log_warnx("responder-crashed %s reason=\"%s\" suppressed=%u",
		    responder_name(c, responder, name, sizeof name), reason, held);
}

static void
responder_stop_leaving(struct connection *c, struct responder *responder)
{
	if (responder->kill_ns == INT64_MAX)
		return;
	responder->kill_ns = INT64_MAX;
	TAILQ_REMOVE(&c->leaving, responder, leaving_link);
	c->n_leaving--;
}

/* Reaped: nothing but its memory is left, and that goes when no event can name it. */
static void
responder_bury(struct connection *c, struct responder *responder)
{
	responder_forget(c, responder);
	responder_stop_leaving(c, responder);
	responder_close_fd(c, &responder->process.in_fd);
	responder_close_fd(c, &responder->process.out_fd);
	responder_close_fd(c, &responder->process.err_fd);
	responder_close_fd(c, &responder->process.pid_fd);
	TAILQ_REMOVE(&c->responders, responder, link);
	c->n_responders--;
	TAILQ_INSERT_TAIL(&c->ended, responder, link);
}

static void
responder_end_ready(struct connection *c, struct watch *watch, uint32_t events)
{
	struct responder *responder = RESPONDER_OF(watch, end_watch);
	char reason[160], name[200];
	int status = 0;

	(void)events;
	if (responder->process.pid_fd == -1)
		return;
	/* What it had written before it ended counts. */
	responder_drain_answers(c, responder);
	/* It still has its number: what is left of its group can be killed by it. */
	process_signal_group(&responder->process, SIGKILL);
	if (waitpid(responder->process.pid, &status, WNOHANG) == 0)
		return;
	role_describe_program_end(status, reason, sizeof reason);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		snprintf(reason, sizeof reason, "exited with status 0, by itself");
	if (responder->conversation != NULL) {
		responder_fail(c, responder, reason);
		responder_drain_err(c, responder);
		responder_log_end(c, responder, reason);
	} else {
		responder_drain_err(c, responder);
		log_debug("responder-ended %s reason=\"%s\"",
		    responder_name(c, responder, name, sizeof name), reason);
	}
	responder_bury(c, responder);
	turn_apply(c);
}

void
responder_free(struct connection *c)
{
	struct responder *responder;

	while ((responder = TAILQ_FIRST(&c->ended)) != NULL) {
		TAILQ_REMOVE(&c->ended, responder, link);
		free(responder);
	}
}

void
responder_kill(struct connection *c, struct responder *responder)
{
	responder_stop_leaving(c, responder);
	process_signal_group(&responder->process, SIGKILL);
}

void
responder_let_leave(struct connection *c, struct responder *responder)
{
	if (responder->kill_ns != INT64_MAX)
		return;
	/* The same time for all: so the queue is in the order of the deadlines. */
	responder->kill_ns = clock_now_ns() + RESPONDER_LEAVE_NS;
	TAILQ_INSERT_TAIL(&c->leaving, responder, leaving_link);
	c->n_leaving++;
}

void
responder_dismiss(struct connection *c, struct responder *responder)
{
	responder_forget(c, responder);
	/* Whoever opens and closes fast must not have any number of them. */
	if (c->n_leaving >= c->conf->max_conversations) {
		responder_kill(c, responder);
		return;
	}
	process_signal_group(&responder->process, SIGTERM);
	responder_let_leave(c, responder);
}

void
responder_tick(struct connection *c, int64_t now_ns)
{
	struct responder *responder;
	char name[200];

	while ((responder = TAILQ_FIRST(&c->leaving)) != NULL && responder->kill_ns <= now_ns) {
		if (responder->conversation != NULL) {
			responder_condemn(c, responder,
			    "it closed its standard input or output and did not end");
			continue;
		}
		log_info("responder-killed %s reason=\"it did not end with its conversation\"",
		    responder_name(c, responder, name, sizeof name));
		responder_kill(c, responder);
	}
}

void
responder_kill_all(struct connection *c)
{
	struct responder *responder;

	TAILQ_FOREACH(responder, &c->responders, link)
		process_signal_group(&responder->process, SIGKILL);
}

void
responder_reap_all(struct connection *c)
{
	int64_t deadline = clock_now_ns() + RESPONDER_REAP_NS;
	struct responder *responder, *next;
	struct pollfd pfd = { .events = POLLIN };

	TAILQ_FOREACH_SAFE(responder, &c->responders, link, next) {
		responder_forget(c, responder);
		pfd.fd = responder->process.pid_fd;
		/* One that hangs in the kernel is left to init. */
		if (poll(&pfd, 1, clock_poll_ms(deadline, clock_now_ns())) == 1)
			responder_end_ready(c, &responder->end_watch, POLLIN);
	}
}

/* The start. */

static int
responder_refuse(struct connection *c, const char *path, const struct err *why, struct err *err)
{
	static struct log_limit limit;
	char shown[256];
	unsigned held;

	/* The path is the operator's business, the reason also the peer's. */
	if (log_limit_allows(&limit, RESPONDER_LOG_BURST, RESPONDER_LOG_WINDOW_NS, &held))
		log_warnx("responder-failed conn=%llu program=\"%s\" reason=\"%s\" suppressed=%u",
		    (unsigned long long)c->peer->conn_id,
		    log_vis(shown, sizeof shown, path, strlen(path)), why->text, held);
	return err_set(err, why->code == ERR_FULL ? ERR_FULL : ERR_INVALID,
	    "responder: %s", why->text);
}

/* Start it with the arguments of CONF and an environment of its own. */
static int
responder_spawn(const struct connection *c, const struct conversation *conversation,
    const struct conf_responder *conf, struct process_program *process, struct err *err)
{
	char conn[64], id[64], uuid[64], *subject;
	char *envp[] = { NULL, NULL, conn, id, uuid, NULL };
	char path[] = RESPONDER_PATH;
	char **argv = calloc((size_t)conf->exec.n + 1, sizeof *argv);
	int rc;

	if (asprintf(&subject, "LIMINAL_SUBJECT=%s", conf->subject) == -1 || argv == NULL) {
		free(argv);
		return err_set(err, ERR_FULL, "out of memory");
	}
	memcpy(argv, conf->exec.texts, conf->exec.n * sizeof *argv);
	snprintf(conn, sizeof conn, "LIMINAL_CONN_ID=%llu", (unsigned long long)c->peer->conn_id);
	snprintf(id, sizeof id, "LIMINAL_CONVERSATION_ID=%llu",
	    (unsigned long long)conversation->id);
	snprintf(uuid, sizeof uuid, "LIMINAL_CONVERSATION_UUID=%s", conversation->uuid);
	envp[0] = path;
	envp[1] = subject;
	rc = process_spawn(argv, envp, process, err);
	free(subject);
	free(argv);
	return rc;
}

static void
responder_init(struct connection *c, struct responder *responder,
    struct conversation *conversation, const struct conf_responder *conf)
{
	const struct process_program *process = &responder->process;

	responder->subject = conf->subject;
	responder->conversation = conversation;
	responder->kill_ns = INT64_MAX;
	responder->in_watch.ready = responder_in_ready;
	responder->out_watch.ready = responder_out_ready;
	responder->err_watch.ready = responder_err_ready;
	responder->end_watch.ready = responder_end_ready;
	connection_watch(c, EPOLL_CTL_ADD, process->out_fd, EPOLLIN, &responder->out_watch);
	responder->is_out_watched = 1;
	connection_watch(c, EPOLL_CTL_ADD, process->err_fd, EPOLLIN, &responder->err_watch);
	connection_watch(c, EPOLL_CTL_ADD, process->pid_fd, EPOLLIN, &responder->end_watch);
	TAILQ_INSERT_TAIL(&c->responders, responder, link);
	c->n_responders++;
	conversation->responder = responder;
	conversation->target_pid = process->pid;
	conversation->target = (uint64_t)process->pid;
}

int
responder_start(struct connection *c, struct conversation *conversation,
    const struct conf_responder *conf, struct err *err)
{
	struct responder *responder;
	struct err why = { 0 };

	if (c->n_responders >= 2 * (uint64_t)c->conf->max_conversations)
		return err_set(err, ERR_FULL, "limits conversations_per_connection (%u): the "
		    "responders of closed conversations have not ended yet",
		    c->conf->max_conversations);
	responder = calloc(1, sizeof *responder);
	if (responder == NULL)
		return err_set(err, ERR_FULL, "out of memory for a responder");
	if (responder_spawn(c, conversation, conf, &responder->process, &why) != 0) {
		free(responder);
		return responder_refuse(c, conf->exec.texts[0], &why, err);
	}
	responder_init(c, responder, conversation, conf);
	return 0;
}
