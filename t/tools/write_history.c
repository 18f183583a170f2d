/*
 * write_history: makes a store with the record that standard input describes, so that what reads
 * a record can be tested with any content.
 *
 *	write-history PERSIST_DIR
 *
 * A line is a step, twelve fields with a tab between them: workflow id, dispatch, step, time in
 * nanoseconds, ordinal or "-", conversation id, channel, activity type, worker id, message, reason
 * code, operations; and, if there is a result, one more. An operation is kind:activity:retry, with
 * commas between several. In texts, %XX is a byte. A line "garbage" and a workflow id is a row
 * that does not read back.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/history_rows.h"
#include "state/store.h"

enum field {
	WORKFLOW, DISPATCH, STEP, TIME, ORDINAL, CONVERSATION, CHANNEL, TYPE, WORKER, MESSAGE, CODE,
	OPERATIONS, RESULT, N_FIELDS
};

static void __attribute__((noreturn))
die(const char *what)
{
	fprintf(stderr, "write-history: %s\n", what);
	exit(1);
}

/* Decode %XX in place. */
static struct frame_view
decode(char *text)
{
	struct frame_view view = { (const uint8_t *)text, 0 };
	char *to = text, hex[3] = "";

	for (; *text != '\0'; text++) {
		if (*text == '%' && isxdigit((unsigned char)text[1]) &&
		    isxdigit((unsigned char)text[2])) {
			memcpy(hex, text + 1, 2);
			*to++ = (char)strtoul(hex, NULL, 16);
			text += 2;
		} else {
			*to++ = *text;
		}
	}
	view.len = (size_t)(to - (char *)(uintptr_t)view.data);
	return view;
}

static void
read_operations(char *text, struct record_operations *operations)
{
	unsigned kind, activity, retry;
	char *one;

	while ((one = strsep(&text, ",")) != NULL) {
		if (operations->n == RECORD_OPERATIONS_MAX ||
		    sscanf(one, "%u:%u:%u", &kind, &activity, &retry) != 3)
			die("bad operations");
		operations->list[operations->n++] = (struct record_operation){
			(uint8_t)kind, (uint8_t)activity, (uint8_t)retry, operations->at_ns
		};
	}
}

/* A step, with which its dispatch becomes one of WORKFLOW's if it is the first. */
static void
write_row(struct state_txn *txn, const struct frame_view *workflow, uint64_t dispatch,
    uint32_t step, int64_t at_ns, const struct buf *image)
{
	struct history_workflow_key parts = { *workflow, HISTORY_DISPATCH, dispatch, 0 };
	uint8_t workflow_key[HISTORY_WORKFLOW_KEY_MAX], key[HISTORY_STEP_KEY_SIZE];

	history_step_key(key, dispatch, step);
	if (state_put(txn, STORE_HISTORY, key, sizeof(key), buf_head(image),
	    buf_len(image)) != 0 ||
	    (step == 0 && state_put(txn, STORE_WORKFLOWS, workflow_key,
	    history_workflow_key(workflow_key, &parts), &at_ns, sizeof(at_ns)) != 0))
		die("cannot write a row");
}

static void
write_step(struct state_txn *txn, char *line)
{
	char empty[1] = "", *fields[N_FIELDS];
	struct record_operations operations = { 0 };
	struct frame_view workflow;
	struct buf image = { 0 };

	for (int i = 0; i < N_FIELDS; i++)
		fields[i] = line != NULL ? strsep(&line, "\t") : empty;
	workflow = decode(fields[WORKFLOW]);
	operations.at_ns = strtoll(fields[TIME], NULL, 10);
	operations.has_ordinal = strcmp(fields[ORDINAL], "-") != 0;
	operations.ordinal = strtoull(fields[ORDINAL], NULL, 10);
	operations.conversation_id = decode(fields[CONVERSATION]);
	operations.channel = decode(fields[CHANNEL]);
	operations.activity_type = decode(fields[TYPE]);
	operations.worker_id = decode(fields[WORKER]);
	operations.message = decode(fields[MESSAGE]);
	operations.code = (uint32_t)strtoul(fields[CODE], NULL, 0);
	operations.result = decode(fields[RESULT]);
	read_operations(fields[OPERATIONS], &operations);
	if (record_pack_operations(&operations, &image) != 0)
		die("cannot pack a step");
	write_row(txn, &workflow, strtoull(fields[DISPATCH], NULL, 10),
	    (uint32_t)strtoul(fields[STEP], NULL, 10), operations.at_ns, &image);
	buf_free(&image);
}

static void
write_garbage(struct state_txn *txn, char *workflow_id)
{
	struct frame_view workflow = decode(workflow_id);
	struct buf image = { 0 };

	if (buf_append(&image, "garbage", 7) != 0)
		die("out of memory");
	write_row(txn, &workflow, 1, 0, 0, &image);
	buf_free(&image);
}

int
main(int argc, char **argv)
{
	struct state_txn *txn;
	struct state *store;
	struct err err = { 0 };
	char *line = NULL;
	size_t size = 0;

	if (argc != 2)
		die("usage: write-history PERSIST_DIR");
	if (store_create(argv[1], 16, &err) != 0 || store_open(&store, argv[1], &err) != 0)
		die(err.text);
	if (state_begin_write(store, &txn) != 0)
		die(state_error_text(store));
	while (getline(&line, &size, stdin) != -1) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "garbage ", 8) == 0)
			write_garbage(txn, line + 8);
		else
			write_step(txn, line);
	}
	if (state_commit(txn) != 0)
		die(state_error_text(store));
	free(line);
	state_close(store);
	return 0;
}
