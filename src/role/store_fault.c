/*
 * Why the store cannot be written: found out after each commit, told to those who wait, and in the
 * state to those who would begin something. It is tried again until it works.
 */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "role/store.h"

/* Room on the disk below which new work is refused: one answer of the largest kind. */
#define STORE_DISK_MIN		(UINT64_C(16) << 20)
#define STORE_DISK_LOOK_NS	CLOCK_SECOND
#define STORE_RETRY_MIN_NS	(CLOCK_SECOND / 4)
#define STORE_RETRY_MAX_NS	(5 * CLOCK_SECOND)

#define STORE_FAULT_FULL	"the store is full; what it keeps is said by dispatch " \
				"record_keep and by the channels' keep_ settings"

#define STORE_FAULT_GONE	"the store was removed or replaced: put it back as it was, or " \
				"restart liminald"

void
store_fault_text(const struct store *s, const char *what, char text[STORE_TEXT])
{
	snprintf(text, STORE_TEXT, "persist_dir %.100s: %s", s->context->conf->persist_dir, what);
}

static int
store_fault_disk_is_full(struct store *s)
{
	struct statvfs fs;

	s->fault.disk_looked_ns = clock_now_ns();
	return statvfs(s->context->conf->persist_dir, &fs) == 0 &&
	    (uint64_t)fs.f_bavail * fs.f_frsize < STORE_DISK_MIN;
}

static void
store_fault_set_text(struct store *s, uint32_t code, const char *text)
{
	struct store_fault *fault = &s->fault;
	int64_t now = clock_now_ns();
	char before[STORE_TEXT];

	memcpy(before, fault->text, sizeof before);
	snprintf(fault->text, sizeof fault->text, "%s", text);
	fault->code = code;
	if (strcmp(before, fault->text) != 0) {
		log_errorx("the store cannot be written: %s", fault->text);
		fault->is_told = 0;
	}
	if (before[0] == '\0')
		fault->retry_ns = STORE_RETRY_MIN_NS;
	else if (now < fault->retry_at_ns)
		return;		/* somebody's work tried it in between */
	else if ((fault->retry_ns *= 2) > STORE_RETRY_MAX_NS)
		fault->retry_ns = STORE_RETRY_MAX_NS;
	fault->retry_at_ns = now + fault->retry_ns;
}

static void
store_fault_set(struct store *s, uint32_t code, const char *what)
{
	char text[STORE_TEXT];

	store_fault_text(s, what, text);
	store_fault_set_text(s, code, text);
}

void
store_fault_set_open(struct store *s, const char *text)
{
	store_fault_set_text(s, FRAME_REASON_OTHER, text);
}

static void
store_fault_set_disk(struct store *s, const char *what)
{
	s->fault.is_disk = 1;
	store_fault_set(s, FRAME_REASON_PRESSURE, what);
}

static void
store_fault_clear(struct store *s)
{
	s->fault.is_disk = 0;
	if (s->fault.text[0] == '\0')
		return;
	log_info("the store can be written again");
	s->fault.text[0] = '\0';
	s->fault.is_told = 0;
}

void
store_fault_judge(struct store *s, int is_tight)
{
	if (s->is_readonly)
		return;
	if (is_tight)
		store_fault_set(s, FRAME_REASON_PRESSURE, STORE_FAULT_TIGHT);
	else if (s->fault.text[0] == '\0' &&
	    clock_now_ns() - s->fault.disk_looked_ns < STORE_DISK_LOOK_NS)
		return;
	else if (store_fault_disk_is_full(s))
		store_fault_set_disk(s, STORE_FAULT_DISK);
	else
		store_fault_clear(s);
}

/* LMDB's words, and what can be done about it. */
static void
store_fault_set_damaged(struct store *s)
{
	char what[STORE_TEXT / 2 + 8];	/* what store_fault_text() leaves room for */

	snprintf(what, sizeof what, STATE_DAMAGED_TEXT " (%s)", state_error_text(s->store));
	store_fault_set(s, FRAME_REASON_OTHER, what);
}

void
store_fault_set_for(struct store *s, int rc)
{
	if (s->is_readonly)
		return;		/* said already */
	if (!store_is_in_place(s->store)) {
		store_fault_set(s, FRAME_REASON_OTHER, STORE_FAULT_GONE);
		return;
	}
	/* LMDB's own words for a full disk are often others. */
	if (store_fault_disk_is_full(s))
		store_fault_set_disk(s, "no space is left on the disk");
	else if (rc == ERR_FULL)
		store_fault_set(s, FRAME_REASON_PRESSURE, STORE_FAULT_FULL);
	else if (rc == ERR_CORRUPT)
		store_fault_set_damaged(s);
	else
		store_fault_set(s, FRAME_REASON_OTHER, rc == ERR_NOMEM ? "out of memory" :
		    state_error_text(s->store));
}

int
store_fault_is_disk(struct store *s)
{
	return s->fault.is_disk && store_fault_disk_is_full(s);
}
