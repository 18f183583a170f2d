/*
 * buf: a growing byte queue, appended at the end and consumed at the start.
 *
 * A zeroed struct is an empty buffer that owns nothing. Memory grows by need only
 * and never because a peer announced something.
 */
#ifndef LIMINAL_BASE_BUF_H
#define LIMINAL_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t	*data;		/* owned; NULL while empty and never used */
	size_t	 start, end;	/* the content is data[start..end) */
	size_t	 size;		/* allocated bytes */
};

static inline size_t
buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline uint8_t *
buf_head(const struct buf *b)
{
	return b->data == NULL ? NULL : b->data + b->start;
}

/* Room for N more bytes at the end; returns where they go, or NULL when out of
 * memory (the content is untouched). Earlier pointers into the buffer become
 * invalid. Follow with buf_commit(). */
uint8_t	*buf_reserve(struct buf *b, size_t n);
void	 buf_commit(struct buf *b, size_t n);

/* Append N bytes; 0 or ERR_NOMEM. */
int	 buf_append(struct buf *b, const void *bytes, size_t n);

/* Drop N bytes from the start, N <= buf_len(). */
void	 buf_consume(struct buf *b, size_t n);

/* Give memory back if the buffer is empty and holds more than KEEP bytes. */
void	 buf_trim(struct buf *b, size_t keep);
void	 buf_free(struct buf *b);

#endif
