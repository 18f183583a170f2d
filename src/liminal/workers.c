/*
 * liminal workers: who works for which pools, and how busy each of them is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "liminal/inspect.h"
#include "state/workers.h"

int
workers_copy(struct state_txn *txn, const struct state_view *key, const struct state_view *row,
    void *arg)
{
	struct workers_item *item = arg;
	struct pool_row busy;
	uint64_t pool;
	int rc;

	if (key->len != 8)
		return ERR_CORRUPT;
	item->connection.conn_id = state_key_get(key->data);
	rc = record_unpack_registration(row->data, row->len, &item->registration);
	if (rc != 0)
		return rc;
	rc = connections_get(txn, item->connection.conn_id, &item->connection.row);
	/* The same in all of its pools (state/pool.h). */
	if (rc == 0 && item->registration.pools.len < sizeof(pool))
		rc = ERR_CORRUPT;
	if (rc == 0) {
		memcpy(&pool, item->registration.pools.data, sizeof(pool));
		rc = pool_row_get(txn, pool, item->connection.conn_id, &busy);
	}
	if (rc != 0) {
		record_free_registration(&item->registration);
		/* Its other rows come and go with it: without them it is broken. */
		return rc == ERR_NOTFOUND ? ERR_CORRUPT : rc;
	}
	item->in_flight = busy.in_flight;
	item->max_concurrent = busy.max_concurrent;
	return 0;
}

void
workers_release(void *arg)
{
	struct workers_item *item = arg;

	record_free_registration(&item->registration);
}

static void
workers_show_id(struct listing *listing, const struct workers_item *item)
{
	char id[WORKERS_ID_SIZE];
	size_t len = item->registration.identity.len;

	if (len > WORKERS_IDENTITY_MAX)
		len = WORKERS_IDENTITY_MAX;
	memcpy(id, item->registration.identity.data, len);
	len += (size_t)snprintf(id + len, sizeof(id) - len, "#%llu",
	    (unsigned long long)item->connection.conn_id);
	listing_text(listing, "worker_id", id, len);
}

static int
workers_show(void *arg, void *row)
{
	const struct workers_item *item = row;
	struct show *show = arg;
	struct listing *listing = &show->listing;
	const struct record_registration *registration = &item->registration;

	listing_begin_row(listing, NULL);
	connections_show(show, &item->connection);
	workers_show_id(listing, item);
	listing_text(listing, "identity", registration->identity.data,
	    registration->identity.len);
	listing_list(listing, "namespaces", &registration->namespaces);
	listing_text(listing, "task_queue", registration->task_queue.data,
	    registration->task_queue.len);
	if (registration->node.present)
		listing_text(listing, "node", registration->node.view.data,
		    registration->node.view.len);
	else
		listing_absent(listing, "node");
	listing_list(listing, "activity_types", &registration->activity_types);
	listing_number(listing, "in_flight", item->in_flight);
	listing_number(listing, "max_concurrent", item->max_concurrent);
	listing_time(listing, "registered", registration->since_ns);
	listing_end_row(listing);
	return 0;
}

int
command_workers(struct cli *cli)
{
	static const struct walk walk = {
		.table = STATE_WORKERS, .item_size = sizeof(struct workers_item),
		.copy = workers_copy, .show = workers_show, .release = workers_release,
		.flush = show_flush,
	};
	static const char *const columns[] = {
		"conn_id", "pid", "state", "in_flight", "max_concurrent", "namespaces",
		"task_queue", "node", "activity_types", "worker_id"
	};

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	return show_table(cli, &walk, columns, sizeof(columns) / sizeof(columns[0]));
}
