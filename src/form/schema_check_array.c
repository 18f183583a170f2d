/* schema_check_array: what a schema says about the items of an array. */
#include <stdlib.h>

#include "form/schema_parts.h"

/* So few are compared each with each other, without memory for it. */
#define FEW	8

struct hashed { uint64_t hash; size_t index; };

static enum schema_verdict
twins(struct schema_check *c, const struct schema_path *path, size_t i, size_t j)
{
	return schema_no(c, path, "uniqueItems", "items %zu and %zu are equal", i < j ? i : j,
	    i < j ? j : i);
}

static enum schema_verdict
check_few(struct schema_check *c, const json_t *value, const struct schema_path *path)
{
	uint64_t work = 0;

	for (size_t i = 1; i < json_array_size(value); i++)
		for (size_t j = 0; j < i; j++)
			if (schema_equal(json_array_get(value, i), json_array_get(value, j), &work))
				return twins(c, path, i, j);
	return schema_spend(c, work, path);
}

static int
compare_hashes(const void *one, const void *other)
{
	const struct hashed *a = one, *b = other;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

/* Only those with the same hash can be equal. Somebody may have chosen items so that they all have
 * it: each comparison is work. */
static enum schema_verdict
check_sorted(struct schema_check *c, const json_t *value, const struct hashed *items,
    const struct schema_path *path)
{
	size_t n = json_array_size(value);
	uint64_t work;

	for (size_t i = 0; i < n; i++)
		for (size_t j = i + 1; j < n && items[j].hash == items[i].hash; j++) {
			work = 0;
			if (schema_equal(json_array_get(value, items[i].index),
			    json_array_get(value, items[j].index), &work))
				return twins(c, path, items[i].index, items[j].index);
			if (schema_spend(c, work, path) != SCHEMA_OK)
				return SCHEMA_STOP;
		}
	return SCHEMA_OK;
}

static enum schema_verdict
check_unique(struct schema_check *c, const json_t *value, const struct schema_path *path)
{
	size_t n = json_array_size(value);
	enum schema_verdict verdict;
	struct hashed *items;
	uint64_t work = n;

	if (n <= FEW)
		return check_few(c, value, path);
	if ((items = calloc(n, sizeof(*items))) == NULL)
		return schema_stop(c, ERR_NOMEM, path, "out of memory");
	for (size_t i = 0; i < n; i++)
		items[i] = (struct hashed){ schema_hash(json_array_get(value, i), &work), i };
	if ((verdict = schema_spend(c, work, path)) == SCHEMA_OK) {
		qsort(items, n, sizeof(*items), compare_hashes);
		verdict = check_sorted(c, value, items, path);
	}
	free(items);
	return verdict;
}

static enum schema_verdict
check_items(struct schema_check *c, const struct schema_array *array, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	struct schema_path step = { .up = path };
	const struct schema_node *node;
	enum schema_verdict verdict;
	size_t n = json_array_size(value);

	if ((verdict = schema_spend(c, n, path)) != SCHEMA_OK)
		return verdict;
	for (; step.index < n && verdict == SCHEMA_OK; step.index++) {
		node = step.index < array->prefix.n ? array->prefix.nodes[step.index] : array->items;
		if (node == NULL)
			break;
		verdict = schema_check(c, node, json_array_get(value, step.index), &step, NULL);
		if (seen != NULL)
			schema_seen_add(seen, step.index);
	}
	return verdict;
}

static enum schema_verdict
check_contains(struct schema_check *c, const struct schema_array *array, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	struct schema_path step = { .up = path };
	enum schema_verdict verdict;
	size_t n = json_array_size(value), found = 0;

	if ((verdict = schema_spend(c, n, path)) != SCHEMA_OK)
		return verdict;
	for (; step.index < n; step.index++) {
		if (found >= array->contained.min && array->contained.max == SIZE_MAX && seen == NULL)
			break;
		verdict = schema_check_quietly(c, array->contains, json_array_get(value, step.index),
		    &step, NULL);
		if (verdict == SCHEMA_STOP)
			return SCHEMA_STOP;
		found += verdict == SCHEMA_OK;
		if (verdict == SCHEMA_OK && seen != NULL)
			schema_seen_add(seen, step.index);
	}
	if (found < array->contained.min)
		return schema_no(c, path, array->contained.min > 1 ? "minContains" : "contains",
		    "%zu items fit, not at least %zu", found, array->contained.min);
	if (found > array->contained.max)
		return schema_no(c, path, "maxContains", "%zu items fit, more than %zu", found,
		    array->contained.max);
	return SCHEMA_OK;
}

enum schema_verdict
schema_check_array(struct schema_check *c, const struct schema_array *array, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict = SCHEMA_OK;
	size_t n = json_array_size(value);

	if (n < array->size.min)
		return schema_no(c, path, "minItems", "fewer than %zu items", array->size.min);
	if (n > array->size.max)
		return schema_no(c, path, "maxItems", "more than %zu items", array->size.max);
	if (array->prefix.n > 0 || array->items != NULL)
		verdict = check_items(c, array, value, path, seen);
	if (verdict == SCHEMA_OK && array->contains != NULL)
		verdict = check_contains(c, array, value, path, seen);
	if (verdict == SCHEMA_OK && array->is_unique)
		verdict = check_unique(c, value, path);
	return verdict;
}
