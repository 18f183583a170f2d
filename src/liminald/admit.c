/* admit: see admit.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "liminald/admit.h"
#include "liminald/master.h"

/* Per turn and listener: enough that the poll does not count, few enough that ends and
 * shutdown are never kept waiting for more than a millisecond or two. */
#define ADMIT_PER_TURN	8

/* How long accepting rests when descriptors, memory or processes have run out; what is freed
 * meanwhile is freed by children's ends, not by trying again sooner. */
#define ADMIT_PAUSE_NS	(100 * CLOCK_MS)

#define ADMIT_LOG_BURST		5
#define ADMIT_LOG_INTERVAL_NS	(10 * CLOCK_SECOND)

int
admit_is_open(struct master *master, int64_t now_ns)
{
	struct admit *admit = &master->admit;

	if (!master->is_ready)
		return 0;
	if (admit->paused_until_ns != 0) {
		if (now_ns < admit->paused_until_ns)
			return 0;
		admit->paused_until_ns = 0;
	}
	/* Without a free slot the kernel's queue holds them until the keeper has answered. */
	return master->slots.free_connections.n != 0;
}

int64_t
admit_deadline(const struct master *master)
{
	return master->admit.paused_until_ns != 0 ? master->admit.paused_until_ns : INT64_MAX;
}

static void
admit_pause(struct master *master, int64_t now_ns, int errnum, const char *what,
    const char *advice)
{
	unsigned held;

	master->admit.paused_until_ns = now_ns + ADMIT_PAUSE_NS;
	if (log_limit_allows(&master->admit.resource_lines, 1, ADMIT_LOG_INTERVAL_NS, &held))
		log_warnx("%s error=\"%s\" pause_ms=%d suppressed=%u advice=\"%s\"", what,
		    strerror(errnum), (int)(ADMIT_PAUSE_NS / CLOCK_MS), held, advice);
}

/* Tell the client why it cannot come in. Takes FD. */
static void
admit_refuse(struct master *master, int fd, const struct net_peer *peer, int64_t now_ns,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void
admit_refuse(struct master *master, int fd, const struct net_peer *peer, int64_t now_ns,
    const char *fmt, ...)
{
	char reason[160];
	unsigned held;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&master->board->connections_refused, 1);
	refuse_connection(&master->refuse, fd, reason, now_ns);
	if (log_limit_allows(&master->admit.refusal_lines, ADMIT_LOG_BURST,
	    ADMIT_LOG_INTERVAL_NS, &held))
		log_warnx("refused peer=%s reason=\"%s\" suppressed=%u", peer->text, reason, held);
}

/* 1 if a limit stands in the way, and the client has been told. */
static int
admit_is_over_limit(struct master *master, int fd, const struct net_peer *peer, int64_t now_ns)
{
	const struct conf *conf = master->conf;
	struct slots *slots = &master->slots;

	if (slots->live.n >= conf->max_connections) {
		admit_refuse(master, fd, peer, now_ns, "the server is at its limit: "
		    "limits connections = %u", conf->max_connections);
		return 1;
	}
	if (conf->max_connections_per_address != 0 && peer->has_address &&
	    addresses_count(&slots->addresses, peer->address) >=
	    conf->max_connections_per_address) {
		admit_refuse(master, fd, peer, now_ns, "too many connections from this address: "
		    "limits connections_per_address = %u", conf->max_connections_per_address);
		return 1;
	}
	return 0;
}

/* The rest of the child's life. */
static void __attribute__((noreturn))
admit_become_connection(const struct master *master, uint32_t slot, uint64_t conn_id, int fd,
    const struct net_peer *from)
{
	struct role_context context = master_context(master, slot);
	struct role_peer peer = { .fd = fd, .conn_id = conn_id, .is_local = from->is_local };

	snprintf(peer.address, sizeof(peer.address), "%s", from->text);
	_exit(master->roles->connection(&context, &peer));
}

static void
admit_connection(struct master *master, int fd, const struct net_peer *peer, int64_t now_ns)
{
	struct slots *slots = &master->slots;
	struct process_child child;
	uint64_t conn_id;
	uint32_t slot;
	pid_t pid;
	int saved;

	if (admit_is_over_limit(master, fd, peer, now_ns))
		return;
	conn_id = ++master->admit.last_conn_id;
	slot = slots_take(slots, BOARD_CONNECTION, conn_id, peer);
	if (slot == SLOTS_NONE) {
		admit_refuse(master, fd, peer, now_ns, "the server is still cleaning up after "
		    "ended connections: limits connections = %u",
		    master->conf->max_connections);
		return;
	}
	child = (struct process_child){ .board = master->board, .slot = slot,
	    .conn_id = conn_id, .title = peer->text, .keep_fd = fd,
	    .failure_status = ROLE_EXIT_SYSTEM };
	/* If the child dies at its first instruction: slot and board know it, nothing else. */
	pid = process_fork(&master->family, &child);
	if (pid == 0)
		admit_become_connection(master, slot, conn_id, fd, peer);
	if (pid == -1) {
		saved = errno;
		slots_give_back(slots, slot);
		admit_refuse(master, fd, peer, now_ns,
		    "the server cannot start a process for this connection: %s",
		    strerror(saved));
		admit_pause(master, now_ns, saved, "fork failed",
		    "raise TasksMax, pids.max or the process limit of the daemon's user");
		return;
	}
	slots_forked(slots, slot, pid);
	atomic_fetch_add(&master->board->connections_accepted, 1);
	close(fd);
	log_debug("accepted conn=%" PRIu64 " pid=%d peer=%s", conn_id, (int)pid, peer->text);
}

void
admit_accept(struct master *master, const struct net_listener *listener, int64_t now_ns)
{
	struct net_peer peer;
	int fd;

	for (int i = 0; i < ADMIT_PER_TURN && admit_is_open(master, now_ns); i++) {
		fd = net_accept(listener, &peer);
		if (fd != -1) {
			admit_connection(master, fd, &peer, now_ns);
			continue;
		}
		switch (errno) {
		case EAGAIN:
		case EINTR:
			return;
		case EMFILE:
		case ENFILE:
			admit_pause(master, now_ns, errno, "accept failed",
			    "raise LimitNOFILE or fs.file-max");
			return;
		case ENOBUFS:
		case ENOMEM:
			admit_pause(master, now_ns, errno, "accept failed",
			    "the system is out of memory for sockets");
			return;
		case EBADF:
		case EFAULT:
		case EINVAL:
		case ENOTSOCK:
			log_panic("accept fd=%d error=\"%s\"", listener->fd, strerror(errno));
		default:
			/* ECONNABORTED, and whatever else Linux passes on of a connection
			 * that broke before it was accepted: the next one may be whole. */
			continue;
		}
	}
}
