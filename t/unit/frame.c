/*
 * frame: the wire codec against the protocol's vectors (t/vectors, README there),
 * and against everything that can be made of them by cutting and changing bytes.
 *
 * lifecycle.jsonl of the same collection is left out: it tabulates an abstract
 * state machine for both directions of a connection, and its README says that no
 * server's admission rules follow from it. What this server admits when is tested
 * with the whole daemon.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "form/frame.h"
#include "bytes.h"

#define MAX_PAYLOAD	(16u << 20)

/* The vector files. */

static void
each_line(const char *name, void (*check)(json_t *line, const char *name))
{
	const char *root = getenv("LIMINAL_SRCDIR");
	char path[4096], *line = NULL;
	size_t size = 0, lines = 0;
	json_error_t error;
	json_t *value;
	FILE *in;

	snprintf(path, sizeof(path), "%s/t/vectors/%s", root == NULL ? "." : root, name);
	in = fopen(path, "r");
	cr_assert(ne(ptr, in, NULL), "cannot open %s: set LIMINAL_SRCDIR", path);
	while (getline(&line, &size, in) > 0) {
		value = json_loads(line, JSON_ALLOW_NUL, &error);
		cr_assert(ne(ptr, value, NULL), "%s:%zu: %s", path, lines + 1, error.text);
		check(value, json_string_value(json_object_get(value, "name")));
		json_decref(value);
		lines++;
	}
	cr_assert(lines > 0);
	free(line);
	fclose(in);
}

static struct bytes
unhex_member(json_t *object, const char *name)
{
	const char *hex = json_string_value(json_object_get(object, name));

	cr_assert(ne(ptr, (void *)(uintptr_t)hex, NULL), "no member %s", name);
	return unhex(hex);
}

/* A decoded frame in the vectors' notation. */

static json_t *
json_hex(const uint8_t *data, size_t len)
{
	char *text = malloc(2 * len + 1);
	json_t *value;

	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", data[i]);
	value = json_stringn(text, 2 * len);
	free(text);
	return value;
}

static json_t *
json_text(struct frame_view v)
{
	return json_stringn((const char *)v.data, v.len);
}

static json_t *
json_opt(struct frame_opt_view v)
{
	return v.present ? json_text(v.view) : json_null();
}

static json_t *
json_u64(uint64_t v)
{
	return json_sprintf("%" PRIu64, v);
}

static json_t *
json_version(struct frame_version v)
{
	return json_pack("{s:i, s:i}", "major", v.major, "minor", v.minor);
}

static json_t *
json_envelope(const struct frame_envelope *e)
{
	return json_pack("{s:{s:o, s:o}, s:o, s:o}", "causal_context",
	    "parent_id", json_opt(e->parent_id), "vector_clock_entry",
	    e->has_vector_clock ? json_u64(e->vector_clock) : json_null(),
	    "payload", json_hex(e->payload.data, e->payload.len),
	    "schema_id", json_hex(e->schema_id, FRAME_SCHEMA_ID_SIZE));
}

static json_t *
json_strings(struct frame_vec vec)
{
	struct frame_view next = vec.encoded, string;
	json_t *array = json_array();

	while (frame_vec_next(&next, &string))
		json_array_append_new(array, json_text(string));
	cr_assert(eq(sz, json_array_size(array), vec.count));
	return array;
}

static json_t *
json_schemas(struct frame_vec vec)
{
	json_t *array = json_array();

	cr_assert(eq(sz, vec.encoded.len, (size_t)vec.count * FRAME_SCHEMA_ID_SIZE));
	for (size_t i = 0; i < vec.count; i++)
		json_array_append_new(array, json_hex(vec.encoded.data +
		    i * FRAME_SCHEMA_ID_SIZE, FRAME_SCHEMA_ID_SIZE));
	return array;
}

static json_t *
json_census(struct frame_vec vec)
{
	struct frame_view next = vec.encoded, name, input, output;
	json_t *array = json_array();

	while (frame_vec_next(&next, &name)) {
		cr_assert(eq(int, frame_vec_next(&next, &input), 1));
		cr_assert(eq(int, frame_vec_next(&next, &output), 1));
		json_array_append_new(array, json_pack("{s:o, s:o, s:o}",
		    "name", json_text(name), "input_schema_json", json_text(input),
		    "output_schema_json", json_text(output)));
	}
	cr_assert(eq(sz, json_array_size(array), vec.count));
	return array;
}

static json_t *
json_register(const struct frame *f)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}",
	    "namespaces", json_strings(f->u.worker_register.namespaces),
	    "task_queue", json_text(f->u.worker_register.task_queue),
	    "node", json_opt(f->u.worker_register.node),
	    "activity_types", json_strings(f->u.worker_register.activity_types),
	    "identity", json_text(f->u.worker_register.identity),
	    "activities", json_census(f->u.worker_register.census));
}

static json_t *
json_register_ack(const struct frame *f)
{
	if (f->u.worker_register_ack.accepted)
		return json_pack("{s:s}", "outcome", "accepted");
	return json_pack("{s:s, s:o}", "outcome", "rejected",
	    "reason", json_text(f->u.worker_register_ack.reason));
}

static json_t *
json_conversation(const struct frame *f)
{
	switch (f->type) {
	case FRAME_CONVERSATION_OPEN:
		return json_pack("{s:o, s:o}", "conversation_id",
		    json_u64(f->u.conversation_open.conversation),
		    "subject", json_text(f->u.conversation_open.subject));
	case FRAME_CONVERSATION_MESSAGE:
		return json_pack("{s:o, s:o}", "conversation_id",
		    json_u64(f->u.conversation_message.conversation),
		    "envelope", json_envelope(&f->u.conversation_message.envelope));
	case FRAME_CONVERSATION_CLOSE:
		return json_pack("{s:o, s:o, s:o}", "conversation_id",
		    json_u64(f->u.conversation_close.conversation), "reason_code",
		    f->u.conversation_close.has_reason ?
		    json_integer(f->u.conversation_close.reason) : json_null(),
		    "message", json_opt(f->u.conversation_close.message));
	default:
		return json_pack("{s:o, s:i, s:o}", "conversation_id",
		    json_u64(f->u.conversation_error.conversation),
		    "reason_code", f->u.conversation_error.reason,
		    "message", json_opt(f->u.conversation_error.message));
	}
}

static json_t *
json_channel(const struct frame *f)
{
	switch (f->type) {
	case FRAME_SUBSCRIBE:
		return json_pack("{s:o, s:o, s:I}", "channel", json_text(f->u.subscribe.channel),
		    "accepted_schemas", json_schemas(f->u.subscribe.accepted),
		    "max_in_flight", (json_int_t)f->u.subscribe.max_in_flight);
	case FRAME_SUBSCRIBE_ACK:
		return json_pack("{s:o, s:o}", "subscription_id",
		    json_u64(f->u.subscribe_ack.subscription), "selected_schema",
		    json_hex(f->u.subscribe_ack.schema_id, FRAME_SCHEMA_ID_SIZE));
	case FRAME_UNSUBSCRIBE:
		return json_pack("{s:o}", "subscription_id",
		    json_u64(f->u.unsubscribe.subscription));
	case FRAME_PUBLISH:
		return json_pack("{s:o, s:o, s:o}", "channel", json_text(f->u.publish.channel),
		    "envelope", json_envelope(&f->u.publish.envelope),
		    "idempotency_key", json_opt(f->u.publish.key));
	case FRAME_PUBLISH_ACK:
		return json_pack("{s:o}", "message_id", json_u64(f->u.publish_ack.message));
	default:
		return json_pack("{s:o, s:o}", "delivery_seq", json_u64(f->u.deliver.sequence),
		    "envelope", json_envelope(&f->u.deliver.envelope));
	}
}

static json_t *
json_fields(const struct frame *f)
{
	switch (f->type) {
	case FRAME_CONNECT:
		return json_pack("{s:o, s:o, s:o}", "auth_token",
		    json_hex(f->u.connect.token.data, f->u.connect.token.len),
		    "min_version", json_version(f->u.connect.min),
		    "max_version", json_version(f->u.connect.max));
	case FRAME_CONNECT_ACK:
		return json_pack("{s:I, s:o}", "capabilities",
		    (json_int_t)f->u.connect_ack.capabilities,
		    "selected_version", json_version(f->u.connect_ack.selected));
	case FRAME_CONNECT_ERROR:
	case FRAME_SUBSCRIBE_ERROR:
	case FRAME_PUBLISH_ERROR:
		return json_pack("{s:i, s:o}", "reason_code", f->u.error.reason,
		    "message", json_opt(f->u.error.message));
	case FRAME_DISCONNECT:
	case FRAME_PING:
	case FRAME_PONG:
		return json_object();
	case FRAME_CONVERSATION_OPEN:
	case FRAME_CONVERSATION_MESSAGE:
	case FRAME_CONVERSATION_CLOSE:
	case FRAME_CONVERSATION_ERROR:
		return json_conversation(f);
	case FRAME_ACCEPT:
		return json_pack("{s:o}", "referenced_message_id", json_text(f->u.verdict.message));
	case FRAME_DEFER:
	case FRAME_REJECT:
		return json_pack("{s:o, s:o}", "referenced_message_id",
		    json_text(f->u.verdict.message), "reason", json_opt(f->u.verdict.reason));
	case FRAME_PUSH:
	case FRAME_PUSH_REPLY:
		return json_pack("{s:o, s:o}", "correlation_id", json_u64(f->u.push.correlation),
		    "payload", json_hex(f->u.push.payload.data, f->u.push.payload.len));
	case FRAME_WORKER_REGISTER:
		return json_register(f);
	case FRAME_WORKER_REGISTER_ACK:
		return json_register_ack(f);
	default:
		if (strcmp(frame_type_name(f->type), "Unknown") != 0)
			return json_channel(f);
		return json_pack("{s:o}", "payload", json_hex(f->raw.data, f->raw.len));
	}
}

/* The vectors. */

static void
check_valid(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	struct bytes again = unhex_member(line,
	    json_object_get(line, "canonical_hex") != NULL ? "canonical_hex" : "hex");
	json_t *want = json_object_get(line, "fields"), *got;
	struct frame_fault fault = { 0, "" };
	struct buf out = { 0 };
	struct frame f;
	size_t used;

	cr_assert(eq(int, frame_decode(guarded(in.data, in.len), in.len, MAX_PAYLOAD, &f, &used,
	    &fault), FRAME_OK), "%s: %s at %zu", name, fault.text, fault.offset);
	cr_assert(eq(sz, used, in.len), "%s", name);
	cr_assert(f.type == json_integer_value(json_object_get(line, "type")), "%s", name);
	cr_assert(f.flags == json_integer_value(json_object_get(line, "flags")), "%s", name);
	cr_assert(f.stream == json_integer_value(json_object_get(line, "stream_id")), "%s", name);
	cr_assert(eq(str, (char *)(uintptr_t)frame_type_name(f.type),
	    (char *)(uintptr_t)json_string_value(json_object_get(line, "frame"))));

	got = json_fields(&f);
	cr_assert(ne(ptr, got, NULL), "%s", name);
	cr_assert(json_equal(got, want), "%s: got %s", name, json_dumps(got, JSON_SORT_KEYS));
	json_decref(got);

	cr_assert(eq(int, frame_encode(&out, &f), 0), "%s", name);
	cr_assert(buf_len(&out) == again.len && memcmp(buf_head(&out), again.data, again.len) == 0,
	    "%s: encodes to other bytes", name);
	buf_free(&out);
	free(in.data);
	free(again.data);
}

Test(frame, valid_vectors_decode_and_encode)
{
	each_line("frames-valid.jsonl", check_valid);
}

static void
check_invalid(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	struct frame_fault fault = { 0, NULL };
	enum frame_status status;
	struct frame f;
	size_t used;

	/* The vectors know no limit of size. */
	status = frame_decode(guarded(in.data, in.len), in.len, UINT32_MAX, &f, &used, &fault);
	cr_assert(status < 0, "%s: decodes", name);
	cr_assert(frame_status_reason(status) ==
	    json_integer_value(json_object_get(line, "code")), "%s: status %d", name, status);
	cr_assert(fault.text != NULL && fault.offset <= in.len, "%s", name);
	if (status == FRAME_NEED_PAYLOAD)
		cr_assert(used > in.len, "%s", name);
	free(in.data);
}

Test(frame, invalid_vectors_fail_with_their_class)
{
	each_line("frames-invalid.jsonl", check_invalid);
}

static void
check_stream(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	json_t *frames = json_object_get(line, "frames"), *want;
	const char *error = json_string_value(json_object_get(line, "leftover_error"));
	uint8_t *at = guarded(in.data, in.len);
	enum frame_status status;
	size_t i, used, left = in.len;
	struct frame f;

	json_array_foreach(frames, i, want) {
		status = frame_decode(at, left, MAX_PAYLOAD, &f, &used, NULL);
		cr_assert(eq(int, status, FRAME_OK), "%s: frame %zu", name, i);
		cr_assert(f.type == json_integer_value(json_object_get(want, "type")));
		cr_assert(eq(i64, (int64_t)used, json_integer_value(json_object_get(want, "length"))));
		at += used;
		left -= used;
	}
	cr_assert(eq(i64, (int64_t)left, json_integer_value(json_object_get(line, "leftover"))));
	if (error != NULL) {
		status = frame_decode(at, left, MAX_PAYLOAD, &f, &used, NULL);
		cr_assert(eq(int, status, strcmp(error, "IncompleteHeader") == 0 ?
		    FRAME_NEED_HEADER : FRAME_NEED_PAYLOAD), "%s: %s", name, error);
	}
	free(in.data);
}

Test(frame, streams_split_into_their_frames)
{
	each_line("frame-streams.jsonl", check_stream);
}

static struct frame_version
version_of(json_t *value)
{
	struct frame_version v;

	v.major = (uint16_t)json_integer_value(json_object_get(value, "major"));
	v.minor = (uint16_t)json_integer_value(json_object_get(value, "minor"));
	return v;
}

static void
check_negotiation(json_t *line, const char *name)
{
	json_t *list = json_object_get(line, "supported"), *want = json_object_get(line, "selected");
	struct frame_version supported[32], selected = { 0, 0 };
	size_t n = json_array_size(list);
	int rc;

	cr_assert(n <= 32);
	for (size_t i = 0; i < n; i++)
		supported[i] = version_of(json_array_get(list, i));
	rc = frame_negotiate(version_of(json_object_get(line, "min_version")),
	    version_of(json_object_get(line, "max_version")), supported, n, &selected);
	cr_assert(eq(int, rc, want != NULL ? 0 : ERR_NOTFOUND), "%s", name);
	if (want != NULL)
		cr_assert(selected.major == version_of(want).major &&
		    selected.minor == version_of(want).minor, "%s", name);
}

Test(frame, version_negotiation)
{
	each_line("version-negotiation.jsonl", check_negotiation);
}

static void
check_schema_id(json_t *line, const char *name)
{
	struct bytes schema = unhex_member(line, "schema_bytes");
	struct bytes want = unhex_member(line, "schema_id");
	uint8_t id[HASH_SCHEMA_ID_SIZE];
	char decimal[32];

	snprintf(decimal, sizeof(decimal), "%" PRIu64,
	    hash_fnv1a(HASH_FNV1A_START, schema.data, schema.len));
	cr_assert(eq(str, decimal,
	    (char *)(uintptr_t)json_string_value(json_object_get(line, "fnv1a64"))), "%s", name);
	hash_schema_id(schema.data, schema.len, id);
	cr_assert(want.len == sizeof(id) && memcmp(id, want.data, sizeof(id)) == 0, "%s", name);
	free(schema.data);
	free(want.data);
}

Test(frame, schema_ids)
{
	each_line("schema-ids.jsonl", check_schema_id);
}

/* What is made of the vectors by cutting and changing bytes. */

static void
check_truncations(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	size_t used, step = in.len > 8192 ? 997 : 1;
	enum frame_status status;
	struct frame f;

	for (size_t len = 0; len < in.len; len += step) {
		status = frame_decode(guarded(in.data, len), len, MAX_PAYLOAD, &f, &used, NULL);
		cr_assert(eq(int, status, len < FRAME_HEADER_SIZE ? FRAME_NEED_HEADER :
		    FRAME_NEED_PAYLOAD), "%s cut to %zu", name, len);
		cr_assert(eq(sz, used, len < FRAME_HEADER_SIZE ? 0 : in.len));
	}
	free(in.data);
}

Test(frame, truncated_frames_wait_for_more)
{
	each_line("frames-valid.jsonl", check_truncations);
}

/* The same cut, but with a header that fits: the payload itself ends early. */
static void
check_short_payloads(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	size_t used, step = in.len > 8192 ? 997 : 1;
	enum frame_status status;
	struct frame f;
	uint8_t *at;

	for (size_t len = FRAME_HEADER_SIZE; len < in.len; len += step) {
		at = guarded(in.data, len);
		for (size_t i = 0; i < 4; i++)
			at[6 + i] = (uint8_t)((len - FRAME_HEADER_SIZE) >> (24 - 8 * i));
		status = frame_decode(at, len, MAX_PAYLOAD, &f, &used, NULL);
		/* A WorkerRegister without its census is the short form. */
		cr_assert(status == FRAME_BAD_CODEC || strcmp(frame_type_name(at[0]), "Unknown") == 0 ||
		    at[0] == FRAME_WORKER_REGISTER, "%s cut to %zu", name, len);
	}
	free(in.data);
}

Test(frame, short_payloads_are_refused)
{
	each_line("frames-valid.jsonl", check_short_payloads);
}

/* Whatever decodes can be walked, encoded, and decoded again to the same bytes. */
static void
check_any(const uint8_t *bytes, size_t len, const char *name, size_t at)
{
	struct frame_fault fault = { 0, NULL };
	struct buf once = { 0 }, twice = { 0 };
	struct frame f;
	size_t used;

	if (frame_decode(bytes, len, MAX_PAYLOAD, &f, &used, &fault) != FRAME_OK) {
		cr_assert(fault.text != NULL && fault.offset <= len, "%s", name);
		return;
	}
	if (f.type == FRAME_WORKER_REGISTER) {
		json_decref(json_strings(f.u.worker_register.namespaces));
		json_decref(json_strings(f.u.worker_register.activity_types));
		json_decref(json_census(f.u.worker_register.census));
	}
	cr_assert(eq(int, frame_encode(&once, &f), 0));
	cr_assert(eq(int, frame_decode(buf_head(&once), buf_len(&once), MAX_PAYLOAD, &f, &used,
	    NULL), FRAME_OK), "%s changed at %zu: does not decode again", name, at);
	cr_assert(eq(int, frame_encode(&twice, &f), 0));
	cr_assert(buf_len(&once) == buf_len(&twice) &&
	    memcmp(buf_head(&once), buf_head(&twice), buf_len(&once)) == 0,
	    "%s changed at %zu: not stable", name, at);
	buf_free(&once);
	buf_free(&twice);
}

static void
check_mutations(json_t *line, const char *name)
{
	struct bytes in = unhex_member(line, "hex");
	uint8_t *at = guarded(in.data, in.len);
	/* All values in small frames, single bits in larger ones, only the ends of huge ones. */
	unsigned step = in.len > 320 ? 0 : 1;

	for (size_t i = 0; i < in.len; i++) {
		if (in.len > 8192 && i >= 256 && i + 64 < in.len)
			continue;
		for (unsigned v = 1; v < 256; v = step ? v + 1 : v * 2) {
			at[i] = (uint8_t)(in.data[i] ^ v);
			check_any(at, in.len, name, i);
		}
		at[i] = in.data[i];
	}
	free(in.data);
}

Test(frame, changed_bytes_do_no_harm)
{
	each_line("frames-valid.jsonl", check_mutations);
}
