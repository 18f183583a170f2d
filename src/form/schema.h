/*
 * schema: JSON Schema draft 2020-12, for payloads at publish time (systems.md G4).
 *
 * A schema is compiled once and then only read, but for scratch memory that matching of patterns
 * uses: the daemon compiles before its first fork, and no two threads validate with one schema at
 * the same time. What a schema refers to must be inside it or among the documents that it is
 * compiled with; nothing is ever fetched.
 */
#ifndef LIMINAL_FORM_SCHEMA_H
#define LIMINAL_FORM_SCHEMA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* How many schemas may be applied inside each other to judge one payload. A tree of nodes takes
 * two or three for each of its levels. */
#define SCHEMA_MAX_DEPTH	1000

/* How much work one payload may be: members and items looked at, schemas applied, values compared, steps
 * of patterns. An ordinary payload takes about as many as it has values; all of these take a fifth
 * of a second or less. */
#define SCHEMA_MAX_WORK		8000000

struct schema;

/* A document that schemas may refer to by its absolute URI. */
struct schema_document { const char *uri; json_t *json; };

/*
 * Compile the LEN bytes at TEXT. DOCUMENTS (N of them, N may be 0) are borrowed until
 * schema_free. 0; ERR_INVALID with the reason in ERR: what is wrong and where, as a JSON pointer into
 * the schema ("the schema" for the whole, a document's URI before the pointer if it is in one) or,
 * when it is no JSON, line and column; ERR_NOMEM.
 */
int	schema_compile(struct schema **schema, const void *text, size_t len,
	    const struct schema_document *documents, size_t n, struct err *err);
/* SCHEMA may be NULL. */
void	schema_free(struct schema *schema);

/*
 * Does VALUE, which schema_parse has read, conform? 0; ERR_INVALID with one reason in ERR that names
 * the instance's path (a JSON pointer; "the payload" for the whole) and the keyword: "/customer/id:
 * type: not a string". Bounded in depth and in work: a value that needs more is refused with that as
 * the reason. ERR_NOMEM. The text is UTF-8 without control characters; what is too long is cut at "…".
 * Allocates little, does not block.
 */
int	schema_validate(const struct schema *schema, json_t *value, struct err *err);

/*
 * Read a payload as JSON, as the validator and predicates see it: any JSON value, integers beyond 64 bits
 * as reals, reals beyond a double refused, duplicate names refused, nested up to 2048 levels. NULL with
 * the reason in ERR: ERR_INVALID, with line and column, or ERR_NOMEM. To be freed with json_decref.
 */
json_t	*schema_parse(const void *text, size_t len, struct err *err);

#endif
