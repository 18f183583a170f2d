/*
 * worker: registration, jobs and their replies.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"

#define WORKER_IDENTITY_SIZE	320	/* a host name and a pid */

/* The strings of one registration in their encoded form. */
struct worker_lists {
	struct buf namespaces, activity_types;
	char identity[WORKER_IDENTITY_SIZE];
};

static int
worker_check_text(struct liminal *conn, const char *text, const char *what)
{
	if (text == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no %s", what);
	/* The server would have to end the connection over it. */
	if (!frame_is_utf8((const uint8_t *)text, strlen(text)))
		return client_fail(conn, LIMINAL_INVALID, "the %s is not UTF-8", what);
	return LIMINAL_OK;
}

static int
worker_encode_list(struct liminal *conn, struct buf *out, const char *const *texts, size_t n,
    const char *what, struct frame_vec *vec)
{
	int r;

	if (n > UINT32_MAX || (texts == NULL && n > 0))
		return client_fail(conn, LIMINAL_INVALID, "no %s", what);
	for (size_t i = 0; i < n; i++) {
		if ((r = worker_check_text(conn, texts[i], what)) != LIMINAL_OK)
			return r;
		if (frame_encode_string(out, texts[i], strlen(texts[i])) != 0)
			return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	}
	vec->count = (uint32_t)n;
	vec->encoded.data = buf_head(out);
	vec->encoded.len = buf_len(out);
	return LIMINAL_OK;
}

static struct frame_view
worker_view(const char *text)
{
	return (struct frame_view){ .data = (const uint8_t *)text, .len = strlen(text) };
}

static const char *
worker_default_identity(struct worker_lists *lists)
{
	char host[WORKER_IDENTITY_SIZE - 16];

	if (gethostname(host, sizeof(host)) != 0)
		strcpy(host, "localhost");
	host[sizeof(host) - 1] = '\0';
	snprintf(lists->identity, sizeof(lists->identity), "%s:%ld", host, (long)getpid());
	return lists->identity;
}

/* Fill FRAME with views into WORKER and LISTS. */
static int
worker_compose(struct liminal *conn, const struct liminal_worker *worker,
    struct worker_lists *lists, struct frame *frame)
{
	const char *identity = worker->identity;
	int r;

	if (identity == NULL)
		identity = worker_default_identity(lists);
	if ((r = worker_encode_list(conn, &lists->namespaces, worker->namespaces,
	    worker->n_namespaces, "namespace", &frame->u.worker_register.namespaces)) != 0 ||
	    (r = worker_encode_list(conn, &lists->activity_types, worker->activity_types,
	    worker->n_activity_types, "activity type",
	    &frame->u.worker_register.activity_types)) != 0 ||
	    (r = worker_check_text(conn, worker->task_queue, "task queue")) != 0 ||
	    (r = worker_check_text(conn, identity, "identity")) != 0)
		return r;
	frame->u.worker_register.task_queue = worker_view(worker->task_queue);
	frame->u.worker_register.identity = worker_view(identity);
	if (worker->node != NULL) {
		if ((r = worker_check_text(conn, worker->node, "node")) != LIMINAL_OK)
			return r;
		frame->u.worker_register.node.present = 1;
		frame->u.worker_register.node.view = worker_view(worker->node);
	}
	if (worker->max_concurrent > 0 &&
	    (conn->capabilities & LIMINAL_CAPABILITY_WORKER_CAPACITY) != 0) {
		frame->flags = FRAME_FLAG_CAPACITY;
		frame->u.worker_register.has_capacity = 1;
		frame->u.worker_register.max_concurrent = worker->max_concurrent;
	}
	return LIMINAL_OK;
}

int
liminal_register(struct liminal *conn, const struct liminal_worker *worker, int timeout_ms)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct worker_lists lists = { 0 };
	struct frame frame = { .type = FRAME_WORKER_REGISTER };
	int r;

	if (worker == NULL)
		return client_fail(conn, LIMINAL_INVALID, "no worker");
	if ((r = client_check(conn)) == LIMINAL_OK)
		r = worker_compose(conn, worker, &lists, &frame);
	if (r == LIMINAL_OK)
		r = client_send(conn, &frame);
	buf_free(&lists.namespaces);
	buf_free(&lists.activity_types);
	if (r != LIMINAL_OK)
		return r;
	conn->registrations_due++;
	r = client_next(conn, CLIENT_REGISTERED, &wait, &frame, NULL);
	if (r == LIMINAL_OK && !frame.u.worker_register_ack.accepted)
		r = client_refused(conn, LIMINAL_REASON_NONE,
		    &frame.u.worker_register_ack.reason);
	return r;
}

void
client_show_job(struct liminal *conn, const struct frame *frame)
{
	conn->job.correlation = frame->u.push.correlation;
	conn->job.payload = frame->u.push.payload.data;
	conn->job.len = frame->u.push.payload.len;
}

int
liminal_next_job(struct liminal *conn, int timeout_ms, const struct liminal_job **job)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	struct frame frame;
	int r;

	wait.interruptible = 1;
	if ((r = client_next(conn, CLIENT_JOB, &wait, &frame, NULL)) != LIMINAL_OK)
		return r;
	client_show_job(conn, &frame);
	*job = &conn->job;
	return LIMINAL_OK;
}

int
liminal_reply(struct liminal *conn, uint64_t correlation, const void *payload, size_t len)
{
	struct frame frame = { .type = FRAME_PUSH_REPLY, .stream = FRAME_PUSH_STREAM };

	if (payload == NULL && len > 0)
		return client_fail(conn, LIMINAL_INVALID, "no payload");
	frame.u.push.correlation = correlation;
	frame.u.push.payload.data = payload;
	frame.u.push.payload.len = len;
	return client_send(conn, &frame);
}
