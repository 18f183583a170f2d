/*
 * custom_router: the router that is somebody's module (include/liminal/router.h), asked in its own
 * process.
 *
 * A caller's connection puts a request that somebody has room for into the pending table, with
 * PENDING_ASKED, and a question into the router's inbox, in one transaction. The router's process
 * looks at the pool, lets the module choose with no transaction open, and in one more transaction
 * gives the request to the chosen worker, as a worker takes one from the queue: the
 * awaiter gets INBOX_STARTED. All that can end a waiting request ends this one too, wherever the
 * question is: it names a row that is then gone, and means nothing any more. Since one
 * process makes all choices, each one sees what became of those before it.
 *
 *	nobody has room any more	into the queue; the awaiter gets INBOX_ROUTED
 *	the chosen one is taken		the module is asked again, a few times
 *	none, or no candidate, or
 *	the module dies over it		the awaiter gets INBOX_FAILED
 */
#ifndef LIMINAL_ROLE_CUSTOM_ROUTER_H
#define LIMINAL_ROLE_CUSTOM_ROUTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"
#include "state/pending.h"
#include "state/pool.h"
#include "state/state.h"

/* What the row in the pending table does not tell. */
struct custom_router_question {
	struct pending_key where;
	struct pool_name pool;
	struct frame_view workflow_id;		/* empty = none; unpacked, a NUL stands behind it */
	const uint64_t *excluded;		/* conn ids */
	size_t n_excluded;
	struct frame_view excluded_ids;		/* their worker ids, each with its NUL */
};

/* Post QUESTION about REQUEST of connection CONN_ID to the router's process. 0, ERR_NOMEM or ERR_FULL. */
int	custom_router_ask(struct state_txn *txn, uint64_t conn_id, uint64_t request,
	    const struct custom_router_question *question);

/* The body of INBOX_ROUTE. Unpacking gives views into it, which is aligned as malloc does. 0,
 * ERR_NOMEM, ERR_CORRUPT. */
int	custom_router_pack(const struct custom_router_question *question, struct buf *out);
int	custom_router_unpack(const void *body, size_t len, struct custom_router_question *question);

#endif
