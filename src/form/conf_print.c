/*
 * conf_print: the effective configuration, written so that it can be read again. The token
 * is never written, only where it came from. A key without effect in this version is written
 * as a comment unless it was set, so that reading it again reports the same keys.
 */
#include <string.h>

#include "form/conf_parts.h"

/* libConfuse expands ${NAME} and \ in double quotes. */
static void
print_quoted(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (strchr("\"\\$", *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static void
print_list(FILE *out, char *const *list, unsigned n)
{
	unsigned i;

	fputs("{ ", out);
	for (i = 0; i < n; i++) {
		if (i > 0)
			fputs(", ", out);
		print_quoted(out, list[i]);
	}
	fputs(" }", out);
}

static void
print_value(FILE *out, const struct conf *conf, const struct conf_key *key)
{
	const void *field = (const char *)conf + key->offset;
	char buf[32];

	switch (key->kind) {
	case CONF_KIND_ADDRESSES:
		print_list(out, conf->listen, conf->n_listen);
		break;
	case CONF_KIND_ADDRESS:
	case CONF_KIND_PATH:
	case CONF_KIND_NAME:
	case CONF_KIND_TOKEN_FILE:
		print_quoted(out, *(char *const *)field == NULL ? "" : *(char *const *)field);
		break;
	case CONF_KIND_DURATION:
		print_quoted(out, conf_format_duration(*(const int64_t *)field, buf, sizeof buf));
		break;
	case CONF_KIND_SIZE32:
		print_quoted(out, conf_format_size(*(const uint32_t *)field, buf, sizeof buf));
		break;
	case CONF_KIND_SIZE64:
		print_quoted(out, conf_format_size(*(const uint64_t *)field, buf, sizeof buf));
		break;
	case CONF_KIND_COUNT:
		fprintf(out, "%u", *(const uint32_t *)field);
		break;
	case CONF_KIND_WORD:
	case CONF_KIND_ROUTER:
		print_quoted(out, key->words[*(const unsigned *)field]);
		break;
	case CONF_KIND_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		break;
	}
}

static bool
is_unset(const struct conf *conf, unsigned i)
{
	const struct conf_key *key = &conf_keys[i];

	if (key->inactive)
		return (conf->inactive & (UINT32_C(1) << i)) == 0;
	return key->kind == CONF_KIND_NAME &&
	    *(char *const *)((const char *)conf + key->offset) == NULL;
}

static bool
is_same_section(const struct conf_key *a, const struct conf_key *b)
{
	return a->section == b->section || (a->section != NULL && b->section != NULL &&
	    strcmp(a->section, b->section) == 0);
}

static void
print_key(FILE *out, const struct conf *conf, unsigned i)
{
	const struct conf_key *key = &conf_keys[i];

	if (key->section != NULL)
		fputc('\t', out);
	if (is_unset(conf, i))
		fputs("# ", out);
	fprintf(out, "%s = ", key->name);
	print_value(out, conf, key);
	fputc('\n', out);
}

void
conf_print(const struct conf *conf, FILE *out)
{
	const struct conf_key *key;
	bool opens, closes;
	unsigned i;

	for (i = 0; i < conf_n_keys; i++) {
		key = &conf_keys[i];
		if (key->kind == CONF_KIND_TOKEN_FILE && conf->token_file == NULL) {
			fputs(conf->token == NULL ? "# no auth: open\n" :
			    "# auth: the token is from LIMINAL_AUTH_TOKEN\n", out);
			continue;
		}
		opens = key->section != NULL && (i == 0 || !is_same_section(key, key - 1));
		closes = key->section != NULL &&
		    (i + 1 == conf_n_keys || !is_same_section(key, key + 1));
		if (opens)
			fprintf(out, "%s {\n", key->section);
		print_key(out, conf, i);
		if (closes)
			fputs("}\n", out);
	}
}
