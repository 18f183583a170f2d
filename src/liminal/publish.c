/*
 * publish: standard input as one message of a channel, or as many.
 *
 * Of many, up to a window are under way at a time; each is published as soon as it has been read, so
 * the tool can stand behind a pipe that never ends. Nothing is read ahead of what the window
 * lets go.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "liminal/cli.h"

#define PUBLISH_DEFAULT_TIMEOUT_MS	10000	/* to connect, then for the next acknowledgement */
#define PUBLISH_DEFAULT_WINDOW		1024
#define PUBLISH_MAX_WINDOW		1000000
#define PUBLISH_READ_SIZE		65536
#define PUBLISH_KEY_SIZE		1024	/* with its number */

#define PUBLISH_TIMED_OUT_TEXT	"no acknowledgement came in time (what a notifier takes for itself " \
	"has none)"

enum publish_option {
	PUBLISH_PARENT = CLI_LONG,
	PUBLISH_CLOCK,
};

static const struct option publish_options[] = {
	{ "lines", no_argument, NULL, 'l' },
	{ "null", no_argument, NULL, '0' },
	{ "key", required_argument, NULL, 'k' },
	{ "window", required_argument, NULL, 'w' },
	{ "keep-going", no_argument, NULL, 'K' },
	{ "parent", required_argument, NULL, PUBLISH_PARENT },
	{ "clock", required_argument, NULL, PUBLISH_CLOCK },
	{ NULL, 0, NULL, 0 },
};

/* What must come before more can be published. */
enum publish_next {
	PUBLISH_INPUT,		/* or an outcome */
	PUBLISH_WINDOW,		/* an outcome, because the window is full */
	PUBLISH_OUTCOMES,	/* nothing but those, or room in the library's buffer */
};

struct publish {
	struct cli *cli;
	struct liminal *conn;
	struct liminal_publication what;	/* what the messages have in common */
	const char *key;		/* of one, and the beginning of those of many; or NULL */
	int many, separator;		/* '\n' or NUL */
	uint64_t window;
	int keep_going;

	struct buf input, output;	/* OUTPUT: lines of JSON */
	size_t scanned;			/* of INPUT, without a separator in it */
	int at_end;			/* of standard input */
	uint64_t n_sent;
	uint64_t acknowledged;		/* when that was looked at last */
	int64_t progress_ns;		/* when it changed last */
	int status;			/* exit code */
	int stopping;			/* nothing more is published */
};

static void
publish_read_options(struct publish *publish)
{
	struct cli *cli = publish->cli;
	int c;

	while ((c = cli_next_option(cli, "l0k:w:K", publish_options)) != -1) {
		switch (c) {
		case 'l':
		case '0':
			publish->many = 1;
			publish->separator = c == 'l' ? '\n' : '\0';
			break;
		case 'k':
			publish->key = optarg;
			break;
		case 'w':
			publish->window = (uint64_t)cli_number(cli, optarg, 1, PUBLISH_MAX_WINDOW,
			    "window");
			break;
		case 'K':
			publish->keep_going = 1;
			break;
		case PUBLISH_PARENT:
			publish->what.parent_id = optarg;
			break;
		case PUBLISH_CLOCK:
			publish->what.has_vector_clock = 1;
			publish->what.vector_clock = (uint64_t)cli_number(cli, optarg, 0,
			    INT64_MAX, "clock");
			break;
		}
	}
}

/* ---- outcomes ---- */

/* A line of JSON for an outcome; LINE 0 = of the only message. */
static int
publish_put_json(struct publish *publish, uint64_t line, const struct liminal_ack *ack)
{
	json_t *object = json_object();

	if (line != 0)
		json_object_set_new(object, "line", json_integer((json_int_t)line));
	json_object_set_new(object, "status",
	    json_string(cli_exit_word(ack->is_error ? CLI_FAILED : CLI_DONE)));
	if (ack->is_error) {
		json_object_set_new(object, "reason", json_integer(ack->reason));
		cli_json_bytes(object, "text", ack->text, ack->len);
	} else {
		json_object_set_new(object, "message_id", json_integer((json_int_t)ack->message));
		json_object_set_new(object, "delivered", json_boolean(ack->delivered));
	}
	return cli_append_json(publish->cli, &publish->output, object);
}

/* Write the lines of JSON. 0, or -1 after a complaint. */
static int
publish_write(struct publish *publish)
{
	struct buf *output = &publish->output;

	if (buf_len(output) > 0 &&
	    cli_write_output(publish->cli, buf_head(output), buf_len(output)) != 0)
		return -1;
	buf_consume(output, buf_len(output));
	return 0;
}

/* Nothing more is published; the first reason is the exit code. */
static void
publish_fail(struct publish *publish, int status)
{
	if (publish->status == CLI_DONE)
		publish->status = status;
	if (!publish->keep_going)
		publish->stopping = 1;
}

static void
publish_take(struct publish *publish, const struct liminal_ack *ack)
{
	if (ack->is_error) {
		cli_complain(publish->cli, "line %" PRIu64 ": %.*s", ack->publish,
		    ack->len < 512 ? (int)ack->len : 512, ack->text);
		publish_fail(publish, cli_exit_of(LIMINAL_REFUSED, ack->reason));
	}
	if (publish->cli->json && publish_put_json(publish, ack->publish, ack) != 0)
		publish_fail(publish, CLI_FAILED);
}

/* ---- one ---- */

/* What is told of the only message when no outcome came. */
static int
publish_put_nothing(struct publish *publish, const char *text)
{
	json_t *object = json_pack("{ss}", "status", cli_exit_word(publish->status));

	json_object_set_new(object, "reason", json_integer(liminal_reason(publish->conn)));
	cli_json_bytes(object, "text", text, strlen(text));
	return cli_append_json(publish->cli, &publish->output, object);
}

static int
publish_one(struct publish *publish)
{
	struct cli *cli = publish->cli;
	const struct liminal_ack *ack;
	const char *text;
	int r;

	publish->what.payload = buf_head(&publish->input);
	publish->what.len = buf_len(&publish->input);
	publish->what.key = publish->key;
	r = liminal_publish_wait(publish->conn, &publish->what, cli->timeout_ms, &ack);
	publish->status = cli_exit_of(r, liminal_reason(publish->conn));
	text = r == LIMINAL_TIMED_OUT ? PUBLISH_TIMED_OUT_TEXT : liminal_error_text(publish->conn);
	if (r != LIMINAL_OK)
		cli_complain(cli, "%s", text);
	if (!cli->json)
		return publish->status;
	r = ack != NULL ? publish_put_json(publish, 0, ack) : publish_put_nothing(publish, text);
	return r == 0 && publish_write(publish) == 0 ? publish->status : CLI_FAILED;
}

/* ---- many ---- */

/* The connection is over, or something else is that cannot be gone on with. */
static void
publish_give_up(struct publish *publish, int status)
{
	cli_complain(publish->cli, "%s; %" PRIu64 " without an acknowledgement",
	    liminal_error_text(publish->conn), liminal_publishes_due(publish->conn));
	publish->status = cli_exit_of(status, 0);
}

/* Publish LEN bytes at the head of the input. 0, LIMINAL_BUSY, or a failure. */
static int
publish_send(struct publish *publish, size_t len)
{
	char key[PUBLISH_KEY_SIZE];
	int r;

	publish->what.payload = buf_head(&publish->input);
	publish->what.len = len;
	if (publish->key != NULL) {
		snprintf(key, sizeof(key), "%s:%" PRIu64, publish->key, publish->n_sent + 1);
		publish->what.key = key;
	}
	r = liminal_publish_with(publish->conn, &publish->what, NULL);
	if (r == LIMINAL_OK)
		publish->n_sent++;
	return r;
}

/* The message at the head of the input: its length and, in *USED, that with its separator.
 * 0 = it is not complete. */
static int
publish_find(struct publish *publish, size_t *len, size_t *used)
{
	const uint8_t *head = buf_head(&publish->input), *end = NULL;
	size_t have = buf_len(&publish->input);

	if (have > publish->scanned)
		end = memchr(head + publish->scanned, publish->separator,
		    have - publish->scanned);
	publish->scanned = have;
	*len = end != NULL ? (size_t)(end - head) : have;
	*used = *len + (end != NULL);
	return end != NULL || (publish->at_end && have > 0);
}

static int
publish_may_send(const struct publish *publish)
{
	return !publish->stopping && liminal_publishes_due(publish->conn) < publish->window;
}

/* Publish what was read, as far as the window lets it. */
static enum publish_next
publish_lines(struct publish *publish)
{
	size_t len, used;
	int r;

	while (publish_may_send(publish)) {
		if (!publish_find(publish, &len, &used))
			return publish->at_end ? PUBLISH_OUTCOMES : PUBLISH_INPUT;
		r = publish_send(publish, len);
		publish->scanned = 0;
		if (r == LIMINAL_BUSY)
			return PUBLISH_OUTCOMES;
		if (r != LIMINAL_OK) {
			cli_complain(publish->cli, "line %" PRIu64 ": %s", publish->n_sent + 1,
			    liminal_error_text(publish->conn));
			publish->stopping = 1;
			publish->status = cli_exit_of(r, 0);
			return PUBLISH_OUTCOMES;
		}
		buf_consume(&publish->input, used);
	}
	return PUBLISH_WINDOW;
}

/* More of standard input. */
static void
publish_read(struct publish *publish)
{
	uint8_t *room = NULL;
	ssize_t n;

	if (buf_len(&publish->input) > publish->cli->max_frame)
		cli_complain(publish->cli, "line %" PRIu64 " is larger than a frame of %zu bytes (-m)",
		    publish->n_sent + 1, publish->cli->max_frame);
	else if ((room = buf_reserve(&publish->input, PUBLISH_READ_SIZE)) == NULL)
		cli_complain(publish->cli, "out of memory");
	if (room == NULL) {
		publish->stopping = 1;
		publish->status = CLI_FAILED;
		return;
	}
	n = read(STDIN_FILENO, room, PUBLISH_READ_SIZE);
	if (n > 0) {
		buf_commit(&publish->input, (size_t)n);
	} else if (n == 0) {
		publish->at_end = 1;
		publish->scanned = 0;
	} else if (errno != EINTR && errno != EAGAIN) {
		cli_complain(publish->cli, "standard input: %s", strerror(errno));
		publish->stopping = 1;
		publish->status = CLI_FAILED;
	}
}

/* Take the outcomes that are there; what is buffered is written. 0, or -1 at the end of all. */
static int
publish_take_outcomes(struct publish *publish)
{
	const struct liminal_ack *ack;
	uint64_t acknowledged;
	int r;

	while ((r = liminal_next_ack(publish->conn, 0, &ack)) == LIMINAL_OK)
		publish_take(publish, ack);
	acknowledged = publish->n_sent - liminal_publishes_due(publish->conn);
	if (acknowledged != publish->acknowledged || acknowledged == publish->n_sent) {
		publish->acknowledged = acknowledged;
		publish->progress_ns = clock_now_ns();
	}
	if (publish_write(publish) != 0) {
		publish->status = CLI_FAILED;
		return -1;
	}
	if (r == LIMINAL_TIMED_OUT || r == LIMINAL_INTERRUPTED)
		return 0;
	publish_give_up(publish, r);
	return -1;
}

/* Wait for what comes NEXT. 0, or -1 when outcomes take too long. */
static int
publish_wait(struct publish *publish, enum publish_next next)
{
	struct pollfd fds[2] = {
		{ .fd = liminal_fd(publish->conn), .events = liminal_poll_events(publish->conn) },
		{ .fd = next == PUBLISH_INPUT ? STDIN_FILENO : -1, .events = POLLIN },
	};
	uint64_t due = liminal_publishes_due(publish->conn);
	int64_t until_ns = INT64_MAX, now_ns = clock_now_ns();

	if (due > 0 && publish->cli->timeout_ms >= 0)
		until_ns = publish->progress_ns + publish->cli->timeout_ms * CLOCK_MS;
	if (now_ns >= until_ns) {
		cli_complain(publish->cli, PUBLISH_TIMED_OUT_TEXT ": %" PRIu64 " are missing", due);
		publish->status = CLI_TIMED_OUT;
		return -1;
	}
	if (poll(fds, 2, clock_poll_ms(until_ns, now_ns)) > 0 && fds[1].revents != 0)
		publish_read(publish);
	return 0;
}

static int
publish_many(struct publish *publish)
{
	enum publish_next next;

	if (!publish->cli->json)
		liminal_set_ack_events(publish->conn, LIMINAL_ACKS_ERRORS);
	publish->progress_ns = clock_now_ns();
	for (;;) {
		next = publish_lines(publish);
		if (publish_take_outcomes(publish) != 0)
			return publish->status;
		if (liminal_publishes_due(publish->conn) == 0 && (publish->stopping ||
		    (publish->at_end && buf_len(&publish->input) == 0)))
			return publish->status;
		/* Nobody wakes us for what fits into the window since. */
		if (next == PUBLISH_WINDOW && publish_may_send(publish))
			continue;
		if (publish_wait(publish, next) != 0)
			return publish->status;
	}
}

int
command_publish(struct cli *cli)
{
	struct publish publish = { .cli = cli, .window = PUBLISH_DEFAULT_WINDOW };
	int status = CLI_FAILED;

	cli->timeout_ms = PUBLISH_DEFAULT_TIMEOUT_MS;
	publish_read_options(&publish);
	publish.what.channel = cli_arguments(cli, 1, 1)[0];
	if (publish.key != NULL && strlen(publish.key) > PUBLISH_KEY_SIZE - 32) {
		cli_complain(cli, "the key is too long");
		return CLI_USAGE;
	}
	if ((publish.many || cli_read_input(cli, &publish.input) == 0) &&
	    (publish.conn = cli_open(cli, cli->timeout_ms, &status)) != NULL)
		status = publish.many ? publish_many(&publish) : publish_one(&publish);
	buf_free(&publish.input);
	buf_free(&publish.output);
	liminal_free(publish.conn);
	return status;
}
