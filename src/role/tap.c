/*
 * A connection's publishes on their way past the notifier, which may take each for itself (systems.md C3).
 *
 * They are asked about as they come, in one row each, and take effect in their order: one that is
 * decided early waits here for those before it. One without an answer in its time goes its usual
 * way. Other frames do not wait. What waits is bounded by limits outbound_bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "role/connection.h"
#include "role/notifier.h"

#define TAP_FULL_TEXT "publishes wait for the notifier: limits outbound_bytes is reached"

enum tapped_state { TAPPED_ASKED, TAPPED_CONSUMED, TAPPED_PASSED, TAPPED_REFUSED };

struct tapped {
	TAILQ_ENTRY(tapped) link;
	uint64_t number;
	enum tapped_state state;
	int64_t deadline_ns;		/* INT64_MAX before it is asked about */
	char text[192];			/* TAPPED_REFUSED */
	struct frame frame;		/* views into BYTES */
	uint8_t bytes[];
};

/* Only where it is certain that no module wants it is it not asked; a notifier that is being
 * restarted may want it. */
int
tap_is_wanted(struct connection *c)
{
	uint32_t entries;

	if (c->conf->notifier_module == NULL)
		return 0;
	entries = atomic_load(&c->context->board->slots[BOARD_SERVICE_SLOT(BOARD_NOTIFIER)].entries);
	/* What has come before goes first in any case. */
	return !(entries & BOARD_ENTRY_KNOWN) || (entries & BOARD_ENTRY_PUBLISH) ||
	    !TAILQ_EMPTY(&c->tapped);
}

static void
tap_move_view(struct frame_view *view, const struct frame_view *from, const uint8_t *to)
{
	if (view->data != NULL)
		view->data = to + (view->data - from->data);
}

/* A copy that outlives the input, with its views. */
static struct tapped *
tap_copy(const struct frame *frame)
{
	struct tapped *tapped = malloc(sizeof *tapped + frame->raw.len);
	struct frame_envelope *envelope;

	if (tapped == NULL)
		return NULL;
	memset(tapped, 0, sizeof *tapped);
	tapped->frame = *frame;
	memcpy(tapped->bytes, frame->raw.data, frame->raw.len);
	envelope = &tapped->frame.u.publish.envelope;
	if (envelope->schema_id != NULL)
		envelope->schema_id = tapped->bytes + (envelope->schema_id - frame->raw.data);
	tap_move_view(&envelope->parent_id.view, &frame->raw, tapped->bytes);
	tap_move_view(&envelope->payload, &frame->raw, tapped->bytes);
	tap_move_view(&envelope->causal, &frame->raw, tapped->bytes);
	tap_move_view(&tapped->frame.u.publish.channel, &frame->raw, tapped->bytes);
	tap_move_view(&tapped->frame.u.publish.key.view, &frame->raw, tapped->bytes);
	tapped->frame.raw.data = tapped->bytes;
	return tapped;
}

static size_t
tap_size(const struct tapped *tapped)
{
	return sizeof *tapped + tapped->frame.raw.len;
}

void
tap_add(struct connection *c, const struct frame *frame)
{
	const struct frame_view *channel = &frame->u.publish.channel;
	struct tapped *tapped;
	struct intent *intent;

	if (c->tapped_bytes > c->conf->outbound_bytes) {
		channel_publish_error(c, frame->stream, TAP_FULL_TEXT);
		return;
	}
	if ((tapped = tap_copy(frame)) == NULL) {
		connection_end(c, ROLE_EXIT_SYSTEM, "out of memory for a publish");
		return;
	}
	tapped->number = TAP_REQUEST | ++c->n_tapped;
	tapped->deadline_ns = INT64_MAX;
	TAILQ_INSERT_TAIL(&c->tapped, tapped, link);
	c->tapped_bytes += tap_size(tapped);
	if (channel->len > 0 && memchr(channel->data, 0, channel->len) != NULL) {
		/* No C string, so no name that a module could mean. */
		tapped->state = TAPPED_PASSED;
		tap_continue(c);
	} else if ((intent = turn_add(c, INTENT_TAP)) != NULL)
		intent->tapped = tapped;
}

int
tap_apply(struct connection *c, struct state_txn *txn, struct intent *intent)
{
	const struct frame *frame = &intent->tapped->frame;
	struct notifier_publish publish = {
		/* Until shortly before tap_done()'s: one that came behind a call that did not
		 * return is still asked about. */
		.deadline_ns = clock_now_ns() + c->conf->notifier_timeout_ns +
		    NOTIFIER_GRACE_NS / 2,
		.channel = frame->u.publish.channel, .payload = frame->u.publish.envelope.payload,
	};
	struct inbox_entry entry;
	struct buf body = { 0 };
	int rc;

	if (state_is_tight(txn))
		return ERR_FULL;
	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_PUBLISH;
	entry.conn_id = c->peer->conn_id;
	entry.request = intent->tapped->number;
	rc = notifier_publish_pack(&publish, &body);
	entry.len = (uint32_t)buf_len(&body);
	if (rc == 0)
		rc = inbox_post(txn, INBOX_SERVICE(BOARD_NOTIFIER),
		    BOARD_SERVICE_SLOT(BOARD_NOTIFIER), &entry, buf_head(&body));
	buf_free(&body);
	return rc;
}

void
tap_done(struct connection *c, struct intent *intent)
{
	struct tapped *tapped = intent->tapped;

	if (intent->result == 0) {
		tapped->deadline_ns = clock_now_ns() + c->conf->notifier_timeout_ns +
		    NOTIFIER_GRACE_NS;
		return;
	}
	tapped->state = TAPPED_REFUSED;
	memcpy(tapped->text, intent->text, sizeof tapped->text);
}

/* The first one that is not decided. */
static struct tapped *
tap_undecided(struct connection *c)
{
	struct tapped *tapped;

	TAILQ_FOREACH(tapped, &c->tapped, link)
		if (tapped->state == TAPPED_ASKED)
			return tapped;
	return NULL;
}

void
tap_notified(struct connection *c, const struct inbox_entry *entry)
{
	struct tapped *tapped;

	TAILQ_FOREACH(tapped, &c->tapped, link)
		if (tapped->number == entry->request)
			break;
	if (tapped != NULL && tapped->state == TAPPED_ASKED)
		tapped->state = entry->code == INBOX_NOTIFIED_YES ? TAPPED_CONSUMED :
		    TAPPED_PASSED;
}

/* Those whose turn it is. What becomes of one may bring this here again: each is out of the
 * queue before. They are published as one turn: until it is applied, their bytes are needed. */
void
tap_continue(struct connection *c)
{
	struct tapped_queue decided = TAILQ_HEAD_INITIALIZER(decided);
	struct tapped *first;

	while (!c->is_ending && (first = TAILQ_FIRST(&c->tapped)) != NULL &&
	    first->state != TAPPED_ASKED) {
		TAILQ_REMOVE(&c->tapped, first, link);
		TAILQ_INSERT_TAIL(&decided, first, link);
		c->tapped_bytes -= tap_size(first);
		if (first->state == TAPPED_PASSED)
			channel_publish(c, &first->frame);
		else if (first->state == TAPPED_REFUSED)
			channel_publish_error(c, first->frame.stream, first->text);
	}
	if (TAILQ_EMPTY(&decided))
		return;
	turn_apply(c);
	while ((first = TAILQ_FIRST(&decided)) != NULL) {
		TAILQ_REMOVE(&decided, first, link);
		free(first);
	}
}

int64_t
tap_next_deadline(struct connection *c)
{
	const struct tapped *first = TAILQ_FIRST(&c->tapped);

	/* They are asked in order and wait equally long; and nothing is sent before the first. */
	return first != NULL && first->state == TAPPED_ASKED ? first->deadline_ns : INT64_MAX;
}

void
tap_expire(struct connection *c, int64_t now_ns)
{
	struct tapped *tapped;

	while ((tapped = tap_undecided(c)) != NULL && tapped->deadline_ns <= now_ns)
		tapped->state = TAPPED_PASSED;
	tap_continue(c);
}
