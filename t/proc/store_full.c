/* What publishers read when the store cannot be written, and that it can be again. */
#include <sched.h>

#include "proc/store_publishing.h"

TestSuite(store_full, .init = publishing_init, .fini = proc_fini);

static uint64_t request;

/* Of one message of SIZE bytes for CHANNEL. */
static const char *
publish_large(uint32_t channel, size_t size)
{
	struct publication_item item = { .channel = channel };
	struct state_txn *txn = write_begin();
	struct buf body = { 0 };
	uint8_t *payload = calloc(1, size);

	item.payload = (struct frame_view){ payload, size };
	cr_assert(eq(int, publication_add(&body, &item), 0));
	free(payload);
	cr_assert(eq(int, post_publication(txn, 5, ++request, &body), 0));
	buf_free(&body);
	commit(txn);
	return told_next(5);
}

static int
is_refusal(const char *text)
{
	return strchr(text, ':') == NULL || strncmp(text, "persist_dir", 11) == 0;
}

static void
assert_refusal(const char *text, const char *part)
{
	cr_assert(is_refusal(text) && strstr(text, store_dir) != NULL && strstr(text, part) != NULL,
	    "\"%s\"", text);
}

/* Until one is refused; how many were not. */
static unsigned
fill(uint32_t channel, size_t size, const char *part)
{
	const char *text;
	unsigned n;

	for (n = 0; !is_refusal(text = publish_large(channel, size)); n++)
		cr_assert(lt(u32, n, 5000));
	assert_refusal(text, part);
	return n;
}

/* Until one is taken again. */
static void
await_room(uint32_t channel, size_t size)
{
	int64_t give_up_ns = clock_now_ns() + PATIENCE_NS;
	const char *text;

	while (is_refusal(text = publish_large(channel, size))) {
		cr_assert(clock_now_ns() < give_up_ns, "%s", text);
		usleep(20000);
	}
}

static void
small_store(void)
{
	struct err err = { 0 };

	store_remove_dir();
	cr_assert(eq(int, mkdir(store_dir, 0700), 0));
	cr_assert(eq(int, store_create_sized(store_dir, FIXTURE_SLOTS, STORE_SMALL, &err), 0));
}

static int
dispatch(void)
{
	struct step_spec spec = { .flags = OPENS | ENDS, .ordinal = ++request, .result = "r" };
	struct state_txn *txn = write_begin();

	cr_assert(eq(int, post_step(txn, 5, 63, request, spec), 0));
	commit(txn);
	return (int)answers(5, 1)->list[0].code;
}

Test(store_full, a_full_map_is_said_and_comes_free_with_age)
{
	unsigned n;

	small_store();
	channels[DURABLE].keep_age_ns = 3 * CLOCK_SECOND;
	spawn_store();
	await_ready();
	connect_to(5);
	n = fill(DURABLE, 100000, "the store is");
	cr_assert(lt(u32, 50, n), "%u", n);
	/* the others, too, and small ones; what is there stays */
	assert_refusal(publish_large(OTHER, 10), "keep_");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, n));
	cr_assert(eq(u64, channel_row(OTHER).mark.head, 0));
	/* the record goes on as long as it can */
	cr_assert(eq(int, dispatch(), HISTORY_RECORDED));
	/* time passes, and nothing else happens */
	await_room(DURABLE, 100000);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, n + 1));
	cr_assert(lt(u64, 1, channel_row(DURABLE).mark.first));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* Space that is freed is used again, round after round. */
Test(store_full, a_bound_keeps_it_going_for_ever)
{
	unsigned i;

	small_store();
	channels[DURABLE].keep_bytes = 2 << 20;
	spawn_store();
	await_ready();
	connect_to(5);
	for (i = 0; i < 400; i++) {
		const char *text = publish_large(DURABLE, 100000);

		cr_assert(is_refusal(text) == 0, "%u: %s", i, text);
	}
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* One that does not fit at all is refused alone. */
Test(store_full, one_that_is_too_large_does_not_stop_the_others)
{
	small_store();
	spawn_store();
	await_ready();
	connect_to(5);
	assert_refusal(publish_large(DURABLE, STORE_SMALL - (1 << 20)), "the store is");
	assert_text(publish_large(DURABLE, 10), "1:S");
	cr_assert(eq(int, dispatch(), HISTORY_RECORDED));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* It was refused, and the process died before it could say so. */
Test(store_full, a_refusal_is_not_taken_for_a_success)
{
	struct state_txn *lock;
	uint64_t head;

	small_store();
	spawn_store();
	await_ready();
	connect_to(5);
	fill(DURABLE, 100000, "the store is");
	head = channel_row(DURABLE).mark.head;
	stop_store();
	publish(5, ++request, "0:a 2:b");
	lock = hold_answers();
	kill_store();
	state_abort(lock);
	/* the successor has more to do with, and does not believe that it is done */
	channels[DURABLE].keep_messages = 5;
	spawn_store();
	await_ready();
	assert_refusal(told_next(5), "the store is");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, head));
	cr_assert(eq(u64, channel_row(LEADING).mark.head, 0));
	await_room(DURABLE, 1000);
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* A disk of its own, in a mount namespace, where that is allowed. */
Test(store_full, a_full_disk_is_said_until_there_is_room)
{
	struct err err = { 0 };
	char hog[128];
	uint64_t head;
	int fd;

	if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
	    mount("none", store_dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m") == -1)
		cr_skip_test("no mount namespace");
	cr_assert(eq(int, store_create(store_dir, FIXTURE_SLOTS, &err), 0), "%s", err.text);
	spawn_store();
	await_ready();
	connect_to(5);
	assert_text(publish_large(DURABLE, 10), "1:S");
	/* somebody else's file, until nearly nothing is left */
	snprintf(hog, sizeof hog, "%s/hog", store_dir);
	fd = open(hog, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert(eq(int, posix_fallocate(fd, 0, 60 << 20), 0));
	fill(DURABLE, 500000, "space is left on the disk");
	head = channel_row(DURABLE).mark.head;
	assert_refusal(publish_large(DURABLE, 10), "space is left on the disk");
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, head));
	/* it finds out by itself */
	cr_assert(eq(int, ftruncate(fd, 0), 0));
	await_room(DURABLE, 500000);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, head + 1));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	close(fd);
	state_close(store_env);
	store_env = NULL;
	umount2(store_dir, MNT_DETACH);
}

static int
mount_store(unsigned long flags)
{
	return mount("none", store_dir, "tmpfs", MS_NOSUID | MS_NODEV | flags, "size=64m");
}

/* Whoever was written and not answered is told so; whoever comes is refused; and it ends by
 * itself. */
Test(store_full, a_store_that_can_only_be_read_is_said_until_it_can_be_written)
{
	struct state_txn *lock, *txn;
	struct err err = { 0 };
	char text[256];

	if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 ||
	    mount_store(0) == -1)
		cr_skip_test("no mount namespace");
	cr_assert(eq(int, store_create(store_dir, FIXTURE_SLOTS, &err), 0), "%s", err.text);
	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	stop_store();
	publish(5, ++request, "0#k:a 3>b 0#k:c");
	lock = hold_answers();
	kill_store();
	state_close(store_env);
	store_env = NULL;
	cr_assert(eq(int, mount_store(MS_REMOUNT | MS_RDONLY), 0));
	state_abort(lock);
	spawn_store();
	await_ready();
	assert_text(told_next(5), "1:S=");
	txn = read_begin();
	cr_assert(eq(int, history_fault(txn, text, sizeof text), 0));
	state_abort(txn);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 1));
	assert_text(kept(COPIES), "1 b");
	assert_refusal(publish_large(DURABLE, 10), "Read-only file system");
	cr_assert(eq(int, dispatch(), FRAME_REASON_OTHER));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	/* it finds out by itself */
	cr_assert(eq(int, mount_store(MS_REMOUNT), 0));
	await_room(DURABLE, 10);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 2));
	cr_assert(eq(int, dispatch(), HISTORY_RECORDED));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	umount2(store_dir, MNT_DETACH);
}

/* What is written to a store that was moved away would be lost with the process. */
Test(store_full, a_store_that_was_moved_is_said_until_it_is_back)
{
	char moved[sizeof store_dir + 8];

	snprintf(moved, sizeof moved, "%s.moved", store_dir);
	spawn_store();
	await_ready();
	connect_to(5);
	assert_text(publish_large(DURABLE, 10), "1:S");
	cr_assert(eq(int, rename(store_dir, moved), 0));
	assert_refusal(publish_large(DURABLE, 10), "put it back");
	cr_assert(eq(int, mkdir(store_dir, 0700), 0));
	assert_refusal(publish_large(DURABLE, 10), "put it back");
	cr_assert(eq(int, dispatch(), FRAME_REASON_OTHER));
	cr_assert(eq(int, rmdir(store_dir), 0));
	cr_assert(eq(int, rename(moved, store_dir), 0));
	await_room(DURABLE, 10);
	cr_assert(eq(u64, channel_row(DURABLE).mark.head, 2));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}

/* The state has no room for copies, because somebody does not read: what is durable goes on. */
Test(store_full, copies_give_way_when_the_state_is_full)
{
	unsigned i;

	spawn_store();
	await_ready();
	connect_to(5);
	subscribe(5, COPIES);
	for (i = 0; i < 300; i++) {
		struct publication_item item = { .channel = DURABLE };
		struct state_txn *txn = write_begin();
		static uint8_t payload[4 << 20];
		struct buf body = { 0 };
		const char *text;

		item.payload = (struct frame_view){ payload, 10 };
		cr_assert(eq(int, publication_add(&body, &item), 0));
		item.channel = COPIES;
		item.flags = PUBLICATION_ROUTED;
		item.payload.len = sizeof payload;
		cr_assert(eq(int, publication_add(&body, &item), 0));
		cr_assert(eq(int, post_publication(txn, 5, ++request, &body), 0));
		buf_free(&body);
		commit(txn);
		text = told_next(5);
		cr_assert(is_refusal(text) == 0, "%u: %s", i, text);
	}
	cr_assert(eq(u64, channel_row(COPIES).mark.head, 300));
	cr_assert(lt(u64, 1, channel_row(COPIES).mark.first));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
}
