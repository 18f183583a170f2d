/* schema_check_scalar: strings, numbers, and the values that `enum` and `const` allow. */
#include "form/schema_parts.h"

/* Bytes whose characters are counted in the time of a step. */
#define BYTES_PER_STEP	64

/* So few values are compared one by one. */
#define FEW		4

static enum schema_verdict
check_length(struct schema_check *c, const struct schema_range *length, const json_t *value,
    const struct schema_path *path)
{
	size_t bytes = json_string_length(value), n;

	/* A character has one to four bytes: mostly there is nothing to count. */
	if (bytes <= length->max && bytes / 4 >= length->min)
		return SCHEMA_OK;
	if (schema_spend(c, bytes / BYTES_PER_STEP, path) != SCHEMA_OK)
		return SCHEMA_STOP;
	n = schema_length(json_string_value(value), bytes);
	if (n < length->min)
		return schema_no(c, path, "minLength", "shorter than %zu characters", length->min);
	if (n > length->max)
		return schema_no(c, path, "maxLength", "longer than %zu characters", length->max);
	return SCHEMA_OK;
}

enum schema_verdict
schema_check_string(struct schema_check *c, const struct schema_string *string, const json_t *value,
    const struct schema_path *path)
{
	enum schema_verdict verdict = check_length(c, &string->length, value, path);

	if (verdict != SCHEMA_OK || string->pattern == NULL)
		return verdict;
	verdict = schema_pattern_match(c, string->pattern, json_string_value(value),
	    json_string_length(value), path);
	if (verdict == SCHEMA_NO)
		return schema_no(c, path, "pattern", "it does not match");
	return verdict;
}

/* NUMBER as the schema has it, for a text. */
static const char *
number_text(const json_t *number, char out[32])
{
	if (json_is_integer(number))
		snprintf(out, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
	else
		snprintf(out, 32, "%.15g", json_real_value(number));
	return out;
}

static enum schema_verdict
check_multiple(struct schema_check *c, const struct schema_number *number, const json_t *value,
    const struct schema_path *path)
{
	const json_t *factor = number->multiple_of;
	uint64_t work = 0;
	bool is_multiple;
	char text[32];

	if (json_is_integer(value) && json_is_integer(factor)) {
		is_multiple = json_integer_value(value) % json_integer_value(factor) == 0;
	} else {
		is_multiple = schema_is_multiple(schema_decimal_of(value, &work), number->factor);
		if (schema_spend(c, work, path) != SCHEMA_OK)
			return SCHEMA_STOP;
	}
	return is_multiple ? SCHEMA_OK :
	    schema_no(c, path, "multipleOf", "no multiple of %s", number_text(factor, text));
}

enum schema_verdict
schema_check_number(struct schema_check *c, const struct schema_number *number, const json_t *value,
    const struct schema_path *path)
{
	char text[32];

	if (number->minimum != NULL && schema_compare(value, number->minimum) < 0)
		return schema_no(c, path, "minimum", "less than %s", number_text(number->minimum, text));
	if (number->maximum != NULL && schema_compare(value, number->maximum) > 0)
		return schema_no(c, path, "maximum", "more than %s", number_text(number->maximum, text));
	if (number->exclusive_minimum != NULL && schema_compare(value, number->exclusive_minimum) <= 0)
		return schema_no(c, path, "exclusiveMinimum", "not more than %s",
		    number_text(number->exclusive_minimum, text));
	if (number->exclusive_maximum != NULL && schema_compare(value, number->exclusive_maximum) >= 0)
		return schema_no(c, path, "exclusiveMaximum", "not less than %s",
		    number_text(number->exclusive_maximum, text));
	return number->multiple_of == NULL ? SCHEMA_OK : check_multiple(c, number, value, path);
}

static bool
is_listed(const struct schema_values *values, const json_t *value, uint64_t *work)
{
	size_t low = 0, high = values->n, middle;
	uint64_t hash;

	for (size_t i = 0; values->n <= FEW && i < values->n; i++)
		if (schema_equal(value, values->list[i].json, work))
			return true;
	if (values->n <= FEW)
		return false;
	hash = schema_hash(value, work);
	while (low < high) {
		middle = low + (high - low) / 2;
		if (values->list[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	/* Among those with the same hash. */
	for (; low < values->n && values->list[low].hash == hash; low++)
		if (schema_equal(value, values->list[low].json, work))
			return true;
	return false;
}

enum schema_verdict
schema_check_values(struct schema_check *c, const struct schema_values *values, const json_t *value,
    const struct schema_path *path)
{
	uint64_t work = 0;
	bool is_listed_there = values->list == NULL || is_listed(values, value, &work);
	bool is_constant = values->constant == NULL || schema_equal(value, values->constant, &work);

	if (schema_spend(c, work, path) != SCHEMA_OK)
		return SCHEMA_STOP;
	if (!is_listed_there)
		return schema_no(c, path, "enum", "none of the values that are allowed");
	if (!is_constant)
		return schema_no(c, path, "const", "not the value that is required");
	return SCHEMA_OK;
}
