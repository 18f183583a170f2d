/*
 * buf: see buf.h. The content moves only when it has to, and a move is always
 * paid for by at least as many bytes consumed before it, so a stream that is
 * appended and consumed in any pattern costs linear time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

#define BUF_SMALLEST	512

static int
buf_grow(struct buf *b, size_t need)
{
	size_t len = buf_len(b), size = b->size < BUF_SMALLEST ? BUF_SMALLEST : b->size;
	uint8_t *data;

	/* NEED is at most SIZE_MAX / 2: doubling cannot wrap. */
	while (size < need)
		size *= 2;
	/* It fits as it is, but the content is too large to be moved
	 * again and again within the same memory. */
	if (size == b->size)
		size *= 2;
	if ((data = malloc(size)) == NULL)
		return -1;
	if (len > 0)
		memcpy(data, b->data + b->start, len);
	free(b->data);
	b->data = data;
	b->size = size;
	b->start = 0;
	b->end = len;
	return 0;
}

uint8_t *
buf_reserve(struct buf *b, size_t n)
{
	size_t len = buf_len(b);

	if (b->data != NULL && b->size - b->end >= n)
		return b->data + b->end;
	if (n > SIZE_MAX / 2 - len)
		return NULL;
	if (b->data != NULL && b->size - len >= n && b->start >= len) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
	} else if (buf_grow(b, len + n) != 0)
		return NULL;
	return b->data + b->end;
}

void
buf_commit(struct buf *b, size_t n)
{
	b->end += n;
}

int
buf_append(struct buf *b, const void *bytes, size_t n)
{
	uint8_t *to;

	if (n == 0)
		return 0;
	if ((to = buf_reserve(b, n)) == NULL)
		return ERR_NOMEM;
	memcpy(to, bytes, n);
	buf_commit(b, n);
	return 0;
}

void
buf_consume(struct buf *b, size_t n)
{
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
buf_trim(struct buf *b, size_t keep)
{
	if (buf_len(b) == 0 && b->size > keep)
		buf_free(b);
}

void
buf_free(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}
