/*
 * predicate_compile: from the text of a condition to its steps, by recursive descent. Each
 * function takes one thing of the grammar (liminald.conf(5)) from the text and adds its
 * steps; the first error ends it. Recursion is bounded by PREDICATE_DEPTH_MAX.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "form/frame.h"
#include "form/predicate_parts.h"

#define BLANKS		" \t\r\n"
#define NO_JUMP		(~0u)

struct compile {
	const char *text, *at;
	struct predicate *p;
	unsigned size;		/* allocated steps */
	char *names_end;
	unsigned depth;
	struct err *err;
};

static int	compile_or(struct compile *c);

/* An error at PLACE of the text. */
static int __attribute__((format(printf, 3, 4)))
compile_error(struct compile *c, const char *place, const char *fmt, ...)
{
	unsigned column = 1;
	char reason[200];
	const char *p;
	va_list ap;

	for (p = c->text; p < place; p++)
		column += ((unsigned char)*p & 0xc0) != 0x80;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	return err_set(c->err, ERR_INVALID, "column %u: %s", column, reason);
}

static int
compile_nomem(struct compile *c)
{
	return err_set(c->err, ERR_NOMEM, "out of memory");
}

static bool
is_digit(char ch)
{
	return ch >= '0' && ch <= '9';
}

/* Every byte beyond ASCII may be in a name: field names are people's words. */
static bool
is_name(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || is_digit(ch) ||
	    ch == '_' || ch == '-' || ch == '$' || (unsigned char)ch >= 0x80;
}

static size_t
name_len(const char *at)
{
	size_t n = 0;

	while (is_name(at[n]))
		n++;
	return n;
}

static void
skip_blanks(struct compile *c)
{
	c->at += strspn(c->at, BLANKS);
}

/* Is the next thing WORD, as a whole? */
static bool
is_word(struct compile *c, const char *word)
{
	skip_blanks(c);
	return name_len(c->at) == strlen(word) && strncmp(c->at, word, strlen(word)) == 0;
}

static bool
take_word(struct compile *c, const char *word)
{
	if (!is_word(c, word))
		return false;
	c->at += strlen(word);
	return true;
}

static bool
take_char(struct compile *c, char ch)
{
	skip_blanks(c);
	if (*c->at != ch)
		return false;
	c->at++;
	return true;
}

/* What stands at the place of an error, for its text: a word, a character, or the end. */
static const char *
found(const struct compile *c, char *buf, size_t size)
{
	size_t n = name_len(c->at);

	if (*c->at == '\0')
		return "the end";
	snprintf(buf, size, "'%.*s'", n > 40 ? 40 : n == 0 ? 1 : (int)n, c->at);
	return buf;
}

static struct predicate_step *
add_step(struct compile *c, enum predicate_step_kind kind)
{
	struct predicate_step *more, *step;

	if (c->p->n == c->size) {
		more = realloc(c->p->steps, (c->size * 2 + 4) * sizeof *more);
		if (more == NULL) {
			compile_nomem(c);
			return NULL;
		}
		c->p->steps = more;
		c->size = c->size * 2 + 4;
	}
	step = &c->p->steps[c->p->n++];
	memset(step, 0, sizeof *step);
	step->kind = kind;
	return step;
}

static void
put_utf8(struct compile *c, uint32_t code)
{
	if (code < 0x80)
		*c->names_end++ = (char)code;
	else {
		if (code < 0x800)
			*c->names_end++ = (char)(0xc0 | code >> 6);
		else {
			if (code < 0x10000)
				*c->names_end++ = (char)(0xe0 | code >> 12);
			else {
				*c->names_end++ = (char)(0xf0 | code >> 18);
				*c->names_end++ = (char)(0x80 | (code >> 12 & 0x3f));
			}
			*c->names_end++ = (char)(0x80 | (code >> 6 & 0x3f));
		}
		*c->names_end++ = (char)(0x80 | (code & 0x3f));
	}
}

/* The four hexadecimal digits of \uXXXX at AT, or -1. */
static int32_t
hex4(const char *at)
{
	int32_t code = 0;
	int i;

	for (i = 0; i < 4; i++) {
		if (is_digit(at[i]))
			code = code * 16 + (at[i] - '0');
		else if ((at[i] | 0x20) >= 'a' && (at[i] | 0x20) <= 'f')
			code = code * 16 + ((at[i] | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return code;
}

/* \uXXXX, or two of them for what is beyond 16 bits; c->at is at the u. */
static int
take_unicode(struct compile *c)
{
	const char *start = c->at - 1;
	int32_t code = hex4(c->at + 1), low;

	if (code < 0)
		return compile_error(c, start, "\\u is to be followed by four hexadecimal digits");
	c->at += 5;
	if (code >= 0xd800 && code < 0xdc00 && c->at[0] == '\\' && c->at[1] == 'u' &&
	    (low = hex4(c->at + 2)) >= 0xdc00 && low < 0xe000) {
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
		c->at += 6;
	}
	if (code >= 0xd800 && code < 0xe000)
		return compile_error(c, start, "half of a surrogate pair");
	put_utf8(c, (uint32_t)code);
	return 0;
}

/* What follows a backslash, as in JSON, and ' too. */
static int
take_escape(struct compile *c)
{
	static const char escapes[] = "\"'\\/bfnrt", meanings[] = "\"'\\/\b\f\n\r\t";
	const char *known;

	if (*c->at == 'u')
		return take_unicode(c);
	known = *c->at == '\0' ? NULL : strchr(escapes, *c->at);
	if (known == NULL)
		return compile_error(c, c->at - 1, "a backslash is to be followed by one of "
		    "\" ' \\ / b f n r t u");
	*c->names_end++ = meanings[known - escapes];
	c->at++;
	return 0;
}

/* A string in quotes, without them among the names and with a NUL behind it. */
static int
take_string(struct compile *c, const char **bytes, size_t *len)
{
	const char *start = c->at;
	char quote = *c->at++;
	int rc = 0;

	*bytes = c->names_end;
	while (rc == 0 && *c->at != quote) {
		if (*c->at == '\0')
			return compile_error(c, start, "the string that begins here has no "
			    "closing quote");
		if (*c->at == '\\') {
			c->at++;
			rc = take_escape(c);
		} else
			*c->names_end++ = *c->at++;
	}
	if (rc != 0)
		return rc;
	c->at++;
	*len = (size_t)(c->names_end - *bytes);
	*c->names_end++ = '\0';
	return 0;
}

/* The end of the number at AT, whose form is that of JSON; NULL if it has another. A dot before a dot is
 * not its own. */
static const char *
number_end(const char *at, bool *is_real)
{
	const char *p = at + (*at == '-');

	*is_real = false;
	if (!is_digit(*p) || (*p == '0' && is_digit(p[1])))
		return NULL;
	while (is_digit(*p))
		p++;
	if (*p == '.' && p[1] != '.') {
		*is_real = true;
		if (!is_digit(*++p))
			return NULL;
		while (is_digit(*p))
			p++;
	}
	if (*p == 'e' || *p == 'E') {
		*is_real = true;
		p += p[1] == '+' || p[1] == '-' ? 2 : 1;
		if (!is_digit(*p))
			return NULL;
		while (is_digit(*p))
			p++;
	}
	return is_name(*p) ? NULL : p;
}

static int
take_number(struct compile *c, struct predicate_value *value)
{
	const char *start = c->at, *end;
	bool is_real;

	end = number_end(start, &is_real);
	if (end == NULL)
		return compile_error(c, start, "not a number as JSON has them");
	c->at = end;
	value->type = PREDICATE_INTEGER;
	errno = 0;
	if (!is_real)
		value->integer = strtoll(start, NULL, 10);
	if (is_real || errno == ERANGE) {
		value->type = PREDICATE_REAL;
		value->real = strtod(start, NULL);
		if (isinf(value->real))
			return compile_error(c, start, "the number is too large");
	}
	return 0;
}

static int
take_value(struct compile *c, struct predicate_value *value)
{
	char buf[64];

	skip_blanks(c);
	if (*c->at == '\'' || *c->at == '"') {
		value->type = PREDICATE_STRING;
		return take_string(c, &value->string.bytes, &value->string.len);
	}
	if (is_digit(*c->at) || *c->at == '-')
		return take_number(c, value);
	if (is_word(c, "true") || is_word(c, "false")) {
		value->type = PREDICATE_BOOL;
		value->truth = *c->at == 't';
		c->at += value->truth ? strlen("true") : strlen("false");
		return 0;
	}
	if (take_word(c, "null")) {
		value->type = PREDICATE_NULL;
		return 0;
	}
	return compile_error(c, c->at, "%s where a value is expected: a number, a string in "
	    "quotes, true, false or null", found(c, buf, sizeof buf));
}

/* One name of a path, with a NUL behind it. */
static int
take_name(struct compile *c)
{
	const char *start = c->at, *bytes;
	char buf[64];
	size_t n, len;
	int rc;

	if (*c->at == '\'' || *c->at == '"') {
		rc = take_string(c, &bytes, &len);
		if (rc == 0 && strlen(bytes) != len)
			return compile_error(c, start, "the name of a field has no NUL");
		return rc;
	}
	n = name_len(c->at);
	if (n == 0)
		return compile_error(c, c->at, "%s where the name of a field is expected",
		    found(c, buf, sizeof buf));
	memcpy(c->names_end, c->at, n);
	c->names_end += n;
	*c->names_end++ = '\0';
	c->at += n;
	return 0;
}

static int
take_path(struct compile *c, const char **path, unsigned *n_names)
{
	static const char *const reserved[] = {
		"and", "or", "not", "in", "exists", "true", "false", "null"
	};
	int rc;
	size_t i;

	skip_blanks(c);
	for (i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
		if (is_word(c, reserved[i]))
			return compile_error(c, c->at, "'%s' where a field is expected (one of "
			    "this name is written '\"%s\"')", reserved[i], reserved[i]);
	if (is_digit(*c->at) || *c->at == '-')
		return compile_error(c, c->at, "a number where a field is expected");
	*path = c->names_end;
	*n_names = 0;
	while ((rc = take_name(c)) == 0) {
		(*n_names)++;
		if (*c->at != '.')
			break;
		c->at++;
	}
	return rc;
}

/* The comparison at c->at; 0, or the error of there being none. */
static int
take_operator(struct compile *c, enum predicate_step_kind *kind)
{
	static const struct { const char *text; enum predicate_step_kind kind; } operators[] = {
		{ "==", PREDICATE_EQUAL }, { "!=", PREDICATE_UNEQUAL },
		{ "<=", PREDICATE_LESS_EQUAL }, { ">=", PREDICATE_GREATER_EQUAL },
		{ "<", PREDICATE_LESS }, { ">", PREDICATE_GREATER },
	};
	char buf[64];
	size_t i;

	if (take_word(c, "in")) {
		*kind = PREDICATE_IN;
		return 0;
	}
	for (i = 0; i < sizeof operators / sizeof operators[0]; i++)
		if (strncmp(c->at, operators[i].text, strlen(operators[i].text)) == 0) {
			*kind = operators[i].kind;
			c->at += strlen(operators[i].text);
			return 0;
		}
	if (*c->at == '=')
		return compile_error(c, c->at, "'=' compares nothing: write '=='");
	return compile_error(c, c->at, "%s where a comparison is expected: == != < <= > >= or in",
	    found(c, buf, sizeof buf));
}

static bool
has_order(const struct predicate_value *value)
{
	return value->type != PREDICATE_NULL && value->type != PREDICATE_BOOL;
}

static int
take_range_end(struct compile *c, struct predicate_step *step, const char *start)
{
	bool is_string = step->a.type == PREDICATE_STRING;
	const char *end;
	int rc;

	skip_blanks(c);
	if (strncmp(c->at, "..", 2) != 0)
		return compile_error(c, c->at, "'..' and the end of the range are expected");
	c->at += 2;
	skip_blanks(c);
	end = c->at;
	rc = take_value(c, &step->b);
	if (rc != 0)
		return rc;
	if (!has_order(&step->b) || (step->b.type == PREDICATE_STRING) != is_string)
		return compile_error(c, end, "both ends of a range are numbers, or both strings");
	if (predicate_compare(&step->a, &step->b) > 0)
		return compile_error(c, start, "nothing is in a range whose end is before its "
		    "beginning");
	return 0;
}

static int
compile_comparison(struct compile *c)
{
	struct predicate_step *step = add_step(c, PREDICATE_EQUAL);
	const char *start;
	int rc;

	if (step == NULL)
		return ERR_NOMEM;
	rc = take_path(c, &step->path, &step->n_names);
	if (rc == 0)
		rc = take_operator(c, &step->kind);
	skip_blanks(c);
	start = c->at;
	if (rc == 0)
		rc = take_value(c, &step->a);
	if (rc != 0 || step->kind == PREDICATE_EQUAL || step->kind == PREDICATE_UNEQUAL)
		return rc;
	if (!has_order(&step->a))
		return compile_error(c, start, "true, false and null have no order: only == and "
		    "!= compare with them");
	return step->kind == PREDICATE_IN ? take_range_end(c, step, start) : 0;
}

static int
expect_closing(struct compile *c, const char *opening)
{
	char buf[64];

	if (take_char(c, ')'))
		return 0;
	if (*c->at == '\0')
		return compile_error(c, opening, "the parenthesis that opens here is not closed");
	return compile_error(c, c->at, "%s where \"and\", \"or\" or ')' is expected",
	    found(c, buf, sizeof buf));
}

static int
compile_exists(struct compile *c)
{
	struct predicate_step *step = add_step(c, PREDICATE_EXISTS);
	const char *opening;
	int rc;

	if (step == NULL)
		return ERR_NOMEM;
	skip_blanks(c);
	opening = c->at;
	if (!take_char(c, '('))
		return compile_error(c, c->at, "exists is to be followed by a field in "
		    "parentheses");
	rc = take_path(c, &step->path, &step->n_names);
	if (rc != 0 || take_char(c, ')'))
		return rc;
	if (*c->at == '\0')
		return compile_error(c, opening, "the parenthesis that opens here is not closed");
	return compile_error(c, c->at, "')' is expected after the field");
}

/* The one place that goes down; what it counts is what bounds the recursion. */
static int
compile_unary(struct compile *c)
{
	const char *start;
	int rc;

	skip_blanks(c);
	start = c->at;
	if (++c->depth > PREDICATE_DEPTH_MAX)
		return compile_error(c, start, "more than %d parentheses and nots within each "
		    "other", PREDICATE_DEPTH_MAX);
	if (take_word(c, "not")) {
		rc = compile_unary(c);
		if (rc == 0 && add_step(c, PREDICATE_NOT) == NULL)
			rc = ERR_NOMEM;
	} else if (take_char(c, '(')) {
		rc = compile_or(c);
		if (rc == 0)
			rc = expect_closing(c, start);
	} else if (take_word(c, "exists"))
		rc = compile_exists(c);
	else
		rc = compile_comparison(c);
	c->depth--;
	return rc;
}

/* Operands joined by WORD: behind each but the last a jump over those that no longer matter.
 * Until the end is known, a jump's target is the jump before it. */
static int
compile_chain(struct compile *c, const char *word, enum predicate_step_kind jump,
    int (*operand)(struct compile *))
{
	unsigned last = NO_JUMP, next;
	struct predicate_step *step;
	int rc;

	while ((rc = operand(c)) == 0 && take_word(c, word)) {
		if ((step = add_step(c, jump)) == NULL)
			return ERR_NOMEM;
		step->target = last;
		last = c->p->n - 1;
	}
	for (; last != NO_JUMP; last = next) {
		next = c->p->steps[last].target;
		c->p->steps[last].target = c->p->n;
	}
	return rc;
}

static int
compile_and(struct compile *c)
{
	return compile_chain(c, "and", PREDICATE_JUMP_IF_FALSE, compile_unary);
}

static int
compile_or(struct compile *c)
{
	return compile_chain(c, "or", PREDICATE_JUMP_IF_TRUE, compile_and);
}

static int
compile_all(struct compile *c)
{
	char buf[64];
	int rc;

	skip_blanks(c);
	if (*c->at == '\0')
		return compile_error(c, c->at, "the condition is empty");
	rc = compile_or(c);
	skip_blanks(c);
	if (rc != 0 || *c->at == '\0')
		return rc;
	return compile_error(c, c->at, "%s where \"and\", \"or\" or the end is expected",
	    found(c, buf, sizeof buf));
}

int
predicate_compile(struct predicate **predicate, const char *text, struct err *err)
{
	struct compile c = { .text = text, .at = text, .err = err };
	size_t len = strlen(text);
	int rc;

	*predicate = NULL;
	if (len > PREDICATE_TEXT_MAX)
		return compile_error(&c, text + PREDICATE_TEXT_MAX, "longer than %d bytes",
		    PREDICATE_TEXT_MAX);
	if (!frame_is_utf8((const uint8_t *)text, len))
		return compile_error(&c, text, "not UTF-8");
	if ((c.p = calloc(1, sizeof *c.p)) == NULL)
		return compile_nomem(&c);
	/* A name is followed by something that is not one, and no escape is shorter than what
	 * it stands for; the last name may be at the end. */
	c.p->names = c.names_end = malloc(len + 1);
	rc = c.p->names == NULL ? compile_nomem(&c) : compile_all(&c);
	if (rc == 0)
		*predicate = c.p;
	else
		predicate_free(c.p);
	return rc;
}
