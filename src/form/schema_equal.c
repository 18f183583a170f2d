/*
 * schema_equal: values compared with each other, by what they are and not by how they are written.
 *
 * Numbers are compared exactly: an integer equals a real only if the real is that integer. Recursion is
 * bounded by the nesting that the JSON reader allows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "form/schema_parts.h"

#define TWO_TO_53	9007199254740992.0
#define TWO_TO_63	9223372036854775808.0

/* Different values of different types should differ; any numbers do. */
enum { HASH_NULL = 11, HASH_TRUE, HASH_FALSE, HASH_STRING, HASH_ARRAY, HASH_OBJECT };

/* Digits behind the point that need no detour through text: ten to the power of them is exact. */
#define SHORT_PLACES	9

/* What that detour costs. */
#define TEXT_STEPS	100

/* Bytes that cost as much as a step. */
#define BYTES_PER_STEP	64

/* Above 2^53 there are no fractions; below, the conversion is defined. */
static bool
is_whole(double d)
{
	return !(d > -TWO_TO_53 && d < TWO_TO_53) || (double)(int64_t)d == d;
}

unsigned
schema_type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return SCHEMA_TYPE_OBJECT;
	case JSON_ARRAY:
		return SCHEMA_TYPE_ARRAY;
	case JSON_STRING:
		return SCHEMA_TYPE_STRING;
	case JSON_INTEGER:
		return SCHEMA_TYPE_INTEGER;
	case JSON_REAL:
		return is_whole(json_real_value(value)) ? SCHEMA_TYPE_INTEGER : SCHEMA_TYPE_REAL;
	case JSON_NULL:
		return SCHEMA_TYPE_NULL;
	default:
		return SCHEMA_TYPE_BOOLEAN;
	}
}

size_t
schema_length(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((unsigned char)text[i] & 0xc0) != 0x80;
	return n;
}

static int
compare_mixed(json_int_t i, double d)
{
	json_int_t whole;

	if (d >= TWO_TO_63)
		return -1;
	if (d < -TWO_TO_63)
		return 1;
	whole = (json_int_t)d;
	if (i != whole)
		return i < whole ? -1 : 1;
	d -= (double)whole;
	return d > 0 ? -1 : d < 0 ? 1 : 0;
}

int
schema_compare(const json_t *a, const json_t *b)
{
	if (json_is_integer(a) && json_is_integer(b)) {
		json_int_t x = json_integer_value(a), y = json_integer_value(b);

		return x < y ? -1 : x > y;
	}
	if (json_is_integer(a))
		return compare_mixed(json_integer_value(a), json_real_value(b));
	if (json_is_integer(b))
		return -compare_mixed(json_integer_value(b), json_real_value(a));
	return json_real_value(a) < json_real_value(b) ? -1 : json_real_value(a) > json_real_value(b);
}

static bool
equal_objects(const json_t *a, const json_t *b, uint64_t *work)
{
	/* Iterating is declared for objects that may change; nothing does here. */
	void *at = json_object_iter((json_t *)(uintptr_t)a);
	const json_t *other;

	if (json_object_size(a) != json_object_size(b))
		return false;
	for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)a, at)) {
		other = json_object_getn(b, json_object_iter_key(at), json_object_iter_key_len(at));
		*work += json_object_iter_key_len(at) / BYTES_PER_STEP;
		if (other == NULL || !schema_equal(json_object_iter_value(at), other, work))
			return false;
	}
	return true;
}

static bool
equal_arrays(const json_t *a, const json_t *b, uint64_t *work)
{
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++)
		if (!schema_equal(json_array_get(a, i), json_array_get(b, i), work))
			return false;
	return true;
}

bool
schema_equal(const json_t *a, const json_t *b, uint64_t *work)
{
	++*work;
	if (json_is_number(a) && json_is_number(b))
		return schema_compare(a, b) == 0;
	if (json_typeof(a) != json_typeof(b))
		return false;
	switch (json_typeof(a)) {
	case JSON_STRING:
		if (json_string_length(a) != json_string_length(b))
			return false;
		*work += json_string_length(a) / BYTES_PER_STEP;
		return memcmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
	case JSON_ARRAY:
		return equal_arrays(a, b, work);
	case JSON_OBJECT:
		return equal_objects(a, b, work);
	default:
		return true;
	}
}

/* A bijection that mixes; see hash_checksum for why the shift. */
static uint64_t
mix(uint64_t h)
{
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

static uint64_t
hash_number(const json_t *value)
{
	double d = json_number_value(value);
	uint64_t bits;

	/* An integer that is no double equals none. */
	if (json_is_integer(value) && compare_mixed(json_integer_value(value), d) != 0)
		return mix((uint64_t)json_integer_value(value));
	if (d == 0)
		d = 0;		/* -0 equals it */
	memcpy(&bits, &d, sizeof(bits));
	return mix(bits);
}

static uint64_t
hash_object(const json_t *value, uint64_t *work)
{
	void *at = json_object_iter((json_t *)(uintptr_t)value);
	uint64_t h = HASH_OBJECT, name;

	/* A sum: the order of the members does not matter. */
	for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)value, at)) {
		name = hash_checksum(json_object_iter_key(at), json_object_iter_key_len(at));
		*work += json_object_iter_key_len(at) / BYTES_PER_STEP;
		h += mix(name ^ mix(schema_hash(json_object_iter_value(at), work)));
	}
	return mix(h);
}

uint64_t
schema_hash(const json_t *value, uint64_t *work)
{
	uint64_t h = HASH_ARRAY;

	++*work;
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return hash_object(value, work);
	case JSON_ARRAY:
		for (size_t i = 0; i < json_array_size(value); i++)
			h = mix(h ^ schema_hash(json_array_get(value, i), work));
		return h;
	case JSON_STRING:
		*work += json_string_length(value) / BYTES_PER_STEP;
		return hash_checksum(json_string_value(value), json_string_length(value)) ^ HASH_STRING;
	case JSON_INTEGER:
	case JSON_REAL:
		return hash_number(value);
	case JSON_TRUE:
		return mix(HASH_TRUE);
	case JSON_FALSE:
		return mix(HASH_FALSE);
	default:
		return mix(HASH_NULL);
	}
}

/*
 * SIZE times a power of ten is whole, and divided by that power is SIZE again: then it is what SIZE was
 * written as. Both are exact as doubles, so the division rounds as reading the decimal would.
 */
static bool
decimal_is_short(double size, struct schema_decimal *d)
{
	double power = 1, scaled;

	for (int places = 0; places <= SHORT_PLACES; places++, power *= 10) {
		scaled = size * power + 0.5;
		if (scaled >= TWO_TO_53)
			return false;
		d->digits = (uint64_t)scaled;
		d->exponent = -places;
		if ((double)d->digits / power == size)
			return true;
	}
	return false;
}

/* The shortest decimal that reads back as the same real. */
static struct schema_decimal
decimal_of_text(double size)
{
	struct schema_decimal d = { 0, 0 };
	char text[40], *p;

	for (int precision = 14; precision <= 16; precision++) {
		snprintf(text, sizeof(text), "%.*e", precision, size);
		if (strtod(text, NULL) == size)
			break;
	}
	/* One digit, a point of the locale's, PRECISION digits. */
	for (p = text; *p != 'e' && *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			continue;
		d.digits = d.digits * 10 + (uint64_t)(*p - '0');
		d.exponent -= p > text;
	}
	d.exponent += *p == 'e' ? atoi(p + 1) : 0;
	return d;
}

struct schema_decimal
schema_decimal_of(const json_t *number, uint64_t *work)
{
	struct schema_decimal d = { 0, 0 };
	double real = json_real_value(number);
	json_int_t i = json_integer_value(number);

	++*work;
	if (json_is_integer(number)) {
		d.digits = i < 0 ? UINT64_C(0) - (uint64_t)i : (uint64_t)i;
	} else if (!decimal_is_short(real < 0 ? -real : real, &d)) {
		*work += TEXT_STEPS;
		d = decimal_of_text(real < 0 ? -real : real);
	}
	while (d.digits != 0 && d.digits % 10 == 0) {
		d.digits /= 10;
		d.exponent++;
	}
	return d;
}

__extension__ typedef unsigned __int128 uint128;

/* Does M divide DIGITS times ten to the power of EXPONENT? */
static bool
divides(uint64_t m, uint64_t digits, int exponent)
{
	uint128 rest = digits % m, factor = 10 % m;

	for (; exponent > 0; exponent /= 2) {
		if (exponent % 2 != 0)
			rest = rest * factor % m;
		factor = factor * factor % m;
	}
	return rest == 0;
}

bool
schema_is_multiple(struct schema_decimal a, struct schema_decimal b)
{
	if (a.digits == 0)
		return true;
	/* A does not end in 0, so no power of ten divides it. */
	if (a.exponent < b.exponent)
		return false;
	return divides(b.digits, a.digits, a.exponent - b.exponent);
}
