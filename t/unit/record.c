/* record: stored rows come back as they went in, or not at all. */
#include "base/err.h"
#include "form/record.h"
#include "unit/bytes.h"

static struct frame_view
view(const char *text)
{
	struct frame_view out = { (const uint8_t *)text, strlen(text) };

	return out;
}

static int
same(const struct frame_view *a, const struct frame_view *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* The vec of N strings of LEN bytes each, numbered, with a NUL in the middle. */
static struct frame_vec
strings(struct buf *out, uint32_t n, size_t len)
{
	struct frame_vec vec = { n, { NULL, 0 } };
	char text[256];
	uint32_t i;

	for (i = 0; i < n; i++) {
		memset(text, 'a' + (int)(i % 26), sizeof text);
		text[len / 2] = '\0';
		cr_assert(eq(int, frame_encode_string(out, text, len), 0));
	}
	vec.encoded.data = buf_head(out);
	vec.encoded.len = buf_len(out);
	return vec;
}

static void
check_registration(const struct record_registration *in)
{
	struct record_registration out;
	struct buf image = { 0 };

	cr_assert(eq(int, record_pack_registration(in, &image), 0));
	cr_assert(eq(int, record_unpack_registration(guarded(buf_head(&image), buf_len(&image)),
	    buf_len(&image), &out), 0));
	cr_assert(eq(u32, out.namespaces.count, in->namespaces.count));
	cr_assert(same(&out.namespaces.encoded, &in->namespaces.encoded));
	cr_assert(same(&out.task_queue, &in->task_queue));
	cr_assert(eq(int, out.node.present, in->node.present));
	cr_assert(same(&out.node.view, &in->node.view));
	cr_assert(eq(u32, out.activity_types.count, in->activity_types.count));
	cr_assert(same(&out.activity_types.encoded, &in->activity_types.encoded));
	cr_assert(same(&out.identity, &in->identity));
	cr_assert(same(&out.pools, &in->pools));
	cr_assert(eq(u32, out.max_concurrent, in->max_concurrent));
	cr_assert(eq(u64, out.sequence, in->sequence));
	cr_assert(eq(i64, out.since_ns, in->since_ns));
	record_free_registration(&out);
	record_free_registration(&out);
	buf_free(&image);
}

Test(record, registrations_come_back_as_they_went_in)
{
	static const uint64_t pools[] = { 1, UINT64_MAX, 0 };
	struct buf spaces = { 0 }, types = { 0 };
	struct record_registration in;

	memset(&in, 0, sizeof in);
	check_registration(&in);	/* nothing at all */
	in.namespaces = strings(&spaces, 3, 10);
	in.activity_types = strings(&types, 500, 200);
	in.task_queue = view("queue");
	in.node.present = 1;		/* present and empty is not absent */
	in.identity.data = (const uint8_t *)"a\0b";
	in.identity.len = 3;
	in.max_concurrent = UINT32_MAX;
	in.sequence = UINT64_MAX;
	in.since_ns = INT64_MIN;
	in.pools.data = (const uint8_t *)pools;
	in.pools.len = sizeof pools;
	check_registration(&in);
	in.node.view = view("node");
	check_registration(&in);
	buf_free(&spaces);
	buf_free(&types);
}

static struct record_conversation
conversation(void)
{
	struct record_conversation in;

	memset(&in, 0, sizeof in);
	in.subject = view("aion.dispatch.ns.q");
	in.uuid = view("123e4567-e89b-42d3-a456-426614174000");
	in.phase = RECORD_ACTIVE;
	in.participant = RECORD_CONNECTION;
	in.target = 77;
	in.since_ns = 123456789;
	return in;
}

Test(record, conversations_come_back_as_they_went_in)
{
	struct record_conversation in = conversation(), out;
	struct buf image = { 0 };
	uint32_t phase, participant;

	for (phase = 0; phase <= RECORD_FAILED; phase++) {
		for (participant = 0; participant <= RECORD_ECHO; participant++) {
			in.phase = phase;
			in.participant = participant;
			if (phase == RECORD_CLOSED)
				in.subject.len = in.uuid.len = 0;
			cr_assert(eq(int, record_pack_conversation(&in, &image), 0));
			cr_assert(eq(int, record_unpack_conversation(buf_head(&image),
			    buf_len(&image), &out), 0));
			cr_assert(same(&out.subject, &in.subject));
			cr_assert(same(&out.uuid, &in.uuid));
			cr_assert(eq(u32, out.phase, phase));
			cr_assert(eq(u32, out.participant, participant));
			cr_assert(eq(u64, out.target, 77));
			cr_assert(eq(i64, out.since_ns, 123456789));
			record_free_conversation(&out);
			buf_consume(&image, buf_len(&image));
		}
	}
	cr_assert(ne(ptr, (void *)(uintptr_t)record_phase_names[RECORD_FAILED], NULL));
	cr_assert(ne(ptr, (void *)(uintptr_t)record_participant_names[RECORD_ECHO], NULL));
	buf_free(&image);
}

/* Packing appends: what the buffer held is kept, and several images can follow each other. */
Test(record, packing_appends)
{
	struct record_conversation in = conversation(), out;
	struct buf image = { 0 };
	size_t one;

	cr_assert(eq(int, buf_append(&image, "before", 6), 0));
	cr_assert(eq(int, record_pack_conversation(&in, &image), 0));
	one = buf_len(&image) - 6;
	cr_assert(eq(int, record_pack_conversation(&in, &image), 0));
	cr_assert(eq(sz, buf_len(&image), 6 + 2 * one));
	cr_assert(eq(int, memcmp(buf_head(&image), "before", 6), 0));
	cr_assert(eq(int, record_unpack_conversation(buf_head(&image) + 6 + one, one, &out), 0));
	record_free_conversation(&out);
	/* two of them are not one */
	cr_assert(eq(int, record_unpack_conversation(buf_head(&image) + 6, 2 * one, &out),
	    ERR_CORRUPT));
	buf_free(&image);
}

Test(record, a_conversation_of_an_unknown_phase_or_participant_is_refused)
{
	struct record_conversation in = conversation(), out;
	struct buf image = { 0 };

	in.phase = RECORD_FAILED + 1;
	cr_assert(eq(int, record_pack_conversation(&in, &image), 0));
	cr_assert(eq(int, record_unpack_conversation(buf_head(&image), buf_len(&image), &out),
	    ERR_CORRUPT));
	buf_consume(&image, buf_len(&image));
	in.phase = RECORD_ACTIVE;
	in.participant = UINT32_MAX;
	cr_assert(eq(int, record_pack_conversation(&in, &image), 0));
	cr_assert(eq(int, record_unpack_conversation(buf_head(&image), buf_len(&image), &out),
	    ERR_CORRUPT));
	buf_free(&image);
}

static struct record_operations
operations(void)
{
	struct record_operations in;

	memset(&in, 0, sizeof in);
	in.n = 2;
	in.list[0].kind = RECORD_MESSAGE_RECEIVED;
	in.list[0].activity = RECORD_ACTIVITY_COMPLETED;
	in.list[1].kind = RECORD_CONVERSATION_CLOSED;
	in.at_ns = 1234567890123456789;
	in.has_ordinal = 1;
	in.ordinal = 42;
	in.conversation_id = view("123e4567-e89b-42d3-a456-426614174000");
	in.channel = view("aion.dispatch.ns.q");
	in.worker_id = view("w#7");
	in.result = view("{\"status\":\"completed\"}");
	return in;
}

static void
check_operations(const struct record_operations *in)
{
	struct record_operations out;
	struct buf image = { 0 };
	uint32_t i;

	cr_assert(eq(int, record_pack_operations(in, &image), 0));
	cr_assert(eq(int, record_unpack_operations(buf_head(&image), buf_len(&image), &out), 0));
	cr_assert(eq(u32, out.n, in->n));
	for (i = 0; i < in->n; i++) {
		cr_assert(eq(u8, out.list[i].kind, in->list[i].kind));
		cr_assert(eq(u8, out.list[i].activity, in->list[i].activity));
		cr_assert(eq(u8, out.list[i].is_retry_eligible, in->list[i].is_retry_eligible));
		cr_assert(eq(i64, out.list[i].at_ns, in->list[i].at_ns));
	}
	cr_assert(eq(i64, out.at_ns, in->at_ns));
	cr_assert(eq(u32, out.code, in->code));
	cr_assert(eq(int, out.has_ordinal, in->has_ordinal));
	cr_assert(eq(u64, out.ordinal, in->ordinal));
	cr_assert(same(&out.conversation_id, &in->conversation_id));
	cr_assert(same(&out.channel, &in->channel));
	cr_assert(same(&out.activity_type, &in->activity_type));
	cr_assert(same(&out.worker_id, &in->worker_id));
	cr_assert(same(&out.message, &in->message));
	cr_assert(same(&out.result, &in->result));
	record_free_operations(&out);
	record_free_operations(&out);
	buf_free(&image);
}

Test(record, operations_come_back_as_they_went_in)
{
	static uint8_t large[(16 << 20) + 1];
	struct record_operations in;
	uint8_t kind, activity;
	uint32_t i;

	memset(&in, 0, sizeof in);
	check_operations(&in);		/* nothing at all */
	in = operations();
	check_operations(&in);
	for (kind = RECORD_OPENED; kind <= RECORD_CONVERSATION_CLOSED; kind++) {
		for (activity = 0; activity <= RECORD_ACTIVITY_FAILED; activity++) {
			in.n = RECORD_OPERATIONS_MAX;
			for (i = 2; i < in.n; i++) {
				in.list[i].kind = kind;
				in.list[i].activity = activity;
				in.list[i].is_retry_eligible = i % 2;
				in.list[i].at_ns = INT64_MAX - i;
			}
			check_operations(&in);
		}
		cr_assert(lt(sz, 0, strlen(record_operation_names[kind])));
	}
	cr_assert(lt(sz, 0, strlen(record_activity_names[RECORD_ACTIVITY_FAILED])));
	in.code = UINT32_MAX;
	in.ordinal = UINT64_MAX;
	in.at_ns = INT64_MIN;
	in.has_ordinal = 0;
	in.activity_type = view("type");
	in.message = view("worker 'w#7' failed activity: \xff");
	memset(large, 0xa5, sizeof large);
	in.result.data = large;
	in.result.len = sizeof large;
	check_operations(&in);
}

Test(record, a_step_of_too_many_or_unknown_operations_is_refused)
{
	struct record_operations in = operations(), out;
	struct buf image = { 0 };
	unsigned i;

	in.n = RECORD_OPERATIONS_MAX + 1;
	cr_assert(eq(int, record_pack_operations(&in, &image), ERR_INVALID));
	cr_assert(eq(sz, buf_len(&image), 0));
	for (i = 0; i < 4; i++) {
		in = operations();
		in.list[1].kind = i == 0 ? 0 : i == 1 ? RECORD_CONVERSATION_CLOSED + 1 :
		    RECORD_CONVERSATION_CLOSED;
		in.list[1].activity = i == 2 ? RECORD_ACTIVITY_FAILED + 1 : 0;
		in.list[1].is_retry_eligible = i == 3 ? 2 : 0;
		cr_assert(eq(int, record_pack_operations(&in, &image), 0));
		cr_assert(eq(int, record_unpack_operations(buf_head(&image), buf_len(&image),
		    &out), ERR_CORRUPT));
		buf_consume(&image, buf_len(&image));
	}
	buf_free(&image);
}

/* All readers, on bytes that end at an inaccessible page. */
static void
refused(const uint8_t *bytes, size_t len)
{
	struct record_registration registration;
	struct record_conversation record;
	struct record_operations step;

	cr_assert(eq(int, record_unpack_operations(bytes, len, &step), ERR_CORRUPT));
	cr_assert(eq(int, record_unpack_registration(bytes, len, &registration), ERR_CORRUPT));
	cr_assert(eq(int, record_unpack_conversation(bytes, len, &record), ERR_CORRUPT));
}

/* Every shorter image, every flipped bit, every image with bytes behind it. */
static void
damage(const uint8_t *image, size_t len)
{
	uint8_t *copy = malloc(len + 16);
	size_t i;

	memcpy(copy, image, len);
	memset(copy + len, 0, 16);
	for (i = 0; i < len; i++)
		refused(guarded(copy, i), i);
	for (i = 1; i <= 16; i++)
		refused(guarded(copy, len + i), len + i);
	for (i = 0; i < len * 8; i++) {
		copy[i / 8] ^= (uint8_t)(1 << i % 8);
		refused(guarded(copy, len), len);
		copy[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (i = 0; i < len; i++) {
		copy[i] ^= 0xff;
		refused(guarded(copy, len), len);
		copy[i] ^= 0xff;
	}
	free(copy);
}

Test(record, damaged_images_are_refused)
{
	struct record_conversation record = conversation();
	struct buf spaces = { 0 }, types = { 0 }, image = { 0 };
	struct record_operations step = operations();
	struct record_registration in;

	cr_assert(eq(int, record_pack_operations(&step, &image), 0));
	damage(buf_head(&image), buf_len(&image));
	buf_consume(&image, buf_len(&image));
	cr_assert(eq(int, record_pack_conversation(&record, &image), 0));
	damage(buf_head(&image), buf_len(&image));
	buf_consume(&image, buf_len(&image));
	memset(&in, 0, sizeof in);
	in.namespaces = strings(&spaces, 2, 5);
	in.activity_types = strings(&types, 3, 30);
	in.task_queue = in.identity = view("queue");
	cr_assert(eq(int, record_pack_registration(&in, &image), 0));
	damage(buf_head(&image), buf_len(&image));
	buf_free(&image);
	buf_free(&spaces);
	buf_free(&types);
}

/* The checksum does not cover the header: an image that claims to be of the other kind has
 * to fail by its format. The kind lies behind the magic number. */
Test(record, an_image_of_the_other_kind_is_refused)
{
	struct record_registration registration, in;
	struct record_conversation record = conversation();
	struct record_operations step;
	struct buf image = { 0 };
	uint16_t kind;

	cr_assert(eq(int, record_pack_conversation(&record, &image), 0));
	memcpy(&kind, buf_head(&image) + 4, 2);
	cr_assert(eq(u16, kind, 2));
	cr_assert(eq(int, record_unpack_registration(buf_head(&image), buf_len(&image),
	    &registration), ERR_CORRUPT));
	buf_head(&image)[4] = 1;
	refused(buf_head(&image), buf_len(&image));
	buf_consume(&image, buf_len(&image));
	memset(&in, 0, sizeof in);
	cr_assert(eq(int, record_pack_registration(&in, &image), 0));
	buf_head(&image)[4] = 2;
	refused(buf_head(&image), buf_len(&image));
	buf_head(&image)[4] = 3;
	refused(buf_head(&image), buf_len(&image));
	buf_consume(&image, buf_len(&image));
	step = operations();
	cr_assert(eq(int, record_pack_operations(&step, &image), 0));
	buf_head(&image)[4] = 1;
	refused(buf_head(&image), buf_len(&image));
	buf_head(&image)[4] = 2;
	refused(buf_head(&image), buf_len(&image));
	buf_free(&image);
}

Test(record, nothing_is_no_image)
{
	refused(NULL, 0);
	refused((const uint8_t *)"", 0);
}
