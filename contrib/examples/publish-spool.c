/*
 * An example publisher: publishes each file of a directory as a message, and removes it when the
 * daemon has it. A file's name is its idempotency key, so after a crash, of this program or of the
 * daemon, it is just run again: nothing is lost and, within the channel's dedup_window, nothing is
 * published twice.
 *
 *	cc -O2 -o publish-spool publish-spool.c -lliminal
 *	publish-spool 127.0.0.1:7677 orders /var/spool/orders
 *
 * Whoever puts files there writes them under a name that begins with a dot, and renames them.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <liminal.h>

#define WAIT_MS	10000
#define WINDOW	256		/* files under way at a time */

static struct liminal *conn;
static const char *channel;
static int dir;

/* Publishes are numbered one by one, so a ring finds the file of each that is under way. */
static char *under_way[WINDOW];
static unsigned n_failed;

static char *
read_file(const char *name, size_t *len)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char *bytes = NULL;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (bytes = malloc((size_t)st.st_size + 1)) != NULL) {
		if (read(fd, bytes, (size_t)st.st_size) == st.st_size) {
			*len = (size_t)st.st_size;
		} else {
			free(bytes);
			bytes = NULL;
		}
	}
	if (fd >= 0)
		close(fd);
	return bytes;
}

/* Deal with one outcome. */
static void
take_outcome(void)
{
	const struct liminal_ack *ack;
	char *name;

	if (liminal_next_ack(conn, WAIT_MS, &ack) != LIMINAL_OK)
		errx(1, "%s", liminal_error_text(conn));
	name = under_way[ack->publish % WINDOW];
	if (ack->is_error) {
		warnx("%s: %.*s", name, (int)ack->len, ack->text);
		n_failed++;
	} else if (unlinkat(dir, name, 0) != 0) {
		err(1, "%s", name);
	}
	free(name);
	under_way[ack->publish % WINDOW] = NULL;
}

static void
publish(const char *name)
{
	struct liminal_publication message = { .channel = channel, .key = name };
	char *bytes = read_file(name, &message.len);
	uint64_t number;

	if (bytes == NULL) {
		warn("%s", name);
		n_failed++;
		return;
	}
	message.payload = bytes;
	while (liminal_publishes_due(conn) >= WINDOW)
		take_outcome();
	if (liminal_publish_with(conn, &message, &number) != LIMINAL_OK)
		errx(1, "%s: %s", name, liminal_error_text(conn));
	free(bytes);
	if ((under_way[number % WINDOW] = strdup(name)) == NULL)
		err(1, NULL);
}

int
main(int argc, char **argv)
{
	struct dirent *entry;
	DIR *files;

	if (argc != 4)
		errx(2, "usage: publish-spool ADDRESS CHANNEL DIRECTORY");
	channel = argv[2];
	if ((files = opendir(argv[3])) == NULL)
		err(1, "%s", argv[3]);
	dir = dirfd(files);
	if ((conn = liminal_new()) == NULL ||
	    liminal_open(conn, argv[1], WAIT_MS) != LIMINAL_OK)
		errx(1, "%s", liminal_error_text(conn));
	while ((entry = readdir(files)) != NULL)
		if (entry->d_name[0] != '.')
			publish(entry->d_name);
	while (liminal_publishes_due(conn) > 0)
		take_outcome();
	liminal_free(conn);
	closedir(files);
	return n_failed > 0;
}
