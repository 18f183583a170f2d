/* schema_limit: compiling of the keywords that say something about the value alone. */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

#define N(array)	(sizeof(array) / sizeof((array)[0]))

static int
complain(const struct schema_site *site, const struct schema_keyword *keyword, const char *what)
{
	return schema_compile_error(site->c, site->json, keyword->name, "%s", what);
}

/* 0 for what is no name of a type. */
static unsigned
type_bits(const json_t *name)
{
	static const struct { const char *name; unsigned bits; } types[] = {
		{ "null", SCHEMA_TYPE_NULL }, { "boolean", SCHEMA_TYPE_BOOLEAN },
		{ "integer", SCHEMA_TYPE_INTEGER },
		{ "number", SCHEMA_TYPE_INTEGER | SCHEMA_TYPE_REAL },
		{ "string", SCHEMA_TYPE_STRING }, { "array", SCHEMA_TYPE_ARRAY },
		{ "object", SCHEMA_TYPE_OBJECT },
	};

	for (size_t i = 0; i < N(types) && json_is_string(name); i++)
		if (strcmp(json_string_value(name), types[i].name) == 0)
			return types[i].bits;
	return 0;
}

int
schema_compile_type(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	unsigned bits, all = type_bits(value);
	json_t *name;
	size_t i;

	json_array_foreach(value, i, name) {
		if ((bits = type_bits(name)) == 0)
			return complain(site, keyword, "not the name of a type");
		all |= bits;
	}
	if (all == 0)
		return complain(site, keyword, "not the name of a type, or several");
	site->node->types = all;
	return 0;
}

static int
compare_values(const void *one, const void *other)
{
	const struct schema_value *a = one, *b = other;

	return a->hash < b->hash ? -1 : a->hash > b->hash;
}

int
schema_compile_enum(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	struct schema_values *values;
	uint64_t work = 0;
	json_t *item;
	size_t i;

	if (!json_is_array(value))
		return complain(site, keyword, "not an array");
	if (schema_field(site, keyword) == NULL)
		return ERR_NOMEM;
	values = site->node->values;
	values->list = schema_alloc(site->c->schema, json_array_size(value) * sizeof(*values->list));
	if (values->list == NULL)
		return schema_compile_nomem(site->c);
	json_array_foreach(value, i, item) {
		values->list[i].json = item;
		values->list[i].hash = schema_hash(item, &work);
	}
	values->n = json_array_size(value);
	qsort(values->list, values->n, sizeof(*values->list), compare_values);
	return 0;
}

int
schema_compile_const(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const json_t **constant = schema_field(site, keyword);

	if (constant == NULL)
		return ERR_NOMEM;
	*constant = value;
	return 0;
}

/* At least 0 and whole; what does not fit is as good as the largest. */
static bool
read_count(const json_t *value, size_t *count)
{
	double real = json_real_value(value);

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*count = (size_t)json_integer_value(value);
		return true;
	}
	if (!json_is_real(value) || schema_type_of(value) != SCHEMA_TYPE_INTEGER || real < 0)
		return false;
	*count = real < 9e18 ? (size_t)real : SIZE_MAX;
	return true;
}

int
schema_compile_range(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	struct schema_range *range = schema_field(site, keyword);
	size_t count;

	if (range == NULL)
		return ERR_NOMEM;
	if (!read_count(value, &count))
		return complain(site, keyword, "not a whole number from 0");
	if (strncmp(keyword->name, "min", 3) == 0)
		range->min = count;
	else
		range->max = count;
	return 0;
}

int
schema_compile_bound(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const json_t **bound = schema_field(site, keyword);

	if (bound == NULL)
		return ERR_NOMEM;
	if (!json_is_number(value))
		return complain(site, keyword, "not a number");
	*bound = value;
	return 0;
}

int
schema_compile_factor(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	uint64_t work = 0;

	if (!json_is_number(value) || !(json_number_value(value) > 0))
		return complain(site, keyword, "not a number above 0");
	if (schema_compile_bound(site, keyword, value) != 0)
		return ERR_NOMEM;
	site->node->number->factor = schema_decimal_of(value, &work);
	return 0;
}

int
schema_compile_unique(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	bool *is_unique = schema_field(site, keyword);

	if (is_unique == NULL)
		return ERR_NOMEM;
	if (!json_is_boolean(value))
		return complain(site, keyword, "not true or false");
	*is_unique = json_is_true(value);
	return 0;
}

int
schema_compile_pattern(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const struct schema_pattern **pattern = schema_field(site, keyword);

	if (pattern == NULL)
		return ERR_NOMEM;
	if (!json_is_string(value))
		return complain(site, keyword, "not a string");
	return schema_pattern_compile(site, keyword->name, json_string_value(value),
	    json_string_length(value), pattern);
}
