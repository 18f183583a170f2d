/*
 * schema_index: which schemas there are, and by what they can be referred to.
 *
 * The schemas in a document are found where keywords have them; what stands in `const` or below an unknown
 * keyword is data, whatever it looks like, until a reference says otherwise. Each schema with "$id"
 * begins a resource; "$anchor" and "$dynamicAnchor" are names within one.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

#define DIALECT		"https://json-schema.org/draft/2020-12/schema"
#define VOCABULARY	"https://json-schema.org/draft/2020-12/vocab/"

static struct schema_place **
place_list(const struct schema_compiler *c, const json_t *json)
{
	return &c->places[((uintptr_t)json >> 4) % SCHEMA_PLACES];
}

struct schema_place *
schema_place_find(const struct schema_compiler *c, const json_t *json)
{
	struct schema_place *place = *place_list(c, json);

	while (place != NULL && place->json != json)
		place = place->next;
	return place;
}

static int
place_add(struct schema_compiler *c, json_t *json, struct schema_resource *resource)
{
	struct schema_place *place = schema_alloc(c->schema, sizeof(*place));

	if (place == NULL)
		return schema_compile_nomem(c);
	place->json = json;
	place->resource = resource;
	place->next = *place_list(c, json);
	*place_list(c, json) = place;
	return 0;
}

struct schema_resource *
schema_resource_find(const struct schema_compiler *c, const char *uri)
{
	struct schema_resource *resource = c->schema->resources;

	while (resource != NULL && strcmp(resource->uri, uri) != 0)
		resource = resource->next;
	return resource;
}

static struct schema_resource *
resource_add(struct schema_compiler *c, const char *uri, json_t *json, struct schema_resource *parent)
{
	struct schema_resource *resource = schema_alloc(c->schema, sizeof(*resource));

	if (resource == NULL ||
	    (resource->uri = schema_strndup(c->schema, uri, strlen(uri))) == NULL) {
		schema_compile_nomem(c);
		return NULL;
	}
	resource->json = json;
	resource->parent = parent;
	resource->next = c->schema->resources;
	return c->schema->resources = resource;
}

/* A string without NUL, or NULL. */
static const char *
plain_text(const json_t *value)
{
	const char *text = json_string_value(value);

	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

/* The resource that JSON begins, with "$id", in *RESOURCE, which it lies in. */
static int
index_id(struct schema_compiler *c, json_t *json, struct schema_resource **resource)
{
	const char *id = plain_text(json_object_get(json, "$id"));
	struct schema_resource *known;
	char *uri, *fragment;
	int rc;

	if (id == NULL)
		return schema_compile_error(c, json, "$id", "not a string, or with NUL");
	rc = schema_uri_resolve((*resource)->uri, id, &uri, &fragment);
	if (rc == ERR_NOMEM)
		return schema_compile_nomem(c);
	if (rc != 0 || *fragment != '\0') {
		free(uri);
		return schema_compile_error(c, json, "$id", "not a URI without fragment");
	}
	known = schema_resource_find(c, uri);
	if (known != NULL && known->json != json)
		rc = schema_compile_error(c, json, "$id", "another schema has the same URI");
	else if (known != NULL)
		*resource = known;
	else if ((*resource = resource_add(c, uri, json, *resource)) == NULL)
		rc = ERR_NOMEM;
	free(uri);
	return rc;
}

static bool
is_name(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789-.";

	return text != NULL && *text != '\0' && strchr("0123456789-.", *text) == NULL &&
	    text[strspn(text, allowed)] == '\0';
}

static int
index_anchor(struct schema_compiler *c, json_t *json, struct schema_resource *resource, const char *keyword)
{
	json_t *value = json_object_get(json, keyword);
	struct schema_anchor *anchor;

	if (value == NULL)
		return 0;
	if (!is_name(plain_text(value)))
		return schema_compile_error(c, json, keyword, "not a name of letters, digits, _, - and .");
	for (anchor = resource->anchors; anchor != NULL; anchor = anchor->next)
		if (strcmp(anchor->name, json_string_value(value)) == 0 && anchor->json != json)
			return schema_compile_error(c, json, keyword, "another schema has the same name");
	if ((anchor = schema_alloc(c->schema, sizeof(*anchor))) == NULL)
		return schema_compile_nomem(c);
	anchor->name = json_string_value(value);
	anchor->json = json;
	anchor->is_dynamic = strcmp(keyword, "$dynamicAnchor") == 0;
	anchor->next = resource->anchors;
	resource->anchors = anchor;
	return 0;
}

static int
index_children(struct schema_compiler *c, json_t *value, enum schema_shape shape,
    struct schema_resource *resource)
{
	const char *name;
	json_t *child;
	int rc = 0;
	size_t i;

	/* What has the wrong shape is for the compiler to refuse. */
	if (shape == SCHEMA_ONE)
		rc = schema_index(c, value, resource);
	if (shape == SCHEMA_LIST)
		json_array_foreach(value, i, child)
			if (rc == 0)
				rc = schema_index(c, child, resource);
	if (shape == SCHEMA_MAP)
		json_object_foreach(value, name, child)
			if (rc == 0)
				rc = schema_index(c, child, resource);
	return rc;
}

int
schema_index(struct schema_compiler *c, json_t *json, struct schema_resource *resource)
{
	const struct schema_keyword *keyword;
	const char *name;
	json_t *value;
	int rc = 0;

	if (!json_is_object(json) || schema_place_find(c, json) != NULL)
		return 0;
	if (json_object_get(json, "$id") != NULL)
		rc = index_id(c, json, &resource);
	if (rc == 0)
		rc = place_add(c, json, resource);
	if (rc == 0)
		rc = index_anchor(c, json, resource, "$anchor");
	if (rc == 0)
		rc = index_anchor(c, json, resource, "$dynamicAnchor");
	json_object_foreach(json, name, value) {
		if (rc != 0)
			break;
		if ((keyword = schema_keyword_find(name)) != NULL)
			rc = index_children(c, value, keyword->shape, resource);
	}
	return rc;
}

static int
index_document(struct schema_compiler *c, const struct schema_document *document)
{
	char quoted[SCHEMA_TEXT_QUOTE], *uri, *fragment;
	struct schema_resource *resource;
	int rc;

	rc = schema_uri_resolve("", document->uri, &uri, &fragment);
	if (rc == ERR_NOMEM)
		return schema_compile_nomem(c);
	if (rc != 0)
		return err_set(c->err, rc, "the document's URI is none");
	if (schema_resource_find(c, uri) != NULL)
		rc = err_set(c->err, ERR_INVALID, "two schemas have the URI %s",
		    schema_quote(uri, strlen(uri), quoted));
	else if ((resource = resource_add(c, uri, document->json, NULL)) == NULL)
		rc = ERR_NOMEM;
	else
		rc = schema_index(c, document->json, resource);
	free(uri);
	return rc;
}

int
schema_index_all(struct schema_compiler *c, struct schema_resource **root)
{
	struct schema_place *place;
	int rc;

	if ((*root = resource_add(c, "", c->schema->json, NULL)) == NULL)
		return ERR_NOMEM;
	rc = schema_index(c, c->schema->json, *root);
	for (size_t i = 0; i < c->n_documents && rc == 0; i++)
		rc = index_document(c, &c->documents[i]);
	if (rc == 0 && (place = schema_place_find(c, c->schema->json)) != NULL)
		*root = place->resource;
	return rc;
}

static unsigned
vocabulary_bit(const char *uri)
{
	static const struct { const char *name; unsigned bit; } known[] = {
		{ "core", SCHEMA_CORE }, { "applicator", SCHEMA_APPLICATOR },
		{ "unevaluated", SCHEMA_UNEVALUATED }, { "validation", SCHEMA_VALIDATION },
		/* Annotations need nothing to be done. */
		{ "meta-data", SCHEMA_CORE }, { "format-annotation", SCHEMA_CORE },
		{ "content", SCHEMA_CORE },
	};

	if (strncmp(uri, VOCABULARY, strlen(VOCABULARY)) != 0)
		return 0;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(uri + strlen(VOCABULARY), known[i].name) == 0)
			return known[i].bit;
	return 0;
}

/* Those that the meta-schema META asks for, for the schema JSON. */
static int
read_vocabularies(struct schema_compiler *c, json_t *json, const json_t *meta, unsigned *vocabularies)
{
	json_t *wanted = json_object_get(meta, "$vocabulary"), *value;
	char quoted[SCHEMA_TEXT_QUOTE];
	const char *uri;
	unsigned bit;

	*vocabularies = wanted == NULL ? SCHEMA_VOCABULARIES : SCHEMA_CORE;
	json_object_foreach(wanted, uri, value) {
		bit = vocabulary_bit(uri);
		if (bit == 0 && !json_is_false(value))
			return schema_compile_error(c, json, "$schema",
			    "it needs a vocabulary that is not supported: %s",
			    schema_quote(uri, strlen(uri), quoted));
		*vocabularies |= bit;
	}
	return 0;
}

int
schema_index_vocabularies(struct schema_compiler *c, struct schema_resource *resource)
{
	json_t *value = json_object_get(resource->json, "$schema");
	const struct schema_resource *meta;
	char quoted[SCHEMA_TEXT_QUOTE], *uri, *fragment;
	int rc;

	if (resource->vocabularies != 0)
		return 0;
	resource->vocabularies = SCHEMA_VOCABULARIES;
	if (value == NULL && resource->parent != NULL) {
		rc = schema_index_vocabularies(c, resource->parent);
		resource->vocabularies = resource->parent->vocabularies;
		return rc;
	}
	if (value == NULL)
		return 0;
	if (plain_text(value) == NULL)
		return schema_compile_error(c, resource->json, "$schema", "not a string, or with NUL");
	rc = schema_uri_resolve("", plain_text(value), &uri, &fragment);
	if (rc == ERR_NOMEM)
		return schema_compile_nomem(c);
	if (rc != 0)
		return schema_compile_error(c, resource->json, "$schema", "not a URI");
	meta = schema_resource_find(c, uri);
	if (meta != NULL)
		rc = read_vocabularies(c, resource->json, meta->json, &resource->vocabularies);
	else if (strcmp(uri, DIALECT) != 0)
		rc = schema_compile_error(c, resource->json, "$schema",
		    "neither draft 2020-12 nor a known document: %s",
		    schema_quote(plain_text(value), json_string_length(value), quoted));
	free(uri);
	return rc;
}
