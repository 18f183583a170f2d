/*
 * conf: put together what defaults, file, environment and overrides say. Each source replaces
 * the settings of the one before; what is left is checked and becomes the struct conf.
 *
 * The copy of the token among the settings is wiped before it is freed.
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

static void
setting_wipe(struct conf_setting *setting)
{
	unsigned i;

	for (i = 0; i < setting->n; i++)
		explicit_bzero(setting->values[i], strlen(setting->values[i]));
	conf_setting_reset(setting);
}

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

	setting_wipe(setting);
	setting->origin = origin;
	setting->label = label;
	if (conf_keys[index].kind == CONF_KIND_ADDRESSES)
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
	bool list = conf_keys[index].kind == CONF_KIND_ADDRESSES && *text != '{';
	struct conf_setting *setting = &r->settings[index];
	char *assignment;

	setting_wipe(setting);
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
	if (index < 0) {
		conf_error_add(r, CONF_FROM_OVERRIDE, 0, conf_section_kind(key) ==
		    CONF_SECTION_LATER ? "-o %s: not supported by this version" :
		    conf_section_kind(key) == CONF_SECTION_KNOWN ?
		    "-o %s: a section; name one of its keys as SECTION.KEY" :
		    "-o %s: unknown key", key);
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

/* A section auth says that clients are to be asked; do not be open by accident. */
static void
check_auth(struct conf_reading *r)
{
	if (r->auth_line != 0 &&
	    r->settings[conf_key_find("auth", "token_file")].origin == CONF_FROM_DEFAULT)
		conf_error_add(r, CONF_FROM_FILE, r->auth_line,
		    "section 'auth' has no token_file (without the section everybody may connect)");
}

int
conf_load(struct conf *conf, const struct conf_source *source, FILE *errors)
{
	struct conf_reading r = { .file = NULL };
	unsigned i;
	int rc = 0;

	memset(conf, 0, sizeof *conf);
	if (find_file(&r, source))
		conf_file_read(&r);
	read_environment(&r);
	for (i = 0; i < source->n_overrides; i++)
		read_override(&r, source->overrides[i]);
	check_auth(&r);
	for (i = 0; i < conf_n_keys; i++)
		conf_value_apply(&r, (int)i, conf);
	conf_error_print(&r, errors);
	if (r.nomem)
		rc = ERR_NOMEM;
	else if (r.n_errors > 0)
		rc = ERR_INVALID;
	for (i = 0; i < conf_n_keys; i++)
		setting_wipe(&r.settings[i]);
	conf_error_free(&r);
	free(r.dir);
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
	memset(conf, 0, sizeof *conf);
}

void
conf_each_inactive(const struct conf *conf, void (*report)(const char *key))
{
	char name[128];
	unsigned i;

	for (i = 0; i < conf_n_keys; i++)
		if ((conf->inactive & (UINT32_C(1) << i)) != 0)
			report(conf_key_dotted(&conf_keys[i], name, sizeof name));
}
