/* hash: 64-bit FNV-1a (offset basis and prime of the published algorithm), and a checksum. */
#ifndef LIMINAL_BASE_HASH_H
#define LIMINAL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_FNV1A_START	UINT64_C(0xcbf29ce484222325)
#define HASH_SCHEMA_ID_SIZE	32

/* Hash of BYTES continued from H (HASH_FNV1A_START for a new one). */
uint64_t hash_fnv1a(uint64_t h, const void *bytes, size_t len);

/* For what is read back by its writer: eight bytes at a time, an eighth of FNV-1a's time. Every change
 * within eight bytes changes it. */
uint64_t hash_checksum(const void *bytes, size_t len);

/* The protocol's schema id of BYTES: four big-endian blocks of 8 bytes, the first their
 * hash, each later one the hash of the block before it. */
void	 hash_schema_id(const void *bytes, size_t len, uint8_t out[HASH_SCHEMA_ID_SIZE]);

#endif
