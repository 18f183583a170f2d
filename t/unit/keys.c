/* keys: remembered until their time has passed, to the nanosecond, and no more of them than allowed. */
#include "state/keys.h"
#include "unit/store_fixture.h"

static void
keys_setup(void)
{
	fixture_init();
	store_init();
}

static void
keys_fini(void)
{
	int rules = store_check();

	store_fini();
	fixture_fini();
	fixture_must_be_kept(rules);
}

TestSuite(keys, .init = keys_setup, .fini = keys_fini);

#define NONE	UINT64_MAX

/* Each test is about one channel, in either environment. */
static enum keys_place where;
static uint32_t channel;

static struct keys
keys_begin(int is_write)
{
	struct keys keys = { .place = where, .channel = channel };

	cr_assert(zero(int, (is_write ? state_begin_write : state_begin_read)(
	    where == KEYS_IN_STATE ? fixture_state : store_env, &keys.txn)));
	return keys;
}

static int
find(const char *key, int64_t now)
{
	struct keys keys = keys_begin(0);
	int rc = keys_find(&keys, key, strlen(key), now, NULL);

	state_abort(keys.txn);
	return rc;
}

static int
put(const char *key, int64_t until, uint64_t limit)
{
	const struct keys_row row = { .until_ns = until, .row = 11, .item = 22 };
	struct keys keys = keys_begin(1);
	int rc = keys_put(&keys, key, strlen(key), &row, limit);

	cr_assert(zero(int, state_commit(keys.txn)));
	return rc;
}

static int64_t next_ns;

static int
trim_keys(int64_t now, int limit)
{
	struct keys keys = keys_begin(1);
	int rc = keys_trim(&keys, now, limit, &next_ns);

	cr_assert(zero(int, state_commit(keys.txn)));
	return rc;
}

static void
remembers(void)
{
	struct keys_row row;
	struct keys keys;

	cr_assert(zero(int, find("a", 0)));
	cr_assert(zero(int, put("a", 100, NONE)));
	cr_assert(eq(int, find("a", 0), 1));
	cr_assert(eq(int, find("a", 99), 1));
	cr_assert(zero(int, find("a", 100)));
	cr_assert(zero(int, find("A", 0)));
	cr_assert(zero(int, find("", 0)));
	cr_assert(zero(int, put("", 100, NONE)), "an empty key is one");
	cr_assert(eq(int, find("", 0), 1));
	channel++;
	cr_assert(zero(int, find("a", 0)), "each channel has its own");
	channel--;
	keys = keys_begin(0);
	cr_assert(eq(int, keys_find(&keys, "a", 1, 0, &row), 1));
	state_abort(keys.txn);
	cr_assert(eq(i64, row.until_ns, 100));
	cr_assert(eq(u64, row.row, 11));
	cr_assert(eq(u32, row.item, 22));
}

Test(keys, the_state_remembers)
{
	remembers();
}

Test(keys, the_store_remembers)
{
	where = KEYS_IN_STORE;
	remembers();
	store_reopen();
	cr_assert(eq(int, find("a", 0), 1), "also when it is opened again");
}

Test(keys, a_key_of_any_length)
{
	static char key[100000];

	memset(key, 'k', sizeof key - 1);
	cr_assert(zero(int, put(key, 100, NONE)));
	cr_assert(eq(int, find(key, 0), 1));
	key[sizeof key - 2] = 'l';
	cr_assert(zero(int, find(key, 0)));
}

Test(keys, what_is_forgotten_may_be_put_again)
{
	put("a", 100, 1);
	cr_assert(zero(int, put("a", 200, 1)), "in its own place: no limit counts it twice");
	cr_assert(eq(int, find("a", 150), 1));
	cr_assert(zero(int, trim_keys(150, 10)), "nothing of the first time is left");
	cr_assert(eq(i64, next_ns, 200));
	cr_assert(eq(int, trim_keys(200, 10), 1));
	cr_assert(eq(u64, rows_in(STATE_KEYS), 0), "not even a count");
	cr_assert(eq(u64, rows_in(STATE_KEYS_BY_AGE), 0));
}

Test(keys, trimming_is_bounded_and_in_order)
{
	char key[2] = "a";
	int i;

	/* Neighbours that are not meant. */
	channel = 4;
	put("old", 1, NONE);
	channel = 6;
	put("old", 1, NONE);
	channel = 5;
	for (i = 0; i < 10; i++, key[0]++)
		cr_assert(zero(int, put(key, 100 + 10 * ((i * 7) % 10), NONE)));
	cr_assert(zero(int, trim_keys(99, 100)));
	cr_assert(eq(i64, next_ns, 100));
	cr_assert(eq(int, trim_keys(145, 3), 3));
	cr_assert(eq(i64, next_ns, 130), "the limit left one that is due");
	cr_assert(eq(int, trim_keys(145, 0), 0));
	cr_assert(eq(i64, next_ns, 130));
	cr_assert(eq(int, trim_keys(145, 100), 2));
	cr_assert(eq(i64, next_ns, 150));
	for (i = 0, key[0] = 'a'; i < 10; i++, key[0]++)
		cr_assert(eq(int, find(key, 0), 100 + 10 * ((i * 7) % 10) > 145));
	cr_assert(eq(int, trim_keys(INT64_MAX, 100), 5));
	cr_assert(eq(i64, next_ns, INT64_MAX));
	channel = 4;
	cr_assert(eq(int, find("old", 0), 1));
	channel = 6;
	cr_assert(eq(int, find("old", 0), 1));
}

Test(keys, no_more_than_allowed)
{
	cr_assert(zero(int, put("a", 100, 3)));
	cr_assert(zero(int, put("b", 200, 3)));
	cr_assert(zero(int, put("c", 300, 3)));
	cr_assert(eq(int, put("d", 400, 3), ERR_BUSY));
	cr_assert(zero(int, find("d", 0)), "it is not half there");
	channel = 1;
	cr_assert(zero(int, put("d", 400, 3)), "each channel has its own limit");
	channel = 0;
	/* One that is forgotten makes room, as soon as it is trimmed. */
	cr_assert(eq(int, trim_keys(100, 1), 1));
	cr_assert(zero(int, put("d", 400, 3)));
	cr_assert(eq(int, put("e", 400, 3), ERR_BUSY));
	cr_assert(zero(int, put("e", 400, 4)));
	cr_assert(eq(int, put("f", 400, 0), ERR_BUSY));
}

/* As a publisher does it: at any time exactly the newest LIMIT keys that are still remembered. */
Test(keys, many_against_a_model)
{
	enum { KEYS = 400, LIMIT = 50 };
	int64_t until[KEYS] = { 0 }, now = 0;
	int i, j, n, live, rc;
	struct keys_row row = { 0 };
	struct keys keys;
	char key[16];

	srand48(99);
	for (i = 0; i < 4000; i++) {
		now += (int64_t)(drand48() * 10);
		n = (int)(drand48() * KEYS);
		sprintf(key, "key %d", n);
		for (j = 0, live = 0; j < KEYS; j++)
			live += until[j] > now;
		keys = keys_begin(1);
		rc = keys_find(&keys, key, strlen(key), now, NULL);
		cr_assert(eq(int, rc, until[n] > now));
		if (rc == 0) {
			cr_assert(ge(int, keys_trim(&keys, now, 2, NULL), 0));
			row.until_ns = now + 1 + (int64_t)(drand48() * 500);
			rc = keys_put(&keys, key, strlen(key), &row, LIMIT);
			cr_assert(eq(int, rc, live < LIMIT ? 0 : ERR_BUSY), "%d live", live);
			if (rc == 0)
				until[n] = row.until_ns;
		}
		cr_assert(zero(int, state_commit(keys.txn)));
	}
}
