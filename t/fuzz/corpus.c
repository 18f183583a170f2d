/*
 * corpus: writes the inputs that fuzzing starts from, one file each.
 *
 *	corpus frame DIR FILE.jsonl...		the bytes of each line's member `hex`,
 *						and the frames of the extensions
 *	corpus typed DIR			the payload forms below
 *	corpus predicate DIR			the conditions below, with a payload
 *	corpus schema DIR FILE.json...		each schema of the tests with its first payload
 */
#include <err.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const extension_frames[] = {
	/* WorkerRegister with capacity */
	"1701000000000000002000000001000000016e0000000171000000000000000001770000000000000004",
	/* Subscribe, durable, from sequence 9 */
	"0501000000070000001c000000016300000000000000050000000261620200000000000000" "09",
	/* Accept "17" */
	"100000000007000000060000000231" "37",
};

static const char *const typed_payloads[] = {
	"opaque",
	"{\"content_type\":\"application/vnd.aion.dispatch.request+json\","
	"\"conversation_id\":\"c\",\"workflow_id\":\"w\",\"ordinal\":3,\"request\":{"
	"\"activity_type\":\"charge\",\"task_queue\":\"q\",\"node\":\"n\",\"node_required\":true,"
	"\"schedule_to_close_timeout_ms\":1000,\"start_to_close_timeout_ms\":500,"
	"\"input\":{\"content_type\":\"text/plain\",\"data\":\"hello\"}}}",
	"{\"content_type\":\"application/vnd.aion.dispatch.request+json\","
	"\"conversation_id\":\"c\",\"request\":{\"activity_type\":\"charge\",\"task_queue\":\"q\","
	"\"input\":{\"content_type\":\"a/b\",\"data\":[0,127,255]}}}",
	"{\"content_type\":\"application/vnd.aion.dispatch.response+json\",\"worker_id\":\"w#1\","
	"\"result\":{\"status\":\"completed\",\"output\":{\"content_type\":\"a/b\",\"data\":[1,2]}}}",
	"{\"content_type\":\"application/vnd.aion.dispatch.response+json\","
	"\"result\":{\"status\":\"failed\",\"error\":{\"message\":\"no\",\"type\":\"T\"}}}",
	"{\"cont\\u0065nt_type\":\"\\u0061\"}",
};

static const char predicate_payload[] = "{\"amount\":1001.5,\"region\":\"eu\",\"customer\":"
    "{\"id\":null,\"first name\":\"A\"},\"qty\":9,\"items\":[{\"sku\":\"x\"},true]}";

static const char *const predicate_texts[] = {
	"amount > 1000 and region == 'eu' and exists(customer.id) and qty in 1..9",
	"not (items.0.sku == \"x\" or items.1 != false) and customer.id == null",
	"customer.'first name' in 'A'..'Z' or qty <= -1.5e3 or qty >= 9007199254740993",
	"region != '\\u00e9\\ud83d\\ude00\\n\\'\\\\' and not not qty < 10",
	"((exists('and')))",
};

static void
write_file(const char *dir, const char *name, const void *bytes, size_t len)
{
	char path[4096], *p;
	FILE *out;
	size_t at;

	at = (size_t)snprintf(path, sizeof(path), "%s/", dir);
	if (at >= sizeof(path) || snprintf(path + at, sizeof(path) - at, "%s", name) >=
	    (int)(sizeof(path) - at))
		errx(1, "%s: the name is too long", name);
	for (p = path + at; *p != '\0'; p++)
		if (*p == '/')
			*p = '+';
	if ((out = fopen(path, "w")) == NULL || fwrite(bytes, 1, len, out) != len ||
	    fclose(out) != 0)
		err(1, "%s", path);
}

static void
write_hex(const char *dir, const char *name, const char *hex)
{
	size_t len = strlen(hex) / 2;
	unsigned char *bytes = malloc(len + 1);
	char pair[3] = "";

	if (bytes == NULL)
		err(1, NULL);
	for (size_t i = 0; i < len; i++) {
		memcpy(pair, hex + 2 * i, 2);
		bytes[i] = (unsigned char)strtoul(pair, NULL, 16);
	}
	write_file(dir, name, bytes, len);
	free(bytes);
}

static void
write_vectors(const char *dir, const char *path)
{
	FILE *in = fopen(path, "r");
	const char *name, *hex;
	json_error_t error;
	char *line = NULL;
	size_t size = 0;
	json_t *value;

	if (in == NULL)
		err(1, "%s", path);
	while (getline(&line, &size, in) > 0) {
		if ((value = json_loads(line, JSON_ALLOW_NUL, &error)) == NULL ||
		    json_unpack(value, "{s:s, s:s}", "name", &name, "hex", &hex) != 0)
			errx(1, "%s: not a vector: %s", path, line);
		write_hex(dir, name, hex);
		json_decref(value);
	}
	free(line);
	fclose(in);
}

static void
write_predicates(const char *dir)
{
	const size_t n = sizeof(predicate_texts) / sizeof(predicate_texts[0]);
	char name[32], bytes[1024];
	int len;

	for (size_t i = 0; i < n; i++) {
		len = snprintf(bytes, sizeof(bytes), "%s%c%s", predicate_texts[i], '\0',
		    predicate_payload);
		snprintf(name, sizeof(name), "condition-%zu", i);
		write_file(dir, name, bytes, (size_t)len);
	}
}

static void
write_schema(const char *dir, const char *name, json_t *group)
{
	json_t *test = json_array_get(json_object_get(group, "tests"), 0);
	char *schema = json_dumps(json_object_get(group, "schema"), JSON_COMPACT | JSON_ENCODE_ANY);
	char *data = json_dumps(json_object_get(test, "data"), JSON_COMPACT | JSON_ENCODE_ANY), *both;
	size_t len;

	if (schema == NULL || data == NULL || (both = malloc(strlen(schema) + strlen(data) + 1)) == NULL)
		errx(1, "%s: no schema with a payload", name);
	len = strlen(schema) + 1;
	memcpy(both, schema, len);
	memcpy(both + len, data, strlen(data));
	write_file(dir, name, both, len + strlen(data));
	free(schema);
	free(data);
	free(both);
}

static void
write_schemas(const char *dir, const char *path)
{
	const char *base = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
	json_error_t error;
	json_t *groups, *group;
	char name[512];
	size_t i;

	if ((groups = json_load_file(path, JSON_ALLOW_NUL, &error)) == NULL)
		errx(1, "%s: %s", path, error.text);
	json_array_foreach(groups, i, group) {
		snprintf(name, sizeof(name), "%s-%zu", base, i);
		write_schema(dir, name, group);
	}
	json_decref(groups);
}

int
main(int argc, char **argv)
{
	char name[32];

	if (argc < 3)
		errx(1, "usage: corpus frame|typed|predicate|schema DIR [FILE...]");
	if (strcmp(argv[1], "schema") == 0) {
		for (int i = 3; i < argc; i++)
			write_schemas(argv[2], argv[i]);
		return 0;
	}
	for (int i = 3; i < argc; i++)
		write_vectors(argv[2], argv[i]);
	if (strcmp(argv[1], "frame") == 0) {
		for (size_t i = 0; i < sizeof(extension_frames) / sizeof(extension_frames[0]); i++) {
			snprintf(name, sizeof(name), "extension-%zu", i);
			write_hex(argv[2], name, extension_frames[i]);
		}
		return 0;
	}
	if (strcmp(argv[1], "predicate") == 0) {
		write_predicates(argv[2]);
		return 0;
	}
	for (size_t i = 0; i < sizeof(typed_payloads) / sizeof(typed_payloads[0]); i++) {
		snprintf(name, sizeof(name), "payload-%zu", i);
		write_file(argv[2], name, typed_payloads[i], strlen(typed_payloads[i]));
	}
	return 0;
}
