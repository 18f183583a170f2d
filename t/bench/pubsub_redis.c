/*
 * Redis, PUBLISH and SUBSCRIBE, pipelined; and a list in an append-only file that is flushed
 * before each answer (RPUSH, appendfsync always).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub.h"

#define MESSAGE_TAIL	2	/* CR LF */

static int
redis_open(struct bench_client *client)
{
	static const char *const expected[] = { "*3", "$9", "subscribe", "$", "q", ":1" };
	struct bench_conn *conn = &client->conn[0];
	size_t name_len = strlen(client->queue), i;

	if (bench_driver_redis.open(client) != 0)
		return -1;
	if (client->role == BENCH_PUBLISHER)
		return 0;
	client->token_len = (size_t)snprintf((char *)client->token, sizeof client->token,
	    "*3\r\n$7\r\nmessage\r\n$%zu\r\n%s\r\n$%zu\r\n", name_len, client->queue,
	    client->size);
	bench_conn_printf(conn, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", name_len,
	    client->queue);
	for (i = 0; i < sizeof expected / sizeof *expected; i++)
		if (bench_conn_expect(conn, expected[i]) != 0)
			return -1;
	return 0;
}

/* COMMAND queue message */
static int
encode(const struct bench_client *client, const char *command, struct bench_view message,
    struct buf *out)
{
	char head[128];
	int n = snprintf(head, sizeof head, "*3\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n$%zu\r\n",
	    strlen(command), command, strlen(client->queue), client->queue, message.len);

	if (buf_append(out, head, (size_t)n) != 0 ||
	    buf_append(out, message.data, message.len) != 0 || buf_append(out, "\r\n", 2) != 0)
		return bench_complain("out of memory");
	return 0;
}

static int
redis_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	return encode(client, "PUBLISH", message, out);
}

/* Both are answered with a number: of subscribers, of the list's items. */
static int
redis_acknowledge(struct bench_client *client, uint64_t *n)
{
	return bench_take_lines(&client->conn[0], ":", n);
}

static int
redis_take(struct bench_client *client, struct bench_view *messages, unsigned max, size_t *used)
{
	struct bench_conn *conn = &client->conn[0];
	int n = bench_take_framed(client, messages, max, MESSAGE_TAIL, used);

	if (n == 0 && buf_len(&conn->in) >= client->token_len &&
	    memcmp(buf_head(&conn->in), client->token, client->token_len) != 0)
		return bench_complain("redis: something that is no message of %s", client->queue);
	return n;
}

const struct bench_pubsub bench_pubsub_redis = {
	.open = redis_open,
	.encode = redis_encode,
	.acknowledge = redis_acknowledge,
	.take = redis_take,
};

static int
aof_start(struct bench_server *server)
{
	const char *const argv[] = { "redis-server", "--port", server->port, "--bind",
	    "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always",
	    "--dir", server->disk, NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static int
aof_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	return encode(client, "RPUSH", message, out);
}

static int
aof_count_stored(struct bench_client *client, uint64_t *n)
{
	struct bench_conn *conn = &client->conn[0];
	size_t name_len = strlen(client->queue), len, used;
	const char *line;

	bench_conn_printf(conn, "*2\r\n$4\r\nLLEN\r\n$%zu\r\n%s\r\n", name_len, client->queue);
	if (bench_conn_flush(conn) != 0)
		return -1;
	while ((line = bench_conn_line(conn, &len, &used)) == NULL)
		if (bench_conn_fill(conn) != 0)
			return -1;
	if (*line != ':')
		return bench_complain("redis: %.*s", (int)len, line);
	*n = strtoull(line + 1, NULL, 10);
	buf_consume(&conn->in, used);
	bench_conn_printf(conn, "*2\r\n$3\r\nDEL\r\n$%zu\r\n%s\r\n", name_len, client->queue);
	return bench_conn_expect(conn, ":1");
}

static const struct bench_pubsub pubsub_aof = {
	.open = redis_open,
	.encode = aof_encode,
	.acknowledge = redis_acknowledge,
	.count_stored = aof_count_stored,
};

static int
redis_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

const struct bench_driver bench_driver_redis_aof = {
	.name = "redis-fsync", .program = "redis-server", .on_disk = 1,
	.start = aof_start, .bye = redis_bye, .pubsub = &pubsub_aof,
};
