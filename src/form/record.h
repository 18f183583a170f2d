/*
 * record: structured rows as tpl images behind a checked header.
 *
 * The only place that sees tpl, which must never see bytes that a peer wrote or that were not
 * checked: every image is preceded by magic, kind, version, length and checksum. Lists are
 * kept in the wire's vec(string) form, which needs no tpl array.
 *
 * To change a record: change the struct, its format string and its version together. The state
 * is emptied at each start; a record that outlives one keeps its old reader under its old
 * version.
 */
#ifndef LIMINAL_FORM_RECORD_H
#define LIMINAL_FORM_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"

/* What a worker declared (systems.md C1, D2). The views are the caller's when packing; when
 * unpacked they point into OWNED. */
struct record_registration {
	struct frame_vec namespaces;
	struct frame_view task_queue;
	struct frame_opt_view node;
	struct frame_vec activity_types;	/* empty = all */
	struct frame_view identity;
	uint32_t max_concurrent;
	uint64_t sequence;		/* differs between registrations; for caches */
	int64_t since_ns;		/* real time */
	struct frame_view pools;	/* pool ids, uint64_t each, in the order of namespaces */
	void *owned[6];
};

enum record_phase {		/* systems.md F1 */
	RECORD_CREATED, RECORD_ACTIVE, RECORD_COMPLETING, RECORD_CLOSED, RECORD_FAILED
};
enum record_participant {
	RECORD_POOL, RECORD_CONNECTION, RECORD_ECHO, RECORD_RESPONDER
};

struct record_conversation {
	struct frame_view subject;
	struct frame_view uuid;		/* text */
	uint32_t phase;			/* enum record_phase */
	uint32_t participant;		/* enum record_participant */
	uint64_t target;		/* RECORD_CONNECTION: conn id; RECORD_RESPONDER: its pid */
	int64_t since_ns;		/* real time */
	void *owned[2];
};

/* Operations of a dispatch (systems.md E8). */
enum record_operation_kind {
	RECORD_OPENED = 1, RECORD_WORKER_SELECTED, RECORD_MESSAGE_SENT, RECORD_MESSAGE_RECEIVED,
	RECORD_WORKER_EXITED, RECORD_CONVERSATION_CLOSED
};
enum record_activity {
	RECORD_ACTIVITY_NONE, RECORD_ACTIVITY_SCHEDULED, RECORD_ACTIVITY_STARTED,
	RECORD_ACTIVITY_COMPLETED, RECORD_ACTIVITY_FAILED
};
struct record_operation {
	uint8_t kind;			/* enum record_operation_kind */
	uint8_t activity;		/* enum record_activity */
	uint8_t is_retry_eligible;	/* RECORD_ACTIVITY_FAILED only */
	int64_t at_ns;			/* real time */
};
#define RECORD_OPERATIONS_MAX	8

/* One step of a dispatch: operations that were handed to the store together, in their order. A worker,
 * a message and a result are the same for all of them. */
struct record_operations {
	uint32_t n;
	struct record_operation list[RECORD_OPERATIONS_MAX];
	int64_t at_ns;			/* of the last one; real time */
	uint32_t code;			/* the wire's reason when the dispatch failed; 0 = it did not */
	int has_ordinal;
	uint64_t ordinal;
	struct frame_view conversation_id, channel;
	struct frame_view activity_type;	/* with RECORD_OPENED; empty = none */
	struct frame_view worker_id;	/* empty = no worker is concerned */
	struct frame_view message;	/* what a person may read: an error, an end's reason */
	struct frame_view result;	/* the answer's payload */
	void *owned[6];
};

/* By the numbers of the enums, as people read them. */
extern const char *const record_phase_names[];
extern const char *const record_participant_names[];
extern const char *const record_operation_names[], *const record_activity_names[];

/* Append the image to OUT. 0 or ERR_NOMEM; ERR_FULL for more than 32 MiB; ERR_INVALID for more operations
 * than fit a step. */
int	record_pack_registration(const struct record_registration *in, struct buf *out);
int	record_pack_conversation(const struct record_conversation *in, struct buf *out);
int	record_pack_operations(const struct record_operations *in, struct buf *out);

/* 0, ERR_NOMEM or ERR_CORRUPT; free the result in case of 0. */
int	record_unpack_registration(const void *image, size_t len, struct record_registration *out);
int	record_unpack_conversation(const void *image, size_t len, struct record_conversation *out);
int	record_unpack_operations(const void *image, size_t len, struct record_operations *out);
void	record_free_registration(struct record_registration *record);
void	record_free_conversation(struct record_conversation *record);
void	record_free_operations(struct record_operations *record);

#endif
