/* inflight: a durable subscription's cursor, what is outstanding, what comes again. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "role/inflight.h"

static struct inflight f;

static void
begin(uint32_t max, uint64_t cursor)
{
	cr_assert(zero(int, inflight_init(&f, max, cursor, NULL, 0)));
}

static void
end(void)
{
	inflight_fini(&f);
}

TestSuite(inflight, .fini = end);

/* "first+count", "-" for nothing; the run is taken as delivered. */
static const char *
deliver(uint64_t head)
{
	static char text[64];
	uint64_t first, n = inflight_next(&f, head, &first);

	if (n == 0)
		return "-";
	cr_assert(zero(int, inflight_sent(&f, first, n)));
	snprintf(text, sizeof text, "%llu+%llu", (unsigned long long)first,
	    (unsigned long long)n);
	return text;
}

static int
judge(uint64_t sequence, enum inflight_verdict verdict)
{
	return inflight_judge(&f, sequence, verdict, 100);
}

/* "cursor from-to from-to", as it would be saved. */
static const char *
saved(size_t max)
{
	static char text[512];
	struct consumers_range ranges[16];
	size_t n = inflight_ranges(&f, ranges, max), i;
	int len = snprintf(text, sizeof text, "%llu", (unsigned long long)inflight_cursor(&f));

	cr_assert(n <= inflight_count_ranges(&f));
	for (i = 0; i < n; i++)
		len += snprintf(text + len, sizeof text - (size_t)len, " %llu-%llu",
		    (unsigned long long)ranges[i].from, (unsigned long long)ranges[i].to);
	return text;
}

#define expect_text(got, want) cr_expect(eq(str, (char *)(uintptr_t)(got), \
	    (char *)(uintptr_t)(want)))

Test(inflight, delivers_no_more_than_may_be_outstanding)
{
	begin(3, 0);
	expect_text(deliver(0), "-");
	expect_text(deliver(2), "1+2");
	expect_text(deliver(10), "3+1");
	expect_text(deliver(10), "-");
	judge(2, INFLIGHT_ACCEPT);
	expect_text(deliver(10), "4+1");
	judge(1, INFLIGHT_REJECT);
	judge(3, INFLIGHT_ACCEPT);
	expect_text(deliver(10), "5+2");
	expect_text(deliver(10), "-");
}

Test(inflight, may_write_less_than_it_was_told)
{
	begin(10, 41);
	inflight_sent(&f, 42, 0);
	inflight_sent(&f, 42, 2);
	expect_text(deliver(100), "44+8");
}

Test(inflight, cursor_follows_the_lowest_unsettled)
{
	begin(10, 0);
	expect_text(saved(16), "0");
	deliver(6);
	expect_text(saved(16), "0");
	judge(3, INFLIGHT_ACCEPT);
	judge(4, INFLIGHT_REJECT);
	judge(6, INFLIGHT_ACCEPT);
	expect_text(saved(16), "0 3-4 6-6");
	judge(1, INFLIGHT_ACCEPT);
	expect_text(saved(16), "1 3-4 6-6");
	judge(2, INFLIGHT_ACCEPT);
	expect_text(saved(16), "4 6-6");
	judge(5, INFLIGHT_ACCEPT);
	expect_text(saved(16), "6");
	cr_expect(zero(u32, f.n));
	cr_expect(zero(u32, f.n_runs));
}

Test(inflight, judges_only_what_is_outstanding)
{
	begin(2, 0);
	deliver(5);
	cr_expect(eq(int, judge(3, INFLIGHT_ACCEPT), ERR_NOTFOUND), "not yet delivered");
	cr_expect(eq(int, judge(0, INFLIGHT_ACCEPT), ERR_NOTFOUND));
	cr_expect(eq(int, judge(UINT64_MAX, INFLIGHT_DEFER), ERR_NOTFOUND));
	cr_expect(zero(int, judge(1, INFLIGHT_ACCEPT)));
	cr_expect(eq(int, judge(1, INFLIGHT_ACCEPT), ERR_NOTFOUND), "once only");
	cr_expect(eq(int, judge(1, INFLIGHT_DEFER), ERR_NOTFOUND));
	cr_expect(zero(int, judge(2, INFLIGHT_DEFER)));
	cr_expect(eq(int, judge(2, INFLIGHT_DEFER), ERR_NOTFOUND), "it is not with the client");
	cr_expect(eq(int, inflight_state_of(&f, 1), INFLIGHT_NONE));
	cr_expect(eq(int, inflight_state_of(&f, 2), INFLIGHT_DEFERRED));
	cr_expect(eq(int, inflight_state_of(&f, 3), INFLIGHT_NONE));
	cr_expect(eq(u32, f.n, 1));
}

Test(inflight, deferred_comes_again_in_its_time_and_keeps_its_place)
{
	begin(2, 0);
	deliver(9);
	cr_expect(eq(i64, inflight_next_due(&f), INT64_MAX));
	inflight_judge(&f, 1, INFLIGHT_DEFER, 100);
	expect_text(deliver(9), "-");
	cr_expect(eq(i64, inflight_next_due(&f), 100));
	cr_expect(zero(int, inflight_expire(&f, 99)));
	expect_text(deliver(9), "-");
	cr_expect(eq(int, inflight_expire(&f, 100), 1));
	cr_expect(eq(i64, inflight_next_due(&f), INT64_MAX), "no timer for what waits already");
	expect_text(saved(16), "0");
	expect_text(deliver(9), "1+1");
	expect_text(deliver(9), "-");
	judge(2, INFLIGHT_ACCEPT);
	expect_text(deliver(9), "3+1");
	inflight_judge(&f, 1, INFLIGHT_DEFER, 200);
	inflight_expire(&f, 200);
	expect_text(deliver(9), "1+1");
	judge(1, INFLIGHT_ACCEPT);
	expect_text(saved(16), "2");
}

Test(inflight, deferred_may_be_settled_before_it_comes_again)
{
	begin(2, 0);
	deliver(9);
	judge(1, INFLIGHT_DEFER);
	judge(2, INFLIGHT_DEFER);
	cr_expect(zero(int, judge(1, INFLIGHT_ACCEPT)));
	inflight_expire(&f, 1000);
	cr_expect(zero(int, judge(2, INFLIGHT_REJECT)));
	expect_text(saved(16), "2");
	expect_text(deliver(9), "3+2");
}

Test(inflight, comes_again_in_the_order_of_deferral_and_in_runs)
{
	begin(10, 0);
	deliver(10);
	inflight_judge(&f, 7, INFLIGHT_DEFER, 10);
	inflight_judge(&f, 3, INFLIGHT_DEFER, 11);
	inflight_judge(&f, 4, INFLIGHT_DEFER, 12);
	inflight_judge(&f, 5, INFLIGHT_DEFER, 13);
	inflight_judge(&f, 2, INFLIGHT_DEFER, 14);
	inflight_judge(&f, 9, INFLIGHT_DEFER, 15);
	inflight_expire(&f, 14);
	expect_text(deliver(50), "7+1");
	inflight_sent(&f, 3, 2);	/* the socket took no more */
	expect_text(deliver(50), "5+1");
	expect_text(deliver(50), "2+1");
	expect_text(deliver(50), "-");
	inflight_expire(&f, 15);
	expect_text(deliver(50), "9+1");
	cr_expect(eq(u32, f.n_runs, 1), "what the client has is one run again");
}

Test(inflight, middle_of_what_is_due_is_settled)
{
	begin(10, 0);
	deliver(10);
	judge(3, INFLIGHT_DEFER);
	judge(4, INFLIGHT_DEFER);
	judge(5, INFLIGHT_DEFER);
	judge(8, INFLIGHT_DEFER);
	inflight_expire(&f, 100);
	judge(4, INFLIGHT_ACCEPT);
	expect_text(deliver(10), "3+1");
	expect_text(deliver(10), "5+1");
	expect_text(deliver(10), "8+1");
	expect_text(saved(16), "0 4-4");
}

Test(inflight, goes_on_where_an_earlier_life_left_off)
{
	static const struct consumers_range ranges[] = { { 3, 4 }, { 6, 6 }, { 9, 20 } };

	inflight_init(&f, 100, 1, ranges, 3);
	expect_text(saved(16), "1 3-4 6-6 9-20");
	expect_text(deliver(30), "2+1");
	expect_text(deliver(30), "5+1");
	judge(5, INFLIGHT_ACCEPT);
	expect_text(saved(16), "1 3-6 9-20");
	expect_text(deliver(7), "7+1");
	expect_text(deliver(7), "-");
	expect_text(saved(16), "1 3-6 9-20");
	expect_text(deliver(30), "8+1");
	judge(8, INFLIGHT_ACCEPT);
	judge(2, INFLIGHT_ACCEPT);
	expect_text(saved(16), "6 8-20");
	expect_text(deliver(30), "21+10");
	judge(7, INFLIGHT_ACCEPT);
	expect_text(saved(16), "20");
}

Test(inflight, refuses_ranges_that_cannot_be)
{
	static const struct consumers_range cases[][2] = {
		{ { 5, 6 }, { 9, 9 } },		/* touches the cursor */
		{ { 6, 6 }, { 9, 9 } },
		{ { 7, 6 }, { 9, 9 } },
		{ { 7, 8 }, { 9, 9 } },		/* touch each other */
		{ { 7, 12 }, { 9, 14 } },
		{ { 20, 21 }, { 9, 9 } },
		{ { 7, UINT64_MAX }, { 9, 9 } },
		{ { 7, 7 }, { 9, UINT64_MAX } },
		{ { 0, 1 }, { 9, 9 } },
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		cr_expect(eq(int, inflight_init(&f, 1, 5, cases[i], 2), ERR_CORRUPT), "%zu", i);
		inflight_fini(&f);
	}
	cr_expect(eq(int, inflight_init(&f, 1, UINT64_MAX, NULL, 0), ERR_CORRUPT));
}

Test(inflight, saves_no_more_ranges_than_asked_for)
{
	static const struct consumers_range ahead[] = { { 12, 13 }, { 15, 16 } };
	size_t i;

	inflight_init(&f, 100, 0, ahead, 2);
	deliver(10);
	for (i = 2; i <= 10; i += 2)
		judge(i, INFLIGHT_ACCEPT);
	expect_text(saved(16), "0 2-2 4-4 6-6 8-8 10-10 12-13 15-16");
	expect_text(saved(6), "0 2-2 4-4 6-6 8-8 10-10 12-13");
	expect_text(saved(5), "0 2-2 4-4 6-6 8-8 10-10");
	expect_text(saved(4), "0 2-2 4-4 6-6 8-8");
	expect_text(saved(1), "0 2-2");
	expect_text(saved(0), "0");
}

Test(inflight, what_is_lost_is_settled_but_not_what_the_client_has)
{
	static const struct consumers_range ahead[] = { { 10, 12 }, { 20, 30 } };

	inflight_init(&f, 5, 0, ahead, 2);
	deliver(8);
	judge(2, INFLIGHT_DEFER);
	judge(3, INFLIGHT_DEFER);
	inflight_expire(&f, 100);
	judge(4, INFLIGHT_DEFER);
	/* 1 and 5 are with the client; 2, 3 are due, 4 is deferred; 6 to 9 and 13, 14 are new. */
	cr_expect(eq(u64, inflight_lose(&f, 3), 1));
	cr_expect(eq(u64, inflight_lose(&f, 15), 2 + 4 + 2));
	cr_expect(zero(u64, inflight_lose(&f, 15)));
	cr_expect(eq(u32, f.n, 2));
	expect_text(saved(16), "0 2-4 6-14 20-30");
	cr_expect(eq(i64, inflight_next_due(&f), INT64_MAX));
	expect_text(deliver(40), "15+3");
	cr_expect(zero(int, judge(1, INFLIGHT_ACCEPT)), "its word counts all the same");
	cr_expect(zero(int, judge(5, INFLIGHT_DEFER)));
	inflight_expire(&f, 100);
	cr_expect(eq(u64, inflight_lose(&f, 25), 1 + 2));
	expect_text(saved(16), "14 18-30");
	expect_text(deliver(40), "31+2");
}

Test(inflight, loss_up_to_far_beyond_costs_nothing)
{
	begin(5, 0);
	cr_expect(eq(u64, inflight_lose(&f, UINT64_MAX - 1), UINT64_MAX - 2));
	expect_text(saved(16), "18446744073709551613");
	expect_text(deliver(UINT64_MAX - 1), "18446744073709551614+1");
}

/* A peer may say what it likes; memory goes with what it was sent and not settled, up to a bound. */
Test(inflight, hostile_max_in_flight)
{
	uint64_t i;

	begin(UINT32_MAX, 0);
	expect_text(deliver(UINT64_MAX - 1), "1+1048576");
	expect_text(deliver(UINT64_MAX - 1), "-");
	cr_expect(eq(u32, f.n_runs, 1));
	for (i = 2; i <= INFLIGHT_MAX; i += 2)
		judge(i, INFLIGHT_ACCEPT);
	cr_expect(eq(u32, f.n_runs, INFLIGHT_MAX / 2));
	/* Keeps back the first half for ever. */
	for (i = 0; i < 4; i++) {
		uint64_t first, n = inflight_next(&f, UINT64_MAX - 1, &first), j;

		cr_assert(eq(u64, n, INFLIGHT_MAX / 2));
		inflight_sent(&f, first, n);
		for (j = 0; j < n; j++)
			judge(first + j, INFLIGHT_ACCEPT);
	}
	cr_expect(eq(u32, f.n_runs, INFLIGHT_MAX / 2));
	cr_expect(eq(u32, f.n, INFLIGHT_MAX / 2));
	cr_expect(zero(u64, inflight_cursor(&f)));
	for (i = 1; i < INFLIGHT_MAX; i += 2)
		judge(i, INFLIGHT_DEFER);
	expect_text(deliver(UINT64_MAX - 1), "3145729+524288");
	expect_text(deliver(UINT64_MAX - 1), "-");
	inflight_expire(&f, 100);
	cr_expect(eq(u32, f.n_runs, INFLIGHT_MAX / 2 + 1));
	expect_text(deliver(UINT64_MAX - 1), "1+1");
}

Test(inflight, more_ranges_than_are_saved)
{
	struct consumers_range *ranges;
	size_t n = 2 * CONSUMERS_RANGES_MAX, i;

	begin(UINT32_MAX, 0);
	deliver(4 * CONSUMERS_RANGES_MAX);
	for (i = 1; i <= n; i++)
		judge(2 * i, INFLIGHT_ACCEPT);
	cr_assert(le(sz, n, inflight_count_ranges(&f)));
	ranges = malloc(CONSUMERS_RANGES_MAX * sizeof *ranges);
	cr_assert(eq(sz, inflight_ranges(&f, ranges, CONSUMERS_RANGES_MAX),
	    CONSUMERS_RANGES_MAX));
	inflight_fini(&f);
	cr_assert(zero(int, inflight_init(&f, 10, 0, ranges, CONSUMERS_RANGES_MAX)),
	    "what was saved can be gone on from");
	free(ranges);
	for (i = 1; i <= CONSUMERS_RANGES_MAX; i++) {
		uint64_t first;

		cr_assert(eq(u64, inflight_next(&f, UINT64_MAX - 1, &first), 1));
		cr_assert(eq(u64, first, 2 * i - 1));
		inflight_sent(&f, first, 1);
		judge(first, INFLIGHT_ACCEPT);
	}
	expect_text(deliver(UINT64_MAX - 1), "8193+10");
}

/* Against a model that is a table of all messages, with everything that can happen in any order. */
enum { MODEL_N = 400 };
enum model_state { MODEL_NEW, MODEL_SENT, MODEL_DEFERRED, MODEL_DUE, MODEL_SETTLED };

struct model {
	enum model_state state[MODEL_N + 2];
	int64_t due_ns[MODEL_N + 2];
	uint64_t order[MODEL_N + 2];	/* of the deferral */
	uint64_t n_deferrals;
	uint64_t head, max, oldest;
};

static uint64_t
model_count(const struct model *m, enum model_state from, enum model_state to)
{
	uint64_t n = 0, s;

	for (s = 1; s <= MODEL_N; s++)
		n += m->state[s] >= from && m->state[s] <= to;
	return n;
}

/* The message that is to be delivered now, or 0. */
static uint64_t
model_next(const struct model *m)
{
	uint64_t s, best = 0;

	for (s = 1; s <= MODEL_N; s++)
		if (m->state[s] == MODEL_DUE && (best == 0 || m->order[s] < m->order[best]))
			best = s;
	if (best != 0 || model_count(m, MODEL_SENT, MODEL_DUE) >= m->max)
		return best;
	for (s = 1; s <= m->head; s++)
		if (m->state[s] == MODEL_NEW)
			return s;
	return 0;
}

static void
model_deliver(struct model *m)
{
	uint64_t first, n = inflight_next(&f, m->head, &first), want, i;

	want = model_next(m);
	cr_assert(eq(int, n > 0, want != 0));
	if (n == 0)
		return;
	cr_assert(eq(u64, first, want));
	if (rand() % 2)
		n = (uint64_t)rand() % (n + 1);
	cr_assert(zero(int, inflight_sent(&f, first, n)));
	for (i = 0; i < n; i++) {
		cr_assert(eq(u64, model_next(m), first + i));
		m->state[first + i] = MODEL_SENT;
	}
}

static void
model_judge(struct model *m, int64_t now_ns)
{
	uint64_t s = (uint64_t)rand() % (m->head + 2);
	enum inflight_verdict verdict = (enum inflight_verdict)(rand() % 3);
	int is_open = m->state[s] == MODEL_SENT ||
	    (verdict != INFLIGHT_DEFER && m->state[s] != MODEL_NEW && m->state[s] != MODEL_SETTLED);

	if (s == 0)
		is_open = 0;
	cr_assert(eq(int, inflight_judge(&f, s, verdict, now_ns + 10),
	    is_open ? 0 : ERR_NOTFOUND));
	if (!is_open)
		return;
	m->state[s] = verdict == INFLIGHT_DEFER ? MODEL_DEFERRED : MODEL_SETTLED;
	m->due_ns[s] = now_ns + 10;
	m->order[s] = ++m->n_deferrals;
}

static void
model_lose(struct model *m)
{
	uint64_t s, n = 0;

	m->oldest += (uint64_t)rand() % 8;
	if (m->oldest > m->head + 1)
		m->oldest = m->head + 1;
	for (s = 1; s < m->oldest; s++)
		if (m->state[s] != MODEL_SENT && m->state[s] != MODEL_SETTLED) {
			m->state[s] = MODEL_SETTLED;
			n++;
		}
	cr_assert(eq(u64, inflight_lose(&f, m->oldest), n));
}

static void
model_expire(struct model *m, int64_t now_ns)
{
	int64_t next = INT64_MAX;
	uint64_t s;
	int found = 0;

	for (s = 1; s <= MODEL_N; s++) {
		if (m->state[s] != MODEL_DEFERRED)
			continue;
		if (m->due_ns[s] <= now_ns) {
			m->state[s] = MODEL_DUE;
			found = 1;
		} else if (m->due_ns[s] < next)
			next = m->due_ns[s];
	}
	cr_assert(eq(int, inflight_expire(&f, now_ns), found));
	cr_assert(eq(i64, inflight_next_due(&f), next));
}

/* What is saved says of each message whether it is settled; MAX ranges of it are an honest beginning. */
static size_t
model_compare(const struct model *m, struct consumers_range *ranges, size_t max)
{
	size_t n = inflight_ranges(&f, ranges, max), i = 0;
	uint64_t cursor = inflight_cursor(&f), s, before = cursor;
	int is_settled;

	cr_assert(le(sz, n, max));
	for (i = 0; i < n; i++) {
		cr_assert(lt(u64, before + 1, ranges[i].from), "apart, beyond the cursor");
		cr_assert(le(u64, ranges[i].from, ranges[i].to));
		before = ranges[i].to;
	}
	for (s = 1, i = 0; s <= MODEL_N; s++) {
		while (i < n && ranges[i].to < s)
			i++;
		if (i == n && n == max)
			break;
		is_settled = s <= cursor || (i < n && ranges[i].from <= s);
		cr_assert(eq(int, is_settled, m->state[s] == MODEL_SETTLED), "%llu",
		    (unsigned long long)s);
	}
	cr_assert(eq(u32, f.n, (uint32_t)model_count(m, MODEL_SENT, MODEL_DUE)));
	return n;
}

/* The consumer's connection ends and another begins: what is not settled is new. */
static void
model_restart(struct model *m)
{
	struct consumers_range ranges[MODEL_N];
	size_t n = model_compare(m, ranges, MODEL_N);
	uint64_t cursor = inflight_cursor(&f), s;

	inflight_fini(&f);
	m->max = 1 + (uint64_t)rand() % 40;
	cr_assert(zero(int, inflight_init(&f, (uint32_t)m->max, cursor, ranges, n)));
	for (s = 1; s <= MODEL_N; s++)
		if (m->state[s] != MODEL_SETTLED)
			m->state[s] = MODEL_NEW;
}

static void
model_run(unsigned seed)
{
	struct consumers_range ranges[MODEL_N];
	static struct model m;
	int64_t now_ns = 0;
	int i;

	srand(seed);
	memset(&m, 0, sizeof m);
	m.max = 1 + (uint64_t)rand() % 40;
	m.oldest = 1;
	inflight_init(&f, (uint32_t)m.max, 0, NULL, 0);
	for (i = 0; i < 3000; i++) {
		switch (rand() % 12) {
		case 0:
			m.head += m.head < MODEL_N - 1 ? (uint64_t)rand() % 2 : 0;
			break;
		case 1: case 2: case 3:
			model_deliver(&m);
			break;
		case 4:
			model_expire(&m, now_ns += rand() % 8);
			break;
		case 5:
			if (rand() % 20 == 0)
				model_lose(&m);
			break;
		case 6:
			if (rand() % 100 == 0)
				model_restart(&m);
			break;
		default:
			model_judge(&m, now_ns);
			break;
		}
		model_compare(&m, ranges, rand() % 2 ? MODEL_N : (size_t)(rand() % 5));
	}
	inflight_fini(&f);
}

Test(inflight, agrees_with_a_table_of_all_messages)
{
	unsigned seed;

	for (seed = 1; seed <= 100; seed++)
		model_run(seed);
}
