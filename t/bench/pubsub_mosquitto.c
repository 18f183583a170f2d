/*
 * mosquitto: MQTT 3.1.1, publish and subscribe with QoS 0.
 *
 * A PUBLISH goes out to a subscriber as it came. Nothing is acknowledged: the answer to a last
 * PINGREQ says that the server has read everything.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub.h"

#define CONNECT		0x10
#define CONNACK		0x20
#define PUBLISH		0x30
#define SUBSCRIBE	0x82
#define SUBACK		0x90
#define PINGREQ		0xC0
#define PINGRESP	0xD0

static int
mosquitto_start(struct bench_server *server)
{
	char conf[160];
	const char *const argv[] = { "mosquitto", "-c", conf, NULL };
	FILE *f;

	snprintf(conf, sizeof conf, "%s/conf", server->dir);
	if ((f = fopen(conf, "we")) == NULL)
		return bench_complain("%s: cannot be written", conf);
	fprintf(f, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
	    "max_queued_messages 0\nmax_queued_bytes 0\n", server->port);
	if (fclose(f) != 0)
		return bench_complain("%s: cannot be written", conf);
	return bench_server_spawn(server, argv) != 0 ? -1 : bench_server_await_port(server);
}

/* The head of a PUBLISH of SIZE bytes. Returns its length. */
static size_t
publish_head(const char *topic, size_t size, uint8_t head[64])
{
	size_t topic_len = strlen(topic), left = 2 + topic_len + size, n = 0;

	head[n++] = PUBLISH;
	for (; left >= 128; left /= 128)
		head[n++] = (uint8_t)(left % 128 | 128);
	head[n++] = (uint8_t)left;
	head[n++] = 0;
	head[n++] = (uint8_t)topic_len;
	memcpy(head + n, topic, topic_len);
	return n + topic_len;
}

/* Write what there is and take an answer of SIZE bytes that begins with TYPE. */
static int
expect(struct bench_conn *conn, uint8_t type, size_t size)
{
	if (bench_conn_flush(conn) != 0)
		return -1;
	while (buf_len(&conn->in) < size)
		if (bench_conn_fill(conn) != 0)
			return -1;
	if (*buf_head(&conn->in) != type)
		return bench_complain("mosquitto: %#x instead of %#x", *buf_head(&conn->in), type);
	buf_consume(&conn->in, size);
	return 0;
}

static int
mosquitto_open(struct bench_client *client)
{
	static const uint8_t connect[] = { CONNECT, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0 };
	struct bench_conn *conn = &client->conn[0];
	uint8_t topic_len = (uint8_t)strlen(client->queue);
	const uint8_t subscribe[] = { SUBSCRIBE, (uint8_t)(topic_len + 5), 0, 1, 0, topic_len };

	if (bench_conn_open(conn, client->server) != 0)
		return -1;
	bench_conn_append(conn, connect, sizeof connect);
	if (expect(conn, CONNACK, 4) != 0)
		return -1;
	if (client->role == BENCH_PUBLISHER)
		return 0;
	client->token_len = publish_head(client->queue, client->size, client->token);
	bench_conn_append(conn, subscribe, sizeof subscribe);
	bench_conn_append(conn, client->queue, topic_len);
	bench_conn_append(conn, "", 1);
	return expect(conn, SUBACK, 5);
}

static int
mosquitto_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	uint8_t head[64];
	size_t n = publish_head(client->queue, message.len, head);

	if (buf_append(out, head, n) != 0 || buf_append(out, message.data, message.len) != 0)
		return bench_complain("out of memory");
	return 0;
}

static int
mosquitto_finish(struct bench_client *client)
{
	bench_conn_append(&client->conn[0], (const uint8_t[]){ PINGREQ, 0 }, 2);
	return expect(&client->conn[0], PINGRESP, 2);
}

static int
mosquitto_take(struct bench_client *client, struct bench_view *messages, unsigned max, size_t *used)
{
	const struct buf *in = &client->conn[0].in;
	int n = bench_take_framed(client, messages, max, 0, used);

	if (n == 0 && buf_len(in) >= client->token_len &&
	    memcmp(buf_head(in), client->token, client->token_len) != 0)
		return bench_complain("mosquitto: something that is no message");
	return n;
}

static int
mosquitto_bye(struct bench_client *client)
{
	(void)client;
	return 0;
}

static const struct bench_pubsub pubsub_mosquitto = {
	.open = mosquitto_open,
	.encode = mosquitto_encode,
	.finish = mosquitto_finish,
	.take = mosquitto_take,
};

const struct bench_driver bench_driver_mosquitto = {
	.name = "mosquitto", .program = "mosquitto",
	.start = mosquitto_start, .bye = mosquitto_bye, .pubsub = &pubsub_mosquitto,
};
