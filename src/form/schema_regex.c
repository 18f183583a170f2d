/*
 * schema_regex: ECMAScript's regular expressions, which JSON Schema uses, written as PCRE2's.
 *
 * The two look alike and differ in the details: what only PCRE2 knows is refused (its verbs, \A,
 * \Q, inline options, possessive quantifiers), what it reads differently is rewritten (\s, \v, ".",
 * "[" in a class, \uHHHH, long names of properties). Where ECMAScript with its flag "u" is stricter
 * than without, needless backslashes and lone braces pass, as most writers of schemas expect.
 *
 * Three differences stay: \S inside a class takes the spaces beyond ASCII for none; a lookbehind has
 * to have a fixed length; a group keeps what it matched when it is repeated without matching.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

/* The longest that one character of a pattern can become. */
#define GROWTH		40
#define SPACES		"\\s\\p{Zs}\\x{feff}\\x{2028}\\x{2029}"
#define LINE_ENDS	"\\n\\r\\x{2028}\\x{2029}"

struct regex {
	const char *in, *end;
	char *out;
	char *why;
	bool is_in_class, is_quantified;	/* the last thing was a quantifier */
	size_t repeats;
};

/* Returns -1. */
static int __attribute__((format(printf, 2, 3)))
refuse(const struct regex *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, SCHEMA_TEXT_PATH, fmt, ap);
	va_end(ap);
	schema_clip(r->why, SCHEMA_TEXT_PATH);
	return -1;
}

static void __attribute__((format(printf, 2, 3)))
put(struct regex *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r->out += vsnprintf(r->out, GROWTH + 1, fmt, ap);
	va_end(ap);
}

static size_t
left(const struct regex *r)
{
	return (size_t)(r->end - r->in);
}

/* N hexadecimal digits; -1 if there are none. */
static long
read_hex(struct regex *r, size_t n)
{
	char digits[8] = "";

	if (n >= sizeof(digits) || left(r) < n || strspn(r->in, "0123456789abcdefABCDEF") < n || n == 0)
		return -1;
	memcpy(digits, r->in, n);
	r->in += n;
	return strtol(digits, NULL, 16);
}

static long
read_braced(struct regex *r)
{
	long code;
	size_t n;

	r->in++;
	for (n = 0; n < left(r) && r->in[n] != '}'; n++)
		;
	if (n == left(r) || (code = read_hex(r, n)) < 0)
		return -1;
	r->in++;
	return code;
}

/* Behind "\u": a character, maybe as two surrogates. */
static int
translate_unicode(struct regex *r)
{
	long code, low;

	code = left(r) > 0 && *r->in == '{' ? read_braced(r) : read_hex(r, 4);
	if (code >= 0xd800 && code < 0xdc00 && left(r) >= 6 && memcmp(r->in, "\\u", 2) == 0) {
		r->in += 2;
		low = read_hex(r, 4);
		code = low < 0xdc00 || low > 0xdfff ? -1 :
		    0x10000 + (code - 0xd800) * 0x400 + low - 0xdc00;
	}
	if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return refuse(r, "\\u without a character");
	put(r, "\\x{%lx}", (unsigned long)code);
	return 0;
}

/* General categories, which PCRE2 knows by their short names only. */
static const char *
short_category(const char *name)
{
	static const char *const names[][2] = {
		{ "Letter", "L" }, { "Cased_Letter", "L&" }, { "LC", "L&" }, { "Uppercase_Letter", "Lu" },
		{ "Lowercase_Letter", "Ll" }, { "Titlecase_Letter", "Lt" }, { "Modifier_Letter", "Lm" },
		{ "Other_Letter", "Lo" }, { "Mark", "M" }, { "Combining_Mark", "M" },
		{ "Nonspacing_Mark", "Mn" }, { "Spacing_Mark", "Mc" }, { "Enclosing_Mark", "Me" },
		{ "Number", "N" }, { "Decimal_Number", "Nd" }, { "digit", "Nd" }, { "Letter_Number", "Nl" },
		{ "Other_Number", "No" }, { "Punctuation", "P" }, { "punct", "P" },
		{ "Connector_Punctuation", "Pc" }, { "Dash_Punctuation", "Pd" },
		{ "Open_Punctuation", "Ps" }, { "Close_Punctuation", "Pe" },
		{ "Initial_Punctuation", "Pi" }, { "Final_Punctuation", "Pf" },
		{ "Other_Punctuation", "Po" }, { "Symbol", "S" }, { "Math_Symbol", "Sm" },
		{ "Currency_Symbol", "Sc" }, { "Modifier_Symbol", "Sk" }, { "Other_Symbol", "So" },
		{ "Separator", "Z" }, { "Space_Separator", "Zs" }, { "Line_Separator", "Zl" },
		{ "Paragraph_Separator", "Zp" }, { "Other", "C" }, { "Control", "Cc" }, { "cntrl", "Cc" },
		{ "Format", "Cf" }, { "Surrogate", "Cs" }, { "Private_Use", "Co" }, { "Unassigned", "Cn" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i][0]) == 0)
			return names[i][1];
	return name;
}

/* Behind "\p" or "\P", which is KIND. */
static int
translate_property(struct regex *r, char kind)
{
	static const char *const scripts[][2] = { { "Script", "sc:" }, { "sc", "sc:" },
	    { "Script_Extensions", "scx:" }, { "scx", "scx:" } };
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=";
	char name[64] = "", *value;
	size_t n = 0;

	while (n < left(r) && r->in[n] != '}')
		n++;
	if (n == left(r) || *r->in != '{' || n > sizeof(name) - 2)
		return refuse(r, "\\%c without a property in braces", kind);
	memcpy(name, r->in + 1, n - 1);
	r->in += n + 1;
	if (strlen(name) != n - 1 || strspn(name, allowed) != n - 1)
		return refuse(r, "\\%c with a name that is none", kind);
	if ((value = strchr(name, '=')) == NULL) {
		r->out += sprintf(r->out, "\\%c{%s}", kind, short_category(name));
		return 0;
	}
	*value++ = '\0';
	if (strcmp(name, "General_Category") == 0 || strcmp(name, "gc") == 0) {
		r->out += sprintf(r->out, "\\%c{%s}", kind, short_category(value));
		return 0;
	}
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
		if (strcmp(name, scripts[i][0]) == 0) {
			r->out += sprintf(r->out, "\\%c{%s%s}", kind, scripts[i][1], value);
			return 0;
		}
	return refuse(r, "\\%c with a property that is not known", kind);
}

/* Behind a backslash and the digit FIRST: a group of that number. */
static int
translate_back_reference(struct regex *r, char first)
{
	unsigned group = (unsigned)(first - '0');

	if (first == '0') {
		put(r, "\\x{0}");
		return 0;
	}
	if (r->is_in_class)
		return refuse(r, "a back reference in a class");
	while (left(r) > 0 && *r->in >= '0' && *r->in <= '9' && group < 1000)
		group = group * 10 + (unsigned)(*r->in++ - '0');
	put(r, "\\g{%u}", group);
	return 0;
}

static int
translate_letter(struct regex *r, char letter)
{
	long code;

	switch (letter) {
	case 's':
		put(r, r->is_in_class ? SPACES : "[" SPACES "]");
		return 0;
	case 'S':
		/* In a class, the spaces beyond ASCII count as none. */
		put(r, r->is_in_class ? "\\S" : "[^" SPACES "]");
		return 0;
	case 'v':
		put(r, "\\x{b}");
		return 0;
	case 'x':
		if ((code = read_hex(r, 2)) < 0)
			return refuse(r, "\\x without two digits");
		put(r, "\\x{%lx}", (unsigned long)code);
		return 0;
	case 'c':
		if (left(r) == 0 || ((*r->in | 0x20) < 'a' || (*r->in | 0x20) > 'z'))
			return refuse(r, "\\c without a letter");
		put(r, "\\x{%x}", (unsigned)*r->in++ & 0x1f);
		return 0;
	case 'u':
		return translate_unicode(r);
	case 'p':
	case 'P':
		return translate_property(r, letter);
	case 'd': case 'D': case 'w': case 'W': case 'b': case 'f': case 'n': case 'r': case 't':
		put(r, "\\%c", letter);
		return 0;
	case 'B': case 'k':
		if (r->is_in_class)
			return refuse(r, "\\%c in a class", letter);
		put(r, "\\%c", letter);
		return 0;
	default:
		return refuse(r, "\\%c, which ECMAScript does not know", letter);
	}
}

static int
translate_escape(struct regex *r)
{
	char c;

	r->in++;
	if (left(r) == 0)
		return refuse(r, "a backslash at the end");
	c = *r->in++;
	if (c >= '0' && c <= '9')
		return translate_back_reference(r, c);
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
		return translate_letter(r, c);
	if ((unsigned char)c < 0x80)
		*r->out++ = '\\';
	*r->out++ = c;
	return 0;
}

/* How long the "{2}", "{2,}" or "{2,5}" is that starts here; 0 if none does. */
static size_t
counter_len(const struct regex *r)
{
	size_t n = 1, digits;

	for (digits = 0; n < left(r) && r->in[n] >= '0' && r->in[n] <= '9'; n++)
		digits++;
	if (digits > 0 && n < left(r) && r->in[n] == ',')
		for (n++; n < left(r) && r->in[n] >= '0' && r->in[n] <= '9'; n++)
			;
	return digits > 0 && n < left(r) && r->in[n] == '}' ? n + 1 : 0;
}

/* A quantifier of N characters, and a "?" behind it that makes it lazy. */
static int
translate_quantifier(struct regex *r, size_t n)
{
	size_t repeats;

	if (r->is_quantified)
		return refuse(r, "a quantifier behind a quantifier");
	repeats = n > 1 ? strtoul(r->in + 1, NULL, 10) : 0;
	r->repeats = repeats > r->repeats ? repeats : r->repeats;
	if (left(r) > n && r->in[n] == '?')
		n++;
	memcpy(r->out, r->in, n);
	r->out += n;
	r->in += n;
	r->is_quantified = true;
	return 0;
}

/* "(" and what makes it a special group. */
static int
translate_group(struct regex *r)
{
	static const char *const kinds[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?<" };
	size_t n;

	if (left(r) < 2 || (r->in[1] != '?' && r->in[1] != '*')) {
		*r->out++ = *r->in++;
		return 0;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		n = strlen(kinds[i]);
		if (left(r) >= n && memcmp(r->in, kinds[i], n) == 0) {
			memcpy(r->out, r->in, n);
			r->out += n;
			r->in += n;
			return 0;
		}
	}
	return refuse(r, "(%c, which ECMAScript does not know", r->in[1]);
}

static int
translate_in_class(struct regex *r)
{
	switch (*r->in) {
	case '\\':
		return translate_escape(r);
	case '[':
		put(r, "\\[");
		r->in++;
		return 0;
	case ']':
		r->is_in_class = false;
		break;
	}
	*r->out++ = *r->in++;
	return 0;
}

static int
translate_one(struct regex *r)
{
	size_t n;

	if (r->is_in_class)
		return translate_in_class(r);
	if (strchr("*+?", *r->in) != NULL && *r->in != '\0')
		return translate_quantifier(r, 1);
	if (*r->in == '{' && (n = counter_len(r)) > 0)
		return translate_quantifier(r, n);
	r->is_quantified = false;
	switch (*r->in) {
	case '\\':
		return translate_escape(r);
	case '(':
		return translate_group(r);
	case '.':
		put(r, "[^" LINE_ENDS "]");
		break;
	case '{':
		put(r, "\\{");
		break;
	case '[':
		*r->out++ = '[';
		r->is_in_class = true;
		if (left(r) > 1 && r->in[1] == '^')
			*r->out++ = *++r->in;
		break;
	default:
		*r->out++ = *r->in;
		break;
	}
	r->in++;
	return 0;
}

int
schema_regex_translate(const char *text, size_t len, struct schema_regex *regex, char why[SCHEMA_TEXT_PATH])
{
	struct regex r = { .in = text, .end = text + len, .why = why };

	*regex = (struct schema_regex){ NULL, 0, 0 };
	if (len > SIZE_MAX / GROWTH - 2 || (regex->text = malloc((len + 2) * GROWTH)) == NULL)
		return ERR_NOMEM;
	r.out = regex->text;
	while (r.in < r.end)
		if (translate_one(&r) != 0) {
			free(regex->text);
			regex->text = NULL;
			return ERR_INVALID;
		}
	regex->len = (size_t)(r.out - regex->text);
	regex->repeats = r.repeats;
	return 0;
}
