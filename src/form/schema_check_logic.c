/* schema_check_logic: the keywords that apply further schemas to the same value. */
#include <string.h>

#include "form/schema_parts.h"

static enum schema_verdict
check_all(struct schema_check *c, const struct schema_list *all, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict = SCHEMA_OK;

	for (size_t i = 0; i < all->n && verdict == SCHEMA_OK; i++)
		verdict = schema_check(c, all->nodes[i], value, path, seen);
	return verdict;
}

static enum schema_verdict
check_any(struct schema_check *c, const struct schema_list *any, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict;
	bool found = false;

	/* Who records must see all that hold. */
	for (size_t i = 0; i < any->n && (!found || seen != NULL); i++) {
		verdict = schema_check_quietly(c, any->nodes[i], value, path, seen);
		if (verdict == SCHEMA_STOP)
			return SCHEMA_STOP;
		found |= verdict == SCHEMA_OK;
	}
	return found ? SCHEMA_OK : schema_no(c, path, "anyOf", "it fits none of the %zu", any->n);
}

static enum schema_verdict
check_one(struct schema_check *c, const struct schema_list *one, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict;
	size_t first = SIZE_MAX;

	for (size_t i = 0; i < one->n; i++) {
		verdict = schema_check_quietly(c, one->nodes[i], value, path, seen);
		if (verdict == SCHEMA_STOP)
			return SCHEMA_STOP;
		if (verdict == SCHEMA_NO)
			continue;
		if (first != SIZE_MAX)
			return schema_no(c, path, "oneOf", "it fits two of the %zu: number %zu and %zu",
			    one->n, first + 1, i + 1);
		first = i;
	}
	return first != SIZE_MAX ? SCHEMA_OK :
	    schema_no(c, path, "oneOf", "it fits none of the %zu", one->n);
}

static enum schema_verdict
check_not(struct schema_check *c, const struct schema_node *not, json_t *value,
    const struct schema_path *path)
{
	switch (schema_check_quietly(c, not, value, path, NULL)) {
	case SCHEMA_OK:
		return schema_no(c, path, "not", "it fits what it must not");
	case SCHEMA_NO:
		return SCHEMA_OK;
	default:
		return SCHEMA_STOP;
	}
}

static enum schema_verdict
check_condition(struct schema_check *c, const struct schema_logic *logic, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict = schema_check_quietly(c, logic->condition, value, path, seen);
	const struct schema_node *next = verdict == SCHEMA_OK ? logic->then : logic->otherwise;

	if (verdict == SCHEMA_STOP)
		return SCHEMA_STOP;
	return next == NULL ? SCHEMA_OK : schema_check(c, next, value, path, seen);
}

/* The outermost resource on the way here that has the name decides. */
static const struct schema_node *
dynamic_target(const struct schema_check *c, const struct schema_logic *logic)
{
	const struct schema_node *target = logic->dynamic_ref;
	const struct schema_anchor *anchor;

	if (logic->dynamic_name == NULL)
		return target;
	for (const struct schema_scope *scope = c->scope; scope != NULL; scope = scope->up) {
		for (anchor = scope->resource->anchors; anchor != NULL; anchor = anchor->next)
			if (anchor->node != NULL && strcmp(anchor->name, logic->dynamic_name) == 0)
				target = anchor->node;
	}
	return target;
}

static enum schema_verdict
check_dynamic(struct schema_check *c, const struct schema_logic *logic, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	/* Looking for the target goes all the way back. */
	if (schema_spend(c, c->depth, path) != SCHEMA_OK)
		return SCHEMA_STOP;
	return schema_check(c, dynamic_target(c, logic), value, path, seen);
}

enum schema_verdict
schema_check_logic(struct schema_check *c, const struct schema_logic *logic, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict = SCHEMA_OK;

	if (logic->ref != NULL)
		verdict = schema_check(c, logic->ref, value, path, seen);
	if (verdict == SCHEMA_OK && logic->dynamic_ref != NULL)
		verdict = check_dynamic(c, logic, value, path, seen);
	if (verdict == SCHEMA_OK && logic->all.n > 0)
		verdict = check_all(c, &logic->all, value, path, seen);
	if (verdict == SCHEMA_OK && logic->any.n > 0)
		verdict = check_any(c, &logic->any, value, path, seen);
	if (verdict == SCHEMA_OK && logic->one.n > 0)
		verdict = check_one(c, &logic->one, value, path, seen);
	if (verdict == SCHEMA_OK && logic->not != NULL)
		verdict = check_not(c, logic->not, value, path);
	if (verdict == SCHEMA_OK && logic->condition != NULL)
		verdict = check_condition(c, logic, value, path, seen);
	return verdict;
}
