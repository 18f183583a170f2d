/*
 * schema_error: the words of a refusal.
 *
 * They go to peers, into logs and onto terminals, and hold names that a peer chose: bounded, valid UTF-8,
 * no control characters. Where something has to be cut, it is cut between characters, and a "…" says so.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "form/schema_parts.h"

#define CUT	"…"
#define CUT_LEN	(sizeof(CUT) - 1)

static size_t
character_len(const char *text, size_t len)
{
	size_t n = 1;

	while (n < len && ((unsigned char)text[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* One character as it is shown; POINTER: as a part of a JSON pointer. Returns the length in IN. */
static size_t
show(const char *in, size_t len, bool is_pointer, char out[8])
{
	size_t n = character_len(in, len);
	unsigned char first = (unsigned char)*in;

	if (first < 0x20 || first == 0x7f)
		snprintf(out, 8, "\\u%04x", first);
	else if (is_pointer && (*in == '~' || *in == '/'))
		snprintf(out, 8, *in == '~' ? "~0" : "~1");
	else
		snprintf(out, 8, "%.*s", (int)(n < 7 ? n : 7), in);
	return n;
}

/* As much of TEXT as fits in SIZE bytes with its NUL, and "…" if that is not all. */
static size_t
show_all(const char *text, size_t len, bool is_pointer, char *out, size_t size)
{
	size_t used = 0, at = 0, next, n;
	char shown[8];

	while (at < len) {
		next = at + show(text + at, len - at, is_pointer, shown);
		n = strlen(shown);
		if (used + n + (next < len ? CUT_LEN : 0) >= size) {
			memcpy(out + used, CUT, CUT_LEN);
			used += CUT_LEN;
			break;
		}
		memcpy(out + used, shown, n);
		used += n;
		at = next;
	}
	out[used] = '\0';
	return used;
}

const char *
schema_quote(const char *text, size_t len, char out[SCHEMA_TEXT_QUOTE])
{
	show_all(text, len, false, out, SCHEMA_TEXT_QUOTE);
	return out;
}

void
schema_clip(char *text, size_t size)
{
	size_t len = strlen(text), at = size - 1 - CUT_LEN;

	if (len + 1 < size)
		return;
	while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
		at--;
	memcpy(text + at, CUT, CUT_LEN + 1);
}

void
schema_path_text(const struct schema_path *path, const char *whole, char out[SCHEMA_TEXT_PATH])
{
	char token[64], *at = out + SCHEMA_TEXT_PATH - 1;
	size_t len;

	if (path == NULL) {
		snprintf(out, SCHEMA_TEXT_PATH, "%s", whole);
		return;
	}
	/* From the end: the innermost names say most. */
	for (*at = '\0'; path != NULL; path = path->up) {
		len = path->name == NULL ? (size_t)snprintf(token, sizeof(token), "%zu", path->index) :
		    show_all(path->name, path->len, true, token, sizeof(token));
		if ((size_t)(at - out) < len + 1 + CUT_LEN) {
			at -= CUT_LEN;
			memcpy(at, CUT, CUT_LEN);
			break;
		}
		at -= len;
		memcpy(at, token, len);
		*--at = '/';
	}
	memmove(out, at, strlen(at) + 1);
}

static void
say(struct schema_check *c, int code, const struct schema_path *path, const char *keyword, const char *what)
{
	char where[SCHEMA_TEXT_PATH], text[sizeof(c->err->text) + 8];

	schema_path_text(path, "the payload", where);
	if (keyword == NULL)
		snprintf(text, sizeof(text), "%s: %s", where, what);
	else
		snprintf(text, sizeof(text), "%s: %s: %s", where, keyword, what);
	schema_clip(text, sizeof(c->err->text));
	err_set(c->err, code, "%s", text);
}

enum schema_verdict
schema_no(struct schema_check *c, const struct schema_path *path, const char *keyword, const char *fmt, ...)
{
	char what[sizeof(c->err->text)];
	va_list ap;

	if (c->quiet > 0 || c->err == NULL)
		return SCHEMA_NO;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	schema_clip(what, sizeof(what));
	say(c, ERR_INVALID, path, keyword, what);
	return SCHEMA_NO;
}

enum schema_verdict
schema_stop(struct schema_check *c, int code, const struct schema_path *path, const char *why)
{
	c->code = code;
	if (c->err != NULL)
		say(c, code, path, NULL, why);
	return SCHEMA_STOP;
}
