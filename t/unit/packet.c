/* packet: {packet, 4} as a stream of bytes brings it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "form/packet.h"

/* What is said about exactly LEN bytes, so that a sanitizer sees their end. */
static enum packet_status
decode(const char *bytes, size_t len, uint32_t max, uint32_t *length)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	enum packet_status status;

	memcpy(copy, bytes, len);
	status = packet_decode(copy, len, max, length);
	free(copy);
	return status;
}

Test(packet, is_whole_with_its_last_byte)
{
	uint32_t length;
	size_t n;

	for (n = 0; n < 9; n++)
		cr_expect(eq(int, decode("\0\0\0\5hello", n, 100, &length), PACKET_NEED),
		    "%zu bytes", n);
	cr_expect(eq(int, decode("\0\0\0\5hello", 9, 100, &length), PACKET_OK));
	cr_expect(eq(u32, length, 5));
	cr_expect(eq(int, decode("\0\0\0\5hello\0\0", 11, 100, &length), PACKET_OK));
	cr_expect(eq(u32, length, 5), "what follows is the next one's");
}

Test(packet, may_be_empty)
{
	uint32_t length = 1;

	cr_expect(eq(int, decode("\0\0\0\0", 4, 0, &length), PACKET_OK));
	cr_expect(zero(u32, length));
}

Test(packet, is_refused_with_its_header)
{
	static const struct { const char *header; uint32_t length; } cases[] = {
		{ "\0\0\1\1", 257 }, { "\0\1\0\0", 65536 }, { "\1\0\0\0", 1 << 24 },
		{ "\x7F\xFF\xFF\xFF", INT32_MAX }, { "\x80\0\0\0", UINT32_C(1) << 31 },
		{ "\xFF\xFF\xFF\xFF", UINT32_MAX }
	};
	uint32_t length;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		cr_expect(eq(int, decode(cases[i].header, 3, 256, &length), PACKET_NEED));
		cr_expect(eq(int, decode(cases[i].header, 4, 256, &length), PACKET_TOO_LARGE));
		cr_expect(eq(u32, length, cases[i].length), "what it announced can be told");
	}
	cr_expect(eq(int, decode("\0\0\1\0", 4, 256, &length), PACKET_NEED), "256 is allowed");
	cr_expect(eq(int, decode("\xFF\xFF\xFF\xFF", 4, UINT32_MAX, &length), PACKET_NEED),
	    "no length wraps");
}

Test(packet, header_is_big_endian)
{
	uint8_t header[PACKET_HEADER_SIZE];
	uint32_t length;

	packet_put_header(header, 0x01020304);
	cr_expect(zero(int, memcmp(header, "\1\2\3\4", 4)));
	cr_expect(eq(int, packet_decode(header, 4, UINT32_MAX, &length), PACKET_NEED));
	cr_expect(eq(u32, length, 0x01020304));
}
