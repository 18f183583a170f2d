/*
 * beanstalkd: a caller puts jobs into the queue's tube, a worker reserves one, puts the answer
 * into the caller's tube and deletes the job; the caller reserves and deletes the answer.
 *
 * "reserve" blocks its connection. With one job at a time everything goes on one connection,
 * each step in one write; with more, reserves go ahead in a pipeline on CONN[0] and puts
 * on CONN[1].
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pubsub.h"

/* client->state; the tube in use is a caller's number + 1 */
enum { CONTENT_USED, RESERVED_ID, HAS_RESERVED, TUBE_IN_USE };

static int
beanstalkd_start(struct bench_server *server)
{
	const char *const argv[] = { "beanstalkd", "-l", "127.0.0.1", "-p", server->port,
	    "-z", "2000000", NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static struct bench_conn *
put_conn(struct bench_client *client)
{
	return &client->conn[client->capacity > 1];
}

/* Delete what was reserved last, and reserve once more. */
static int
append_reserve(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];

	if (client->state[HAS_RESERVED]) {
		client->state[HAS_RESERVED] = 0;
		if (bench_conn_printf(conn, "delete %llu\r\n",
		    (unsigned long long)client->state[RESERVED_ID]) != 0)
			return -1;
	}
	return bench_conn_append(conn, "reserve\r\n", 9);
}

static int
append_put(struct bench_client *client, struct bench_view content)
{
	struct bench_conn *conn = put_conn(client);

	if (bench_conn_printf(conn, "put 0 0 3600 %zu\r\n", content.len) != 0 ||
	    bench_conn_append(conn, content.data, content.len) != 0)
		return -1;
	return bench_conn_append(conn, "\r\n", 2);
}

static int
beanstalkd_open(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];
	unsigned i;

	if (bench_conn_open(conn, client->server) != 0)
		return -1;
	if (client->role == BENCH_IDLE) {
		bench_conn_printf(conn, "list-tube-used\r\n");
		return bench_conn_expect(conn, "USING default");
	}
	if (client->role == BENCH_CALLER)
		bench_conn_printf(conn, "watch %s-answers-%u\r\n", client->queue, client->index);
	else
		bench_conn_printf(conn, "watch %s\r\n", client->queue);
	if (bench_conn_expect(conn, "WATCHING 2") != 0)
		return -1;
	bench_conn_printf(conn, "ignore default\r\n");
	if (bench_conn_expect(conn, "WATCHING 1") != 0)
		return -1;
	if (client->capacity > 1 && bench_conn_open(&client->conn[1], client->server) != 0)
		return -1;
	if (client->role == BENCH_CALLER) {
		bench_conn_printf(put_conn(client), "use %s\r\n", client->queue);
		return bench_conn_expect(put_conn(client), "USING ");
	}
	for (i = 0; i < client->capacity; i++)
		append_reserve(client);
	return 0;
}

static int
beanstalkd_send(struct bench_client *client, struct bench_view job)
{
	return append_put(client, job) != 0 ? -1 : append_reserve(client);
}

static int
beanstalkd_reply(struct bench_client *client, struct bench_view result)
{
	unsigned caller = result.data[15];

	if (client->state[TUBE_IN_USE] != caller + 1) {
		client->state[TUBE_IN_USE] = caller + 1;
		bench_conn_printf(put_conn(client), "use %s-answers-%u\r\n", client->queue, caller);
	}
	return append_put(client, result) != 0 ? -1 : append_reserve(client);
}

/* Drop the answers to put, delete and use; stop at anything else. */
static void
drop_answers(struct bench_conn *conn)
{
	size_t len, used;
	const char *line;

	while ((line = bench_conn_line(conn, &len, &used)) != NULL &&
	    (strncmp(line, "INSERTED ", 9) == 0 || strncmp(line, "DELETED\r", 8) == 0 ||
	    strncmp(line, "USING ", 6) == 0))
		buf_consume(&conn->in, used);
}

static int
beanstalkd_receive(struct bench_client *client, struct bench_view *content)
{
	struct bench_conn *conn = &client->conn[0];
	const char *line, *bytes;
	size_t len, used;
	char *end;

	buf_consume(&conn->in, (size_t)client->state[CONTENT_USED]);
	client->state[CONTENT_USED] = 0;
	drop_answers(conn);
	line = bench_conn_line(conn, &len, &used);
	if (line == NULL) {
		if (client->capacity > 1) {
			if (bench_conn_poll(&client->conn[1]) != 0)
				return -1;
			drop_answers(&client->conn[1]);
			if (bench_conn_line(&client->conn[1], &len, &used) != NULL)
				return bench_complain("beanstalkd refuses a put");
		}
		return 0;
	}
	if (len < 9 || memcmp(line, "RESERVED ", 9) != 0)
		return bench_complain("beanstalkd: %.*s", (int)len, line);
	bytes = line + 9;
	client->state[RESERVED_ID] = strtoull(bytes, &end, 10);
	content->len = strtoul(end, NULL, 10);
	content->data = (const uint8_t *)line + used;
	if (buf_len(&conn->in) < used + content->len + 2)
		return 0;
	client->state[HAS_RESERVED] = 1;
	client->state[CONTENT_USED] = used + content->len + 2;
	return 1;
}

static int
beanstalkd_bye(struct bench_client *client)
{
	bench_conn_printf(&client->conn[0], "quit\r\n");
	return bench_conn_flush(&client->conn[0]);
}

const struct bench_driver bench_driver_beanstalkd = {
	.name = "beanstalkd",
	.program = "beanstalkd",
	.redelivers = 1,
	.start = beanstalkd_start,
	.open = beanstalkd_open,
	.send = beanstalkd_send,
	.receive = beanstalkd_receive,
	.reply = beanstalkd_reply,
	.bye = beanstalkd_bye,
	.durable = &bench_driver_beanstalkd_binlog,
};
