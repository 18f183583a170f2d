/*
 * clock: the one source of time.
 *
 * int64_t nanoseconds everywhere. The monotonic clock for waiting and ages, the
 * real-time clock only for what people read.
 */
#ifndef LIMINAL_BASE_CLOCK_H
#define LIMINAL_BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_MS	INT64_C(1000000)
#define CLOCK_SECOND	INT64_C(1000000000)

int64_t	clock_now_ns(void);		/* CLOCK_MONOTONIC */
int64_t	clock_realtime_ns(void);	/* CLOCK_REALTIME */

/* Milliseconds for poll(2) until DEADLINE_NS, rounded up; 0 if it has passed, -1
 * for DEADLINE_NS == INT64_MAX (never). */
int	clock_poll_ms(int64_t deadline_ns, int64_t now_ns);

#endif
