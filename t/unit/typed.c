/* typed: the payload forms of a dispatch, as callers and workers may write them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "form/typed.h"

#define REQUEST		"\"content_type\":\"" TYPED_REQUEST_TYPE "\""
#define RESPONSE	"\"content_type\":\"" TYPED_RESPONSE_TYPE "\""
#define INPUT		"\"input\":{\"content_type\":\"a/b\",\"data\":\"hi\"}"
#define BODY		"\"activity_type\":\"charge\",\"task_queue\":\"q\"," INPUT
#define COMPLETED(x)	"{" RESPONSE ",\"worker_id\":\"w#1\",\"result\":{\"status\":\"completed\"," x "}}"

/* An allocation of exactly the payload's size, so that a sanitizer sees its end. */
static uint8_t *
payload_of(const char *text, size_t *len)
{
	uint8_t *bytes;

	*len = strlen(text);
	bytes = malloc(*len > 0 ? *len : 1);
	memcpy(bytes, text, *len);
	return bytes;
}

static enum typed_form
parse(const char *text, struct typed_request *out, struct err *err)
{
	size_t len;
	uint8_t *payload = payload_of(text, &len);
	enum typed_form form = typed_request_parse(payload, len, out, err);

	free(payload);
	return form;
}

static void
assert_opaque(const char *text)
{
	struct typed_request request;

	cr_assert(eq(int, parse(text, &request, NULL), TYPED_OPAQUE), "%s", text);
}

/* Refused, and the reason says what about. */
static void
assert_refused(const char *text, const char *about)
{
	struct typed_request request;
	struct err err = { 0, 0, "" };

	cr_assert(eq(int, parse(text, &request, &err), TYPED_INVALID), "%s", text);
	cr_assert(strstr(err.text, about) != NULL, "%s: %s", text, err.text);
	cr_assert(eq(int, err.code, ERR_INVALID));
}

static enum typed_result
judge(const char *text, struct typed_response *out, struct err *err)
{
	size_t len;
	uint8_t *payload = payload_of(text, &len);
	enum typed_result verdict = typed_response_parse(payload, len, out, err);

	free(payload);
	return verdict;
}

static void
assert_bad_response(const char *text, const char *about)
{
	struct typed_response response;
	struct err err = { 0, 0, "" };

	cr_assert(eq(int, judge(text, &response, &err), TYPED_RESULT_INVALID), "%s", text);
	cr_assert(strstr(err.text, about) != NULL, "%s: %s", text, err.text);
	cr_assert(eq(ptr, response.error, NULL));
}

static void
assert_output(const char *text, const char *want, size_t want_len)
{
	struct buf out = { 0 };
	struct err err = { 0, 0, "" };
	size_t len;
	uint8_t *payload = payload_of(text, &len);

	cr_assert(eq(int, typed_response_output(payload, len, &out, &err), 0), "%s: %s", text,
	    err.text);
	cr_assert(buf_len(&out) == want_len && (want_len == 0 ||
	    memcmp(buf_head(&out), want, want_len) == 0), "%s", text);
	buf_free(&out);
	free(payload);
}

Test(typed, whatever_is_no_typed_object_is_opaque)
{
	assert_opaque("");
	assert_opaque("hello");
	assert_opaque("   \n\t");
	assert_opaque("{");
	assert_opaque("{}");
	assert_opaque("[{" REQUEST "}]");
	assert_opaque("\"" TYPED_REQUEST_TYPE "\"");
	assert_opaque("{\"content_type\":\"application/json\",\"request\":1}");
	assert_opaque("{\"content_type\":\"" TYPED_REQUEST_TYPE ";v=1\"}");
	assert_opaque("{\"content_type\":\"" TYPED_REQUEST_TYPE "\\u0000\"}");
	assert_opaque("{\"a\":{" REQUEST "}}");
	assert_opaque("{\"content_type\":[\"" TYPED_REQUEST_TYPE "\"]}");
	assert_opaque("{\"a\":\"\\u0041\"}");
	/* no JSON at all */
	assert_opaque("{" REQUEST);
	assert_opaque("{" REQUEST ",\"request\":{" BODY "}} x");
	assert_opaque("{" REQUEST ",'request':1}");
	assert_opaque("{" REQUEST ",\"a\":\"\xff\"}");
}

Test(typed, request_with_everything)
{
	struct typed_request r;

	cr_assert(eq(int, parse(" {" REQUEST ",\"conversation_id\":\"c1\",\"workflow_id\":\"wf\","
	    "\"ordinal\":3,\"extra\":[1,{}],\"request\":{" BODY ",\"node\":\"n1\","
	    "\"node_required\":true,\"schedule_to_close_timeout_ms\":1500,"
	    "\"start_to_close_timeout_ms\":1}} \n", &r, NULL), TYPED_REQUEST));
	cr_assert(eq(str, r.conversation_id, (char []){ "c1" }));
	cr_assert(eq(str, r.activity_type, (char []){ "charge" }));
	cr_assert(eq(str, r.workflow_id, (char []){ "wf" }));
	cr_assert(eq(str, r.node, (char []){ "n1" }));
	cr_assert(eq(int, r.node_required, 1));
	cr_assert(eq(int, r.has_ordinal, 1));
	cr_assert(eq(i64, r.ordinal, 3));
	cr_assert(eq(i64, r.schedule_to_close_ns, INT64_C(1500000000)));
	cr_assert(eq(i64, r.start_to_close_ns, 1000000));
	typed_request_free(&r);
	typed_request_free(&r);
}

Test(typed, optional_members_may_be_absent_or_null)
{
	static const char *const texts[] = {
		"{" REQUEST ",\"conversation_id\":\"c\",\"request\":{" BODY "}}",
		"{" REQUEST ",\"conversation_id\":\"c\",\"workflow_id\":null,\"ordinal\":null,"
		"\"request\":{" BODY ",\"node\":null,\"node_required\":null,"
		"\"schedule_to_close_timeout_ms\":null,\"start_to_close_timeout_ms\":null}}",
	};
	struct typed_request r;

	for (int i = 0; i < 2; i++) {
		cr_assert(eq(int, parse(texts[i], &r, NULL), TYPED_REQUEST));
		cr_assert(eq(ptr, r.workflow_id, NULL));
		cr_assert(eq(ptr, r.node, NULL));
		cr_assert(eq(int, r.node_required, 0));
		cr_assert(eq(int, r.has_ordinal, 0));
		cr_assert(eq(i64, r.schedule_to_close_ns, 0));
		cr_assert(eq(i64, r.start_to_close_ns, 0));
		typed_request_free(&r);
	}
}

Test(typed, escapes_do_not_hide_a_request)
{
	struct typed_request r;

	cr_assert(eq(int, parse("{\"\\u0063ontent_type\":\"application\\/\\u0076nd.\\u0061ion"
	    ".dispatch.request+json\",\"conversation_id\":\"c\",\"request\":{" BODY "}}", &r,
	    NULL), TYPED_REQUEST));
	typed_request_free(&r);
	assert_refused("{\"content_type\":\"application\\/vnd.aion.dispatch.request+json\"}",
	    "request is missing");
}

Test(typed, a_response_is_no_request)
{
	assert_refused("{" RESPONSE ",\"worker_id\":\"w\",\"result\":{\"status\":\"completed\"}}",
	    "this is a response");
	assert_refused("{" REQUEST ",\"worker_id\":\"w\",\"result\":{\"status\":\"completed\"}}",
	    "shaped as a response");
	assert_refused("{" REQUEST ",\"conversation_id\":\"c\",\"result\":{},\"request\":{" BODY "}}",
	    "shaped as a response");
}

/* The request R with nothing else around it. */
#define IN_REQUEST(r)	"{" REQUEST ",\"conversation_id\":\"c\",\"request\":{" r "}}"

Test(typed, members_that_are_missing_or_wrong_are_named)
{
	assert_refused("{" REQUEST "}", "request is missing");
	assert_refused("{" REQUEST ",\"request\":null}", "request is missing");
	assert_refused("{" REQUEST ",\"request\":[]}", "request must be an object");
	assert_refused("{" REQUEST ",\"request\":{" BODY "}}", "conversation_id is missing");
	assert_refused("{" REQUEST ",\"conversation_id\":7,\"request\":{" BODY "}}",
	    "conversation_id must be a string");
	assert_refused("{" REQUEST ",\"conversation_id\":\"c\",\"workflow_id\":1,\"request\":{" BODY
	    "}}", "workflow_id must be a string");
	assert_refused(IN_REQUEST("\"task_queue\":\"q\"," INPUT), "request.activity_type is missing");
	assert_refused(IN_REQUEST("\"activity_type\":\"\",\"task_queue\":\"q\"," INPUT),
	    "request.activity_type must not be empty");
	assert_refused(IN_REQUEST("\"activity_type\":{},\"task_queue\":\"q\"," INPUT),
	    "request.activity_type must be a string");
	assert_refused(IN_REQUEST("\"activity_type\":\"a\\u0000b\",\"task_queue\":\"q\"," INPUT),
	    "request.activity_type must not contain NUL");
	assert_refused(IN_REQUEST("\"activity_type\":\"a\"," INPUT), "request.task_queue is missing");
	assert_refused(IN_REQUEST("\"activity_type\":\"a\",\"task_queue\":2," INPUT),
	    "request.task_queue must be a string");
	assert_refused(IN_REQUEST(BODY ",\"node\":[]"), "request.node must be a string");
	assert_refused(IN_REQUEST(BODY ",\"node\":\"n\",\"node_required\":1"),
	    "request.node_required must be true or false");
	assert_refused(IN_REQUEST(BODY ",\"node_required\":true"), "request.node is missing");
	assert_refused(IN_REQUEST("\"activity_type\":\"a\",\"task_queue\":\"q\""),
	    "request.input is missing");
	assert_refused(IN_REQUEST("\"activity_type\":\"a\",\"task_queue\":\"q\",\"input\":\"x\""),
	    "request.input must be an object");
}

#define WITH_INPUT(i)	IN_REQUEST("\"activity_type\":\"a\",\"task_queue\":\"q\",\"input\":{" i "}")

Test(typed, input_is_a_string_or_bytes)
{
	struct typed_request r;

	assert_refused(WITH_INPUT("\"data\":\"x\""), "request.input.content_type must be");
	assert_refused(WITH_INPUT("\"content_type\":\"a\""), "request.input.data is missing");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":null"),
	    "request.input.data is missing");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":{}"),
	    "request.input.data must be a string or an array");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":[0,256]"),
	    "request.input.data[1] must be");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":[-1]"), "request.input.data[0]");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":[1.5]"), "request.input.data[0]");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":[\"1\"]"), "request.input.data[0]");
	assert_refused(WITH_INPUT("\"content_type\":\"a\",\"data\":[18446744073709551616]"),
	    "request.input.data[0]");
	cr_assert(eq(int, parse(WITH_INPUT("\"content_type\":\"a\",\"data\":[]"), &r, NULL),
	    TYPED_REQUEST));
	typed_request_free(&r);
	cr_assert(eq(int, parse(WITH_INPUT("\"content_type\":\"a\",\"data\":\"\\u0000\""), &r, NULL),
	    TYPED_REQUEST));
	typed_request_free(&r);
}

#define TIMEOUT(v)	IN_REQUEST(BODY ",\"start_to_close_timeout_ms\":" v)

Test(typed, timeouts_are_positive_and_sane)
{
	struct typed_request r;

	assert_refused(TIMEOUT("-1"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("0"), "leave it out");
	assert_refused(TIMEOUT("0.5"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("\"10\""), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("315360000001"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("9223372036854775807"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("99999999999999999999999"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("1e300"), "request.start_to_close_timeout_ms");
	assert_refused(TIMEOUT("1e400"), "a number is out of range");
	cr_assert(eq(int, parse(TIMEOUT("315360000000"), &r, NULL), TYPED_REQUEST));
	cr_assert(eq(i64, r.start_to_close_ns, INT64_C(315360000000000000)));
	typed_request_free(&r);
	cr_assert(eq(int, parse(TIMEOUT("20.0"), &r, NULL), TYPED_REQUEST));
	cr_assert(eq(i64, r.start_to_close_ns, 20000000));
	typed_request_free(&r);
}

Test(typed, ordinals)
{
	struct typed_request r;

	assert_refused("{" REQUEST ",\"conversation_id\":\"c\",\"ordinal\":-1,\"request\":{" BODY "}}",
	    "ordinal must be");
	assert_refused("{" REQUEST ",\"conversation_id\":\"c\",\"ordinal\":\"1\",\"request\":{" BODY
	    "}}", "ordinal must be");
	/* A number beyond 63 bits that is none of our business does no harm. */
	cr_assert(eq(int, parse("{" REQUEST ",\"conversation_id\":\"c\",\"ordinal\":0,"
	    "\"trace\":18446744073709551615,\"request\":{" BODY "}}", &r, NULL), TYPED_REQUEST));
	cr_assert(eq(int, r.has_ordinal, 1));
	cr_assert(eq(i64, r.ordinal, 0));
	typed_request_free(&r);
}

Test(typed, ambiguous_and_monstrous_json_is_refused_when_it_says_typed)
{
	char *deep = malloc(20000), *at = deep;

	assert_refused("{" REQUEST ",\"conversation_id\":\"c\",\"request\":{" BODY
	    ",\"activity_type\":\"other\"}}", "a member occurs twice");
	assert_refused("{" REQUEST "," RESPONSE "}", "a member occurs twice");
	assert_refused("{" REQUEST ",\"a\\u0000b\":1}", "a member's name contains NUL");
	at += sprintf(at, "{" REQUEST ",\"a\":");
	memset(at, '[', 9000);
	memset(at + 9000, ']', 9000);
	strcpy(at + 18000, "}");
	assert_refused(deep, "nested too deeply");
	/* and is nobody's business when it does not */
	memcpy(strstr(deep, "vnd"), "bnd", 3);
	assert_opaque(deep);
	assert_opaque("{\"a\":1,\"a\":2,\"b\":\"\\u0041\"}");
	free(deep);
}

Test(typed, responses)
{
	struct typed_response r;

	cr_assert(eq(int, judge(COMPLETED("\"output\":{\"content_type\":\"a\",\"data\":\"x\"}"), &r,
	    NULL), TYPED_COMPLETED));
	cr_assert(eq(int, r.has_worker_id, 1));
	cr_assert(eq(ptr, r.error, NULL));
	typed_response_free(&r);
	cr_assert(eq(int, judge("{" RESPONSE ",\"result\":{\"status\":\"failed\",\"error\":\"no\\u0000"
	    "way\"}}", &r, NULL), TYPED_FAILED));
	cr_assert(eq(int, r.has_worker_id, 0));
	cr_assert(eq(str, r.error, (char []){ "no way" }));
	typed_response_free(&r);
	cr_assert(eq(int, judge("{" RESPONSE ",\"worker_id\":\"\",\"result\":{\"status\":\"failed\","
	    "\"error\":{\"kind\": \"T\", \"n\": 1}}}", &r, NULL), TYPED_FAILED));
	cr_assert(eq(int, r.has_worker_id, 0));
	cr_assert(eq(str, r.error, (char []){ "{\"kind\":\"T\",\"n\":1}" }));
	typed_response_free(&r);
}

Test(typed, bad_responses_say_why)
{
	assert_bad_response("", "not a typed response");
	assert_bad_response("ok", "not a typed response");
	assert_bad_response("{" REQUEST ",\"request\":{}}", "not a typed response");
	assert_bad_response("{" RESPONSE ",\"request\":{},\"result\":{}}", "shaped as a request");
	assert_bad_response("{" RESPONSE "}", "result must be an object");
	assert_bad_response("{" RESPONSE ",\"result\":{}}", "result.status");
	assert_bad_response("{" RESPONSE ",\"result\":{\"status\":\"done\"}}", "result.status");
	assert_bad_response("{" RESPONSE ",\"result\":{\"status\":\"completed\"}}",
	    "result.output is missing");
	assert_bad_response(COMPLETED("\"output\":{\"content_type\":\"a\",\"data\":[1,999]}"),
	    "result.output.data[1]");
	assert_bad_response("{" RESPONSE ",\"result\":{\"status\":\"failed\"}}",
	    "result.error is missing");
	assert_bad_response("{" RESPONSE ",\"result\":{\"status\":\"failed\",\"error\":null}}",
	    "result.error is missing");
	assert_bad_response("{" RESPONSE ",\"result\":{\"status\":\"failed\",\"error\":[1]}}",
	    "result.error must be");
	assert_bad_response("{" RESPONSE "," RESPONSE "}", "a member occurs twice");
}

Test(typed, outputs_of_every_kind)
{
	assert_output(COMPLETED("\"output\":{\"content_type\":\"a\",\"data\":\"x\\u0000y\"}"), "x\0y", 3);
	assert_output(COMPLETED("\"output\":{\"content_type\":\"a\",\"data\":[0,10,255]}"),
	    "\0\n\xff", 3);
	assert_output(COMPLETED("\"output\":{\"content_type\":\"a\",\"data\":[]}"), "", 0);
	assert_output(COMPLETED("\"output\":\"text\""), "text", 4);
	assert_output(COMPLETED("\"output\":null"), "null", 4);
	assert_output(COMPLETED("\"output\":[1, {\"a\" :2}]"), "[1,{\"a\":2}]", 11);
	assert_output(COMPLETED("\"output\":{\"data\":\"x\"}"), "{\"data\":\"x\"}", 12);
}

static void
assert_with_worker(const char *text, const char *want)
{
	struct typed_response response;
	struct buf out = { 0 };
	size_t len;
	uint8_t *payload = payload_of(text, &len);

	cr_assert(eq(int, typed_response_with_worker(payload, len, "w\"#7", &out), 0));
	cr_assert(buf_len(&out) == strlen(want) && memcmp(buf_head(&out), want, strlen(want)) == 0,
	    "%.*s", (int)buf_len(&out), (char *)buf_head(&out));
	cr_assert(eq(int, typed_response_parse(buf_head(&out), buf_len(&out), &response, NULL),
	    TYPED_COMPLETED));
	cr_assert(eq(int, response.has_worker_id, 1));
	typed_response_free(&response);
	buf_free(&out);
	free(payload);
}

Test(typed, the_worker_id_is_added_and_the_rest_kept)
{
	struct buf out = { 0 };

	/* byte for byte, also what a parser would have rounded */
	assert_with_worker(" { " RESPONSE ", \"result\" : {\"status\":\"completed\","
	    "\"output\":[18446744073709551615,1.10]}} ",
	    " {\"worker_id\":\"w\\\"#7\", " RESPONSE ", \"result\" : {\"status\":\"completed\","
	    "\"output\":[18446744073709551615,1.10]}} ");
	assert_with_worker("{" RESPONSE ",\"worker_id\":null,\"result\":{\"status\":\"completed\","
	    "\"output\":1}}", "{" RESPONSE ",\"worker_id\":\"w\\\"#7\",\"result\":{\"status\":"
	    "\"completed\",\"output\":1}}");
	cr_assert(eq(int, typed_response_with_worker((const uint8_t *)"ok", 2, "w", &out),
	    ERR_INVALID));
	cr_assert(eq(sz, buf_len(&out), 0));
}

Test(typed, built_requests_read_back)
{
	static const struct { const char *data; size_t len; } inputs[] = {
		{ NULL, 0 }, { "plain \"quoted\" \\ \n\x01 \0 \xc3\xa9", 25 },
		{ "\0\t\n\x63\x64\xfe\xff", 7 },
	};
	struct typed_call call = { .activity_type = "ch\"arge", .task_queue = "q" };
	struct typed_request r;
	struct buf out = { 0 }, data = { 0 };

	for (int i = 0; i < 6; i++) {
		call.data = inputs[i % 3].data;
		call.len = inputs[i % 3].len;
		if (i == 3) {
			call.conversation_id = "c\n";
			call.workflow_id = "wf";
			call.node = "n";
			call.node_required = call.has_ordinal = 1;
			call.ordinal = INT64_MAX;
			call.schedule_to_close_ns = 1500000001;
			call.start_to_close_ns = 1;
			call.content_type = "text/plain";
		}
		cr_assert(eq(int, typed_request_build(&call, &out), 0));
		cr_assert(eq(int, typed_request_parse(buf_head(&out), buf_len(&out), &r, NULL),
		    TYPED_REQUEST), "%.*s", (int)buf_len(&out), (char *)buf_head(&out));
		cr_assert(eq(str, r.activity_type, (char []){ "ch\"arge" }));
		cr_assert(eq(int, r.has_ordinal, i >= 3));
		cr_assert(eq(i64, r.ordinal, i >= 3 ? INT64_MAX : 0));
		cr_assert(eq(i64, r.schedule_to_close_ns, i >= 3 ? 1501000000 : 0));
		cr_assert(eq(i64, r.start_to_close_ns, i >= 3 ? 1000000 : 0));
		if (i < 3)
			cr_assert(eq(sz, strlen(r.conversation_id), 36));
		else
			cr_assert(eq(str, r.conversation_id, (char []){ "c\n" }));
		typed_request_free(&r);
		cr_assert(eq(int, typed_request_input(buf_head(&out), buf_len(&out), &data, NULL), 0));
		cr_assert(buf_len(&data) == call.len && (call.len == 0 ||
		    memcmp(buf_head(&data), call.data, call.len) == 0), "input %d", i);
		buf_consume(&data, buf_len(&data));
		buf_consume(&out, buf_len(&out));
	}
	buf_free(&out);
	buf_free(&data);
}

Test(typed, built_responses_read_back)
{
	struct typed_response r;
	struct buf out = { 0 }, data = { 0 };
	uint8_t every[256];

	for (int i = 0; i < 256; i++)
		every[i] = (uint8_t)i;
	cr_assert(eq(int, typed_response_build_completed("w#1", NULL, every, 256, &out), 0));
	cr_assert(eq(int, typed_response_parse(buf_head(&out), buf_len(&out), &r, NULL),
	    TYPED_COMPLETED));
	cr_assert(eq(int, r.has_worker_id, 1));
	cr_assert(eq(int, typed_response_output(buf_head(&out), buf_len(&out), &data, NULL), 0));
	cr_assert(buf_len(&data) == 256 && memcmp(buf_head(&data), every, 256) == 0);
	buf_consume(&out, buf_len(&out));

	cr_assert(eq(int, typed_response_build_failed(NULL, "ex\"it 3\n\xff", &out), 0));
	cr_assert(eq(int, typed_response_parse(buf_head(&out), buf_len(&out), &r, NULL),
	    TYPED_FAILED));
	cr_assert(eq(int, r.has_worker_id, 0));
	cr_assert(eq(str, r.error, (char []){ "ex\"it 3\n?" }));
	typed_response_free(&r);
	buf_free(&out);
	buf_free(&data);
}

Test(typed, what_is_not_utf8_is_not_built_and_leaves_the_buffer)
{
	struct typed_call call = { .activity_type = "a\xff", .task_queue = "q" };
	struct buf out = { 0 };

	cr_assert(eq(int, buf_append(&out, "before", 6), 0));
	cr_assert(eq(int, typed_request_build(&call, &out), ERR_INVALID));
	cr_assert(eq(int, typed_response_build_completed("\x80", NULL, "", 0, &out), ERR_INVALID));
	cr_assert(buf_len(&out) == 6 && memcmp(buf_head(&out), "before", 6) == 0);
	buf_free(&out);
}

/* Cut anywhere, a request is not a request and nothing is read beyond its end. */
Test(typed, truncated_requests_are_opaque)
{
	static const char text[] = "{" REQUEST ",\"conversation_id\":\"c\",\"request\":{" BODY
	    ",\"node\":\"\\u00e9\"}}";
	struct typed_request r;
	uint8_t *copy;

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		copy = malloc(len > 0 ? len : 1);
		memcpy(copy, text, len);
		cr_assert(eq(int, typed_request_parse(copy, len, &r, NULL), TYPED_OPAQUE));
		free(copy);
	}
}
