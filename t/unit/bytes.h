/*
 * bytes: helpers of the codec's tests: bytes from hexadecimal, and bytes that end
 * at an inaccessible page, so that reading one too many is fatal also without a
 * sanitizer.
 */
#ifndef LIMINAL_T_UNIT_BYTES_H
#define LIMINAL_T_UNIT_BYTES_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct bytes { uint8_t *data; size_t len; };

static inline struct bytes
unhex(const char *hex)
{
	struct bytes out = { malloc(strlen(hex) / 2 + 1), strlen(hex) / 2 };
	unsigned byte;
	char pair[3] = "";

	for (size_t i = 0; i < out.len; i++) {
		memcpy(pair, hex + 2 * i, 2);
		cr_assert(eq(int, sscanf(pair, "%2x", &byte), 1));
		out.data[i] = (uint8_t)byte;
	}
	return out;
}

/* A copy of BYTES that ends where the inaccessible page begins; valid until the next call. */
static inline uint8_t *
guarded(const void *bytes, size_t len)
{
	static uint8_t *end;
	static size_t size;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *map;

	if (size == 0) {
		size = 64 * page;
		map = mmap(NULL, size + page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		cr_assert(map != MAP_FAILED);
		cr_assert(eq(int, mprotect(map + size, page, PROT_NONE), 0));
		end = map + size;
	}
	cr_assert(len <= size);
	if (len > 0)
		memcpy(end - len, bytes, len);
	return end - len;
}

#endif
