/*
 * schema_ref: references followed to nodes.
 *
 * A reference names a resource by its URI and a schema in it by a JSON pointer or an anchor. It has
 * to lead to a schema that is known when compiling. Only a $dynamicRef to a $dynamicAnchor is decided
 * again for each value: all that it might lead to is compiled here too.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

int
schema_ref_add(const struct schema_site *site, const char *keyword, const char *text,
    const struct schema_node **target)
{
	struct schema_reference *reference = schema_alloc(site->c->schema, sizeof(*reference));

	if (reference == NULL)
		return schema_compile_nomem(site->c);
	reference->from = *site;
	reference->keyword = keyword;
	reference->text = text;
	reference->target = target;
	reference->next = site->c->references;
	site->c->references = reference;
	return 0;
}

static struct schema_anchor *
find_anchor(const struct schema_resource *resource, const char *name)
{
	struct schema_anchor *anchor = resource->anchors;

	while (anchor != NULL && strcmp(anchor->name, name) != 0)
		anchor = anchor->next;
	return anchor;
}

static void
unescape(char *token)
{
	char *out = token;

	for (; *token != '\0'; token++) {
		if (*token == '~' && (token[1] == '0' || token[1] == '1'))
			*out++ = *++token == '0' ? '~' : '/';
		else
			*out++ = *token;
	}
	*out = '\0';
}

static json_t *
item_at(const json_t *array, const char *token)
{
	size_t len = strlen(token);

	if (len == 0 || len > 9 || strspn(token, "0123456789") != len || (len > 1 && *token == '0'))
		return NULL;
	return json_array_get(array, strtoul(token, NULL, 10));
}

/* Go from TO's place along POINTER; NULL in its json when there is nothing. */
static void
follow_pointer(struct schema_site *to, char *pointer)
{
	const struct schema_place *place;
	char *token;

	strsep(&pointer, "/");
	while (to->json != NULL && (token = strsep(&pointer, "/")) != NULL) {
		unescape(token);
		to->json = json_is_array(to->json) ? item_at(to->json, token) :
		    json_object_get(to->json, token);
		if (to->json != NULL && (place = schema_place_find(to->c, to->json)) != NULL)
			to->resource = place->resource;
	}
}

/* The schema that FRAGMENT of the resource TO names; a dynamic anchor also in *DYNAMIC. */
static void
follow_fragment(struct schema_site *to, char *fragment, const struct schema_anchor **dynamic)
{
	const struct schema_anchor *anchor;

	*dynamic = NULL;
	if (*fragment == '\0')
		return;
	if (*fragment == '/') {
		follow_pointer(to, fragment);
		return;
	}
	anchor = find_anchor(to->resource, fragment);
	to->json = anchor == NULL ? NULL : anchor->json;
	if (anchor != NULL && anchor->is_dynamic)
		*dynamic = anchor;
}

static int
lead_nowhere(const struct schema_reference *reference)
{
	char quoted[SCHEMA_TEXT_QUOTE];

	return schema_compile_error(reference->from.c, reference->from.json, reference->keyword,
	    "there is no schema at %s", schema_quote(reference->text, strlen(reference->text), quoted));
}

static int
follow_reference(const struct schema_reference *reference, struct schema_site *to,
    const struct schema_anchor **dynamic)
{
	const struct schema_place *place;
	char *uri, *fragment;
	int rc;

	rc = schema_uri_resolve(to->resource->uri, reference->text, &uri, &fragment);
	if (rc == ERR_NOMEM)
		return schema_compile_nomem(to->c);
	if (rc != 0)
		return schema_compile_error(to->c, reference->from.json, reference->keyword,
		    "not a URI reference");
	if ((to->resource = schema_resource_find(to->c, uri)) != NULL) {
		to->json = to->resource->json;
		/* A document known by its URI may have an "$id", and its anchors belong to that. */
		if ((place = schema_place_find(to->c, to->json)) != NULL)
			to->resource = place->resource;
		follow_fragment(to, fragment, dynamic);
	}
	free(uri);
	return to->resource == NULL || to->json == NULL ? lead_nowhere(reference) : 0;
}

static int
resolve_one(struct schema_compiler *c, const struct schema_reference *reference)
{
	struct schema_site to = reference->from;
	const struct schema_anchor *dynamic = NULL;
	int rc;

	if ((rc = follow_reference(reference, &to, &dynamic)) != 0)
		return rc;
	if (dynamic != NULL && strcmp(reference->keyword, "$dynamicRef") == 0) {
		reference->from.node->logic->dynamic_name = dynamic->name;
		c->schema->is_dynamic = true;
	}
	/* Should it be no schema, then the reference is to blame. */
	if (!json_is_object(to.json) && !json_is_boolean(to.json))
		return lead_nowhere(reference);
	return schema_compile_node(c, &to, reference->keyword, to.json, reference->target);
}

/* What a $dynamicRef may lead to. */
static int
compile_anchors(struct schema_compiler *c, struct schema_resource *resource)
{
	struct schema_site site = { .c = c, .resource = resource };
	struct schema_anchor *anchor;
	int rc;

	for (anchor = resource->anchors; anchor != NULL; anchor = anchor->next) {
		if (!anchor->is_dynamic || anchor->node != NULL)
			continue;
		site.json = anchor->json;
		rc = schema_compile_node(c, &site, "$dynamicRef", anchor->json, &anchor->node);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
schema_ref_resolve(struct schema_compiler *c)
{
	struct schema_reference *reference;
	struct schema_resource *resource;
	int rc = 0;

	do {
		while (rc == 0 && (reference = c->references) != NULL) {
			c->references = reference->next;
			rc = resolve_one(c, reference);
		}
		if (!c->schema->is_dynamic)
			break;
		for (resource = c->schema->resources; resource != NULL && rc == 0;
		    resource = resource->next)
			if (resource->is_reached)
				rc = compile_anchors(c, resource);
	} while (rc == 0 && c->references != NULL);
	return rc;
}

/* The search for loops: what stands on the way to the present node, and what is done with. */
enum mark { MARK_NEW, MARK_ON_WAY, MARK_DONE };

struct loops { struct schema_compiler *c; unsigned char *marks; unsigned depth; };

static int	look_for_loop(struct loops *loops, const struct schema_node *node);

static int
look_in_list(struct loops *loops, const struct schema_list *list)
{
	int rc = 0;

	for (size_t i = 0; i < list->n && rc == 0; i++)
		rc = look_for_loop(loops, list->nodes[i]);
	return rc;
}

static int
look_in_logic(struct loops *loops, const struct schema_logic *logic)
{
	const struct schema_node *const nodes[] = { logic->not, logic->condition, logic->then,
	    logic->otherwise, logic->ref,
	    /* Where a dynamic one leads is not known yet; the bound on depth catches those. */
	    logic->dynamic_name == NULL ? logic->dynamic_ref : NULL };
	int rc;

	if ((rc = look_in_list(loops, &logic->all)) != 0 ||
	    (rc = look_in_list(loops, &logic->any)) != 0 ||
	    (rc = look_in_list(loops, &logic->one)) != 0)
		return rc;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]) && rc == 0; i++)
		rc = look_for_loop(loops, nodes[i]);
	return rc;
}

/* Along what applies to the same value. */
static int
look_for_loop(struct loops *loops, const struct schema_node *node)
{
	const struct schema_object *object;
	int rc = 0;

	if (node == NULL || node->kind != SCHEMA_SOME || loops->marks[node->index] == MARK_DONE)
		return 0;
	if (loops->marks[node->index] == MARK_ON_WAY)
		return schema_compile_error(loops->c, node->json, NULL,
		    "it leads back to itself without going into the payload");
	if (loops->depth == SCHEMA_MAX_DEPTH)
		return schema_compile_error(loops->c, node->json, NULL, "too many schemas lead here");
	loops->depth++;
	loops->marks[node->index] = MARK_ON_WAY;
	if (node->logic != NULL)
		rc = look_in_logic(loops, node->logic);
	object = node->object;
	for (size_t i = 0; object != NULL && i < object->n_dependencies && rc == 0; i++)
		rc = look_for_loop(loops, object->dependencies[i].node);
	loops->marks[node->index] = MARK_DONE;
	loops->depth--;
	return rc;
}

int
schema_ref_check_loops(struct schema_compiler *c)
{
	struct loops loops = { c, calloc(c->schema->n_nodes + 1, 1), 0 };
	const struct schema_node *node;
	int rc = 0;

	if (loops.marks == NULL)
		return schema_compile_nomem(c);
	for (node = c->schema->nodes; node != NULL && rc == 0; node = node->next)
		rc = look_for_loop(&loops, node);
	free(loops.marks);
	return rc;
}
