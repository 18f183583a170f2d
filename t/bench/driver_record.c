/*
 * recorded, unrecorded: liminald with typed requests that name their workflow, each with an
 * ordinal of its own, with and without `dispatch record`; the store is on a disk.
 *
 * The jobs are the same for both, and cheap for the clients: a job travels in hexadecimal as the
 * text of the data, and a worker puts the text that it found into its response as it is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "form/typed.h"

#define DATA_KEY	"\"data\":\""

/* The text of the data of a request or a response. */
static int
find_data(const struct bench_view *payload, struct bench_view *text)
{
	const uint8_t *end = payload->data + payload->len, *quote;
	const uint8_t *at = memmem(payload->data, payload->len, DATA_KEY, sizeof DATA_KEY - 1);

	if (at != NULL && (quote = memchr(at + sizeof DATA_KEY - 1, '"',
	    (size_t)(end - at) - (sizeof DATA_KEY - 1))) != NULL) {
		text->data = at + sizeof DATA_KEY - 1;
		text->len = (size_t)(quote - text->data);
		return 0;
	}
	return bench_complain("liminald: no data in %.*s", (int)payload->len,
	    (const char *)payload->data);
}

static int
append(struct buf *to, const char *text, size_t len)
{
	return buf_append(to, text, len) == 0 ? 0 : bench_complain("out of memory");
}

static int
append_hex(struct buf *to, struct bench_view bytes)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t *room = buf_reserve(to, bytes.len * 2);

	if (room == NULL)
		return bench_complain("out of memory");
	for (size_t i = 0; i < bytes.len; i++) {
		room[2 * i] = (uint8_t)digits[bytes.data[i] >> 4];
		room[2 * i + 1] = (uint8_t)digits[bytes.data[i] & 15];
	}
	buf_commit(to, bytes.len * 2);
	return 0;
}

static unsigned
hex_digit(uint8_t c)
{
	return c <= '9' ? c - (unsigned)'0' : c - (unsigned)'a' + 10;
}

/* Of our own text, so a wrong digit is a wrong answer, which the caller finds. */
static int
read_hex(struct bench_view text, struct bench_view *bytes)
{
	static struct buf decoded;
	uint8_t *room;

	buf_consume(&decoded, buf_len(&decoded));
	if ((room = buf_reserve(&decoded, text.len / 2)) == NULL)
		return bench_complain("out of memory");
	for (size_t i = 0; i < text.len / 2; i++)
		room[i] = (uint8_t)(hex_digit(text.data[2 * i]) << 4 |
		    hex_digit(text.data[2 * i + 1]));
	buf_commit(&decoded, text.len / 2);
	*bytes = (struct bench_view){ buf_head(&decoded), buf_len(&decoded) };
	return 0;
}

static int
recorded_start(struct bench_server *server)
{
	server->record = "true";
	return bench_liminald_start(server);
}

static int
unrecorded_start(struct bench_server *server)
{
	server->record = "false";
	return bench_liminald_start(server);
}

static int
record_open(struct bench_client *client)
{
	return bench_driver_liminald.open(client);
}

static int
record_send(struct bench_client *client, struct bench_view job)
{
	static struct buf request;
	static const char tail[] = "\"}}}";
	char head[512];
	uint64_t id;
	int len;

	memcpy(&id, job.data, sizeof id);
	len = snprintf(head, sizeof head, "{\"content_type\":\"" TYPED_REQUEST_TYPE "\","
	    "\"conversation_id\":\"%s-%" PRIu64 "\",\"workflow_id\":\"%s-%u\",\"ordinal\":%" PRIu64
	    ",\"request\":{\"activity_type\":\"bench\",\"task_queue\":\"%s\","
	    "\"input\":{\"content_type\":\"text/plain\"," DATA_KEY, client->queue, id,
	    client->queue, client->index, id, client->queue);
	buf_consume(&request, buf_len(&request));
	if (append(&request, head, (size_t)len) != 0 || append_hex(&request, job) != 0 ||
	    append(&request, tail, sizeof tail - 1) != 0)
		return -1;
	return bench_liminald_send(client, id,
	    (struct bench_view){ buf_head(&request), buf_len(&request) });
}

static int
record_receive(struct bench_client *client, struct bench_view *content)
{
	struct bench_view payload, text;
	int r = bench_driver_liminald.receive(client, &payload);

	if (r != 1)
		return r;
	if (find_data(&payload, &text) != 0)
		return -1;
	if (client->role == BENCH_CALLER)
		return read_hex(text, content) == 0 ? 1 : -1;
	*content = text;
	return 1;
}

static int
record_reply(struct bench_client *client, struct bench_view result)
{
	static struct buf response;
	static const char tail[] = "\"}}}";
	char head[256];
	int len = snprintf(head, sizeof head, "{\"content_type\":\"" TYPED_RESPONSE_TYPE "\","
	    "\"worker_id\":\"worker-%u\",\"result\":{\"status\":\"completed\","
	    "\"output\":{\"content_type\":\"text/plain\"," DATA_KEY, client->index);

	buf_consume(&response, buf_len(&response));
	if (append(&response, head, (size_t)len) != 0 ||
	    append(&response, (const char *)result.data, result.len) != 0 ||
	    append(&response, tail, sizeof tail - 1) != 0)
		return -1;
	return bench_driver_liminald.reply(client,
	    (struct bench_view){ buf_head(&response), buf_len(&response) });
}

static int
record_bye(struct bench_client *client)
{
	return bench_driver_liminald.bye(client);
}

const struct bench_driver bench_driver_recorded = {
	.name = "recorded", .program = "liminald", .redelivers = 1, .on_disk = 1,
	.start = recorded_start, .open = record_open, .send = record_send,
	.receive = record_receive, .reply = record_reply, .bye = record_bye,
};
const struct bench_driver bench_driver_unrecorded = {
	.name = "unrecorded", .program = "liminald", .redelivers = 1, .on_disk = 1,
	.start = unrecorded_start, .open = record_open, .send = record_send,
	.receive = record_receive, .reply = record_reply, .bye = record_bye,
};
