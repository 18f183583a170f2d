/*
 * registrations: what the notifier has been asked about, and what it is owed (systems.md C3).
 *
 * Key: conn id, registration id. A row stands for one registration from the moment that its
 * connection asks the notifier until the notifier has been told of its end, whoever dies
 * meanwhile:
 *
 *	ASKED		worker_registered is to be called, or is being called
 *	ACCEPTED	it accepted; worker_unregistered is owed some day
 *	WITHDRAWN	worker_unregistered was called because another registration of the same
 *			connection is about to replace this one; is asked again if that one is rejected
 *	DUE		worker_unregistered is to be called
 *
 * Only the notifier's process makes a row ACCEPTED or WITHDRAWN, and only it removes a DUE one.
 * The connection, or whoever cleans up after it, removes ASKED and WITHDRAWN rows and makes
 * ACCEPTED ones DUE. So each accepted registration is told of exactly once. DUE rows
 * outlive their connection; what the notifier accepted after nobody wanted it any more comes
 * back as DUE.
 */
#ifndef LIMINAL_STATE_REGISTRATIONS_H
#define LIMINAL_STATE_REGISTRATIONS_H

#include <stdint.h>

#include "form/record.h"
#include "state/state.h"

enum registrations_phase {
	REGISTRATIONS_ASKED = 1, REGISTRATIONS_ACCEPTED, REGISTRATIONS_WITHDRAWN,
	REGISTRATIONS_DUE
};

/* Ask about a registration of CONN_ID: an ASKED row with its image, and INBOX_REGISTER for the
 * notifier. *ID gets its number, which also names the question and is greater than all before.
 * 0, ERR_FULL also when the state is too full for anything new, or worse. */
int	registrations_ask(struct state_txn *txn, uint64_t conn_id, uint32_t slot,
	    const struct record_registration *registration, uint64_t *id);

/* The connection does not wait any longer, or cannot use what was accepted: an ASKED or WITHDRAWN row
 * goes, an ACCEPTED one becomes DUE. *PHASE gets what it was; ERR_NOTFOUND = there was none. */
int	registrations_give_up(struct state_txn *txn, uint64_t conn_id, uint64_t id,
	    enum registrations_phase *phase);

/* CONN_ID has ended: the same for all that it has. Part of the close path. */
int	registrations_end(struct state_txn *txn, uint64_t conn_id);

/* A row; ERR_NOTFOUND = there is none. REGISTRATION may be NULL; free it with
 * record_free_registration. A DUE row has none (ERR_CORRUPT). */
int	registrations_get(struct state_txn *txn, uint64_t conn_id, uint64_t id,
	    enum registrations_phase *phase, uint32_t *slot,
	    struct record_registration *registration);

/* For the notifier's process: what one connection has, up to and with registration ID; 0 = no such row.
 * The oldest DUE one; the latest of the others. */
struct registrations_view { uint64_t due, accepted, withdrawn, asked; uint32_t slot; };
int	registrations_look(struct state_txn *txn, uint64_t conn_id, uint64_t id,
	    struct registrations_view *view);

int	registrations_set(struct state_txn *txn, uint64_t conn_id, uint64_t id,
	    enum registrations_phase phase);
/* A DUE row, whether there is a row or not. */
int	registrations_owe(struct state_txn *txn, uint64_t conn_id, uint64_t id);
int	registrations_del(struct state_txn *txn, uint64_t conn_id, uint64_t id);

/* Visit all rows; the first result other than 0 ends the walk and is returned. */
int	registrations_each(struct state_txn *txn, int (*visit)(void *arg, uint64_t conn_id,
	    uint64_t id, enum registrations_phase phase), void *arg);

#endif
