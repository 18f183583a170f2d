/*
 * activity: requests in the typed form, which names the activity's type, its node, its timeouts
 * and the workflow that it belongs to.
 *
 * The request is built in a buffer of the connection's own, so that in the steady state
 * nothing is allocated. Answers are handed out as they come: JSON is for the program, which has
 * a parser of its own choice.
 */
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "client/client.h"
#include "form/typed.h"

static int
activity_is_text(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static int
activity_check_timeout(int64_t ms)
{
	return ms >= 0 && ms <= TYPED_TIMEOUT_MAX_MS;
}

static int
activity_check(struct liminal *conn, const struct liminal_activity *activity)
{
	const char *fault = NULL;

	if (activity == NULL || !activity_is_text(activity->activity_type))
		fault = "no activity type";
	else if (!activity_is_text(activity->task_queue))
		fault = "no task queue";
	else if (activity->input == NULL && activity->len > 0)
		fault = "no input";
	else if (activity->node_required && activity->node == NULL)
		fault = "a node is required, but none is named";
	else if (activity->has_ordinal && activity->workflow_id == NULL)
		fault = "an ordinal without a workflow id";
	else if (activity->ordinal > INT64_MAX)
		fault = "the ordinal is too large";
	else if (!activity_check_timeout(activity->schedule_to_close_ms) ||
	    !activity_check_timeout(activity->start_to_close_ms))
		fault = "a timeout is negative or longer than ten years";
	return fault == NULL ? LIMINAL_OK : client_fail(conn, LIMINAL_INVALID, "%s", fault);
}

/* Into conn->typed. */
static int
activity_build(struct liminal *conn, const struct liminal_activity *activity)
{
	struct typed_call call;
	int r;

	if ((r = activity_check(conn, activity)) != LIMINAL_OK)
		return r;
	call = (struct typed_call){
		.activity_type = activity->activity_type, .task_queue = activity->task_queue,
		.workflow_id = activity->workflow_id, .node = activity->node,
		.node_required = activity->node_required, .has_ordinal = activity->has_ordinal,
		.ordinal = (int64_t)activity->ordinal,
		.schedule_to_close_ns = activity->schedule_to_close_ms * CLOCK_MS,
		.start_to_close_ns = activity->start_to_close_ms * CLOCK_MS,
		.content_type = activity->content_type,
		.data = activity->input, .len = activity->len,
	};
	switch (typed_request_build(&call, &conn->typed)) {
	case 0:
		return LIMINAL_OK;
	case ERR_INVALID:
		return client_fail(conn, LIMINAL_INVALID, "a text of the activity is not UTF-8");
	default:
		return client_fail(conn, LIMINAL_NOMEM, "out of memory");
	}
}

static void
activity_clear(struct liminal *conn)
{
	buf_consume(&conn->typed, buf_len(&conn->typed));
	buf_trim(&conn->typed, CLIENT_KEEP_MEMORY);
}

int
liminal_send_activity(struct liminal *conn, uint64_t conversation,
    const struct liminal_activity *activity, uint64_t *request)
{
	int r;

	if ((r = activity_build(conn, activity)) == LIMINAL_OK)
		r = liminal_send_request(conn, conversation, buf_head(&conn->typed),
		    buf_len(&conn->typed), request);
	activity_clear(conn);
	return r;
}

int
liminal_dispatch_activity(struct liminal *conn, const char *name_space,
    const struct liminal_activity *activity, int timeout_ms,
    const struct liminal_answer **answer)
{
	int r;

	if (answer != NULL)
		*answer = NULL;
	if ((r = activity_build(conn, activity)) == LIMINAL_OK)
		r = liminal_dispatch(conn, name_space, activity->task_queue,
		    buf_head(&conn->typed), buf_len(&conn->typed), timeout_ms, answer);
	activity_clear(conn);
	return r;
}
