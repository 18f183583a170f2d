/*
 * schema_pattern: patterns compiled and matched. The only file that sees PCRE2.
 *
 * PCRE2 backtracks: a few dozen characters can keep some patterns busy for years. Its own limit
 * counts anew at each character where a match may start, and counts nothing while it runs along a
 * repeated one. So every pattern is compiled with a callout before each of its items; the callout
 * takes what the matcher has done since the last one from the work that the payload is allowed.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "form/schema_parts.h"

/* Characters that the matcher passes in the time of a step. */
#define BYTES_PER_STEP	16

/* Memory for backtracking, in KiB; kept for the next match unless the text was long. */
#define HEAP_LIMIT	16384
#define LONG_TEXT	4096

#define OPTIONS		(PCRE2_UTF | PCRE2_NO_UTF_CHECK | PCRE2_DOLLAR_ENDONLY | \
			 PCRE2_MATCH_UNSET_BACKREF | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_AUTO_CALLOUT)

struct schema_pattern {
	pcre2_code *code;
	uint64_t extra;			/* what an item may cost that fails within its repeats */
	struct schema_pattern *next;
};

struct schema_scratch {
	pcre2_match_context *context;
	pcre2_match_data *data;
};

/* What the callout knows of a match under way. */
struct progress { struct schema_check *c; uint64_t cost; size_t last; };

static int
count_work(pcre2_callout_block *block, void *arg)
{
	struct progress *p = arg;
	size_t at = block->current_position;
	uint64_t cost = p->cost + (at > p->last ? at - p->last : p->last - at) / BYTES_PER_STEP;

	p->last = at;
	if (p->c->work < cost)
		return PCRE2_ERROR_CALLOUT;
	p->c->work -= cost;
	return 0;
}

static int
make_scratch(struct schema_compiler *c)
{
	struct schema_scratch *scratch = c->schema->scratch;

	if (scratch != NULL)
		return 0;
	if ((scratch = schema_alloc(c->schema, sizeof(*scratch))) == NULL)
		return schema_compile_nomem(c);
	c->schema->scratch = scratch;
	scratch->context = pcre2_match_context_create(NULL);
	/* One pair: nobody asks for groups. */
	scratch->data = pcre2_match_data_create(1, NULL);
	if (scratch->context == NULL || scratch->data == NULL)
		return schema_compile_nomem(c);
	pcre2_set_heap_limit(scratch->context, HEAP_LIMIT);
	return 0;
}

static int
compile(const struct schema_site *site, const char *keyword, const struct schema_regex *regex,
    pcre2_code **code)
{
	PCRE2_UCHAR text[SCHEMA_TEXT_PATH];
	PCRE2_SIZE offset;
	int error;

	*code = pcre2_compile((PCRE2_SPTR)regex->text, regex->len, OPTIONS, &error, &offset, NULL);
	if (*code != NULL)
		return 0;
	if (error == PCRE2_ERROR_HEAP_FAILED)
		return schema_compile_nomem(site->c);
	pcre2_get_error_message(error, text, sizeof(text));
	return schema_compile_error(site->c, site->json, keyword, "no regular expression: %s", text);
}

int
schema_pattern_compile(const struct schema_site *site, const char *keyword, const char *text, size_t len,
    const struct schema_pattern **out)
{
	struct schema *schema = site->c->schema;
	struct schema_pattern *pattern = schema_alloc(schema, sizeof(*pattern));
	struct schema_regex regex;
	char why[SCHEMA_TEXT_PATH];
	int rc;

	if (pattern == NULL)
		return schema_compile_nomem(site->c);
	if ((rc = make_scratch(site->c)) != 0)
		return rc;
	rc = schema_regex_translate(text, len, &regex, why);
	if (rc == ERR_NOMEM)
		return schema_compile_nomem(site->c);
	if (rc != 0)
		return schema_compile_error(site->c, site->json, keyword, "no regular expression: %s", why);
	rc = compile(site, keyword, &regex, &pattern->code);
	free(regex.text);
	pattern->extra = regex.repeats / BYTES_PER_STEP;
	if (rc == 0) {
		pattern->next = schema->patterns;
		schema->patterns = pattern;
		*out = pattern;
	}
	return rc;
}

void
schema_pattern_free_all(struct schema *schema)
{
	struct schema_pattern *pattern;

	for (pattern = schema->patterns; pattern != NULL; pattern = pattern->next)
		pcre2_code_free(pattern->code);
	schema->patterns = NULL;
	if (schema->scratch != NULL) {
		pcre2_match_data_free(schema->scratch->data);
		pcre2_match_context_free(schema->scratch->context);
	}
	schema->scratch = NULL;
}

/* Give back what a long text made the matcher allocate. */
static void
renew_data(struct schema_scratch *scratch)
{
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);

	if (data == NULL)
		return;
	pcre2_match_data_free(scratch->data);
	scratch->data = data;
}

enum schema_verdict
schema_pattern_match(struct schema_check *c, const struct schema_pattern *pattern, const char *text,
    size_t len, const struct schema_path *path)
{
	struct schema_scratch *scratch = c->schema->scratch;
	struct progress progress = { c, 1 + pattern->extra, 0 };
	int rc;

	if (schema_spend(c, 1 + len / BYTES_PER_STEP, path) != SCHEMA_OK)
		return SCHEMA_STOP;
	pcre2_set_callout(scratch->context, count_work, &progress);
	rc = pcre2_match(pattern->code, (PCRE2_SPTR)text, len, 0, PCRE2_NO_UTF_CHECK, scratch->data,
	    scratch->context);
	if (len > LONG_TEXT)
		renew_data(scratch);
	if (rc >= 0)
		return SCHEMA_OK;
	switch (rc) {
	case PCRE2_ERROR_NOMATCH:
		return SCHEMA_NO;
	case PCRE2_ERROR_NOMEMORY:
		return schema_stop(c, ERR_NOMEM, path, "out of memory");
	case PCRE2_ERROR_CALLOUT:
		return schema_stop(c, ERR_INVALID, path, "a pattern takes too long to match");
	default:
		return schema_stop(c, ERR_INVALID, path, "a pattern takes too much memory to match");
	}
}
