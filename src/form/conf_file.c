/*
 * conf_file: the configuration file. The only file that knows libConfuse, which reads one
 * piece (conf_scan) at a time: every key is declared as text, so that no value can make it
 * stop, and what the text means is left to conf_value.
 *
 * libConfuse's callbacks carry no pointer of ours and its lexer is one per process: hence
 * the static below, set only during conf_setting_parse.
 */
#include <confuse.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "form/conf_parts.h"

#define FILE_MAX	(1024 * 1024)

static struct {
	const struct conf_key *key;	/* NULL = any value is out of place */
	struct conf_setting *setting;
	int line;			/* of the first of the text */
	int bad_line;
	bool failed, nomem;
	char message[256];
} parsing;

/* libConfuse's words, except where they fit a whole file but not a piece. */
static void __attribute__((format(printf, 2, 0)))
on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	if (parsing.failed)
		return;
	parsing.failed = true;
	parsing.bad_line = parsing.line + cfg->line - 1;
	if (strcmp(fmt, "no such option '%s'") == 0)
		vsnprintf(parsing.message, sizeof parsing.message, "unexpected '%s'", ap);
	else
		vsnprintf(parsing.message, sizeof parsing.message, fmt, ap);
	if (strcmp(parsing.message, "premature end of file") == 0)
		snprintf(parsing.message, sizeof parsing.message,
		    "unfinished: a value or a closing brace is missing");
}

static int
on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	*(const char **)result = value;
	if (parsing.key == NULL || strcmp(opt->name, parsing.key->name) != 0) {
		cfg_error(cfg, "unexpected '%s'", opt->name);
		return -1;
	}
	if (conf_setting_add(parsing.setting, value, parsing.line + cfg->line - 1) < 0) {
		parsing.nomem = true;
		return -1;
	}
	return 0;
}

/* The title of a section, made to look like a key for libConfuse. */
static const struct conf_key title_key = { .name = "title", .kind = CONF_KIND_NAME };

/* KEYS, N of them, as libConfuse wants them; to be freed. */
static cfg_opt_t *
options_make(const struct conf_key *keys, unsigned n)
{
	const cfg_opt_t end = CFG_END();
	cfg_opt_t *options = calloc(n + 1, sizeof *options);
	unsigned i;

	for (i = 0; options != NULL && i < n; i++) {
		const cfg_opt_t one = CFG_STR_CB(keys[i].name, NULL, CFGF_NODEFAULT, on_value);
		const cfg_opt_t list = CFG_STR_LIST_CB(keys[i].name, NULL, CFGF_NODEFAULT,
		    on_value);

		options[i] = conf_key_is_list(&keys[i]) ? list : one;
	}
	if (options != NULL)
		options[n] = end;
	return options;
}

/* Have libConfuse read TEXT, where KEYS may stand. KEY NULL: it is stray. */
static void
parse(const struct conf_key *keys, unsigned n, const struct conf_key *key, const char *text,
    int line, struct conf_setting *setting)
{
	cfg_opt_t *options = options_make(keys, n);
	cfg_t *cfg = options == NULL ? NULL : cfg_init(options, CFGF_NONE);

	memset(&parsing, 0, sizeof parsing);
	parsing.key = key;
	parsing.setting = setting;
	parsing.line = line;
	if (cfg == NULL) {
		parsing.nomem = true;
		free(options);
		return;
	}
	cfg_set_error_function(cfg, on_error);
	if (cfg_parse_buf(cfg, text) != CFG_SUCCESS && !parsing.failed && !parsing.nomem) {
		parsing.failed = true;
		parsing.bad_line = line;
		snprintf(parsing.message, sizeof parsing.message, "syntax error");
	}
	cfg_free(cfg);
	free(options);
}

/* TEXT is `name = value`. 0, or -1 with parsing.message or nomem set. */
int
conf_setting_parse(struct conf_reading *r, const struct conf_key *key, const char *text,
    int line, struct conf_setting *setting)
{
	unsigned first, n = conf_section_keys(key->section, &first);

	parse(conf_keys + first, n, key, text, line, setting);
	if (parsing.nomem)
		r->nomem = true;
	if (parsing.nomem || parsing.failed)
		return -1;
	return 0;
}

static void
error_syntax(struct conf_reading *r, const char *where)
{
	if (!r->nomem && !conf_error_is_lexical(r, parsing.bad_line))
		conf_error_add(r, CONF_FROM_FILE, parsing.bad_line, "%s: %s", where,
		    parsing.message);
}

char *
conf_title_read(struct conf_reading *r, const char *text, int line)
{
	struct conf_setting setting = { .n = 0 };
	char *assignment, *title = NULL;

	if (asprintf(&assignment, "%s = %s", title_key.name, text) < 0) {
		r->nomem = true;
		return NULL;
	}
	parse(&title_key, 1, &title_key, assignment, line, &setting);
	if (parsing.nomem)
		r->nomem = true;
	else if (parsing.failed || setting.n != 1)
		error_syntax(r, text);
	else if ((title = strdup(setting.values[0])) == NULL)
		r->nomem = true;
	conf_setting_reset(&setting);
	free(assignment);
	return title;
}

static const struct conf_block *
piece_block(const struct conf_reading *r, const struct conf_piece *piece)
{
	return piece->block < 0 ? NULL : &r->blocks[piece->block];
}

static void
piece_stray(struct conf_reading *r, const struct conf_piece *piece)
{
	const struct conf_block *block = piece_block(r, piece);
	struct conf_setting none = { .n = 0 };
	unsigned first, n = conf_section_keys(block == NULL ? NULL : block->section, &first);

	parse(conf_keys + first, n, NULL, piece->text, piece->line, &none);
	if (parsing.nomem)
		r->nomem = true;
	if (!parsing.failed) {
		parsing.bad_line = piece->line;
		snprintf(parsing.message, sizeof parsing.message, "syntax error");
	}
	error_syntax(r, piece->text);
}

/* Add NEXT to the values that the key has, for += */
static void
setting_append(struct conf_reading *r, struct conf_setting *setting,
    const struct conf_setting *next)
{
	unsigned i;

	for (i = 0; i < next->n; i++)
		if (conf_setting_add(setting, next->values[i], next->lines[i]) < 0)
			r->nomem = true;
}

static void
piece_read(struct conf_reading *r, const struct conf_piece *piece)
{
	const struct conf_block *block = piece_block(r, piece);
	const char *section = block == NULL ? NULL : block->section;
	int index = conf_key_find(section, piece->name);
	struct conf_setting *setting, next = { .origin = CONF_FROM_FILE };

	if (index < 0) {
		conf_error_add(r, CONF_FROM_FILE, piece->line, "unknown key '%s'%s%s%s",
		    piece->name, section != NULL ? " in section '" : "",
		    section != NULL ? section : "", section != NULL ? "'" : "");
		return;
	}
	setting = conf_setting_at(r, block, index);
	next.line = piece->line;
	if (conf_setting_parse(r, &conf_keys[index], piece->text, piece->line, &next) < 0) {
		error_syntax(r, piece->name);
		next.broken = true;
	}
	if (setting->origin == CONF_FROM_DEFAULT) {
		*setting = next;
		return;
	}
	if (piece->append) {
		setting_append(r, setting, &next);
		setting->broken |= next.broken;
	} else
		conf_error_add(r, CONF_FROM_FILE, piece->line,
		    "'%s' is repeated (first in line %d)", piece->name, setting->line);
	conf_setting_reset(&next);
}

/* All of FP, or what is too much of it. 0 or an errno. */
static int
slurp(FILE *fp, size_t max, char **bytes, size_t *len)
{
	size_t size = 0, more, n = 0;
	char *grown;

	*bytes = NULL;
	do {
		more = size < 4096 ? 4096 : size;
		if ((grown = realloc(*bytes, size + more + 1)) == NULL)
			return ENOMEM;
		*bytes = grown;
		size += more;
		n += fread(*bytes + n, 1, size - n, fp);
	} while (n == size && n <= max);
	if (ferror(fp))
		return errno;
	(*bytes)[n] = '\0';
	*len = n;
	return 0;
}

int
conf_slurp(const char *path, size_t max, char **bytes, size_t *len, struct err *err)
{
	FILE *fp = fopen(path, "re");
	int error;

	*bytes = NULL;
	error = fp == NULL ? errno : slurp(fp, max, bytes, len);
	if (fp != NULL)
		fclose(fp);
	if (error == 0 && *len <= max)
		return 0;
	free(*bytes);
	*bytes = NULL;
	if (error == ENOMEM)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (error != 0)
		return err_set(err, ERR_SYSTEM, "%s", strerror(error));
	return err_set(err, ERR_INVALID, "longer than %zu bytes", max);
}

/* The whole file with a NUL at its end, or NULL with the error added. */
static char *
file_slurp(struct conf_reading *r)
{
	struct err err;
	char *text;
	size_t len;

	if (conf_slurp(r->file, FILE_MAX, &text, &len, &err) < 0)
		conf_error_add(r, CONF_FROM_FILE, 0, "%s", err.text);
	else if (memchr(text, '\0', len) != NULL)
		conf_error_add(r, CONF_FROM_FILE, 0, "not a text file (it has NUL bytes)");
	else
		return text;
	free(text);
	return NULL;
}

void
conf_file_read(struct conf_reading *r)
{
	struct conf_pieces pieces = { NULL, 0 };
	char *text = file_slurp(r);
	unsigned i;

	if (text == NULL)
		return;
	conf_scan(r, text, &pieces);
	for (i = 0; i < pieces.n && !r->nomem; i++) {
		if (pieces.v[i].name == NULL)
			piece_stray(r, &pieces.v[i]);
		else
			piece_read(r, &pieces.v[i]);
	}
	conf_scan_free(&pieces);
	free(text);
}
