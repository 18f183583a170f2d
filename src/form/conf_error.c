/*
 * conf_error: the list of what is wrong. Errors are kept until all is read, so
 * that those of the file come out in the order of its lines.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <string.h>

#include "form/conf_parts.h"
#include "form/frame.h"

void
conf_error_add(struct conf_reading *r, enum conf_origin origin, int line, const char *fmt, ...)
{
	struct conf_error *more, *e;
	bool is_utf8;
	va_list ap;
	char *p;
	int rc;

	more = realloc(r->errors, (r->n_errors + 1) * sizeof *more);
	if (more == NULL) {
		r->nomem = true;
		return;
	}
	r->errors = more;
	e = &more[r->n_errors];
	va_start(ap, fmt);
	rc = vasprintf(&e->text, fmt, ap);
	va_end(ap);
	if (rc < 0) {
		r->nomem = true;
		return;
	}
	/* One error is one line of text, whatever was read. */
	is_utf8 = frame_is_utf8((const uint8_t *)e->text, strlen(e->text));
	for (p = e->text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || (!is_utf8 && (*p & 0x80) != 0))
			*p = '?';
	e->origin = origin;
	e->line = line;
	e->lexical = false;
	e->seq = r->n_errors++;
}

void
conf_error_block(struct conf_reading *r, const struct conf_block *block, const char *name,
    const char *fmt, ...)
{
	const struct conf_setting *setting = conf_setting_at(r, block,
	    conf_key_find(block->section, name));
	va_list ap;
	char *text;
	int rc;

	va_start(ap, fmt);
	rc = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (rc < 0) {
		r->nomem = true;
		return;
	}
	conf_error_add(r, setting->origin, setting->n > 0 ? setting->lines[0] : setting->line,
	    "%s%s%s%s: %s: %s", block->section, block->title == NULL ? "" : " \"",
	    block->title == NULL ? "" : block->title, block->title == NULL ? "" : "\"", name,
	    text);
	free(text);
}

bool
conf_error_is_lexical(const struct conf_reading *r, int line)
{
	unsigned i;

	for (i = 0; i < r->n_errors; i++)
		if (r->errors[i].lexical && r->errors[i].line == line)
			return true;
	return false;
}

static int
error_compare(const void *va, const void *vb)
{
	const struct conf_error *a = va, *b = vb;

	if (a->origin != b->origin)
		return a->origin < b->origin ? -1 : 1;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->seq < b->seq ? -1 : 1;
}

void
conf_error_print(struct conf_reading *r, FILE *out)
{
	unsigned i;

	if (r->n_errors > 0)
		qsort(r->errors, r->n_errors, sizeof *r->errors, error_compare);
	for (i = 0; i < r->n_errors; i++) {
		if (r->errors[i].origin == CONF_FROM_FILE) {
			fprintf(out, "%s:", r->file);
			if (r->errors[i].line > 0)
				fprintf(out, "%d:", r->errors[i].line);
			fputc(' ', out);
		}
		fprintf(out, "%s\n", r->errors[i].text);
	}
	if (r->nomem)
		fputs("configuration: out of memory\n", out);
}

void
conf_error_free(struct conf_reading *r)
{
	unsigned i;

	for (i = 0; i < r->n_errors; i++)
		free(r->errors[i].text);
	free(r->errors);
}
