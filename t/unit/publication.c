/* publication: items come back as they went in; bytes that are none are refused. */
#include "base/err.h"
#include "state/publication.h"
#include "unit/bytes.h"

TestSuite(publication);

#define VIEW(text)	{ (const uint8_t *)(text), sizeof(text) - 1 }
#define ITEMS		5

static const struct publication_item items[ITEMS] = {
	{ .channel = 7, .causal = VIEW("\0\0"), .payload = VIEW("hello") },
	{ .channel = UINT32_MAX, .flags = PUBLICATION_ROUTED, .payload = VIEW("copy") },
	{ .channel = 0 },
	{ .channel = 1, .flags = PUBLICATION_KEYED, .key = VIEW("") },
	{ .channel = 2, .flags = PUBLICATION_KEYED | PUBLICATION_ROUTED, .key = VIEW("k\0ey"),
	    .causal = VIEW("\1\0\0\0\1p\0"), .payload = VIEW("\0") },
};

static struct buf
make(void)
{
	struct buf body = { 0 };
	size_t i;

	for (i = 0; i < ITEMS; i++)
		cr_assert(zero(int, publication_add(&body, &items[i])));
	return body;
}

static void
assert_view(const struct frame_view *actual, const struct frame_view *expected)
{
	cr_assert(eq(sz, actual->len, expected->len));
	if (expected->len > 0)
		cr_assert(zero(int, memcmp(actual->data, expected->data, expected->len)));
}

static int
compare_next(void *arg, const struct publication_item *item)
{
	const struct publication_item *expected = &items[(*(size_t *)arg)++];

	cr_assert(eq(u32, item->channel, expected->channel));
	cr_assert(eq(u32, item->flags, expected->flags));
	assert_view(&item->key, &expected->key);
	assert_view(&item->causal, &expected->causal);
	assert_view(&item->payload, &expected->payload);
	return 0;
}

Test(publication, items_come_back_in_order)
{
	struct buf body = make();
	size_t n = 0;

	cr_assert(zero(int, publication_each(buf_head(&body), buf_len(&body), compare_next, &n)));
	cr_assert(eq(sz, n, ITEMS));
	buf_free(&body);
}

static int
stop_at_third(void *arg, const struct publication_item *item)
{
	(void)item;
	return ++*(size_t *)arg == 3 ? 42 : 0;
}

Test(publication, a_visitor_ends_the_walk)
{
	struct buf body = make();
	size_t n = 0;

	cr_assert(eq(int, publication_each(buf_head(&body), buf_len(&body), stop_at_third, &n),
	    42));
	cr_assert(eq(sz, n, 3));
	buf_free(&body);
}

static volatile uint64_t sink;

static void
touch_view(const struct frame_view *view)
{
	for (size_t i = 0; i < view->len; i++)
		sink += view->data[i];
}

static int
touch(void *arg, const struct publication_item *item)
{
	++*(size_t *)arg;
	touch_view(&item->key);
	touch_view(&item->causal);
	touch_view(&item->payload);
	return 0;
}

static int
walk(const uint8_t *bytes, size_t len, size_t *n)
{
	*n = 0;
	return publication_each(guarded(bytes, len), len, touch, n);
}

Test(publication, nothing_is_no_item)
{
	size_t n;

	cr_assert(zero(int, walk((const uint8_t *)"", 0, &n)));
	cr_assert(zero(sz, n));
}

/* Cut anywhere but between items, it is refused, and nothing behind the end is read. */
Test(publication, what_is_cut_off_is_refused)
{
	struct buf body = make();
	size_t ends[ITEMS + 1] = { 0 }, len, n, i, whole = 0;
	struct buf part = { 0 };

	for (i = 0; i < ITEMS; i++) {
		cr_assert(zero(int, publication_add(&part, &items[i])));
		ends[i + 1] = buf_len(&part);
	}
	for (len = 0; len <= buf_len(&body); len++) {
		for (i = 0; i <= ITEMS && ends[i] != len; i++)
			;
		whole += i <= ITEMS;
		cr_assert(eq(int, walk(buf_head(&body), len, &n),
		    i <= ITEMS ? 0 : ERR_CORRUPT), "%zu bytes", len);
	}
	cr_assert(eq(sz, whole, ITEMS + 1));
	buf_free(&part);
	buf_free(&body);
}

/* Whatever the bytes are: an end, and nothing outside of them. */
Test(publication, any_bytes)
{
	struct buf body = make();
	uint8_t bytes[256];
	size_t at, i, n;
	int rc;

	for (at = 0; at < buf_len(&body); at++)
		for (i = 1; i < 256; i++) {
			buf_head(&body)[at] ^= (uint8_t)i;
			rc = walk(buf_head(&body), buf_len(&body), &n);
			cr_assert(rc == 0 || rc == ERR_CORRUPT);
			buf_head(&body)[at] ^= (uint8_t)i;
		}
	srand48(5);
	for (i = 0; i < 20000; i++) {
		for (at = 0; at < sizeof bytes; at++)
			bytes[at] = drand48() < 0.7 ? 0 : (uint8_t)(drand48() * 256);
		rc = walk(bytes, (size_t)(drand48() * sizeof bytes), &n);
		cr_assert(rc == 0 || rc == ERR_CORRUPT);
	}
	buf_free(&body);
}
