/* addresses: see addresses.h. */
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "liminald/addresses.h"

static uint32_t
addresses_n_buckets(uint32_t n)
{
	uint32_t size = 16;

	while (size < n)
		size *= 2;
	return size;
}

size_t
addresses_size(uint32_t n)
{
	return n * sizeof(struct addresses_entry) +
	    addresses_n_buckets(n) * sizeof(uint32_t);
}

void
addresses_init(struct addresses *addresses, void *memory, uint32_t n)
{
	addresses->entries = memory;
	addresses->buckets = (uint32_t *)(void *)(addresses->entries + n);
	addresses->mask = addresses_n_buckets(n) - 1;
	for (uint32_t i = 0; i <= addresses->mask; i++)
		addresses->buckets[i] = ADDRESSES_NONE;
	for (uint32_t i = 0; i < n; i++)
		addresses->entries[i] = (struct addresses_entry){
		    .next = i + 1 < n ? i + 1 : ADDRESSES_NONE };
	addresses->free = 0;
}

static uint32_t *
addresses_bucket(const struct addresses *addresses, const uint8_t *address)
{
	uint64_t h = hash_fnv1a(HASH_FNV1A_START, address, NET_ADDRESS_SIZE);

	return &addresses->buckets[(h ^ h >> 32) & addresses->mask];
}

static uint32_t
addresses_find(const struct addresses *addresses, const uint8_t *address)
{
	uint32_t i = *addresses_bucket(addresses, address);

	while (i != ADDRESSES_NONE &&
	    memcmp(addresses->entries[i].address, address, NET_ADDRESS_SIZE) != 0)
		i = addresses->entries[i].next;
	return i;
}

uint32_t
addresses_count(const struct addresses *addresses, const uint8_t address[NET_ADDRESS_SIZE])
{
	uint32_t i = addresses_find(addresses, address);

	return i == ADDRESSES_NONE ? 0 : addresses->entries[i].count;
}

uint32_t
addresses_add(struct addresses *addresses, const uint8_t address[NET_ADDRESS_SIZE])
{
	uint32_t i = addresses_find(addresses, address), *bucket;
	struct addresses_entry *e;

	if (i != ADDRESSES_NONE) {
		addresses->entries[i].count++;
		return i;
	}
	i = addresses->free;
	if (i == ADDRESSES_NONE)
		log_panic("addresses more connections than slots");
	e = &addresses->entries[i];
	addresses->free = e->next;
	bucket = addresses_bucket(addresses, address);
	memcpy(e->address, address, NET_ADDRESS_SIZE);
	e->count = 1;
	e->next = *bucket;
	*bucket = i;
	return i;
}

void
addresses_drop(struct addresses *addresses, uint32_t entry)
{
	struct addresses_entry *e = &addresses->entries[entry];
	uint32_t *link;

	if (--e->count != 0)
		return;
	for (link = addresses_bucket(addresses, e->address); *link != entry;)
		link = &addresses->entries[*link].next;
	*link = e->next;
	e->next = addresses->free;
	addresses->free = entry;
}
