/* inbox: what arrives, in which order, and for whom. */
#include "unit/state_fixture.h"

TestSuite(state_inbox, .init = fixture_init, .fini = fixture_fini);

static void
post(struct state_txn *txn, uint64_t target, uint64_t request, const void *body, size_t len)
{
	struct inbox_entry entry = { .kind = INBOX_FAILED, .len = (uint32_t)len,
	    .request = request, .conn_id = 99, .code = 0x0107 };

	cr_assert(eq(int, inbox_post(txn, target, (uint32_t)target, &entry, body), 0));
}

static void
connect_all(void)
{
	struct state_txn *txn = write_begin();

	add_connections(txn, 1, 20);
	commit(txn);
}

Test(state_inbox, entries_come_back_whole_and_in_order)
{
	const struct events *events;
	struct state_txn *txn;
	char text[32];
	int i;

	connect_all();
	txn = write_begin();
	for (i = 0; i < 20; i++) {
		snprintf(text, sizeof text, "body %d", i);
		post(txn, 5, (uint64_t)i, text, i == 7 ? 0 : strlen(text));
	}
	commit(txn);
	events = inbox_of(5);
	cr_assert(eq(uint, events->n, 20));
	cr_assert(eq(uint, events->rows, 1));
	for (i = 0; i < 20; i++) {
		snprintf(text, sizeof text, "body %d", i);
		cr_assert(eq(u64, events->list[i].request, (uint64_t)i));
		cr_assert(eq(u32, events->list[i].kind, INBOX_FAILED));
		cr_assert(eq(u32, events->list[i].code, 0x0107));
		cr_assert(eq(u64, events->list[i].conn_id, 99));
		cr_assert(eq(int, strcmp(events->list[i].text, i == 7 ? "" : text), 0));
	}
}

Test(state_inbox, a_transaction_costs_one_row_for_each_target)
{
	struct state_txn *txn;
	uint64_t id;
	int i;

	connect_all();
	txn = write_begin();
	for (i = 0; i < 60; i++)
		for (id = 1; id <= 20; id++)
			post(txn, id, (uint64_t)i, "x", 1);
	/* nobody sees any of it before the commit */
	cr_assert(eq(u64, state_count(txn, STATE_INBOX), 0));
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_INBOX), 20));
	for (id = 1; id <= 20; id++)
		cr_assert(eq(uint, inbox_of(id)->n, 60));
}

/* Bodies of up to the largest frame, mixed with small ones: none is cut, none overtakes. */
Test(state_inbox, large_bodies_keep_the_order)
{
	static const size_t sizes[] = { 10, 65535, 0, 65536, 1, 1 << 20, 16 << 20, 3, 70000 };
	const size_t n = sizeof sizes / sizeof sizes[0];
	uint8_t *body = malloc(16 << 20);
	const struct events *events;
	struct state_txn *txn;
	size_t i;

	connect_all();
	txn = write_begin();
	for (i = 0; i < n; i++) {
		memset(body, 'a' + (int)i, sizes[i]);
		post(txn, 3, i, body, sizes[i]);
		post(txn, 4, 100 + i, "small", 5);
	}
	commit(txn);
	events = inbox_of(3);
	cr_assert(eq(uint, events->n, (unsigned)n));
	cr_assert(lt(uint, 1, events->rows));
	for (i = 0; i < n; i++) {
		cr_assert(eq(u64, events->list[i].request, i));
		cr_assert(eq(u32, events->list[i].len, (uint32_t)sizes[i]));
		if (sizes[i] > 0)
			cr_assert(eq(chr, events->list[i].text[0], (char)('a' + (int)i)));
	}
	cr_assert(eq(uint, inbox_of(4)->n, (unsigned)n));
	cr_assert(eq(uint, inbox_of(4)->rows, 1));
	free(body);
}

struct last { const uint8_t *want; size_t len; int n; };

static int
compare_body(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct last *last = arg;

	cr_assert(eq(u32, entry->len, (uint32_t)last->len));
	cr_assert(eq(int, memcmp(body, last->want, last->len), 0));
	last->n++;
	return 0;
}

Test(state_inbox, every_byte_of_a_large_body_arrives)
{
	const size_t len = (16 << 20) - 5;
	uint8_t *body = malloc(len);
	struct last last = { body, len, 0 };
	struct state_txn *txn;
	unsigned rows;
	size_t i;

	connect_all();
	for (i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 2654435761U >> 13);
	txn = write_begin();
	post(txn, 3, 1, body, len);
	commit(txn);
	txn = read_begin();
	cr_assert(eq(int, inbox_read(txn, 3, 0, &rows, compare_body, &last), 0));
	state_abort(txn);
	cr_assert(eq(int, last.n, 1));
	free(body);
}

Test(state_inbox, what_is_for_nobody_is_dropped)
{
	uint8_t *large = calloc(1, 200000);
	struct state_txn *txn;

	connect_all();
	txn = write_begin();
	post(txn, 21, 1, "never there", 11);
	post(txn, 21, 2, large, 200000);
	post(txn, 7, 3, "ends in this transaction", 24);
	post(txn, 7, 4, large, 200000);
	end(txn, 7, "over");
	post(txn, 7, 5, "ended in this transaction", 25);
	post(txn, 8, 6, "alive", 5);
	commit(txn);
	txn = write_begin();
	post(txn, 7, 7, "ended before", 12);
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_INBOX), 1));
	cr_assert(eq(u64, inbox_of(8)->list[0].request, 6));
	free(large);
}

static int
stop_at_two(void *arg, const struct inbox_entry *entry, const void *body)
{
	(void)body;
	*(uint64_t *)arg = entry->request;
	return entry->request == 2 ? 17 : 0;
}

/* The owner reads what is new since its last snapshot and removes that, whatever has come
 * between. */
Test(state_inbox, reading_on_and_removing_what_was_read)
{
	struct events *events = calloc(1, sizeof *events);
	struct state_txn *txn;
	uint64_t seen, at = 0;
	unsigned rows;

	connect_all();
	for (uint64_t i = 1; i <= 3; i++) {
		txn = write_begin();
		post(txn, 2, i, "old", 3);
		commit(txn);
	}
	txn = read_begin();
	cr_assert(eq(int, inbox_read(txn, 2, 0, &rows, events_collect, events), 0));
	cr_assert(eq(int, inbox_read(txn, 2, 0, &rows, stop_at_two, &at), 17));
	cr_assert(eq(u64, at, 2));
	seen = state_snapshot_id(txn);
	cr_assert(eq(int, inbox_read(txn, 2, seen, &rows, events_collect, events), 0));
	cr_assert(eq(uint, rows, 0));
	state_abort(txn);
	cr_assert(eq(uint, events->n, 3));
	txn = write_begin();
	post(txn, 2, 4, "new", 3);
	post(txn, 3, 5, "another's", 9);
	commit(txn);
	txn = read_begin();
	events->n = 0;
	cr_assert(eq(int, inbox_read(txn, 2, seen, &rows, events_collect, events), 0));
	state_abort(txn);
	cr_assert(eq(uint, rows, 1));
	cr_assert(eq(uint, events->n, 1));
	cr_assert(eq(u64, events->list[0].request, 4));
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, 2, seen), 0));
	cr_assert(eq(int, inbox_remove(txn, 2, seen), 0));
	commit(txn);
	cr_assert(eq(uint, inbox_of(2)->n, 1));
	cr_assert(eq(u64, inbox_of(2)->list[0].request, 4));
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, 2, UINT64_MAX), 0));
	commit(txn);
	cr_assert(eq(uint, inbox_of(2)->n, 0));
	cr_assert(eq(uint, inbox_of(3)->n, 1));
	free(events);
}

/* Neighbours by number share no inbox. */
Test(state_inbox, the_next_connection_is_another)
{
	struct state_txn *txn;

	connect_all();
	txn = write_begin();
	cr_assert(eq(int, act_connect(txn, 256, 1), 0));
	cr_assert(eq(int, act_connect(txn, 257, 1), 0));
	post(txn, 1, 1, "a", 1);
	post(txn, 256, 2, "b", 1);
	post(txn, 257, 3, "c", 1);
	commit(txn);
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, 256, UINT64_MAX), 0));
	commit(txn);
	cr_assert(eq(uint, inbox_of(1)->n, 1));
	cr_assert(eq(uint, inbox_of(256)->n, 0));
	cr_assert(eq(uint, inbox_of(257)->n, 1));
}

/* However many targets there are, from one transaction to the next: a row each, and each its own. */
Test(state_inbox, crowds)
{
	static const uint64_t crowd[] = { 3000, 5, 16, 17, 18, 1, 2999, 40 };
	struct state_txn *txn = write_begin();
	const struct events *events;
	uint64_t id, round;
	size_t i;

	add_connections(txn, 1, 3000);
	commit(txn);
	for (i = 0; i < sizeof crowd / sizeof crowd[0]; i++) {
		txn = write_begin();
		for (round = 1; round <= 3; round++)
			for (id = 1; id <= crowd[i]; id++)
				post(txn, id, id * 10 + round, "x", 1);
		commit(txn);
		cr_assert(eq(u64, rows_in(STATE_INBOX), crowd[i]));
		for (id = 1; id <= crowd[i]; id++) {
			events = inbox_of(id);
			cr_assert(eq(uint, events->n, 3));
			for (round = 1; round <= 3; round++)
				cr_assert(eq(u64, events->list[round - 1].request, id * 10 + round));
		}
		txn = write_begin();
		for (id = 1; id <= crowd[i]; id++)
			cr_assert(zero(int, inbox_remove(txn, id, UINT64_MAX)));
		commit(txn);
	}
}
