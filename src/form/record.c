/*
 * Stored records. tpl reports trouble through hooks that end the process by default; here
 * they unwind to the call that was made, which then returns an error. What tpl had
 * allocated until then is lost: that happens only when memory has run out.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <tpl.h>

#include "base/err.h"
#include "base/hash.h"
#include "form/record.h"

#define RECORD_MAGIC		UINT32_C(0x6c6d7231)
#define RECORD_MAX		(UINT32_C(32) << 20)

#define RECORD_REGISTRATION_VERSION	1
#define RECORD_REGISTRATION_FORMAT	"uBBuBuBBuUIB"
#define RECORD_CONVERSATION_VERSION	1
#define RECORD_CONVERSATION_FORMAT	"BBuuUI"
#define RECORD_OPERATIONS_VERSION	1
#define RECORD_OPERATIONS_FORMAT	"BIuuUBBBBBB"

enum record_kind { RECORD_KIND_REGISTRATION = 1, RECORD_KIND_CONVERSATION, RECORD_KIND_OPERATIONS };

struct record_header {
	uint32_t magic;
	uint16_t kind;
	uint16_t version;
	uint64_t length;	/* of the image after the header */
	uint64_t checksum;	/* hash_checksum of the image */
};

const char *const record_phase_names[] = {
	"created", "active", "completing", "closed", "failed"
};
const char *const record_participant_names[] = { "pool", "connection", "echo", "responder" };
const char *const record_operation_names[] = {
	"none", "conversation opened", "worker selected", "message sent", "message received",
	"worker exited", "conversation closed"
};
const char *const record_activity_names[] = {
	"none", "scheduled", "started", "completed", "failed"
};

extern tpl_hook_t tpl_hook;
static jmp_buf record_unwind;

static void __attribute__((noreturn))
record_tpl_fatal(const char *fmt, ...)
{
	(void)fmt;
	longjmp(record_unwind, 1);
}

static int
record_tpl_oops(const char *fmt, ...)
{
	(void)fmt;
	return 0;
}

static void
record_set_hooks(void)
{
	tpl_hook.fatal = record_tpl_fatal;
	tpl_hook.oops = record_tpl_oops;
}

static tpl_bin
record_bin(const struct frame_view *view)
{
	tpl_bin bin = { (void *)(uintptr_t)view->data, (uint32_t)view->len };

	return bin;
}

/* Pack MAP (NULL: memory has run out), append header and image to OUT, free MAP. */
static int
record_pack(tpl_node *map, enum record_kind kind, uint16_t version, struct buf *out)
{
	struct record_header header;
	uint8_t *room;
	size_t size = 0;
	int rc = ERR_NOMEM;

	if (map == NULL)
		return ERR_NOMEM;
	memset(&header, 0, sizeof header);
	if (tpl_pack(map, 0) != 0 || tpl_dump(map, TPL_GETSIZE, &size) != 0)
		rc = ERR_NOMEM;
	else if (size > RECORD_MAX - sizeof header)
		rc = ERR_FULL;
	else if ((room = buf_reserve(out, sizeof header + size)) != NULL &&
	    tpl_dump(map, TPL_MEM | TPL_PREALLOCD, room + sizeof header, size) == 0) {
		header.magic = RECORD_MAGIC;
		header.kind = (uint16_t)kind;
		header.version = version;
		header.length = size;
		header.checksum = hash_checksum(room + sizeof header, size);
		memcpy(room, &header, sizeof header);
		buf_commit(out, sizeof header + size);
		rc = 0;
	}
	tpl_free(map);
	return rc;
}

/* The image behind a good header, or NULL. tpl wants it writable and aligned: a copy. */
static int
record_check(const void *bytes, size_t len, enum record_kind kind, uint16_t version,
    void **image, size_t *size)
{
	struct record_header header;
	const uint8_t *data = bytes;

	if (len < sizeof header || len > RECORD_MAX)
		return ERR_CORRUPT;
	memcpy(&header, data, sizeof header);
	if (header.magic != RECORD_MAGIC || header.kind != kind || header.version != version ||
	    header.length != len - sizeof header ||
	    header.checksum != hash_checksum(data + sizeof header, len - sizeof header))
		return ERR_CORRUPT;
	*size = len - sizeof header;
	*image = malloc(*size);
	if (*image == NULL)
		return ERR_NOMEM;
	memcpy(*image, data + sizeof header, *size);
	return 0;
}

/* Read BYTES into what MAP (NULL: memory has run out) points to; frees MAP. */
static int
record_unpack(tpl_node *map, enum record_kind kind, uint16_t version, const void *bytes,
    size_t len)
{
	void *image = NULL;
	size_t size;
	int rc;

	if (map == NULL)
		return ERR_NOMEM;
	rc = record_check(bytes, len, kind, version, &image, &size);
	if (rc == 0 && (tpl_load(map, TPL_MEM, image, size) != 0 || tpl_unpack(map, 0) <= 0))
		rc = ERR_CORRUPT;
	tpl_free(map);
	free(image);
	return rc;
}

static struct frame_view
record_view(tpl_bin bin, void **owned)
{
	struct frame_view view = { bin.addr, bin.sz };

	*owned = bin.addr;
	return view;
}

static void
record_free_owned(void **owned, size_t n)
{
	while (n-- > 0)
		free(owned[n]);
}

int
record_pack_registration(const struct record_registration *in, struct buf *out)
{
	tpl_bin namespaces = record_bin(&in->namespaces.encoded);
	tpl_bin task_queue = record_bin(&in->task_queue), node = record_bin(&in->node.view);
	tpl_bin types = record_bin(&in->activity_types.encoded);
	tpl_bin identity = record_bin(&in->identity), pools = record_bin(&in->pools);
	uint32_t n_namespaces = in->namespaces.count, n_types = in->activity_types.count;
	uint32_t has_node = in->node.present != 0, max = in->max_concurrent;
	uint64_t sequence = in->sequence;
	int64_t since = in->since_ns;
	char format[] = RECORD_REGISTRATION_FORMAT;

	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	return record_pack(tpl_map(format, &n_namespaces, &namespaces, &task_queue, &has_node,
	    &node, &n_types, &types, &identity, &max, &sequence, &since, &pools),
	    RECORD_KIND_REGISTRATION, RECORD_REGISTRATION_VERSION, out);
}

int
record_unpack_registration(const void *image, size_t len, struct record_registration *out)
{
	tpl_bin namespaces = { 0 }, task_queue = { 0 }, node = { 0 }, types = { 0 };
	tpl_bin identity = { 0 }, pools = { 0 };
	uint32_t n_namespaces, has_node, n_types, max;
	uint64_t sequence;
	int64_t since;
	char format[] = RECORD_REGISTRATION_FORMAT;
	int rc;

	memset(out, 0, sizeof *out);
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	rc = record_unpack(tpl_map(format, &n_namespaces, &namespaces, &task_queue, &has_node,
	    &node, &n_types, &types, &identity, &max, &sequence, &since, &pools),
	    RECORD_KIND_REGISTRATION, RECORD_REGISTRATION_VERSION, image, len);
	if (rc != 0)
		return rc;
	out->namespaces.count = n_namespaces;
	out->namespaces.encoded = record_view(namespaces, &out->owned[0]);
	out->task_queue = record_view(task_queue, &out->owned[1]);
	out->node.present = has_node != 0;
	out->node.view = record_view(node, &out->owned[2]);
	out->activity_types.count = n_types;
	out->activity_types.encoded = record_view(types, &out->owned[3]);
	out->identity = record_view(identity, &out->owned[4]);
	out->max_concurrent = max;
	out->sequence = sequence;
	out->since_ns = since;
	out->pools = record_view(pools, &out->owned[5]);
	return 0;
}

void
record_free_registration(struct record_registration *record)
{
	record_free_owned(record->owned, sizeof record->owned / sizeof record->owned[0]);
	memset(record, 0, sizeof *record);
}

int
record_pack_conversation(const struct record_conversation *in, struct buf *out)
{
	tpl_bin subject = record_bin(&in->subject), uuid = record_bin(&in->uuid);
	uint32_t phase = in->phase, participant = in->participant;
	uint64_t target = in->target;
	int64_t since = in->since_ns;
	char format[] = RECORD_CONVERSATION_FORMAT;

	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	return record_pack(tpl_map(format, &subject, &uuid, &phase, &participant, &target, &since),
	    RECORD_KIND_CONVERSATION, RECORD_CONVERSATION_VERSION, out);
}

int
record_unpack_conversation(const void *image, size_t len, struct record_conversation *out)
{
	tpl_bin subject = { 0 }, uuid = { 0 };
	uint32_t phase, participant;
	uint64_t target;
	int64_t since;
	char format[] = RECORD_CONVERSATION_FORMAT;
	int rc;

	memset(out, 0, sizeof *out);
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	rc = record_unpack(tpl_map(format, &subject, &uuid, &phase, &participant, &target, &since),
	    RECORD_KIND_CONVERSATION, RECORD_CONVERSATION_VERSION, image, len);
	if (rc != 0)
		return rc;
	if (phase > RECORD_FAILED || participant > RECORD_RESPONDER) {
		free(subject.addr);
		free(uuid.addr);
		return ERR_CORRUPT;
	}
	out->subject = record_view(subject, &out->owned[0]);
	out->uuid = record_view(uuid, &out->owned[1]);
	out->phase = phase;
	out->participant = participant;
	out->target = target;
	out->since_ns = since;
	return 0;
}

void
record_free_conversation(struct record_conversation *record)
{
	record_free_owned(record->owned, sizeof record->owned / sizeof record->owned[0]);
	memset(record, 0, sizeof *record);
}

/* Each operation takes RECORD_OPERATION_BYTES: kind, activity, retry eligible, and its time. */
#define RECORD_OPERATION_BYTES	(3 + sizeof(int64_t))

int
record_pack_operations(const struct record_operations *in, struct buf *out)
{
	uint8_t list[RECORD_OPERATIONS_MAX * RECORD_OPERATION_BYTES], *at = list;
	tpl_bin operations = { list, (uint32_t)(in->n * RECORD_OPERATION_BYTES) };
	tpl_bin conversation = record_bin(&in->conversation_id);
	tpl_bin channel = record_bin(&in->channel), type = record_bin(&in->activity_type);
	tpl_bin worker = record_bin(&in->worker_id), message = record_bin(&in->message);
	tpl_bin result = record_bin(&in->result);
	uint32_t i, code = in->code, has_ordinal = in->has_ordinal != 0;
	uint64_t ordinal = in->ordinal;
	int64_t at_ns = in->at_ns;
	char format[] = RECORD_OPERATIONS_FORMAT;

	if (in->n > RECORD_OPERATIONS_MAX)
		return ERR_INVALID;
	for (i = 0; i < in->n; i++) {
		*at++ = in->list[i].kind;
		*at++ = in->list[i].activity;
		*at++ = in->list[i].is_retry_eligible;
		memcpy(at, &in->list[i].at_ns, sizeof in->list[i].at_ns);
		at += sizeof in->list[i].at_ns;
	}
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	return record_pack(tpl_map(format, &operations, &at_ns, &code, &has_ordinal, &ordinal,
	    &conversation, &channel, &type, &worker, &message, &result),
	    RECORD_KIND_OPERATIONS, RECORD_OPERATIONS_VERSION, out);
}

/* The list that was packed as LIST; ERR_CORRUPT if it holds anything unknown. */
static int
record_read_list(const tpl_bin *list, struct record_operations *out)
{
	const uint8_t *at = list->addr;
	uint32_t i;

	if (list->sz % RECORD_OPERATION_BYTES != 0 ||
	    list->sz > RECORD_OPERATIONS_MAX * RECORD_OPERATION_BYTES)
		return ERR_CORRUPT;
	out->n = (uint32_t)(list->sz / RECORD_OPERATION_BYTES);
	for (i = 0; i < out->n; i++, at += RECORD_OPERATION_BYTES) {
		if (at[0] < RECORD_OPENED || at[0] > RECORD_CONVERSATION_CLOSED ||
		    at[1] > RECORD_ACTIVITY_FAILED || at[2] > 1)
			return ERR_CORRUPT;
		out->list[i].kind = at[0];
		out->list[i].activity = at[1];
		out->list[i].is_retry_eligible = at[2];
		memcpy(&out->list[i].at_ns, at + 3, sizeof out->list[i].at_ns);
	}
	return 0;
}

int
record_unpack_operations(const void *image, size_t len, struct record_operations *out)
{
	tpl_bin list = { 0 }, conversation = { 0 }, channel = { 0 }, type = { 0 };
	tpl_bin worker = { 0 }, message = { 0 }, result = { 0 };
	uint32_t code, has_ordinal;
	uint64_t ordinal;
	int64_t at_ns;
	char format[] = RECORD_OPERATIONS_FORMAT;
	int rc;

	memset(out, 0, sizeof *out);
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	rc = record_unpack(tpl_map(format, &list, &at_ns, &code, &has_ordinal, &ordinal,
	    &conversation, &channel, &type, &worker, &message, &result),
	    RECORD_KIND_OPERATIONS, RECORD_OPERATIONS_VERSION, image, len);
	if (rc != 0)
		return rc;
	out->at_ns = at_ns;
	out->code = code;
	out->has_ordinal = has_ordinal != 0;
	out->ordinal = ordinal;
	out->conversation_id = record_view(conversation, &out->owned[0]);
	out->channel = record_view(channel, &out->owned[1]);
	out->activity_type = record_view(type, &out->owned[2]);
	out->worker_id = record_view(worker, &out->owned[3]);
	out->message = record_view(message, &out->owned[4]);
	out->result = record_view(result, &out->owned[5]);
	rc = record_read_list(&list, out);
	free(list.addr);
	if (rc != 0)
		record_free_operations(out);
	return rc;
}

void
record_free_operations(struct record_operations *record)
{
	record_free_owned(record->owned, sizeof record->owned / sizeof record->owned[0]);
	memset(record, 0, sizeof *record);
}
