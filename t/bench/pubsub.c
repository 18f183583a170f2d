/*
 * pubsub: the runs that count messages from publishers to subscribers.
 *
 * A publisher does not run ahead of the slowest subscriber by more than a window, because a
 * broker may drop who falls behind, and what it then does not deliver would look like speed. It
 * knows them by the counters in the shared mapping, so the server has no part in it. The last
 * message of a publisher says that it is: a subscriber that has it has all.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pubsub.h"

#define BATCH_BYTES	((size_t)128 << 10)
#define LAST		(UINT64_C(1) << 63)	/* in a message's number */
#define LOOK_NS		100000			/* at subscribers that are behind */

static uint32_t current_run;		/* messages carry it: a store holds those of all runs */

struct publisher {
	struct bench_client *client;
	const struct bench_pubsub *how;
	const struct bench_pubsub_shape *shape;
	uint8_t *bytes;			/* a message: SIZE bytes */
	struct bench_view message;	/* the same */
	uint8_t *batch;			/* PER_BATCH publications that differ in the number only */
	size_t len, number_at;		/* of one */
	unsigned per_batch;
	uint64_t window;
	uint64_t sent, acknowledged;
	uint64_t slowest;		/* what the slowest subscriber had when it was looked at */
};

static size_t
message_size(const struct bench_server *server, const struct bench_pubsub_shape *shape)
{
	return shape->size != 0 ? shape->size : server->options->size;
}

/* The batch: MESSAGE's publication again and again. A library is given the message itself. */
static int
fill_batch(struct publisher *p)
{
	struct bench_view message = p->message;
	struct buf one = { 0 };
	const uint8_t *at;
	unsigned i;

	p->per_batch = (unsigned)(BATCH_BYTES / (message.len + 64) + 1);
	if (p->how->publish != NULL)
		return 0;
	if (p->how->encode(p->client, message, &one) != 0)
		return -1;
	p->len = buf_len(&one);
	at = memmem(buf_head(&one), p->len, message.data, message.len);
	if (at == NULL)
		return bench_complain("%s: a publication without its message",
		    p->client->server->driver->name);
	p->number_at = (size_t)(at - buf_head(&one));
	p->per_batch = p->len < BATCH_BYTES ? (unsigned)(BATCH_BYTES / p->len) : 1;
	if ((p->batch = malloc(p->per_batch * p->len)) == NULL)
		return bench_complain("out of memory");
	for (i = 0; i < p->per_batch; i++)
		memcpy(p->batch + i * p->len, buf_head(&one), p->len);
	buf_free(&one);
	return 0;
}

static uint64_t
find_slowest(const struct publisher *p)
{
	uint64_t least = UINT64_MAX, count;
	unsigned i;

	for (i = 0; i < p->shape->subscribers; i++) {
		count = atomic_load_explicit(&bench_shared->counter[i].count,
		    memory_order_relaxed);
		if (count < least)
			least = count;
	}
	return least;
}

/* How many may be published now. */
static unsigned
find_room(struct publisher *p)
{
	uint64_t room = p->per_batch, free;

	if (p->shape->subscribers > 0) {
		if (p->sent - p->slowest + room > p->window)
			p->slowest = find_slowest(p);
		free = p->window - (p->sent - p->slowest);
		room = free < room ? free : room;
	}
	if (p->shape->outstanding > 0) {
		free = p->shape->outstanding - (p->sent - p->acknowledged);
		room = free < room ? free : room;
	}
	return (unsigned)room;
}

/* What the input holds. */
static int
take_acknowledgements(struct publisher *p)
{
	struct bench_counter *counter = &bench_shared->acknowledged[p->client->index];

	if (p->how->acknowledge == NULL)
		return 0;
	if (p->how->acknowledge(p->client, &p->acknowledged) != 0)
		return -1;
	if (p->acknowledged > p->sent)
		return bench_complain("%s acknowledges more than there was",
		    p->client->server->driver->name);
	atomic_store_explicit(&counter->count, p->acknowledged, memory_order_relaxed);
	return 0;
}

static int
wait_and_read(struct publisher *p, short events, int64_t ns)
{
	struct pollfd pfd = { .fd = p->client->conn[0].fd, .events = events };
	const struct timespec bound = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
	int n = ppoll(&pfd, 1, &bound, NULL);

	if (n == 0 && ns == BENCH_WAIT_NS)
		return bench_complain("%s neither reads nor answers",
		    p->client->server->driver->name);
	if (n <= 0 || !(pfd.revents & (POLLIN | POLLERR | POLLHUP)))
		return 0;
	if (p->how->publish == NULL && bench_conn_poll(&p->client->conn[0]) != 0)
		return -1;
	return take_acknowledgements(p);
}

/* Wait until something was read, and take the acknowledgements in it. */
static int
wait_for_input(struct publisher *p)
{
	if (p->how->publish != NULL)
		return wait_and_read(p, POLLIN, BENCH_WAIT_NS);
	return bench_conn_fill(&p->client->conn[0]) != 0 ? -1 : take_acknowledgements(p);
}

static int
read_what_is_there(struct publisher *p)
{
	if (p->how->acknowledge == NULL)
		return 0;
	if (p->how->publish == NULL && bench_conn_poll(&p->client->conn[0]) != 0)
		return -1;
	return take_acknowledgements(p);
}

/* Reads meanwhile, because a server may stop to read from those who do not. */
static int
write_batch(struct publisher *p, size_t left)
{
	const uint8_t *at = p->batch;
	ssize_t n;

	while (left > 0) {
		n = send(p->client->conn[0].fd, at, left, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			at += n;
			left -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return bench_complain("send: %s", strerror(errno));
		} else if (wait_and_read(p, POLLIN | POLLOUT, BENCH_WAIT_NS) != 0) {
			return -1;
		}
	}
	return 0;
}

static int
publish_some(struct publisher *p, unsigned n, int is_end)
{
	uint8_t *at = p->how->publish == NULL ? p->batch + p->number_at : p->bytes;
	uint64_t number;
	unsigned i;

	for (i = 0; i < n; i++, at += p->len) {
		number = p->sent++ | (is_end && i == n - 1 ? LAST : 0);
		memcpy(at, &number, sizeof number);
		if (p->how->publish != NULL && p->how->publish(p->client, p->message) != 0)
			return -1;
	}
	return p->how->publish == NULL ? write_batch(p, n * p->len) : take_acknowledgements(p);
}

static int
await_acknowledgements(struct publisher *p)
{
	while (p->how->acknowledge != NULL && p->acknowledged < p->sent) {
		if (wait_for_input(p) != 0)
			return bench_complain("%s: %llu of %llu acknowledged",
			    p->client->server->driver->name, (unsigned long long)p->acknowledged,
			    (unsigned long long)p->sent);
	}
	return p->how->finish == NULL ? 0 : p->how->finish(p->client);
}

static int
publish(struct publisher *p)
{
	int is_end = 0, r;
	unsigned n;

	while (!is_end) {
		n = find_room(p);
		is_end = n > 0 && atomic_load_explicit(&bench_shared->phase,
		    memory_order_relaxed) == BENCH_STOP;
		if (n > 0 && publish_some(p, n, is_end) != 0)
			return -1;
		if (p->shape->outstanding > 0 && find_room(p) == 0)
			r = wait_for_input(p);
		else if (n == 0)
			r = wait_and_read(p, POLLIN, LOOK_NS);
		else
			r = read_what_is_there(p);
		if (r != 0)
			return -1;
	}
	return await_acknowledgements(p);
}

/* Bytes 0..7 are the number, 8 the publisher, 9..12 the run. */
static void
fill_message(uint8_t *message, size_t size, unsigned publisher)
{
	bench_fill_job(message, size, publisher);
	message[8] = (uint8_t)publisher;
	memcpy(message + 9, &current_run, sizeof current_run);
}

_Noreturn static void
be_publisher(const struct bench_server *server, const char *queue, unsigned index,
    const struct bench_pubsub_shape *shape)
{
	size_t size = message_size(server, shape);
	struct bench_client client = { .role = BENCH_PUBLISHER, .size = size };
	struct publisher p = {
		.client = &client, .how = server->driver->pubsub, .shape = shape,
		.window = server->options->window, .bytes = malloc(size),
	};

	if (p.window > PUBSUB_WINDOW_BYTES / size)
		p.window = PUBSUB_WINDOW_BYTES / size;
	fill_message(p.bytes, size, index);
	p.message = (struct bench_view){ p.bytes, size };
	if (bench_client_open(&client, server, BENCH_PUBLISHER, queue, index, 1) != 0 ||
	    fill_batch(&p) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	if (publish(&p) != 0)
		_exit(1);
	atomic_store(&bench_shared->published[index].count, p.sent);
	server->driver->bye(&client);
	_exit(0);
}

struct subscriber {
	struct bench_client client;
	unsigned publishers, ended;
	uint8_t *expected[PUBSUB_MAX_PUBLISHERS];	/* a message of each */
	uint64_t next[PUBSUB_MAX_PUBLISHERS];
};

static int
check_message(struct subscriber *s, struct bench_view message)
{
	const char *name = s->client.server->driver->name;
	unsigned publisher;
	uint64_t number;

	if (message.len != s->client.size)
		return bench_complain("%s: a message of %zu bytes", name, message.len);
	publisher = message.data[8];
	if (publisher >= s->publishers ||
	    memcmp(message.data + 8, s->expected[publisher] + 8, message.len - 8) != 0)
		return bench_complain("%s: a wrong message", name);
	memcpy(&number, message.data, sizeof number);
	if ((number & ~LAST) != s->next[publisher])
		return bench_complain("%s: message %llu instead of %llu", name,
		    (unsigned long long)(number & ~LAST),
		    (unsigned long long)s->next[publisher]);
	s->next[publisher]++;
	s->ended += (number & LAST) != 0;
	return 0;
}

static int
subscribe(struct subscriber *s)
{
	const struct bench_pubsub *how = s->client.server->driver->pubsub;
	struct bench_counter *counter = &bench_shared->counter[s->client.index];
	struct bench_conn *conn = &s->client.conn[0];
	struct bench_view message[PUBSUB_MAX_VIEWS];
	uint64_t got = 0;
	size_t used;
	int n, i;

	while (s->ended < s->publishers) {
		used = 0;
		if ((n = how->take(&s->client, message, PUBSUB_MAX_VIEWS, &used)) < 0)
			return -1;
		for (i = 0; i < n; i++)
			if (check_message(s, message[i]) != 0)
				return -1;
		buf_consume(&conn->in, used);
		got += (unsigned)n;
		atomic_store_explicit(&counter->count, got, memory_order_relaxed);
		if (n == 0 && (bench_conn_flush(conn) != 0 || bench_conn_fill(conn) != 0))
			return -1;
	}
	return 0;
}

static void
init_subscriber(struct subscriber *s, size_t size, unsigned publishers)
{
	unsigned i;

	memset(s, 0, sizeof *s);
	s->client.size = size;
	s->publishers = publishers;
	for (i = 0; i < publishers; i++) {
		s->expected[i] = malloc(size);
		fill_message(s->expected[i], size, i);
	}
}

_Noreturn static void
be_subscriber(const struct bench_server *server, const char *queue, unsigned index,
    const struct bench_pubsub_shape *shape)
{
	struct subscriber s;

	init_subscriber(&s, message_size(server, shape), shape->publishers);
	if (bench_client_open(&s.client, server, BENCH_SUBSCRIBER, queue, index, 1) != 0)
		_exit(1);
	atomic_fetch_add(&bench_shared->ready, 1);
	if (subscribe(&s) != 0)
		_exit(1);
	server->driver->bye(&s.client);
	_exit(0);
}

/*
 * What the server has stored of this run: from the oldest message that it still keeps of each
 * publisher to the last one. Messages of earlier runs are passed over.
 */
static int
check_stored(struct subscriber *s, struct bench_view message)
{
	uint32_t run;
	unsigned publisher;
	uint64_t number;

	if (message.len != s->client.size)
		return check_message(s, message);
	memcpy(&run, message.data + 9, sizeof run);
	if (run != current_run)
		return 0;
	publisher = message.data[8];
	memcpy(&number, message.data, sizeof number);
	if (publisher < s->publishers && s->next[publisher] == 0)
		s->next[publisher] = number & ~LAST;
	return check_message(s, message);
}

static int
read_back(const struct bench_server *server, const struct bench_pubsub_shape *shape,
    const char *queue)
{
	struct bench_view message[PUBSUB_MAX_VIEWS];
	struct bench_conn *conn;
	struct subscriber s;
	size_t used;
	int n = -1, i;

	init_subscriber(&s, message_size(server, shape), shape->publishers);
	conn = &s.client.conn[0];
	if (bench_client_open(&s.client, server, BENCH_SUBSCRIBER, queue, 0, 1) != 0)
		goto end;
	while (s.ended < s.publishers) {
		used = 0;
		n = server->driver->pubsub->take(&s.client, message, PUBSUB_MAX_VIEWS, &used);
		for (i = 0; i < n; i++)
			if (check_stored(&s, message[i]) != 0)
				n = -1;
		if (n < 0)
			break;
		buf_consume(&conn->in, used);
		if (n == 0 && (bench_conn_flush(conn) != 0 || bench_conn_fill(conn) != 0)) {
			n = bench_complain("%s: the last messages are not stored",
			    server->driver->name);
			break;
		}
	}
	if (n >= 0)
		n = server->driver->bye(&s.client);
end:
	for (i = 0; i < (int)s.publishers; i++)
		free(s.expected[i]);
	bench_client_close(&s.client);
	buf_free(&conn->in);
	buf_free(&conn->out);
	return n < 0 ? -1 : 0;
}

int
bench_take_framed(struct bench_client *client, struct bench_view *messages, unsigned max,
    size_t tail, size_t *used)
{
	const uint8_t *at = buf_head(&client->conn[0].in);
	size_t left = buf_len(&client->conn[0].in), head = client->token_len;
	size_t size = client->size, frame = head + size + tail;
	unsigned n;

	for (n = 0; n < max && left >= frame && memcmp(at, client->token, head) == 0; n++) {
		messages[n] = (struct bench_view){ at + head, size };
		at += frame;
		left -= frame;
	}
	*used = n * frame;
	return (int)n;
}

int
bench_take_lines(struct bench_conn *conn, const char *prefix, uint64_t *n)
{
	const char *at = (const char *)buf_head(&conn->in), *start = at, *end, *newline;
	size_t len = strlen(prefix);

	if (at == NULL)
		return 0;
	end = at + buf_len(&conn->in);
	while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL &&
	    (size_t)(newline - at) > len && memcmp(at, prefix, len) == 0) {
		at = newline + 1;
		++*n;
	}
	buf_consume(&conn->in, (size_t)(at - start));
	return newline == NULL ? 0 : bench_complain("%.*s", (int)(newline - at), at);
}

static uint64_t
count(const struct bench_counter *counters, unsigned n)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < n; i++)
		sum += atomic_load_explicit(&counters[i].count, memory_order_relaxed);
	return sum;
}

static void
reset_counters(void)
{
	unsigned i;

	atomic_store(&bench_shared->phase, BENCH_WARM_UP);
	atomic_store(&bench_shared->ready, 0);
	for (i = 0; i < BENCH_MAX_CLIENTS; i++) {
		atomic_store(&bench_shared->counter[i].count, 0);
		atomic_store(&bench_shared->acknowledged[i].count, 0);
		atomic_store(&bench_shared->published[i].count, 0);
	}
}

/* After the end of all: does what was published, acknowledged, delivered and stored agree? */
static int
check_totals(const struct bench_server *server, const struct bench_pubsub_shape *shape,
    const char *queue)
{
	const struct bench_pubsub *how = server->driver->pubsub;
	uint64_t published = count(bench_shared->published, shape->publishers), n;
	struct bench_client client = { .role = BENCH_PUBLISHER };
	int r;

	if (how->acknowledge != NULL &&
	    (n = count(bench_shared->acknowledged, shape->publishers)) != published)
		return bench_complain("%s: %llu published, %llu acknowledged",
		    server->driver->name, (unsigned long long)published, (unsigned long long)n);
	if ((n = count(bench_shared->counter, shape->subscribers)) !=
	    published * shape->subscribers)
		return bench_complain("%s: %llu published, %llu delivered to %u",
		    server->driver->name, (unsigned long long)published, (unsigned long long)n,
		    shape->subscribers);
	if (how->reads_back)
		return read_back(server, shape, queue);
	if (how->count_stored == NULL)
		return 0;
	r = bench_client_open(&client, server, BENCH_PUBLISHER, queue, shape->publishers, 1);
	if (r == 0 && (r = how->count_stored(&client, &n)) == 0 && n != published)
		r = bench_complain("%s: %llu published, %llu stored", server->driver->name,
		    (unsigned long long)published, (unsigned long long)n);
	bench_client_close(&client);
	buf_free(&client.conn[0].in);
	buf_free(&client.conn[0].out);
	return r;
}

static double
measure(const struct bench_server *server, const struct bench_pubsub_shape *shape)
{
	int deliveries = shape->subscribers > 0;
	const struct bench_counter *counters =
	    deliveries ? bench_shared->counter : bench_shared->acknowledged;
	unsigned n = deliveries ? shape->subscribers : shape->publishers;
	uint64_t before, after;
	int64_t from, to;

	bench_sleep_ns((int64_t)(server->options->warm_up * 1e9));
	before = count(counters, n);
	from = bench_now_ns();
	bench_sleep_ns((int64_t)(server->options->seconds * 1e9));
	after = count(counters, n);
	to = bench_now_ns();
	atomic_store(&bench_shared->phase, BENCH_STOP);
	return (double)(after - before) * 1e9 / (double)(to - from);
}

int
bench_run_pubsub(const struct bench_server *server, const struct bench_pubsub_shape *shape,
    double *rate)
{
	unsigned subscribers = shape->subscribers, all = subscribers + shape->publishers, i;
	pid_t pid[BENCH_MAX_CLIENTS + PUBSUB_MAX_PUBLISHERS] = { 0 };
	char queue[32];
	int r = -1;

	bench_queue_name(queue);
	current_run++;
	reset_counters();
	for (i = 0; i < subscribers; i++)
		if ((pid[i] = bench_fork()) == 0)
			be_subscriber(server, queue, i, shape);
	if (bench_await_ready(subscribers, pid, subscribers) != 0)
		goto end;
	for (; i < all; i++)
		if ((pid[i] = bench_fork()) == 0)
			be_publisher(server, queue, i - subscribers, shape);
	if (bench_await_ready(all, pid, all) != 0)
		goto end;
	*rate = measure(server, shape);
	if (bench_await_exit(pid, all) != 0 || bench_interrupted ||
	    check_totals(server, shape, queue) != 0)
		goto end;
	r = *rate > 0 ? 0 : bench_complain("not one message came through");
end:
	bench_kill(pid, all);
	return r;
}
