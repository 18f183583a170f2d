/* Where durable subscriptions go on, as the store process keeps it. */
#include "proc/store_publishing.h"

enum { LEFT_OFF, OLDEST, SEQUENCE };

static void
consumers_init(void)
{
	publishing_init();
	spawn_store();
	await_ready();
	connect_to(5);
	publish(5, 1, "0:a 0:b 0:c 0:d 0:e 0:f");
	answers(5, 1);
}

TestSuite(store_consumers, .init = consumers_init, .fini = proc_fini);

static void
post_open(uint64_t request, const char *name, uint32_t start, uint64_t sequence, uint64_t now)
{
	struct consumers_open open = { DURABLE, start, sequence, now };
	struct inbox_entry entry = { .kind = INBOX_CONSUMER_OPEN, .request = request,
	    .conn_id = 5 };
	struct state_txn *txn = write_begin();
	struct buf body = { 0 };

	buf_append(&body, &open, sizeof open);
	buf_append(&body, name, strlen(name));
	entry.len = (uint32_t)buf_len(&body);
	cr_assert(eq(int, inbox_post(txn, INBOX_SERVICE(BOARD_STORE), STORE_SLOT, &entry,
	    buf_head(&body)), 0));
	buf_free(&body);
	commit(txn);
}

/* CURSOR and up to two ranges (0: none). */
static void
post_cursor(const char *name, uint64_t cursor, struct consumers_range first,
    struct consumers_range second)
{
	struct consumers_cursor head = { DURABLE, (uint32_t)strlen(name) };
	struct inbox_entry entry = { .kind = INBOX_CURSOR, .conn_id = 5 };
	struct consumers_row row = { .version = CONSUMERS_VERSION, .cursor = cursor,
	    .since_ns = 1 };
	struct state_txn *txn = write_begin();
	struct buf body = { 0 };

	row.n_ranges = (first.from != 0) + (second.from != 0);
	buf_append(&body, &head, sizeof head);
	buf_append(&body, &row, sizeof row);
	if (first.from != 0)
		buf_append(&body, &first, sizeof first);
	if (second.from != 0)
		buf_append(&body, &second, sizeof second);
	buf_append(&body, name, strlen(name));
	entry.len = (uint32_t)buf_len(&body);
	cr_assert(eq(int, inbox_post(txn, INBOX_SERVICE(BOARD_STORE), STORE_SLOT, &entry,
	    buf_head(&body)), 0));
	buf_free(&body);
	commit(txn);
}

#define NO_RANGE	((struct consumers_range){ 0, 0 })
#define RANGE(a, b)	((struct consumers_range){ a, b })

/* "7", or "7 9-12 14-14": cursor and ranges. */
static const char *
row_text(const void *image, size_t len)
{
	struct consumers_range range;
	struct consumers_row row;
	struct frame_view ranges;
	static char text[256];
	size_t at;

	cr_assert(eq(int, consumers_unpack(image, len, &row, &ranges), 0));
	at = (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)row.cursor);
	for (uint32_t i = 0; i < row.n_ranges; i++) {
		memcpy(&range, ranges.data + i * sizeof range, sizeof range);
		at += (size_t)snprintf(text + at, sizeof text - at, " %llu-%llu",
		    (unsigned long long)range.from, (unsigned long long)range.to);
	}
	return text;
}

static const char *
opened(const struct event *event)
{
	cr_assert(eq(u32, event->kind, INBOX_CONSUMER));
	cr_assert(eq(u32, event->code, 0), "%s", event->text);
	return row_text(event->text, event->len);
}

static const char *
open_as(const char *name, uint32_t start, uint64_t sequence)
{
	post_open(7, name, start, sequence, channel_row(DURABLE).mark.head);
	return opened(&answers(5, 1)->list[0]);
}

/* As it is on disk. */
static const char *
saved(const char *name)
{
	struct frame_view view = act_view(name), ranges;
	struct consumers_row row;
	static char text[256];
	struct state_txn *txn;
	struct buf image = { 0 };

	look_readonly();
	txn = store_look();
	cr_assert(eq(int, consumers_get(txn, 1, &view, &row, &ranges), 0));
	buf_append(&image, &row, sizeof row);
	buf_append(&image, ranges.data, ranges.len);
	state_abort(txn);
	snprintf(text, sizeof text, "%s", row_text(buf_head(&image), buf_len(&image)));
	buf_free(&image);
	return text;
}

Test(store_consumers, a_new_one_begins_where_it_says)
{
	assert_text(open_as("new", LEFT_OFF, 0), "6");
	assert_text(saved("new"), "6");
	assert_text(open_as("oldest", OLDEST, 0), "0");
	assert_text(open_as("fourth", SEQUENCE, 4), "3");
	assert_text(open_as("first", SEQUENCE, 0), "0");
	assert_text(open_as("later", SEQUENCE, 100), "99");
	kill_store();
	assert_text(saved("fourth"), "3");
	assert_text(saved("oldest"), "0");
}

Test(store_consumers, one_goes_on_where_it_left_off)
{
	open_as("c", OLDEST, 0);
	post_cursor("c", 2, RANGE(4, 4), RANGE(6, 6));
	assert_text(open_as("c", LEFT_OFF, 0), "2 4-4 6-6");
	/* the last one of a batch wins, and comes before the next holder's question */
	stop_store();
	post_cursor("c", 2, RANGE(4, 5), NO_RANGE);
	post_cursor("c", 5, NO_RANGE, NO_RANGE);
	post_open(8, "c", LEFT_OFF, 0, 6);
	kill(store_pid, SIGCONT);
	assert_text(opened(&answers(5, 1)->list[0]), "5");
	/* where it says else, it begins there, and what was accepted is forgotten */
	post_cursor("c", 2, RANGE(4, 4), NO_RANGE);
	assert_text(open_as("c", SEQUENCE, 2), "1");
	assert_text(open_as("c", LEFT_OFF, 0), "1");
	kill_store();
	spawn_store();
	await_ready();
	assert_text(open_as("c", LEFT_OFF, 0), "1");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A cursor that nobody waits for is on disk soon. */
Test(store_consumers, a_cursor_is_saved_by_itself)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;

	open_as("c", LEFT_OFF, 0);
	post_cursor("c", 3, NO_RANGE, NO_RANGE);
	while (strcmp(saved("c"), "3") != 0) {
		cr_assert(clock_now_ns() < give_up_ns);
		usleep(2000);
	}
	post_cursor("c", 4, NO_RANGE, NO_RANGE);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	assert_text(saved("c"), "4");
}

Test(store_consumers, what_is_not_kept_is_passed_over)
{
	uint64_t i;

	open_as("c", OLDEST, 0);
	post_cursor("c", 1, RANGE(3, 3), RANGE(8, 9));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	channels[DURABLE].keep_messages = 4;
	spawn_store();
	await_ready();
	for (i = 0; i < 5; i++) {	/* 7 to 11 */
		publish(5, 10 + i, "0:g");
		answers(5, 1);
	}
	/* 8 is the oldest; 8 and 9 were accepted */
	assert_text(open_as("c", LEFT_OFF, 0), "9");
	assert_text(open_as("d", OLDEST, 0), "7");
	post_cursor("c", 1, RANGE(3, 3), RANGE(10, 10));
	assert_text(open_as("c", LEFT_OFF, 0), "7 10-10");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Write LEN bytes where the consumer NAME is; the store process does not run. */
static void
damage(const char *name, const void *row, size_t len)
{
	uint8_t key[64] = { 0, 0, 0, 1 };
	struct state_txn *txn;
	struct state *store;
	struct err err;

	memcpy(key + 4, name, strlen(name));
	cr_assert(eq(int, store_open(&store, conf.persist_dir, &err), 0), "%s", err.text);
	cr_assert(eq(int, state_begin_write(store, &txn), 0));
	cr_assert(eq(int, state_put(txn, STORE_CONSUMERS, key, 4 + strlen(name), row, len), 0));
	cr_assert(eq(int, state_commit(txn), 0));
	state_close(store);
}

/* Beginning at "now" would pass over everything that it has not had. */
Test(store_consumers, one_that_does_not_read_back_says_where_it_begins)
{
	const struct event *event;

	open_as("c", OLDEST, 0);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	damage("c", "damaged", 7);
	spawn_store();
	await_ready();
	post_open(7, "c", LEFT_OFF, 0, 6);
	event = &answers(5, 1)->list[0];
	cr_assert(ne(u32, event->code, 0));
	cr_assert(strstr(event->text, "begin anew") != NULL);
	/* everybody else is served in the same turn, and so is it when it says where */
	assert_text(open_as("d", LEFT_OFF, 0), "6");
	assert_text(open_as("c", SEQUENCE, 3), "2");
	assert_text(open_as("c", LEFT_OFF, 0), "2");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Killed between its commit and its answers: the same answer. */
Test(store_consumers, it_is_answered_by_the_successor)
{
	const struct events *events;
	struct state_txn *lock;

	open_as("c", OLDEST, 0);
	stop_store();
	post_cursor("c", 2, NO_RANGE, NO_RANGE);
	post_open(8, "c", SEQUENCE, 5, 6);
	post_open(9, "new", LEFT_OFF, 0, 6);
	lock = hold_answers();
	kill_store();
	state_abort(lock);
	spawn_store();
	await_ready();
	events = answers(5, 2);
	assert_text(opened(&events->list[0]), "4");
	assert_text(opened(&events->list[1]), "6");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}
