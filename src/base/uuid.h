/* uuid: the one provider of conversation ids (systems.md E9), random UUIDs
 * (version 4, RFC 4122) from the kernel's generator. */
#ifndef LIMINAL_BASE_UUID_H
#define LIMINAL_BASE_UUID_H

#define UUID_TEXT_SIZE 37	/* 36 characters and the terminator */

void	uuid_new(char out[UUID_TEXT_SIZE]);

#endif
