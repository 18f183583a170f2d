/*
 * conversations: the set of conversations that are open on one connection.
 *
 * Ids are counted up from 1 and never used twice, so an id that is not in the set belongs to a
 * conversation that was closed, whose late answers nobody wants. Being
 * consecutive, ids are their own good hash.
 */
#include <stdlib.h>

#include "client/client.h"

#define CONVERSATIONS_FIRST_SIZE	8

static size_t
conversations_place(const struct client_conversations *set, uint64_t id)
{
	size_t i = (size_t)id & (set->size - 1);

	while (set->places[i].id != 0 && set->places[i].id != id)
		i = (i + 1) & (set->size - 1);
	return i;
}

static int
conversations_grow(struct client_conversations *set)
{
	struct client_conversations bigger = {
		.size = set->size == 0 ? CONVERSATIONS_FIRST_SIZE : set->size * 2,
		.n = set->n,
	};

	bigger.places = calloc(bigger.size, sizeof(*bigger.places));
	if (bigger.places == NULL)
		return -1;
	for (size_t i = 0; i < set->size; i++)
		if (set->places[i].id != 0)
			bigger.places[conversations_place(&bigger, set->places[i].id)] =
			    set->places[i];
	free(set->places);
	*set = bigger;
	return 0;
}

int
client_conversations_add(struct client_conversations *set, uint64_t id, uint64_t opened_by)
{
	if (set->n >= set->size / 4 * 3 && conversations_grow(set) != 0)
		return -1;
	set->places[conversations_place(set, id)] =
	    (struct client_conversation){ .id = id, .opened_by = opened_by };
	set->n++;
	return 0;
}

const struct client_conversation *
client_conversations_find(const struct client_conversations *set, uint64_t id)
{
	size_t i;

	if (set->size == 0 || id == 0)
		return NULL;
	i = conversations_place(set, id);
	return set->places[i].id == id ? &set->places[i] : NULL;
}

void
client_conversations_remove(struct client_conversations *set, uint64_t id)
{
	size_t hole, i, home, mask = set->size - 1;

	if (client_conversations_find(set, id) == NULL)
		return;
	hole = i = conversations_place(set, id);
	/* Pull back whoever was pushed past the hole, or it could not be found any more. */
	for (;;) {
		i = (i + 1) & mask;
		if (set->places[i].id == 0)
			break;
		home = (size_t)set->places[i].id & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			set->places[hole] = set->places[i];
			hole = i;
		}
	}
	set->places[hole].id = 0;
	set->n--;
}

void
client_conversations_free(struct client_conversations *set)
{
	free(set->places);
	*set = (struct client_conversations){ 0 };
}
