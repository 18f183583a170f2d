/* The close path. */
#include "state/connections.h"
#include "state/conversations.h"
#include "state/end.h"
#include "state/inbox.h"
#include "state/operations.h"
#include "state/pending.h"
#include "state/pushes.h"
#include "state/registrations.h"
#include "state/subscriptions.h"
#include "state/workers.h"

/* The store gets what the connection has kept back, and closes what is then still open. Comes behind
 * all that the connection itself had for the store. */
static int
end_history(struct state_txn *txn, uint64_t conn_id)
{
	const struct inbox_entry entry = { .kind = INBOX_CALLER_ENDED, .conn_id = conn_id };
	int rc;

	if ((rc = operations_hand_over_all(txn, conn_id)) != 0)
		return rc;
	return inbox_post(txn, INBOX_SERVICE(BOARD_STORE), BOARD_SERVICE_SLOT(BOARD_STORE), &entry,
	    NULL);
}

int
end_connection(struct state_txn *txn, uint64_t conn_id, const char *reason)
{
	struct connections_row row;
	int rc;

	rc = connections_get(txn, conn_id, &row);
	if (rc == ERR_NOTFOUND)
		return 0;
	if (rc == 0 && row.has_history)
		rc = end_history(txn, conn_id);
	/* The worker's name is in what its awaiters are told: pushes before the registration. */
	if (rc == 0)
		rc = pushes_cancel_all(txn, conn_id, reason);
	if (rc == 0)
		rc = workers_unregister(txn, conn_id);
	if (rc == 0)
		rc = registrations_end(txn, conn_id);
	if (rc == 0)
		rc = pending_cancel_awaiter(txn, conn_id);
	if (rc == 0)
		rc = conversations_del_all(txn, conn_id);
	if (rc == 0)
		rc = subscriptions_del_all(txn, conn_id);
	if (rc == 0)
		rc = inbox_remove(txn, conn_id, UINT64_MAX);
	if (rc == 0)
		rc = connections_del(txn, conn_id);
	return rc == 0 ? 1 : rc;
}
