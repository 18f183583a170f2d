/*
 * events: whatever comes next, for a program that is several things at once.
 *
 * liminal_next() is older than publishers and subscribers: their events are looked at with
 * functions of their own, so that programs that were built before go on working.
 */
#include "client/client.h"

int
liminal_next(struct liminal *conn, int timeout_ms, enum liminal_event *event,
    const struct liminal_answer **answer, const struct liminal_job **job)
{
	struct client_wait wait = client_wait_for(timeout_ms);
	enum client_kind kind;
	struct frame frame;
	int r;

	*answer = NULL;
	*job = NULL;
	wait.interruptible = 1;
	if ((r = client_next(conn, CLIENT_EVENTS, &wait, &frame, &kind)) != LIMINAL_OK)
		return r;
	switch (kind) {
	case CLIENT_JOB:
		client_show_job(conn, &frame);
		conn->shown = LIMINAL_EVENT_JOB;
		*job = &conn->job;
		break;
	case CLIENT_ACK:
		client_show_ack(conn, &frame);
		conn->shown = LIMINAL_EVENT_ACK;
		break;
	case CLIENT_MESSAGE:
		client_show_message(conn, &frame);
		conn->shown = LIMINAL_EVENT_MESSAGE;
		break;
	default:
		client_show_answer(conn, &frame);
		conn->shown = LIMINAL_EVENT_ANSWER;
		*answer = &conn->answer;
	}
	*event = conn->shown;
	return LIMINAL_OK;
}

const struct liminal_ack *
liminal_event_ack(const struct liminal *conn)
{
	return conn->shown == LIMINAL_EVENT_ACK ? &conn->ack : NULL;
}

const struct liminal_message *
liminal_event_message(const struct liminal *conn)
{
	return conn->shown == LIMINAL_EVENT_MESSAGE ? &conn->message : NULL;
}
