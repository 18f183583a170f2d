/*
 * schema: the life of a schema; see schema.h.
 *
 * Compiling may fail at any point: what there is by then is freed as a whole schema would be.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

static int
compile(struct schema_compiler *c)
{
	struct schema_site site = { .c = c, .json = c->schema->json };
	int rc;

	if ((rc = schema_index_all(c, &site.resource)) != 0)
		return rc;
	rc = schema_compile_node(c, &site, NULL, site.json, &c->schema->root);
	if (rc == 0)
		rc = schema_ref_resolve(c);
	if (rc == 0)
		rc = schema_ref_check_loops(c);
	return rc;
}

int
schema_compile(struct schema **schema, const void *text, size_t len,
    const struct schema_document *documents, size_t n, struct err *err)
{
	struct err unread = { 0, 0, "" };
	struct schema_compiler c = { .documents = documents, .n_documents = n,
	    .err = err == NULL ? &unread : err };
	int rc;

	*schema = NULL;
	c.schema = calloc(1, sizeof(*c.schema));
	c.places = calloc(SCHEMA_PLACES, sizeof(struct schema_place *));
	if (c.schema == NULL || c.places == NULL)
		rc = schema_compile_nomem(&c);
	else if ((c.schema->json = schema_parse(text, len, c.err)) == NULL)
		rc = c.err->code;
	else
		rc = compile(&c);
	free(c.places);
	if (rc == 0)
		*schema = c.schema;
	else
		schema_free(c.schema);
	return rc;
}

void
schema_free(struct schema *schema)
{
	if (schema == NULL)
		return;
	schema_pattern_free_all(schema);
	schema_memory_free(schema);
	json_decref(schema->json);
	free(schema);
}
