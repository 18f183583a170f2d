/*
 * liminal status: one object with how much there is of everything, and every counter.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "liminal/inspect.h"
#include "state/channels.h"
#include "state/counters.h"
#include "state/history.h"
#include "state/pushes.h"

/* 1 if NAME is that of a process id: no counter, and shown as what it is. */
static int
status_note_pid(struct status *status, const char *name, uint64_t value)
{
	size_t len;

	if (strcmp(name, "master_pid") == 0)
		return 1;
	for (int i = 0; i < BOARD_N_SERVICES; i++) {
		len = strlen(board_service_names[i]);
		if (strncmp(name, board_service_names[i], len) == 0 &&
		    strcmp(name + len, "_pid") == 0) {
			status->service_pids[i] = value;
			return 1;
		}
	}
	return 0;
}

static int
status_note_counter(void *arg, const char *name, uint64_t value)
{
	struct status *status = arg;
	struct status_counter *counter;

	if (status_note_pid(status, name, value) || status->n_counters == STATUS_COUNTERS_MAX)
		return 0;
	counter = &status->counters[status->n_counters++];
	snprintf(counter->name, sizeof(counter->name), "%s", name);
	counter->value = value;
	return 0;
}

static int
status_note_pool(void *arg, const struct pool_name *name, const struct pool_meta *meta)
{
	struct status *status = arg;

	(void)name, (void)meta;
	status->pools++;
	return 0;
}

static int
status_note_channel(void *arg, uint32_t number, const struct channels_row *row)
{
	struct status *status = arg;

	(void)number;
	status->channels++;
	status->messages += row->mark.head + 1 - row->mark.first;
	return 0;
}

/* What one look at a few rows tells. */
static int
status_read(struct look *look, struct status *status)
{
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(look->state, &txn)) == 0) {
		status->connections = state_count(txn, STATE_CONNECTIONS);
		status->workers = state_count(txn, STATE_WORKERS);
		status->pending = state_count(txn, STATE_PENDING);
		status->pushes = state_count(txn, STATE_PUSHES);
		status->conversations = state_count(txn, STATE_CONVERSATIONS);
		status->subscriptions = state_count(txn, STATE_SUBSCRIPTIONS);
		rc = history_fault(txn, status->store_fault, sizeof(status->store_fault));
		if (rc == 0 || rc == ERR_NOTFOUND)
			rc = counters_each(txn, status_note_counter, status);
		if (rc == 0)
			rc = pool_each(txn, status_note_pool, status);
		if (rc == 0)
			rc = channels_each(txn, status_note_channel, status);
		state_abort(txn);
	}
	if (rc == 0)
		return 0;
	cli_complain(look->cli, "cannot read the state: %s",
	    rc == ERR_CORRUPT ? "a row does not read back" : state_error_text(look->state));
	return -1;
}

struct status_push { uint8_t is_job; };

static int
status_copy_push(struct state_txn *txn, const struct state_view *key,
    const struct state_view *row, void *item)
{
	struct pushes_row push;
	int rc;

	(void)row;
	if (key->len != 16)
		return ERR_CORRUPT;
	rc = pushes_get(txn, state_key_get(key->data),
	    state_key_get((const uint8_t *)key->data + 8), &push, NULL);
	if (rc != 0)
		return rc;
	((struct status_push *)item)->is_job = push.kind == PUSHES_JOB;
	return 0;
}

static int
status_count_push(void *arg, void *item)
{
	struct status *status = arg;

	status->in_flight += ((struct status_push *)item)->is_job;
	return 0;
}

int
status_collect(struct look *look, struct status *status)
{
	static const struct walk walk = {
		.table = STATE_PUSHES, .item_size = sizeof(struct status_push),
		.copy = status_copy_push, .show = status_count_push,
	};

	memset(status, 0, sizeof(*status));
	if (status_read(look, status) != 0)
		return -1;
	return walk_table(look, &walk, status);
}

uint64_t
status_counter(const struct status *status, const char *name)
{
	for (size_t i = 0; i < status->n_counters; i++)
		if (strcmp(status->counters[i].name, name) == 0)
			return status->counters[i].value;
	return 0;
}

/* One line each for people, one key each for scripts. */
static void
status_begin(struct listing *listing, const char *name)
{
	if (listing->form == LISTING_JSON)
		return;
	listing_begin_row(listing, NULL);
	listing_string(listing, "name", name);
}

static void
status_end(struct listing *listing)
{
	if (listing->form != LISTING_JSON)
		listing_end_row(listing);
}

static void
status_put(struct listing *listing, const char *name, uint64_t value)
{
	status_begin(listing, name);
	listing_number(listing, listing->form == LISTING_JSON ? name : "value", value);
	status_end(listing);
}

/* A pid that is no child of the master any more says nothing. */
static void
status_put_services(struct listing *listing, const struct look *look,
    const struct status *status)
{
	char name[32];
	uint64_t pid;

	for (int i = 0; i < BOARD_N_SERVICES; i++) {
		snprintf(name, sizeof(name), "%s_pid", board_service_names[i]);
		pid = status->service_pids[i];
		status_begin(listing, name);
		if (pid == 0 || pid > INT32_MAX || look_child(look, (pid_t)pid) == LOOK_ENDED)
			listing_absent(listing, listing->form == LISTING_JSON ? name : "value");
		else
			listing_number(listing, listing->form == LISTING_JSON ? name : "value",
			    pid);
		status_end(listing);
	}
}

static void
status_put_fault(struct listing *listing, const struct status *status)
{
	const char *key = listing->form == LISTING_JSON ? "store_fault" : "value";

	status_begin(listing, "store_fault");
	if (status->store_fault[0] != '\0')
		listing_string(listing, key, status->store_fault);
	else
		listing_absent(listing, key);
	status_end(listing);
}

static void
status_put_daemon(struct listing *listing, const struct look *look)
{
	const int is_json = listing->form == LISTING_JSON;

	status_begin(listing, "running");
	listing_bool(listing, is_json ? "running" : "value", look->is_running);
	status_end(listing);
	status_begin(listing, "master_pid");
	if (look->master != 0)
		listing_number(listing, is_json ? "master_pid" : "value",
		    (uint64_t)look->master);
	else
		listing_absent(listing, is_json ? "master_pid" : "value");
	status_end(listing);
}

static int
status_print(const struct look *look, const struct status *status)
{
	static const char *const columns[] = { "name", "value" };
	struct listing listing;

	listing_open(&listing, look->cli, columns, 2);
	if (listing.form == LISTING_JSON)
		listing_begin_row(&listing, NULL);
	status_put_daemon(&listing, look);
	status_put_services(&listing, look, status);
	status_put_fault(&listing, status);
	status_put(&listing, "connections", status->connections);
	status_put(&listing, "workers", status->workers);
	status_put(&listing, "pools", status->pools);
	status_put(&listing, "in_flight", status->in_flight);
	status_put(&listing, "pending", status->pending);
	status_put(&listing, "pushes", status->pushes);
	status_put(&listing, "conversations", status->conversations);
	status_put(&listing, "channels", status->channels);
	status_put(&listing, "subscriptions", status->subscriptions);
	status_put(&listing, "messages", status->messages);
	for (size_t i = 0; i < status->n_counters; i++)
		status_put(&listing, status->counters[i].name, status->counters[i].value);
	if (listing.form == LISTING_JSON)
		listing_end_row(&listing);
	return listing_close(&listing);
}

int
status_show(struct look *look)
{
	struct status status;

	if (status_collect(look, &status) != 0)
		return -1;
	return status_print(look, &status);
}

int
command_status(struct cli *cli)
{
	struct look look;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	if (look_open(&look, cli) != 0)
		return CLI_FAILED;
	return look_close(&look, status_show(&look) == 0 ? CLI_DONE : CLI_FAILED);
}
