/*
 * table: what is open on one connection by its number, conversations or subscriptions.
 *
 * Numbers are counted up from 1 and not used twice, so one that is not in the table belongs to
 * what was closed, whose late frames nobody wants. Being consecutive, they are their
 * own good hash.
 */
#include <stdlib.h>

#include "client/client.h"

#define TABLE_FIRST_SIZE	8

static size_t
table_place(const struct client_table *table, uint64_t id)
{
	size_t i = (size_t)id & (table->size - 1);

	while (table->places[i].id != 0 && table->places[i].id != id)
		i = (i + 1) & (table->size - 1);
	return i;
}

static int
table_grow(struct client_table *table)
{
	struct client_table bigger = {
		.size = table->size == 0 ? TABLE_FIRST_SIZE : table->size * 2,
		.n = table->n,
	};

	bigger.places = calloc(bigger.size, sizeof(*bigger.places));
	if (bigger.places == NULL)
		return -1;
	for (size_t i = 0; i < table->size; i++)
		if (table->places[i].id != 0)
			bigger.places[table_place(&bigger, table->places[i].id)] =
			    table->places[i];
	free(table->places);
	*table = bigger;
	return 0;
}

int
client_table_add(struct client_table *table, struct client_entry entry)
{
	if (table->n >= table->size / 4 * 3 && table_grow(table) != 0)
		return -1;
	table->places[table_place(table, entry.id)] = entry;
	table->n++;
	return 0;
}

const struct client_entry *
client_table_find(const struct client_table *table, uint64_t id)
{
	size_t i;

	if (table->size == 0 || id == 0)
		return NULL;
	i = table_place(table, id);
	return table->places[i].id == id ? &table->places[i] : NULL;
}

void
client_table_remove(struct client_table *table, uint64_t id)
{
	size_t hole, i, home, mask = table->size - 1;

	if (client_table_find(table, id) == NULL)
		return;
	hole = i = table_place(table, id);
	/* Pull back whoever was pushed past the hole, or it could not be found any more. */
	for (;;) {
		i = (i + 1) & mask;
		if (table->places[i].id == 0)
			break;
		home = (size_t)table->places[i].id & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			table->places[hole] = table->places[i];
			hole = i;
		}
	}
	table->places[hole].id = 0;
	table->n--;
}

void
client_table_free(struct client_table *table)
{
	free(table->places);
	*table = (struct client_table){ 0 };
}
