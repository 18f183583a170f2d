/* buf: the growing byte queue. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

Test(buf, zeroed_struct_is_an_empty_buffer)
{
	struct buf b = { 0 };

	cr_assert(eq(sz, buf_len(&b), 0));
	cr_assert(eq(ptr, buf_head(&b), NULL));
	buf_consume(&b, 0);
	buf_trim(&b, 0);
	cr_assert(eq(int, buf_append(&b, NULL, 0), 0));
	buf_free(&b);
	cr_assert(ne(ptr, buf_reserve(&b, 0), NULL));
	buf_free(&b);
	buf_free(&b);
}

/* Bytes come out as they went in, whatever the sizes of the pieces: the queue always
 * holds the next numbers of one counted sequence. */
Test(buf, keeps_order_over_random_pieces)
{
	uint64_t in = 0, out = 0;
	struct buf b = { 0 };
	unsigned seed = 20260101;

	for (int round = 0; round < 20000; round++) {
		size_t n = (size_t)(rand_r(&seed) % 1000);
		uint8_t *to = buf_reserve(&b, n);

		cr_assert(ne(ptr, to, NULL));
		for (size_t i = 0; i < n; i++)
			to[i] = (uint8_t)(in++ * 31);
		buf_commit(&b, n);
		n = (size_t)rand_r(&seed) % (buf_len(&b) + 1);
		for (size_t i = 0; i < n; i++)
			cr_assert(buf_head(&b)[i] == (uint8_t)(out++ * 31));
		buf_consume(&b, n);
		cr_assert(eq(sz, buf_len(&b), (size_t)(in - out)));
	}
	buf_free(&b);
}

Test(buf, memory_follows_the_content_and_not_the_traffic)
{
	struct buf b = { 0 };
	uint8_t piece[100];

	memset(piece, 'x', sizeof(piece));
	/* never empty, so that nothing but moving can keep it small */
	cr_assert(eq(int, buf_append(&b, piece, 50), 0));
	for (int i = 0; i < 100000; i++) {
		cr_assert(eq(int, buf_append(&b, piece, sizeof(piece)), 0));
		buf_consume(&b, sizeof(piece));
	}
	cr_assert(b.size <= 1024, "%zu bytes for 50", b.size);
	buf_free(&b);
}

Test(buf, reserving_within_the_room_moves_nothing)
{
	struct buf b = { 0 };
	uint8_t *first = buf_reserve(&b, 100);

	buf_commit(&b, 60);
	cr_assert(eq(ptr, buf_reserve(&b, 40), first + 60));
	cr_assert(eq(ptr, buf_head(&b), first));
	buf_free(&b);
}

Test(buf, sizes_that_wrap_are_refused_and_leave_the_content)
{
	struct buf b = { 0 };

	cr_assert(eq(ptr, buf_reserve(&b, SIZE_MAX), NULL));
	cr_assert(eq(int, buf_append(&b, "abc", 3), 0));
	cr_assert(eq(ptr, buf_reserve(&b, SIZE_MAX), NULL));
	cr_assert(eq(ptr, buf_reserve(&b, SIZE_MAX - 2), NULL));
	cr_assert(eq(ptr, buf_reserve(&b, SIZE_MAX / 2 + 1), NULL));
	cr_assert(eq(int, buf_append(&b, "abc", SIZE_MAX), ERR_NOMEM));
	cr_assert(eq(sz, buf_len(&b), 3));
	cr_assert(eq(int, memcmp(buf_head(&b), "abc", 3), 0));
	buf_free(&b);
}

Test(buf, trim_gives_back_only_what_is_empty_and_large)
{
	struct buf b = { 0 };

	cr_assert(ne(ptr, buf_reserve(&b, 100000), NULL));
	buf_commit(&b, 1);
	buf_trim(&b, 4096);
	cr_assert(eq(sz, buf_len(&b), 1));
	buf_consume(&b, 1);
	buf_trim(&b, 1 << 20);
	cr_assert(ne(ptr, b.data, NULL));
	buf_trim(&b, 4096);
	cr_assert(eq(ptr, b.data, NULL));
	cr_assert(eq(sz, b.size, 0));
	buf_free(&b);
}

/* A nearly full buffer that is fed and drained in small pieces must not copy its
 * content for each of them. */
Test(buf, moves_are_paid_for_by_what_was_consumed)
{
	const size_t rounds = 100000, content = 4000;
	struct buf b = { 0 };
	size_t moved = 0, start;
	uint8_t *data;

	cr_assert(ne(ptr, buf_reserve(&b, content), NULL));
	buf_commit(&b, content);
	for (size_t i = 0; i < rounds; i++) {
		data = b.data;
		start = b.start;
		cr_assert(ne(ptr, buf_reserve(&b, 1), NULL));
		if (b.data != data || b.start != start)
			moved += buf_len(&b);
		buf_commit(&b, 1);
		buf_consume(&b, 1);
	}
	cr_assert(moved <= rounds + content, "%zu bytes moved for %zu", moved, rounds);
	buf_free(&b);
}
