/*
 * schema_check: a node applied to a value.
 *
 * Payloads come from peers: how deep schemas are applied inside each other and how much is done for one
 * payload are bounded here and end the whole check, whatever alternatives were being tried.
 *
 * unevaluatedItems and unevaluatedProperties need to know what the other keywords of their schema
 * have looked at. That is only recorded below a node that has one of them: SEEN is NULL elsewhere.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

enum schema_verdict
schema_spend(struct schema_check *c, uint64_t n, const struct schema_path *path)
{
	if (c->work < n) {
		c->work = 0;
		return schema_stop(c, ERR_INVALID, path, "it takes too much work to validate");
	}
	c->work -= n;
	return SCHEMA_OK;
}

enum schema_verdict
schema_seen_init(struct schema_check *c, struct schema_seen *seen, const json_t *value)
{
	seen->n = json_is_object(value) ? json_object_size(value) : json_array_size(value);
	seen->is_all = false;
	seen->word = 0;
	seen->bits = &seen->word;
	if (seen->n <= 64)
		return SCHEMA_OK;
	if (schema_spend(c, seen->n / 64, NULL) != SCHEMA_OK)
		return SCHEMA_STOP;
	if ((seen->bits = calloc(seen->n / 64 + 1, sizeof(*seen->bits))) == NULL)
		return schema_stop(c, ERR_NOMEM, NULL, "out of memory");
	return SCHEMA_OK;
}

void
schema_seen_fini(struct schema_seen *seen)
{
	if (seen->bits != &seen->word)
		free(seen->bits);
}

static void
seen_merge(struct schema_seen *to, const struct schema_seen *from)
{
	to->is_all |= from->is_all;
	for (size_t i = 0; i < (from->n + 63) / 64; i++)
		to->bits[i] |= from->bits[i];
}

static const char *
type_names(unsigned types, char out[64])
{
	static const struct { unsigned bits; const char *name; } names[] = {
		{ SCHEMA_TYPE_NULL, "null" }, { SCHEMA_TYPE_BOOLEAN, "a boolean" },
		{ SCHEMA_TYPE_INTEGER | SCHEMA_TYPE_REAL, "a number" },
		{ SCHEMA_TYPE_INTEGER, "an integer" }, { SCHEMA_TYPE_STRING, "a string" },
		{ SCHEMA_TYPE_ARRAY, "an array" }, { SCHEMA_TYPE_OBJECT, "an object" },
	};

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((types & names[i].bits) != names[i].bits)
			continue;
		types &= ~names[i].bits;
		if (out[0] != '\0')
			strcat(out, types == 0 ? " or " : ", ");
		strcat(out, names[i].name);
	}
	return out;
}

static enum schema_verdict
check_parts(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict = SCHEMA_OK;
	unsigned type = schema_type_of(value);
	char names[64];

	if ((node->types & type) == 0)
		return schema_no(c, path, "type", "not %s", type_names(node->types, names));
	if (node->values != NULL)
		verdict = schema_check_values(c, node->values, value, path);
	if (verdict != SCHEMA_OK)
		return verdict;
	if (type == SCHEMA_TYPE_OBJECT && node->object != NULL)
		verdict = schema_check_object(c, node->object, value, path, seen);
	else if (type == SCHEMA_TYPE_ARRAY && node->array != NULL)
		verdict = schema_check_array(c, node->array, value, path, seen);
	else if (type == SCHEMA_TYPE_STRING && node->string != NULL)
		verdict = schema_check_string(c, node->string, value, path);
	else if ((type & (SCHEMA_TYPE_INTEGER | SCHEMA_TYPE_REAL)) != 0 && node->number != NULL)
		verdict = schema_check_number(c, node->number, value, path);
	if (verdict == SCHEMA_OK && node->logic != NULL)
		verdict = schema_check_logic(c, node->logic, value, path, seen);
	return verdict;
}

/* NODE for all items or members that are not in SEEN. */
static enum schema_verdict
check_unseen(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, const struct schema_seen *seen)
{
	struct schema_path step = { .up = path };
	enum schema_verdict verdict;
	json_t *child;
	void *at = json_object_iter(value);

	if (seen->is_all)
		return SCHEMA_OK;
	if ((verdict = schema_spend(c, seen->n, path)) != SCHEMA_OK)
		return verdict;
	for (size_t i = 0; i < seen->n && verdict == SCHEMA_OK; i++) {
		if (at != NULL) {
			step.name = json_object_iter_key(at);
			step.len = json_object_iter_key_len(at);
			child = json_object_iter_value(at);
			at = json_object_iter_next(value, at);
		} else {
			step.index = i;
			child = json_array_get(value, i);
		}
		if (!schema_seen_has(seen, i))
			verdict = schema_check(c, node, child, &step, NULL);
	}
	return verdict;
}

/* A node with unevaluatedProperties or unevaluatedItems. */
static enum schema_verdict
check_recording(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	const struct schema_node *unevaluated = NULL;
	enum schema_verdict verdict;
	struct schema_seen own;

	if (json_is_object(value))
		unevaluated = node->unevaluated_properties;
	else if (json_is_array(value))
		unevaluated = node->unevaluated_items;
	if (unevaluated == NULL)
		return check_parts(c, node, value, path, seen);
	if (schema_seen_init(c, &own, value) != SCHEMA_OK)
		return SCHEMA_STOP;
	verdict = check_parts(c, node, value, path, &own);
	if (verdict == SCHEMA_OK)
		verdict = check_unseen(c, unevaluated, value, path, &own);
	schema_seen_fini(&own);
	if (verdict == SCHEMA_OK && seen != NULL)
		seen->is_all = true;
	return verdict;
}

/* The same as check_recording, in a schema where it matters how a node was come to. */
static enum schema_verdict
check_in_scope(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	struct schema_scope scope = { c->scope, node->resource };
	enum schema_verdict verdict;

	c->scope = &scope;
	verdict = check_recording(c, node, value, path, seen);
	c->scope = scope.up;
	return verdict;
}

enum schema_verdict
schema_check(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict;

	if (node->kind == SCHEMA_TRUE)
		return SCHEMA_OK;
	if (node->kind == SCHEMA_FALSE)
		return schema_no(c, path, node->keyword, "not allowed");
	if (c->work == 0)
		return schema_spend(c, 1, path);
	c->work--;
	if (c->depth == SCHEMA_MAX_DEPTH)
		return schema_stop(c, ERR_INVALID, path, "it is nested too deeply to be validated");
	c->depth++;
	if (c->schema->is_dynamic && (c->scope == NULL || c->scope->resource != node->resource))
		verdict = check_in_scope(c, node, value, path, seen);
	else if (node->unevaluated_properties != NULL || node->unevaluated_items != NULL)
		verdict = check_recording(c, node, value, path, seen);
	else
		verdict = check_parts(c, node, value, path, seen);
	c->depth--;
	return verdict;
}

enum schema_verdict
schema_check_quietly(struct schema_check *c, const struct schema_node *node, json_t *value,
    const struct schema_path *path, struct schema_seen *seen)
{
	enum schema_verdict verdict;
	struct schema_seen own;

	if (seen != NULL && schema_seen_init(c, &own, value) != SCHEMA_OK)
		return SCHEMA_STOP;
	c->quiet++;
	verdict = schema_check(c, node, value, path, seen == NULL ? NULL : &own);
	c->quiet--;
	if (seen != NULL) {
		if (verdict == SCHEMA_OK)
			seen_merge(seen, &own);
		schema_seen_fini(&own);
	}
	return verdict;
}

int
schema_validate(const struct schema *schema, json_t *value, struct err *err)
{
	struct schema_check c = { .schema = schema, .err = err, .work = SCHEMA_MAX_WORK };

	switch (schema_check(&c, schema->root, value, NULL, NULL)) {
	case SCHEMA_OK:
		return 0;
	case SCHEMA_NO:
		return ERR_INVALID;
	default:
		return c.code;
	}
}
