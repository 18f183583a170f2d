/*
 * schema_parts: what the files of the schema validator share. Nobody else includes this.
 *
 * The way of a schema: schema_json reads it; schema_index finds the schemas in it and in the documents
 * that came with it, by what URIs and anchors they can be referred to; schema_compile makes a node of each
 * schema that is reached from the root, with a part for each kind of value that it says something
 * about (schema_keyword knows the keywords, schema_ref follows references, schema_pattern has PCRE2
 * compile patterns). The nodes lie in one arena (schema_memory) and are not changed afterwards.
 *
 * The way of a payload: schema_check applies a node to a value; schema_check_object and others apply the
 * parts; schema_equal compares values; schema_error words the refusal.
 */
#ifndef LIMINAL_FORM_SCHEMA_PARTS_H
#define LIMINAL_FORM_SCHEMA_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "form/schema.h"

struct schema_compiler;
struct schema_pattern;

/* The types of the data model, as bits. A real number without a fraction is an integer. */
enum {
	SCHEMA_TYPE_NULL = 1, SCHEMA_TYPE_BOOLEAN = 2, SCHEMA_TYPE_INTEGER = 4, SCHEMA_TYPE_REAL = 8,
	SCHEMA_TYPE_STRING = 16, SCHEMA_TYPE_ARRAY = 32, SCHEMA_TYPE_OBJECT = 64,
	SCHEMA_TYPE_ANY = 127
};

/* The vocabularies whose keywords do something here, as bits. */
enum {
	SCHEMA_CORE = 1, SCHEMA_APPLICATOR = 2, SCHEMA_UNEVALUATED = 4, SCHEMA_VALIDATION = 8,
	SCHEMA_VOCABULARIES = 15
};

/* ---- the compiled form ---- */

/* At least MIN and at most MAX of something. */
struct schema_range { size_t min, max; };

struct schema_member {
	const char *name;
	size_t len;
	const struct schema_node *node;		/* NULL = only required */
	bool is_required;
};

struct schema_pattern_rule { const struct schema_pattern *pattern; const struct schema_node *node; };

/* If the object has the member NAME, then NAMES are required and NODE applies to the object. */
struct schema_dependency {
	const char *name;
	size_t len;
	const json_t *names;			/* an array of strings, or NULL */
	const struct schema_node *node;		/* or NULL */
};

struct schema_object {
	struct schema_range size;
	struct schema_member *members;		/* sorted by length, then by bytes */
	size_t n_members, n_required;
	struct schema_pattern_rule *rules;
	size_t n_rules;
	const struct schema_node *additional, *names;
	struct schema_dependency *dependencies;
	size_t n_dependencies;
};

struct schema_list { const struct schema_node **nodes; size_t n; };

struct schema_array {
	struct schema_range size, contained;
	struct schema_list prefix;
	const struct schema_node *items, *contains;
	bool is_unique;
};

struct schema_string { struct schema_range length; const struct schema_pattern *pattern; };

/* A number without its sign: DIGITS, which do not end in 0, times ten to the power of EXPONENT. */
struct schema_decimal { uint64_t digits; int exponent; };

struct schema_number {
	const json_t *minimum, *maximum, *exclusive_minimum, *exclusive_maximum, *multiple_of;
	struct schema_decimal factor;		/* that multiple_of is */
};

struct schema_value { uint64_t hash; const json_t *json; };

/* The values of `enum`, sorted by hash, and that of `const`. */
struct schema_values {
	struct schema_value *list;		/* NULL = no enum */
	size_t n;
	const json_t *constant;			/* NULL = no const */
};

/* The keywords that apply schemas to the same value. */
struct schema_logic {
	struct schema_list all, any, one;
	const struct schema_node *not, *condition, *then, *otherwise;
	const struct schema_node *ref, *dynamic_ref;
	const char *dynamic_name;		/* NULL = dynamic_ref is like any $ref */
};

enum schema_kind { SCHEMA_SOME, SCHEMA_TRUE, SCHEMA_FALSE };

struct schema_node {
	enum schema_kind kind;
	unsigned types;				/* those allowed */
	const char *keyword;			/* that led here first */
	const struct schema_resource *resource;
	struct schema_object *object;		/* these are NULL when nothing is said */
	struct schema_array *array;
	struct schema_string *string;
	struct schema_number *number;
	struct schema_values *values;
	struct schema_logic *logic;
	const struct schema_node *unevaluated_properties, *unevaluated_items;
	const json_t *json;			/* while it is being compiled */
	struct schema_node *next;		/* of all nodes */
	size_t index;				/* among all nodes */
};

struct schema_anchor {
	const char *name;
	json_t *json;
	bool is_dynamic;
	const struct schema_node *node;		/* of a dynamic one that is looked for, or NULL */
	struct schema_anchor *next;
};

/* A schema with an URI of its own, with everything in it that has none. */
struct schema_resource {
	const char *uri;			/* absolute as far as can be, without fragment */
	json_t *json;
	struct schema_resource *parent;		/* that it is embedded in, or NULL */
	unsigned vocabularies;			/* 0 = not yet determined */
	bool is_reached;			/* there is a node in it */
	struct schema_anchor *anchors;
	struct schema_resource *next;
};

struct schema {
	json_t *json;				/* nodes point into it */
	struct schema_chunk *memory;
	const struct schema_node *root;
	struct schema_node *nodes;
	size_t n_nodes;
	struct schema_resource *resources;
	struct schema_pattern *patterns;	/* all, to be freed */
	struct schema_scratch *scratch;		/* for matching; NULL without patterns */
	bool is_dynamic;			/* some $dynamicRef depends on the way to it */
};

/* ---- memory ---- */

/* Zeroed, and freed with the schema; NULL when out of memory. */
void	*schema_alloc(struct schema *schema, size_t size);
char	*schema_strndup(struct schema *schema, const char *text, size_t len);
void	 schema_memory_free(struct schema *schema);

/* ---- places and texts ---- */

/* Where in a JSON text: a chain of steps on the stack, from the innermost. */
struct schema_path {
	const struct schema_path *up;
	const char *name;			/* a member's, or NULL: item INDEX */
	size_t len, index;
};

#define SCHEMA_TEXT_PATH	130
#define SCHEMA_TEXT_QUOTE	56

/* PATH as a JSON pointer, or WHOLE when there are no steps; its front is cut off if it is too long. */
void	schema_path_text(const struct schema_path *path, const char *whole,
	    char out[SCHEMA_TEXT_PATH]);
/* TEXT, valid UTF-8, without control characters; cut off if it is too long. */
const char *schema_quote(const char *text, size_t len, char out[SCHEMA_TEXT_QUOTE]);
/* Cut TEXT at the last whole character before SIZE - 1 bytes if the rest did not fit. */
void	schema_clip(char *text, size_t size);

/* ---- URIs ---- */

/*
 * Resolve REF against BASE (RFC 3986, 5.2). *URI is without fragment, to be freed; *FRAGMENT points
 * behind it in the same allocation, percent-decoded; "" without one. 0, ERR_INVALID (a bad escape),
 * ERR_NOMEM.
 */
int	schema_uri_resolve(const char *base, const char *ref, char **uri, char **fragment);

/* ---- compiling ---- */

/* The schema that is being compiled. */
struct schema_site {
	struct schema_compiler *c;
	json_t *json;
	struct schema_node *node;
	struct schema_resource *resource;
};

/* What is below a keyword: nothing, a schema, an array of schemas, an object of schemas. */
enum schema_shape { SCHEMA_NOTHING, SCHEMA_ONE, SCHEMA_LIST, SCHEMA_MAP };

/* The struct that a keyword is about; that of the node itself for SCHEMA_NODE. */
enum schema_part {
	SCHEMA_NODE, SCHEMA_OBJECT, SCHEMA_ARRAY, SCHEMA_STRING, SCHEMA_NUMBER, SCHEMA_VALUES, SCHEMA_LOGIC
};

struct schema_keyword;
typedef int schema_compile_fn(const struct schema_site *site, const struct schema_keyword *keyword,
	    json_t *value);

struct schema_keyword {
	const char *name;
	unsigned vocabulary;
	enum schema_shape shape;
	enum schema_part part;
	size_t offset;				/* of the field in the part */
	schema_compile_fn *compile;		/* NULL = the index does all */
};

schema_compile_fn schema_compile_one, schema_compile_list, schema_compile_rules, schema_compile_members,
	    schema_compile_dependencies, schema_compile_defs, schema_compile_ref, schema_compile_type,
	    schema_compile_enum, schema_compile_const, schema_compile_range, schema_compile_bound,
	    schema_compile_factor, schema_compile_unique, schema_compile_pattern;

/* The field that KEYWORD fills, of a part that is made when it is first needed; NULL when out of memory. */
void	*schema_field(const struct schema_site *site, const struct schema_keyword *keyword);

/* NULL for what is no keyword. */
const struct schema_keyword *schema_keyword_find(const char *name);

/* A schema object in its resource, and its node once there is one. */
struct schema_place {
	json_t *json;
	struct schema_resource *resource;
	struct schema_node *node;
	struct schema_place *next;
};

#define SCHEMA_PLACES	4096

/* A reference whose target is still to be compiled. */
struct schema_reference {
	struct schema_site from;
	const char *keyword, *text;
	const struct schema_node **target;
	struct schema_reference *next;
};

struct schema_compiler {
	struct schema *schema;
	const struct schema_document *documents;
	size_t n_documents;
	struct schema_place **places;		/* by address, SCHEMA_PLACES lists */
	struct schema_reference *references;
	struct err *err;
};

/* Why the schema JSON cannot be compiled; KEYWORD may be NULL. Returns ERR_INVALID. */
int	schema_compile_error(const struct schema_compiler *c, const json_t *json, const char *keyword,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
int	schema_compile_nomem(const struct schema_compiler *c);

struct schema_place *schema_place_find(const struct schema_compiler *c, const json_t *json);
struct schema_resource *schema_resource_find(const struct schema_compiler *c, const char *uri);
/* Find the schemas in JSON, which lies in RESOURCE; what has been found before is left alone. */
int	schema_index(struct schema_compiler *c, json_t *json, struct schema_resource *resource);
/* The same for the schema and for all documents that came with it; *ROOT is the schema's resource. */
int	schema_index_all(struct schema_compiler *c, struct schema_resource **root);
/* Which keywords count in RESOURCE. */
int	schema_index_vocabularies(struct schema_compiler *c, struct schema_resource *resource);

/* The node of the schema JSON, which stands below KEYWORD of the schema FROM. */
int	schema_compile_node(struct schema_compiler *c, const struct schema_site *from,
	    const char *keyword, json_t *json, const struct schema_node **node);

/* Have a reference followed when everything around it is compiled; *TARGET is written then. */
int	schema_ref_add(const struct schema_site *from, const char *keyword, const char *text,
	    const struct schema_node **target);
/* Follow them all, and those in what they lead to. */
int	schema_ref_resolve(struct schema_compiler *c);
/* Refuse schemas that apply themselves to the same value for ever. */
int	schema_ref_check_loops(struct schema_compiler *c);

/* ---- patterns ---- */

struct schema_regex {
	char *text;				/* for PCRE2; to be freed */
	size_t len;
	size_t repeats;				/* the highest N of a {N}, {N,} or {N,M} in it */
};

/* ECMAScript's LEN bytes at TEXT. 0; ERR_INVALID with the reason in WHY; ERR_NOMEM. */
int	schema_regex_translate(const char *text, size_t len, struct schema_regex *regex,
	    char why[SCHEMA_TEXT_PATH]);
/* JSON is a string that lives as long as the schema. */
int	schema_pattern_compile(const struct schema_site *site, const char *keyword, const char *text,
	    size_t len, const struct schema_pattern **pattern);
void	schema_pattern_free_all(struct schema *schema);

/* ---- values ---- */

/* What comparing costs is added to *WORK. Numbers are equal when their values are. */
bool	schema_equal(const json_t *a, const json_t *b, uint64_t *work);
/* The same for values that are equal. */
uint64_t schema_hash(const json_t *value, uint64_t *work);
/* Below, equal or above 0, as the number A is to the number B; exact also between integers and reals. */
int	schema_compare(const json_t *a, const json_t *b);
/* A number as the decimal that its writer meant; the cost is added to *WORK. */
struct schema_decimal schema_decimal_of(const json_t *number, uint64_t *work);
/* Is A a whole multiple of B, which is not 0? */
bool	schema_is_multiple(struct schema_decimal a, struct schema_decimal b);
/* How many characters the LEN bytes of UTF-8 are. */
size_t	schema_length(const char *text, size_t len);
unsigned schema_type_of(const json_t *value);

/* ---- checking ---- */

/* STOP: no verdict, and nobody may make one out of it; the check's CODE says why. */
enum schema_verdict { SCHEMA_OK, SCHEMA_NO, SCHEMA_STOP };

/* The resources that the way to a schema led through, from the innermost. */
struct schema_scope { const struct schema_scope *up; const struct schema_resource *resource; };

struct schema_check {
	const struct schema *schema;
	struct err *err;
	unsigned quiet;				/* in alternatives: no mismatch is final */
	unsigned depth;
	uint64_t work;				/* what is left of it */
	const struct schema_scope *scope;	/* used if the schema is dynamic */
	int code;				/* after SCHEMA_STOP */
};

/* Which members or items of a value have been evaluated, in the order of iteration. */
struct schema_seen {
	size_t n;
	bool is_all;
	uint64_t word;
	uint64_t *bits;				/* of &word for few, else allocated */
};

enum schema_verdict schema_seen_init(struct schema_check *c, struct schema_seen *seen, const json_t *value);
void	schema_seen_fini(struct schema_seen *seen);
static inline void
schema_seen_add(struct schema_seen *seen, size_t i)
{
	seen->bits[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline bool
schema_seen_has(const struct schema_seen *seen, size_t i)
{
	return seen->is_all || (seen->bits[i / 64] >> (i % 64) & 1) != 0;
}

/* Does VALUE, which is at PATH, conform to NODE? If so and SEEN is given, what was evaluated is
 * added there. */
enum schema_verdict schema_check(struct schema_check *c, const struct schema_node *node,
	    json_t *value, const struct schema_path *path, struct schema_seen *seen);
/* The same without a word when it does not; SEEN is left alone then. */
enum schema_verdict schema_check_quietly(struct schema_check *c, const struct schema_node *node,
	    json_t *value, const struct schema_path *path, struct schema_seen *seen);

enum schema_verdict schema_check_object(struct schema_check *c, const struct schema_object *object,
	    json_t *value, const struct schema_path *path, struct schema_seen *seen);
enum schema_verdict schema_check_array(struct schema_check *c, const struct schema_array *array,
	    json_t *value, const struct schema_path *path, struct schema_seen *seen);
enum schema_verdict schema_check_string(struct schema_check *c, const struct schema_string *string,
	    const json_t *value, const struct schema_path *path);
enum schema_verdict schema_check_number(struct schema_check *c, const struct schema_number *number,
	    const json_t *value, const struct schema_path *path);
enum schema_verdict schema_check_values(struct schema_check *c, const struct schema_values *values,
	    const json_t *value, const struct schema_path *path);
enum schema_verdict schema_check_logic(struct schema_check *c, const struct schema_logic *logic,
	    json_t *value, const struct schema_path *path, struct schema_seen *seen);
/* OK: TEXT, which is or belongs to the value at PATH, matches; NO: it does not (nothing is said yet). */
enum schema_verdict schema_pattern_match(struct schema_check *c, const struct schema_pattern *pattern,
	    const char *text, size_t len, const struct schema_path *path);

/* Take N from the work that is left; STOP when there is none. */
enum schema_verdict schema_spend(struct schema_check *c, uint64_t n, const struct schema_path *path);

/* The refusal; returns SCHEMA_NO. */
enum schema_verdict schema_no(struct schema_check *c, const struct schema_path *path, const char *keyword,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What ends the whole check; returns SCHEMA_STOP. */
enum schema_verdict schema_stop(struct schema_check *c, int code, const struct schema_path *path,
	    const char *why);

#endif
