/*
 * conf_value: from the text of a setting to the field of struct conf, checked. The table
 * (conf_key) says what a key takes; each message says what would have been right.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "form/conf_parts.h"
#include "form/frame.h"

struct value {
	struct conf_reading *r;
	const struct conf_key *key;
	const struct conf_setting *setting;
	const char *title;	/* of the section, or NULL */
	struct conf *conf;
	void *field;
};

/* Say what is wrong with value I, after the name of what has it. */
static void __attribute__((format(printf, 3, 4)))
value_error(const struct value *v, unsigned i, const char *fmt, ...)
{
	char text[512], name[256];
	const char *label = v->setting->label;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (v->title != NULL) {
		snprintf(name, sizeof name, "%s \"%s\": %s", v->key->section, v->title,
		    v->key->name);
		label = name;
	} else if (label == NULL)
		label = conf_key_dotted(v->key, name, sizeof name);
	conf_error_add(v->r, v->setting->origin,
	    i < v->setting->n ? v->setting->lines[i] : v->setting->line, "%s%s: %s",
	    v->setting->origin == CONF_FROM_OVERRIDE ? "-o " : "", label, text);
}

char *
conf_path_resolve(const struct conf_reading *r, enum conf_origin origin, const char *path)
{
	char *cwd = NULL, *result = NULL;
	const char *dir = r->dir;

	if (*path == '/')
		return strdup(path);
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	if (origin != CONF_FROM_FILE || dir == NULL) {
		cwd = getcwd(NULL, 0);
		dir = cwd;
	}
	if (dir != NULL && asprintf(&result, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, path) < 0)
		result = NULL;
	free(cwd);
	return result;
}

static void
store_string(const struct value *v, char *string)
{
	if (string == NULL)
		v->r->nomem = true;
	*(char **)v->field = string;
}

/* A checked address; the path of a Unix socket made absolute. NULL when it is wrong. */
static char *
take_address(const struct value *v, unsigned i)
{
	const char *text = v->setting->values[i], *wrong = conf_address_check(text);
	char *path, *result = NULL;

	if (wrong != NULL) {
		value_error(v, i, "\"%s\": %s", text, wrong);
		return NULL;
	}
	if (strncmp(text, "unix:", 5) != 0) {
		if ((result = strdup(text)) == NULL)
			v->r->nomem = true;
		return result;
	}
	path = conf_path_resolve(v->r, v->setting->origin, text + 5);
	if (path == NULL || asprintf(&result, "unix:%s", path) < 0) {
		v->r->nomem = true;
		result = NULL;
	} else if ((wrong = conf_address_check(result)) != NULL) {
		value_error(v, i, "\"%s\": %s", result, wrong);
		free(result);
		result = NULL;
	}
	free(path);
	return result;
}

static void
take_addresses(const struct value *v)
{
	struct conf *conf = v->conf;
	char *address;
	unsigned i;

	if (v->setting->n == 0) {
		value_error(v, 0, "at least one address is needed");
		return;
	}
	conf->listen = calloc(v->setting->n, sizeof *conf->listen);
	if (conf->listen == NULL) {
		v->r->nomem = true;
		return;
	}
	for (i = 0; i < v->setting->n; i++)
		if ((address = take_address(v, i)) != NULL)
			conf->listen[conf->n_listen++] = address;
}

static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

/* A path made absolute, or NULL when it cannot be one. */
static char *
take_resolved(const struct value *v, const char *text)
{
	char *path = NULL;

	if (*text == '\0')
		value_error(v, 0, "the path is empty");
	else if (!is_plain(text))
		value_error(v, 0, "\"%s\": the path has control characters", text);
	else if ((path = conf_path_resolve(v->r, v->setting->origin, text)) == NULL)
		v->r->nomem = true;
	return path;
}

/* The path of a regular file that we may use as MODE (access(2)) says, or NULL. */
static char *
take_file(const struct value *v, const char *text, int mode)
{
	char *path = take_resolved(v, text);
	struct stat st;

	if (path == NULL)
		return NULL;
	if (stat(path, &st) < 0)
		value_error(v, 0, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		value_error(v, 0, "%s: not a regular file", path);
	else if (access(path, mode) < 0)
		value_error(v, 0, "%s: %s%s", path, strerror(errno),
		    mode == X_OK && errno == EACCES ? " (it is to be executed)" : "");
	else
		return path;
	free(path);
	return NULL;
}

static void
take_path(const struct value *v, const char *text)
{
	*(char **)v->field = take_resolved(v, text);
}

static void
take_module(const struct value *v, const char *text)
{
	*(char **)v->field = take_file(v, text, R_OK);
}

/* The values from I on. */
static void
take_texts(const struct value *v, unsigned i)
{
	for (; i < v->setting->n; i++)
		if (conf_list_add(v->field, v->setting->values[i]) < 0)
			v->r->nomem = true;
}

static void
take_program(const struct value *v)
{
	char *path;

	if (v->setting->n == 0) {
		if (!v->setting->broken)
			value_error(v, 0, "at least the program is needed");
		return;
	}
	path = take_file(v, v->setting->values[0], X_OK);
	if (path == NULL)
		return;
	if (conf_list_add(v->field, path) < 0)
		v->r->nomem = true;
	else
		take_texts(v, 1);
	free(path);
}

static void
take_name(const struct value *v, const char *text)
{
	if (*text == '\0' || !is_plain(text) || strpbrk(text, " :/") != NULL)
		value_error(v, 0, "\"%s\" is not the name of a user", text);
	else
		store_string(v, strdup(text));
}

static bool
is_in_range(const struct value *v, uint64_t n)
{
	return n >= (uint64_t)v->key->min && n <= (uint64_t)v->key->max;
}

static void
take_duration(const struct value *v, const char *text)
{
	char min[32], max[32];
	int64_t ns;

	if (conf_parse_duration(text, &ns) < 0)
		value_error(v, 0, "\"%s\" is not a duration such as \"250ms\", \"5s\", \"10m\", "
		    "\"2h\" or \"7d\"", text);
	else if (!is_in_range(v, (uint64_t)ns))
		value_error(v, 0, "\"%s\" is out of range (%s to %s)", text,
		    conf_format_duration(v->key->min, min, sizeof min),
		    conf_format_duration(v->key->max, max, sizeof max));
	else
		*(int64_t *)v->field = ns;
}

static void
take_size(const struct value *v, const char *text)
{
	char min[32], max[32];
	uint64_t bytes;

	if (conf_parse_size(text, &bytes) < 0)
		value_error(v, 0, "\"%s\" is not a size such as \"64K\", \"16M\" or \"1G\"", text);
	else if (!is_in_range(v, bytes))
		value_error(v, 0, "\"%s\" is out of range (%s to %s)", text,
		    conf_format_size((uint64_t)v->key->min, min, sizeof min),
		    conf_format_size((uint64_t)v->key->max, max, sizeof max));
	else if (v->key->kind == CONF_KIND_SIZE32)
		*(uint32_t *)v->field = (uint32_t)bytes;
	else
		*(uint64_t *)v->field = bytes;
}

static void
take_count(const struct value *v, const char *text)
{
	const char *end;
	uint64_t n;

	if (conf_parse_number(text, &n, &end) < 0 || *end != '\0' || !is_in_range(v, n))
		value_error(v, 0, "\"%s\" is not a number from %lld to %lld", text,
		    (long long)v->key->min, (long long)v->key->max);
	else if (v->key->kind == CONF_KIND_COUNT64)
		*(uint64_t *)v->field = n;
	else
		*(uint32_t *)v->field = (uint32_t)n;
}

static void
take_word(const struct value *v, const char *text)
{
	char choice[256] = "";
	unsigned i;

	for (i = 0; v->key->words[i] != NULL; i++) {
		if (strcmp(v->key->words[i], text) == 0) {
			*(unsigned *)v->field = i;	/* an enum */
			return;
		}
		snprintf(choice + strlen(choice), sizeof choice - strlen(choice), "%s\"%s\"",
		    i == 0 ? "" : v->key->words[i + 1] == NULL ? " or " : ", ",
		    v->key->words[i]);
	}
	value_error(v, 0, "\"%s\" is not %s%s", text, choice, v->key->kind ==
	    CONF_KIND_ROUTER ? ", and not the path of a shared object (it has a '/')" : "");
}

static void
take_router(const struct value *v, const char *text)
{
	if (strchr(text, '/') == NULL) {
		take_word(v, text);
		return;
	}
	v->conf->router = CONF_ROUTER_MODULE;
	v->conf->router_module = take_file(v, text, R_OK);
}

static void
take_bool(const struct value *v, const char *text)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "on") == 0)
		*(bool *)v->field = true;
	else if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0 ||
	    strcmp(text, "off") == 0)
		*(bool *)v->field = false;
	else
		value_error(v, 0, "\"%s\" is not true or false", text);
}

/* Channels are there before routes are looked at. */
static void
take_channel(const struct value *v, const char *text)
{
	const struct conf_channel *channel = conf_channel_find(v->conf, text, strlen(text));

	if (channel == NULL)
		value_error(v, 0, "there is no channel \"%s\"", text);
	else
		*(unsigned *)v->field = (unsigned)(channel - v->conf->channels);
}

static void
take_text(const struct value *v, const char *text)
{
	switch (v->key->kind) {
	case CONF_KIND_ADDRESSES:
	case CONF_KIND_TEXTS:
	case CONF_KIND_PROGRAM:
		break;
	case CONF_KIND_ADDRESS:
		if (*text != '\0')	/* "" is none */
			*(char **)v->field = take_address(v, 0);
		break;
	case CONF_KIND_PATH:
		take_path(v, text);
		break;
	case CONF_KIND_MODULE:
	case CONF_KIND_SCHEMA:
		take_module(v, text);
		break;
	case CONF_KIND_NAME:
		take_name(v, text);
		break;
	case CONF_KIND_DURATION:
		take_duration(v, text);
		break;
	case CONF_KIND_SIZE32:
	case CONF_KIND_SIZE64:
		take_size(v, text);
		break;
	case CONF_KIND_COUNT:
	case CONF_KIND_COUNT64:
		take_count(v, text);
		break;
	case CONF_KIND_CHANNEL:
		take_channel(v, text);
		break;
	case CONF_KIND_PREDICATE:	/* conf_channel compiles it */
		store_string(v, strdup(text));
		break;
	case CONF_KIND_WORD:
		take_word(v, text);
		break;
	case CONF_KIND_ROUTER:
		take_router(v, text);
		break;
	case CONF_KIND_BOOL:
		take_bool(v, text);
		break;
	case CONF_KIND_TOKEN_FILE:
		conf_token_read(v->r, v->setting, v->conf);
		break;
	}
}

static void
take_list(const struct value *v)
{
	if (v->key->kind == CONF_KIND_ADDRESSES)
		take_addresses(v);
	else if (v->key->kind == CONF_KIND_PROGRAM)
		take_program(v);
	else
		take_texts(v, 0);
}

/* Put SETTING, or the default, into the field of KEY in INTO. */
static void
apply(struct conf_reading *r, const struct conf_key *key, struct conf_setting *setting,
    const char *title, struct conf *conf, void *into)
{
	struct value v = { r, key, setting, title, conf, (char *)into + key->offset };
	char name[128];

	if (setting->origin == CONF_FROM_DEFAULT) {
		if (key->initial == NULL)
			return;
		if (conf_setting_add(setting, key->initial, 0) < 0) {
			r->nomem = true;
			return;
		}
	} else if (key->inactive && conf_list_add(&conf->inactive,
	    conf_key_dotted(key, name, sizeof name)) < 0)
		r->nomem = true;
	if (setting->broken && setting->n == 0)
		return;
	if (conf_key_is_list(key))
		take_list(&v);
	else if (setting->n > 0)
		take_text(&v, setting->values[0]);
}

/* What a responder cannot be for: a participant of the daemon's own answers it already. */
static const char *
subject_check(const char *subject)
{
	if (*subject == '\0')
		return "the subject is empty";
	if (strncmp(subject, FRAME_SUBJECT_POOL, strlen(FRAME_SUBJECT_POOL)) == 0)
		return "subjects that begin with " FRAME_SUBJECT_POOL
		    " are those of the worker pools";
	if (strncmp(subject, FRAME_SUBJECT_CONNECTION, strlen(FRAME_SUBJECT_CONNECTION)) == 0)
		return "subjects that begin with " FRAME_SUBJECT_CONNECTION
		    " are those of the connections";
	return NULL;
}

void
conf_value_apply_block(struct conf_reading *r, struct conf_block *block, struct conf *conf,
    void *into)
{
	unsigned first, i, n = conf_section_keys(block->section, &first);

	for (i = first; i < first + n; i++)
		apply(r, &conf_keys[i], conf_setting_at(r, block, (int)i), block->title, conf,
		    into);
}

static void
apply_responder(struct conf_reading *r, struct conf_block *block, struct conf *conf)
{
	struct conf_responder *responder = &conf->responders[conf->n_responders++];
	const char *wrong;

	if (block->title != NULL) {
		if ((wrong = subject_check(block->title)) != NULL)
			conf_error_add(r, CONF_FROM_FILE, block->line, "%s \"%s\": %s",
			    block->section, block->title, wrong);
		if ((responder->subject = strdup(block->title)) == NULL)
			r->nomem = true;
	}
	conf_value_apply_block(r, block, conf, responder);
}

static void
apply_responders(struct conf_reading *r, struct conf *conf)
{
	unsigned i, n = conf_block_count(r, "responder");

	if (n == 0)
		return;
	conf->responders = calloc(n, sizeof *conf->responders);
	if (conf->responders == NULL) {
		r->nomem = true;
		return;
	}
	for (i = 0; i < r->n_blocks; i++)
		if (strcmp(r->blocks[i].section, "responder") == 0)
			apply_responder(r, &r->blocks[i], conf);
}

/* Arguments that nobody would get. */
static void
check_router_args(struct conf_reading *r)
{
	int router = conf_key_find("dispatch", "router");
	int args = conf_key_find("dispatch", "router_args");
	struct value v = { .r = r, .key = &conf_keys[args], .setting = &r->settings[args] };

	if (v.setting->n > 0 && r->settings[router].n > 0 &&
	    strchr(r->settings[router].values[0], '/') == NULL)
		value_error(&v, 0, "the router \"%s\" takes no arguments",
		    r->settings[router].values[0]);
}

void
conf_value_apply(struct conf_reading *r, struct conf *conf)
{
	unsigned i;

	for (i = 0; i < conf_n_keys; i++)
		if (conf_section_kind(conf_keys[i].section) != CONF_SECTION_TITLED)
			apply(r, &conf_keys[i], &r->settings[i], NULL, conf, conf);
	apply_responders(r, conf);
	check_router_args(r);
}
