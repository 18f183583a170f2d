/*
 * liminald through the client library, publish and subscribe: one call for each message, one event
 * for each acknowledgement, as a program of its users has it. What lies between this and the
 * driver "liminald" is the library's price.
 *
 * The library reads and writes by itself; CONN[0] only holds its descriptor, to wait for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "liminal.h"
#include "pubsub.h"

#define WAIT_MS	((int)(BENCH_WAIT_NS / 1000000))

static int
complain(const struct liminal *liminal, const char *what, int status)
{
	return bench_complain("libliminal: %s: %s: %s", what, liminal_status_text(status),
	    liminal_error_text(liminal));
}

static int
library_open(struct bench_client *client)
{
	const struct liminal_subscription wanted = { .channel = "bench" };
	struct liminal *liminal;
	uint64_t number;
	int status;

	if (bench_driver_libliminal.open(client) != 0)
		return -1;
	liminal = bench_libliminal(client);
	client->conn[0].fd = liminal_fd(liminal);
	if (client->role == BENCH_PUBLISHER)
		return 0;
	status = liminal_subscribe(liminal, &wanted, WAIT_MS, &number);
	return status == LIMINAL_OK ? 0 : complain(liminal, "subscribe", status);
}

static int
library_publish(struct bench_client *client, struct bench_view message)
{
	struct liminal *liminal = bench_libliminal(client);
	int status;

	while ((status = liminal_publish(liminal, "bench", message.data, message.len, NULL)) ==
	    LIMINAL_BUSY)
		if ((status = liminal_flush(liminal, WAIT_MS)) != LIMINAL_OK)
			break;
	return status == LIMINAL_OK ? 0 : complain(liminal, "publish", status);
}

/* Writes what was published, too. */
static int
library_acknowledge(struct bench_client *client, uint64_t *n)
{
	struct liminal *liminal = bench_libliminal(client);
	const struct liminal_ack *ack;
	int status;

	while ((status = liminal_next_ack(liminal, 0, &ack)) == LIMINAL_OK) {
		if (ack->is_error)
			return bench_complain("libliminal: reason %#x: %.*s", ack->reason,
			    (int)ack->len, ack->text);
		++*n;
	}
	return status == LIMINAL_TIMED_OUT ? 0 : complain(liminal, "next ack", status);
}

static int
library_take(struct bench_client *client, struct bench_view *messages, unsigned max, size_t *used)
{
	struct liminal *liminal = bench_libliminal(client);
	const struct liminal_message *message;
	int status = liminal_next_message(liminal, WAIT_MS, &message);

	(void)max;
	*used = 0;
	if (status != LIMINAL_OK)
		return complain(liminal, "next message", status);
	if (message->is_error)
		return bench_complain("libliminal: reason %#x: %.*s", message->reason,
		    (int)message->len, (const char *)message->payload);
	*messages = (struct bench_view){ message->payload, message->len };
	return 1;
}

const struct bench_pubsub bench_pubsub_libliminal = {
	.open = library_open,
	.publish = library_publish,
	.acknowledge = library_acknowledge,
	.take = library_take,
};
