/* Named numbers in the counters table. */
#include <stdio.h>
#include <string.h>

#include "state/counters.h"

#define COUNTERS_PREFIX		"count/"
#define COUNTERS_KEY_MAX	64

static size_t
counters_key(char key[COUNTERS_KEY_MAX], const char *name)
{
	int n = snprintf(key, COUNTERS_KEY_MAX, COUNTERS_PREFIX "%s", name);

	return (size_t)n < COUNTERS_KEY_MAX ? (size_t)n : COUNTERS_KEY_MAX - 1;
}

int
counters_put(struct state_txn *txn, const char *name, uint64_t value)
{
	char key[COUNTERS_KEY_MAX];

	return state_put(txn, STATE_COUNTERS, key, counters_key(key, name), &value,
	    sizeof value);
}

int
counters_get(struct state_txn *txn, const char *name, uint64_t *value)
{
	char key[COUNTERS_KEY_MAX];
	struct state_view view;
	int rc;

	rc = state_get(txn, STATE_COUNTERS, key, counters_key(key, name), &view);
	if (rc == 0 && view.len != sizeof *value)
		rc = ERR_CORRUPT;
	if (rc == 0)
		memcpy(value, view.data, sizeof *value);
	return rc;
}

int
counters_each(struct state_txn *txn,
    int (*visit)(void *arg, const char *name, uint64_t value), void *arg)
{
	const size_t prefix = sizeof COUNTERS_PREFIX - 1;
	struct state_cursor *cursor;
	struct state_view key, view;
	char name[COUNTERS_KEY_MAX];
	uint64_t value;
	int rc;

	if ((rc = state_cursor_open(txn, STATE_COUNTERS, &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, COUNTERS_PREFIX, prefix, &key, &view);
	while (rc == 0 && key.len > prefix && key.len < sizeof name &&
	    memcmp(key.data, COUNTERS_PREFIX, prefix) == 0) {
		memcpy(name, (const char *)key.data + prefix, key.len - prefix);
		name[key.len - prefix] = '\0';
		if (view.len != sizeof value) {
			rc = ERR_CORRUPT;
			break;
		}
		memcpy(&value, view.data, sizeof value);
		if ((rc = visit(arg, name, value)) == 0)
			rc = state_next(cursor, &key, &view);
	}
	state_cursor_close(cursor);
	return rc == ERR_NOTFOUND ? 0 : rc;
}
