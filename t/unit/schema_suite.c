/*
 * schema_suite: the public tests of JSON Schema draft 2020-12 (vectors/json-schema), every file of them.
 *
 * What is left out stands in a table below, with the reason; a test that is left out and passes all the
 * same fails, so that the table stays true.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "form/schema.h"

#define MAX_DOCUMENTS	64
#define SERVED_AT	"http://localhost:1234/"

static const struct { const char *file, *group, *why; } left_out[] = {
	{ "defs.json", "validate definition against metaschema",
	    "refers to the meta-schema, which is not among the documents and would have to be fetched" },
};

static struct schema_document documents[MAX_DOCUMENTS];
static size_t n_documents, n_tests;

static void
vector_path(char *out, size_t size, const char *dir, const char *name)
{
	const char *root = getenv("LIMINAL_SRCDIR");

	cr_assert(lt(int, snprintf(out, size, "%s/t/vectors/json-schema/%s%s", root == NULL ? "." : root,
	    dir, name), (int)size));
}

static json_t *
load(const char *dir, const char *name)
{
	json_error_t error;
	char path[4096];
	json_t *json;

	vector_path(path, sizeof(path), dir, name);
	json = json_load_file(path, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	cr_assert(json != NULL, "%s: line %d: %s", path, error.line, error.text);
	return json;
}

/* Call EACH for every file below DIR, which is "" or ends in "/". */
static void
walk(const char *top, const char *dir, void (*each)(const char *top, const char *name))
{
	struct dirent **list;
	char path[4096], name[1024];
	int n;

	vector_path(path, sizeof(path), top, dir);
	n = scandir(path, &list, NULL, alphasort);
	cr_assert(n > 0, "%s: no files", path);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s%s%s", dir, list[i]->d_name,
		    list[i]->d_type == DT_DIR ? "/" : "");
		if (list[i]->d_name[0] != '.' && list[i]->d_type == DT_DIR)
			walk(top, name, each);
		else if (list[i]->d_name[0] != '.')
			each(top, name);
		free(list[i]);
	}
	free(list);
}

static void
add_document(const char *top, const char *name)
{
	char uri[2048];

	cr_assert(n_documents < MAX_DOCUMENTS);
	snprintf(uri, sizeof(uri), SERVED_AT "%s", name);
	documents[n_documents].uri = strdup(uri);
	documents[n_documents++].json = load(top, name);
}

static void
forget_documents(void)
{
	while (n_documents > 0) {
		json_decref(documents[--n_documents].json);
		free((char *)(uintptr_t)documents[n_documents].uri);
	}
}

static const char *
reason_to_leave_out(const char *file, const char *group)
{
	for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
		if (strcmp(left_out[i].file, file) == 0 && strcmp(left_out[i].group, group) == 0)
			return left_out[i].why;
	return NULL;
}

/* As a payload would be: through its text. */
static json_t *
read_again(json_t *value)
{
	char *text = json_dumps(value, JSON_ENCODE_ANY);
	struct err err = { 0, 0, "" };
	json_t *again = schema_parse(text, strlen(text), &err);

	cr_assert(again != NULL, "%s: %s", text, err.text);
	free(text);
	return again;
}

static bool
is_judged_right(const struct schema *schema, json_t *test, char *why, size_t size)
{
	json_t *value = read_again(json_object_get(test, "data"));
	bool expected = json_is_true(json_object_get(test, "valid"));
	struct err err = { 0, 0, "" };
	int rc = schema_validate(schema, value, &err);

	json_decref(value);
	n_tests++;
	snprintf(why, size, "%s: %s", json_string_value(json_object_get(test, "description")),
	    rc == 0 ? "taken" : err.text);
	return (rc == 0) == expected && (rc == 0 || (rc == ERR_INVALID && err.text[0] != '\0'));
}

static bool
passes(json_t *group, char *why, size_t size)
{
	char *text = json_dumps(json_object_get(group, "schema"), JSON_ENCODE_ANY);
	struct err err = { 0, 0, "" };
	struct schema *schema;
	json_t *test;
	bool good;
	size_t i;

	good = schema_compile(&schema, text, strlen(text), documents, n_documents, &err) == 0;
	snprintf(why, size, "it does not compile: %s", err.text);
	free(text);
	if (good)
		json_array_foreach(json_object_get(group, "tests"), i, test)
			if (!(good = is_judged_right(schema, test, why, size)))
				break;
	schema_free(schema);
	return good;
}

static void
run_file(const char *top, const char *file)
{
	json_t *groups = load(top, file), *group;
	const char *name, *reason;
	char why[1024];
	bool good;
	size_t i;

	json_array_foreach(groups, i, group) {
		name = json_string_value(json_object_get(group, "description"));
		reason = reason_to_leave_out(file, name);
		good = passes(group, why, sizeof(why));
		cr_expect(good == (reason == NULL), "%s: %s: %s", file, name,
		    good ? "passes, but is left out" : why);
	}
	json_decref(groups);
}

Test(schema_suite, mandatory_tests)
{
	walk("remotes/", "", add_document);
	walk("draft2020-12/", "", run_file);
	forget_documents();
	cr_assert(lt(sz, 1000, n_tests), "only %zu tests", n_tests);
}
