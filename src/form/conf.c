/*
 * conf: put together what defaults, file, environment and overrides say. Each source replaces
 * the settings of the one before; what is left is checked and becomes the struct conf.
 */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "form/conf_parts.h"

static const struct { const char *variable, *key; } variables[] = {
	{ "LIMINAL_LISTEN", "listen" },
	{ "LIMINAL_HEALTH_LISTEN", "health_listen" },
	{ "LIMINAL_DRAIN_TIMEOUT", "drain_timeout" },
	{ "LIMINAL_RUNTIME_DIR", "runtime_dir" },
	{ "LIMINAL_PERSIST_DIR", "persist_dir" },
	{ "LIMINAL_AUTH_TOKEN", "auth.token_file" },	/* the token itself */
};

/* "a, b" -> two values; "" is one empty value, for which the check has words. */
static int
setting_split(struct conf_setting *setting, const char *text)
{
	char *copy, *rest, *word, *end;
	int rc = 0;

	rest = copy = strdup(text);
	if (copy == NULL)
		return -1;
	while (rc == 0 && (word = strsep(&rest, ",")) != NULL) {
		word += strspn(word, " \t");
		end = word + strlen(word);
		while (end > word && (end[-1] == ' ' || end[-1] == '\t'))
			*--end = '\0';
		rc = conf_setting_add(setting, word, 0);
	}
	free(copy);
	return rc;
}

/* Replace the setting of key INDEX by TEXT, taken as it is. */
static void
setting_replace(struct conf_reading *r, int index, enum conf_origin origin, const char *label,
    const char *text)
{
	struct conf_setting *setting = &r->settings[index];
	int rc;

	conf_setting_reset(setting);
	setting->origin = origin;
	setting->label = label;
	if (conf_key_is_list(&conf_keys[index]))
		rc = setting_split(setting, text);
	else
		rc = conf_setting_add(setting, text, 0);
	if (rc < 0)
		r->nomem = true;
}

static void
read_environment(struct conf_reading *r)
{
	const char *text;
	size_t i;

	for (i = 0; i < sizeof variables / sizeof variables[0]; i++)
		if ((text = getenv(variables[i].variable)) != NULL)
			setting_replace(r, conf_key_find_dotted(variables[i].key),
			    CONF_FROM_ENVIRONMENT, variables[i].variable, text);
}

/* An override that looks like the right side in a file: let libConfuse take it apart. */
static void
override_parse(struct conf_reading *r, int index, const char *key, const char *text)
{
	bool list = conf_key_is_list(&conf_keys[index]) && *text != '{';
	struct conf_setting *setting = &r->settings[index];
	char *assignment;

	conf_setting_reset(setting);
	setting->origin = CONF_FROM_OVERRIDE;
	if (asprintf(&assignment, "%s = %s%s%s", conf_keys[index].name, list ? "{" : "", text,
	    list ? "}" : "") < 0) {
		r->nomem = true;
		return;
	}
	if (conf_setting_parse(r, &conf_keys[index], assignment, 1, setting) < 0 && !r->nomem) {
		conf_error_add(r, CONF_FROM_OVERRIDE, 0, "-o %s: not a value: %s", key, text);
		setting->broken = true;
	}
	free(assignment);
}

/* KEY is no key that can be set. */
static void
override_refuse(struct conf_reading *r, char *key)
{
	static const char *const reasons[] = {
		[CONF_SECTION_UNKNOWN] = "unknown key",
		[CONF_SECTION_PLAIN] = "a section; name one of its keys as SECTION.KEY",
		[CONF_SECTION_TITLED] = "a section with titles can only be set in the file",
	};
	char *dot = strchr(key, '.');
	enum conf_section_kind kind;

	if (dot != NULL)
		*dot = '\0';
	kind = conf_section_kind(key);
	if (dot != NULL) {
		*dot = '.';
		if (kind == CONF_SECTION_PLAIN)
			kind = CONF_SECTION_UNKNOWN;
	}
	conf_error_add(r, CONF_FROM_OVERRIDE, 0, "-o %s: %s", key, reasons[kind]);
}

static void
read_override(struct conf_reading *r, const char *text)
{
	const char *equal = strchr(text, '='), *value;
	char key[128];
	int index, len = equal == NULL ? (int)strlen(text) : (int)(equal - text);

	while (len > 0 && text[len - 1] == ' ')
		len--;
	snprintf(key, sizeof key, "%.*s", len, text);
	if (equal == NULL) {
		conf_error_add(r, CONF_FROM_OVERRIDE, 0, "-o %s: KEY=VALUE is expected", key);
		return;
	}
	index = conf_key_find_dotted(key);
	if (index < 0 || conf_section_kind(conf_keys[index].section) == CONF_SECTION_TITLED) {
		override_refuse(r, key);
		return;
	}
	value = equal + 1 + strspn(equal + 1, " ");
	if (*value == '"' || *value == '\'' || *value == '{')
		override_parse(r, index, key, value);
	else
		setting_replace(r, index, CONF_FROM_OVERRIDE, NULL, value);
}

/* Also says no when there is no file to read. */
static bool
find_file(struct conf_reading *r, const struct conf_source *source)
{
	char *copy, *dir;

	r->file = source->file;
	if (r->file == NULL) {
		if (access(CONF_DEFAULT_FILE, F_OK) < 0 && errno == ENOENT)
			return false;
		r->file = CONF_DEFAULT_FILE;
	}
	copy = strdup(r->file);
	if (copy == NULL) {
		r->nomem = true;
		return false;
	}
	dir = dirname(copy);
	r->dir = realpath(dir, NULL);	/* NULL: the file cannot be there either */
	free(copy);
	return true;
}

/* In BLOCK, or in the settings that an override made without one, the key at INDEX, without
 * which the section is nothing, is not set. */
static void
check_lacking(struct conf_reading *r, const struct conf_block *block, int index)
{
	const struct conf_key *key = &conf_keys[index];
	unsigned first, i, n = conf_section_keys(key->section, &first);
	char name[128];

	if (block != NULL) {
		conf_error_add(r, CONF_FROM_FILE, block->line, "%s%s%s%s%s has no %s (%s)",
		    block->title == NULL ? "section '" : "", key->section,
		    block->title == NULL ? "'" : " \"",
		    block->title == NULL ? "" : block->title, block->title == NULL ? "" : "\"",
		    key->name, key->required);
		return;
	}
	for (i = first; i < first + n; i++)
		if (r->settings[i].origin != CONF_FROM_DEFAULT)
			conf_error_add(r, r->settings[i].origin, 0,
			    "-o %s: there is no section '%s', which needs %s (%s)",
			    conf_key_dotted(&conf_keys[i], name, sizeof name), key->section,
			    key->name, key->required);
}

/* A section says that something is wanted; what that is must not be left out by accident. */
static void
check_required(struct conf_reading *r)
{
	struct conf_block *block;
	unsigned i, j;

	for (i = 0; i < conf_n_keys; i++) {
		if (conf_keys[i].required == NULL)
			continue;
		if (conf_section_kind(conf_keys[i].section) == CONF_SECTION_PLAIN) {
			block = conf_block_find(r, conf_keys[i].section, NULL);
			if (r->settings[i].origin == CONF_FROM_DEFAULT)
				check_lacking(r, block, (int)i);
			continue;
		}
		for (j = 0; j < r->n_blocks; j++) {
			block = &r->blocks[j];
			if (strcmp(block->section, conf_keys[i].section) == 0 &&
			    conf_setting_at(r, block, (int)i)->origin == CONF_FROM_DEFAULT)
				check_lacking(r, block, (int)i);
		}
	}
}

int
conf_load(struct conf *conf, const struct conf_source *source, FILE *errors)
{
	struct conf_reading r = { .file = NULL };
	unsigned i;
	int rc = 0;

	memset(conf, 0, sizeof *conf);
	r.settings = calloc(conf_n_keys, sizeof *r.settings);
	if (r.settings == NULL)
		r.nomem = true;
	else {
		if (find_file(&r, source))
			conf_file_read(&r);
		read_environment(&r);
		for (i = 0; i < source->n_overrides; i++)
			read_override(&r, source->overrides[i]);
		check_required(&r);
		conf_value_apply(&r, conf);
		conf_channel_apply(&r, conf);
	}
	conf_error_print(&r, errors);
	if (r.nomem)
		rc = ERR_NOMEM;
	else if (r.n_errors > 0)
		rc = ERR_INVALID;
	conf_reading_free(&r);
	return rc;
}

void
conf_free(struct conf *conf)
{
	unsigned i;

	for (i = 0; i < conf->n_listen; i++)
		free(conf->listen[i]);
	free(conf->listen);
	free(conf->runtime_dir);
	free(conf->persist_dir);
	free(conf->user);
	free(conf->pid_file);
	free(conf->health_listen);
	if (conf->token != NULL)
		explicit_bzero(conf->token, conf->token_len);
	free(conf->token);
	free(conf->token_file);
	for (i = 0; i < conf->n_responders; i++) {
		free(conf->responders[i].subject);
		conf_list_free(&conf->responders[i].exec);
	}
	free(conf->responders);
	conf_channel_free(conf);
	free(conf->notifier_module);
	conf_list_free(&conf->notifier_args);
	free(conf->router_module);
	conf_list_free(&conf->router_args);
	conf_list_free(&conf->inactive);
	memset(conf, 0, sizeof *conf);
}

void
conf_each_inactive(const struct conf *conf, void (*report)(const char *key))
{
	unsigned i;

	for (i = 0; i < conf->inactive.n; i++)
		report(conf->inactive.texts[i]);
}
