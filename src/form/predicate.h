/*
 * predicate: the conditions of routing rules (systems.md G6; grammar in liminald.conf(5)).
 *
 *	amount > 1000 and region == 'eu' and exists(customer.id) and qty in 1..9
 *
 * Comparisons == != < <= > >= of a field (a dotted path) with a number, a string in quotes, true,
 * false or null; `in A..B` with both ends included; exists(path); and, or, not, parentheses.
 * A comparison with a field that is missing, or of another type, is false.
 */
#ifndef LIMINAL_FORM_PREDICATE_H
#define LIMINAL_FORM_PREDICATE_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

struct predicate;

/* Compile TEXT. 0; ERR_INVALID with the reason and the column (from 1) in ERR; ERR_NOMEM. */
int	predicate_compile(struct predicate **predicate, const char *text, struct err *err);
void	predicate_free(struct predicate *predicate);

/* 1 if it holds for VALUE (NULL: a payload that is no JSON, in which no field exists), else 0. Bounded by
 * the predicate's own size; allocates nothing. */
int	predicate_holds(const struct predicate *predicate, const json_t *value);

#endif
