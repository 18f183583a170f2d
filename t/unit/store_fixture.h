/*
 * store_fixture: a store environment beside the one of state_fixture.h, and what tests of the
 * dispatch record say of it in a line: steps go in, "dispatch.step:kinds" come out.
 */
#ifndef LIMINAL_T_UNIT_STORE_FIXTURE_H
#define LIMINAL_T_UNIT_STORE_FIXTURE_H

#include "base/clock.h"
#include "state/history_write.h"
#include "state/store.h"
#include "unit/state_fixture.h"

#define STORE_SMALL	((size_t)16 << 20)

static char store_dir[64];
static struct state *store_env;
static struct history_writer writer;

static inline void
store_make_dir(void)
{
	strcpy(store_dir, "/dev/shm/liminal-store-XXXXXX");
	cr_assert(ne(ptr, mkdtemp(store_dir), NULL));
}

static inline void
store_remove_dir(void)
{
	static const char *const names[] = { "/store/data.mdb", "/store/lock.mdb", "/store", "" };
	char path[128];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s%s", store_dir, names[i]);
		remove(path);
	}
}

static inline void
store_reopen(void)
{
	struct err err = { 0 };

	state_close(store_env);
	cr_assert(eq(int, store_open(&store_env, store_dir, &err), 0), "%s", err.text);
}

/* The rules, as they must hold between any two transactions. */
static inline int
store_check(void)
{
	return fixture_run_check("-s", store_dir);
}

/* As .init of a suite. */
static inline void
store_init(void)
{
	struct err err = { 0 };

	store_make_dir();
	cr_assert(eq(int, store_create_sized(store_dir, 16, STORE_SMALL, &err), 0), "%s",
	    err.text);
	store_reopen();
	memset(&writer, 0, sizeof writer);
}

static inline void
store_fini(void)
{
	history_write_free(&writer);
	state_close(store_env);
	store_env = NULL;
	store_remove_dir();
}

static inline struct state_txn *
store_begin(void)
{
	struct state_txn *txn;

	cr_assert(eq(int, state_begin_write(store_env, &txn), 0));
	cr_assert(eq(int, history_write_begin(&writer, txn), 0));
	return txn;
}

static inline void
store_commit(struct state_txn *txn)
{
	cr_assert(eq(int, history_write_end(&writer), 0));
	cr_assert(eq(int, state_commit(txn), 0));
}

static inline struct state_txn *
store_look(void)
{
	struct state_txn *txn;

	cr_assert(eq(int, state_begin_read(store_env, &txn), 0));
	return txn;
}

/* A step in one line. */
struct step_spec {
	uint64_t conn_id, request;
	uint32_t flags;
	const char *workflow;		/* NULL: "wf" */
	const char *channel;		/* NULL: "aion.dispatch.ns.q" */
	const char *result;		/* of a closing step */
	uint64_t ordinal;		/* 0: none */
	enum record_operation_kind kind;	/* 0: by the flags */
};

/* The packed body of an inbox entry, to OUT. */
static inline int
step_body(const struct step_spec *spec, struct buf *out)
{
	struct record_operations operations;
	struct buf image = { 0 };
	struct history_step step;
	int rc;

	memset(&operations, 0, sizeof operations);
	memset(&step, 0, sizeof step);
	step.flags = spec->flags;
	step.awaiter_slot = (uint32_t)spec->conn_id;
	step.has_ordinal = operations.has_ordinal = spec->ordinal != 0;
	step.ordinal = operations.ordinal = spec->ordinal;
	step.workflow_id = act_view(spec->workflow == NULL ? "wf" : spec->workflow);
	step.channel = act_view(spec->channel == NULL ? "aion.dispatch.ns.q" : spec->channel);
	operations.n = 1;
	operations.list[0].kind = spec->kind != 0 ? spec->kind :
	    spec->flags & HISTORY_CLOSES ? RECORD_CONVERSATION_CLOSED :
	    spec->flags & HISTORY_OPENS ? RECORD_OPENED : RECORD_WORKER_SELECTED;
	operations.at_ns = clock_realtime_ns();
	operations.conversation_id = act_view("the conversation");
	operations.channel = step.channel;
	operations.result = act_view(spec->result);
	rc = record_pack_operations(&operations, &image);
	step.image.data = buf_head(&image);
	step.image.len = buf_len(&image);
	if (rc == 0)
		rc = history_step_pack(&step, out);
	buf_free(&image);
	return rc;
}

/* Apply it in the transaction that has begun. */
static inline int
apply_step(struct step_spec spec, enum history_recorded *recorded)
{
	struct buf body = { 0 };
	struct history_step step;
	int rc;

	cr_assert(eq(int, step_body(&spec, &body), 0));
	memset(&step, 0, sizeof step);
	cr_assert(eq(int, history_step_unpack(buf_head(&body), buf_len(&body), &step), 0));
	step.conn_id = spec.conn_id;
	step.request = spec.request;
	rc = history_write_step(&writer, &step, recorded);
	buf_free(&body);
	return rc;
}

static inline enum history_recorded
apply(struct step_spec spec)
{
	enum history_recorded recorded;

	cr_assert(eq(int, apply_step(spec, &recorded), 0));
	return recorded;
}

/* What a workflow's record says: "1.0:1 1.1:6 2.0:1", with messages in parentheses. */
struct told { char text[4096]; size_t len; };

static inline int
tell_step(void *arg, uint64_t dispatch, uint32_t step, const struct record_operations *operations)
{
	struct told *told = arg;
	size_t left = sizeof told->text - told->len;

	told->len += (size_t)snprintf(told->text + told->len, left, "%s%llu.%u:%u",
	    told->len > 0 ? " " : "", (unsigned long long)dispatch, step,
	    operations->n > 0 ? operations->list[0].kind : 0);
	left = sizeof told->text - told->len;
	if (operations->message.len > 0)
		told->len += (size_t)snprintf(told->text + told->len, left, "(%.*s)",
		    (int)operations->message.len, (const char *)operations->message.data);
	return 0;
}

static inline const char *
story_in(struct state *store, const char *workflow)
{
	static struct told told;
	struct frame_view id = act_view(workflow);
	struct state_txn *txn;

	told.len = 0;
	told.text[0] = '\0';
	cr_assert(eq(int, state_begin_read(store, &txn), 0));
	cr_assert(eq(int, history_each(txn, &id, tell_step, &told), 0));
	state_abort(txn);
	return told.text;
}

static inline const char *
story(const char *workflow)
{
	return story_in(store_env, workflow);
}

/* The recorded result, or NULL. */
static inline const char *
outcome_in(struct state *store, const char *workflow, const char *channel, uint64_t ordinal,
    int64_t keep_age_ns)
{
	struct frame_view id = act_view(workflow), on = act_view(channel);
	struct record_operations operations;
	static char text[256];
	struct state_txn *txn;
	int rc;

	cr_assert(eq(int, state_begin_read(store, &txn), 0));
	rc = history_find_outcome(txn, &id, &on, ordinal, keep_age_ns, &operations);
	state_abort(txn);
	cr_assert(rc == 0 || rc == ERR_NOTFOUND, "outcome: %d", rc);
	if (rc != 0)
		return NULL;
	snprintf(text, sizeof text, "%.*s", (int)operations.result.len,
	    (const char *)operations.result.data);
	record_free_operations(&operations);
	return text;
}

static inline const char *
outcome(const char *workflow, uint64_t ordinal)
{
	return outcome_in(store_env, workflow, "aion.dispatch.ns.q", ordinal, 0);
}

static inline uint64_t
stored_in(enum state_table table)
{
	struct state_txn *txn = store_look();
	uint64_t n = state_count(txn, table);

	state_abort(txn);
	return n;
}

#define OPENS	HISTORY_OPENS
#define ENDS	(HISTORY_CLOSES | HISTORY_FINAL | HISTORY_AWAITED)

#endif
