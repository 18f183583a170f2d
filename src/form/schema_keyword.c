/*
 * schema_keyword: the keywords of draft 2020-12, and which field of a node each one fills.
 *
 * Keywords that only annotate (title, format, contentEncoding and others) are not here: they have no
 * effect, as have unknown ones.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

#define NODE(field)	SCHEMA_NODE, offsetof(struct schema_node, field)
#define OBJECT(field)	SCHEMA_OBJECT, offsetof(struct schema_object, field)
#define ARRAY(field)	SCHEMA_ARRAY, offsetof(struct schema_array, field)
#define STRING(field)	SCHEMA_STRING, offsetof(struct schema_string, field)
#define NUMBER(field)	SCHEMA_NUMBER, offsetof(struct schema_number, field)
#define VALUES(field)	SCHEMA_VALUES, offsetof(struct schema_values, field)
#define LOGIC(field)	SCHEMA_LOGIC, offsetof(struct schema_logic, field)

/* Sorted by name. */
static const struct schema_keyword keywords[] = {
	{ "$defs", SCHEMA_CORE, SCHEMA_MAP, NODE(kind), schema_compile_defs },
	{ "$dynamicRef", SCHEMA_CORE, SCHEMA_NOTHING, LOGIC(dynamic_ref), schema_compile_ref },
	{ "$ref", SCHEMA_CORE, SCHEMA_NOTHING, LOGIC(ref), schema_compile_ref },
	{ "additionalProperties", SCHEMA_APPLICATOR, SCHEMA_ONE, OBJECT(additional), schema_compile_one },
	{ "allOf", SCHEMA_APPLICATOR, SCHEMA_LIST, LOGIC(all), schema_compile_list },
	{ "anyOf", SCHEMA_APPLICATOR, SCHEMA_LIST, LOGIC(any), schema_compile_list },
	{ "const", SCHEMA_VALIDATION, SCHEMA_NOTHING, VALUES(constant), schema_compile_const },
	{ "contains", SCHEMA_APPLICATOR, SCHEMA_ONE, ARRAY(contains), schema_compile_one },
	{ "contentSchema", SCHEMA_CORE, SCHEMA_ONE, NODE(kind), NULL },
	{ "definitions", SCHEMA_CORE, SCHEMA_MAP, NODE(kind), NULL },
	{ "dependentRequired", SCHEMA_VALIDATION, SCHEMA_NOTHING, OBJECT(dependencies),
	    schema_compile_dependencies },
	{ "dependentSchemas", SCHEMA_APPLICATOR, SCHEMA_MAP, OBJECT(dependencies),
	    schema_compile_dependencies },
	{ "else", SCHEMA_APPLICATOR, SCHEMA_ONE, LOGIC(otherwise), schema_compile_one },
	{ "enum", SCHEMA_VALIDATION, SCHEMA_NOTHING, VALUES(list), schema_compile_enum },
	{ "exclusiveMaximum", SCHEMA_VALIDATION, SCHEMA_NOTHING, NUMBER(exclusive_maximum),
	    schema_compile_bound },
	{ "exclusiveMinimum", SCHEMA_VALIDATION, SCHEMA_NOTHING, NUMBER(exclusive_minimum),
	    schema_compile_bound },
	{ "if", SCHEMA_APPLICATOR, SCHEMA_ONE, LOGIC(condition), schema_compile_one },
	{ "items", SCHEMA_APPLICATOR, SCHEMA_ONE, ARRAY(items), schema_compile_one },
	{ "maxContains", SCHEMA_VALIDATION, SCHEMA_NOTHING, ARRAY(contained), schema_compile_range },
	{ "maxItems", SCHEMA_VALIDATION, SCHEMA_NOTHING, ARRAY(size), schema_compile_range },
	{ "maxLength", SCHEMA_VALIDATION, SCHEMA_NOTHING, STRING(length), schema_compile_range },
	{ "maxProperties", SCHEMA_VALIDATION, SCHEMA_NOTHING, OBJECT(size), schema_compile_range },
	{ "maximum", SCHEMA_VALIDATION, SCHEMA_NOTHING, NUMBER(maximum), schema_compile_bound },
	{ "minContains", SCHEMA_VALIDATION, SCHEMA_NOTHING, ARRAY(contained), schema_compile_range },
	{ "minItems", SCHEMA_VALIDATION, SCHEMA_NOTHING, ARRAY(size), schema_compile_range },
	{ "minLength", SCHEMA_VALIDATION, SCHEMA_NOTHING, STRING(length), schema_compile_range },
	{ "minProperties", SCHEMA_VALIDATION, SCHEMA_NOTHING, OBJECT(size), schema_compile_range },
	{ "minimum", SCHEMA_VALIDATION, SCHEMA_NOTHING, NUMBER(minimum), schema_compile_bound },
	{ "multipleOf", SCHEMA_VALIDATION, SCHEMA_NOTHING, NUMBER(multiple_of), schema_compile_factor },
	{ "not", SCHEMA_APPLICATOR, SCHEMA_ONE, LOGIC(not), schema_compile_one },
	{ "oneOf", SCHEMA_APPLICATOR, SCHEMA_LIST, LOGIC(one), schema_compile_list },
	{ "pattern", SCHEMA_VALIDATION, SCHEMA_NOTHING, STRING(pattern), schema_compile_pattern },
	{ "patternProperties", SCHEMA_APPLICATOR, SCHEMA_MAP, OBJECT(rules), schema_compile_rules },
	{ "prefixItems", SCHEMA_APPLICATOR, SCHEMA_LIST, ARRAY(prefix), schema_compile_list },
	{ "properties", SCHEMA_APPLICATOR, SCHEMA_MAP, OBJECT(members), schema_compile_members },
	{ "propertyNames", SCHEMA_APPLICATOR, SCHEMA_ONE, OBJECT(names), schema_compile_one },
	{ "required", SCHEMA_VALIDATION, SCHEMA_NOTHING, OBJECT(members), schema_compile_members },
	{ "then", SCHEMA_APPLICATOR, SCHEMA_ONE, LOGIC(then), schema_compile_one },
	{ "type", SCHEMA_VALIDATION, SCHEMA_NOTHING, NODE(types), schema_compile_type },
	{ "unevaluatedItems", SCHEMA_UNEVALUATED, SCHEMA_ONE, NODE(unevaluated_items),
	    schema_compile_one },
	{ "unevaluatedProperties", SCHEMA_UNEVALUATED, SCHEMA_ONE, NODE(unevaluated_properties),
	    schema_compile_one },
	{ "uniqueItems", SCHEMA_VALIDATION, SCHEMA_NOTHING, ARRAY(is_unique), schema_compile_unique },
};

static int
compare_name(const void *name, const void *keyword)
{
	return strcmp(name, ((const struct schema_keyword *)keyword)->name);
}

const struct schema_keyword *
schema_keyword_find(const char *name)
{
	return bsearch(name, keywords, sizeof(keywords) / sizeof(keywords[0]), sizeof(keywords[0]),
	    compare_name);
}

static void *
part_object(const struct schema_site *site)
{
	struct schema_object *object = site->node->object;

	if (object == NULL && (object = schema_alloc(site->c->schema, sizeof(*object))) != NULL)
		object->size.max = SIZE_MAX;
	return site->node->object = object;
}

static void *
part_array(const struct schema_site *site)
{
	struct schema_array *array = site->node->array;

	if (array == NULL && (array = schema_alloc(site->c->schema, sizeof(*array))) != NULL) {
		array->size.max = SIZE_MAX;
		array->contained.min = 1;
		array->contained.max = SIZE_MAX;
	}
	return site->node->array = array;
}

static void *
part_string(const struct schema_site *site)
{
	struct schema_string *string = site->node->string;

	if (string == NULL && (string = schema_alloc(site->c->schema, sizeof(*string))) != NULL)
		string->length.max = SIZE_MAX;
	return site->node->string = string;
}

static void *
part_zeroed(const struct schema_site *site, enum schema_part part)
{
	struct schema_node *node = site->node;
	struct schema *schema = site->c->schema;

	switch (part) {
	case SCHEMA_NUMBER:
		if (node->number == NULL)
			node->number = schema_alloc(schema, sizeof(*node->number));
		return node->number;
	case SCHEMA_VALUES:
		if (node->values == NULL)
			node->values = schema_alloc(schema, sizeof(*node->values));
		return node->values;
	case SCHEMA_LOGIC:
		if (node->logic == NULL)
			node->logic = schema_alloc(schema, sizeof(*node->logic));
		return node->logic;
	default:
		return node;
	}
}

void *
schema_field(const struct schema_site *site, const struct schema_keyword *keyword)
{
	char *part;

	switch (keyword->part) {
	case SCHEMA_OBJECT:
		part = part_object(site);
		break;
	case SCHEMA_ARRAY:
		part = part_array(site);
		break;
	case SCHEMA_STRING:
		part = part_string(site);
		break;
	default:
		part = part_zeroed(site, keyword->part);
		break;
	}
	if (part == NULL)
		schema_compile_nomem(site->c);
	return part == NULL ? NULL : part + keyword->offset;
}
