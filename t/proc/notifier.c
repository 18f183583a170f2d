/*
 * The notifier's process, started over what its predecessor left at each point where it can have
 * died: what it calls, what it answers, what the ledger then says. The module is
 * t/modules/notifier_script.c.
 */
#include "role/role.h"
#include "unit/state_registrations.h"

#define NOTIFIER	BOARD_SERVICE_SLOT(BOARD_NOTIFIER)

static char module_path[PATH_MAX], calls_path[128];
static struct conf conf;
static char *args[1];

static void
setup(void)
{
	const char *modules = getenv("LIMINAL_MODULES");
	struct state_txn *txn;

	fixture_init();
	snprintf(module_path, sizeof module_path, "%s/notifier_script.so",
	    modules != NULL ? modules : "build/t/modules");
	snprintf(calls_path, sizeof calls_path, "%s/calls", fixture_dir);
	args[0] = calls_path;
	memset(&conf, 0, sizeof conf);
	conf.runtime_dir = fixture_dir;
	conf.notifier_module = module_path;
	conf.notifier_args.texts = args;
	conf.notifier_args.n = 1;
	conf.notifier_timeout_ns = INT64_C(2000000000);
	txn = write_begin();
	add_connections(txn, 5, 6);
	commit(txn);
}

static void
cleanup(void)
{
	unlink(calls_path);
	fixture_fini();
}

TestSuite(notifier, .init = setup, .fini = cleanup);

/* The last process died over a call. */
static void
died_over(enum board_call phase, enum inbox_kind kind, uint64_t conn_id, uint64_t request,
    uint64_t result)
{
	struct board_slot *slot = &fixture_board->slots[NOTIFIER];

	atomic_store(&slot->call_phase, phase);
	atomic_store(&slot->call_kind, kind);
	atomic_store(&slot->call_conn_id, conn_id);
	atomic_store(&slot->call_request, request);
	atomic_store(&slot->call_result, result);
}

/* Run a notifier until its inbox is empty: "registered 5 w; unregistered 5; ..." as the module
 * noted the calls that it was entered with. */
static const char *
run(void)
{
	struct role_context context = { .conf = &conf, .board = fixture_board, .slot = NOTIFIER };
	static char out[1024];
	struct role_answer ready;
	char line[256], call[64], who[64];
	unsigned long long conn_id;
	int control[2], watch[2], status, n;
	size_t len = 0;
	FILE *file;
	pid_t pid;

	unlink(calls_path);
	cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0));
	cr_assert(eq(int, pipe(watch), 0));
	fixture_close();	/* not across a fork */
	if ((pid = fork_child()) == 0) {
		close(control[0]);
		close(watch[1]);
		context.master_fd = watch[0];
		_exit(notifier_main(&context, control[1]));
	}
	close(control[1]);
	cr_assert(eq(int, (int)recv(control[0], &ready, sizeof ready, 0), (int)sizeof ready));
	close(control[0]);
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(eq(int, exit_status(status), ROLE_EXIT_OK));
	close(watch[0]);
	close(watch[1]);
	fixture_open();
	out[0] = '\0';
	if ((file = fopen(calls_path, "re")) != NULL) {
		while (fgets(line, sizeof line, file) != NULL) {
			who[0] = '\0';
			n = sscanf(line, "%*d enter %63s %llu %63s", call, &conn_id, who);
			if (n >= 2)
				len += (size_t)snprintf(out + len, sizeof out - len,
				    "%s%s %llu%s%s", len > 0 ? "; " : "", call, conn_id,
				    strcmp(call, "registered") == 0 ? " " : "",
				    strcmp(call, "registered") == 0 ? who : "");
		}
		fclose(file);
	}
	cr_assert(eq(uint, inbox_of(INBOX_SERVICE(BOARD_NOTIFIER))->n, 0));
	return out;
}

#define CALLS(want) do { \
	const char *calls_ = run(); \
	cr_assert(strcmp(calls_, want) == 0, "calls: '%s', not '%s'", calls_, want); \
} while (0)

/* Connection 5's only answer, to question ID. */
static void
answered(uint64_t id, enum inbox_notified code, const char *part)
{
	const struct events *events = inbox_of(5);

	cr_assert(eq(uint, events->n, 1));
	cr_assert(eq(u32, events->list[0].kind, INBOX_NOTIFIED));
	cr_assert(eq(u64, events->list[0].request, id));
	cr_assert(events->list[0].code == code, "code %u, not %u: %s", events->list[0].code, code,
	    events->list[0].text);
	cr_assert(ne(ptr, strstr(events->list[0].text, part), NULL), "'%s'", events->list[0].text);
}

static void
connection_ends(void)
{
	struct state_txn *txn = write_begin();

	end(txn, 5, "test");
	commit(txn);
}

/* What lies there when an old registration is being replaced. */
static uint64_t
accepted_before(const char *identity)
{
	uint64_t id = ask_as(5, identity);
	struct state_txn *txn;

	set_phase(5, id, REGISTRATIONS_ACCEPTED);
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, INBOX_SERVICE(BOARD_NOTIFIER), UINT64_MAX), 0));
	commit(txn);
	return id;
}

Test(notifier, accepts)
{
	uint64_t id = ask_as(5, "w");

	CALLS("registered 5 w");
	answered(id, INBOX_NOTIFIED_YES, "");
	cr_assert(eq(int, phase_of(5, id), REGISTRATIONS_ACCEPTED));
	connection_ends();
	CALLS("unregistered 5");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, rejects)
{
	uint64_t id = ask_as(5, "reject:you");

	CALLS("registered 5 reject:you");
	answered(id, INBOX_NOTIFIED_NO, "you");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, a_question_that_was_given_up_is_not_asked)
{
	uint64_t id = ask_as(5, "w");

	give_up(5, id);
	CALLS("");
	cr_assert(eq(uint, inbox_of(5)->n, 0));
}

Test(notifier, died_in_registered)
{
	uint64_t id = ask_as(5, "w");

	died_over(BOARD_CALL_BEGUN, INBOX_REGISTER, 5, id, 0);
	CALLS("");
	answered(id, INBOX_NOTIFIED_NO, "did not answer within notifier timeout");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, died_before_registered)
{
	uint64_t id = ask_as(5, "w");

	/* what the record says is of another call */
	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 6, id, 1);
	CALLS("registered 5 w");
	answered(id, INBOX_NOTIFIED_YES, "");
}

Test(notifier, died_between_an_acceptance_and_its_record)
{
	uint64_t id = ask_as(5, "w");

	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, id, 1);
	CALLS("");
	answered(id, INBOX_NOTIFIED_YES, "");
	cr_assert(eq(int, phase_of(5, id), REGISTRATIONS_ACCEPTED));
}

Test(notifier, died_between_a_rejection_and_its_record)
{
	uint64_t id = ask_as(5, "w");

	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, id, 0);
	CALLS("");
	answered(id, INBOX_NOTIFIED_NO, "lost");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, died_after_an_acceptance_that_nobody_waits_for)
{
	uint64_t id = ask_as(5, "w");

	connection_ends();
	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, id, 1);
	CALLS("unregistered 5");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

/* What the last process got a yes for is settled once, whatever its connection asks later. */
Test(notifier, died_before_an_acceptance_was_written_and_others_replace_it)
{
	uint64_t first = ask_as(5, "x"), second = ask_as(5, "y"), third = ask_as(5, "z");

	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, first, 1);
	CALLS("unregistered 5; registered 5 y; unregistered 5; registered 5 z");
	cr_assert(lt(u64, second, third));
	cr_assert(eq(int, phase_of(5, third), REGISTRATIONS_ACCEPTED));
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 1));
}

Test(notifier, died_in_unregistered)
{
	uint64_t id = accepted_before("w");

	connection_ends();
	died_over(BOARD_CALL_BEGUN, INBOX_UNREGISTER, 5, id, 0);
	CALLS("");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, replaces)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	CALLS("unregistered 5; registered 5 new");
	answered(id, INBOX_NOTIFIED_YES, "");
	cr_assert(eq(int, phase_of(5, old), 0));
	cr_assert(eq(int, phase_of(5, id), REGISTRATIONS_ACCEPTED));
}

Test(notifier, restores)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "reject:x");

	CALLS("unregistered 5; registered 5 reject:x; registered 5 old");
	answered(id, INBOX_NOTIFIED_NO, "x");
	cr_assert(eq(int, phase_of(5, old), REGISTRATIONS_ACCEPTED));
	cr_assert(eq(int, phase_of(5, id), 0));
}

Test(notifier, loses_both)
{
	uint64_t id;

	accepted_before("reject:old");
	id = ask_as(5, "reject:new");
	CALLS("unregistered 5; registered 5 reject:new; registered 5 reject:old");
	answered(id, INBOX_NOTIFIED_LOST, "new");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, died_in_the_first_call_of_a_replacement)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	died_over(BOARD_CALL_BEGUN, INBOX_UNREGISTER, 5, old, 0);
	CALLS("registered 5 new");
	answered(id, INBOX_NOTIFIED_YES, "");
	cr_assert(eq(int, phase_of(5, old), 0));
}

Test(notifier, died_in_the_second_call_of_a_replacement)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	set_phase(5, old, REGISTRATIONS_WITHDRAWN);
	died_over(BOARD_CALL_BEGUN, INBOX_REGISTER, 5, id, 0);
	CALLS("registered 5 old");
	answered(id, INBOX_NOTIFIED_NO, "timeout");
	cr_assert(eq(int, phase_of(5, old), REGISTRATIONS_ACCEPTED));
}

Test(notifier, died_in_the_third_call_of_a_replacement)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	set_phase(5, old, REGISTRATIONS_WITHDRAWN);
	give_up(5, id);		/* as the rejection did */
	died_over(BOARD_CALL_BEGUN, INBOX_REGISTER, 5, old, 0);
	CALLS("");
	answered(id, INBOX_NOTIFIED_LOST, "lost");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, died_after_restoring_for_a_connection_that_has_ended)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	set_phase(5, old, REGISTRATIONS_WITHDRAWN);
	give_up(5, id);
	connection_ends();
	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, old, 1);
	CALLS("unregistered 5");
	cr_assert(eq(u64, rows_in(STATE_REGISTRATIONS), 0));
}

Test(notifier, gives_the_old_one_back_when_the_new_one_is_given_up)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	set_phase(5, old, REGISTRATIONS_WITHDRAWN);
	give_up(5, id);
	CALLS("registered 5 old");
	answered(id, INBOX_NOTIFIED_NO, "");
	cr_assert(eq(int, phase_of(5, old), REGISTRATIONS_ACCEPTED));
}

/* The module tells registrations by their connection: the end of one comes before the next. */
Test(notifier, tells_of_what_is_due_before_it_asks)
{
	uint64_t old = accepted_before("old"), id = ask_as(5, "new");

	give_up(5, old);	/* INBOX_UNREGISTER, behind the question */
	CALLS("unregistered 5; registered 5 new");
	answered(id, INBOX_NOTIFIED_YES, "");
	cr_assert(eq(int, phase_of(5, old), 0));
}

Test(notifier, a_later_restoring_is_a_new_call)
{
	uint64_t old = accepted_before("old"), id;

	/* old was accepted in the last thing that the last process did, and recorded */
	died_over(BOARD_CALL_DONE, INBOX_REGISTER, 5, old, 1);
	id = ask_as(5, "reject:x");
	CALLS("unregistered 5; registered 5 reject:x; registered 5 old");
	answered(id, INBOX_NOTIFIED_NO, "x");
}
