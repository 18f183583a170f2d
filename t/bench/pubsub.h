/*
 * pubsub: the part of a bench driver that publishes and subscribes, and its runs.
 *
 * Every message of a run has the same size and differs in its number only, so a driver encodes
 * one publication and the publisher keeps a batch of copies in which it sets the numbers: what a
 * client does for one message is nothing beside what the server does for it.
 *
 * Must always hold: each subscriber gets every message of each publisher once, in order, byte for
 * byte; each publication that the protocol acknowledges is acknowledged. A run in which that does
 * not hold is a failure, never a number.
 */
#ifndef LIMINAL_BENCH_PUBSUB_H
#define LIMINAL_BENCH_PUBSUB_H

#include "bench.h"

#define PUBSUB_MAX_PUBLISHERS	8
#define PUBSUB_MAX_VIEWS	512
#define PUBSUB_WINDOW		32768u			/* messages; default of -W */
#define PUBSUB_WINDOW_BYTES	((size_t)8 << 20)	/* of messages: bounds it as well */

struct bench_pubsub {
	/* Connect; a subscriber has its subscription when this returns. */
	int (*open)(struct bench_client *client);

	/* Publisher: append one publication of MESSAGE to OUT, its bytes as they are. */
	int (*encode)(struct bench_client *client, struct bench_view message, struct buf *out);

	/* Of a driver over a client library, instead of encode(): publish MESSAGE. What was published
	 * is written by acknowledge() at the latest, which also reads; it must not wait. take()
	 * waits. CONN[0] has the library's descriptor. */
	int (*publish)(struct bench_client *client, struct bench_view message);

	/* Publisher: take the acknowledgements that are complete in the input, add their number.
	 * NULL if publications are not acknowledged. */
	int (*acknowledge)(struct bench_client *client, uint64_t *n);

	/* Publisher, at its end: return when the server has read everything. NULL where the
	 * acknowledgements say so. */
	int (*finish)(struct bench_client *client);

	/* Subscriber: the messages that are complete in the input, at most MAX, as views of it:
	 * their number, or -1. The caller then drops *USED bytes. */
	int (*take)(struct bench_client *client, struct bench_view *messages, unsigned max,
	    size_t *used);

	/* A new client: the messages that the server has stored in CLIENT's queue; *N may be
	 * nothing else than what was acknowledged. NULL if that cannot be asked. */
	int (*count_stored)(struct bench_client *client, uint64_t *n);

	/* A new subscriber gets what is stored, of earlier runs as well. */
	int reads_back;
};

extern const struct bench_pubsub bench_pubsub_liminald, bench_pubsub_libliminal,
    bench_pubsub_nats, bench_pubsub_redis;

/* They do nothing else. */
extern const struct bench_driver bench_driver_mosquitto, bench_driver_bare;

/* Those that store what is published; named as such in drivers' `durable`. */
extern const struct bench_driver bench_driver_liminald_store, bench_driver_jetstream,
    bench_driver_redis_aof, bench_driver_beanstalkd_binlog;

/* driver_libliminal.c: the connection of one of its clients, open. */
struct liminal *bench_libliminal(const struct bench_client *client);

struct bench_pubsub_shape {
	unsigned publishers, subscribers;	/* one publisher if there are subscribers */
	unsigned outstanding;			/* not yet acknowledged, each; 0: only the window */
	size_t size;				/* of a message; 0: as the options say */
};

/* Messages a second: delivered, to all subscribers together; without any, acknowledged. */
int	bench_run_pubsub(const struct bench_server *server, const struct bench_pubsub_shape *shape,
	    double *rate);

/*
 * For text protocols: a delivered message is CLIENT's token as it stands, then the message, then
 * TAIL bytes. take() for those; it stops at anything else, which is then at *USED.
 */
int	bench_take_framed(struct bench_client *client, struct bench_view *messages, unsigned max,
	    size_t tail, size_t *used);
/* Drop the complete lines of the input and add their number; -1 if one has not this PREFIX. */
int	bench_take_lines(struct bench_conn *conn, const char *prefix, uint64_t *n);

#endif
