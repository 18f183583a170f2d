/* predicate: does it hold? predicate_compile makes the steps that are taken here. */
#include <stdlib.h>
#include <string.h>

#include "form/predicate_parts.h"

/* 2^63, which a double holds exactly and an int64_t does not. */
#define INTEGER_END	9223372036854775808.0

/* As good as if both were exact: an integer beyond 2^53 is never made a double. */
static int
compare_integer_real(int64_t integer, double real)
{
	int64_t whole;

	if (real >= INTEGER_END)
		return -1;
	if (real < -INTEGER_END)
		return 1;
	whole = (int64_t)real;	/* towards 0 */
	if (integer != whole)
		return integer < whole ? -1 : 1;
	if ((double)whole == real)
		return 0;
	return (double)whole < real ? -1 : 1;
}

static int
compare_strings(const struct predicate_value *a, const struct predicate_value *b)
{
	size_t len = a->string.len < b->string.len ? a->string.len : b->string.len;
	int rc = len == 0 ? 0 : memcmp(a->string.bytes, b->string.bytes, len);

	if (rc != 0)
		return rc;
	return (a->string.len > b->string.len) - (a->string.len < b->string.len);
}

int
predicate_compare(const struct predicate_value *a, const struct predicate_value *b)
{
	if (a->type == PREDICATE_STRING)
		return compare_strings(a, b);
	if (a->type == PREDICATE_REAL && b->type == PREDICATE_REAL)
		return (a->real > b->real) - (a->real < b->real);
	if (a->type == PREDICATE_REAL)
		return -compare_integer_real(b->integer, a->real);
	if (b->type == PREDICATE_REAL)
		return compare_integer_real(a->integer, b->real);
	return (a->integer > b->integer) - (a->integer < b->integer);
}

/* The element of ARRAY that NAME, a number without sign or leading zeros, stands for. */
static const json_t *
find_element(const json_t *array, const char *name)
{
	size_t n = json_array_size(array), i = 0;
	const char *p;

	if (*name == '\0' || (*name == '0' && name[1] != '\0'))
		return NULL;
	for (p = name; *p >= '0' && *p <= '9' && i < n; p++)
		i = i * 10 + (size_t)(*p - '0');
	return *p == '\0' ? json_array_get(array, i) : NULL;
}

static const json_t *
find_field(const struct predicate_step *step, const json_t *value)
{
	const char *name = step->path;
	unsigned i;

	for (i = 0; i < step->n_names && value != NULL; i++, name += strlen(name) + 1)
		value = json_is_array(value) ? find_element(value, name) :
		    json_object_get(value, name);
	return value;
}

/* FIELD as a value; false when it is an object or an array, which compare with nothing. */
static bool
take_field(const json_t *field, struct predicate_value *value)
{
	switch (json_typeof(field)) {
	case JSON_NULL:
		value->type = PREDICATE_NULL;
		return true;
	case JSON_TRUE:
	case JSON_FALSE:
		value->type = PREDICATE_BOOL;
		value->truth = json_is_true(field);
		return true;
	case JSON_INTEGER:
		value->type = PREDICATE_INTEGER;
		value->integer = json_integer_value(field);
		return true;
	case JSON_REAL:
		value->type = PREDICATE_REAL;
		value->real = json_real_value(field);
		return true;
	case JSON_STRING:
		value->type = PREDICATE_STRING;
		value->string.bytes = json_string_value(field);
		value->string.len = json_string_length(field);
		return true;
	case JSON_OBJECT:
	case JSON_ARRAY:
		break;
	}
	return false;
}

static bool
is_comparable(const struct predicate_value *a, const struct predicate_value *b)
{
	bool a_number = a->type == PREDICATE_INTEGER || a->type == PREDICATE_REAL;
	bool b_number = b->type == PREDICATE_INTEGER || b->type == PREDICATE_REAL;

	return a->type == b->type || (a_number && b_number);
}

/* A and the value of STEP are comparable, or rather the same: null has no other values. */
static bool
is_equal(const struct predicate_step *step, const struct predicate_value *a)
{
	if (step->a.type == PREDICATE_NULL)
		return true;
	if (step->a.type == PREDICATE_BOOL)
		return a->truth == step->a.truth;
	return predicate_compare(a, &step->a) == 0;
}

static bool
step_compare(const struct predicate_step *step, const json_t *field)
{
	struct predicate_value value;

	if (step->a.type == PREDICATE_NULL && step->kind == PREDICATE_UNEQUAL)
		return !json_is_null(field);
	if (!take_field(field, &value) || !is_comparable(&value, &step->a))
		return false;
	switch (step->kind) {
	case PREDICATE_EQUAL:
		return is_equal(step, &value);
	case PREDICATE_UNEQUAL:
		return !is_equal(step, &value);
	case PREDICATE_LESS:
		return predicate_compare(&value, &step->a) < 0;
	case PREDICATE_LESS_EQUAL:
		return predicate_compare(&value, &step->a) <= 0;
	case PREDICATE_GREATER:
		return predicate_compare(&value, &step->a) > 0;
	case PREDICATE_GREATER_EQUAL:
		return predicate_compare(&value, &step->a) >= 0;
	default:
		return predicate_compare(&value, &step->a) >= 0 &&
		    predicate_compare(&value, &step->b) <= 0;
	}
}

int
predicate_holds(const struct predicate *predicate, const json_t *value)
{
	const struct predicate_step *step;
	const json_t *field;
	bool holds = false;
	unsigned i = 0;

	while (i < predicate->n) {
		step = &predicate->steps[i++];
		switch (step->kind) {
		case PREDICATE_JUMP_IF_TRUE:
			if (holds)
				i = step->target;
			break;
		case PREDICATE_JUMP_IF_FALSE:
			if (!holds)
				i = step->target;
			break;
		case PREDICATE_NOT:
			holds = !holds;
			break;
		default:
			field = find_field(step, value);
			holds = field != NULL && (step->kind == PREDICATE_EXISTS ||
			    step_compare(step, field));
			break;
		}
	}
	return holds;
}

void
predicate_free(struct predicate *predicate)
{
	if (predicate == NULL)
		return;
	free(predicate->steps);
	free(predicate->names);
	free(predicate);
}
