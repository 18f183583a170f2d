/*
 * schema_compile: a node of each schema that is reached, and what is wrong with one that cannot be.
 *
 * A schema is compiled once, however many references lead to it: its place knows its node, from before
 * its keywords are looked at, so that it may refer to itself. References are followed afterwards, by
 * schema_ref, which keeps the recursion here within the nesting of the text.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "form/schema_parts.h"

/* Find WANTED in JSON, which is at PATH, and write where that is. */
static bool
search(const json_t *wanted, json_t *json, const struct schema_path *path, char where[SCHEMA_TEXT_PATH])
{
	struct schema_path step = { .up = path };
	const char *name;
	json_t *child;

	if (json == wanted) {
		schema_path_text(path, "", where);
		return true;
	}
	json_array_foreach(json, step.index, child)
		if (search(wanted, child, &step, where))
			return true;
	json_object_foreach(json, name, child) {
		step.name = name;
		step.len = strlen(name);
		if (search(wanted, child, &step, where))
			return true;
	}
	return false;
}

int
schema_compile_error(const struct schema_compiler *c, const json_t *json, const char *keyword,
    const char *fmt, ...)
{
	char where[SCHEMA_TEXT_PATH] = "", what[sizeof(c->err->text)], text[2 * sizeof(c->err->text)];
	char document[SCHEMA_TEXT_QUOTE] = "";
	bool found = search(json, c->schema->json, NULL, where);
	va_list ap;

	if (found && where[0] == '\0')
		snprintf(where, sizeof(where), "the schema");
	for (size_t i = 0; i < c->n_documents && !found; i++)
		if ((found = search(json, c->documents[i].json, NULL, where)))
			schema_quote(c->documents[i].uri, strlen(c->documents[i].uri), document);
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	schema_clip(what, sizeof(what));
	snprintf(text, sizeof(text), "%s%s%s: %s%s%s", document, document[0] == '\0' ? "" : "#", where,
	    keyword == NULL ? "" : keyword, keyword == NULL ? "" : ": ", what);
	schema_clip(text, sizeof(c->err->text));
	return err_set(c->err, ERR_INVALID, "%s", text);
}

int
schema_compile_nomem(const struct schema_compiler *c)
{
	return err_set(c->err, ERR_NOMEM, "out of memory while compiling a schema");
}

static struct schema_node *
node_new(struct schema_compiler *c, const char *keyword, enum schema_kind kind)
{
	struct schema_node *node = schema_alloc(c->schema, sizeof(*node));

	if (node == NULL) {
		schema_compile_nomem(c);
		return NULL;
	}
	node->kind = kind;
	node->types = SCHEMA_TYPE_ANY;
	node->keyword = keyword;
	node->index = c->schema->n_nodes++;
	node->next = c->schema->nodes;
	return c->schema->nodes = node;
}

static int
compile_keywords(struct schema_compiler *c, const struct schema_place *place)
{
	struct schema_site site = { c, place->json, place->node, place->resource };
	const struct schema_keyword *keyword;
	const char *name;
	json_t *value;
	int rc;

	json_object_foreach(place->json, name, value) {
		keyword = schema_keyword_find(name);
		if (keyword == NULL || keyword->compile == NULL ||
		    (keyword->vocabulary & place->resource->vocabularies) == 0)
			continue;
		if ((rc = keyword->compile(&site, keyword, value)) != 0)
			return rc;
	}
	return 0;
}

int
schema_compile_node(struct schema_compiler *c, const struct schema_site *from, const char *keyword,
    json_t *json, const struct schema_node **node)
{
	struct schema_place *place;
	int rc;

	if (json_is_boolean(json)) {
		*node = node_new(c, keyword, json_is_true(json) ? SCHEMA_TRUE : SCHEMA_FALSE);
		return *node == NULL ? ERR_NOMEM : 0;
	}
	if (!json_is_object(json))
		return schema_compile_error(c, from->json, keyword, "a schema is an object, true or false");
	/* What a reference found below an unknown keyword is not in the index. */
	if ((rc = schema_index(c, json, from->resource)) != 0)
		return rc;
	place = schema_place_find(c, json);
	if ((*node = place->node) != NULL)
		return 0;
	if ((place->node = node_new(c, keyword, SCHEMA_SOME)) == NULL)
		return ERR_NOMEM;
	*node = place->node;
	place->node->resource = place->resource;
	place->node->json = json;
	place->resource->is_reached = true;
	if ((rc = schema_index_vocabularies(c, place->resource)) != 0)
		return rc;
	return compile_keywords(c, place);
}
