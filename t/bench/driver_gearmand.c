/*
 * gearmand: foreground jobs of one function.
 *
 * A worker grabs its next job in the write that carries a result, and sleeps (PRE_SLEEP,
 * NOOP) only when there was none. One with room for several jobs grabs a few at once.
 */
#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define HEADER_SIZE	12u
#define MAX_GRABS	8u	/* more of them are mostly answered with NO_JOB */

enum { CAN_DO = 1, PRE_SLEEP = 4, NOOP = 6, SUBMIT_JOB = 7, JOB_CREATED = 8, GRAB_JOB = 9,
	NO_JOB = 10, JOB_ASSIGN = 11, WORK_COMPLETE = 13, ECHO_REQ = 16, ECHO_RES = 17 };

enum { PACKET_USED, GRABS };		/* client->state; GRABS = those not answered yet */

static int
gearmand_start(struct bench_server *server)
{
	const char *const argv[] = { "gearmand", "-L", "127.0.0.1", "-p", server->port,
	    "-l", "stderr", "-b", "4096", NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static int
append_header(struct bench_conn *conn, uint32_t type, size_t len)
{
	uint8_t header[HEADER_SIZE] = { 0, 'R', 'E', 'Q' };

	type = htobe32(type);
	memcpy(header + 4, &type, 4);
	type = htobe32((uint32_t)len);
	memcpy(header + 8, &type, 4);
	return bench_conn_append(conn, header, sizeof header);
}

static int
append_grabs(struct bench_client *client, uint64_t n)
{
	uint64_t most = client->capacity < MAX_GRABS ? client->capacity : MAX_GRABS;

	for (; n > 0 && client->state[GRABS] < most; n--) {
		client->state[GRABS]++;
		if (append_header(&client->conn[0], GRAB_JOB, 0) != 0)
			return -1;
	}
	return 0;
}

static int
gearmand_open(struct bench_client *client)
{
	struct bench_conn *conn = &client->conn[0];
	size_t len = strlen(client->queue);

	if (bench_conn_open(conn, client->server) != 0)
		return -1;
	if (client->role == BENCH_WORKER) {
		append_header(conn, CAN_DO, len);
		bench_conn_append(conn, client->queue, len);
	}
	append_header(conn, ECHO_REQ, 0);
	if (bench_conn_flush(conn) != 0)
		return -1;
	while (buf_len(&conn->in) < HEADER_SIZE)
		if (bench_conn_fill(conn) != 0)
			return -1;
	if (buf_head(&conn->in)[7] != ECHO_RES)
		return bench_complain("gearmand does not echo");
	buf_consume(&conn->in, HEADER_SIZE);
	return client->role == BENCH_WORKER ? append_grabs(client, MAX_GRABS) : 0;
}

static int
gearmand_send(struct bench_client *client, struct bench_view job)
{
	struct bench_conn *conn = &client->conn[0];
	size_t len = strlen(client->queue);

	/* The function's name with its end, an empty unique id, the job. */
	append_header(conn, SUBMIT_JOB, len + 2 + job.len);
	bench_conn_append(conn, client->queue, len + 1);
	bench_conn_append(conn, "", 1);
	return bench_conn_append(conn, job.data, job.len);
}

static int
gearmand_reply(struct bench_client *client, struct bench_view result)
{
	struct bench_conn *conn = &client->conn[0];

	append_header(conn, WORK_COMPLETE, client->token_len + result.len);
	bench_conn_append(conn, client->token, client->token_len);
	if (bench_conn_append(conn, result.data, result.len) != 0)
		return -1;
	return append_grabs(client, 1);
}

/* What is behind N zero-terminated fields of a packet; the first one is kept as token. */
static int
skip_fields(struct bench_client *client, const uint8_t *body, size_t len, unsigned n,
    struct bench_view *content)
{
	const uint8_t *at = body, *zero;
	unsigned i;

	for (i = 0; i < n; i++) {
		zero = memchr(at, 0, (size_t)(body + len - at));
		if (zero == NULL || (size_t)(zero + 1 - at) > sizeof client->token)
			return bench_complain("gearmand: a packet with too few fields");
		if (i == 0) {
			client->token_len = (size_t)(zero + 1 - at);
			memcpy(client->token, at, client->token_len);
		}
		at = zero + 1;
	}
	content->data = at;
	content->len = (size_t)(body + len - at);
	return 1;
}

/* One packet: 1 if it carries a job or an answer, 0 if not, -1. */
static int
take_packet(struct bench_client *client, uint32_t type, const uint8_t *body, size_t len,
    struct bench_view *content)
{
	switch (type) {
	case JOB_CREATED:
		return 0;
	case WORK_COMPLETE:
		return skip_fields(client, body, len, 1, content);
	case JOB_ASSIGN:
		client->state[GRABS]--;
		return skip_fields(client, body, len, 2, content);
	case NO_JOB:
		if (--client->state[GRABS] == 0)
			append_header(&client->conn[0], PRE_SLEEP, 0);
		return 0;
	case NOOP:
		return append_grabs(client, MAX_GRABS);
	default:
		return bench_complain("gearmand: packet of type %u", (unsigned)type);
	}
}

static int
gearmand_receive(struct bench_client *client, struct bench_view *content)
{
	struct bench_conn *conn = &client->conn[0];
	const uint8_t *head;
	uint32_t type, len;
	int r;

	for (;;) {
		buf_consume(&conn->in, (size_t)client->state[PACKET_USED]);
		client->state[PACKET_USED] = 0;
		if (buf_len(&conn->in) < HEADER_SIZE)
			return 0;
		head = buf_head(&conn->in);
		memcpy(&type, head + 4, 4);
		memcpy(&len, head + 8, 4);
		len = be32toh(len);
		if (buf_len(&conn->in) < HEADER_SIZE + (size_t)len)
			return 0;
		client->state[PACKET_USED] = HEADER_SIZE + (size_t)len;
		r = take_packet(client, be32toh(type), head + HEADER_SIZE, len, content);
		if (r != 0)
			return r;
	}
}

static int
gearmand_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

const struct bench_driver bench_driver_gearmand = {
	.name = "gearmand",
	.program = "gearmand",
	.redelivers = 1,
	.start = gearmand_start,
	.open = gearmand_open,
	.send = gearmand_send,
	.receive = gearmand_receive,
	.reply = gearmand_reply,
	.bye = gearmand_bye,
};
