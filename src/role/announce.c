/* Announcements: see announce.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "role/announce.h"

/* Rows written in one transaction. */
#define ANNOUNCE_BATCH	64

int
announce_send(struct wake *wake, const struct announce *announce)
{
	return wake_send_to(wake, BOARD_SERVICE_SLOT(BOARD_KEEPER), 0, announce,
	    sizeof *announce);
}

int
announce_record(struct state_txn *txn, const struct board *board,
    const struct announce *announce)
{
	const struct board_slot *slot = &board->slots[announce->slot];
	struct connections_row row;
	int rc;

	rc = connections_exists(txn, announce->conn_id);
	if (rc != ERR_NOTFOUND)
		return rc;
	memset(&row, 0, sizeof row);
	row.version = CONNECTIONS_VERSION;
	row.is_local = announce->is_local != 0;
	row.slot = announce->slot;
	row.pid = atomic_load(&slot->pid);
	row.since_ns = atomic_load(&slot->since_ns);
	memcpy(row.peer, announce->peer, sizeof row.peer);
	row.peer[sizeof row.peer - 1] = '\0';
	return connections_put(txn, announce->conn_id, &row);
}

int
announce_listen(struct wake *wake, struct err *err)
{
	int on = 1;

	if (setsockopt(wake->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == -1)
		return err_sys(err, errno, "SO_PASSCRED");
	return 0;
}

/* 1 if ANNOUNCE, of LEN bytes, comes from the process that has its slot. */
static int
announce_is_genuine(const struct board *board, const struct announce *announce, ssize_t len,
    struct msghdr *msg)
{
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	struct ucred cred;

	if (len != sizeof *announce || announce->slot >= board->n_slots || cmsg == NULL ||
	    cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_CREDENTIALS)
		return 0;
	memcpy(&cred, CMSG_DATA(cmsg), sizeof cred);
	return atomic_load(&board->slots[announce->slot].conn_id) == announce->conn_id &&
	    atomic_load(&board->slots[announce->slot].pid) == cred.pid;
}

/* The next genuine one into OUT; 0 when there is none left. */
static int
announce_receive(struct wake *wake, struct announce *out)
{
	union { char space[CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr align; } control;
	struct iovec iov = { out, sizeof *out };
	struct msghdr msg;
	ssize_t n;

	for (;;) {
		memset(&msg, 0, sizeof msg);
		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
		n = recvmsg(wake->fd, &msg, MSG_DONTWAIT);
		if (n == -1)
			return 0;
		if (announce_is_genuine(wake->board, out, n, &msg))
			return 1;
	}
}

static int
announce_serve_batch(struct wake *wake, struct state *state, const struct announce *asked,
    size_t n)
{
	const uint8_t answer = WAKE_ANSWER;
	struct state_txn *txn;
	size_t i;
	int rc;

	if ((rc = state_begin_write(state, &txn)) != 0)
		return rc;
	for (i = 0; rc == 0 && i < n; i++)
		rc = announce_record(txn, wake->board, &asked[i]);
	if (rc != 0)
		state_abort(txn);
	else
		rc = state_commit(txn);
	if (rc == ERR_FULL)	/* they find out for themselves, and tell their peers */
		return 0;
	for (i = 0; rc == 0 && i < n; i++)
		(void)wake_send_to(wake, asked[i].slot, asked[i].conn_id, &answer, sizeof answer);
	return rc;
}

int
announce_serve(struct wake *wake, struct state *state)
{
	struct announce asked[ANNOUNCE_BATCH];
	size_t n;
	int rc = 0;

	do {
		for (n = 0; n < ANNOUNCE_BATCH && announce_receive(wake, &asked[n]); )
			n++;
		if (n > 0)
			rc = announce_serve_batch(wake, state, asked, n);
	} while (rc == 0 && n == ANNOUNCE_BATCH);
	return rc;
}
