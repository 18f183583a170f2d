/*
 * responder: an executed program as a participant (systems.md F3, F4). Internal to the
 * connection's role.
 *
 * One process for each conversation, a child of the connection's. Messages go to its standard
 * input as {packet, 4}; the n-th packet that it writes answers the n-th message. It
 * is the operator's program, but nothing of it is believed: lengths, silence, floods. Everything
 * here is called between turns, outside of any transaction.
 *
 * With its conversation: alive, or leaving (a deadline to end by itself, then SIGKILL). Without:
 * leaving, or killed. In the end it is reaped, and freed when no event names it any more.
 */
#ifndef LIMINAL_ROLE_RESPONDER_H
#define LIMINAL_ROLE_RESPONDER_H

#include "base/log.h"
#include "os/process.h"
#include "role/connection.h"

/* Of a line on its standard error, what gets into the log. */
#define RESPONDER_LINE	400

#define RESPONDER_OF(watch, member)					\
	((struct responder *)(void *)((char *)(watch) - offsetof(struct responder, member)))

struct responder {
	TAILQ_ENTRY(responder) link;		/* responders, then ended */
	TAILQ_ENTRY(responder) leaving_link;
	const char *subject;			/* the configuration's */
	struct conversation *conversation;	/* NULL = its end is nobody's business any more */
	struct process_program process;
	struct watch in_watch, out_watch, err_watch, end_watch;
	int is_in_watched, is_out_watched;
	int64_t kill_ns;			/* INT64_MAX = not leaving */
	struct buf to;				/* what its pipe did not take yet */
	struct buf from;			/* less than a packet */
	struct buf expected;			/* request ids (0 = told) that owe an answer */
	size_t counted;				/* of the connection's responder_bytes */
	char line[RESPONDER_LINE];		/* of its standard error, begun */
	size_t line_len;			/* more than RESPONDER_LINE = cut */
	struct log_limit line_limit;
};

/* responder.c */

/* The one that is configured for SUBJECT, or NULL. */
const struct conf_responder *responder_find(const struct conf *conf,
    const struct frame_view *subject);
/* What had come from it until now; for its end. */
void	responder_drain_answers(struct connection *c, struct responder *responder);
/* Its end, or what made it useless: the conversation has failed, and whoever waits is told REASON. */
void	responder_fail(struct connection *c, struct responder *responder, const char *reason);
/* It did what no responder may: killed, and the conversation fails. */
void	responder_condemn(struct connection *c, struct responder *responder, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* Nobody waits for its answers any more: forget what is in between. */
void	responder_forget(struct connection *c, struct responder *responder);
void	responder_in_ready(struct connection *c, struct watch *watch, uint32_t events);
void	responder_out_ready(struct connection *c, struct watch *watch, uint32_t events);

/* responder_life.c */

/* A process for CONVERSATION, as CONF says. 0, ERR_FULL or ERR_INVALID with the reason. */
int	responder_start(struct connection *c, struct conversation *conversation,
	    const struct conf_responder *conf, struct err *err);
/* It is to end by itself in a moment, else it is killed. */
void	responder_let_leave(struct connection *c, struct responder *responder);
/* The same, and it is told to. */
void	responder_dismiss(struct connection *c, struct responder *responder);
void	responder_kill(struct connection *c, struct responder *responder);
/* Close one of its descriptors, watched or not; -1 = closed already. */
void	responder_close_fd(struct connection *c, int *fd);
/* Its conversation has failed, with REASON. */
void	responder_log_end(struct connection *c, struct responder *responder, const char *reason);
/* The connection ends: first all are killed, later what has ended is reaped. */
void	responder_kill_all(struct connection *c);
void	responder_reap_all(struct connection *c);
/* Kill those that did not leave in time. */
void	responder_tick(struct connection *c, int64_t now_ns);
void	responder_free(struct connection *c);

static inline int64_t
responder_next_deadline(const struct connection *c)
{
	return TAILQ_EMPTY(&c->leaving) ? INT64_MAX : TAILQ_FIRST(&c->leaving)->kill_ns;
}

/* Between two batches of events. */
static inline void
responder_free_ended(struct connection *c)
{
	if (!TAILQ_EMPTY(&c->ended))
		responder_free(c);
}

#endif
