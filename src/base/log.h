/*
 * log: the only place that writes to standard error.
 *
 * One line per call, `LEVEL event key=value ...`, written with a single
 * write(2), so that lines of different processes never mix. Nothing buffered
 * survives a fork. What came from a peer must pass through log_vis() first.
 * A message for an operator names the setting to change.
 */
#ifndef LIMINAL_BASE_LOG_H
#define LIMINAL_BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What is logged from now on; inherited by forked processes. */
void	log_set_level(enum log_level level);

/* Prefix of every later line of this process, e.g. "keeper" or "17". At most 31
 * bytes are kept. */
void	log_set_name(const char *name);

/* log_error and log_warn append ": strerror(errno)"; the x forms do not. errno
 * is preserved by all of them. */
void	log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_errorx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line without level or prefix at every log level ("ready: ..."). */
void	log_plain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Our own bug: logs and aborts. */
void	log_panic(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/*
 * Rate limit for repeated lines: returns 1 if the caller should log now, 0 if
 * not; at most BURST lines per INTERVAL_NS. *SUPPRESSED gets the number of calls
 * that were held back since the last one that was allowed.
 */
struct log_limit {
	int64_t		window_ns;
	unsigned	count, held;
};
int	log_limit_allows(struct log_limit *limit, unsigned burst, int64_t interval_ns,
	    unsigned *suppressed);

/* Copy LEN peer bytes into OUT (SIZE bytes, always terminated), escaped with
 * vis(3) and cut with "..." when too long. Returns OUT. */
char	*log_vis(char *out, size_t size, const void *bytes, size_t len);

#endif
