/* state_registrations: registrations as a connection asks about them, for tests of the ledger. */
#ifndef LIMINAL_T_UNIT_STATE_REGISTRATIONS_H
#define LIMINAL_T_UNIT_STATE_REGISTRATIONS_H

#include "state/registrations.h"
#include "unit/state_fixture.h"

/* Connection CONN_ID asks about itself as IDENTITY; the registration's id. */
static inline uint64_t
ask_as(uint64_t conn_id, const char *identity)
{
	struct state_txn *txn = write_begin();
	struct record_registration record;
	struct buf spaces = { 0 };
	uint64_t id = 0;

	memset(&record, 0, sizeof record);
	record.namespaces = act_words(&spaces, "a b");
	record.task_queue = act_view("q");
	record.identity = act_view(identity);
	cr_assert(eq(int, registrations_ask(txn, conn_id, (uint32_t)conn_id, &record, &id), 0));
	commit(txn);
	buf_free(&spaces);
	return id;
}

/* A registration's phase, 0 = there is none. */
static inline int
phase_of(uint64_t conn_id, uint64_t id)
{
	struct state_txn *txn = read_begin();
	enum registrations_phase phase;
	int rc = registrations_get(txn, conn_id, id, &phase, NULL, NULL);

	state_abort(txn);
	cr_assert(rc == 0 || rc == ERR_NOTFOUND);
	return rc == 0 ? (int)phase : 0;
}

static inline void
set_phase(uint64_t conn_id, uint64_t id, enum registrations_phase phase)
{
	struct state_txn *txn = write_begin();

	cr_assert(eq(int, registrations_set(txn, conn_id, id, phase), 0));
	commit(txn);
}

/* It gives up; the phase that was there, 0 = none. */
static inline int
give_up(uint64_t conn_id, uint64_t id)
{
	struct state_txn *txn = write_begin();
	enum registrations_phase phase;
	int rc = registrations_give_up(txn, conn_id, id, &phase);

	commit(txn);
	cr_assert(rc == 0 || rc == ERR_NOTFOUND);
	return rc == 0 ? (int)phase : 0;
}

#endif
