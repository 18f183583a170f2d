/* The store process, really: what it writes and answers, and what it does when it cannot write. */
#include <sched.h>

#include "proc/store_process.h"

TestSuite(store, .init = proc_init, .fini = proc_fini);

/* A connection of the test's own. */
static void
connect_as(uint64_t conn_id)
{
	struct state_txn *txn;

	board_take(fixture_board, 63, BOARD_CONNECTION, conn_id);
	fixture_open();
	txn = write_begin();
	cr_assert(eq(int, act_connect(txn, conn_id, 63), 0));
	cr_assert(eq(int, connections_mark_recorded(txn, conn_id), 0));
	commit(txn);
}

static void
post(uint64_t conn_id, uint64_t request, struct step_spec spec)
{
	struct state_txn *txn = write_begin();

	cr_assert(eq(int, post_step(txn, conn_id, 63, request, spec), 0));
	commit(txn);
}

static void
open_readonly(void)
{
	struct err err = { 0 };

	state_close(store_env);
	cr_assert(eq(int, store_open_readonly(&store_env, store_dir, &err), 0), "%s", err.text);
}

/* Until the record of WORKFLOW reads EXPECTED. */
static void
await_story(const char *workflow, const char *expected)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;

	while (strcmp(story(workflow), expected) != 0) {
		cr_assert(clock_now_ns() < give_up_ns, "\"%s\", not \"%s\"", story(workflow),
		    expected);
		usleep(2000);
	}
}

Test(store, an_answer_comes_when_the_outcome_is_on_disk)
{
	const struct events *events;

	spawn_store();
	await_ready();
	connect_as(5);
	post(5, 1, (struct step_spec) { .flags = OPENS, .ordinal = 1 });
	post(5, 1, (struct step_spec) { .flags = ENDS, .ordinal = 1, .result = "r" });
	events = answers(5, 1);
	cr_assert(eq(u32, events->list[0].kind, INBOX_RECORDED));
	cr_assert(eq(u32, events->list[0].code, HISTORY_RECORDED));
	cr_assert(eq(u64, events->list[0].request, 1));
	kill_store();
	open_readonly();
	cr_assert(eq(int, strcmp(outcome("wf", 1), "r"), 0));
	/* another dispatch of the same ordinal */
	spawn_store();
	post(5, 2, (struct step_spec) { .flags = OPENS | ENDS, .ordinal = 1, .result = "no" });
	events = answers(5, 1);
	cr_assert(eq(u32, events->list[0].code, HISTORY_RECORDED_ELSEWHERE));
	cr_assert(eq(int, strcmp(outcome("wf", 1), "r"), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store, what_nobody_waits_for_is_written_all_the_same)
{
	spawn_store();
	await_ready();
	connect_as(5);
	open_readonly();
	post(5, 1, (struct step_spec) { .flags = OPENS });
	await_story("wf", "1.0:1");
	post(5, 1, (struct step_spec) { .flags = 0 });
	/* the end does not wait for it either */
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	await_story("wf", "1.0:1 1.1:2");
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
}

Test(store, what_a_caller_leaves_open_is_closed)
{
	struct state_txn *txn;
	uint64_t request;

	spawn_store();
	await_ready();
	connect_as(5);
	open_readonly();
	for (request = 1; request <= 1000; request++)
		post(5, request, (struct step_spec) { .flags = OPENS,
		    .workflow = request == 1 ? "first" : request == 1000 ? "last" : "wf" });
	txn = write_begin();
	cr_assert(eq(int, end_connection(txn, 5, "over"), 1));
	cr_assert(eq(int, end_connection(txn, 5, "over"), 0));
	commit(txn);
	await_story("first", "1.0:1 1.1:6(the caller's connection ended)");
	await_story("last", "1000.0:1 1000.1:6(the caller's connection ended)");
	cr_assert(eq(u64, stored_in(STORE_OPEN), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A connection that never had anything recorded is no news for the store. */
Test(store, the_end_of_others_is_not_told)
{
	struct state_txn *txn;

	fixture_open();
	txn = write_begin();
	cr_assert(eq(int, act_connect(txn, 6, 6), 0));
	cr_assert(eq(int, end_connection(txn, 6, "over"), 1));
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
}

Test(store, a_new_life_of_the_daemon_closes_what_the_last_one_left)
{
	spawn_store();
	await_ready();
	connect_as(5);
	open_readonly();
	post(5, 1, (struct step_spec) { .flags = OPENS });
	await_story("wf", "1.0:1");
	/* everything dies, also what was on its way */
	kill_store();
	post(5, 1, (struct step_spec) { .flags = 0 });
	fixture_close();
	fixture_create(FIXTURE_SLOTS);
	spawn_store();
	await_ready();
	connect_as(5);
	await_story("wf", "1.0:1 1.1:6(the daemon ended)");
	post(5, 1, (struct step_spec) { .flags = OPENS });
	await_story("wf", "1.0:1 1.1:6(the daemon ended) 2.0:1");
	/* another process of the same life does not */
	kill_store();
	spawn_store();
	await_ready();
	post(5, 1, (struct step_spec) { .flags = HISTORY_CLOSES });
	await_story("wf", "1.0:1 1.1:6(the daemon ended) 2.0:1 2.1:6");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store, it_ends_with_the_master)
{
	spawn_store();
	await_ready();
	close(master_pipe[1]);
	master_pipe[1] = -1;
	cr_assert(eq(int, exit_status(reap_store()), ROLE_EXIT_OK));
}

Test(store, retention_is_kept_up_with_and_finished_when_it_is_quiet)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	uint64_t request;

	conf.record_keep = 5;
	spawn_store();
	await_ready();
	connect_as(5);
	for (request = 1; request <= 700; request++)
		post(5, request, (struct step_spec) { .flags = OPENS | HISTORY_CLOSES });
	open_readonly();
	while (stored_in(STORE_CLOSED) != 5) {
		cr_assert(clock_now_ns() < give_up_ns);
		usleep(2000);
	}
	await_story("wf", "696.0:6 697.0:6 698.0:6 699.0:6 700.0:6");
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store, age_is_kept_without_anything_else_to_do)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;

	conf.record_keep_age_ns = 300 * CLOCK_MS;
	spawn_store();
	await_ready();
	connect_as(5);
	post(5, 1, (struct step_spec) { .flags = ENDS, .ordinal = 1, .result = "r" });
	answers(5, 1);
	open_readonly();
	while (stored_in(STORE_CLOSED) != 0) {
		cr_assert(clock_now_ns() < give_up_ns);
		usleep(2000);
	}
	cr_assert(eq(u64, stored_in(STORE_WORKFLOWS), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Faults. */

static int
fault(char *text, size_t size)
{
	struct state_txn *txn = read_begin();
	int rc = history_fault(txn, text, size);

	state_abort(txn);
	return rc;
}

static void
await_fault(int expected, const char *part)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	char text[256] = "";

	while (fault(text, sizeof text) != expected) {
		cr_assert(clock_now_ns() < give_up_ns, "fault: \"%s\"", text);
		usleep(2000);
	}
	cr_assert(part == NULL || strstr(text, part) != NULL, "%s", text);
	cr_assert(part == NULL || strstr(text, store_dir) != NULL, "%s", text);
}

/* Of SIZE bytes; good until the next call. */
static const char *
text_of(size_t size)
{
	static char *text;

	text = realloc(text, size + 1);
	memset(text, 'x', size);
	text[size] = '\0';
	return text;
}

/* Post results of SIZE bytes until one is refused; its answer. */
static const struct event *
fill(uint64_t *request, size_t size)
{
	const struct events *events;
	const char *large = text_of(size);

	for (;;) {
		++*request;
		post(5, *request, (struct step_spec) { .flags = OPENS | ENDS,
		    .ordinal = *request, .result = large });
		events = answers(5, 1);
		if (events->list[0].code > HISTORY_RECORDED_ELSEWHERE)
			return &events->list[0];
		cr_assert(lt(u64, *request, 5000));
	}
}

Test(store, when_its_map_is_full_it_refuses_and_says_so)
{
	const struct event *refusal;
	struct err err = { 0 };
	uint64_t request = 0, first;

	store_remove_dir();
	cr_assert(eq(int, mkdir(store_dir, 0700), 0));
	cr_assert(eq(int, store_create_sized(store_dir, FIXTURE_SLOTS, STORE_SMALL, &err), 0));
	spawn_store();
	await_ready();
	connect_as(5);
	await_fault(ERR_NOTFOUND, NULL);
	refusal = fill(&request, 100000);
	cr_assert(eq(u32, refusal->code, FRAME_REASON_PRESSURE));
	cr_assert(strstr(refusal->text, store_dir) != NULL, "%s", refusal->text);
	await_fault(0, "");
	first = request;
	open_readonly();
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome("wf", first - 1), NULL));
	cr_assert(eq(ptr, (void *)(uintptr_t)outcome("wf", first), NULL));
	/* whoever waits at the end cannot be served: that is a failed flush */
	stop_store();
	request++;
	post(5, request, (struct step_spec) { .flags = OPENS | ENDS, .ordinal = request,
	    .result = text_of(STORE_SMALL) });
	cr_assert(eq(int, drain_store(), ROLE_EXIT_FLUSH));
	answers(5, 1);
	/* with less to keep (the master starts it anew) it can be written again */
	conf.record_keep = 10;
	spawn_store();
	await_ready();
	await_fault(ERR_NOTFOUND, NULL);
	request++;
	post(5, request, (struct step_spec) { .flags = ENDS, .ordinal = request, .result = "r" });
	cr_assert(eq(u32, answers(5, 1)->list[0].code, HISTORY_RECORDED));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A disk of its own, in a mount namespace, where that is allowed. */
Test(store, when_the_disk_is_full_it_refuses_until_there_is_room)
{
	const struct event *refusal;
	struct err err = { 0 };
	uint64_t request = 0;
	char hog[128];
	int fd;

	if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
	    mount("none", store_dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m") == -1)
		cr_skip_test("no mount namespace");
	cr_assert(eq(int, store_create(store_dir, FIXTURE_SLOTS, &err), 0), "%s", err.text);
	spawn_store();
	await_ready();
	connect_as(5);
	request++;
	post(5, request, (struct step_spec) { .flags = ENDS, .ordinal = 1, .result = "r" });
	answers(5, 1);
	await_fault(ERR_NOTFOUND, NULL);
	/* somebody else's file, until nearly nothing is left */
	snprintf(hog, sizeof hog, "%s/hog", store_dir);
	fd = open(hog, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert(eq(int, posix_fallocate(fd, 0, 60 << 20), 0));
	refusal = fill(&request, 500000);
	cr_assert(eq(u32, refusal->code, FRAME_REASON_PRESSURE));
	cr_assert(strstr(refusal->text, "no space is left") != NULL, "%s", refusal->text);
	await_fault(0, "");
	/* it finds out by itself */
	cr_assert(eq(int, ftruncate(fd, 0), 0));
	await_fault(ERR_NOTFOUND, NULL);
	request++;
	post(5, request, (struct step_spec) { .flags = ENDS, .ordinal = request, .result = "r" });
	cr_assert(eq(u32, answers(5, 1)->list[0].code, HISTORY_RECORDED));
	/* who was refused has been told: nothing is lost by the end */
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	close(fd);
	state_close(store_env);
	store_env = NULL;
	umount2(store_dir, MNT_DETACH);
}

/* A mark that a killed process left goes when its successor can write. */
Test(store, a_mark_of_before_goes_when_it_can_be_written)
{
	struct state_txn *txn;

	fixture_open();
	txn = write_begin();
	cr_assert(eq(int, history_set_fault(txn, "the disk is full"), 0));
	commit(txn);
	await_fault(0, NULL);
	spawn_store();
	await_ready();
	await_fault(ERR_NOTFOUND, NULL);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

Test(store, what_cannot_be_used_ends_it_with_a_reason)
{
	int status;

	conf.persist_dir = conf.runtime_dir;	/* there is no store in it */
	spawn_store();
	status = exit_status(reap_store());
	cr_assert(eq(int, status, ROLE_EXIT_STATE));
}
