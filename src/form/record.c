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

enum record_kind { RECORD_KIND_REGISTRATION = 1, RECORD_KIND_CONVERSATION };

struct record_header {
	uint32_t magic;
	uint16_t kind;
	uint16_t version;
	uint64_t length;	/* of the image after the header */
	uint64_t checksum;	/* FNV-1a of the image */
};

const char *const record_phase_names[] = {
	"created", "active", "completing", "closed", "failed"
};
const char *const record_participant_names[] = { "pool", "connection", "echo", "responder" };

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

/* Header and image of a packed MAP to OUT; frees MAP. */
static int
record_dump(tpl_node *map, enum record_kind kind, uint16_t version, struct buf *out)
{
	struct record_header header;
	uint8_t *room;
	size_t size = 0;
	int rc = ERR_NOMEM;

	memset(&header, 0, sizeof header);
	if (tpl_dump(map, TPL_GETSIZE, &size) == 0 && size <= RECORD_MAX &&
	    (room = buf_reserve(out, sizeof header + size)) != NULL &&
	    tpl_dump(map, TPL_MEM | TPL_PREALLOCD, room + sizeof header, size) == 0) {
		header.magic = RECORD_MAGIC;
		header.kind = (uint16_t)kind;
		header.version = version;
		header.length = size;
		header.checksum = hash_fnv1a(HASH_FNV1A_START, room + sizeof header, size);
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
	    header.checksum != hash_fnv1a(HASH_FNV1A_START, data + sizeof header,
	    len - sizeof header))
		return ERR_CORRUPT;
	*size = len - sizeof header;
	*image = malloc(*size);
	if (*image == NULL)
		return ERR_NOMEM;
	memcpy(*image, data + sizeof header, *size);
	return 0;
}

static int
record_load(tpl_node *map, void *image, size_t size)
{
	int rc = 0;

	if (map == NULL || tpl_load(map, TPL_MEM, image, size) != 0 || tpl_unpack(map, 0) <= 0)
		rc = ERR_CORRUPT;
	if (map != NULL)
		tpl_free(map);
	free(image);
	return rc;
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
	tpl_node *map;

	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	map = tpl_map(format, &n_namespaces, &namespaces, &task_queue, &has_node, &node,
	    &n_types, &types, &identity, &max, &sequence, &since, &pools);
	if (map == NULL)
		return ERR_NOMEM;
	tpl_pack(map, 0);
	return record_dump(map, RECORD_KIND_REGISTRATION, RECORD_REGISTRATION_VERSION, out);
}

static struct frame_view
record_view(tpl_bin bin, void **owned)
{
	struct frame_view view = { bin.addr, bin.sz };

	*owned = bin.addr;
	return view;
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
	void *copy;
	size_t size;
	int rc;

	memset(out, 0, sizeof *out);
	rc = record_check(image, len, RECORD_KIND_REGISTRATION, RECORD_REGISTRATION_VERSION,
	    &copy, &size);
	if (rc != 0)
		return rc;
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	rc = record_load(tpl_map(format, &n_namespaces, &namespaces, &task_queue, &has_node,
	    &node, &n_types, &types, &identity, &max, &sequence, &since, &pools), copy, size);
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
	size_t i;

	for (i = 0; i < sizeof record->owned / sizeof record->owned[0]; i++)
		free(record->owned[i]);
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
	tpl_node *map;

	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	map = tpl_map(format, &subject, &uuid, &phase, &participant, &target, &since);
	if (map == NULL)
		return ERR_NOMEM;
	tpl_pack(map, 0);
	return record_dump(map, RECORD_KIND_CONVERSATION, RECORD_CONVERSATION_VERSION, out);
}

int
record_unpack_conversation(const void *image, size_t len, struct record_conversation *out)
{
	tpl_bin subject = { 0 }, uuid = { 0 };
	uint32_t phase, participant;
	uint64_t target;
	int64_t since;
	char format[] = RECORD_CONVERSATION_FORMAT;
	void *copy;
	size_t size;
	int rc;

	memset(out, 0, sizeof *out);
	rc = record_check(image, len, RECORD_KIND_CONVERSATION, RECORD_CONVERSATION_VERSION,
	    &copy, &size);
	if (rc != 0)
		return rc;
	record_set_hooks();
	if (setjmp(record_unwind) != 0)
		return ERR_NOMEM;
	rc = record_load(tpl_map(format, &subject, &uuid, &phase, &participant, &target, &since),
	    copy, size);
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
	free(record->owned[0]);
	free(record->owned[1]);
	memset(record, 0, sizeof *record);
}
