/*
 * packet: messages as Erlang ports have them, {packet, 4}: a big-endian length of 4 bytes, then so
 * many bytes.
 */
#ifndef LIMINAL_FORM_PACKET_H
#define LIMINAL_FORM_PACKET_H

#include <stddef.h>
#include <stdint.h>

#define PACKET_HEADER_SIZE 4

enum packet_status {
	PACKET_OK,
	PACKET_NEED,		/* more bytes are needed */
	PACKET_TOO_LARGE	/* the header announces more than is allowed */
};

/*
 * Look at the LEN bytes of a stream at BYTES. *LENGTH gets what the header says as soon as it is
 * there; a length above MAX is refused then, before any of the content has come. With
 * PACKET_OK the content is at BYTES + PACKET_HEADER_SIZE.
 */
enum packet_status packet_decode(const uint8_t *bytes, size_t len, uint32_t max,
    uint32_t *length);

void	packet_put_header(uint8_t header[PACKET_HEADER_SIZE], uint32_t length);

#endif
