/*
 * fuzz schema: a schema, a zero byte, a payload. Every verdict is fine; it must be the same for
 * whoever asks again, and the reason must be fit to be sent to a peer.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "form/schema.h"

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(int condition)
{
	if (!condition)
		abort();
}

static void
check_reason(int rc, const struct err *err)
{
	json_t *text = json_string(err->text);

	must(rc == err->code && (rc == ERR_INVALID || rc == ERR_NOMEM));
	must(text != NULL && json_string_length(text) > 0);
	for (const char *p = err->text; *p != '\0'; p++)
		must((unsigned char)*p >= 0x20 && *p != 0x7f);
	json_decref(text);
}

static void
check_value(const struct schema *schema, json_t *value)
{
	struct err err = { 0, 0, "" };
	int rc = schema_validate(schema, value, &err);

	if (rc != 0)
		check_reason(rc, &err);
	must(schema_validate(schema, value, NULL) == rc);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size > 0 ? memchr(data, '\0', size) : NULL;
	size_t len = end == NULL ? size : (size_t)(end - data);
	struct err err = { 0, 0, "" };
	struct schema *schema;
	json_t *value;
	int rc;

	value = end == NULL ? NULL : schema_parse(end + 1, size - len - 1, &err);
	if (value == NULL && end != NULL)
		check_reason(err.code, &err);
	err = (struct err){ 0, 0, "" };
	rc = schema_compile(&schema, data, len, NULL, 0, &err);
	if (rc != 0)
		check_reason(rc, &err);
	else if (value != NULL)
		check_value(schema, value);
	schema_free(schema);
	json_decref(value);
	return 0;
}
