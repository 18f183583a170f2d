/* The registrations table: a fixed head, then the registration's image, which DUE rows lack. */
#include <stdlib.h>
#include <string.h>

#include "state/inbox.h"
#include "state/registrations.h"

#define REGISTRATIONS_VERSION	1
#define REGISTRATIONS_KEY	16

/* To change the row: raise the version; the state is emptied at each start. */
struct registrations_row {
	uint16_t version;
	uint16_t phase;		/* enum registrations_phase */
	uint32_t slot;		/* of the connection */
};

static void
registrations_key(uint8_t key[REGISTRATIONS_KEY], uint64_t conn_id, uint64_t id)
{
	state_key_put(key, conn_id);
	state_key_put(key + 8, id);
}

static int
registrations_read(const struct state_view *view, struct registrations_row *row)
{
	if (view->len < sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view->data, sizeof *row);
	return row->version == REGISTRATIONS_VERSION && row->phase >= REGISTRATIONS_ASKED &&
	    row->phase <= REGISTRATIONS_DUE ? 0 : ERR_CORRUPT;
}

static int
registrations_tell(struct state_txn *txn, enum inbox_kind kind, uint64_t conn_id, uint64_t id)
{
	struct inbox_entry entry;

	memset(&entry, 0, sizeof entry);
	entry.kind = kind;
	entry.conn_id = conn_id;
	entry.request = id;
	return inbox_post(txn, INBOX_SERVICE(BOARD_NOTIFIER),
	    BOARD_SERVICE_SLOT(BOARD_NOTIFIER), &entry, NULL);
}

int
registrations_ask(struct state_txn *txn, uint64_t conn_id, uint32_t slot,
    const struct record_registration *registration, uint64_t *id)
{
	struct registrations_row row = {
		.version = REGISTRATIONS_VERSION, .phase = REGISTRATIONS_ASKED, .slot = slot
	};
	uint8_t key[REGISTRATIONS_KEY];
	struct buf image = { 0 };
	int rc;

	/* Its end, at the latest, has to be written some day. */
	if (state_is_tight(txn) || (*id = state_next_id(txn)) == 0)
		return ERR_FULL;
	registrations_key(key, conn_id, *id);
	rc = buf_append(&image, &row, sizeof row);
	if (rc == 0)
		rc = record_pack_registration(registration, &image);
	if (rc == 0)
		rc = state_put(txn, STATE_REGISTRATIONS, key, sizeof key, buf_head(&image),
		    buf_len(&image));
	buf_free(&image);
	return rc != 0 ? rc : registrations_tell(txn, INBOX_REGISTER, conn_id, *id);
}

/* The row at KEY: all of it as it is stored, and its head. */
static int
registrations_find(struct state_txn *txn, const uint8_t key[REGISTRATIONS_KEY],
    struct state_view *view, struct registrations_row *row)
{
	int rc = state_get(txn, STATE_REGISTRATIONS, key, REGISTRATIONS_KEY, view);

	return rc != 0 ? rc : registrations_read(view, row);
}

int
registrations_get(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    enum registrations_phase *phase, uint32_t *slot, struct record_registration *registration)
{
	uint8_t key[REGISTRATIONS_KEY];
	struct registrations_row row;
	struct state_view view;
	int rc;

	registrations_key(key, conn_id, id);
	if ((rc = registrations_find(txn, key, &view, &row)) != 0)
		return rc;
	*phase = (enum registrations_phase)row.phase;
	if (slot != NULL)
		*slot = row.slot;
	return registration == NULL ? 0 : record_unpack_registration(
	    (const uint8_t *)view.data + sizeof row, view.len - sizeof row, registration);
}

int
registrations_owe(struct state_txn *txn, uint64_t conn_id, uint64_t id)
{
	struct registrations_row row = {
		.version = REGISTRATIONS_VERSION, .phase = REGISTRATIONS_DUE
	};
	uint8_t key[REGISTRATIONS_KEY];

	registrations_key(key, conn_id, id);
	return state_put(txn, STATE_REGISTRATIONS, key, sizeof key, &row, sizeof row);
}

int
registrations_set(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    enum registrations_phase phase)
{
	uint8_t key[REGISTRATIONS_KEY];
	struct registrations_row row;
	struct state_view view;
	uint8_t *copy;
	int rc;

	if (phase == REGISTRATIONS_DUE)
		return registrations_owe(txn, conn_id, id);
	registrations_key(key, conn_id, id);
	if ((rc = registrations_find(txn, key, &view, &row)) != 0)
		return rc;
	/* The view points into a page that the write may change. */
	if ((copy = malloc(view.len)) == NULL)
		return ERR_NOMEM;
	memcpy(copy, view.data, view.len);
	row.phase = (uint16_t)phase;
	memcpy(copy, &row, sizeof row);
	rc = state_put(txn, STATE_REGISTRATIONS, key, sizeof key, copy, view.len);
	free(copy);
	return rc;
}

int
registrations_del(struct state_txn *txn, uint64_t conn_id, uint64_t id)
{
	uint8_t key[REGISTRATIONS_KEY];

	registrations_key(key, conn_id, id);
	return state_del(txn, STATE_REGISTRATIONS, key, sizeof key);
}

/* Nobody wants it any more: what the notifier does not know goes, what it knows is due. */
static int
registrations_leave(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    enum registrations_phase phase)
{
	int rc = 0;

	switch (phase) {
	case REGISTRATIONS_ASKED:
	case REGISTRATIONS_WITHDRAWN:
		return registrations_del(txn, conn_id, id);
	case REGISTRATIONS_ACCEPTED:
		rc = registrations_owe(txn, conn_id, id);
		if (rc == 0)
			rc = registrations_tell(txn, INBOX_UNREGISTER, conn_id, id);
		break;
	case REGISTRATIONS_DUE:
		break;
	}
	return rc;
}

int
registrations_give_up(struct state_txn *txn, uint64_t conn_id, uint64_t id,
    enum registrations_phase *phase)
{
	int rc = registrations_get(txn, conn_id, id, phase, NULL, NULL);

	return rc != 0 ? rc : registrations_leave(txn, conn_id, id, *phase);
}

/* The first row of CONN_ID from registration ID on, or ERR_NOTFOUND; *ID gets its own. */
static int
registrations_next(struct state_txn *txn, uint64_t conn_id, uint64_t *id,
    struct registrations_row *row)
{
	uint8_t start[REGISTRATIONS_KEY];
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	registrations_key(start, conn_id, *id);
	if ((rc = state_cursor_open(txn, STATE_REGISTRATIONS, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, start, sizeof start, &key, &view);
	state_cursor_close(cursor);
	if (rc != 0)
		return rc;
	if (key.len != sizeof start)
		return ERR_CORRUPT;
	if (state_key_get(key.data) != conn_id)
		return ERR_NOTFOUND;
	*id = state_key_get((const uint8_t *)key.data + 8);
	return registrations_read(&view, row);
}

int
registrations_end(struct state_txn *txn, uint64_t conn_id)
{
	struct registrations_row row;
	uint64_t id = 0;
	int rc;

	while ((rc = registrations_next(txn, conn_id, &id, &row)) == 0) {
		rc = registrations_leave(txn, conn_id, id, (enum registrations_phase)row.phase);
		if (rc != 0)
			return rc;
		id++;
	}
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
registrations_look(struct state_txn *txn, uint64_t conn_id, uint64_t up_to,
    struct registrations_view *view)
{
	struct registrations_row row;
	uint64_t id = 0;
	int rc;

	memset(view, 0, sizeof *view);
	while ((rc = registrations_next(txn, conn_id, &id, &row)) == 0 && id <= up_to) {
		switch ((enum registrations_phase)row.phase) {
		case REGISTRATIONS_ASKED:
			view->asked = id;
			break;
		case REGISTRATIONS_ACCEPTED:
			view->accepted = id;
			break;
		case REGISTRATIONS_WITHDRAWN:
			view->withdrawn = id;
			break;
		case REGISTRATIONS_DUE:
			if (view->due == 0)
				view->due = id;
			break;
		}
		if (row.phase != REGISTRATIONS_DUE)
			view->slot = row.slot;
		id++;
	}
	return rc == ERR_NOTFOUND ? 0 : rc;
}

int
registrations_each(struct state_txn *txn, int (*visit)(void *arg, uint64_t conn_id, uint64_t id,
    enum registrations_phase phase), void *arg)
{
	struct registrations_row row;
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_REGISTRATIONS, &cursor)) != 0)
		return rc;
	rc = state_next(cursor, &key, &view);
	while (rc == 0) {
		rc = key.len == REGISTRATIONS_KEY ? registrations_read(&view, &row) : ERR_CORRUPT;
		if (rc == 0)
			rc = visit(arg, state_key_get(key.data),
			    state_key_get((const uint8_t *)key.data + 8),
			    (enum registrations_phase)row.phase);
		if (rc == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
