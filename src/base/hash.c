/* hash: see hash.h. */
#include "base/hash.h"

#define FNV1A_PRIME	UINT64_C(0x100000001b3)

uint64_t
hash_fnv1a(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * FNV1A_PRIME;
	return h;
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
