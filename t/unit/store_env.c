/* store: the environment that outlives the daemon. */
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "unit/store_fixture.h"

TestSuite(store_env, .init = store_init, .fini = store_fini);

Test(store_env, what_was_committed_is_there_after_creating_it_again)
{
	struct err err = { 0 };
	struct state_txn *txn = store_begin();

	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS });
	store_commit(txn);
	state_close(store_env);
	store_env = NULL;
	cr_assert(eq(int, store_create(store_dir, 16, &err), 0), "%s", err.text);
	store_reopen();
	cr_assert(eq(int, strcmp(story("wf"), "1.0:1"), 0));
	cr_assert(eq(int, strcmp(state_table_names[STORE_HISTORY], "history"), 0));
	cr_assert(eq(int, strcmp(state_table_names[STORE_WORKFLOWS], "workflows"), 0));
	cr_assert(eq(int, strcmp(state_table_names[STORE_OPEN], "open"), 0));
	cr_assert(eq(int, strcmp(state_table_names[STORE_CLOSED], "closed"), 0));
	cr_assert(eq(int, strcmp(state_table_names[STORE_META], "meta"), 0));
}

Test(store_env, others_read_while_it_is_written_and_cannot_write)
{
	struct err err = { 0 };
	struct state_txn *txn = store_begin();
	int status;
	pid_t pid;

	apply((struct step_spec) { .conn_id = 1, .request = 1, .flags = OPENS });
	store_commit(txn);
	txn = store_begin();
	if ((pid = fork_child()) == 0) {
		struct state *reader;

		if (store_open_readonly(&reader, store_dir, &err) != 0)
			_exit(1);
		if (state_begin_write(reader, &txn) == 0)
			_exit(2);
		_exit(strcmp(story_in(reader, "wf"), "1.0:1") == 0 ? 0 : 3);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(eq(int, exit_status(status), 0));
	state_abort(txn);
}

Test(store_env, the_tables_of_the_state_are_not_among_its_own)
{
	struct state_txn *txn = store_begin();
	struct state_cursor *cursor;
	struct state_view row;

	cr_assert(lt(int, state_put(txn, STATE_COUNTERS, "k", 1, "v", 1), 0));
	cr_assert(lt(int, state_get(txn, STATE_COUNTERS, "k", 1, &row), 0));
	cr_assert(lt(int, state_cursor_open(txn, STATE_CONNECTIONS, &cursor), 0));
	cr_assert(eq(u64, state_count(txn, STATE_CONNECTIONS), 0));
	state_abort(txn);
}

/* The reasons for exit code 3 of the daemon, each with the path. */

static void
cannot_create(const char *dir, int code, const char *part)
{
	struct err err = { 0 };
	int rc = store_create(dir, 16, &err);

	cr_assert(rc == code, "%d, not %d: %s", rc, code, err.text);
	cr_assert(strstr(err.text, "persist_dir") != NULL, "%s", err.text);
	cr_assert(strstr(err.text, dir) != NULL, "%s", err.text);
	cr_assert(strstr(err.text, part) != NULL, "%s", err.text);
}

Test(store_env, a_directory_that_is_missing_is_named)
{
	struct err err = { 0 };
	struct state *store;

	cannot_create("/dev/shm/no/such/directory", ERR_SYSTEM, "No such file or directory");
	cr_assert(eq(int, store_open(&store, "/dev/shm/no/such/directory", &err), ERR_SYSTEM));
	cr_assert(eq(ptr, store, NULL));
	cr_assert(strstr(err.text, "/dev/shm/no/such/directory/store") != NULL, "%s", err.text);
}

static int
spoil(const char *file, const char *bytes, off_t size)
{
	char path[128];
	int fd, rc;

	snprintf(path, sizeof path, "%s/store/%s", store_dir, file);
	if ((fd = open(path, O_WRONLY | O_CLOEXEC)) == -1)
		return -1;
	rc = bytes == NULL ? ftruncate(fd, size) :
	    (int)pwrite(fd, bytes, (size_t)size, 0) - (int)size;
	close(fd);
	return rc;
}

Test(store_env, a_file_that_is_no_store_is_refused_and_left_alone)
{
	struct stat st;
	char path[128];

	state_close(store_env);
	store_env = NULL;
	cr_assert(eq(int, spoil("data.mdb", NULL, 0), 0));
	cr_assert(eq(int, spoil("data.mdb", "my diary, which nobody must overwrite",
	    37), 0));
	cr_assert(eq(int, spoil("data.mdb", NULL, 70000), 0));
	cannot_create(store_dir, ERR_CORRUPT, "/store");
	snprintf(path, sizeof path, "%s/store/data.mdb", store_dir);
	cr_assert(eq(int, stat(path, &st), 0));
	cr_assert(eq(i64, st.st_size, 70000));
}

/* A file that was cut off: the reader must not end with SIGBUS. In a child, because it may. */
Test(store_env, a_file_that_was_cut_off_reads_as_corrupt)
{
	struct state_txn *txn = store_begin();
	struct err err = { 0 };
	struct frame_view id = act_view("wf");
	static struct told told;
	struct state *store;
	struct stat st;
	char path[128];
	int status;
	pid_t pid;

	for (uint64_t i = 1; i < 3000; i++)
		apply((struct step_spec) { .conn_id = 1, .request = i, .flags = ENDS,
		    .ordinal = i });
	store_commit(txn);
	state_close(store_env);
	store_env = NULL;
	snprintf(path, sizeof path, "%s/store/data.mdb", store_dir);
	cr_assert(eq(int, stat(path, &st), 0));
	cr_assert(eq(int, spoil("data.mdb", NULL, st.st_size / 4096 / 2 * 4096), 0));
	if ((pid = fork_child()) == 0) {
		if (store_create(store_dir, 16, &err) != 0)
			_exit(0);	/* seen at once: as good */
		if (store_open(&store, store_dir, &err) != 0 ||
		    state_begin_read(store, &txn) != 0)
			_exit(0);
		_exit(history_each(txn, &id, tell_step, &told) < 0 ? 0 : 1);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(exit_status(status) == 0, "0x%x", (unsigned)status);
}

/* On a read-only file system, in a mount namespace of the test's own where that is allowed. */
Test(store_env, a_read_only_file_system_is_named)
{
	struct err err = { 0 };
	int status, rc;
	pid_t pid;

	state_close(store_env);
	store_env = NULL;
	if ((pid = fork_child()) == 0) {
		if (unshare(CLONE_NEWNS) == -1 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
		    mount(store_dir, store_dir, NULL, MS_BIND, NULL) == -1 ||
		    mount(NULL, store_dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == -1)
			_exit(77);
		rc = store_create(store_dir, 16, &err);
		if (rc != ERR_SYSTEM || strstr(err.text, "Read-only file system") == NULL ||
		    strstr(err.text, store_dir) == NULL)
			fprintf(stderr, "%d: %s\n", rc, err.text);
		_exit(rc == ERR_SYSTEM && strstr(err.text, "Read-only") != NULL ? 0 : 1);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(exit_status(status) == 0 || exit_status(status) == 77);
	if (exit_status(status) == 77)
		cr_skip_test("no mount namespace");
}

/* Map sizes. */

/* Where the address space is limited the map is smaller, and a store that was created without a
 * limit can be used. Not under AddressSanitizer, which needs the address space for itself. */
Test(store_env, it_opens_where_the_address_space_is_limited)
{
	struct rlimit limit = { (rlim_t)3 << 30, (rlim_t)3 << 30 };
	struct state_txn *txn;
	struct err err = { 0 };
	int status;
	pid_t pid;

	if (getenv("LIMINAL_SANITIZED") != NULL)
		cr_skip_test("address space");
	state_close(store_env);
	store_env = NULL;
	cr_assert(eq(int, store_create(store_dir, 16, &err), 0), "%s", err.text);
	if ((pid = fork_child()) == 0) {
		setrlimit(RLIMIT_AS, &limit);
		if (store_open(&store_env, store_dir, &err) != 0)
			_exit(1);
		if (state_begin_write(store_env, &txn) != 0 || state_commit(txn) != 0)
			_exit(2);
		state_close(store_env);
		if (store_create(store_dir, 16, &err) != 0)
			_exit(3);
		_exit(store_open_readonly(&store_env, store_dir, &err) == 0 ? 0 : 4);
	}
	cr_assert(eq(int, waitpid(pid, &status, 0), pid));
	cr_assert(exit_status(status) == 0, "0x%x", (unsigned)status);
	/* and with room again it is what it was */
	store_reopen();
	cr_assert(eq(int, strcmp(story("wf"), ""), 0));
}

/* Full. */

static int
fill_one(uint64_t request, const char *large)
{
	enum history_recorded recorded;
	struct state_txn *txn = store_begin();
	int rc;

	rc = apply_step((struct step_spec) { .conn_id = 1, .request = request,
	    .flags = OPENS | ENDS, .ordinal = request, .result = large }, &recorded);
	if (rc == 0)
		rc = history_write_end(&writer);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

static int
is_tight(void)
{
	struct state_txn *txn = store_begin();
	int tight = state_is_tight(txn);

	state_abort(txn);
	return tight;
}

Test(store_env, a_full_map_refuses_and_what_is_forgotten_makes_room)
{
	uint64_t request, first, round;
	struct state_txn *txn;
	static char large[20001];
	int64_t next_ns;
	int rc = 0, was_tight = 0;

	memset(large, 'x', sizeof large - 1);
	for (request = 1; (rc = fill_one(request, large)) == 0; request++)
		was_tight |= is_tight();
	cr_assert(eq(int, rc, ERR_FULL));
	cr_assert(was_tight, "nobody was warned");
	cr_assert(lt(u64, 300, request));
	first = request;
	/* what is in it is unharmed */
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome("wf", 1), NULL));
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome("wf", first - 1), NULL));
	cr_assert(eq(ptr, (void *)(uintptr_t)outcome("wf", first), NULL));
	/* the older half is forgotten, which has to work when it is full, and fits again */
	for (round = 0; round < 5; round++) {
		writer.keep = stored_in(STORE_CLOSED) / 2;
		do {
			txn = store_begin();
			rc = history_trim(&writer, 64, 0, &next_ns);
			cr_assert(le(int, 0, rc));
			store_commit(txn);
		} while (rc > 0);
		cr_assert(eq(int, is_tight(), 0));
		for (; (rc = fill_one(request, large)) == 0; request++)
			;
		cr_assert(eq(int, rc, ERR_FULL));
	}
	cr_assert(lt(u64, first + first / 4 * 5, request));
	store_reopen();
	cr_assert(ne(ptr, (void *)(uintptr_t)outcome("wf", request - 1), NULL));
}

static off_t
file_size(void)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof path, "%s/store/data.mdb", store_dir);
	cr_assert(zero(int, stat(path, &st)));
	return st.st_size;
}

Test(store_env, its_file_grows_ahead_of_what_is_in_it_within_bounds)
{
	char large[64 * 1024] = "x";
	struct state_txn *txn;
	off_t before, after;
	uint64_t key;

	for (key = 1; key <= 64; key++) {
		txn = store_begin();
		cr_assert(zero(int, state_append(txn, STORE_HISTORY, &key, sizeof key, large,
		    sizeof large)), "row %llu", (unsigned long long)key);
		store_commit(txn);
	}
	before = file_size();
	store_grow_ahead(store_env);
	after = file_size();
	cr_assert(lt(i64, before, after));
	for (key = 0; key < 64; key++)
		store_grow_ahead(store_env);
	/* A quarter of what is in it, and less than a step more. */
	cr_assert(lt(i64, file_size() - before, before / 4 + 512 * 1024));
	after = file_size();

	key = 1;
	txn = store_begin();
	cr_assert(eq(int, state_append(txn, STORE_HISTORY, &key, sizeof key, "y", 1), ERR_INVALID),
	    "not behind the others");
	cr_assert(zero(int, state_put(txn, STORE_HISTORY, &key, sizeof key, "y", 1)));
	store_commit(txn);
	cr_assert(eq(i64, file_size(), after), "a commit takes what is there");
	state_close(store_env);
	store_env = NULL;
	store_reopen();
	txn = store_look();
	cr_assert(eq(u64, state_count(txn, STORE_HISTORY), 64));
	state_abort(txn);
}
