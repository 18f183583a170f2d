/*
 * fuzz typed: any bytes as the payload of a dispatch, in both directions. Every verdict
 * is fine; what is accepted must keep its promises to the rest of the daemon.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "form/typed.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
check_request(const uint8_t *data, size_t size)
{
	struct err err = { 0, 0, "" };
	struct typed_request r;
	struct buf input = { 0 };

	switch (typed_request_parse(data, size, &r, &err)) {
	case TYPED_OPAQUE:
		break;
	case TYPED_INVALID:
		must(err.code < 0 && err.text[0] != '\0');
		break;
	case TYPED_REQUEST:
		must(r.conversation_id != NULL && r.activity_type[0] != '\0');
		must(r.schedule_to_close_ns >= 0 && r.start_to_close_ns >= 0 && r.ordinal >= 0);
		must(!r.node_required || r.node != NULL);
		must(typed_request_input(data, size, &input, &err) == 0);
		typed_request_free(&r);
		break;
	}
	buf_free(&input);
}

static void
check_response(const uint8_t *data, size_t size)
{
	struct err err = { 0, 0, "" };
	struct typed_response r, again;
	struct buf out = { 0 }, named = { 0 };
	enum typed_result verdict = typed_response_parse(data, size, &r, &err);

	if (verdict == TYPED_RESULT_INVALID) {
		must(err.code < 0 && err.text[0] != '\0');
		return;
	}
	must((verdict == TYPED_FAILED) == (r.error != NULL));
	if (verdict == TYPED_COMPLETED)
		must(typed_response_output(data, size, &out, &err) == 0);
	if (!r.has_worker_id) {
		must(typed_response_with_worker(data, size, "w#1", &named) == 0);
		must(typed_response_parse(buf_head(&named), buf_len(&named), &again, &err) ==
		    verdict);
		must(again.has_worker_id);
		typed_response_free(&again);
	}
	typed_response_free(&r);
	buf_free(&out);
	buf_free(&named);
}

/* The same bytes as the data of a request come back as they went in. */
static void
check_built(const uint8_t *data, size_t size)
{
	struct typed_call call = { .activity_type = "a", .task_queue = "q",
	    .conversation_id = "c", .data = data, .len = size };
	struct buf out = { 0 }, back = { 0 };

	must(typed_request_build(&call, &out) == 0);
	must(typed_request_input(buf_head(&out), buf_len(&out), &back, NULL) == 0);
	must(buf_len(&back) == size && (size == 0 || memcmp(buf_head(&back), data, size) == 0));
	buf_free(&out);
	buf_free(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_request(data, size);
	check_response(data, size);
	check_built(data, size);
	return 0;
}
