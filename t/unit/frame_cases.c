/*
 * frame_cases: what the protocol's vectors do not hold: the extensions, limits,
 * counts that lie, UTF-8 in full, and frames that this side builds.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "form/frame.h"
#include "bytes.h"

#define MAX_PAYLOAD	(16u << 20)

static enum frame_status
decode_hex(const char *hex, struct frame *f, struct frame_fault *fault)
{
	struct bytes in = unhex(hex);
	enum frame_status status;
	size_t used;

	status = frame_decode(guarded(in.data, in.len), in.len, MAX_PAYLOAD, f, &used, fault);
	free(in.data);
	return status;
}

static void
assert_encodes(const struct frame *f, const char *hex)
{
	struct bytes want = unhex(hex);
	struct buf out = { 0 };

	cr_assert(eq(int, frame_encode(&out, f), 0));
	cr_assert(buf_len(&out) == want.len && memcmp(buf_head(&out), want.data, want.len) == 0);
	buf_free(&out);
	free(want.data);
}

static void
assert_fault(const char *hex, size_t offset)
{
	struct frame_fault fault;
	struct frame f;

	cr_assert(eq(int, decode_hex(hex, &f, &fault), FRAME_BAD_CODEC), "%s", hex);
	cr_assert(eq(sz, fault.offset, offset), "%s: %s", hex, fault.text);
}

/* One namespace "n", queue "q", no node, no types, identity "w". */
#define REGISTER_BASE	"00000001000000016e" "0000000171" "00" "00000000" "0000000177"

Test(frame_cases, capacity_extension)
{
	struct frame f;

	cr_assert(eq(int, decode_hex("170100000000" "00000020" REGISTER_BASE "00000000"
	    "00000004", &f, NULL), FRAME_OK));
	cr_assert(eq(int, f.u.worker_register.has_capacity, 1));
	cr_assert(eq(u32, f.u.worker_register.max_concurrent, 4));
	cr_assert(eq(u32, f.u.worker_register.census.count, 0));
	assert_encodes(&f, "170100000000" "00000020" REGISTER_BASE "00000000" "00000004");
	/* The encoder sets the flag by itself. */
	f.flags = 0;
	assert_encodes(&f, "170100000000" "00000020" REGISTER_BASE "00000000" "00000004");

	/* zero, too short, too long, and without the flag */
	assert_fault("170100000000" "00000020" REGISTER_BASE "00000000" "00000000", 38);
	assert_fault("170100000000" "0000001f" REGISTER_BASE "00000000" "000004", 38);
	assert_fault("170100000000" "00000021" REGISTER_BASE "00000000" "0000000400", 42);
	assert_fault("170000000000" "00000020" REGISTER_BASE "00000000" "00000004", 38);
}

Test(frame_cases, capacity_flag_without_bytes_is_an_unknown_bit)
{
	struct frame f;

	/* short form */
	cr_assert(eq(int, decode_hex("170100000000" "00000018" REGISTER_BASE, &f, NULL), FRAME_OK));
	cr_assert(eq(int, f.u.worker_register.has_capacity, 0));
	cr_assert(eq(u8, f.flags, 1));
	assert_encodes(&f, "170100000000" "0000001c" REGISTER_BASE "00000000");
	/* long form */
	cr_assert(eq(int, decode_hex("170100000000" "0000001c" REGISTER_BASE "00000000", &f,
	    NULL), FRAME_OK));
	cr_assert(eq(int, f.u.worker_register.has_capacity, 0));
	assert_encodes(&f, "170100000000" "0000001c" REGISTER_BASE "00000000");
}

/* Channel "c", no schemas, max_in_flight 5. */
#define SUBSCRIBE_BASE	"0000000163" "00000000" "00000005"
#define CONSUMER	"00000002" "6162"

Test(frame_cases, durable_extension)
{
	struct frame f;

	cr_assert(eq(int, decode_hex("050100000007" "0000001c" SUBSCRIBE_BASE CONSUMER
	    "02" "0000000000000009", &f, NULL), FRAME_OK));
	cr_assert(eq(int, f.u.subscribe.durable, 1));
	cr_assert(eq(sz, f.u.subscribe.consumer.len, 2));
	cr_assert(eq(int, memcmp(f.u.subscribe.consumer.data, "ab", 2), 0));
	cr_assert(eq(u8, f.u.subscribe.start, 2));
	cr_assert(eq(u64, f.u.subscribe.sequence, 9));
	cr_assert(eq(u32, f.u.subscribe.max_in_flight, 5));
	assert_encodes(&f, "050100000007" "0000001c" SUBSCRIBE_BASE CONSUMER "02" "0000000000000009");

	cr_assert(eq(int, decode_hex("050100000007" "0000001c" SUBSCRIBE_BASE CONSUMER
	    "01" "0000000000000000", &f, NULL), FRAME_OK));
	/* a start that does not exist; a sequence that is not asked for */
	assert_fault("050100000007" "0000001c" SUBSCRIBE_BASE CONSUMER "03" "0000000000000000", 29);
	assert_fault("050100000007" "0000001c" SUBSCRIBE_BASE CONSUMER "00" "0000000000000001", 30);
	/* no name; not UTF-8; cut; left over; without the flag */
	assert_fault("050100000007" "0000001a" SUBSCRIBE_BASE "00000000" "00" "0000000000000000", 23);
	assert_fault("050100000007" "0000001c" SUBSCRIBE_BASE "00000002" "61ff" "00"
	    "0000000000000000", 27);
	assert_fault("050100000007" "0000001b" SUBSCRIBE_BASE CONSUMER "00" "00000000000000", 30);
	assert_fault("050100000007" "0000001d" SUBSCRIBE_BASE CONSUMER "00" "0000000000000000" "00",
	    38);
	assert_fault("050000000007" "0000001c" SUBSCRIBE_BASE CONSUMER "00" "0000000000000000", 23);
}

Test(frame_cases, durable_consumer_names_have_at_most_255_bytes)
{
	char name[256];
	struct frame f = { .type = FRAME_SUBSCRIBE, .stream = 1 }, back;
	struct buf out = { 0 };
	size_t used;

	memset(name, 'x', sizeof(name));
	f.u.subscribe.max_in_flight = 1;
	f.u.subscribe.durable = 1;
	for (size_t len = 255; len <= 256; len++) {
		f.u.subscribe.consumer = (struct frame_view){ (uint8_t *)name, len };
		cr_assert(eq(int, frame_encode(&out, &f), 0));
		cr_assert(eq(int, frame_decode(buf_head(&out), buf_len(&out), MAX_PAYLOAD, &back,
		    &used, NULL), len == 255 ? FRAME_OK : FRAME_BAD_CODEC));
		buf_consume(&out, buf_len(&out));
	}
	buf_free(&out);
}

Test(frame_cases, durable_flag_without_bytes_is_an_unknown_bit)
{
	struct frame f;

	cr_assert(eq(int, decode_hex("050100000007" "0000000d" SUBSCRIBE_BASE, &f, NULL), FRAME_OK));
	cr_assert(eq(int, f.u.subscribe.durable, 0));
	cr_assert(eq(u8, f.flags, 1));
	assert_encodes(&f, "050100000007" "0000000d" SUBSCRIBE_BASE);
}

/* What is left over inside must not be read as the field that is missing behind it. */
#define ZERO_ID	"00000000000000000000000000000000" "00000000000000000000000000000000"

Test(frame_cases, fields_do_not_reach_out_of_their_envelope)
{
	struct frame f;

	cr_assert(eq(int, decode_hex("090200000001" "00000037" "0000000163" "0000002a" ZERO_ID
	    "00000002" "0000" "00000000" "00000000", &f, NULL), FRAME_OK));
	/* the key within the envelope */
	assert_fault("090200000001" "00000037" "0000000163" "0000002e" ZERO_ID
	    "00000002" "0000" "00000000" "00000000", 61);
	/* the payload within the causal context */
	assert_fault("090200000001" "00000037" "0000000163" "0000002a" ZERO_ID
	    "00000006" "0000" "00000000" "00000000", 57);
}

/* Refused at the count itself, before a loop or an allocation could begin. */
Test(frame_cases, counts_beyond_the_bytes_are_refused_at_once)
{
	static const char *const counts[] = { "ffffffff", "80000000", "00000007" };
	char hex[256];

	for (size_t i = 0; i < 3; i++) {
		snprintf(hex, sizeof(hex), "170000000000" "00000018" "%s" "000000016e"
		    "0000000171" "00" "00000000" "0000000177", counts[i]);
		assert_fault(hex, 10);
		snprintf(hex, sizeof(hex), "170000000000" "0000001c" REGISTER_BASE "%s", counts[i]);
		assert_fault(hex, 34);
		snprintf(hex, sizeof(hex), "050000000001" "0000000d" "0000000163" "%s" "00000005",
		    counts[i]);
		assert_fault(hex, 15);
	}
}

Test(frame_cases, size_is_judged_by_the_header_alone)
{
	static const uint8_t ping[] = { 0x13, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01 };
	static const uint8_t most[] = { 0xee, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff };
	struct frame_fault fault;
	struct frame f;
	size_t used;

	cr_assert(eq(int, frame_decode(guarded(ping, 10), 10, 0x1000, &f, &used, &fault),
	    FRAME_TOO_LARGE));
	cr_assert(eq(sz, fault.offset, 6));
	cr_assert(eq(u16, frame_status_reason(FRAME_TOO_LARGE), FRAME_REASON_CODEC));
	cr_assert(eq(int, frame_decode(guarded(ping, 10), 10, 0x1001, &f, &used, NULL),
	    FRAME_NEED_PAYLOAD));
	cr_assert(eq(sz, used, 0x1001 + FRAME_HEADER_SIZE));
	cr_assert(eq(int, frame_decode(guarded(most, 10), 10, MAX_PAYLOAD, &f, &used, NULL),
	    FRAME_TOO_LARGE));
	cr_assert(eq(int, frame_decode(guarded(most, 10), 10, UINT32_MAX, &f, &used, NULL),
	    FRAME_NEED_PAYLOAD));
	cr_assert(eq(int, frame_decode(NULL, 0, MAX_PAYLOAD, &f, &used, NULL), FRAME_NEED_HEADER));
}

Test(frame_cases, reply_envelope_of_a_zeroed_struct)
{
	struct frame f = { .type = FRAME_CONVERSATION_MESSAGE, .flags = 1, .stream = 3 }, back;
	static const uint8_t zeroes[FRAME_SCHEMA_ID_SIZE];
	struct buf out = { 0 };
	size_t used;

	f.u.conversation_message.conversation = 7;
	f.u.conversation_message.envelope.payload = (struct frame_view){ (const uint8_t *)"hi", 2 };
	cr_assert(eq(int, frame_encode(&out, &f), 0));
	cr_assert(eq(int, frame_decode(buf_head(&out), buf_len(&out), MAX_PAYLOAD, &back, &used,
	    NULL), FRAME_OK));
	cr_assert(eq(sz, used, 10 + 8 + 4 + 32 + 4 + 2 + 4 + 2));
	cr_assert(eq(int, memcmp(back.u.conversation_message.envelope.schema_id, zeroes,
	    sizeof(zeroes)), 0));
	cr_assert(eq(sz, back.u.conversation_message.envelope.causal.len, 2));
	cr_assert(eq(int, memcmp(back.u.conversation_message.envelope.causal.data, "\0\0", 2), 0));
	buf_free(&out);
}

Test(frame_cases, vectors_of_strings_are_built_and_walked)
{
	struct frame f = { .type = FRAME_WORKER_REGISTER }, back;
	struct buf names = { 0 }, out = { 0 };
	struct frame_view next, string;
	size_t used;

	cr_assert(eq(int, frame_encode_string(&names, "default", 7), 0));
	cr_assert(eq(int, frame_encode_string(&names, NULL, 0), 0));
	f.u.worker_register.namespaces = (struct frame_vec){ 2, { buf_head(&names), buf_len(&names) } };
	cr_assert(eq(int, frame_encode(&out, &f), 0));
	cr_assert(eq(int, frame_decode(buf_head(&out), buf_len(&out), MAX_PAYLOAD, &back, &used,
	    NULL), FRAME_OK));
	cr_assert(eq(u32, back.u.worker_register.namespaces.count, 2));
	next = back.u.worker_register.namespaces.encoded;
	cr_assert(eq(int, frame_vec_next(&next, &string), 1));
	cr_assert(string.len == 7 && memcmp(string.data, "default", 7) == 0);
	cr_assert(eq(int, frame_vec_next(&next, &string), 1));
	cr_assert(eq(sz, string.len, 0));
	cr_assert(eq(int, frame_vec_next(&next, &string), 0));
	buf_free(&names);
	buf_free(&out);
}

Test(frame_cases, what_does_not_fit_the_length_field_is_not_encoded)
{
	struct frame f = { .type = FRAME_PUSH, .stream = 1 };
	struct buf out = { 0 };

	/* Never read: the length alone decides. */
	f.u.push.payload = (struct frame_view){ (const uint8_t *)"", UINT32_MAX };
	cr_assert(eq(int, frame_encode(&out, &f), ERR_INVALID));
	f = (struct frame){ .type = 0xee, .raw = { (const uint8_t *)"", (size_t)UINT32_MAX + 1 } };
	cr_assert(eq(int, frame_encode(&out, &f), ERR_INVALID));
	cr_assert(eq(int, frame_encode_string(&out, "", (size_t)UINT32_MAX + 1), ERR_INVALID));
	cr_assert(eq(sz, buf_len(&out), 0));
}

/* An encoder for comparison, which knows nothing of the decoder's table. */
static size_t
encode_code_point(uint32_t c, uint8_t *out)
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xc0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xe0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}

Test(frame_cases, utf8_accepts_every_scalar_value_and_no_surrogate)
{
	uint8_t text[16] = "";
	size_t len;

	for (uint32_t c = 0; c < 0x200000; c++) {
		int scalar = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);

		len = encode_code_point(c, text);
		cr_assert(frame_is_utf8(text, len) == scalar, "U+%04X", c);
		if (scalar && len > 1)
			cr_assert(eq(int, frame_is_utf8(text, len - 1), 0), "U+%04X cut", c);
	}
}

Test(frame_cases, utf8_refuses_overlong_and_stray_bytes)
{
	static const char *const bad[] = { "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",
	    "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe", "\xc2\x41",
	    "\xe1\x80\x41", "\xf1\x80\x80\x41", "\xe1\xc0\x80" };
	char text[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (size_t before = 0; before < 18; before++) {
			/* anywhere around the eight bytes that are looked at together */
			snprintf(text, sizeof(text), "%.*s%sabcdefghijk", (int)before,
			    "abcdefghijklmnopqrst", bad[i]);
			cr_assert(eq(int, frame_is_utf8((uint8_t *)text, strlen(text)), 0),
			    "%zu %zu", i, before);
		}
	cr_assert(frame_is_utf8(NULL, 0));
}

Test(frame_cases, names_of_types)
{
	cr_assert(eq(str, (char *)(uintptr_t)frame_type_name(0), (char *)(uintptr_t)"Unknown"));
	cr_assert(eq(str, (char *)(uintptr_t)frame_type_name(0x1a), (char *)(uintptr_t)"Unknown"));
	cr_assert(eq(str, (char *)(uintptr_t)frame_type_name(0x19), (char *)(uintptr_t)"Deliver"));
}
