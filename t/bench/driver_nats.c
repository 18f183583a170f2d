/*
 * NATS request-reply: workers in one queue group; a caller subscribes once to
 * _INBOX.<its own>.* and gives each request a subject below it, as the NATS clients do.
 *
 * NATS delivers at most once: a job that a dead worker held is lost (no figure "failover").
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pubsub.h"

enum { NEXT_REPLY_ID, CONTENT_USED };	/* client->state */

static int
nats_start(struct bench_server *server)
{
	const char *const argv[] = { "nats-server", "-a", "127.0.0.1", "-p", server->port, NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static int
nats_open(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];

	if (bench_conn_open(conn, client->server) != 0 || bench_conn_expect(conn, "INFO ") != 0)
		return -1;
	bench_conn_printf(conn, "CONNECT {\"verbose\":false,\"pedantic\":false,"
	    "\"tls_required\":false,\"name\":\"bench\",\"lang\":\"c\",\"version\":\"1\","
	    "\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n");
	if (client->role == BENCH_WORKER)
		bench_conn_printf(conn, "SUB %s workers 1\r\n", client->queue);
	if (client->role == BENCH_CALLER)
		bench_conn_printf(conn, "SUB _INBOX.%s%06uPUWMEeMqLyjuy9.* 1\r\n", client->queue,
		    client->index);
	bench_conn_printf(conn, "PING\r\n");
	return bench_conn_expect(conn, "PONG");
}

static int
append_message(struct bench_conn *conn, const char *head, int head_len, struct bench_view body)
{
	if (bench_conn_append(conn, head, (size_t)head_len) != 0 ||
	    bench_conn_append(conn, body.data, body.len) != 0)
		return -1;
	return bench_conn_append(conn, "\r\n", 2);
}

static int
nats_send(struct bench_client *client, struct bench_view job)
{
	char head[160];
	int n = snprintf(head, sizeof head, "PUB %s _INBOX.%s%06uPUWMEeMqLyjuy9.%llx %zu\r\n",
	    client->queue, client->queue, client->index,
	    (unsigned long long)client->state[NEXT_REPLY_ID]++, job.len);

	return append_message(&client->conn[0], head, n, job);
}

static int
nats_reply(struct bench_client *client, struct bench_view result)
{
	char head[160];
	int n = snprintf(head, sizeof head, "PUB %.*s %zu\r\n", (int)client->token_len,
	    (const char *)client->token, result.len);

	return append_message(&client->conn[0], head, n, result);
}

/* MSG <subject> <sid> [reply] <len>: keep the reply subject, return the length. */
static int
parse_message(struct bench_client *client, const char *line, size_t len, size_t *content_len)
{
	const char *word[6], *at = line, *end = line + len, *space;
	size_t word_len[6], n = 0;

	while (at < end && n < 6) {
		space = memchr(at, ' ', (size_t)(end - at));
		word[n] = at;
		word_len[n] = (size_t)((space != NULL ? space : end) - at);
		at += word_len[n++] + 1;
	}
	if (n < 4 || n > 5 || (n == 5 && word_len[3] > sizeof client->token))
		return bench_complain("nats: %.*s", (int)len, line);
	if (n == 5) {
		client->token_len = word_len[3];
		memcpy(client->token, word[3], word_len[3]);
	}
	*content_len = strtoul(word[n - 1], NULL, 10);
	return 0;
}

static int
nats_receive(struct bench_client *client, struct bench_view *content)
{
	struct bench_conn *conn = &client->conn[0];
	size_t len, used, content_len = 0;
	const char *line;

	buf_consume(&conn->in, (size_t)client->state[CONTENT_USED]);
	client->state[CONTENT_USED] = 0;
	while ((line = bench_conn_line(conn, &len, &used)) != NULL) {
		if (len == 4 && memcmp(line, "PING", 4) == 0) {
			bench_conn_append(conn, "PONG\r\n", 6);
		} else if (len > 4 && memcmp(line, "MSG ", 4) == 0) {
			if (parse_message(client, line, len, &content_len) != 0)
				return -1;
			if (buf_len(&conn->in) < used + content_len + 2)
				return 0;
			content->data = buf_head(&conn->in) + used;
			content->len = content_len;
			client->state[CONTENT_USED] = used + content_len + 2;
			return 1;
		} else if (len < 4 || memcmp(line, "INFO", 4) != 0) {
			return bench_complain("nats: %.*s", (int)len, line);
		}
		buf_consume(&conn->in, used);
	}
	return 0;
}

static int
nats_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

const struct bench_driver bench_driver_nats = {
	.name = "nats",
	.program = "nats-server",
	.start = nats_start,
	.open = nats_open,
	.send = nats_send,
	.receive = nats_receive,
	.reply = nats_reply,
	.bye = nats_bye,
	.pubsub = &bench_pubsub_nats,
	.durable = &bench_driver_jetstream,
};
