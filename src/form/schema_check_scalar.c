/* schema_check_scalar: strings, numbers, and the values that `enum` and `const` allow. */
#include "form/schema_parts.h"

/* Bytes whose characters are counted in the time of a step. */
#define BYTES_PER_STEP	64

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
	if (number->multiple_of != NULL) {
		/* Reals go through their decimal text. */
		if (schema_spend(c, 20, path) != SCHEMA_OK)
			return SCHEMA_STOP;
		if (!schema_is_multiple(value, number->multiple_of))
			return schema_no(c, path, "multipleOf", "no multiple of %s",
			    number_text(number->multiple_of, text));
	}
	return SCHEMA_OK;
}

/* Among the values with the same hash. */
static bool
is_listed(const struct schema_values *values, const json_t *value, uint64_t *work)
{
	uint64_t hash = schema_hash(value, work);
	size_t low = 0, high = values->n, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (values->list[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
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
