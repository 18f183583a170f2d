/* clock: see clock.h. */
#include <limits.h>
#include <time.h>

#include "base/clock.h"

static int64_t
clock_read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);	/* cannot fail for these clocks */
	return (int64_t)ts.tv_sec * CLOCK_SECOND + ts.tv_nsec;
}

int64_t
clock_now_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t
clock_realtime_ns(void)
{
	return clock_read_ns(CLOCK_REALTIME);
}

int
clock_poll_ms(int64_t deadline_ns, int64_t now_ns)
{
	int64_t left;

	if (deadline_ns == INT64_MAX)
		return -1;
	if (deadline_ns <= now_ns)
		return 0;
	if (__builtin_sub_overflow(deadline_ns, now_ns, &left))
		return INT_MAX;
	/* Rounded up: waking just before a deadline would spin until it comes. */
	left = left / CLOCK_MS + (left % CLOCK_MS != 0);
	return left > INT_MAX ? INT_MAX : (int)left;
}
