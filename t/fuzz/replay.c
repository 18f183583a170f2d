/*
 * replay: feeds files to a fuzz target without libFuzzer, so that the corpora are
 * part of every check, under any compiler. Arguments are files and directories of
 * files. Each input has an allocation of exactly its size.
 */
#include <dirent.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t fed;

static void
feed_file(const char *path, size_t size)
{
	uint8_t *data = malloc(size > 0 ? size : 1);
	FILE *in = fopen(path, "r");

	if (data == NULL || in == NULL || fread(data, 1, size, in) != size)
		err(1, "%s", path);
	fclose(in);
	/* On a crash the last line names the input. */
	fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	fed++;
}

static void
feed(const char *path)
{
	struct dirent *entry;
	char name[4096];
	struct stat st;
	DIR *dir;

	if (stat(path, &st) != 0)
		err(1, "%s", path);
	if (!S_ISDIR(st.st_mode)) {
		feed_file(path, (size_t)st.st_size);
		return;
	}
	if ((dir = opendir(path)) == NULL)
		err(1, "%s", path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= (int)sizeof(name))
			errx(1, "%s: the path is too long", path);
		feed(name);
	}
	closedir(dir);
}

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		feed(argv[i]);
	fprintf(stderr, "\rreplayed %zu inputs\n", fed);
	return fed > 0 ? 0 : 1;
}
