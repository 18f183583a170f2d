/*
 * state: what a full map and a full file system do: new work is refused, nothing of before is
 * harmed, and old work can be finished. On a small tmpfs in a mount namespace of the
 * test's own, where that is allowed; else on the whole map.
 */
#include <sched.h>
#include <sys/statvfs.h>

#include "unit/state_channels.h"

#define SMALL_MIB	11

static int is_small;

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd != -1) {
		(void)!write(fd, text, strlen(text));
		close(fd);
	}
}

/* A mount namespace, with a user namespace around it for those who are not root. */
static int
enter_namespace(void)
{
	char map[64];
	uid_t uid = getuid();
	gid_t gid = getgid();

	if (unshare(CLONE_NEWNS) == -1) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == -1)
			return -1;
		write_file("/proc/self/setgroups", "deny");
		snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
		write_file("/proc/self/uid_map", map);
		snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
		write_file("/proc/self/gid_map", map);
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int
mount_small(const char *size)
{
	return mount("none", fixture_dir, "tmpfs", MS_NOSUID | MS_NODEV, size);
}

static void
full_setup(void)
{
	struct state_txn *txn;
	struct err err = { 0 };
	char size[32];

	fixture_make_dir();
	snprintf(size, sizeof size, "size=%dm", SMALL_MIB);
	is_small = enter_namespace() == 0 && mount_small(size) == 0;
	fixture_board = board_create(FIXTURE_SLOTS);
	cr_assert(eq(int, wake_open(&fixture_wake, fixture_board, 0, &err), 0), "%s", err.text);
	fixture_create(16);
	fixture_open();
	txn = write_begin();
	add_connections(txn, 1, 8);
	commit(txn);
}

static void
full_teardown(void)
{
	int rules;

	fixture_close();
	rules = fixture_check(NULL);
	for (size_t i = 0; i < FIXTURE_SLOTS; i++)
		workers_pools_free(&fixture_pools[i]);
	wake_close(&fixture_wake);
	if (is_small)
		umount2(fixture_dir, MNT_DETACH);
	fixture_remove_dir();
	fixture_must_be_kept(rules);
}

/* A skipped test has no teardown. */
static void
need_small(void)
{
	if (is_small)
		return;
	full_teardown();
	cr_skip_test("needs a mount");
}

TestSuite(state_full, .init = full_setup, .fini = full_teardown);

#define BODY	(100 * 1000)
static char body[BODY + 1];

/* Post one large entry to CONN_ID in a transaction of its own. */
static int
post_large(uint64_t conn_id, uint64_t request, size_t len)
{
	struct inbox_entry entry = { .kind = INBOX_REPLY, .len = (uint32_t)len,
	    .request = request };
	struct state_txn *txn = write_begin();
	int rc;

	memset(body, 'a' + (int)(request % 26), len);
	rc = inbox_post(txn, conn_id, (uint32_t)conn_id, &entry, body);
	if (rc != 0) {
		state_abort(txn);
		return rc;
	}
	return state_commit(txn);
}

struct whole { uint64_t n; size_t len; };

static int
check_whole(void *arg, const struct inbox_entry *entry, const void *bytes)
{
	struct whole *whole = arg;
	const char *text = bytes;

	cr_assert(eq(u64, entry->request, whole->n++));
	cr_assert(eq(sz, entry->len, whole->len));
	for (size_t i = 0; i < entry->len; i += 997)
		cr_assert(text[i] == (char)('a' + (int)(entry->request % 26)));
	return 0;
}

static uint64_t
count_whole(uint64_t conn_id, size_t len)
{
	struct whole whole = { 0, len };
	struct state_txn *txn = read_begin();
	unsigned rows;

	cr_assert(eq(int, inbox_read(txn, conn_id, 0, &rows, check_whole, &whole), 0));
	state_abort(txn);
	return whole.n;
}

/* What does not fit is refused as a whole, and what was there before stays as it was. */
Test(state_full, a_full_map_refuses_and_harms_nothing)
{
	uint64_t n, more;
	struct state_txn *txn;
	int rc = 0;

	for (n = 0; rc == 0; n++)
		rc = post_large(3, n, BODY);
	n--;
	cr_assert(eq(int, rc, ERR_FULL));
	cr_assert(lt(u64, 40, n));
	cr_assert(eq(u64, count_whole(3, BODY), n));
	cr_assert(eq(int, fixture_check(NULL), 0));
	/* again and again: no worse */
	for (int i = 0; i < 20; i++)
		cr_assert(eq(int, post_large(3, n, BODY), ERR_FULL));
	cr_assert(eq(u64, count_whole(3, BODY), n));
	/* room is made by taking something away, and used again */
	txn = write_begin();
	cr_assert(eq(int, inbox_remove(txn, 3, UINT64_MAX), 0));
	commit(txn);
	rc = 0;
	for (more = 0; rc == 0; more++)
		rc = post_large(3, more, BODY);
	cr_assert(eq(int, rc, ERR_FULL));
	cr_assert(lt(u64, n / 2, more));
	txn = write_begin();
	end(txn, 3, "over");
	commit(txn);
}

/* Rows come and go until the free pages lie scattered and the file has reached its end; then
 * too everything can be removed at once, although LMDB wants a run of pages for the list of
 * what that frees. */
Test(state_full, removing_works_on_a_fragmented_map)
{
	struct state_txn *txn;
	uint64_t n = 0;

	if (is_small) {
		fixture_close();
		cr_assert(eq(int, umount2(fixture_dir, MNT_DETACH), 0));
		cr_assert(eq(int, mount_small("size=200m"), 0));
		fixture_create(16);
		fixture_open();
	}
	for (int round = 0; round < 3; round++) {
		txn = write_begin();
		end_connection(txn, 3, "over");
		add_connections(txn, 3, 3);
		commit(txn);
		while (post_large(3, n, BODY) == 0)
			n++;
	}
	txn = write_begin();
	end(txn, 3, "over");
	commit(txn);
}

/* Requests of 4 KB until new work has to be refused; then all of it is carried out, with answers
 * of the same size, and it is never too much. */
Test(state_full, what_was_accepted_before_it_was_tight_can_be_finished)
{
	static char payload[4001];
	uint64_t n, first = 0, done;
	struct state_txn *txn;
	struct pushed *pushed;
	uint32_t freed;
	int tight;

	memset(payload, 'p', sizeof payload - 1);
	pushed = calloc(1, sizeof *pushed);
	for (int round = 0; round < (is_small ? 4 : 2); round++) {
		txn = write_begin();
		add_worker(txn, 5, (struct worker_spec){ .max = 8 });
		commit(txn);
		for (n = 0, tight = 0; !tight; n++) {
			txn = write_begin();
			if (!(tight = state_is_tight(txn)))
				place(txn, n % 4 + 1, n, (struct request_spec){
				    .payload = payload, .limit = 1000000 });
			commit(txn);
		}
		cr_assert(lt(u64, 1000, n));
		if (round == 0)
			first = n;
		/* what one round takes is there for the next */
		cr_assert(first - first / 8 < n, "%llu, then %llu",
		    (unsigned long long)first, (unsigned long long)n);
		for (done = 0; done < n - 1; done += freed) {
			*pushed = *pushed_to(5);
			cr_assert(lt(uint, 0, pushed->n));
			txn = write_begin();
			freed = 0;
			for (unsigned i = 0; i < pushed->n; i++)
				cr_assert(eq(int, act_reply(txn, 5, pushed->list[i].correlation,
				    payload, sizeof payload - 1, &freed), 0));
			settle(txn, 5, freed);
			commit(txn);
			txn = write_begin();
			for (uint64_t id = 1; id <= 4; id++)
				cr_assert(eq(int, inbox_remove(txn, id, UINT64_MAX), 0));
			commit(txn);
		}
		cr_assert(eq(int, waiting_in("ns"), 0));
		for (uint64_t id = 1; id <= 8; id++) {
			txn = write_begin();
			end(txn, id, "over");
			commit(txn);
		}
		txn = write_begin();
		add_connections(txn, 1, 8);
		commit(txn);
		usleep(30 * 1000);	/* the free pages are counted anew after 20 ms */
		txn = write_begin();
		cr_assert(eq(int, state_is_tight(txn), 0));
		state_abort(txn);
	}
	free(pushed);
}

/* Fill the map with whatever size still goes in. */
static void
fill_up(uint64_t conn_id)
{
	size_t len = BODY;
	uint64_t n = 0;
	int rc;

	while (len > 256) {
		while ((rc = post_large(conn_id, n, len)) == 0)
			n++;
		cr_assert(eq(int, rc, ERR_FULL));
		len /= 4;
	}
}

/* Whoever takes room can always be made to give it back. */
Test(state_full, connections_can_end_when_nothing_more_fits)
{
	struct state_txn *txn = write_begin();

	add_worker(txn, 5, (struct worker_spec){ 0 });
	place(txn, 3, 1, (struct request_spec){ 0 });
	place(txn, 4, 2, (struct request_spec){ 0 });
	commit(txn);
	fill_up(3);
	for (uint64_t id = 3; id <= 8; id++) {
		int rc;

		txn = write_begin();
		rc = end_connection(txn, id, "over");
		cr_assert(rc == 1, "%llu: %d, %s", (unsigned long long)id, rc,
		    state_error_text(fixture_state));
		commit(txn);
	}
	cr_assert(eq(u64, rows_in(STATE_PUSHES), 0));
}

/* What waits cannot be moved to its worker when there is no room for a copy: its caller is told,
 * and the worker's own answer goes its way. */
Test(state_full, a_waiting_request_that_cannot_be_moved_is_refused)
{
	const size_t len = is_small ? 2 << 20 : 200 << 20;
	char *payload = malloc(len + 1);
	struct act_placed placed;
	struct state_txn *txn;

	memset(payload, 'p', len);
	payload[len] = '\0';
	txn = write_begin();
	add_worker(txn, 5, (struct worker_spec){ 0 });
	placed = place(txn, 1, 1, (struct request_spec){ 0 });
	place(txn, 2, 2, (struct request_spec){ .payload = payload });
	place(txn, 2, 3, (struct request_spec){ .payload = "small" });
	commit(txn);
	free(payload);
	fill_up(3);
	txn = write_begin();
	reply(txn, 5, placed.correlation, "ok");
	commit(txn);
	cr_assert(eq(uint, inbox_of(1)->n, 1));
	cr_assert(eq(u32, inbox_of(1)->list[0].kind, INBOX_REPLY));
	cr_assert(eq(uint, inbox_of(2)->n, 1));
	cr_assert(eq(u32, inbox_of(2)->list[0].kind, INBOX_FAILED));
	cr_assert(eq(u32, inbox_of(2)->list[0].code, FRAME_REASON_PRESSURE));
	cr_assert(eq(u64, inbox_of(2)->list[0].request, 2));
	cr_assert(strstr(inbox_of(2)->list[0].text, "runtime_dir") != NULL);
	cr_assert(eq(int, strcmp(requests_at(5), "3"), 0));
}

/* As publishers do, until they have to refuse: how many bytes. */
static uint64_t
publish_until_crowded(void)
{
	uint64_t bytes = 0;
	struct state_txn *txn;
	int is_crowded = 0;
	size_t size;

	while (!is_crowded) {
		size = (size_t)(10 + drand48() * drand48() * 300000);
		txn = write_begin();
		is_crowded = state_is_crowded(txn) || !state_fits(txn, size);
		if (!is_crowded) {
			cr_assert(zero(int, channels_append(txn, 0, &size, 1, 0)));
			bytes += size;
		}
		commit(txn);
	}
	return bytes;
}

/* What subscribers have not read does not keep others from their work; and it can be removed, whatever
 * lies around it, and its room is used again. */
Test(state_full, messages_leave_room_for_others)
{
	uint64_t bytes, first = 0, n;
	struct state_txn *txn;
	int round, tight;

	srand48(3);
	channels_make(1, 1);
	for (round = 0; round < (is_small ? 8 : 2); round++) {
		bytes = publish_until_crowded();
		if (round == 0)
			first = bytes;
		cr_assert(lt(u64, first / 2, bytes), "%llu, then %llu",
		    (unsigned long long)first, (unsigned long long)bytes);
		txn = write_begin();
		add_worker(txn, 5, (struct worker_spec){ .max = 1000 });
		commit(txn);
		for (n = 0, tight = 0; !tight; n++) {
			txn = write_begin();
			if (!(tight = state_is_tight(txn)))
				place(txn, 1, n, (struct request_spec){ .payload = "work" });
			commit(txn);
			if (n == 500)
				break;
		}
		cr_assert(eq(u64, n, 500), "dispatches go on");
		while (channel_row(0).mark.first <= channel_row(0).mark.head)
			cr_assert(gt(int, trim(0, channels_no_bound, UINT64_MAX, 0, 16), 0));
		txn = write_begin();
		end(txn, 5, "over");
		end(txn, 1, "over");
		commit(txn);
		txn = write_begin();
		add_connections(txn, 1, 1);
		add_connections(txn, 5, 5);
		commit(txn);
		usleep(30 * 1000);	/* the free pages are counted anew after 20 ms */
		txn = write_begin();
		cr_assert(zero(int, state_is_crowded(txn)));
		state_abort(txn);
	}
}

/* Somebody else fills the file system of runtime_dir. */
Test(state_full, a_full_file_system_refuses_and_harms_nothing)
{
	static char block[65536];
	uint64_t n, i, kept;
	struct statvfs fs;
	struct state_txn *txn;
	char path[128];
	int fd, rc = 0, refused = 0;

	need_small();
	for (n = 0; n < 10; n++)
		cr_assert(eq(int, post_large(3, n, BODY), 0));
	snprintf(path, sizeof path, "%s/intruder", fixture_dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(ne(int, fd, -1));
	cr_assert(eq(int, statvfs(fixture_dir, &fs), 0));
	/* leave room for some of it */
	for (i = 0; i + 40 < fs.f_bavail; i++)
		cr_assert(eq(int, (int)write(fd, block, 4096), 4096));
	for (i = 0; i < 100; i++) {
		rc = post_large(3, n, BODY);
		if (rc == 0)
			n++;
		else {
			cr_assert(rc == ERR_FULL, "%d: %s", rc,
			    state_error_text(fixture_state));
			refused++;
		}
	}
	cr_assert(lt(int, 90, refused));
	kept = n;
	cr_assert(eq(u64, count_whole(3, BODY), kept));
	cr_assert(eq(int, fixture_check(NULL), 0));
	close(fd);
	unlink(path);
	for (i = 0; i < 10; i++, n++)
		cr_assert(eq(int, post_large(3, n, BODY), 0));
	cr_assert(eq(u64, count_whole(3, BODY), kept + 10));
	txn = write_begin();
	end(txn, 3, "over");
	commit(txn);
}

Test(state_full, a_file_system_that_is_too_small_is_named)
{
	struct err err = { 0 };

	need_small();
	fixture_close();
	cr_assert(eq(int, umount2(fixture_dir, MNT_DETACH), 0));
	cr_assert(eq(int, mount_small("size=2m"), 0));
	cr_assert(eq(int, state_create(fixture_dir, 16, &err), ERR_FULL));
	cr_assert(strstr(err.text, "runtime_dir") != NULL, "%s", err.text);
	cr_assert(strstr(err.text, "2048 KiB") == NULL && strstr(err.text, "8192 KiB") != NULL,
	    "%s", err.text);
	cr_assert(eq(int, umount2(fixture_dir, MNT_DETACH), 0));
	cr_assert(eq(int, mount_small("size=12m"), 0));
	fixture_create(16);
}
