/* hash: see hash.h. */
#include <string.h>

#include "base/hash.h"

/* Odd, so that multiplying loses nothing; its bits are those of the golden ratio. */
#define CHECKSUM_FACTOR	UINT64_C(0x9e3779b97f4a7c15)
#define FNV1A_PRIME	UINT64_C(0x100000001b3)

uint64_t
hash_fnv1a(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * FNV1A_PRIME;
	return h;
}

uint64_t
hash_checksum(const void *bytes, size_t len)
{
	uint64_t h = HASH_FNV1A_START ^ len, word;
	const uint8_t *p = bytes;

	/* Each step is a bijection of H; the shift brings high bits down, or two flips of the
	 * highest ones would cancel each other. */
	for (; len >= sizeof word; p += sizeof word, len -= sizeof word) {
		memcpy(&word, p, sizeof word);
		h = (h ^ word) * CHECKSUM_FACTOR;
		h ^= h >> 32;
	}
	word = 0;
	if (len > 0)
		memcpy(&word, p, len);
	h = (h ^ word) * CHECKSUM_FACTOR;
	return h ^ h >> 32;
}

void
hash_schema_id(const void *bytes, size_t len, uint8_t out[HASH_SCHEMA_ID_SIZE])
{
	uint64_t h = hash_fnv1a(HASH_FNV1A_START, bytes, len);

	for (size_t block = 0; block < HASH_SCHEMA_ID_SIZE; block += 8) {
		if (block > 0)
			h = hash_fnv1a(HASH_FNV1A_START, out + block - 8, 8);
		for (size_t i = 0; i < 8; i++)
			out[block + i] = (uint8_t)(h >> (56 - 8 * i));
	}
}
