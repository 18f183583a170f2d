/* A stand-in until the store process is written: gets ready, and goes when it is asked to. */
#include <sys/socket.h>

#include <poll.h>

#include "role/role.h"

int
store_main(const struct role_context *context, int control)
{
	const struct role_answer ready = { .kind = ROLE_ANSWER_READY };
	struct pollfd fds[2] = {
		{ .fd = control, .events = POLLIN },
		{ .fd = context->master_fd, .events = POLLIN },
	};

	if (send(control, &ready, sizeof(ready), MSG_NOSIGNAL) != (ssize_t)sizeof(ready))
		return ROLE_EXIT_SYSTEM;
	while (poll(fds, 2, -1) == -1)
		continue;
	return ROLE_EXIT_OK;
}
