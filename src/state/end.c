/* The close path. */
#include "state/connections.h"
#include "state/conversations.h"
#include "state/end.h"
#include "state/inbox.h"
#include "state/pending.h"
#include "state/pushes.h"
#include "state/workers.h"

int
end_connection(struct state_txn *txn, uint64_t conn_id, const char *reason)
{
	int rc;

	rc = connections_exists(txn, conn_id);
	if (rc == ERR_NOTFOUND)
		return 0;
	/* The worker's name is in what its awaiters are told: pushes before the registration. */
	if (rc == 0)
		rc = pushes_cancel_all(txn, conn_id, reason);
	if (rc == 0)
		rc = workers_unregister(txn, conn_id);
	if (rc == 0)
		rc = pending_cancel_awaiter(txn, conn_id);
	if (rc == 0)
		rc = conversations_del_all(txn, conn_id);
	if (rc == 0)
		rc = inbox_remove(txn, conn_id, UINT64_MAX);
	if (rc == 0)
		rc = connections_del(txn, conn_id);
	return rc == 0 ? 1 : rc;
}
