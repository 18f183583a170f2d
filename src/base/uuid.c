/* uuid: see uuid.h. */
#include <sys/random.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/uuid.h"

void
uuid_new(char out[UUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t b[16];
	char *p = out;

	/* The kernel's generator: nothing is cached that a fork could duplicate. */
	while (getentropy(b, sizeof(b)) == -1)
		if (errno != EINTR)
			abort();	/* no log: this is part of the client library, too */
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);	/* version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);	/* the RFC's variant */
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[b[i] >> 4];
		*p++ = digits[b[i] & 0x0f];
	}
	*p = '\0';
}
