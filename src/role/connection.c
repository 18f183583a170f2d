/*
 * The life of one connection's process: its loop, its socket, its end.
 *
 * It never blocks but in its one poll, so that it looks at its inbox as soon as it is woken. A
 * client that does not read is cut off when limits outbound_bytes wait for it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/channel.h"
#include "role/responder.h"
#include "state/end.h"
#include "state/store.h"

/* What one read takes; a frame that needs more gets more. And what it takes when the one before was filled:
 * a turn's transaction and pokes cost the same for more messages. More than this leaves the cache. */
#define CONNECTION_READ		(64 * 1024)
#define CONNECTION_READ_MUCH	(128 * 1024)
/* What one wait may find ready. */
#define CONNECTION_EVENTS	16
/* Buffers of an idle connection keep at most this. */
#define CONNECTION_KEEP		4096
/* When nothing has happened for so long, what was read is removed and memory given back. One
 * timer after work, none for the idle. */
#define CONNECTION_TIDY_NS	(5 * CLOCK_MS)
/* How long the end waits for the peer to take its last answers. */
#define CONNECTION_LINGER_NS	(500 * CLOCK_MS)

/* Lets whoever is waiting run first, and still ends in a moment on a busy machine. */
#define CONNECTION_END_NICE	10

static volatile sig_atomic_t connection_terminated;

static void
connection_on_term(int sig)
{
	(void)sig;
	connection_terminated = 1;
}

void
connection_end(struct connection *c, int exit_status, const char *fmt, ...)
{
	va_list ap;

	if (c->is_ending)
		return;
	c->is_ending = 1;
	c->exit_status = exit_status;
	va_start(ap, fmt);
	vsnprintf(c->end_reason, sizeof c->end_reason, fmt, ap);
	va_end(ap);
}

void
connection_send(struct connection *c, const struct frame *frame)
{
	if (frame_encode(&c->out, frame) != 0)
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the output");
	c->frames_out++;
}

int
connection_open_store(struct connection *c, struct err *err)
{
	if (c->store != NULL)
		return 0;
	return store_open_readonly(&c->store, c->conf->persist_dir, err);
}

/* Send what the socket takes. */
static void
connection_flush(struct connection *c)
{
	ssize_t n;

	while (buf_len(&c->out) > 0) {
		n = send(c->peer->fd, buf_head(&c->out), buf_len(&c->out),
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			buf_consume(&c->out, (size_t)n);
			c->rest -= (size_t)n < c->rest ? (size_t)n : c->rest;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			connection_end(c, ROLE_EXIT_OK, "the connection was lost: %s",
			    strerror(errno));
		break;
	}
	/* One message may be larger than that, and what its subscriber costs is the channel's bound. */
	if (buf_len(&c->out) - c->rest > c->conf->outbound_bytes)
		connection_end(c, ROLE_EXIT_SHED,
		    "the peer does not read: limits outbound_bytes (%llu) wait for it",
		    (unsigned long long)c->conf->outbound_bytes);
}

static void
connection_fault(struct connection *c, enum frame_status status, const struct frame_fault *fault,
    uint64_t offset)
{
	if (status == FRAME_TOO_LARGE && !c->is_recorded)
		handshake_refuse(c, FRAME_REASON_CODEC,
		    "the frame is larger than limits max_frame_bytes");
	connection_end(c, ROLE_EXIT_PROTOCOL, "%s at offset %llu",
	    fault->text != NULL ? fault->text : "the frame is larger than limits max_frame_bytes",
	    (unsigned long long)(offset + fault->offset));
}

static void
connection_dispatch(struct connection *c, const struct frame *frame)
{
	struct frame pong = { .type = FRAME_PONG };

	switch (frame->type) {
	case FRAME_CONNECT:
		handshake_connect(c, frame);
		break;
	case FRAME_DISCONNECT:
		connection_end(c, ROLE_EXIT_OK, "the peer disconnected");
		break;
	case FRAME_PING:
		turn_apply(c);	/* answers keep the order of what they answer */
		connection_send(c, &pong);
		break;
	case FRAME_SUBSCRIBE:
		channel_subscribe_frame(c, frame);
		break;
	case FRAME_PUBLISH:
		channel_publish_frame(c, frame);
		break;
	case FRAME_CONVERSATION_OPEN:
		conversation_open_frame(c, frame);
		break;
	case FRAME_CONVERSATION_MESSAGE:
		conversation_message_frame(c, frame);
		break;
	case FRAME_CONVERSATION_CLOSE:
		conversation_close_frame(c, frame);
		break;
	case FRAME_PUSH_REPLY:
		worker_reply_frame(c, frame);
		break;
	case FRAME_WORKER_REGISTER:
		worker_register_frame(c, frame);
		break;
	case FRAME_UNSUBSCRIBE:
		channel_unsubscribe_frame(c, frame);
		break;
	case FRAME_ACCEPT:
	case FRAME_DEFER:
	case FRAME_REJECT:
		consumer_verdict_frame(c, frame);
		break;
	case FRAME_PONG:	/* nothing here waits for it */
		break;
	default:
		c->frames_ignored++;
		break;
	}
}

/* Decode and handle every whole frame that has arrived. */
static void
connection_decode(struct connection *c)
{
	struct frame_fault fault;
	struct frame frame;
	enum frame_status status;
	const uint8_t *at = buf_head(&c->in);
	size_t left = buf_len(&c->in), used;

	c->in_need = 0;
	while (!c->is_ending && !c->is_recording && left > 0) {
		memset(&fault, 0, sizeof fault);
		used = 0;
		status = frame_decode(at, left, c->conf->max_frame_bytes, &frame, &used, &fault);
		if (status == FRAME_NEED_HEADER || status == FRAME_NEED_PAYLOAD) {
			c->in_need = status == FRAME_NEED_PAYLOAD ? used : 0;
			break;
		}
		if (status != FRAME_OK) {
			turn_apply(c);
			connection_fault(c, status, &fault, c->offset);
			break;
		}
		if (!handshake_admits(c, &frame))
			break;
		c->frames_in++;
		connection_dispatch(c, &frame);
		at += used;
		left -= used;
		c->offset += used;
	}
	/* The intents hold views into the input: apply them before it moves. */
	turn_apply(c);
	buf_consume(&c->in, buf_len(&c->in) - left);
}

/* ERROR: errno, 0 = in order. What came before has arrived, and some of it, a publish that is
 * consumed, has no answer to wait for: it must not be lost because the row is not there yet. */
static void
connection_hung_up(struct connection *c, int error)
{
	if (c->is_recording && buf_len(&c->in) > 0) {
		handshake_recorded(c, 0);
		connection_decode(c);
	}
	if (error == 0)
		connection_end(c, ROLE_EXIT_OK, "the peer closed the connection");
	else
		connection_end(c, ROLE_EXIT_OK, "the connection was lost: %s", strerror(error));
}

/* Read once what is there. */
static void
connection_read(struct connection *c)
{
	size_t least = c->has_much ? CONNECTION_READ_MUCH : CONNECTION_READ, want = least;
	size_t have = buf_len(&c->in);
	uint8_t *room;
	ssize_t n;

	/* Room grows with what has really come, not with what a header promised. */
	if (c->in_need > have + want)
		want = c->in_need - have < have ? c->in_need - have : have;
	if (want < least)
		want = least;
	room = buf_reserve(&c->in, want);
	if (room == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for the input");
		return;
	}
	n = recv(c->peer->fd, room, want, MSG_DONTWAIT);
	if (n > 0) {
		c->has_grown |= n > CONNECTION_KEEP;
		c->has_much = n >= CONNECTION_READ;
		buf_commit(&c->in, (size_t)n);
		if (c->in_need <= buf_len(&c->in))
			connection_decode(c);
	} else if (n == 0)
		connection_hung_up(c, 0);
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		connection_hung_up(c, errno);
}

void
connection_watch(struct connection *c, int op, int fd, uint32_t events, struct watch *watch)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (epoll_ctl(c->epoll_fd, op, fd, &event) == -1)
		connection_end(c, ROLE_EXIT_SYSTEM, "epoll: %s", strerror(errno));
}

static int64_t
connection_next_deadline(struct connection *c)
{
	int64_t next = request_next_deadline(c);

	if (c->handshake_deadline_ns < next)
		next = c->handshake_deadline_ns;
	if (c->ready_at_ns < next)
		next = c->ready_at_ns;
	if (history_next_deadline(c) < next)
		next = history_next_deadline(c);
	if (responder_next_deadline(c) < next)
		next = responder_next_deadline(c);
	if (registration_next_deadline(c) < next)
		next = registration_next_deadline(c);
	if (tap_next_deadline(c) < next)
		next = tap_next_deadline(c);
	if (consumer_next_deadline(c) < next)
		next = consumer_next_deadline(c);
	if (deliver_next_deadline(c) < next)
		next = deliver_next_deadline(c);
	return next;
}

static void
connection_tick(struct connection *c)
{
	int64_t now;

	responder_free_ended(c);
	if (connection_next_deadline(c) == INT64_MAX)
		return;
	now = clock_now_ns();
	if (c->is_recording && now >= c->handshake_deadline_ns) {
		handshake_recorded(c, 0);
		connection_decode(c);
	} else if (!c->is_recorded && now >= c->handshake_deadline_ns) {
		handshake_refuse(c, FRAME_REASON_OTHER,
		    "limits handshake_timeout: no handshake in time");
		connection_end(c, ROLE_EXIT_REFUSED, "no handshake in time");
	}
	if (now >= c->ready_at_ns) {
		c->ready_at_ns = INT64_MAX;
		c->is_holding = 0;
		if (c->is_worker)
			turn_add(c, INTENT_READY);
	}
	request_expire(c, now);
	history_tick(c, now);
	responder_tick(c, now);
	registration_expire(c, now);
	tap_expire(c, now);
	consumer_tick(c, now);
	deliver_tick(c, now);
	turn_apply(c);
}

/* Some time after work: remove what was read from the inbox, give memory back. */
static void
connection_tidy(struct connection *c, struct watch *watch, uint32_t events)
{
	uint64_t expirations;

	(void)watch, (void)events;
	if (read(c->tidy_fd, &expirations, sizeof expirations) == sizeof expirations)
		c->is_tidy_armed = 0;
	turn_tidy(c);
	c->has_grown = deliver_tidy(c) | publish_tidy(c);
	buf_trim(&c->in, CONNECTION_KEEP);
	buf_trim(&c->out, CONNECTION_KEEP);
}

/* A timer of its own, because one that is set anew for each wait costs more than a turn. */
static void
connection_arm_tidy(struct connection *c)
{
	const struct itimerspec when = { .it_value.tv_nsec = CONNECTION_TIDY_NS };

	/* What waits for the socket has to stay: its end is something that happens. */
	if (c->is_tidy_armed || (c->inbox_rows == 0 && !c->has_grown &&
	    (c->out.size <= CONNECTION_KEEP || buf_len(&c->out) > 0)))
		return;
	if (c->tidy_fd == -1) {
		c->tidy_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		connection_watch(c, EPOLL_CTL_ADD, c->tidy_fd, EPOLLIN, &c->tidy_watch);
	}
	if (timerfd_settime(c->tidy_fd, 0, &when, NULL) == -1)
		connection_end(c, ROLE_EXIT_SYSTEM, "timer: %s", strerror(errno));
	c->is_tidy_armed = 1;
}

static void
connection_publish_counts(struct connection *c)
{
	atomic_store_explicit(&c->mine->looked,
	    atomic_load_explicit(&c->mine->looked, memory_order_relaxed) + 1,
	    memory_order_relaxed);
	if (c->frames_in > 0)
		board_count(c->mine, BOARD_FRAMES_IN, c->frames_in);
	if (c->frames_out > 0)
		board_count(c->mine, BOARD_FRAMES_OUT, c->frames_out);
	if (c->frames_ignored > 0)
		board_count(c->mine, BOARD_FRAMES_IGNORED, c->frames_ignored);
	c->frames_in = c->frames_out = c->frames_ignored = 0;
}

static void
connection_poked(struct connection *c, struct watch *watch, uint32_t events)
{
	enum wake_kind kind = wake_drain(&c->wake);

	(void)watch, (void)events;
	if (c->is_recording) {
		c->was_poked |= kind == WAKE_POKE;
		if (kind != WAKE_ANSWER)
			return;
		handshake_recorded(c, 1);
		connection_decode(c);
	} else if (!c->is_open && kind == WAKE_POKE)
		handshake_open(c);	/* somebody has something for it */
}

/* The master is gone, and the state with it. */
static void
connection_orphaned(struct connection *c, struct watch *watch, uint32_t events)
{
	(void)watch, (void)events;
	responder_kill_all(c);
	_exit(ROLE_EXIT_OK);
}

/* Sleep until something happens (with IS_BUSY only look); returns what there is for the client's socket. */
static uint32_t
connection_wait(struct connection *c, const sigset_t *unblocked, int is_busy)
{
	struct epoll_event events[CONNECTION_EVENTS];
	int64_t deadline = connection_next_deadline(c);
	uint32_t found = 0, wanted = publish_is_full(c) ? 0 : EPOLLIN;
	int n, i, timeout = -1;
	struct watch *watch;

	if (buf_len(&c->out) > 0 || deliver_is_blocked(c))
		wanted |= EPOLLOUT;
	if (wanted != c->watched) {
		connection_watch(c, EPOLL_CTL_MOD, c->peer->fd, wanted, &c->socket_watch);
		c->watched = wanted;
	}
	connection_arm_tidy(c);
	if (is_busy)
		timeout = 0;
	else if (deadline != INT64_MAX)
		timeout = clock_poll_ms(deadline, clock_now_ns());
	n = epoll_pwait(c->epoll_fd, events, CONNECTION_EVENTS, timeout, unblocked);
	if (n == -1 && errno != EINTR)
		connection_end(c, ROLE_EXIT_SYSTEM, "epoll: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		watch = events[i].data.ptr;
		if (watch == &c->socket_watch)
			found = events[i].events;	/* after what the others bring */
		else
			watch->ready(c, watch, events[i].events);
	}
	return found;
}

static void
connection_loop(struct connection *c, const sigset_t *unblocked)
{
	uint32_t events;
	int is_busy;

	while (!c->is_ending) {
		tap_continue(c);
		connection_flush(c);
		deliver(c);
		connection_publish_counts(c);
		if (c->is_ending)
			break;
		if (c->is_open) {
			/* Look once more after having announced the sleep: whoever commits
			 * later will see the announcement and poke. */
			wake_will_sleep(&c->wake);
			if (turn_has_news(c)) {
				turn_look(c);
				registration_continue(c);
				tap_continue(c);
				if (c->n_intents > 0 || buf_len(&c->out) > 0) {
					wake_is_awake(&c->wake);
					turn_apply(c);
					continue;
				}
			}
		}
		is_busy = deliver_has_news(c);
		if (is_busy)
			wake_is_awake(&c->wake);
		events = connection_wait(c, unblocked, is_busy);
		if (c->is_open)
			wake_is_awake(&c->wake);
		if (events & EPOLLOUT)
			deliver_unblock(c);
		if (connection_terminated)
			connection_end(c, ROLE_EXIT_OK, "closed by the daemon");
		else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			connection_read(c);
		connection_tick(c);
	}
}

/* Give the peer a bounded time to take the last answers, reading on so that what it still sends
 * does not make the kernel throw them away. */
static void
connection_linger(struct connection *c)
{
	int64_t deadline = clock_now_ns() + CONNECTION_LINGER_NS;
	struct pollfd pfd = { .fd = c->peer->fd };
	int is_shut = 0;
	char waste[4096];
	ssize_t n;

	for (;;) {
		connection_flush(c);
		if (buf_len(&c->out) == 0 && !is_shut) {
			shutdown(c->peer->fd, SHUT_WR);
			is_shut = 1;
		}
		pfd.events = (short)(POLLIN | (is_shut ? 0 : POLLOUT));
		n = poll(&pfd, 1, clock_poll_ms(deadline, clock_now_ns()));
		if (n <= 0 || (pfd.revents & (POLLERR | POLLNVAL)))
			return;
		if (pfd.revents & (POLLIN | POLLHUP)) {
			n = recv(c->peer->fd, waste, sizeof waste, MSG_DONTWAIT);
			if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
				return;
		}
	}
}

/* The one close path, in this process: the state first, so that whoever waits for this
 * connection learns it before the process is torn down. */
static void
connection_close(struct connection *c)
{
	struct frame disconnect = { .type = FRAME_DISCONNECT };
	struct state_txn *txn;
	int rc;

	if (connection_terminated && !c->is_disconnect_sent)
		connection_send(c, &disconnect);
	if (c->is_open) {
		conversation_cancel_all_direct(c);
		subscription_save_all(c);
		turn_apply(c);
		rc = state_begin_write(c->state, &txn);
		if (rc == 0) {
			rc = end_connection(txn, c->peer->conn_id, c->end_reason);
			if (rc >= 0)
				rc = state_commit(txn);
			else
				state_abort(txn);
		}
		if (rc != 0)
			log_warnx("cleanup conn=%llu failed: %s; the keeper will do it",
			    (unsigned long long)c->peer->conn_id, state_error_text(c->state));
	}
	responder_kill_all(c);
	/* Tearing the process down is work, and those who go on have just got some of theirs back. */
	if (c->is_worker)
		(void)setpriority(PRIO_PROCESS, 0, CONNECTION_END_NICE);
	connection_publish_counts(c);
	connection_flush(c);
	/* Whoever is sent away gets a moment to read why; a force-close is not delayed. */
	if ((buf_len(&c->out) > 0 || c->exit_status != ROLE_EXIT_OK) && !connection_terminated)
		connection_linger(c);
	responder_reap_all(c);
}

static void
connection_log_end(const struct connection *c)
{
	char reason[4 * sizeof c->end_reason];

	if (c->exit_status == ROLE_EXIT_OK && c->conf->log_level < CONF_LOG_DEBUG)
		return;		/* the usual end, and nobody wants to read of it */
	log_vis(reason, sizeof reason, c->end_reason, strlen(c->end_reason));
	if (c->exit_status == ROLE_EXIT_OK)
		log_debug("end conn=%llu peer=%s reason=\"%s\"",
		    (unsigned long long)c->peer->conn_id, c->peer->address, reason);
	else
		log_warnx("end conn=%llu peer=%s reason=\"%s\"",
		    (unsigned long long)c->peer->conn_id, c->peer->address, reason);
}

static void
connection_init(struct connection *c, const struct role_context *context,
    const struct role_peer *peer)
{
	memset(c, 0, sizeof *c);
	c->context = context;
	c->peer = peer;
	c->conf = context->conf;
	c->mine = &context->board->slots[context->slot];
	c->router = router_by_conf(c->conf->router);
	c->handshake_deadline_ns = clock_now_ns() + c->conf->handshake_timeout_ns;
	c->tidy_fd = -1;
	c->master_watch.ready = connection_orphaned;
	c->wake_watch.ready = connection_poked;
	c->tidy_watch.ready = connection_tidy;
	TAILQ_INIT(&c->responders);
	TAILQ_INIT(&c->leaving);
	TAILQ_INIT(&c->ended);
	c->ready_at_ns = INT64_MAX;
	RB_INIT(&c->conversations);
	RB_INIT(&c->deadlines);
	RB_INIT(&c->typed_jobs);
	RB_INIT(&c->subscriptions);
	RB_INIT(&c->consumers);
	TAILQ_INIT(&c->moved);
	c->consumer_deadline_ns = INT64_MAX;
	TAILQ_INIT(&c->kept);
	TAILQ_INIT(&c->registrations);
	TAILQ_INIT(&c->tapped);
}

int
connection_main(const struct role_context *context, const struct role_peer *peer)
{
	struct sigaction action = { .sa_handler = connection_on_term };
	struct connection c;
	sigset_t unblocked;

	connection_init(&c, context, peer);
	/* Its own, made after the fork: an inherited one would be shared with the master. */
	c.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c.watched = EPOLLIN;
	connection_watch(&c, EPOLL_CTL_ADD, peer->fd, c.watched, &c.socket_watch);
	connection_watch(&c, EPOLL_CTL_ADD, context->master_fd, EPOLLIN, &c.master_watch);
	sigprocmask(SIG_SETMASK, NULL, &unblocked);
	sigdelset(&unblocked, SIGTERM);
	sigaction(SIGTERM, &action, NULL);
	connection_loop(&c, &unblocked);
	connection_close(&c);
	connection_log_end(&c);
	/* The process ends now, and with it all that it had: giving it back piece by piece would
	 * only make the end of a connection dearer. */
	return c.exit_status;
}
