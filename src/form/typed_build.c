/*
 * typed_build: writing of typed payloads; see typed.h.
 *
 * The text is written directly, not through a tree: data can be many megabytes,
 * and a tree of its bytes would need twenty times that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "form/frame.h"
#include "form/typed.h"

#define GENERAL_TYPE	"application/octet-stream"

/* Appends until the first failure, whose code it keeps. */
struct writer {
	struct buf *out;
	size_t	 before;	/* length of OUT, to go back to */
	int	 rc;
};

static struct writer
writer_start(struct buf *out)
{
	return (struct writer){ out, buf_len(out), 0 };
}

static int
writer_finish(struct writer *w)
{
	if (w->rc != 0)
		w->out->end = w->out->start + w->before;
	return w->rc;
}

static void
write_bytes(struct writer *w, const void *bytes, size_t len)
{
	if (w->rc == 0)
		w->rc = buf_append(w->out, bytes, len);
}

static void
write_text(struct writer *w, const char *text)
{
	write_bytes(w, text, strlen(text));
}

static void
write_number(struct writer *w, int64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, number);
	write_text(w, text);
}

/* TEXT is UTF-8; quotes, backslashes and control characters are escaped. */
static void
write_escaped(struct writer *w, const uint8_t *text, size_t len)
{
	size_t plain = 0;
	char escape[8];

	if (len == 0)
		return;
	for (size_t i = 0; i < len; i++) {
		if (text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
			continue;
		write_bytes(w, text + plain, i - plain);
		snprintf(escape, sizeof(escape), text[i] < 0x20 ? "\\u%04x" : "\\%c", text[i]);
		write_text(w, escape);
		plain = i + 1;
	}
	write_bytes(w, text + plain, len - plain);
}

static void
write_string(struct writer *w, const char *text)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t len = strlen(text);

	if (!frame_is_utf8(bytes, len)) {
		if (w->rc == 0)
			w->rc = ERR_INVALID;
		return;
	}
	write_text(w, "\"");
	write_escaped(w, bytes, len);
	write_text(w, "\"");
}

/* `,"KEY":` */
static void
write_key(struct writer *w, const char *key)
{
	write_text(w, ",\"");
	write_text(w, key);
	write_text(w, "\":");
}

static void
write_array(struct writer *w, const uint8_t *data, size_t len)
{
	uint8_t *to = NULL;
	size_t at = 0;

	/* "255," at most for each */
	if (len > SIZE_MAX / 8)
		w->rc = ERR_NOMEM;
	if (w->rc == 0 && (to = buf_reserve(w->out, len * 4 + 2)) == NULL)
		w->rc = ERR_NOMEM;
	if (w->rc != 0)
		return;
	to[at++] = '[';
	for (size_t i = 0; i < len; i++) {
		if (i > 0)
			to[at++] = ',';
		if (data[i] >= 100)
			to[at++] = (uint8_t)('0' + data[i] / 100);
		if (data[i] >= 10)
			to[at++] = (uint8_t)('0' + data[i] / 10 % 10);
		to[at++] = (uint8_t)('0' + data[i] % 10);
	}
	to[at++] = ']';
	buf_commit(w->out, at);
}

/* {"content_type":…,"data":…} */
static void
write_data(struct writer *w, const char *content_type, const void *data, size_t len)
{
	write_text(w, "{\"content_type\":");
	write_string(w, content_type != NULL ? content_type : GENERAL_TYPE);
	write_key(w, "data");
	if (frame_is_utf8(data, len)) {
		write_text(w, "\"");
		write_escaped(w, data, len);
		write_text(w, "\"");
	} else
		write_array(w, data, len);
	write_text(w, "}");
}

static void
write_timeout(struct writer *w, const char *key, int64_t ns)
{
	if (ns <= 0)
		return;
	write_key(w, key);
	/* rounded up: never 0, which would be no limit */
	write_number(w, ns / 1000000 + (ns % 1000000 != 0));
}

int
typed_request_build(const struct typed_call *call, struct buf *out)
{
	struct writer w = writer_start(out);
	char uuid[UUID_TEXT_SIZE];

	write_text(&w, "{\"content_type\":\"" TYPED_REQUEST_TYPE "\"");
	write_key(&w, "conversation_id");
	if (call->conversation_id == NULL)
		uuid_new(uuid);
	write_string(&w, call->conversation_id != NULL ? call->conversation_id : uuid);
	if (call->workflow_id != NULL) {
		write_key(&w, "workflow_id");
		write_string(&w, call->workflow_id);
	}
	if (call->has_ordinal) {
		write_key(&w, "ordinal");
		write_number(&w, call->ordinal);
	}
	write_text(&w, ",\"request\":{\"activity_type\":");
	write_string(&w, call->activity_type);
	write_key(&w, "task_queue");
	write_string(&w, call->task_queue);
	if (call->node != NULL) {
		write_key(&w, "node");
		write_string(&w, call->node);
		write_key(&w, "node_required");
		write_text(&w, call->node_required ? "true" : "false");
	}
	write_timeout(&w, "schedule_to_close_timeout_ms", call->schedule_to_close_ns);
	write_timeout(&w, "start_to_close_timeout_ms", call->start_to_close_ns);
	write_key(&w, "input");
	write_data(&w, call->content_type, call->data, call->len);
	write_text(&w, "}}");
	return writer_finish(&w);
}

static void
write_response_head(struct writer *w, const char *worker_id)
{
	write_text(w, "{\"content_type\":\"" TYPED_RESPONSE_TYPE "\"");
	if (worker_id == NULL)
		return;
	write_key(w, "worker_id");
	write_string(w, worker_id);
}

int
typed_response_build_completed(const char *worker_id, const char *content_type,
    const void *data, size_t len, struct buf *out)
{
	struct writer w = writer_start(out);

	write_response_head(&w, worker_id);
	write_text(&w, ",\"result\":{\"status\":\"completed\",\"output\":");
	write_data(&w, content_type, data, len);
	write_text(&w, "}}");
	return writer_finish(&w);
}

int
typed_response_build_failed(const char *worker_id, const char *error, struct buf *out)
{
	struct writer w = writer_start(out);
	size_t len = strlen(error);
	uint8_t c;

	write_response_head(&w, worker_id);
	write_text(&w, ",\"result\":{\"status\":\"failed\",\"error\":\"");
	if (frame_is_utf8((const uint8_t *)error, len))
		write_escaped(&w, (const uint8_t *)error, len);
	else {
		for (size_t i = 0; i < len; i++) {
			c = (uint8_t)error[i] < 0x80 ? (uint8_t)error[i] : '?';
			write_escaped(&w, &c, 1);
		}
	}
	write_text(&w, "\"}}");
	return writer_finish(&w);
}
