/*
 * The beginning of the store process.
 *
 * A store that can be read and not written (the file system has become read-only, say) is no
 * reason not to begin: whoever waits for the store would wait for ever. Those that a predecessor
 * did not answer are answered, the others are refused with the reason, and before each refusal it
 * is tried again.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "role/store.h"

static int
store_start_epoch(struct store *s)
{
	struct state_txn *txn;
	int rc;

	/* When the last store process died in the last instructions of a commit, readers are one
	 * commit behind until somebody writes: what it has answered would be answered again. */
	if ((rc = state_begin_write(s->state, &txn)) != 0)
		return rc;
	rc = state_epoch(txn, &s->epoch);
	state_abort(txn);
	return rc;
}

/* For writing, or else for reading, with the reason in ERR and ERR_SYSTEM or another code. */
static int
store_start_open(struct store *s, struct err *err)
{
	const char *dir = s->context->conf->persist_dir;
	struct err second;
	int rc = store_open(&s->store, dir, err);

	s->is_readonly = 0;
	if (rc != 0 && store_open_readonly(&s->store, dir, &second) == 0)
		s->is_readonly = 1;
	return rc;
}

/* With a store that is open: what is there, and what of this daemon's life. */
static int
store_start_enter(struct store *s)
{
	int rc;

	if (s->is_readonly)
		rc = store_history_look(s);
	else
		while ((rc = store_history_enter(s)) == 0)
			;
	return rc < 0 ? rc : store_log_open(s);
}

int
store_start_again(struct store *s)
{
	struct err err;
	int rc;

	state_close(s->store);	/* a process has an environment open once */
	s->store = NULL;
	if ((rc = store_start_open(s, &err)) == 0)
		rc = store_start_enter(s);
	else
		store_fault_set_open(s, err.text);
	s->is_broken = rc != 0 && !s->is_readonly;
	return rc;
}

static int
store_start_all(struct store *s)
{
	struct err err;
	int rc;

	rc = wake_open(&s->wake, s->context->board, s->context->slot, &err);
	if (rc == 0)
		rc = state_open(&s->state, s->context->conf->runtime_dir, &s->wake, &err);
	if (rc == 0 && (rc = store_start_open(s, &err)) != 0 && s->is_readonly) {
		store_fault_set_open(s, err.text);
		s->fault.retry_at_ns = 0;	/* so that it is told at once */
		rc = 0;
	}
	if (rc != 0)
		log_errorx("store cannot start: %s", err.text);
	return rc;
}

int
store_start(struct store *s)
{
	const struct role_answer ready = { .kind = ROLE_ANSWER_READY };
	int rc;

	if ((rc = store_start_all(s)) != 0)
		return rc;
	if ((rc = store_start_epoch(s)) != 0) {
		log_errorx("store cannot read the state: %s", state_error_text(s->state));
		return rc;
	}
	if ((rc = store_start_enter(s)) != 0) {
		log_errorx("store cannot use persist_dir %s: %s", s->context->conf->persist_dir,
		    rc == ERR_CORRUPT ? STATE_DAMAGED_TEXT : state_error_text(s->store));
		return rc;
	}
	s->history.trim_at_ns = 0;	/* retention may have become shorter */
	if (send(s->control, &ready, sizeof ready, MSG_NOSIGNAL) == -1)
		return ERR_CLOSED;
	return 0;
}

void
store_start_undo(struct store *s)
{
	state_close(s->store);
	state_close(s->state);
	wake_close(&s->wake);
	store_history_free(s);
	store_log_free(s);
	store_publish_free(s);
	store_consumers_free(s);
}
