/*
 * addresses: how many connections each client address has (limits
 * connections_per_address).
 *
 * A fixed table with room for one address per slot, so counting cannot fail.
 */
#ifndef LIMINAL_LIMINALD_ADDRESSES_H
#define LIMINAL_LIMINALD_ADDRESSES_H

#include <stddef.h>
#include <stdint.h>

#include "os/net.h"

#define ADDRESSES_NONE UINT32_MAX

struct addresses_entry {
	uint8_t address[NET_ADDRESS_SIZE];
	uint32_t count;		/* 0 = free */
	uint32_t next;		/* in its bucket, or in the free list */
};

struct addresses {
	struct addresses_entry *entries;
	uint32_t *buckets;	/* first entry each */
	uint32_t mask;		/* number of buckets - 1 */
	uint32_t free;
};

/* The bytes that addresses_init() needs for N addresses. */
size_t	addresses_size(uint32_t n);
void	addresses_init(struct addresses *addresses, void *memory, uint32_t n);

/* How many ADDRESS has now. */
uint32_t addresses_count(const struct addresses *addresses,
	    const uint8_t address[NET_ADDRESS_SIZE]);

/* One more; returns the entry to give to addresses_drop(). */
uint32_t addresses_add(struct addresses *addresses, const uint8_t address[NET_ADDRESS_SIZE]);
void	addresses_drop(struct addresses *addresses, uint32_t entry);

#endif
