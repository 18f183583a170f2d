/*
 * conf_value: from the text of a setting to the field of struct conf, checked. The table
 * (conf_key) says what a key takes; each message says what would have been right.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "form/conf_parts.h"

struct value {
	struct conf_reading *r;
	const struct conf_key *key;
	const struct conf_setting *setting;
	void *field;
};

static const struct { const char *unit; int64_t ns; } durations[] = {
	{ "d", INT64_C(86400000000000) }, { "h", INT64_C(3600000000000) },
	{ "m", INT64_C(60000000000) }, { "s", INT64_C(1000000000) }, { "ms", INT64_C(1000000) },
};

static const struct { const char *unit; uint64_t bytes; } sizes[] = {
	{ "G", UINT64_C(1) << 30 }, { "M", UINT64_C(1) << 20 }, { "K", UINT64_C(1) << 10 },
	{ "", 1 },
};

/* Digits only, no sign and no blanks; *END behind them. */
static int
parse_number(const char *text, uint64_t *number, const char **end)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return ERR_INVALID;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return ERR_INVALID;
	*number = n;
	*end = text;
	return 0;
}

int
conf_parse_duration(const char *text, int64_t *ns)
{
	const char *unit;
	uint64_t n;
	size_t i;

	if (parse_number(text, &n, &unit) < 0)
		return ERR_INVALID;
	for (i = 0; i < sizeof durations / sizeof durations[0]; i++)
		if (strcmp(unit, durations[i].unit) == 0)
			return __builtin_mul_overflow(n, durations[i].ns, ns) ? ERR_INVALID : 0;
	return ERR_INVALID;
}

int
conf_parse_size(const char *text, uint64_t *bytes)
{
	const char *unit;
	uint64_t n;
	size_t i;

	if (parse_number(text, &n, &unit) < 0)
		return ERR_INVALID;
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		if (strcmp(unit, sizes[i].unit) == 0)
			return __builtin_mul_overflow(n, sizes[i].bytes, bytes) ? ERR_INVALID : 0;
	return ERR_INVALID;
}

const char *
conf_format_duration(int64_t ns, char *buf, size_t size)
{
	size_t i = 0;

	if (ns == 0)
		i = 3;	/* "0s" rather than "0d" */
	while (ns % durations[i].ns != 0 && i + 1 < sizeof durations / sizeof durations[0])
		i++;
	snprintf(buf, size, "%lld%s", (long long)(ns / durations[i].ns), durations[i].unit);
	return buf;
}

const char *
conf_format_size(uint64_t bytes, char *buf, size_t size)
{
	size_t i = 0;

	while (bytes % sizes[i].bytes != 0 || (bytes == 0 && sizes[i].bytes > 1))
		i++;
	snprintf(buf, size, "%llu%s", (unsigned long long)(bytes / sizes[i].bytes),
	    sizes[i].unit);
	return buf;
}

/* Say what is wrong with value I, after the name of what has it. */
static void __attribute__((format(printf, 3, 4)))
value_error(const struct value *v, unsigned i, const char *fmt, ...)
{
	char text[512], name[128];
	const char *label = v->setting->label;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (label == NULL)
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
take_addresses(const struct value *v, struct conf *conf)
{
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

static void
take_path(const struct value *v, const char *text)
{
	if (*text == '\0')
		value_error(v, 0, "the path is empty");
	else if (!is_plain(text))
		value_error(v, 0, "\"%s\": the path has control characters", text);
	else
		store_string(v, conf_path_resolve(v->r, v->setting->origin, text));
}

static void
take_name(const struct value *v, const char *text)
{
	if (*text == '\0' || !is_plain(text) || strpbrk(text, " :/") != NULL)
		value_error(v, 0, "\"%s\" is not the name of a user", text);
	else
		store_string(v, strdup(text));
}

static void
take_duration(const struct value *v, const char *text)
{
	char min[32], max[32];
	int64_t ns;

	if (conf_parse_duration(text, &ns) < 0)
		value_error(v, 0, "\"%s\" is not a duration such as \"250ms\", \"5s\", \"10m\", "
		    "\"2h\" or \"7d\"", text);
	else if (ns < v->key->min || ns > v->key->max)
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
	else if (bytes < (uint64_t)v->key->min || bytes > (uint64_t)v->key->max)
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

	if (parse_number(text, &n, &end) < 0 || *end != '\0' || n < (uint64_t)v->key->min ||
	    n > (uint64_t)v->key->max)
		value_error(v, 0, "\"%s\" is not a number from %lld to %lld", text,
		    (long long)v->key->min, (long long)v->key->max);
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
	value_error(v, 0, "\"%s\" is not %s%s", text,
	    v->key->kind == CONF_KIND_ROUTER ? "supported by this version: use " : "", choice);
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

static void
take_text(const struct value *v, const char *text, struct conf *conf)
{
	switch (v->key->kind) {
	case CONF_KIND_ADDRESSES:
		break;
	case CONF_KIND_ADDRESS:
		if (*text != '\0')	/* "" is none */
			*(char **)v->field = take_address(v, 0);
		break;
	case CONF_KIND_PATH:
		take_path(v, text);
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
		take_count(v, text);
		break;
	case CONF_KIND_WORD:
	case CONF_KIND_ROUTER:
		take_word(v, text);
		break;
	case CONF_KIND_BOOL:
		take_bool(v, text);
		break;
	case CONF_KIND_TOKEN_FILE:
		conf_token_read(v->r, v->setting, conf);
		break;
	}
}

void
conf_value_apply(struct conf_reading *r, int index, struct conf *conf)
{
	const struct conf_key *key = &conf_keys[index];
	struct conf_setting *setting = &r->settings[index];
	struct value v = { r, key, setting, (char *)conf + key->offset };

	if (setting->origin == CONF_FROM_DEFAULT) {
		if (key->initial == NULL)
			return;
		if (setting->n == 0 && conf_setting_add(setting, key->initial, 0) < 0) {
			r->nomem = true;
			return;
		}
	} else if (key->inactive)
		conf->inactive |= UINT32_C(1) << index;
	if (setting->broken && setting->n == 0)
		return;
	if (key->kind == CONF_KIND_ADDRESSES)
		take_addresses(&v, conf);
	else if (setting->n > 0)
		take_text(&v, setting->values[0], conf);
}
