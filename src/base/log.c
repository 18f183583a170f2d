/*
 * log: see log.h.
 *
 * A reader of standard error that has stopped reading must not stop the daemon: a line
 * that finds no room is dropped and counted, and the next one that gets through says so.
 */
#define LIBBSD_OPENBSD_VIS	/* the header wants to know which strnvis(); none is used */
#include <bsd/vis.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* Below PIPE_BUF: the kernel writes such a line into a pipe whole or not at all. */
#define LOG_LINE_SIZE	2048

/* How long lines that must not be lost wait for room. */
#define LOG_PATIENCE_MS	1000

static enum log_level log_level = LOG_LEVEL_INFO;
static char log_name[32];
static unsigned log_dropped;

static const char *const log_words[] = { "error", "warn", "info", "debug" };

void
log_set_level(enum log_level level)
{
	log_level = level;
}

void
log_set_name(const char *name)
{
	snprintf(log_name, sizeof(log_name), "%s", name);
}

/* Make one line of it, whatever the arguments contained. */
static size_t
log_finish_line(char *line, size_t len)
{
	if (len > LOG_LINE_SIZE - 2)
		len = LOG_LINE_SIZE - 2;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	return len;
}

static void
log_write(const char *line, size_t len, int patience_ms)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t n;

	if (poll(&p, 1, patience_ms) != 1 || (p.revents & POLLOUT) == 0) {
		log_dropped++;
		return;
	}
	do
		n = write(STDERR_FILENO, line, len);
	while (n == -1 && errno == EINTR);
}

static size_t
log_append(char *line, size_t len, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static size_t
log_append(char *line, size_t len, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (len >= LOG_LINE_SIZE - 1)
		return len;
	va_start(ap, fmt);
	n = vsnprintf(line + len, LOG_LINE_SIZE - len, fmt, ap);
	va_end(ap);
	return n < 0 ? len : len + (size_t)n;
}

static void
log_line(const char *word, int errnum, int patience_ms, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

static void
log_line(const char *word, int errnum, int patience_ms, const char *fmt, va_list ap)
{
	char line[LOG_LINE_SIZE];
	size_t len = 0;
	int n;

	if (word != NULL && log_name[0] != '\0')
		len = log_append(line, len, "%s: ", log_name);
	if (word != NULL)
		len = log_append(line, len, "%s ", word);
	n = vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	if (n > 0)
		len += (size_t)n;
	if (errnum != 0)
		len = log_append(line, len, ": %s", strerror(errnum));
	if (word != NULL && log_dropped != 0) {
		len = log_append(line, len, " lines_dropped_before=%u", log_dropped);
		log_dropped = 0;
	}
	log_write(line, log_finish_line(line, len), patience_ms);
}

#define LOG_DEFINE(name, level, with_errno)				\
void									\
name(const char *fmt, ...)						\
{									\
	int saved = errno;						\
	va_list ap;							\
									\
	if ((level) > log_level)					\
		return;							\
	va_start(ap, fmt);						\
	log_line(log_words[level], (with_errno) ? saved : 0, 0, fmt, ap);	\
	va_end(ap);							\
	errno = saved;							\
}

LOG_DEFINE(log_error, LOG_LEVEL_ERROR, 1)
LOG_DEFINE(log_errorx, LOG_LEVEL_ERROR, 0)
LOG_DEFINE(log_warn, LOG_LEVEL_WARN, 1)
LOG_DEFINE(log_warnx, LOG_LEVEL_WARN, 0)
LOG_DEFINE(log_info, LOG_LEVEL_INFO, 0)
LOG_DEFINE(log_debug, LOG_LEVEL_DEBUG, 0)

void
log_plain(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	log_line(NULL, 0, LOG_PATIENCE_MS, fmt, ap);
	va_end(ap);
	errno = saved;
}

void
log_panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line("panic", 0, LOG_PATIENCE_MS, fmt, ap);
	va_end(ap);
	abort();
}

int
log_limit_allows(struct log_limit *limit, unsigned burst, int64_t interval_ns,
    unsigned *suppressed)
{
	int64_t now = clock_now_ns();

	*suppressed = 0;
	if (limit->window_ns == 0 || now - limit->window_ns >= interval_ns) {
		limit->window_ns = now;
		limit->count = 0;
	}
	if (limit->count >= burst) {
		limit->held++;
		return 0;
	}
	limit->count++;
	*suppressed = limit->held;
	limit->held = 0;
	return 1;
}

char *
log_vis(char *out, size_t size, const void *bytes, size_t len)
{
	static const char cut[] = "...";
	const unsigned char *p = bytes;
	char one[8];
	size_t used = 0, fits = 0;

	if (size == 0)
		return out;
	for (size_t i = 0; i < len; i++) {
		size_t n;

		vis(one, p[i], VIS_CSTYLE | VIS_TAB | VIS_NL | VIS_DQ | VIS_NOLOCALE,
		    i + 1 < len ? p[i + 1] : 0);
		n = strlen(one);
		if (used + n >= size) {
			/* FITS is the last length that leaves room for the mark. */
			snprintf(out + fits, size - fits, "%s", cut);
			return out;
		}
		memcpy(out + used, one, n);
		used += n;
		if (used + sizeof(cut) <= size)
			fits = used;
	}
	out[used] = '\0';
	return out;
}
