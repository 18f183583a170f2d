/*
 * notifier: what a connection and the notifier's process say to each other about a publish; what
 * they say about registrations is in state/registrations.h.
 *
 * The body of INBOX_PUBLISH: int64_t deadline, uint32_t length of the channel's name, name,
 * payload. Both sides are processes of one daemon: host byte order, and one monotonic clock.
 */
#ifndef LIMINAL_ROLE_NOTIFIER_H
#define LIMINAL_ROLE_NOTIFIER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"

struct notifier_publish {
	int64_t deadline_ns;		/* not to be called after it */
	struct frame_view channel, payload;
};

/* Append the body to OUT. 0 or ERR_NOMEM. */
int	notifier_publish_pack(const struct notifier_publish *publish, struct buf *out);

/* Views into BODY. 0 or ERR_CORRUPT. */
int	notifier_publish_unpack(const void *body, size_t len, struct notifier_publish *publish);

#endif
