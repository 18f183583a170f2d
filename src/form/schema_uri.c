/*
 * schema_uri: relative references resolved as RFC 3986, section 5.2, has it.
 *
 * URIs are only compared here, byte by byte, never fetched and never normalised beyond what resolving does.
 */
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

struct slice { const char *at; size_t len; };

/* SCHEME without ":", AUTHORITY with "//", QUERY with "?": what is absent is empty. */
struct uri { struct slice scheme, authority, path, query, fragment; };

static struct slice
take(const char **p, size_t len)
{
	struct slice s = { *p, len };

	*p += len;
	return s;
}

static size_t
scheme_len(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-.");

	return n > 0 && text[n] == ':' && strspn(text, "0123456789+-.") == 0 ? n : 0;
}

static struct uri
uri_split(const char *text)
{
	struct uri uri = { .scheme = { text, 0 } };

	uri.scheme = take(&text, scheme_len(text));
	if (uri.scheme.len > 0)
		text++;
	uri.authority = take(&text, strncmp(text, "//", 2) == 0 ? 2 + strcspn(text + 2, "/?#") : 0);
	uri.path = take(&text, strcspn(text, "?#"));
	uri.query = take(&text, strcspn(text, "#"));
	uri.fragment = take(&text, strlen(text));
	return uri;
}

static char *
put(char *out, struct slice s)
{
	memcpy(out, s.at, s.len);
	return out + s.len;
}

/* Remove "." and ".." from the path START..END; returns its new end. */
static char *
remove_dots(char *start, char *end)
{
	char *in = start, *out = start, *next;
	size_t len;

	while (in < end) {
		if ((next = memchr(in, '/', (size_t)(end - in))) == NULL)
			next = end;
		len = (size_t)(next - in);
		if (len > 0 && len <= 2 && memcmp(in, "..", len) == 0) {
			/* OUT stands behind a "/"; ".." takes away the segment before it. */
			if (len == 2 && out > start)
				for (out--; out > start && out[-1] != '/'; out--)
					;
			if (out == start && *start == '/' && in > start)
				out++;
		} else {
			memmove(out, in, len);
			out += len;
			if (next < end)
				*out++ = '/';
		}
		in = next + 1;
	}
	return out;
}

/* REF's path, relative to that of BASE, at OUT. */
static char *
put_path(char *out, const struct uri *base, const struct uri *ref)
{
	char *start = out;
	size_t dir = base->path.len;

	if (ref->path.at[0] != '/') {
		if (base->authority.len > 0 && base->path.len == 0)
			*out++ = '/';
		while (dir > 0 && base->path.at[dir - 1] != '/')
			dir--;
		out = put(out, (struct slice){ base->path.at, dir });
	}
	out = put(out, ref->path);
	return remove_dots(start, out);
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A NUL would end the text early: it is refused as a bad escape. */
static int
put_fragment(char *out, struct slice fragment)
{
	int high, low;

	/* From 1: the "#". */
	for (size_t i = 1; i < fragment.len; i++) {
		if (fragment.at[i] != '%') {
			*out++ = fragment.at[i];
			continue;
		}
		if (i + 2 >= fragment.len || (high = hex(fragment.at[i + 1])) < 0 ||
		    (low = hex(fragment.at[i + 2])) < 0 || (high == 0 && low == 0))
			return ERR_INVALID;
		*out++ = (char)(high << 4 | low);
		i += 2;
	}
	*out = '\0';
	return 0;
}

int
schema_uri_resolve(const char *base_text, const char *ref_text, char **uri, char **fragment)
{
	struct uri base = uri_split(base_text), ref = uri_split(ref_text);
	char *out;
	int rc;

	if ((*uri = malloc(strlen(base_text) + strlen(ref_text) + 8)) == NULL)
		return ERR_NOMEM;
	out = put(*uri, ref.scheme.len > 0 ? ref.scheme : base.scheme);
	if (out > *uri)
		*out++ = ':';
	if (ref.scheme.len > 0 || ref.authority.len > 0) {
		out = put(out, ref.authority);
		/* A path without a hierarchy has no dots to remove: put as it is. */
		out = ref.path.at[0] == '/' ? put_path(out, &base, &ref) : put(out, ref.path);
		out = put(out, ref.query);
	} else {
		out = put(out, base.authority);
		if (ref.path.len == 0)
			out = put(put(out, base.path), ref.query.len > 0 ? ref.query : base.query);
		else
			out = put(put_path(out, &base, &ref), ref.query);
	}
	*out++ = '\0';
	*fragment = out;
	if ((rc = put_fragment(out, ref.fragment)) != 0) {
		free(*uri);
		*uri = NULL;
	}
	return rc;
}
