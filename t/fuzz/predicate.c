/*
 * fuzz predicate: any bytes as a condition, and what stands behind a NUL in them as the payload.
 * Every verdict is fine; an error has a text and a place that is in the condition.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form/predicate.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
check_error(const struct err *err, size_t len)
{
	unsigned column;

	must(err->code == ERR_INVALID);
	must(sscanf(err->text, "column %u: ", &column) == 1);
	must(column >= 1 && column <= len + 1);
}

/* Its opposite compiles, too, unless it is at a bound, and holds when it does not. */
static void
check_opposite(const char *text, const struct predicate *p, const json_t *payload)
{
	struct predicate *opposite;
	char *not;

	if (strlen(text) + 6 > PREDICATE_TEXT_MAX || asprintf(&not, "not (%s)", text) < 0)
		return;
	if (predicate_compile(&opposite, not, NULL) == 0)
		must(predicate_holds(opposite, payload) == !predicate_holds(p, payload));
	else
		must(strlen(text) > PREDICATE_DEPTH_MAX - 2);
	predicate_free(opposite);
	free(not);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, '\0', size);
	size_t len = end == NULL ? size : (size_t)(end - data);
	char *text = strndup((const char *)data, len);
	struct err err = { 0 };
	struct predicate *p;
	json_t *payload = NULL;

	must(text != NULL);
	if (end != NULL)
		payload = json_loadb((const char *)end + 1, size - len - 1,
		    JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
	if (predicate_compile(&p, text, &err) == 0)
		check_opposite(text, p, payload);
	else {
		must(p == NULL);
		check_error(&err, len);
	}
	predicate_free(p);
	json_decref(payload);
	free(text);
	return 0;
}
