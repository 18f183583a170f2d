/* custom_router: the question as it lies in the inbox of the router's process. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "role/custom_router.h"

static const uint64_t excluded[] = { 5, UINT64_MAX };

static struct custom_router_question
sample(void)
{
	struct custom_router_question question = {
		.where = { 7 | PENDING_ROUTING, UINT64_MAX - 1, 9 },
		.workflow_id = { (const uint8_t *)"wf-1", 4 },
		.excluded = excluded, .n_excluded = 2,
		.excluded_ids = { (const uint8_t *)"a#5\0b#18446744073709551615", 27 }
	};

	memcpy(question.pool.text, "ns.q", 4);
	question.pool.len = 4;
	return question;
}

Test(custom_router, a_question_arrives_as_it_was_asked)
{
	struct custom_router_question in = sample(), out;
	struct buf body = { 0 };

	cr_assert(eq(int, custom_router_pack(&in, &body), 0));
	cr_assert(eq(int, custom_router_unpack(buf_head(&body), buf_len(&body), &out), 0));
	cr_assert(eq(u64, out.where.pool, in.where.pool));
	cr_assert(eq(u64, out.where.lane, in.where.lane));
	cr_assert(eq(u64, out.where.arrival, in.where.arrival));
	cr_assert(eq(sz, out.pool.len, 4));
	cr_assert(eq(int, memcmp(out.pool.text, "ns.q", 4), 0));
	cr_assert(eq(sz, out.workflow_id.len, 4));
	cr_assert(eq(int, strcmp((const char *)out.workflow_id.data, "wf-1"), 0));
	cr_assert(eq(sz, out.n_excluded, 2));
	cr_assert(eq(u64, out.excluded[1], UINT64_MAX));
	cr_assert(eq(sz, out.excluded_ids.len, in.excluded_ids.len));
	cr_assert(eq(int, strcmp((const char *)out.excluded_ids.data + 4,
	    "b#18446744073709551615"), 0));
	buf_free(&body);
}

Test(custom_router, one_that_says_nothing_but_where_arrives_too)
{
	struct custom_router_question in, out;
	struct buf body = { 0 };

	memset(&in, 0, sizeof in);
	cr_assert(eq(int, custom_router_pack(&in, &body), 0));
	cr_assert(eq(int, custom_router_unpack(buf_head(&body), buf_len(&body), &out), 0));
	cr_assert(eq(sz, out.workflow_id.len, 0));
	cr_assert(eq(sz, out.n_excluded, 0));
	buf_free(&body);
}

/* Each length has memory of its own, so that a look behind it is seen. */
Test(custom_router, a_question_that_is_cut_or_changed_is_refused)
{
	struct custom_router_question in = sample(), out;
	struct buf body = { 0 };
	uint8_t *copy;
	size_t len;

	cr_assert(eq(int, custom_router_pack(&in, &body), 0));
	for (len = 0; len < buf_len(&body); len++) {
		copy = malloc(len + 1);
		memcpy(copy, buf_head(&body), len);
		cr_assert(custom_router_unpack(copy, len, &out) != 0, "%zu bytes", len);
		free(copy);
	}
	/* the ids are one less than the excluded */
	copy = buf_head(&body);
	cr_assert(eq(u8, copy[buf_len(&body) - 1], 0));
	copy[buf_len(&body) - 1] = 'x';
	cr_assert(ne(int, custom_router_unpack(copy, buf_len(&body), &out), 0));
	copy[buf_len(&body) - 1] = 0;
	cr_assert(eq(int, custom_router_unpack(copy, buf_len(&body), &out), 0));
	buf_free(&body);
}
