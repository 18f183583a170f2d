/*
 * schema_json: reading of payloads and of schemas as JSON.
 *
 * jansson keeps integers in 64 bits and refuses larger ones. JSON has no such limit, so the text is
 * then read once more with "e0" behind each integer that is too large, which makes a real of it and
 * leaves all other numbers exact.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

/* The shortest integer that can be too large has as many digits. */
#define LARGE_DIGITS	19

#define JSON_FLAGS	(JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

struct copy { const char *in, *end; char *out; };

static void
copy_string(struct copy *c)
{
	do {
		if (*c->in == '\\' && c->in + 1 < c->end)
			*c->out++ = *c->in++;
		*c->out++ = *c->in++;
	} while (c->in < c->end && *c->in != '"');
	if (c->in < c->end)
		*c->out++ = *c->in++;
}

static bool
is_digit(const struct copy *c, const char *p)
{
	return p < c->end && *p >= '0' && *p <= '9';
}

static void
copy_number(struct copy *c)
{
	const char *start = c->in, *p = c->in;
	char digits[LARGE_DIGITS + 3] = "";
	bool is_large;
	size_t len;

	while (is_digit(c, ++p))
		;
	len = (size_t)(p - start);
	is_large = len >= LARGE_DIGITS && (p == c->end || strchr(".eE", *p) == NULL || *p == '\0');
	if (is_large && len <= LARGE_DIGITS + 1) {
		memcpy(digits, start, len);
		errno = 0;
		(void)strtoimax(digits, NULL, 10);
		is_large = errno == ERANGE;
	}
	memcpy(c->out, start, len);
	c->out += len;
	c->in = p;
	if (is_large) {
		memcpy(c->out, "e0", 2);
		c->out += 2;
	}
	/* The digits of a fraction or an exponent are no integers. */
	while (c->in < c->end && *c->in != '\0' && strchr("0123456789.eE+-", *c->in) != NULL)
		*c->out++ = *c->in++;
}

/* ERR_NOMEM if there is no memory for the copy; else 0, and *JSON is what the reader made of it. */
static int
parse_large(const char *text, size_t len, json_t **json, json_error_t *error)
{
	char *buffer = malloc(len + 2 * (len / LARGE_DIGITS + 1));
	struct copy c = { text, text + len, buffer };

	if (buffer == NULL)
		return ERR_NOMEM;
	while (c.in < c.end) {
		if (*c.in == '"')
			copy_string(&c);
		else if (*c.in == '-' || is_digit(&c, c.in))
			copy_number(&c);
		else
			*c.out++ = *c.in++;
	}
	*json = json_loadb(buffer, (size_t)(c.out - buffer), JSON_FLAGS, error);
	free(buffer);
	return 0;
}

static const char *
what_is_wrong(enum json_error_code code)
{
	switch (code) {
	case json_error_stack_overflow:
		return "nested too deeply";
	case json_error_invalid_utf8:
		return "not UTF-8";
	case json_error_premature_end_of_input:
		return "it ends too early";
	case json_error_end_of_input_expected:
		return "there is more behind its end";
	case json_error_null_byte_in_key:
		return "a member's name contains NUL";
	case json_error_duplicate_key:
		return "a member occurs twice";
	case json_error_numeric_overflow:
		return "a number is out of range";
	default:
		return "wrong syntax";
	}
}

json_t *
schema_parse(const void *text, size_t len, struct err *err)
{
	json_error_t error = { .line = 0 };
	json_t *json;
	int rc = 0;

	if (len == 0) {
		err_set(err, ERR_INVALID, "not JSON: it is empty");
		return NULL;
	}
	json = json_loadb(text, len, JSON_FLAGS, &error);
	if (json == NULL && json_error_code(&error) == json_error_numeric_overflow)
		rc = parse_large(text, len, &json, &error);
	if (json != NULL)
		return json;
	/* Most often jansson says nothing at all when it runs out of memory. */
	if (rc == ERR_NOMEM || error.text[0] == '\0' ||
	    json_error_code(&error) == json_error_out_of_memory)
		err_set(err, ERR_NOMEM, "out of memory while reading JSON");
	else
		err_set(err, ERR_INVALID, "not JSON: line %d, column %d: %s", error.line, error.column,
		    what_is_wrong(json_error_code(&error)));
	return NULL;
}
