/*
 * conf_fixture: what the tests of the configuration share: a directory of their own, without
 * variables of the environment, and files that are loaded from it. Included once by each.
 */
#ifndef LIMINAL_T_UNIT_CONF_FIXTURE_H
#define LIMINAL_T_UNIT_CONF_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "form/conf.h"

#define SECOND	INT64_C(1000000000)

static const char *const variables[] = {
	"LIMINAL_LISTEN", "LIMINAL_HEALTH_LISTEN", "LIMINAL_DRAIN_TIMEOUT", "LIMINAL_RUNTIME_DIR",
	"LIMINAL_PERSIST_DIR", "LIMINAL_AUTH_TOKEN",
};

static char scratch[] = "/tmp/liminal-conf-XXXXXX";

static void
setup(void)
{
	const char *root = getenv("LIMINAL_SRCDIR");
	size_t i;

	for (i = 0; i < sizeof variables / sizeof variables[0]; i++)
		unsetenv(variables[i]);
	unsetenv("LIMINAL_NO_SUCH_VARIABLE");
	if (root != NULL)
		cr_assert(zero(int, chdir(root)));
	cr_assert(ne(ptr, mkdtemp(scratch), NULL));
}

static void
teardown(void)
{
	struct dirent *entry;
	char path[512];
	DIR *dir = opendir(scratch);

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof path, "%s/%s", scratch, entry->d_name);
		unlink(path);
	}
	if (dir != NULL)
		closedir(dir);
	rmdir(scratch);
}

/* eq(str) wants strings that may be written to. */
static void
check_text(const char *got, const char *want)
{
	cr_expect(zero(int, strcmp(got, want)), "got:\n%s\nexpected:\n%s", got, want);
}

static inline int
contains(const char *text, const char *word)
{
	return strstr(text, word) != NULL;
}

/* A file of the test's own; the path is good until the next call. */
static const char *
write_file(const char *name, const char *bytes, size_t len, mode_t mode)
{
	static char path[512];
	FILE *out;

	snprintf(path, sizeof path, "%s/%s", scratch, name);
	unlink(path);
	out = fopen(path, "w");
	cr_assert(ne(ptr, out, NULL));
	cr_assert(eq(sz, fwrite(bytes, 1, len, out), len));
	cr_assert(zero(int, fclose(out)));
	cr_assert(zero(int, chmod(path, mode)));
	return path;
}

/* The result; what was complained about in *ERRORS, to be freed. */
static int
load(struct conf *conf, const char *file, unsigned n, char *const *overrides, char **errors)
{
	struct conf_source source = { file, overrides, n };
	size_t size;
	FILE *out = open_memstream(errors, &size);
	int rc;

	rc = conf_load(conf, &source, out);
	fclose(out);
	return rc;
}

static inline char *
print(const struct conf *conf)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	conf_print(conf, out);
	fclose(out);
	return text;
}

static inline char *
slurp(const char *path)
{
	FILE *in = fopen(path, "r");
	char *text;
	size_t n;

	if (in == NULL)
		return NULL;
	text = calloc(1, 65536);
	n = fread(text, 1, 65535, in);
	fclose(in);
	cr_assert(lt(sz, n, 65535));
	return text;
}

#endif
