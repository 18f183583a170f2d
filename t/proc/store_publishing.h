/*
 * store_publishing: channels for a store process, and what its tests do with them in a line: hand
 * publishes over, read the answers, look into the logs.
 */
#ifndef LIMINAL_T_PROC_STORE_PUBLISHING_H
#define LIMINAL_T_PROC_STORE_PUBLISHING_H

#include "proc/store_process.h"
#include "state/channels.h"
#include "state/consumers.h"
#include "state/publication.h"
#include "state/store_channels.h"
#include "state/subscriptions.h"

/* The configuration of the tests. */
enum {
	DURABLE, OTHER,		/* durable ones */
	LEADING,		/* ephemeral, its rule leads to DURABLE */
	COPIES,			/* ephemeral, only published to like any */
	N_CHANNELS
};

static struct conf_channel channels[N_CHANNELS];

static inline void
configure(void)
{
	static char names[N_CHANNELS][8] = { "durable", "other", "leading", "copies" };

	for (uint32_t i = 0; i < N_CHANNELS; i++)
		channels[i] = (struct conf_channel){
			.name = names[i], .durable = i <= OTHER, .is_by_store = i <= LEADING,
			.keep_messages = 1000000, .dedup_window_ns = 3600 * CLOCK_SECOND,
			.dedup_keys = 1000
		};
	conf.channels = channels;
	conf.n_channels = N_CHANNELS;
}

static inline void
create_channels(void)
{
	struct err err = { 0 };

	cr_assert(eq(int, channels_create(fixture_dir, &conf, &err), 0), "%s", err.text);
}

/* As .init of a suite. */
static inline void
publishing_init(void)
{
	proc_init();
	configure();
	create_channels();
}

/* A connection of the test's own. */
static inline void
connect_to(uint64_t conn_id)
{
	struct state_txn *txn;

	board_take(fixture_board, 63, BOARD_CONNECTION, conn_id);
	if (fixture_state == NULL)
		fixture_open();
	txn = write_begin();
	cr_assert(eq(int, act_connect(txn, conn_id, 63), 0));
	commit(txn);
}

static inline uint64_t
subscribe(uint64_t conn_id, uint32_t channel)
{
	struct subscriptions_row row = { .version = SUBSCRIPTIONS_VERSION, .channel = channel };
	struct state_txn *txn = write_begin();
	uint64_t id;

	cr_assert(eq(int, channels_subscription_id(txn, &id), 0));
	cr_assert(eq(int, subscriptions_add(txn, conn_id, 63, id, &row, NULL), 0));
	commit(txn);
	return row.base;
}

/* Messages in a line, "0:a 1>b 0#k:c": a for channel 0; b, a copy of it, for channel 1; c for
 * channel 0 under the key k. */
static inline int
publication_body(const char *spec, struct buf *body)
{
	static const uint8_t no_causal[2];
	struct publication_item item;
	const char *end;
	int rc = 0;

	for (; rc == 0 && *spec != '\0'; spec = end + (*end == ' ')) {
		memset(&item, 0, sizeof item);
		end = spec + strcspn(spec, " ");
		item.causal = (struct frame_view){ no_causal, sizeof no_causal };
		item.channel = (uint32_t)strtoul(spec, (char **)(uintptr_t)&spec, 10);
		if (*spec == '#') {
			item.flags |= PUBLICATION_KEYED;
			item.key.data = (const uint8_t *)++spec;
			item.key.len = strcspn(spec, ":>");
			spec += item.key.len;
		}
		item.flags |= *spec++ == '>' ? PUBLICATION_ROUTED : 0;
		item.payload.data = (const uint8_t *)spec;
		item.payload.len = (size_t)(end - spec);
		rc = publication_add(body, &item);
	}
	return rc;
}

static inline int
post_publication(struct state_txn *txn, uint64_t conn_id, uint64_t request,
    const struct buf *body)
{
	const struct inbox_entry entry = { .kind = INBOX_APPEND, .request = request,
	    .conn_id = conn_id, .len = (uint32_t)buf_len(body) };

	return inbox_post(txn, INBOX_SERVICE(BOARD_STORE), STORE_SLOT, &entry, buf_head(body));
}

/* One turn of CONN_ID's process. */
static inline void
publish(uint64_t conn_id, uint64_t request, const char *spec)
{
	struct state_txn *txn = write_begin();
	struct buf body = { 0 };

	cr_assert(eq(int, publication_body(spec, &body), 0));
	cr_assert(eq(int, post_publication(txn, conn_id, request, &body), 0));
	buf_free(&body);
	commit(txn);
}

/* An answer in a line: "3:SD=" is first id 3; stored, delivered, a duplicate; F: keys full. A
 * refusal is its text. */
static inline const char *
told(const struct event *event)
{
	static const char letters[] = "SD=FR";
	struct publication_answer answer;
	static char line[EVENT_TEXT + 32];
	size_t len;

	cr_assert(eq(u32, event->kind, INBOX_APPENDED));
	if (event->code != 0) {
		cr_assert(eq(u32, event->code, FRAME_REASON_OTHER));
		snprintf(line, sizeof line, "%s", event->text);
		return line;
	}
	memcpy(&answer, event->text, sizeof answer);
	cr_assert(eq(u32, event->len, (uint32_t)sizeof answer + answer.n));
	len = (size_t)snprintf(line, sizeof line, "%llu:", (unsigned long long)answer.first_id);
	for (uint32_t i = 0; i < answer.n; i++)
		line[len++] = letters[(uint8_t)event->text[sizeof answer + i]];
	line[len] = '\0';
	return line;
}

/* The answer to one publish of CONN_ID's, which is the only one. */
static inline const char *
told_next(uint64_t conn_id)
{
	return told(&answers(conn_id, 1)->list[0]);
}

/* Looking. */

static inline struct channels_row
channel_row(uint32_t number)
{
	struct state_txn *txn = read_begin();
	struct channels_row row;

	cr_assert(eq(int, channels_get(txn, number, &row), 0));
	state_abort(txn);
	return row;
}

static inline void
look_readonly(void)
{
	struct err err = { 0 };

	state_close(store_env);
	cr_assert(eq(int, store_open_readonly(&store_env, store_dir, &err), 0), "%s", err.text);
}

/* Let the store process, which was stopped, commit what was posted, and keep it from answering: it waits for
 * the state's write lock, which is the test's from here on. */
static inline struct state_txn *
hold_answers(void)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	struct state_txn *lock;
	uint64_t number;

	look_readonly();
	number = state_last_number(store_env);
	lock = write_begin();
	kill(store_pid, SIGCONT);
	while (state_last_number(store_env) == number) {
		cr_assert(clock_now_ns() < give_up_ns, "nothing is committed");
		usleep(1000);
	}
	return lock;
}

/* The payloads of a log, in order, with what came before the first: "3 a b c" begins with
 * message 3. */
static inline const char *
log_text(const struct log *log, const struct log_mark *mark)
{
	static char text[8192];
	struct log_reader reader;
	struct frame frame;
	size_t len, used;
	int rc;

	len = (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)mark->first);
	if (mark->first > mark->head)
		return text;
	cr_assert(eq(int, log_open(&reader, log, mark->first), 0));
	while ((rc = log_next(&reader)) == 0) {
		uint8_t bytes[1024];

		cr_assert(reader.entry.here == reader.entry.len &&
		    reader.entry.len <= sizeof bytes);
		memcpy(bytes, reader.entry.frame, reader.entry.len);
		bytes[LOG_HEAD_STREAM + 3] = 1;
		cr_assert(eq(int, frame_decode(bytes, reader.entry.len, UINT32_MAX, &frame, &used,
		    NULL), FRAME_OK));
		len += (size_t)snprintf(text + len, sizeof text - len, " %.*s",
		    (int)frame.u.deliver.envelope.payload.len,
		    (const char *)frame.u.deliver.envelope.payload.data);
	}
	cr_assert(eq(int, rc, ERR_NOTFOUND));
	log_close(&reader);
	return text;
}

/* Of a durable channel, as the store has it. */
static inline const char *
stored(uint32_t number)
{
	struct store_channels_row row;
	struct state_txn *txn;
	struct log log = { .table = STORE_MESSAGES };
	const char *text;

	look_readonly();
	txn = store_look();
	cr_assert(eq(int, store_channels_get(txn, channels[number].name, &row), 0));
	log.txn = txn;
	log.channel = row.number;
	text = log_text(&log, &row.mark);
	state_abort(txn);
	return text;
}

/* Of an ephemeral one. */
static inline const char *
kept(uint32_t number)
{
	struct channels_row row = channel_row(number);
	struct state_txn *txn = read_begin();
	const struct log log = { txn, STATE_MESSAGES, number };
	const char *text = log_text(&log, &row.mark);

	state_abort(txn);
	return text;
}

#define assert_text(actual, expected) \
	do { \
		const char *actual_ = (actual); \
		cr_assert(strcmp(actual_, (expected)) == 0, "\"%s\", not \"%s\"", actual_, \
		    (expected)); \
	} while (0)

#endif
