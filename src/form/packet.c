/* packet: see packet.h. */
#include "form/packet.h"

enum packet_status
packet_decode(const uint8_t *bytes, size_t len, uint32_t max, uint32_t *length)
{
	*length = 0;
	if (len < PACKET_HEADER_SIZE)
		return PACKET_NEED;
	*length = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	    bytes[3];
	if (*length > max)
		return PACKET_TOO_LARGE;
	return len - PACKET_HEADER_SIZE < *length ? PACKET_NEED : PACKET_OK;
}

void
packet_put_header(uint8_t header[PACKET_HEADER_SIZE], uint32_t length)
{
	header[0] = (uint8_t)(length >> 24);
	header[1] = (uint8_t)(length >> 16);
	header[2] = (uint8_t)(length >> 8);
	header[3] = (uint8_t)length;
}
