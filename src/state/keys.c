/*
 * Idempotency keys: the two tables, and how many keys each channel has.
 *
 * The count lies in the keys table under the channel's number alone, before all of the channel's keys:
 * counting rows would cost what the limit allows, at each publish.
 */
#include <sha2.h>
#include <string.h>

#include "state/keys.h"

#define KEYS_KEY	(4 + SHA256_DIGEST_LENGTH)
#define KEYS_AGE	4	/* offsets in a key by age */
#define KEYS_AGE_HASH	(4 + 8)
#define KEYS_AGE_KEY	(KEYS_AGE_HASH + SHA256_DIGEST_LENGTH)

static enum state_table
keys_table(const struct keys *keys)
{
	return keys->place == KEYS_IN_STATE ? STATE_KEYS : STORE_KEYS;
}

static enum state_table
keys_age_table(const struct keys *keys)
{
	return keys->place == KEYS_IN_STATE ? STATE_KEYS_BY_AGE : STORE_KEYS_BY_AGE;
}

static void
keys_channel(const struct keys *keys, uint8_t *at)
{
	uint32_t channel = __builtin_bswap32(keys->channel);

	memcpy(at, &channel, 4);
}

static void
keys_key(const struct keys *keys, const void *text, size_t len, uint8_t key[KEYS_KEY])
{
	SHA2_CTX context;

	keys_channel(keys, key);
	SHA256Init(&context);
	SHA256Update(&context, text, len);
	SHA256Final(key + 4, &context);
}

static void
keys_age_key(const uint8_t key[KEYS_KEY], int64_t until_ns, uint8_t age[KEYS_AGE_KEY])
{
	memcpy(age, key, 4);
	state_key_put(age + KEYS_AGE, (uint64_t)until_ns);
	memcpy(age + KEYS_AGE_HASH, key + 4, SHA256_DIGEST_LENGTH);
}

static int
keys_get(const struct keys *keys, const uint8_t key[KEYS_KEY], struct keys_row *row)
{
	struct state_view view;
	int rc = state_get(keys->txn, keys_table(keys), key, KEYS_KEY, &view);

	if (rc != 0)
		return rc;
	if (view.len != sizeof *row)
		return ERR_CORRUPT;
	memcpy(row, view.data, sizeof *row);
	return 0;
}

static int
keys_count_get(const struct keys *keys, uint64_t *count)
{
	struct state_view view;
	uint8_t key[4];
	int rc;

	keys_channel(keys, key);
	*count = 0;
	rc = state_get(keys->txn, keys_table(keys), key, sizeof key, &view);
	if (rc != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	if (view.len != sizeof *count)
		return ERR_CORRUPT;
	memcpy(count, view.data, sizeof *count);
	return 0;
}

static int
keys_count_put(const struct keys *keys, uint64_t count)
{
	uint8_t key[4];

	keys_channel(keys, key);
	return count == 0 ? state_del(keys->txn, keys_table(keys), key, sizeof key) :
	    state_put(keys->txn, keys_table(keys), key, sizeof key, &count, sizeof count);
}

int
keys_find(const struct keys *keys, const void *key, size_t len, int64_t now_ns,
    struct keys_row *row)
{
	uint8_t hashed[KEYS_KEY];
	struct keys_row found;
	int rc;

	keys_key(keys, key, len, hashed);
	if ((rc = keys_get(keys, hashed, &found)) != 0)
		return rc == ERR_NOTFOUND ? 0 : rc;
	if (row != NULL)
		*row = found;
	return found.until_ns > now_ns;
}

int
keys_put(const struct keys *keys, const void *key, size_t len, const struct keys_row *row,
    uint64_t limit)
{
	uint8_t hashed[KEYS_KEY], age[KEYS_AGE_KEY];
	struct keys_row old;
	uint64_t count;
	int rc;

	keys_key(keys, key, len, hashed);
	if ((rc = keys_get(keys, hashed, &old)) == 0) {
		/* Its time has passed, and nobody has trimmed it yet. */
		keys_age_key(hashed, old.until_ns, age);
		rc = state_del(keys->txn, keys_age_table(keys), age, sizeof age);
		if (rc != 0)
			return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	} else if (rc != ERR_NOTFOUND)
		return rc;
	else if ((rc = keys_count_get(keys, &count)) != 0 ||
	    (rc = count >= limit ? ERR_BUSY : keys_count_put(keys, count + 1)) != 0)
		return rc;
	keys_age_key(hashed, row->until_ns, age);
	rc = state_put(keys->txn, keys_table(keys), hashed, sizeof hashed, row, sizeof *row);
	return rc != 0 ? rc : state_put(keys->txn, keys_age_table(keys), age, sizeof age, "", 0);
}

/* The channel's key that is forgotten next, into AGE. */
static int
keys_first(const struct keys *keys, uint8_t age[KEYS_AGE_KEY])
{
	struct state_cursor *cursor;
	struct state_view key, view;
	int rc;

	memset(age, 0, KEYS_AGE_KEY);
	keys_channel(keys, age);
	if ((rc = state_cursor_open(keys->txn, keys_age_table(keys), &cursor)) != 0)
		return rc;
	rc = state_seek(cursor, age, KEYS_AGE_KEY, &key, &view);
	state_cursor_close(cursor);
	if (rc != 0)
		return rc;
	if (key.len != KEYS_AGE_KEY)
		return ERR_CORRUPT;
	if (memcmp(key.data, age, 4) != 0)
		return ERR_NOTFOUND;
	memcpy(age, key.data, KEYS_AGE_KEY);
	return 0;
}

static int
keys_del(const struct keys *keys, const uint8_t age[KEYS_AGE_KEY])
{
	uint8_t key[KEYS_KEY];
	int rc;

	memcpy(key, age, 4);
	memcpy(key + 4, age + KEYS_AGE_HASH, SHA256_DIGEST_LENGTH);
	rc = state_del(keys->txn, keys_age_table(keys), age, KEYS_AGE_KEY);
	if (rc == 0)
		rc = state_del(keys->txn, keys_table(keys), key, sizeof key);
	return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
}

int
keys_trim(const struct keys *keys, int64_t now_ns, int limit, int64_t *next_ns)
{
	int64_t until_ns = INT64_MAX;
	uint8_t age[KEYS_AGE_KEY];
	uint64_t count;
	int rc, n = 0;

	while ((rc = keys_first(keys, age)) == 0) {
		until_ns = (int64_t)state_key_get(age + KEYS_AGE);
		if (until_ns > now_ns || n >= limit)
			break;
		if ((rc = keys_del(keys, age)) != 0)
			return rc;
		n++;
		until_ns = INT64_MAX;
	}
	if (rc != 0 && rc != ERR_NOTFOUND)
		return rc;
	if (next_ns != NULL)
		*next_ns = until_ns;
	if (n == 0)
		return 0;
	if ((rc = keys_count_get(keys, &count)) != 0)
		return rc;
	rc = count < (uint64_t)n ? ERR_CORRUPT : keys_count_put(keys, count - (uint64_t)n);
	return rc != 0 ? rc : n;
}
