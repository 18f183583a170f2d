/*
 * Redis lists: a caller pushes a job on the queue's list, a worker pops it with BRPOP
 * and pushes the answer on the caller's list.
 *
 * BRPOP blocks its connection. With one job at a time push and pop go in one write on one
 * connection; with more, pops go ahead in a pipeline on CONN[0] and pushes on CONN[1].
 * A popped job is gone with its worker (no figure "failover").
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pubsub.h"

enum { CONTENT_USED };			/* client->state */

static int
redis_start(struct bench_server *server)
{
	const char *const argv[] = { "redis-server", "--port", server->port, "--bind",
	    "127.0.0.1", "--save", "", "--appendonly", "no", "--maxclients", "32000",
	    "--tcp-backlog", "4096", "--dir", server->dir, NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

/* Jobs pop from the queue's list, answers from the caller's own. */
static int
list_name(const struct bench_client *client, int is_answer, unsigned caller, char out[64])
{
	return is_answer ? snprintf(out, 64, "%s-answers-%u", client->queue, caller) :
	    snprintf(out, 64, "%s", client->queue);
}

static int
append_pop(struct bench_client *client)
{
	char list[64];
	int n = list_name(client, client->role == BENCH_CALLER, client->index, list);

	return bench_conn_printf(&client->conn[0],
	    "*3\r\n$5\r\nBRPOP\r\n$%d\r\n%s\r\n$1\r\n0\r\n", n, list);
}

static struct bench_conn *
push_conn(struct bench_client *client)
{
	return &client->conn[client->capacity > 1];
}

static int
append_push(struct bench_client *client, struct bench_view content)
{
	struct bench_conn *conn = push_conn(client);
	int is_answer = client->role == BENCH_WORKER;
	char list[64];
	int n = list_name(client, is_answer, content.data[15], list);

	if (bench_conn_printf(conn, "*3\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n$%zu\r\n", n, list,
	    content.len) != 0 || bench_conn_append(conn, content.data, content.len) != 0)
		return -1;
	return bench_conn_append(conn, "\r\n", 2);
}

static int
redis_open(struct bench_client *client)
{
	unsigned i;

	if (bench_conn_open(&client->conn[0], client->server) != 0)
		return -1;
	if (client->capacity > 1 && bench_conn_open(&client->conn[1], client->server) != 0)
		return -1;
	bench_conn_printf(&client->conn[0], "*1\r\n$4\r\nPING\r\n");
	if (bench_conn_expect(&client->conn[0], "+PONG") != 0)
		return -1;
	for (i = 0; client->role == BENCH_WORKER && i < client->capacity; i++)
		append_pop(client);
	return 0;
}

static int
redis_send(struct bench_client *client, struct bench_view job)
{
	return append_push(client, job) != 0 ? -1 : append_pop(client);
}

static int
redis_reply(struct bench_client *client, struct bench_view result)
{
	return append_push(client, result) != 0 ? -1 : append_pop(client);
}

/* Drop the lengths that LPUSH is answered with; anything but them is an error. */
static int
drop_push_answers(struct bench_conn *conn)
{
	size_t len, used;
	const char *line;

	while ((line = bench_conn_line(conn, &len, &used)) != NULL && *line != '*') {
		if (*line != ':')
			return bench_complain("redis: %.*s", (int)len, line);
		buf_consume(&conn->in, used);
	}
	return 0;
}

/* The bulk string at *AT, which moves behind it: 1, 0 if incomplete, -1 if it is none. */
static int
parse_bulk(const char **at, const char *end, struct bench_view *out)
{
	const char *newline = memchr(*at, '\n', (size_t)(end - *at));

	if (newline == NULL)
		return 0;
	if (**at != '$')
		return bench_complain("redis: %.*s", (int)(newline - *at), *at);
	out->len = strtoul(*at + 1, NULL, 10);
	out->data = (const uint8_t *)newline + 1;
	if ((size_t)(end - newline) < out->len + 3)
		return 0;
	*at = newline + out->len + 3;
	return 1;
}

static int
redis_receive(struct bench_client *client, struct bench_view *content)
{
	struct bench_conn *conn = &client->conn[0];
	struct bench_view list;
	const char *start, *at, *end;
	size_t len, used;
	int r;

	buf_consume(&conn->in, (size_t)client->state[CONTENT_USED]);
	client->state[CONTENT_USED] = 0;
	if (drop_push_answers(conn) != 0)
		return -1;
	start = at = bench_conn_line(conn, &len, &used);
	if (start == NULL) {
		if (client->capacity > 1 && (bench_conn_poll(&client->conn[1]) != 0 ||
		    drop_push_answers(&client->conn[1]) != 0))
			return -1;
		return 0;
	}
	end = start + buf_len(&conn->in);
	at += used;
	if (at == end || (r = parse_bulk(&at, end, &list)) == 0)
		return 0;
	if (r < 0 || at == end)
		return r < 0 ? -1 : 0;
	r = parse_bulk(&at, end, content);
	if (r == 1)
		client->state[CONTENT_USED] = (size_t)(at - start);
	return r;
}

static int
redis_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

const struct bench_driver bench_driver_redis = {
	.name = "redis",
	.program = "redis-server",
	.start = redis_start,
	.open = redis_open,
	.send = redis_send,
	.receive = redis_receive,
	.reply = redis_reply,
	.bye = redis_bye,
	.pubsub = &bench_pubsub_redis,
	.durable = &bench_driver_redis_aof,
};
