/*
 * subscribe: the messages of a channel to standard output.
 *
 * What is there is gathered, written, and only then, if the subscription is durable, accepted: a
 * message that did not get out comes again. Signals are blocked but where it waits and
 * writes, so that none is missed; the second of a kind ends the process as usual.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "liminal/cli.h"

#define SUBSCRIBE_GATHER	((size_t)256 * 1024)	/* written at the latest then */
#define SUBSCRIBE_IN_FLIGHT	1024
#define SUBSCRIBE_MAX_SCHEMAS	64
#define SUBSCRIBE_SCHEMA_MAX	((size_t)16 * 1024 * 1024)
#define SUBSCRIBE_LEAVE_TIMEOUT_MS	2000

/* Names for --from without --durable. The daemon remembers each for ever, so they are few, and used again
 * by whoever finds one free. */
#define SUBSCRIBE_MADE_UP	"liminal-subscribe-%u"
#define SUBSCRIBE_MADE_UP_MAX	64

enum subscribe_option { SUBSCRIBE_FROM = CLI_LONG };

static const struct option subscribe_options[] = {
	{ "count", required_argument, NULL, 'n' },
	{ "durable", required_argument, NULL, 'D' },
	{ "from", required_argument, NULL, SUBSCRIBE_FROM },
	{ "raw", no_argument, NULL, 'r' },
	{ "null", no_argument, NULL, '0' },
	{ "schema", required_argument, NULL, 'S' },
	{ NULL, 0, NULL, 0 },
};

enum subscribe_format {
	SUBSCRIBE_LINES,	/* a newline behind a message that does not end in one */
	SUBSCRIBE_RAW,		/* nothing between messages */
	SUBSCRIBE_NULL,		/* a NUL behind each */
};

struct subscribe {
	struct cli *cli;
	struct liminal *conn;
	struct liminal_subscription what;
	uint64_t number;
	uint8_t schemas[SUBSCRIBE_MAX_SCHEMAS * LIMINAL_SCHEMA_ID_SIZE];
	char consumer[32];		/* made up for this run; empty = there is none */
	enum subscribe_format format;
	uint64_t left;			/* messages to go; UINT64_MAX = no end */
	int status;			/* exit code */

	struct buf output;
	/* Sequences of messages: the first N_ACCEPTED are, then come written ones, then those that
	 * are in OUTPUT still. */
	uint64_t taken[SUBSCRIBE_IN_FLIGHT];
	size_t n_accepted, n_written, n_taken;
};

static volatile sig_atomic_t subscribe_signalled;
static sigset_t subscribe_mask;		/* with the signals that end it let through */

static void
subscribe_on_signal(int sig)
{
	(void)sig;
	subscribe_signalled = 1;
}

/* ---- options ---- */

/* The id of the schema in the file at PATH. */
static void
subscribe_add_schema(struct subscribe *subscribe, const char *path)
{
	struct cli *cli = subscribe->cli;
	struct buf text = { 0 };
	uint8_t *room;
	ssize_t n = -1;
	int fd;

	if (subscribe->what.n_accepted == SUBSCRIBE_MAX_SCHEMAS) {
		cli_complain(cli, "at most %d schemas", SUBSCRIBE_MAX_SCHEMAS);
		exit(CLI_USAGE);
	}
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0)
		while ((room = buf_reserve(&text, 65536)) != NULL &&
		    (n = read(fd, room, 65536)) > 0 && buf_len(&text) < SUBSCRIBE_SCHEMA_MAX)
			buf_commit(&text, (size_t)n);
	if (fd < 0 || n != 0) {
		cli_complain(cli, "%s: %s", path, n > 0 ? "too large" : strerror(errno));
		exit(CLI_FAILED);
	}
	close(fd);
	liminal_schema_id(buf_head(&text), buf_len(&text),
	    subscribe->schemas + subscribe->what.n_accepted++ * LIMINAL_SCHEMA_ID_SIZE);
	subscribe->what.accepted = subscribe->schemas;
	buf_free(&text);
}

static void
subscribe_set_start(struct subscribe *subscribe, const char *text)
{
	if (strcmp(text, "start") == 0) {
		subscribe->what.start = LIMINAL_START_OLDEST;
		return;
	}
	subscribe->what.start = LIMINAL_START_SEQUENCE;
	subscribe->what.sequence = (uint64_t)cli_number(subscribe->cli, text, 1, INT64_MAX,
	    "--from is \"start\" or a sequence:");
}

static void
subscribe_read_options(struct subscribe *subscribe)
{
	struct cli *cli = subscribe->cli;
	int c;

	while ((c = cli_next_option(cli, "n:D:r0S:", subscribe_options)) != -1) {
		switch (c) {
		case 'n':
			subscribe->left = (uint64_t)cli_number(cli, optarg, 1, INT64_MAX, "COUNT");
			break;
		case 'D':
			subscribe->what.consumer = optarg;
			break;
		case SUBSCRIBE_FROM:
			subscribe_set_start(subscribe, optarg);
			break;
		case 'r':
			subscribe->format = SUBSCRIBE_RAW;
			break;
		case '0':
			subscribe->format = SUBSCRIBE_NULL;
			break;
		case 'S':
			subscribe_add_schema(subscribe, optarg);
			break;
		}
	}
}

static void
subscribe_check_options(struct subscribe *subscribe)
{
	if (subscribe->what.consumer != NULL && (subscribe->what.consumer[0] == '\0' ||
	    strlen(subscribe->what.consumer) > 255)) {
		cli_complain(subscribe->cli, "a consumer's name has 1 to 255 bytes");
		exit(CLI_USAGE);
	}
	/* What is not taken needs not be sent. */
	subscribe->what.max_in_flight = subscribe->left < SUBSCRIBE_IN_FLIGHT ?
	    (uint32_t)subscribe->left : SUBSCRIBE_IN_FLIGHT;
}

/* The protocol lets only durable subscriptions begin elsewhere than now. */
static int
subscribe_subscribe(struct subscribe *subscribe)
{
	unsigned n = 0;
	int r;

	if (subscribe->what.consumer != NULL || subscribe->what.start == LIMINAL_START_RESUME)
		return liminal_subscribe(subscribe->conn, &subscribe->what,
		    subscribe->cli->timeout_ms, &subscribe->number);
	subscribe->what.consumer = subscribe->consumer;
	do {
		snprintf(subscribe->consumer, sizeof(subscribe->consumer), SUBSCRIBE_MADE_UP, ++n);
		r = liminal_subscribe(subscribe->conn, &subscribe->what,
		    subscribe->cli->timeout_ms, &subscribe->number);
	} while (r == LIMINAL_REFUSED && n < SUBSCRIBE_MADE_UP_MAX &&
	    liminal_reason(subscribe->conn) == LIMINAL_REASON_PRESSURE);
	return r;
}

/* ---- signals ---- */

static void
subscribe_open_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = subscribe_on_signal };
	sigset_t set;

	action.sa_flags = (int)SA_RESETHAND;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaction(signals[i], &action, NULL);
		sigaddset(&set, signals[i]);
	}
	sigprocmask(SIG_BLOCK, &set, &subscribe_mask);
}

/* ---- output ---- */

static int
subscribe_put_json(struct subscribe *subscribe, const struct liminal_message *message)
{
	json_t *object = json_pack("{ss}", "channel", subscribe->what.channel);

	if (message->is_error) {
		json_object_set_new(object, "status",
		    json_string(cli_exit_word(CLI_FAILED)));
		json_object_set_new(object, "reason", json_integer(message->reason));
		cli_json_bytes(object, "text", message->payload, message->len);
	} else {
		json_object_set_new(object, "sequence", json_integer((json_int_t)message->sequence));
		cli_json_bytes(object, "payload", message->payload, message->len);
	}
	if (message->parent_id != NULL)
		json_object_set_new(object, "parent_id",
		    json_stringn(message->parent_id, message->parent_id_len));
	if (message->has_vector_clock)
		json_object_set_new(object, "vector_clock",
		    json_integer((json_int_t)message->vector_clock));
	return cli_append_json(subscribe->cli, &subscribe->output, object);
}

static int
subscribe_put(struct subscribe *subscribe, const struct liminal_message *message)
{
	const char *bytes = message->payload;

	if (subscribe->cli->json)
		return subscribe_put_json(subscribe, message);
	if (message->is_error)
		return 0;
	if (buf_append(&subscribe->output, bytes, message->len) != 0)
		return -1;
	if (subscribe->format == SUBSCRIBE_NULL)
		return buf_append(&subscribe->output, "", 1);
	if (subscribe->format == SUBSCRIBE_LINES &&
	    (message->len == 0 || bytes[message->len - 1] != '\n'))
		return buf_append(&subscribe->output, "\n", 1);
	return 0;
}

/* Write what was gathered. A reader that takes nothing does not keep a signal from ending us. 0,
 * or -1 when it did not get out. */
static int
subscribe_write(struct subscribe *subscribe)
{
	struct buf *output = &subscribe->output;
	sigset_t blocked;
	ssize_t n = 0;

	while (buf_len(output) > 0 && !subscribe_signalled) {
		sigprocmask(SIG_SETMASK, &subscribe_mask, &blocked);
		n = write(STDOUT_FILENO, buf_head(output), buf_len(output));
		sigprocmask(SIG_SETMASK, &blocked, NULL);
		if (n > 0) {
			buf_consume(output, (size_t)n);
		} else if (n < 0 && errno != EINTR) {
			cli_complain(subscribe->cli, "standard output: %s", strerror(errno));
			subscribe->status = CLI_FAILED;
			return -1;
		}
	}
	if (buf_len(output) > 0)
		return -1;
	subscribe->n_written = subscribe->n_taken;
	return 0;
}

/* ---- messages ---- */

/* Take one. 0, or -1 when there will be no more. */
static int
subscribe_take(struct subscribe *subscribe, const struct liminal_message *message)
{
	if (subscribe_put(subscribe, message) != 0) {
		cli_complain(subscribe->cli, "out of memory");
		subscribe->status = CLI_FAILED;
		return -1;
	}
	if (message->is_error) {
		cli_complain(subscribe->cli, "%.*s", message->len < 512 ? (int)message->len : 512,
		    (const char *)message->payload);
		subscribe->status = cli_exit_of(LIMINAL_REFUSED, message->reason);
		return -1;
	}
	if (subscribe->what.consumer != NULL)
		subscribe->taken[subscribe->n_taken++] = message->sequence;
	return --subscribe->left == 0 ? -1 : 0;
}

/* Gather what is there, up to a bound. LIMINAL_OK: there is more; CLIENT's status otherwise; 1 = it
 * was the last. */
static int
subscribe_gather(struct subscribe *subscribe)
{
	const struct liminal_message *message;
	int r;

	while (buf_len(&subscribe->output) < SUBSCRIBE_GATHER &&
	    subscribe->n_taken < SUBSCRIBE_IN_FLIGHT) {
		if ((r = liminal_next_message(subscribe->conn, 0, &message)) != LIMINAL_OK)
			return r;
		if (subscribe_take(subscribe, message) != 0)
			return 1;
	}
	return LIMINAL_OK;
}

/* Accept what was written, as far as it goes now; the server's bound lets no more come
 * than there is room for here. */
static void
subscribe_accept(struct subscribe *subscribe)
{
	while (subscribe->n_accepted < subscribe->n_written &&
	    liminal_accept(subscribe->conn, subscribe->number,
	    subscribe->taken[subscribe->n_accepted]) == LIMINAL_OK)
		subscribe->n_accepted++;
	if (subscribe->n_accepted == subscribe->n_taken)
		subscribe->n_accepted = subscribe->n_written = subscribe->n_taken = 0;
}

/* Wait for more, at most until UNTIL_NS. */
static void
subscribe_wait(struct subscribe *subscribe, int64_t until_ns)
{
	struct pollfd fd = { .fd = liminal_fd(subscribe->conn),
		.events = liminal_poll_events(subscribe->conn) };
	int ms = clock_poll_ms(until_ns, clock_now_ns());
	struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	ppoll(&fd, 1, ms < 0 ? NULL : &limit, &subscribe_mask);
}

static int64_t
subscribe_deadline(const struct subscribe *subscribe)
{
	return subscribe->cli->timeout_ms < 0 ? INT64_MAX :
	    clock_now_ns() + subscribe->cli->timeout_ms * CLOCK_MS;
}

static void
subscribe_loop(struct subscribe *subscribe)
{
	int64_t until_ns = subscribe_deadline(subscribe);
	int r;

	while (!subscribe_signalled) {
		r = subscribe_gather(subscribe);
		if (buf_len(&subscribe->output) > 0) {
			if (subscribe_write(subscribe) != 0)
				return;
			until_ns = subscribe_deadline(subscribe);
		}
		subscribe_accept(subscribe);
		if (r == 1)
			return;
		if (r == LIMINAL_OK)
			continue;
		if (r != LIMINAL_TIMED_OUT && r != LIMINAL_INTERRUPTED) {
			cli_complain(subscribe->cli, "%s", liminal_error_text(subscribe->conn));
			subscribe->status = cli_exit_of(r, 0);
			return;
		}
		if (clock_now_ns() >= until_ns) {
			cli_complain(subscribe->cli, "no message came in time");
			subscribe->status = CLI_TIMED_OUT;
			return;
		}
		subscribe_wait(subscribe, until_ns);
	}
}

/* Let the server know, and know that it does: the next one that subscribes under the same name
 * finds it free, behind what was accepted here. */
static void
subscribe_leave(struct subscribe *subscribe)
{
	if (!liminal_is_open(subscribe->conn))
		return;
	liminal_flush(subscribe->conn, SUBSCRIBE_LEAVE_TIMEOUT_MS);
	subscribe_accept(subscribe);
	liminal_unsubscribe(subscribe->conn, subscribe->number);
	liminal_ping(subscribe->conn, SUBSCRIBE_LEAVE_TIMEOUT_MS);
}

int
command_subscribe(struct cli *cli)
{
	static struct subscribe subscribe = { .left = UINT64_MAX };
	int r;

	subscribe.cli = cli;
	subscribe_read_options(&subscribe);
	subscribe.what.channel = cli_arguments(cli, 1, 1)[0];
	subscribe_check_options(&subscribe);
	if ((subscribe.conn = cli_open(cli, cli->timeout_ms, &subscribe.status)) == NULL)
		return subscribe.status;
	r = subscribe_subscribe(&subscribe);
	subscribe.status = cli_exit_of(r, liminal_reason(subscribe.conn));
	if (r != LIMINAL_OK) {
		cli_complain(cli, "%s", liminal_error_text(subscribe.conn));
	} else {
		subscribe_open_signals();
		cli_complain(cli, "subscribed to %s", subscribe.what.channel);
		subscribe_loop(&subscribe);
		subscribe_leave(&subscribe);
	}
	buf_free(&subscribe.output);
	liminal_free(subscribe.conn);
	return subscribe.status;
}
