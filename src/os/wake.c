/* wake: see wake.h. */
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "os/wake.h"

/* More pokes than this at once are left for the next turn. */

_Static_assert(BOARD_WAKE_NAME_SIZE <= sizeof(((struct board_slot *)0)->wake_name),
    "a wake name fits its record");

int
wake_open(struct wake *wake, struct board *board, uint32_t slot, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sun);
	int saved;

	wake->board = board;
	wake->mine = &board->slots[slot];
	wake->send_fd = -1;
	wake->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (wake->fd == -1)
		return err_sys(err, errno, "wake socket");
	/* An address of the family alone makes the kernel choose a free abstract name. */
	if (bind(wake->fd, (struct sockaddr *)&sun, sizeof(sa_family_t)) == -1 ||
	    getsockname(wake->fd, (struct sockaddr *)&sun, &len) == -1) {
		saved = errno;
		close(wake->fd);
		wake->fd = -1;
		return err_sys(err, saved, "wake socket name");
	}
	if (len != offsetof(struct sockaddr_un, sun_path) + BOARD_WAKE_NAME_SIZE) {
		close(wake->fd);
		wake->fd = -1;
		return err_set(err, ERR_SYSTEM, "wake socket name has an unexpected length");
	}
	memcpy(wake->mine->wake_name, sun.sun_path, BOARD_WAKE_NAME_SIZE);
	atomic_store_explicit(&wake->mine->wake_ready, 1, memory_order_release);
	return 0;
}

void
wake_close(struct wake *wake)
{
	if (wake->fd == -1)
		return;
	atomic_store(&wake->mine->wake_ready, 0);
	close(wake->fd);
	wake->fd = -1;
	if (wake->send_fd != -1)
		close(wake->send_fd);
	wake->send_fd = -1;
}

enum wake_kind
wake_drain(struct wake *wake)
{
	uint8_t byte;

	/* One is what there nearly always is. */
	if (recv(wake->fd, &byte, sizeof(byte), MSG_DONTWAIT) != sizeof(byte))
		return WAKE_NOTHING;
	return byte == WAKE_ANSWER ? WAKE_ANSWER : WAKE_POKE;
}

static ssize_t
wake_send_bytes(const struct wake *wake, const struct sockaddr_un *sun, const void *bytes,
    size_t len)
{
	return sendto(wake->send_fd != -1 ? wake->send_fd : wake->fd, bytes, len,
	    MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)sun,
	    offsetof(struct sockaddr_un, sun_path) + BOARD_WAKE_NAME_SIZE);
}

/* Is it the own buffer that is full? Then go on with a socket whose buffer is not; what lies in the targets'
 * stays there. 1: worth another try. */
static int
wake_renew(struct wake *wake)
{
	struct pollfd mine = { .events = POLLOUT };
	int fd;

	mine.fd = wake->send_fd != -1 ? wake->send_fd : wake->fd;
	if (poll(&mine, 1, 0) != 0)
		return 0;
	if ((fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) == -1)
		return 0;
	if (wake->send_fd != -1)
		close(wake->send_fd);
	wake->send_fd = fd;
	return 1;
}

int
wake_send_to(struct wake *wake, uint32_t slot, uint64_t conn_id, const void *bytes, size_t len)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const struct board_slot *target;

	if (slot >= wake->board->n_slots)
		return ERR_BUSY;
	target = &wake->board->slots[slot];
	if (!atomic_load_explicit(&target->wake_ready, memory_order_acquire))
		return ERR_BUSY;	/* it looks at its inbox after it has opened its socket */
	memcpy(sun.sun_path, target->wake_name, BOARD_WAKE_NAME_SIZE);
	if (atomic_load(&target->conn_id) != conn_id)
		return ERR_BUSY;
	if (wake_send_bytes(wake, &sun, bytes, len) != -1)
		return 0;
	/* Every other failure is an answer: it is gone (ECONNREFUSED) or awake already (EAGAIN). */
	if (errno == EAGAIN && wake_renew(wake) && wake_send_bytes(wake, &sun, bytes, len) != -1)
		return 0;
	return ERR_BUSY;
}

static void
wake_send(struct wake *wake, uint32_t slot, uint64_t conn_id)
{
	const uint8_t poke = WAKE_POKE;

	(void)wake_send_to(wake, slot, conn_id, &poke, sizeof(poke));
}

void
wake_poke(struct wake *wake, uint32_t slot, uint64_t conn_id)
{
	if (slot >= wake->board->n_slots)
		return;
	/* Against the fence of wake_will_sleep(): either this sees that the target sleeps, or the
	 * target's last look at its inbox sees what was committed before this. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&wake->board->slots[slot].sleeping, memory_order_relaxed))
		wake_send(wake, slot, conn_id);
}

void
wake_poke_always(struct wake *wake, uint32_t slot, uint64_t conn_id)
{
	wake_send(wake, slot, conn_id);
}
