/*
 * schema: JSON Schema draft 2020-12, for payloads at publish time (systems.md G4).
 *
 * A schema is compiled once and then only read: the daemon does it before its first fork. What a
 * schema refers to must be inside it or among the documents that it is compiled with; nothing is
 * ever fetched.
 */
#ifndef LIMINAL_FORM_SCHEMA_H
#define LIMINAL_FORM_SCHEMA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct schema;

/* A document that schemas may refer to by its absolute URI. */
struct schema_document { const char *uri; json_t *json; };

/*
 * Compile the LEN bytes at TEXT. DOCUMENTS (N of them, N may be 0) are borrowed until
 * schema_free. 0; ERR_INVALID with the reason in ERR: what is wrong and where, as a JSON
 * pointer into the schema or, when it is no JSON, line and column; ERR_NOMEM.
 */
int	schema_compile(struct schema **schema, const void *text, size_t len,
	    const struct schema_document *documents, size_t n, struct err *err);
void	schema_free(struct schema *schema);

/*
 * Does VALUE conform? 0; ERR_INVALID with one reason in ERR that names the instance's path (a JSON
 * pointer; "the payload" for the whole) and the keyword: "/customer/id: type: not a string".
 * Bounded in depth and in work: a value that needs more is refused with that as the reason.
 * Allocates little, does not block.
 */
int	schema_validate(const struct schema *schema, json_t *value, struct err *err);

/* Read a payload as JSON, as the validator and predicates see it: any JSON value, numbers beyond 64 bits as
 * reals, duplicate names refused. NULL with the reason in ERR. To be freed with json_decref. */
json_t	*schema_parse(const void *text, size_t len, struct err *err);

#endif
