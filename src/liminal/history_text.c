/*
 * history_text: steps of the record, as a person wants to read them, and as JSON lines.
 *
 * Nothing that a peer wrote reaches a terminal without log_vis(). A typed response is shown to
 * people by its output alone; scripts get it as it was answered.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "form/typed.h"
#include "liminal/history.h"

#define HISTORY_RESULT_SHOWN	64	/* bytes of a result */
#define HISTORY_TIME_SIZE	48
#define HISTORY_POOL_PREFIX	"aion.dispatch."

static int __attribute__((format(printf, 3, 4)))
history_put(struct history *history, struct buf *to, const char *fmt, ...)
{
	char text[4 * HISTORY_TEXT_MAX];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if ((size_t)len >= sizeof(text))
		len = sizeof(text) - 1;
	if (buf_append(to, text, (size_t)len) == 0)
		return 0;
	cli_complain(history->look.cli, "out of memory");
	return -1;
}

static void
history_vis(char out[HISTORY_TEXT_MAX], const struct frame_view *view)
{
	log_vis(out, HISTORY_TEXT_MAX, view->data, view->len);
}

/* "12.345ms", "5.210s", "3m12s", "5h03m", "2d04h". Clocks are set; the record is not. */
static const char *
history_span(char *out, size_t size, int64_t ns)
{
	int64_t s;

	ns = ns > 0 ? ns : 0;
	s = ns / CLOCK_SECOND;
	if (ns < CLOCK_SECOND)
		snprintf(out, size, "%" PRId64 ".%03" PRId64 "ms", ns / CLOCK_MS,
		    ns % CLOCK_MS / 1000);
	else if (s < 60)
		snprintf(out, size, "%" PRId64 ".%03" PRId64 "s", s,
		    ns % CLOCK_SECOND / CLOCK_MS);
	else if (s < 3600)
		snprintf(out, size, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, size, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(out, size, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
	return out;
}

/* Date, "T", time to the millisecond, in local time. */
static const char *
history_local(char out[HISTORY_TIME_SIZE], int64_t ns)
{
	time_t seconds = (time_t)(ns / CLOCK_SECOND);
	struct tm tm;
	size_t len;

	localtime_r(&seconds, &tm);
	len = strftime(out, HISTORY_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + len, HISTORY_TIME_SIZE - len, ".%03d", (int)(ns % CLOCK_SECOND / CLOCK_MS));
	return out;
}

static const char *
history_kind(uint8_t kind)
{
	return kind >= RECORD_OPENED && kind <= RECORD_CONVERSATION_CLOSED ?
	    record_operation_names[kind] : "?";
}

static const char *
history_activity(uint8_t activity)
{
	return activity <= RECORD_ACTIVITY_FAILED ? record_activity_names[activity] : "?";
}

/* Which of a step's operations its message and its code are about: what failed, else the last. */
static uint32_t
history_troubled(const struct record_operations *operations)
{
	uint32_t i;

	for (i = 0; i + 1 < operations->n; i++)
		if (operations->list[i].activity == RECORD_ACTIVITY_FAILED)
			break;
	return i;
}

/* ---- for people ---- */

/* A pool by the name that everything else of this tool gives it. */
static void
history_name_channel(char out[HISTORY_TEXT_MAX], const struct frame_view *channel)
{
	const size_t prefix = sizeof(HISTORY_POOL_PREFIX) - 1;
	struct frame_view view = *channel;
	char *dot;

	if (view.len <= prefix || memcmp(view.data, HISTORY_POOL_PREFIX, prefix) != 0) {
		history_vis(out, &view);
		return;
	}
	view.data += prefix;
	view.len -= prefix;
	history_vis(out, &view);
	if ((dot = strchr(out, '.')) != NULL)
		*dot = '/';
}

static void
history_begin_dispatch(struct history *history, const struct history_item *item)
{
	const struct record_operations *operations = &item->operations;
	struct history_dispatch *dispatch = &history->dispatch;

	dispatch->is_begun = 1;
	dispatch->is_closed = 0;
	dispatch->number = item->dispatch;
	dispatch->has_ordinal = operations->has_ordinal;
	dispatch->ordinal = operations->ordinal;
	dispatch->opened_ns = operations->n > 0 ? operations->list[0].at_ns :
	    operations->at_ns;
	dispatch->activity = RECORD_ACTIVITY_NONE;
	dispatch->code = 0;
	history_name_channel(dispatch->channel, &operations->channel);
	history_vis(dispatch->type, &operations->activity_type);
	history_vis(dispatch->id, &operations->conversation_id);
}

/* The head line, and the operations under it. */
static int
history_end_dispatch(struct history *history)
{
	struct history_dispatch *dispatch = &history->dispatch;
	char opened[HISTORY_TIME_SIZE], span[32], ordinal[32] = "-";

	if (!dispatch->is_begun)
		return 0;
	dispatch->is_begun = 0;
	if (dispatch->has_ordinal)
		snprintf(ordinal, sizeof(ordinal), "%" PRIu64, dispatch->ordinal);
	if (history_put(history, &history->out, "%s  %s  %s  %s%s  %s  %s  %s\n", ordinal,
	    dispatch->channel, dispatch->type[0] != '\0' ? dispatch->type : "-",
	    history_activity(dispatch->activity), dispatch->is_closed ? "" : " (open)",
	    history_local(opened, dispatch->opened_ns),
	    history_span(span, sizeof(span), dispatch->last_ns - dispatch->opened_ns),
	    dispatch->id) != 0)
		return -1;
	if (buf_len(&dispatch->lines) > 0 && buf_append(&history->out,
	    buf_head(&dispatch->lines), buf_len(&dispatch->lines)) != 0) {
		cli_complain(history->look.cli, "out of memory");
		return -1;
	}
	buf_consume(&dispatch->lines, buf_len(&dispatch->lines));
	return 0;
}

/* Its size and how it begins. */
static int
history_put_result(struct history *history, const struct frame_view *result)
{
	struct frame_view shown = *result;
	struct buf output = { 0 };
	struct err err;
	char text[HISTORY_TEXT_MAX];
	int r;

	if (typed_response_output(result->data, result->len, &output, &err) == 0) {
		shown.data = buf_head(&output);
		shown.len = buf_len(&output);
	}
	log_vis(text, sizeof(text), shown.data,
	    shown.len > HISTORY_RESULT_SHOWN ? HISTORY_RESULT_SHOWN : shown.len);
	r = history_put(history, &history->dispatch.lines, "  \"%s%s\" (%zu bytes)", text,
	    shown.len > HISTORY_RESULT_SHOWN ? "..." : "", shown.len);
	buf_free(&output);
	return r;
}

static int
history_put_details(struct history *history, const struct record_operations *operations,
    uint32_t i)
{
	const uint8_t kind = operations->list[i].kind;
	struct buf *lines = &history->dispatch.lines;
	char text[HISTORY_TEXT_MAX];

	if (operations->worker_id.len > 0 && kind != RECORD_OPENED &&
	    kind != RECORD_CONVERSATION_CLOSED) {
		history_vis(text, &operations->worker_id);
		if (history_put(history, lines, "  %s", text) != 0)
			return -1;
	}
	if (operations->result.len > 0 && kind == RECORD_MESSAGE_RECEIVED &&
	    history_put_result(history, &operations->result) != 0)
		return -1;
	if (i != history_troubled(operations))
		return 0;
	if (operations->message.len > 0) {
		history_vis(text, &operations->message);
		if (history_put(history, lines, "  %s", text) != 0)
			return -1;
	}
	if (operations->code != 0)
		return history_put(history, lines, "  (reason 0x%04" PRIx32 ")",
		    operations->code);
	return 0;
}

static int
history_put_operation(struct history *history, const struct record_operations *operations,
    uint32_t i)
{
	const struct record_operation *operation = &operations->list[i];
	struct history_dispatch *dispatch = &history->dispatch;
	struct buf *lines = &dispatch->lines;
	char when[HISTORY_TIME_SIZE], span[32];

	if (history_put(history, lines, "    %s  %10s  %-19s  %-14s",
	    strchr(history_local(when, operation->at_ns), 'T') + 1,
	    history_span(span, sizeof(span), operation->at_ns - dispatch->opened_ns),
	    history_kind(operation->kind), operation->is_retry_eligible ? "failed (retry)" :
	    operation->activity == RECORD_ACTIVITY_NONE ? "-" :
	    history_activity(operation->activity)) != 0 ||
	    history_put_details(history, operations, i) != 0)
		return -1;
	while (lines->data[lines->end - 1] == ' ')
		lines->end--;
	return history_put(history, lines, "\n");
}

int
history_text_show(struct history *history, const struct history_item *item)
{
	const struct record_operations *operations = &item->operations;
	struct history_dispatch *dispatch = &history->dispatch;
	const struct record_operation *operation;

	if (!dispatch->is_begun || dispatch->number != item->dispatch) {
		if (history_end_dispatch(history) != 0)
			return -1;
		history_begin_dispatch(history, item);
	}
	dispatch->last_ns = operations->at_ns;
	for (uint32_t i = 0; i < operations->n && i < RECORD_OPERATIONS_MAX; i++) {
		operation = &operations->list[i];
		if (operation->activity != RECORD_ACTIVITY_NONE)
			dispatch->activity = operation->activity;
		if (operation->kind == RECORD_CONVERSATION_CLOSED)
			dispatch->is_closed = 1;
		if (history_put_operation(history, operations, i) != 0)
			return -1;
	}
	return 0;
}

int
history_text_flush(struct history *history)
{
	int r = 0;

	if (buf_len(&history->out) > 0)
		r = cli_write_output(history->look.cli, buf_head(&history->out),
		    buf_len(&history->out));
	buf_consume(&history->out, buf_len(&history->out));
	return r;
}

int
history_text_end(struct history *history)
{
	return history_end_dispatch(history) == 0 ? history_text_flush(history) : -1;
}

void
history_text_free(struct history *history)
{
	json_decref(history->dispatch.type_json);
	buf_free(&history->dispatch.lines);
	buf_free(&history->out);
}

/* ---- for scripts ---- */

/* null when it is empty; a key has one type, so what is no text is shown as people would see it. */
static json_t *
history_json_text(const struct frame_view *view)
{
	char shown[HISTORY_TEXT_MAX];

	if (view->len == 0)
		return json_null();
	if (frame_is_utf8(view->data, view->len))
		return json_stringn((const char *)view->data, view->len);
	return json_string(log_vis(shown, sizeof(shown), view->data, view->len));
}

static const char *
history_utc(char out[HISTORY_TIME_SIZE], int64_t ns)
{
	time_t seconds = (time_t)(ns / CLOCK_SECOND);
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(out, HISTORY_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + len, HISTORY_TIME_SIZE - len, ".%09dZ", (int)(ns % CLOCK_SECOND));
	return out;
}

/* The name of an operation as one word. */
static json_t *
history_json_kind(uint8_t kind)
{
	char word[64];

	snprintf(word, sizeof(word), "%s", history_kind(kind));
	for (char *blank = word; (blank = strchr(blank, ' ')) != NULL; blank++)
		*blank = '_';
	return json_string(word);
}

static int
history_json_operation(struct history *history, const struct history_item *item, uint32_t i)
{
	const struct record_operations *operations = &item->operations;
	const struct record_operation *operation = &operations->list[i];
	const int is_troubled = i == history_troubled(operations);
	char when[HISTORY_TIME_SIZE];
	json_t *object;

	object = json_pack("{ss sI so so so so so so ss? so so so}",
	    "time", history_utc(when, operation->at_ns),
	    "dispatch", (json_int_t)item->dispatch,
	    "ordinal", operations->has_ordinal ? json_integer((json_int_t)operations->ordinal) :
	    json_null(),
	    "conversation_id", history_json_text(&operations->conversation_id),
	    "channel", history_json_text(&operations->channel),
	    "activity_type", json_incref(history->dispatch.type_json),
	    "operation", history_json_kind(operation->kind),
	    "worker_id", operation->kind == RECORD_OPENED ? json_null() :
	    history_json_text(&operations->worker_id),
	    "activity_state", operation->activity == RECORD_ACTIVITY_NONE ? NULL :
	    history_activity(operation->activity),
	    "retry_eligible", operation->activity == RECORD_ACTIVITY_FAILED ?
	    json_boolean(operation->is_retry_eligible) : json_null(),
	    "reason", is_troubled && operations->code != 0 ? json_integer(operations->code) : json_null(),
	    "message", is_troubled ? history_json_text(&operations->message) : json_null());
	if (object == NULL) {
		cli_complain(history->look.cli, "out of memory");
		return -1;
	}
	if (operation->kind == RECORD_MESSAGE_RECEIVED)
		cli_json_bytes(object, "result", operations->result.data,
		    operations->result.len);
	return cli_print_json(history->look.cli, object);
}

int
history_json_show(struct history *history, const struct history_item *item)
{
	const struct record_operations *operations = &item->operations;
	struct history_dispatch *dispatch = &history->dispatch;

	if (dispatch->type_json == NULL || dispatch->number != item->dispatch) {
		json_decref(dispatch->type_json);
		dispatch->type_json = history_json_text(&operations->activity_type);
		dispatch->number = item->dispatch;
	}
	for (uint32_t i = 0; i < operations->n && i < RECORD_OPERATIONS_MAX; i++)
		if (history_json_operation(history, item, i) != 0)
			return -1;
	return 0;
}
