/* schema_memory: the arena of a compiled schema. Nothing is given back before the schema is freed. */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

#define CHUNK_SIZE	8192

struct schema_chunk {
	struct schema_chunk *next;
	size_t used, size;
	max_align_t bytes[];
};

static struct schema_chunk *
chunk_new(size_t size)
{
	struct schema_chunk *chunk = calloc(1, sizeof(*chunk) + size);

	if (chunk != NULL)
		chunk->size = size;
	return chunk;
}

void *
schema_alloc(struct schema *schema, size_t size)
{
	struct schema_chunk *chunk = schema->memory;
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
	if (chunk == NULL || size > chunk->size - chunk->used) {
		if ((chunk = chunk_new(size > CHUNK_SIZE ? size : CHUNK_SIZE)) == NULL)
			return NULL;
		chunk->next = schema->memory;
		schema->memory = chunk;
	}
	p = (char *)chunk->bytes + chunk->used;
	chunk->used += size;
	return p;
}

char *
schema_strndup(struct schema *schema, const char *text, size_t len)
{
	char *copy = schema_alloc(schema, len + 1);

	if (copy != NULL)
		memcpy(copy, text, len);
	return copy;
}

void
schema_memory_free(struct schema *schema)
{
	struct schema_chunk *chunk, *next;

	for (chunk = schema->memory; chunk != NULL; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	schema->memory = NULL;
}
