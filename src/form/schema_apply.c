/* schema_apply: compiling of the keywords that hold schemas or lead to them. */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

static int
complain(const struct schema_site *site, const struct schema_keyword *keyword, const char *what)
{
	return schema_compile_error(site->c, site->json, keyword->name, "%s", what);
}

int
schema_compile_one(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const struct schema_node **node = schema_field(site, keyword);

	if (node == NULL)
		return ERR_NOMEM;
	return schema_compile_node(site->c, site, keyword->name, value, node);
}

int
schema_compile_list(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	struct schema_list *list;
	json_t *child;
	size_t i;
	int rc;

	if (json_array_size(value) == 0)
		return complain(site, keyword, "not an array of schemas, at least one");
	if ((list = schema_field(site, keyword)) == NULL)
		return ERR_NOMEM;
	list->nodes = schema_alloc(site->c->schema, json_array_size(value) * sizeof(*list->nodes));
	if (list->nodes == NULL)
		return schema_compile_nomem(site->c);
	json_array_foreach(value, i, child)
		if ((rc = schema_compile_node(site->c, site, keyword->name, child,
		    &list->nodes[i])) != 0)
			return rc;
	list->n = json_array_size(value);
	return 0;
}

/* So that a mistake in one that nothing refers to yet is not found when the first message comes. */
int
schema_compile_defs(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const struct schema_node *node;
	const char *name;
	json_t *child;
	int rc;

	if (!json_is_object(value))
		return complain(site, keyword, "not an object of schemas");
	json_object_foreach(value, name, child)
		if ((rc = schema_compile_node(site->c, site, keyword->name, child, &node)) != 0)
			return rc;
	return 0;
}

int
schema_compile_ref(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	const struct schema_node **target = schema_field(site, keyword);
	const char *text = json_string_value(value);

	if (target == NULL)
		return ERR_NOMEM;
	if (text == NULL || strlen(text) != json_string_length(value))
		return complain(site, keyword, "not a string, or with NUL");
	return schema_ref_add(site, keyword->name, text, target);
}

int
schema_compile_rules(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	struct schema_pattern_rule *rule;
	struct schema_object *object;
	const char *name;
	json_t *child;
	int rc;

	if (!json_is_object(value))
		return complain(site, keyword, "not an object of schemas");
	if (schema_field(site, keyword) == NULL)
		return ERR_NOMEM;
	object = site->node->object;
	object->rules = schema_alloc(site->c->schema, json_object_size(value) * sizeof(*object->rules));
	if (object->rules == NULL)
		return schema_compile_nomem(site->c);
	json_object_foreach(value, name, child) {
		rule = &object->rules[object->n_rules++];
		rc = schema_pattern_compile(site, keyword->name, name, strlen(name), &rule->pattern);
		if (rc == 0)
			rc = schema_compile_node(site->c, site, keyword->name, child, &rule->node);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
compare_members(const void *one, const void *other)
{
	const struct schema_member *a = one, *b = other;

	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	return memcmp(a->name, b->name, a->len);
}

/* Sort, and make one of two with the same name. */
static void
merge_members(struct schema_object *object)
{
	struct schema_member *members = object->members;
	size_t n = 0;

	qsort(members, object->n_members, sizeof(*members), compare_members);
	for (size_t i = 0; i < object->n_members; i++) {
		if (n > 0 && compare_members(&members[n - 1], &members[i]) == 0) {
			members[n - 1].is_required |= members[i].is_required;
			if (members[i].node != NULL)
				members[n - 1].node = members[i].node;
		} else {
			members[n++] = members[i];
		}
	}
	object->n_members = n;
	for (size_t i = 0; i < n; i++)
		object->n_required += members[i].is_required;
}

static int
add_properties(const struct schema_site *site, json_t *properties)
{
	struct schema_object *object = site->node->object;
	struct schema_member *member;
	const char *name;
	json_t *child;
	int rc;

	if (properties != NULL && !json_is_object(properties))
		return schema_compile_error(site->c, site->json, "properties", "not an object of schemas");
	json_object_foreach(properties, name, child) {
		member = &object->members[object->n_members++];
		member->name = name;
		member->len = strlen(name);
		rc = schema_compile_node(site->c, site, "properties", child, &member->node);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool
is_names(const json_t *value)
{
	json_t *name;
	size_t i;

	json_array_foreach(value, i, name)
		if (!json_is_string(name))
			return false;
	return json_is_array(value);
}

static int
add_required(const struct schema_site *site, json_t *required)
{
	struct schema_object *object = site->node->object;
	struct schema_member *member;
	json_t *name;
	size_t i;

	if (required != NULL && !is_names(required))
		return schema_compile_error(site->c, site->json, "required", "not an array of strings");
	json_array_foreach(required, i, name) {
		member = &object->members[object->n_members++];
		member->name = json_string_value(name);
		member->len = json_string_length(name);
		member->is_required = true;
	}
	return 0;
}

/* The value of a keyword of the schema, if its vocabulary counts. */
static json_t *
member_of(const struct schema_site *site, const char *name, unsigned vocabulary)
{
	return site->resource->vocabularies & vocabulary ? json_object_get(site->json, name) : NULL;
}

/* `properties` and `required` at once, whichever comes first. */
int
schema_compile_members(const struct schema_site *site, const struct schema_keyword *keyword, json_t *value)
{
	json_t *properties = member_of(site, "properties", SCHEMA_APPLICATOR);
	json_t *required = member_of(site, "required", SCHEMA_VALIDATION);
	struct schema_object *object;
	size_t n = json_object_size(properties) + json_array_size(required);
	int rc;

	(void)value;
	if (schema_field(site, keyword) == NULL)
		return ERR_NOMEM;
	object = site->node->object;
	if (object->members != NULL)
		return 0;
	if ((object->members = schema_alloc(site->c->schema, n * sizeof(*object->members))) == NULL)
		return schema_compile_nomem(site->c);
	if ((rc = add_properties(site, properties)) != 0 || (rc = add_required(site, required)) != 0)
		return rc;
	merge_members(object);
	return 0;
}

static int
add_dependencies(const struct schema_site *site, const char *keyword, json_t *value, bool is_schemas)
{
	struct schema_object *object = site->node->object;
	struct schema_dependency *dependency;
	const char *name;
	json_t *child;
	int rc;

	if (value != NULL && !json_is_object(value))
		return schema_compile_error(site->c, site->json, keyword, "not an object");
	json_object_foreach(value, name, child) {
		dependency = &object->dependencies[object->n_dependencies++];
		dependency->name = name;
		dependency->len = strlen(name);
		if (!is_schemas && !is_names(child))
			return schema_compile_error(site->c, site->json, keyword,
			    "a member is not an array of strings");
		if (!is_schemas)
			dependency->names = child;
		else if ((rc = schema_compile_node(site->c, site, keyword, child,
		    &dependency->node)) != 0)
			return rc;
	}
	return 0;
}

/* The same for the two keywords of dependencies. */
int
schema_compile_dependencies(const struct schema_site *site, const struct schema_keyword *keyword,
    json_t *value)
{
	json_t *required = member_of(site, "dependentRequired", SCHEMA_VALIDATION);
	json_t *schemas = member_of(site, "dependentSchemas", SCHEMA_APPLICATOR);
	struct schema_object *object;
	size_t n = json_object_size(required) + json_object_size(schemas);
	int rc;

	(void)value;
	if (schema_field(site, keyword) == NULL)
		return ERR_NOMEM;
	object = site->node->object;
	if (object->dependencies != NULL)
		return 0;
	object->dependencies = schema_alloc(site->c->schema, n * sizeof(*object->dependencies));
	if (object->dependencies == NULL)
		return schema_compile_nomem(site->c);
	if ((rc = add_dependencies(site, "dependentRequired", required, false)) != 0)
		return rc;
	return add_dependencies(site, "dependentSchemas", schemas, true);
}
