/*
 * An example of a durable consumer: writes each message of a channel into a file of its own, and
 * accepts it when the file is on disk. A file's name is the message's sequence, so a message that
 * comes again after a crash only replaces its file: each has its effect exactly once.
 *
 *	cc -O2 -o consume-spool consume-spool.c -lliminal
 *	consume-spool 127.0.0.1:7677 orders archive /var/spool/archive
 *
 * While the disk is full it defers messages, which then come again later. It ends when the
 * connection does; whoever supervises it starts it again.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <liminal.h>

#define WAIT_MS	10000

static int dir;

/* Under a name of its own first, so that nobody sees half a message. */
static int
write_file(const struct liminal_message *message)
{
	char name[32];
	ssize_t n;
	int fd, r = -1;

	snprintf(name, sizeof(name), "%020" PRIu64, message->sequence);
	if ((fd = openat(dir, ".next", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
		return -1;
	n = write(fd, message->payload, message->len);
	if (n >= 0 && (size_t)n < message->len)
		errno = ENOSPC;
	else if (n >= 0)
		r = fsync(fd);
	close(fd);
	if (r != 0 || renameat(dir, ".next", dir, name) != 0)
		return -1;
	return fsync(dir);
}

int
main(int argc, char **argv)
{
	struct liminal_subscription wanted = { .max_in_flight = 64 };
	const struct liminal_message *message;
	struct liminal *conn;
	uint64_t subscription;
	int r;

	if (argc != 5)
		errx(2, "usage: consume-spool ADDRESS CHANNEL CONSUMER DIRECTORY");
	wanted.channel = argv[2];
	wanted.consumer = argv[3];
	if ((dir = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		err(1, "%s", argv[4]);
	if ((conn = liminal_new()) == NULL ||
	    liminal_open(conn, argv[1], WAIT_MS) != LIMINAL_OK ||
	    liminal_subscribe(conn, &wanted, WAIT_MS, &subscription) != LIMINAL_OK)
		errx(1, "%s", liminal_error_text(conn));
	while ((r = liminal_next_message(conn, -1, &message)) == LIMINAL_OK) {
		if (message->is_error)
			errx(1, "%.*s", (int)message->len, (const char *)message->payload);
		if (write_file(message) == 0) {
			r = liminal_accept(conn, subscription, message->sequence);
		} else if (errno == ENOSPC || errno == EDQUOT) {
			warn("%" PRIu64, message->sequence);
			r = liminal_defer(conn, subscription, message->sequence, strerror(errno));
		} else {
			err(1, "%s", argv[4]);
		}
		if (r != LIMINAL_OK)
			break;
	}
	errx(1, "%s", liminal_error_text(conn));
}
