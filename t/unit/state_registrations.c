/* registrations: what each phase becomes, and who is told. */
#include "unit/state_registrations.h"

static void
setup(void)
{
	struct state_txn *txn;

	fixture_init();
	txn = write_begin();
	add_connections(txn, 1, 9);
	commit(txn);
}

TestSuite(state_registrations, .init = setup, .fini = fixture_fini);

/* The notifier's inbox, "r5 u5": what it is asked, and about whom. */
static const char *
asked(void)
{
	const struct events *events = inbox_of(INBOX_SERVICE(BOARD_NOTIFIER));
	static char out[512];
	size_t len = 0;
	unsigned i;

	out[0] = '\0';
	for (i = 0; i < events->n; i++)
		len += (size_t)snprintf(out + len, sizeof out - len, "%s%s%llu", i > 0 ? " " : "",
		    events->list[i].kind == INBOX_REGISTER ? "r" :
		    events->list[i].kind == INBOX_UNREGISTER ? "u" : "?",
		    (unsigned long long)events->list[i].conn_id);
	return out;
}

Test(state_registrations, a_question_is_a_row_and_an_entry)
{
	uint64_t id = ask_as(5, "me"), later = ask_as(5, "again");
	struct record_registration record;
	enum registrations_phase phase;
	struct state_txn *txn;
	uint32_t slot;

	cr_assert(lt(u64, id, later));
	cr_assert(eq(int, strcmp(asked(), "r5 r5"), 0));
	txn = read_begin();
	cr_assert(eq(int, registrations_get(txn, 5, id, &phase, &slot, &record), 0));
	state_abort(txn);
	cr_assert(eq(int, phase, REGISTRATIONS_ASKED));
	cr_assert(eq(u32, slot, 5));
	cr_assert(eq(u32, record.namespaces.count, 2));
	cr_assert(eq(int, memcmp(record.identity.data, "me", 2), 0));
	record_free_registration(&record);
}

Test(state_registrations, giving_up)
{
	uint64_t id = ask_as(5, "w");

	cr_assert(eq(int, give_up(5, id), REGISTRATIONS_ASKED));
	cr_assert(eq(int, phase_of(5, id), 0));
	cr_assert(eq(int, give_up(5, id), 0));
	id = ask_as(5, "w");
	set_phase(5, id, REGISTRATIONS_ACCEPTED);
	cr_assert(eq(int, give_up(5, id), REGISTRATIONS_ACCEPTED));
	cr_assert(eq(int, phase_of(5, id), REGISTRATIONS_DUE));
	cr_assert(eq(int, strcmp(asked(), "r5 r5 u5"), 0));
	/* a second time nobody is told */
	cr_assert(eq(int, give_up(5, id), REGISTRATIONS_DUE));
	cr_assert(eq(int, strcmp(asked(), "r5 r5 u5"), 0));
}

Test(state_registrations, a_connections_end)
{
	uint64_t due = ask_as(5, "due"), withdrawn = ask_as(5, "old"), open = ask_as(5, "new");
	uint64_t accepted = ask_as(6, "w"), other = ask_as(7, "w");
	struct state_txn *txn;

	set_phase(5, due, REGISTRATIONS_DUE);
	set_phase(5, withdrawn, REGISTRATIONS_WITHDRAWN);
	set_phase(6, accepted, REGISTRATIONS_ACCEPTED);
	set_phase(7, other, REGISTRATIONS_ACCEPTED);
	txn = write_begin();
	end(txn, 5, "test");
	end(txn, 6, "test");
	/* the keeper comes by again */
	cr_assert(eq(int, end_connection(txn, 6, "test"), 0));
	commit(txn);
	cr_assert(eq(int, phase_of(5, due), REGISTRATIONS_DUE));
	cr_assert(eq(int, phase_of(5, withdrawn), 0));
	cr_assert(eq(int, phase_of(5, open), 0));
	cr_assert(eq(int, phase_of(6, accepted), REGISTRATIONS_DUE));
	cr_assert(eq(int, phase_of(7, other), REGISTRATIONS_ACCEPTED));
	cr_assert(eq(int, strcmp(asked(), "r5 r5 r5 r6 r7 u6"), 0));
}

Test(state_registrations, a_look_sees_one_connection_up_to_a_registration)
{
	uint64_t first = ask_as(5, "a"), second = ask_as(5, "b"), third = ask_as(5, "c");
	struct registrations_view view;
	struct state_txn *txn;

	ask_as(4, "x");
	ask_as(6, "x");
	set_phase(5, first, REGISTRATIONS_DUE);
	set_phase(5, second, REGISTRATIONS_ACCEPTED);
	txn = read_begin();
	cr_assert(eq(int, registrations_look(txn, 5, third, &view), 0));
	cr_assert(eq(u64, view.due, first));
	cr_assert(eq(u64, view.accepted, second));
	cr_assert(eq(u64, view.asked, third));
	cr_assert(eq(u64, view.withdrawn, 0));
	cr_assert(eq(u32, view.slot, 5));
	cr_assert(eq(int, registrations_look(txn, 5, second, &view), 0));
	cr_assert(eq(u64, view.asked, 0));
	cr_assert(eq(int, registrations_look(txn, 8, UINT64_MAX, &view), 0));
	cr_assert(eq(u64, view.due, 0));
	state_abort(txn);
}

/* What a module is asked is taken one by one: a transaction of many is many rows, in order. */
Test(state_registrations, a_services_rows_are_single_entries)
{
	struct inbox_entry entry = { .kind = INBOX_PUBLISH, .len = 1 }, first;
	uint64_t service = INBOX_SERVICE(BOARD_NOTIFIER), id = 0;
	struct state_txn *txn = write_begin();
	const void *body = NULL;
	int i;

	for (i = 0; i < 5; i++) {
		entry.request = (uint64_t)i;
		cr_assert(eq(int, inbox_post(txn, service, 2, &entry, "abcde" + i), 0));
	}
	commit(txn);
	cr_assert(eq(u64, rows_in(STATE_INBOX), 5));
	for (i = 0; i < 5; i++) {
		txn = write_begin();
		cr_assert(eq(int, inbox_first(txn, service, &id, &first, &body), 0));
		cr_assert(eq(u64, first.request, (uint64_t)i));
		cr_assert(eq(int, *(const char *)body, "abcde"[i]));
		cr_assert(eq(int, inbox_remove(txn, service, id), 0));
		commit(txn);
	}
	txn = read_begin();
	cr_assert(eq(int, inbox_first(txn, service, &id, &first, &body), ERR_NOTFOUND));
	state_abort(txn);
}
