/*
 * An example notifier: accepts only workers whose identity is listed in a file, one a line ("#"
 * begins a comment). The file is read for each registration, so a change needs no reload.
 *
 *	cc -O2 -shared -fPIC -o allowlist.so notifier-allowlist.c
 *
 *	notifier { module = "/usr/local/lib/liminal/allowlist.so"
 *	           args = { "/etc/liminal/workers" } }
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <liminal/notifier.h>

static const char *path;

static int
allowlist_init(int argc, const char *const *argv)
{
	FILE *file;

	if (argc != 1) {
		fprintf(stderr, "allowlist: notifier args must be the file of identities\n");
		return 1;
	}
	/* Better now, with a person watching, than with the first worker. */
	if ((file = fopen(argv[0], "re")) == NULL) {
		fprintf(stderr, "allowlist: %s: %s\n", argv[0], strerror(errno));
		return 1;
	}
	fclose(file);
	path = argv[0];
	return 0;
}

static int
allowlist_worker_registered(uint64_t conn_id, const struct liminal_registration *registration,
    char *reason, size_t reason_size)
{
	char *line = NULL, *end;
	size_t size = 0;
	int is_listed = 0;
	FILE *file;

	(void)conn_id;
	if ((file = fopen(path, "re")) == NULL) {
		snprintf(reason, reason_size, "the list of workers cannot be read: %s",
		    strerror(errno));
		return 1;
	}
	/* Whole lines: the rest of a long one must not pass for another identity. */
	while (!is_listed && getline(&line, &size, file) != -1) {
		end = line + strcspn(line, "#\r\n");
		while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*end = '\0';
		is_listed = line[0] != '\0' && strcmp(line, registration->identity) == 0;
	}
	free(line);
	fclose(file);
	if (is_listed)
		return 0;
	snprintf(reason, reason_size, "worker '%s' is not on the list",
	    registration->identity);
	return 1;
}

const struct liminal_notifier liminal_notifier = {
	.version = LIMINAL_NOTIFIER_VERSION,
	.init = allowlist_init,
	.worker_registered = allowlist_worker_registered,
};
