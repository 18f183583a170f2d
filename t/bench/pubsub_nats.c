/*
 * NATS, publish and subscribe; and JetStream, which stores what is published.
 *
 * Plain publications are not acknowledged: the PONG to a last PING says that the server has read
 * them. JetStream's are: each names the publisher's inbox, and the answer there has the stream's
 * sequence. Its file is written, but not flushed, before that (its default).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub.h"

#define MESSAGE_TAIL	2	/* CR LF */
#define OVERLAP		"\"err_code\":10065"	/* subjects overlap with an existing stream */

static int
nats_open(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];

	if (bench_driver_nats.open(client) != 0)
		return -1;
	if (client->role == BENCH_PUBLISHER)
		return 0;
	client->token_len = (size_t)snprintf((char *)client->token, sizeof client->token,
	    "MSG %s 1 %zu\r\n", client->queue, client->size);
	bench_conn_printf(conn, "SUB %s 1\r\nPING\r\n", client->queue);
	return bench_conn_expect(conn, "PONG");
}

static int
append(struct buf *out, const char *head, struct bench_view message)
{
	if (buf_append(out, head, strlen(head)) != 0 ||
	    buf_append(out, message.data, message.len) != 0 || buf_append(out, "\r\n", 2) != 0)
		return bench_complain("out of memory");
	return 0;
}

static int
nats_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	char head[96];

	snprintf(head, sizeof head, "PUB %s %zu\r\n", client->queue, message.len);
	return append(out, head, message);
}

/* What a server says besides messages: 1 if LINE was such, and is gone. */
static int
skip_chatter(struct bench_conn *conn, const char *line, size_t len, size_t used)
{
	if (len == 4 && memcmp(line, "PING", 4) == 0)
		bench_conn_append(conn, "PONG\r\n", 6);
	else if (len < 4 || memcmp(line, "INFO", 4) != 0)
		return 0;
	buf_consume(&conn->in, used);
	return 1;
}

static int
nats_finish(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];
	size_t len, used;
	const char *line;

	bench_conn_printf(conn, "PING\r\n");
	for (;;) {
		if (bench_conn_flush(conn) != 0)
			return -1;
		while ((line = bench_conn_line(conn, &len, &used)) == NULL)
			if (bench_conn_fill(conn) != 0)
				return -1;
		if (!skip_chatter(conn, line, len, used))
			return bench_conn_expect(conn, "PONG");
	}
}

static int
nats_take(struct bench_client *client, struct bench_view *messages, unsigned max, size_t *used)
{
	struct bench_conn *conn = &client->conn[0];
	const char *line;
	size_t len, line_used;
	int n;

	do {
		n = bench_take_framed(client, messages, max, MESSAGE_TAIL, used);
		line = bench_conn_line(conn, &len, &line_used);
	} while (n == 0 && line != NULL && skip_chatter(conn, line, len, line_used));
	if (n == 0 && line != NULL && (line_used != client->token_len ||
	    memcmp(line, client->token, line_used) != 0))
		return bench_complain("nats: %.*s", (int)len, line);
	return n;
}

const struct bench_pubsub bench_pubsub_nats = {
	.open = nats_open,
	.encode = nats_encode,
	.finish = nats_finish,
	.take = nats_take,
};

static int
jetstream_start(struct bench_server *server)
{
	const char *const argv[] = { "nats-server", "-a", "127.0.0.1", "-p", server->port,
	    "-js", "-sd", server->disk, NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static void
inbox_name(const struct bench_client *client, char out[64])
{
	snprintf(out, 64, "_INBOX.%s%06uPUWMEeMqLyjuy9.1", client->queue, client->index);
}

/* The next message to the inbox: 1, or 0 when it is not complete. */
static int
next_answer(struct bench_conn *conn, struct bench_view *content, size_t *used)
{
	size_t len, size;
	const char *line, *space;

	while ((line = bench_conn_line(conn, &len, used)) != NULL) {
		if (skip_chatter(conn, line, len, *used))
			continue;
		space = memrchr(line, ' ', len);
		if (memcmp(line, "MSG ", len < 4 ? len : 4) != 0 || space == NULL)
			return bench_complain("jetstream: %.*s", (int)len, line);
		size = strtoul(space + 1, NULL, 10);
		if (buf_len(&conn->in) < *used + size + MESSAGE_TAIL)
			return 0;
		*content = (struct bench_view){ (const uint8_t *)line + *used, size };
		*used += size + MESSAGE_TAIL;
		return 1;
	}
	return 0;
}

static int
has_text(struct bench_view content, const char *text)
{
	return memmem(content.data, content.len, text, strlen(text)) != NULL;
}

/* Ask the server; *ANSWER, which may be an error, lasts until the next read. */
static int
ask_once(struct bench_client *client, const char *request, const char *body, struct bench_view *answer)
{
	struct bench_conn *conn = &client->conn[0];
	char inbox[64];
	size_t used;
	int r;

	inbox_name(client, inbox);
	bench_conn_printf(conn, "PUB $JS.API.STREAM.%s.%s %s %zu\r\n%s\r\n", request,
	    client->queue, inbox, strlen(body), body);
	if (bench_conn_flush(conn) != 0)
		return -1;
	while ((r = next_answer(conn, answer, &used)) == 0)
		if (bench_conn_fill(conn) != 0)
			return -1;
	buf_consume(&conn->in, used);
	return r < 0 ? -1 : 0;
}

/* The same, where an error is one. Publishers that make their stream at the same moment get one that
 * is none: they ask again. */
static int
ask(struct bench_client *client, const char *request, const char *body, struct bench_view *answer)
{
	int64_t end = bench_now_ns() + BENCH_WAIT_NS;

	do {
		if (ask_once(client, request, body, answer) != 0)
			return -1;
		if (!has_text(*answer, "\"error\""))
			return 0;
		bench_sleep_ns(1000000);
	} while (has_text(*answer, OVERLAP) && bench_now_ns() < end);
	return bench_complain("jetstream: %.*s", (int)answer->len, (const char *)answer->data);
}

/* Each publisher makes the stream: it is the same one. */
static int
jetstream_open(struct bench_client *client)
{
	struct bench_view answer;
	char inbox[64], body[256];

	inbox_name(client, inbox);
	snprintf(body, sizeof body, "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"storage\":\"file\","
	    "\"retention\":\"limits\",\"discard\":\"old\",\"max_consumers\":-1,\"max_msgs\":-1,"
	    "\"max_bytes\":-1,\"max_age\":0,\"num_replicas\":1}", client->queue, client->queue);
	if (bench_driver_nats.open(client) != 0)
		return -1;
	bench_conn_printf(&client->conn[0], "SUB %s 1\r\n", inbox);
	return ask(client, "CREATE", body, &answer);
}

static int
jetstream_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	char head[160], inbox[64];

	inbox_name(client, inbox);
	snprintf(head, sizeof head, "PUB %s %s %zu\r\n", client->queue, inbox, message.len);
	return append(out, head, message);
}

static int
jetstream_acknowledge(struct bench_client *client, uint64_t *n)
{
	struct bench_conn *conn = &client->conn[0];
	struct bench_view content;
	size_t used;
	int r;

	while ((r = next_answer(conn, &content, &used)) == 1) {
		if (!has_text(content, "\"seq\":"))
			return bench_complain("jetstream: %.*s", (int)content.len,
			    (const char *)content.data);
		buf_consume(&conn->in, used);
		++*n;
	}
	return r;
}

static int
jetstream_count_stored(struct bench_client *client, uint64_t *n)
{
	static const char key[] = "\"messages\":";
	struct bench_view answer;
	const char *at;

	if (ask(client, "INFO", "", &answer) != 0)
		return -1;
	if ((at = memmem(answer.data, answer.len, key, sizeof key - 1)) == NULL)
		return bench_complain("jetstream: no number of messages");
	*n = strtoull(at + sizeof key - 1, NULL, 10);
	return ask(client, "DELETE", "", &answer);
}

static const struct bench_pubsub pubsub_jetstream = {
	.open = jetstream_open,
	.encode = jetstream_encode,
	.acknowledge = jetstream_acknowledge,
	.count_stored = jetstream_count_stored,
};

static int
nats_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

const struct bench_driver bench_driver_jetstream = {
	.name = "jetstream", .program = "nats-server", .on_disk = 1,
	.start = jetstream_start, .bye = nats_bye, .pubsub = &pubsub_jetstream,
};
