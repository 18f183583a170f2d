/* schema_check_object: what a schema says about the members of an object. */
#include <string.h>

#include "form/schema_parts.h"

/* An object under way: its part of the schema, and where it is. */
struct object_check {
	struct schema_check *c;
	const struct schema_object *object;
	const struct schema_path *path;
	struct schema_seen *seen;
};

static const struct schema_member *
find_member(const struct schema_object *object, const char *name, size_t len)
{
	size_t low = 0, high = object->n_members, middle;
	int order;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (object->members[middle].len != len)
			order = len < object->members[middle].len ? -1 : 1;
		else
			order = memcmp(name, object->members[middle].name, len);
		if (order == 0)
			return &object->members[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static enum schema_verdict
check_rules(const struct object_check *o, json_t *value, const struct schema_path *path, bool *is_known)
{
	const struct schema_pattern_rule *rule;
	enum schema_verdict verdict;

	for (size_t i = 0; i < o->object->n_rules; i++) {
		rule = &o->object->rules[i];
		verdict = schema_pattern_match(o->c, rule->pattern, path->name, path->len, path);
		if (verdict == SCHEMA_NO)
			continue;
		*is_known = true;
		if (verdict == SCHEMA_OK)
			verdict = schema_check(o->c, rule->node, value, path, NULL);
		if (verdict != SCHEMA_OK)
			return verdict;
	}
	return SCHEMA_OK;
}

static enum schema_verdict
check_name(const struct object_check *o, const struct schema_path *path)
{
	json_t *name = json_stringn_nocheck(path->name, path->len);
	enum schema_verdict verdict;
	char quoted[SCHEMA_TEXT_QUOTE];

	if (name == NULL)
		return schema_stop(o->c, ERR_NOMEM, o->path, "out of memory");
	o->c->quiet++;
	verdict = schema_check(o->c, o->object->names, name, path, NULL);
	o->c->quiet--;
	json_decref(name);
	if (verdict == SCHEMA_NO)
		schema_no(o->c, o->path, "propertyNames", "no member may be called %s",
		    schema_quote(path->name, path->len, quoted));
	return verdict;
}

/* The member at PATH, the Nth; counts it in *REQUIRED if it is. */
static enum schema_verdict
check_member(const struct object_check *o, json_t *value, const struct schema_path *path, size_t n,
    size_t *required)
{
	const struct schema_member *member = find_member(o->object, path->name, path->len);
	enum schema_verdict verdict = SCHEMA_OK;
	bool is_known = member != NULL && member->node != NULL;

	*required += member != NULL && member->is_required;
	if (o->object->names != NULL && (verdict = check_name(o, path)) != SCHEMA_OK)
		return verdict;
	if (is_known && (verdict = schema_check(o->c, member->node, value, path, NULL)) != SCHEMA_OK)
		return verdict;
	if (o->object->n_rules > 0 && (verdict = check_rules(o, value, path, &is_known)) != SCHEMA_OK)
		return verdict;
	if (!is_known && o->object->additional != NULL) {
		is_known = true;
		verdict = schema_check(o->c, o->object->additional, value, path, NULL);
	}
	if (is_known && o->seen != NULL)
		schema_seen_add(o->seen, n);
	return verdict;
}

static enum schema_verdict
missing_member(const struct object_check *o, const json_t *value)
{
	const struct schema_member *member = o->object->members;
	char quoted[SCHEMA_TEXT_QUOTE];

	while (!member->is_required || json_object_getn(value, member->name, member->len) != NULL)
		member++;
	return schema_no(o->c, o->path, "required", "%s is missing",
	    schema_quote(member->name, member->len, quoted));
}

static enum schema_verdict
check_members(const struct object_check *o, json_t *value)
{
	struct schema_path step = { .up = o->path };
	enum schema_verdict verdict;
	size_t n = 0, required = 0;
	void *at;

	if ((verdict = schema_spend(o->c, json_object_size(value), o->path)) != SCHEMA_OK)
		return verdict;
	for (at = json_object_iter(value); at != NULL; at = json_object_iter_next(value, at)) {
		step.name = json_object_iter_key(at);
		step.len = json_object_iter_key_len(at);
		verdict = check_member(o, json_object_iter_value(at), &step, n++, &required);
		if (verdict != SCHEMA_OK)
			return verdict;
	}
	return required < o->object->n_required ? missing_member(o, value) : SCHEMA_OK;
}

static enum schema_verdict
check_dependency(const struct object_check *o, const struct schema_dependency *dependency, json_t *value)
{
	char quoted[SCHEMA_TEXT_QUOTE], because[SCHEMA_TEXT_QUOTE];
	const json_t *name;

	if (json_object_getn(value, dependency->name, dependency->len) == NULL)
		return SCHEMA_OK;
	if (dependency->node != NULL)
		return schema_check(o->c, dependency->node, value, o->path, o->seen);
	for (size_t i = 0; i < json_array_size(dependency->names); i++) {
		name = json_array_get(dependency->names, i);
		if (json_object_getn(value, json_string_value(name), json_string_length(name)) == NULL)
			return schema_no(o->c, o->path, "dependentRequired", "%s is missing, needed by %s",
			    schema_quote(json_string_value(name), json_string_length(name), quoted),
			    schema_quote(dependency->name, dependency->len, because));
	}
	return SCHEMA_OK;
}

enum schema_verdict
schema_check_object(struct schema_check *c, const struct schema_object *object, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	const struct object_check o = { c, object, path, seen };
	enum schema_verdict verdict = SCHEMA_OK;
	size_t n = json_object_size(value);

	if (n < object->size.min)
		return schema_no(c, path, "minProperties", "fewer than %zu members", object->size.min);
	if (n > object->size.max)
		return schema_no(c, path, "maxProperties", "more than %zu members", object->size.max);
	if (object->n_members > 0 || object->n_rules > 0 || object->additional != NULL ||
	    object->names != NULL)
		verdict = check_members(&o, value);
	for (size_t i = 0; i < object->n_dependencies && verdict == SCHEMA_OK; i++)
		verdict = check_dependency(&o, &object->dependencies[i], value);
	return verdict;
}
