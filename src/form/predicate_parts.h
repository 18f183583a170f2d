/*
 * predicate_parts: what compiling and evaluating a predicate share. Nobody else includes this.
 *
 * A predicate is a row of steps that are taken from the first on, without recursion. Each has
 * an effect on one truth value; a jump goes forward only, so that each step is taken once at
 * most.
 */
#ifndef LIMINAL_FORM_PREDICATE_PARTS_H
#define LIMINAL_FORM_PREDICATE_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "form/predicate.h"

enum predicate_step_kind {
	PREDICATE_EXISTS, PREDICATE_EQUAL, PREDICATE_UNEQUAL, PREDICATE_LESS,
	PREDICATE_LESS_EQUAL, PREDICATE_GREATER, PREDICATE_GREATER_EQUAL, PREDICATE_IN,
	PREDICATE_NOT,
	PREDICATE_JUMP_IF_TRUE, PREDICATE_JUMP_IF_FALSE,
};

enum predicate_type {
	PREDICATE_NULL, PREDICATE_BOOL, PREDICATE_INTEGER, PREDICATE_REAL, PREDICATE_STRING
};

struct predicate_value {
	enum predicate_type type;
	union {
		bool truth;
		int64_t integer;
		double real;
		struct { const char *bytes; size_t len; } string;
	};
};

struct predicate_step {
	enum predicate_step_kind kind;
	unsigned target;		/* of a jump */
	const char *path;		/* n_names names, each with a NUL behind it */
	unsigned n_names;
	struct predicate_value a, b;	/* b is the upper end of a range */
};

struct predicate {
	struct predicate_step *steps;	/* n */
	unsigned n;
	char *names;			/* all names and strings; the steps point here */
};

/* How A compares with B: below, equal or above 0. Both are numbers or both strings. */
int	predicate_compare(const struct predicate_value *a, const struct predicate_value *b);

#endif
