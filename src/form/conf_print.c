/*
 * conf_print: the effective configuration, written so that it can be read again. The token
 * is never written, only where it came from. A key without effect in this version is written
 * as a comment unless it was set, so that reading it again reports the same keys.
 */
#include <string.h>

#include "form/conf_parts.h"

/* libConfuse expands ${NAME} and \ in double quotes; a string stays on its line. */
static void
print_quoted(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f) {
			fprintf(out, "\\x%02x", (unsigned char)*text);
			continue;
		}
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
		print_quoted(out, list[i]);
		fputs(i + 1 < n ? ", " : " ", out);
	}
	fputs("}", out);
}

static const void *
field_of(const struct conf_key *key, const void *from)
{
	return (const char *)from + key->offset;
}

/* From the struct that has KEY's field, which is CONF but for titled sections. */
static void
print_value(FILE *out, const struct conf *conf, const struct conf_key *key, const void *from)
{
	const void *field = field_of(key, from);
	const struct conf_list *list = field;
	char buf[32];

	switch (key->kind) {
	case CONF_KIND_ADDRESSES:
		print_list(out, conf->listen, conf->n_listen);
		break;
	case CONF_KIND_TEXTS:
	case CONF_KIND_PROGRAM:
		print_list(out, list->texts, list->n);
		break;
	case CONF_KIND_ADDRESS:
	case CONF_KIND_PATH:
	case CONF_KIND_MODULE:
	case CONF_KIND_NAME:
	case CONF_KIND_TOKEN_FILE:
	case CONF_KIND_SCHEMA:
	case CONF_KIND_PREDICATE:
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
	case CONF_KIND_COUNT64:
		fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
		break;
	case CONF_KIND_CHANNEL:
		print_quoted(out, conf->channels[*(const unsigned *)field].name);
		break;
	case CONF_KIND_ROUTER:
		if (conf->router == CONF_ROUTER_MODULE) {
			print_quoted(out, conf->router_module);
			break;
		}
		print_quoted(out, key->words[conf->router]);
		break;
	case CONF_KIND_WORD:
		print_quoted(out, key->words[*(const unsigned *)field]);
		break;
	case CONF_KIND_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		break;
	}
}

static bool
is_unset(const struct conf *conf, const struct conf_key *key, const void *from)
{
	char name[128];
	unsigned i;

	if (key->inactive) {
		conf_key_dotted(key, name, sizeof name);
		for (i = 0; i < conf->inactive.n; i++)
			if (strcmp(conf->inactive.texts[i], name) == 0)
				return false;
		return true;
	}
	return (key->kind == CONF_KIND_NAME || key->kind == CONF_KIND_SCHEMA ||
	    key->kind == CONF_KIND_PREDICATE) && *(char *const *)field_of(key, from) == NULL;
}

static void
print_key(FILE *out, const struct conf *conf, const struct conf_key *key, const void *from)
{
	if (key->section != NULL)
		fputc('\t', out);
	if (is_unset(conf, key, from))
		fputs("# ", out);
	fprintf(out, "%s = ", key->name);
	print_value(out, conf, key, from);
	fputc('\n', out);
}

/* The section of one thing; FROM is its struct. */
static void
print_titled(FILE *out, const struct conf *conf, const struct conf_key *keys, unsigned n,
    const char *title, const void *from)
{
	unsigned i;

	fprintf(out, "%s ", keys->section);
	print_quoted(out, title);
	fputs(" {\n", out);
	for (i = 0; i < n; i++)
		print_key(out, conf, &keys[i], from);
	fputs("}\n", out);
}

static void
print_all_titled(FILE *out, const struct conf *conf, const struct conf_key *keys, unsigned n)
{
	unsigned i, printed = 0;

	if (strcmp(keys->section, "responder") == 0)
		for (i = 0; i < conf->n_responders; i++, printed++)
			print_titled(out, conf, keys, n, conf->responders[i].subject,
			    &conf->responders[i]);
	else if (strcmp(keys->section, "channel") == 0)
		for (i = 0; i < conf->n_channels; i++, printed++)
			print_titled(out, conf, keys, n, conf->channels[i].name,
			    &conf->channels[i]);
	else
		for (i = 0; i < conf->n_routes; i++, printed++)
			print_titled(out, conf, keys, n, conf->routes[i].name, &conf->routes[i]);
	if (printed == 0)
		fprintf(out, "# no %s\n", keys->section);
}

/* Without the key that makes it, there is no such section. */
static bool
is_absent(const struct conf *conf, const struct conf_key *keys, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (keys[i].required != NULL &&
		    *(char *const *)field_of(&keys[i], conf) == NULL)
			return true;
	return false;
}

static void
print_section(FILE *out, const struct conf *conf, const struct conf_key *keys, unsigned n)
{
	const char *section = keys->section;
	unsigned i;

	if (is_absent(conf, keys, n)) {
		if (keys->kind != CONF_KIND_TOKEN_FILE)
			fprintf(out, "# no %s\n", section);
		else
			fputs(conf->token == NULL ? "# no auth: open\n" :
			    "# auth: the token is from LIMINAL_AUTH_TOKEN\n", out);
		return;
	}
	if (section != NULL)
		fprintf(out, "%s {\n", section);
	for (i = 0; i < n; i++)
		print_key(out, conf, &keys[i], conf);
	if (section != NULL)
		fputs("}\n", out);
}

void
conf_print(const struct conf *conf, FILE *out)
{
	const struct conf_key *key;
	unsigned i, n, first;

	for (i = 0; i < conf_n_keys; i += n) {
		key = &conf_keys[i];
		n = conf_section_keys(key->section, &first);
		if (conf_section_kind(key->section) == CONF_SECTION_TITLED)
			print_all_titled(out, conf, key, n);
		else
			print_section(out, conf, key, n);
	}
}
