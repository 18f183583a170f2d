/*
 * The notifier's process: calls the module of include/liminal/notifier.h for what its inbox has,
 * and keeps the ledger of state/registrations.h, which is what makes each accepted registration
 * end in exactly one call of worker_unregistered.
 *
 * A question about a registration may take several calls (the old one's unregistered, the
 * new one's registered, and, when that is rejected, the old one's registered again). Each is a step: look at the
 * ledger, make at most one call, write what came of it in one transaction. Nothing but the ledger, the
 * entry in the inbox and the board's record of the last call says what the next step is, so a
 * process that takes over after any instruction goes on where the last one was:
 *
 *	before a call is begun		the ledger has not moved: the same step again
 *	in a call			registered: counts as rejected; unregistered: as made
 *	after it, before the write	the board has what the module said; that is written
 *	after the write			the ledger says what comes next
 *
 * The connection may give up, or end, at any of these points; it then changes the ledger. What a
 * call brought is always weighed against the row as it is when it is written: an acceptance that
 * nobody waits for any more becomes a DUE row, and so an unregistered.
 */
#include <liminal/notifier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "role/module.h"
#include "role/notifier.h"
#include "state/connections.h"
#include "state/registrations.h"

#define NOTIFIER_REASON_SIZE	512

static const struct liminal_notifier *notifier_functions;
/* Not freed, since the module may keep it; volatile, so that a look for leaks finds it here. */
static const char **volatile notifier_argv;

/* One question about a registration, from its entry to its answer. */
struct notifier_question {
	struct module *module;
	uint64_t conn_id, id;
	uint32_t slot;			/* of the connection */
	uint64_t called;		/* the registration that the last call was about */
	int is_accepted;		/* its verdict */
	char reason[NOTIFIER_REASON_SIZE];	/* why ID was rejected */
};

static int
notifier_start(struct module *m, const void *symbol, struct err *err)
{
	unsigned i;
	int status;

	notifier_functions = symbol;
	if ((notifier_argv = calloc(m->args->n + 1, sizeof *notifier_argv)) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (i = 0; i < m->args->n; i++)
		notifier_argv[i] = m->args->texts[i];
	if (notifier_functions->init != NULL &&
	    (status = notifier_functions->init((int)m->args->n, notifier_argv)) != 0)
		return err_set(err, ERR_INVALID, "notifier module %s: its init failed with %d",
		    m->path, status);
	atomic_store(&m->mine->entries, BOARD_ENTRY_KNOWN |
	    (notifier_functions->channel_publish != NULL ? BOARD_ENTRY_PUBLISH : 0));
	return 0;
}

/* The master has told of the end itself. */
static void
notifier_log_lost(const struct inbox_entry *what, const char *call, const char *meaning)
{
	log_info("notifier call=%s conn=%llu did not return: counts as %s", call,
	    (unsigned long long)what->conn_id, meaning);
}

/* The texts of a vec(string), NUL-terminated, in one block to be freed. */
static const char **
notifier_texts(const struct frame_vec *vec)
{
	struct frame_view next = vec->encoded, text;
	const char **list;
	size_t n = 0;
	char *at;

	list = malloc((vec->count + 1) * sizeof *list + vec->encoded.len + vec->count);
	if (list == NULL)
		return NULL;
	at = (char *)(list + vec->count + 1);
	while (n < vec->count && frame_vec_next(&next, &text)) {
		if (text.len > 0)
			memcpy(at, text.data, text.len);
		at[text.len] = '\0';
		list[n++] = at;
		at += text.len + 1;
	}
	list[n] = NULL;
	return list;
}

static char *
notifier_text(const struct frame_view *view)
{
	char *text = malloc(view->len + 1);

	if (text == NULL)
		return NULL;
	if (view->len > 0)
		memcpy(text, view->data, view->len);
	text[view->len] = '\0';
	return text;
}

/* A peer gets the reason as text: what the module left there may be anything. */
static void
notifier_clean_reason(char *reason)
{
	char raw[NOTIFIER_REASON_SIZE];
	size_t len = strnlen(reason, NOTIFIER_REASON_SIZE - 1);

	reason[len] = '\0';
	if (len == 0)
		snprintf(reason, NOTIFIER_REASON_SIZE,
		    "the notifier rejected the registration without a reason");
	/* Cut off by its size, it may end within a character. */
	while (len > 0 && len > NOTIFIER_REASON_SIZE - 5 &&
	    !frame_is_utf8((const uint8_t *)reason, len))
		reason[--len] = '\0';
	if (frame_is_utf8((const uint8_t *)reason, len))
		return;
	memcpy(raw, reason, len);
	log_vis(reason, NOTIFIER_REASON_SIZE, raw, len);
}

/* Call worker_registered about RECORD. 1 = accepted. */
static int
notifier_call_module(struct notifier_question *q, const struct inbox_entry *what,
    const struct record_registration *record, char *reason)
{
	struct liminal_registration registration;
	const char **namespaces = notifier_texts(&record->namespaces);
	const char **types = notifier_texts(&record->activity_types);
	char *queue = notifier_text(&record->task_queue);
	char *node = notifier_text(&record->node.view);
	char *identity = notifier_text(&record->identity);
	int is_accepted = 0;

	memset(&registration, 0, sizeof registration);
	registration.namespaces = namespaces;
	registration.n_namespaces = record->namespaces.count;
	registration.task_queue = queue;
	registration.node = record->node.present ? node : NULL;
	registration.activity_types = types;
	registration.n_activity_types = record->activity_types.count;
	registration.identity = identity;
	if (namespaces != NULL && types != NULL && queue != NULL && node != NULL &&
	    identity != NULL) {
		module_begin(q->module, what);
		is_accepted = notifier_functions->worker_registered(what->conn_id, &registration,
		    reason, NOTIFIER_REASON_SIZE) == 0;
		module_end(q->module, (uint64_t)is_accepted);
	} else
		snprintf(reason, NOTIFIER_REASON_SIZE, "the notifier is out of memory");
	free(namespaces);
	free(types);
	free(queue);
	free(node);
	free(identity);
	return is_accepted;
}

/* Ask about registration ID of the question's connection: a call, or what is known of one that the
 * last process made. */
static void
notifier_ask(struct notifier_question *q, uint64_t id,
    const struct record_registration *record, char *reason)
{
	struct inbox_entry what = {
		.kind = INBOX_REGISTER, .conn_id = q->conn_id, .request = id
	};

	q->called = id;
	memset(reason, 0, NOTIFIER_REASON_SIZE);
	switch (module_was_calling(q->module, &what)) {
	case BOARD_CALL_BEGUN:
		notifier_log_lost(&what, "worker_registered", "rejected");
		q->is_accepted = 0;
		snprintf(reason, NOTIFIER_REASON_SIZE, "the notifier crashed, or did not answer "
		    "within notifier timeout (%lld ms)",
		    (long long)(q->module->timeout_ns / CLOCK_MS));
		break;
	case BOARD_CALL_DONE:
		q->is_accepted = q->module->lost.result == 1;
		snprintf(reason, NOTIFIER_REASON_SIZE, "the notifier rejected the registration; "
		    "its reason was lost with its process");
		break;
	case BOARD_CALL_NONE:
		q->is_accepted = notifier_functions->worker_registered == NULL ||
		    notifier_call_module(q, &what, record, reason);
		break;
	}
	if (!q->is_accepted)
		notifier_clean_reason(reason);
}

static void
notifier_tell_unregistered(struct module *m, uint64_t conn_id, uint64_t id)
{
	struct inbox_entry what = {
		.kind = INBOX_UNREGISTER, .conn_id = conn_id, .request = id
	};
	enum board_call lost = module_was_calling(m, &what);

	if (lost == BOARD_CALL_BEGUN)
		notifier_log_lost(&what, "worker_unregistered", "made");
	if (lost != BOARD_CALL_NONE || notifier_functions->worker_unregistered == NULL)
		return;
	module_begin(m, &what);
	notifier_functions->worker_unregistered(conn_id);
	module_end(m, 0);
}

static int
notifier_answer(struct state_txn *txn, uint64_t conn_id, uint32_t slot, uint64_t request,
    enum inbox_notified code, const char *reason)
{
	struct inbox_entry entry;

	memset(&entry, 0, sizeof entry);
	entry.kind = INBOX_NOTIFIED;
	entry.request = request;
	entry.code = code;
	entry.len = reason != NULL ? (uint32_t)strlen(reason) : 0;
	return inbox_post(txn, conn_id, slot, &entry, reason);
}

/* What follows are the transactions of the steps: MODULE_MORE = more steps may come. */

/* worker_unregistered was called for an accepted registration that is to be replaced. */
static int
notifier_apply_withdrawn(struct state_txn *txn, void *arg)
{
	const struct notifier_question *q = arg;
	enum registrations_phase phase;
	int rc;

	rc = registrations_get(txn, q->conn_id, q->called, &phase, NULL, NULL);
	if (rc == 0 && phase == REGISTRATIONS_ACCEPTED)
		rc = registrations_set(txn, q->conn_id, q->called, REGISTRATIONS_WITHDRAWN);
	else if (rc == 0 && phase == REGISTRATIONS_DUE)	/* it ended meanwhile: that call was it */
		rc = registrations_del(txn, q->conn_id, q->called);
	return rc == 0 || rc == ERR_NOTFOUND ? MODULE_MORE : rc;
}

/* ... for one that was due. */
static int
notifier_apply_told(struct state_txn *txn, void *arg)
{
	const struct notifier_question *q = arg;
	int rc = registrations_del(txn, q->conn_id, q->called);

	return rc == 0 || rc == ERR_NOTFOUND ? MODULE_MORE : rc;
}

static int
notifier_apply_owed(struct state_txn *txn, void *arg)
{
	const struct notifier_question *q = arg;
	int rc = registrations_owe(txn, q->conn_id, q->called);

	return rc == 0 ? MODULE_MORE : rc;
}

/* The verdict on what was asked about. */
static int
notifier_apply_verdict(struct state_txn *txn, void *arg)
{
	const struct notifier_question *q = arg;
	struct registrations_view view;
	int rc;

	if ((rc = registrations_look(txn, q->conn_id, q->id, &view)) != 0)
		return rc;
	if (view.asked != q->id)	/* it has given up or ended */
		return q->is_accepted ? notifier_apply_owed(txn, arg) : MODULE_MORE;
	if (q->is_accepted) {
		rc = registrations_set(txn, q->conn_id, q->id, REGISTRATIONS_ACCEPTED);
		if (rc == 0 && view.withdrawn != 0)
			rc = registrations_del(txn, q->conn_id, view.withdrawn);
		return rc != 0 ? rc : notifier_answer(txn, q->conn_id, view.slot, q->id,
		    INBOX_NOTIFIED_YES, NULL);
	}
	if ((rc = registrations_del(txn, q->conn_id, q->id)) != 0)
		return rc;
	if (view.withdrawn != 0)	/* the old one comes back before the answer goes out */
		return MODULE_MORE;
	return notifier_answer(txn, q->conn_id, view.slot, q->id, INBOX_NOTIFIED_NO, q->reason);
}

/* The verdict on an old registration that was asked about again. */
static int
notifier_apply_restored(struct state_txn *txn, void *arg)
{
	const struct notifier_question *q = arg;
	enum registrations_phase phase;
	int rc;

	rc = registrations_get(txn, q->conn_id, q->called, &phase, NULL, NULL);
	if (rc == ERR_NOTFOUND || (rc == 0 && phase != REGISTRATIONS_WITHDRAWN))
		return q->is_accepted ? notifier_apply_owed(txn, arg) : MODULE_MORE;
	if (rc == 0)
		rc = q->is_accepted ?
		    registrations_set(txn, q->conn_id, q->called, REGISTRATIONS_ACCEPTED) :
		    registrations_del(txn, q->conn_id, q->called);
	return rc != 0 ? rc : notifier_answer(txn, q->conn_id, q->slot, q->id,
	    q->is_accepted ? INBOX_NOTIFIED_NO : INBOX_NOTIFIED_LOST, q->reason);
}

/* The last process was asking, or got a yes, and the connection left before that was written. */
static int
notifier_settle_lost(struct notifier_question *q)
{
	const struct module_lost *lost = &q->module->lost;
	enum registrations_phase phase;
	struct state_txn *txn;
	int rc;

	if (lost->phase == BOARD_CALL_NONE || lost->what.kind != INBOX_REGISTER ||
	    lost->what.conn_id != q->conn_id)
		return MODULE_MORE;
	if ((rc = state_begin_read(q->module->state, &txn)) != 0)
		return rc;
	rc = registrations_get(txn, q->conn_id, lost->what.request, &phase, NULL, NULL);
	state_abort(txn);
	if (rc != ERR_NOTFOUND)
		return rc == 0 ? MODULE_MORE : rc;
	if (lost->phase == BOARD_CALL_BEGUN)
		notifier_log_lost(&lost->what, "worker_registered", "rejected");
	if (lost->phase == BOARD_CALL_BEGUN || lost->result != 1)
		return MODULE_MORE;
	q->called = lost->what.request;
	return module_write(q->module, notifier_apply_owed, q);
}

/* What there is to do for the connection now, and the registration to ask about, if any. */
static int
notifier_look(struct notifier_question *q, struct registrations_view *view,
    struct record_registration *record)
{
	enum registrations_phase phase;
	struct state_txn *txn;
	uint64_t id;
	int rc;

	memset(record, 0, sizeof *record);
	if ((rc = state_begin_read(q->module->state, &txn)) != 0)
		return rc;
	rc = registrations_look(txn, q->conn_id, q->id, view);
	if (view->asked != q->id)
		view->asked = 0;
	id = view->asked != 0 ? view->asked : view->withdrawn;
	if (rc == 0 && view->due == 0 && id != 0)
		rc = registrations_get(txn, q->conn_id, id, &phase, &q->slot, record);
	state_abort(txn);
	return rc;
}

/* One step; 0 = the question is answered. */
static int
notifier_step(struct notifier_question *q)
{
	char ignored[NOTIFIER_REASON_SIZE];
	struct record_registration record;
	struct registrations_view view;
	int rc;

	if ((rc = notifier_look(q, &view, &record)) != 0)
		return rc;
	if (view.due != 0) {
		/* First: the module tells registrations by their connection only. */
		q->called = view.due;
		notifier_tell_unregistered(q->module, q->conn_id, view.due);
		rc = module_write(q->module, notifier_apply_told, q);
	} else if (view.asked != 0 && view.accepted != 0) {
		q->called = view.accepted;
		notifier_tell_unregistered(q->module, q->conn_id, view.accepted);
		rc = module_write(q->module, notifier_apply_withdrawn, q);
	} else if (view.asked != 0) {
		notifier_ask(q, view.asked, &record, q->reason);
		rc = module_write(q->module, notifier_apply_verdict, q);
	} else if (view.withdrawn != 0) {
		if (q->reason[0] == '\0')	/* it was another process that got it */
			snprintf(q->reason, sizeof q->reason, "the notifier rejected the "
			    "registration; its reason was lost with its process");
		notifier_ask(q, view.withdrawn, &record, ignored);
		rc = module_write(q->module, notifier_apply_restored, q);
	} else
		rc = module_write(q->module, NULL, NULL);
	record_free_registration(&record);
	return rc;
}

static int
notifier_register(struct module *m, const struct inbox_entry *entry)
{
	struct notifier_question q = {
		.module = m, .conn_id = entry->conn_id, .id = entry->request
	};
	int rc = notifier_settle_lost(&q);

	while (rc == MODULE_MORE)
		rc = notifier_step(&q);
	return rc;
}

static int
notifier_apply_ended(struct state_txn *txn, void *arg)
{
	int rc = notifier_apply_told(txn, arg);

	return rc == MODULE_MORE ? 0 : rc;
}

/* A registration of a connection has ended. */
static int
notifier_unregister(struct module *m, const struct inbox_entry *entry)
{
	struct notifier_question q = {
		.module = m, .conn_id = entry->conn_id, .called = entry->request
	};
	enum registrations_phase phase;
	struct state_txn *txn;
	int rc;

	if ((rc = state_begin_read(m->state, &txn)) != 0)
		return rc;
	rc = registrations_get(txn, entry->conn_id, entry->request, &phase, NULL, NULL);
	state_abort(txn);
	if (rc != 0 || phase != REGISTRATIONS_DUE)	/* told already */
		return rc == ERR_NOTFOUND ? 0 : rc;
	notifier_tell_unregistered(m, entry->conn_id, entry->request);
	return module_write(m, notifier_apply_ended, &q);
}

int
notifier_publish_pack(const struct notifier_publish *publish, struct buf *out)
{
	uint32_t name_len = (uint32_t)publish->channel.len;
	int rc = buf_append(out, &publish->deadline_ns, sizeof publish->deadline_ns);

	if (rc == 0)
		rc = buf_append(out, &name_len, sizeof name_len);
	if (rc == 0)
		rc = buf_append(out, publish->channel.data, publish->channel.len);
	if (rc == 0)
		rc = buf_append(out, publish->payload.data, publish->payload.len);
	return rc;
}

int
notifier_publish_unpack(const void *body, size_t len, struct notifier_publish *publish)
{
	const uint8_t *at = body;
	uint32_t name_len;

	if (len < sizeof publish->deadline_ns + sizeof name_len)
		return ERR_CORRUPT;
	memcpy(&publish->deadline_ns, at, sizeof publish->deadline_ns);
	at += sizeof publish->deadline_ns;
	memcpy(&name_len, at, sizeof name_len);
	at += sizeof name_len;
	len -= sizeof publish->deadline_ns + sizeof name_len;
	if (name_len > len)
		return ERR_CORRUPT;
	publish->channel.data = at;
	publish->channel.len = name_len;
	publish->payload.data = at + name_len;
	publish->payload.len = len - name_len;
	return 0;
}

struct notifier_tap { const struct inbox_entry *entry; int is_consumed; };

static int
notifier_apply_tapped(struct state_txn *txn, void *arg)
{
	const struct notifier_tap *tap = arg;
	struct connections_row row;
	int rc;

	rc = connections_get(txn, tap->entry->conn_id, &row);
	if (rc != 0)	/* nobody is left to be told */
		return rc == ERR_NOTFOUND ? 0 : rc;
	return notifier_answer(txn, tap->entry->conn_id, row.slot, tap->entry->request,
	    tap->is_consumed ? INBOX_NOTIFIED_YES : INBOX_NOTIFIED_NO, NULL);
}

static int
notifier_call_publish(struct module *m, const struct inbox_entry *entry, const void *body,
    int *is_consumed)
{
	struct notifier_publish publish;
	char *channel;

	if (notifier_publish_unpack(body, entry->len, &publish) != 0)
		return ERR_CORRUPT;
	/* Its publisher does not wait any more, and has gone on without. */
	if (notifier_functions->channel_publish == NULL || clock_now_ns() > publish.deadline_ns)
		return 0;
	if ((channel = notifier_text(&publish.channel)) == NULL)
		return ERR_NOMEM;
	module_begin(m, entry);
	*is_consumed = notifier_functions->channel_publish(entry->conn_id, channel,
	    publish.payload.data, publish.payload.len) == 1;
	module_end(m, (uint64_t)*is_consumed);
	free(channel);
	return 0;
}

static int
notifier_publish(struct module *m, const struct inbox_entry *entry, const void *body,
    enum board_call lost)
{
	struct notifier_tap tap = { .entry = entry };
	int rc = 0;

	switch (lost) {
	case BOARD_CALL_BEGUN:
		notifier_log_lost(entry, "channel_publish", "not consumed");
		break;
	case BOARD_CALL_DONE:
		tap.is_consumed = m->lost.result == 1;
		break;
	case BOARD_CALL_NONE:
		rc = notifier_call_publish(m, entry, body, &tap.is_consumed);
		break;
	}
	return rc != 0 ? rc : module_write(m, notifier_apply_tapped, &tap);
}

static int
notifier_handle(struct module *m, const struct inbox_entry *entry, const void *body,
    enum board_call lost)
{
	int rc = 0;

	switch (entry->kind) {
	case INBOX_REGISTER:
		rc = notifier_register(m, entry);
		break;
	case INBOX_UNREGISTER:
		rc = notifier_unregister(m, entry);
		break;
	case INBOX_PUBLISH:
		rc = notifier_publish(m, entry, body, lost);
		break;
	default:
		log_warnx("the notifier's inbox has an entry of unknown kind %u", entry->kind);
		break;
	}
	return rc;
}

int
notifier_main(const struct role_context *context, int control)
{
	static const struct module_kind kind = {
		.service = BOARD_NOTIFIER, .name = "notifier", .symbol = "liminal_notifier",
		.header = "liminal/notifier.h", .version = LIMINAL_NOTIFIER_VERSION,
		.start = notifier_start, .handle = notifier_handle,
	};

	return module_main(&kind, context, control, context->conf->notifier_module,
	    &context->conf->notifier_args, context->conf->notifier_timeout_ns);
}
