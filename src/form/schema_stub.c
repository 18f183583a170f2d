/*
 * schema_stub: stands in for the validator until that is there; weak, so that the two do not
 * clash. A schema is read, everything conforms. Goes when schema.c comes.
 */
#include <stdlib.h>

#include "form/schema.h"

#pragma weak schema_compile
#pragma weak schema_free
#pragma weak schema_validate
#pragma weak schema_parse

struct schema { json_t *json; };

int
schema_compile(struct schema **schema, const void *text, size_t len,
    const struct schema_document *documents, size_t n, struct err *err)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	(void)documents;
	(void)n;
	*schema = NULL;
	if (json == NULL)
		return err_set(err, ERR_INVALID, "line %d, column %d: %s", error.line, error.column,
		    error.text);
	if ((*schema = calloc(1, sizeof **schema)) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	(*schema)->json = json;
	return 0;
}

void
schema_free(struct schema *schema)
{
	if (schema != NULL)
		json_decref(schema->json);
	free(schema);
}

int
schema_validate(const struct schema *schema, json_t *value, struct err *err)
{
	(void)schema;
	(void)value;
	(void)err;
	return 0;
}

json_t *
schema_parse(const void *text, size_t len, struct err *err)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES |
	    JSON_ALLOW_NUL, &error);

	if (json == NULL)
		err_set(err, ERR_INVALID, "not JSON: %s", error.text);
	return json;
}
