/*
 * predicate: the conditions of routing rules (systems.md G6; grammar in liminald.conf(5)).
 *
 *	amount > 1000 and region == 'eu' and exists(customer.id) and qty in 1..9
 *
 * Comparisons == != < <= > >= of a field (a dotted path, array elements by number from 0) with a
 * number, a string in quotes, true, false or null; `in A..B` with both ends included;
 * exists(path); and, or, not, parentheses. A comparison with a field that is missing, or of
 * another type than what it is compared with, is false, != too. With null it is not the type that counts:
 * `!= null` holds for a field that is there and is something else.
 *
 * Numbers are compared by their values, exactly, integers and reals with each other; strings by their
 * bytes. `x != 5` is therefore not the same as `not x == 5`, which holds without an x.
 */
#ifndef LIMINAL_FORM_PREDICATE_H
#define LIMINAL_FORM_PREDICATE_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* More than a person reads; what is longer is refused. */
#define PREDICATE_TEXT_MAX	4096	/* bytes */
#define PREDICATE_DEPTH_MAX	64	/* parentheses and nots within each other */

struct predicate;

/* Compile TEXT. 0; ERR_INVALID with "column N: " (in characters, from 1) and the reason in ERR; ERR_NOMEM.
 * *PREDICATE is NULL then. */
int	predicate_compile(struct predicate **predicate, const char *text, struct err *err);
void	predicate_free(struct predicate *predicate);

/* 1 if it holds for VALUE (NULL: a payload that is no JSON, in which no field exists), else 0. Bounded by
 * the predicate's own size; allocates nothing. */
int	predicate_holds(const struct predicate *predicate, const json_t *value);

#endif
