/*
 * conf_number: numbers with and without a unit, from text and to it.
 */
#include <string.h>

#include "base/err.h"
#include "form/conf_parts.h"

/* From the largest to the smallest, one with factor 0 at the end. */
struct number_unit {
	const char *name;
	uint64_t factor;
};

static const struct number_unit durations[] = {
	{ "d", UINT64_C(86400000000000) }, { "h", UINT64_C(3600000000000) },
	{ "m", UINT64_C(60000000000) }, { "s", UINT64_C(1000000000) },
	{ "ms", UINT64_C(1000000) }, { NULL, 0 },
};

static const struct number_unit sizes[] = {
	{ "G", UINT64_C(1) << 30 }, { "M", UINT64_C(1) << 20 }, { "K", UINT64_C(1) << 10 },
	{ "", 1 }, { NULL, 0 },
};

int
conf_parse_number(const char *text, uint64_t *number, const char **end)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return ERR_INVALID;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return ERR_INVALID;
	*number = n;
	*end = text;
	return 0;
}

static int
parse_with_unit(const char *text, const struct number_unit *units, uint64_t max,
    uint64_t *result)
{
	const char *name;
	uint64_t n;

	if (conf_parse_number(text, &n, &name) < 0)
		return ERR_INVALID;
	for (; units->factor != 0; units++)
		if (strcmp(name, units->name) == 0)
			return __builtin_mul_overflow(n, units->factor, result) ||
			    *result > max ? ERR_INVALID : 0;
	return ERR_INVALID;
}

/* The smallest unit takes what no other one gives whole. */
static const char *
format_with_unit(uint64_t n, const struct number_unit *units, char *buf, size_t size)
{
	while (units[1].factor != 0 && n % units->factor != 0)
		units++;
	snprintf(buf, size, "%llu%s", (unsigned long long)(n / units->factor), units->name);
	return buf;
}

int
conf_parse_duration(const char *text, int64_t *ns)
{
	uint64_t n;

	if (parse_with_unit(text, durations, INT64_MAX, &n) < 0)
		return ERR_INVALID;
	*ns = (int64_t)n;
	return 0;
}

int
conf_parse_size(const char *text, uint64_t *bytes)
{
	return parse_with_unit(text, sizes, UINT64_MAX, bytes);
}

const char *
conf_format_duration(int64_t ns, char *buf, size_t size)
{
	if (ns == 0)	/* every unit gives it whole */
		snprintf(buf, size, "0s");
	else
		format_with_unit((uint64_t)ns, durations, buf, size);
	return buf;
}

const char *
conf_format_size(uint64_t bytes, char *buf, size_t size)
{
	if (bytes == 0)
		snprintf(buf, size, "0");
	else
		format_with_unit(bytes, sizes, buf, size);
	return buf;
}
