/*
 * The store process, really: fed by processes that publish, killed at any instruction, restarted
 * as the master does. Every message that was acknowledged must be stored exactly once and in its
 * publisher's order, every publish answered exactly once, every key taken by exactly one message,
 * and every copy must be there with its source, once.
 */
#include <sys/mman.h>
#include <time.h>

#include "proc/store_publishing.h"

#define PUBLISHERS	4
#define SLOT_OF(n)	(8 + (uint32_t)(n))
#define MESSAGES	40000	/* of one publisher, at most */
#define PUBLICATIONS	10000
#define OUTSTANDING	8
#define KEYS		4000	/* that all of them share */
#define KILLS		120
#define LISTENER	5	/* conn id of who is subscribed to the ephemeral channels */

/* Written by its publisher, posted after the commit. */
struct message {
	uint8_t channel, has_copy, posted, answered, outcome;
	uint8_t stored, leading, copied;	/* found in the logs, that often */
	uint16_t key;				/* 0 = none */
};
struct publication { uint32_t first, n; uint8_t posted, answered; uint64_t first_id; };
struct shared {
	struct message messages[PUBLISHERS][MESSAGES];
	struct publication publications[PUBLISHERS][PUBLICATIONS];
	_Atomic uint32_t n_messages[PUBLISHERS], n_publications[PUBLISHERS];
	_Atomic uint64_t answers, duplicates;
	_Atomic int is_draining;
};
static struct shared *shared;

static pid_t publishers[PUBLISHERS];
static uint64_t last_conn_id = 100;

/* As the keeper after an abnormal end. */
static void
poke_all(void)
{
	cr_assert(eq(int, state_check_readers(fixture_state), 0));
	for (uint32_t slot = SLOT_OF(0); slot < SLOT_OF(PUBLISHERS); slot++)
		wake_poke_always(&fixture_wake, slot,
		    atomic_load(&fixture_board->slots[slot].conn_id));
	wake_poke_always(&fixture_wake, STORE_SLOT, 0);
}

/*
 * Publishers.
 */
struct publisher {
	unsigned number, seed;
	uint64_t conn_id, seen;
	struct wake wake;
	struct state *state;
	int is_dirty;
	uint32_t waiting;
};

static void __attribute__((noreturn))
publisher_fail(const struct publisher *p, const char *what, int rc)
{
	fprintf(stderr, "publisher %u: %s: %d (%s)\n", p->number, what, rc,
	    p->state == NULL ? "" : state_error_text(p->state));
	_exit(1);
}

static int
publisher_event(void *arg, const struct inbox_entry *entry, const void *body)
{
	struct publisher *p = arg;
	struct publication *publication = &shared->publications[p->number][entry->request];
	struct message *message = &shared->messages[p->number][publication->first];
	const uint8_t *outcomes = (const uint8_t *)body + sizeof(struct publication_answer);
	struct publication_answer answer;

	if (entry->kind != INBOX_APPENDED || entry->code != 0)
		publisher_fail(p, "an unexpected answer", (int)entry->code);
	memcpy(&answer, body, sizeof answer);
	if (answer.n != publication->n || entry->len != sizeof answer + answer.n)
		publisher_fail(p, "another number of outcomes", (int)answer.n);
	if (publication->answered++ != 0)
		publisher_fail(p, "answered twice", (int)entry->request);
	publication->first_id = answer.first_id;
	for (uint32_t i = 0; i < answer.n; i++, message++) {
		message->answered = 1;
		message->outcome = outcomes[i];
		atomic_fetch_add(outcomes[i] == PUBLICATION_DUPLICATE ? &shared->duplicates :
		    &shared->answers, 1);
	}
	p->waiting--;
	return 0;
}

static unsigned
publisher_look(struct publisher *p)
{
	struct state_txn *txn;
	uint64_t seen;
	unsigned rows;
	int rc;

	if ((rc = state_begin_read(p->state, &txn)) != 0)
		publisher_fail(p, "read", rc);
	seen = state_snapshot_id(txn);
	if ((rc = inbox_read(txn, p->conn_id, p->seen, &rows, publisher_event, p)) != 0)
		publisher_fail(p, "inbox", rc);
	state_abort(txn);
	p->seen = seen;
	p->is_dirty |= rows > 0;
	return rows;
}

/* The next message in a line, as publication_body reads it. */
static size_t
publisher_message(struct publisher *p, uint32_t number, char *line, size_t size)
{
	struct message *message = &shared->messages[p->number][number];
	char key[16] = "", text[32];
	size_t len;

	message->channel = (uint8_t)((unsigned)rand_r(&p->seed) % 3);
	message->has_copy = rand_r(&p->seed) % 3 == 0;
	message->key = rand_r(&p->seed) % 3 == 0 ?
	    (uint16_t)(1 + (unsigned)rand_r(&p->seed) % KEYS) : 0;
	if (message->key != 0)
		snprintf(key, sizeof key, "#k%u", message->key);
	snprintf(text, sizeof text, "%u.%u", p->number, number);
	len = (size_t)snprintf(line, size, "%u%s:%s ", message->channel, key, text);
	if (message->channel == LEADING)
		len += (size_t)snprintf(line + len, size - len, "%u%s>%s ", DURABLE, key, text);
	if (message->has_copy)
		len += (size_t)snprintf(line + len, size - len, "%u%s>%s ", COPIES, key, text);
	return len;
}

/* A publication, in one transaction. */
static void
publisher_turn(struct publisher *p)
{
	uint32_t number = atomic_load(&shared->n_publications[p->number]);
	struct publication *publication = &shared->publications[p->number][number];
	struct buf body = { 0 };
	struct state_txn *txn;
	char lines[4096];
	size_t len = 0;
	uint32_t i;
	int rc;

	publication->first = atomic_load(&shared->n_messages[p->number]);
	publication->n = 1 + (uint32_t)rand_r(&p->seed) % 8;
	for (i = 0; i < publication->n; i++)
		len += publisher_message(p, publication->first + i, lines + len,
		    sizeof lines - len);
	atomic_store(&shared->n_messages[p->number], publication->first + publication->n);
	atomic_store(&shared->n_publications[p->number], number + 1);
	if ((rc = publication_body(lines, &body)) != 0 ||
	    (rc = state_begin_write(p->state, &txn)) != 0)
		publisher_fail(p, "begin", rc);
	if (p->is_dirty)
		rc = inbox_remove(txn, p->conn_id, p->seen);
	if (rc == 0)
		rc = post_publication(txn, p->conn_id, number, &body);
	if (rc != 0 || (rc = state_commit(txn)) != 0)
		publisher_fail(p, "post", rc);
	buf_free(&body);
	p->is_dirty = 0;
	publication->posted = 1;
	for (i = 0; i < publication->n; i++)
		shared->messages[p->number][publication->first + i].posted = 1;
	p->waiting++;
}

static void
publisher_sleep(struct publisher *p)
{
	struct pollfd fd = { .fd = p->wake.fd, .events = POLLIN };
	int n = 1;

	wake_will_sleep(&p->wake);
	if (publisher_look(p) == 0)
		n = poll(&fd, 1, (int)(PATIENCE_NS / CLOCK_MS));
	wake_is_awake(&p->wake);
	wake_drain(&p->wake);
	if (n != 1)
		publisher_fail(p, "no answer", (int)p->waiting);
}

static void __attribute__((noreturn))
publisher_main(unsigned number, uint64_t conn_id)
{
	struct publisher p = { .number = number, .conn_id = conn_id,
	    .seed = (unsigned)conn_id * 31 };
	struct state_txn *txn;
	int rc;

	if (board_own(fixture_board, SLOT_OF(number)) != 0 ||
	    wake_open(&p.wake, fixture_board, SLOT_OF(number), NULL) != 0 ||
	    state_open(&p.state, fixture_dir, &p.wake, NULL) != 0)
		_exit(2);
	if ((rc = state_begin_write(p.state, &txn)) != 0 ||
	    (rc = act_connect(txn, conn_id, SLOT_OF(number))) != 0 ||
	    (rc = state_commit(txn)) != 0)
		publisher_fail(&p, "enter", rc);
	for (;;) {
		publisher_look(&p);
		if (p.waiting < OUTSTANDING && !atomic_load(&shared->is_draining) &&
		    atomic_load(&shared->n_publications[number]) < PUBLICATIONS &&
		    atomic_load(&shared->n_messages[number]) < MESSAGES - 8)
			publisher_turn(&p);
		else if (p.waiting > 0)
			publisher_sleep(&p);
		else
			_exit(0);
	}
}

static void
spawn_publisher(unsigned number)
{
	board_take(fixture_board, SLOT_OF(number), BOARD_CONNECTION, ++last_conn_id);
	if ((publishers[number] = fork_child()) == 0)
		publisher_main(number, last_conn_id);
	cr_assert(ne(int, publishers[number], -1));
}

static int
reap_publisher(unsigned number)
{
	uint64_t conn_id = atomic_load(&fixture_board->slots[SLOT_OF(number)].conn_id);
	struct state_txn *txn;
	int status;

	cr_assert(eq(int, waitpid(publishers[number], &status, 0), publishers[number]));
	publishers[number] = 0;
	board_release(fixture_board, SLOT_OF(number));
	fixture_close();
	fixture_open();
	txn = write_begin();
	cr_assert(le(int, 0, end_connection(txn, conn_id, "over")));
	commit(txn);
	return status;
}

/*
 * What must be in the logs.
 */

/* Walk a whole log: each message says "publisher.number". */
static uint64_t
each_message(const struct log *log, const struct log_mark *mark,
    void (*visit)(unsigned publisher, uint32_t number))
{
	struct log_reader reader;
	char text[32];
	unsigned publisher, number;
	size_t head = LOG_MESSAGE_OVERHEAD + 2, len;
	uint64_t n = 0;
	int rc;

	if (mark->head == 0)
		return 0;
	cr_assert(eq(u64, mark->first, 1));
	cr_assert(eq(int, log_open(&reader, log, 1), 0));
	while ((rc = log_next(&reader)) == 0) {
		cr_assert(eq(u64, reader.entry.sequence, ++n));
		len = reader.entry.len - head;
		cr_assert(lt(sz, len, sizeof text));
		memcpy(text, reader.entry.frame + head, len);
		text[len] = '\0';
		cr_assert(eq(int, sscanf(text, "%u.%u", &publisher, &number), 2));
		cr_assert(publisher < PUBLISHERS && number < MESSAGES);
		visit(publisher, number);
	}
	cr_assert(eq(int, rc, ERR_NOTFOUND));
	cr_assert(eq(u64, n, mark->head));
	log_close(&reader);
	return n;
}

static uint32_t next_of[PUBLISHERS];	/* in the log that is walked */
static uint8_t *key_taken;		/* ... by its messages */

static void
in_order(unsigned publisher, uint32_t number)
{
	const struct message *message = &shared->messages[publisher][number];

	cr_assert(next_of[publisher] <= number, "publisher %u: %u behind %u", publisher, number,
	    next_of[publisher]);
	next_of[publisher] = number + 1;
	if (message->key != 0)
		cr_assert(key_taken[message->key]++ == 0, "key %u twice", message->key);
}

static void
visit_stored(unsigned publisher, uint32_t number)
{
	in_order(publisher, number);
	shared->messages[publisher][number].stored++;
}

static void
visit_leading(unsigned publisher, uint32_t number)
{
	in_order(publisher, number);
	shared->messages[publisher][number].leading++;
}

static void
visit_copied(unsigned publisher, uint32_t number)
{
	in_order(publisher, number);
	shared->messages[publisher][number].copied++;
}

static uint64_t
walk_stored(struct state_txn *txn, uint32_t number)
{
	struct log log = { .txn = txn, .table = STORE_MESSAGES };
	struct store_channels_row row;

	memset(next_of, 0, sizeof next_of);
	memset(key_taken, 0, KEYS + 1);
	cr_assert(eq(int, store_channels_get(txn, channels[number].name, &row), 0));
	cr_assert(eq(u64, channel_row(number).mark.head, row.mark.head));
	log.channel = row.number;
	return each_message(&log, &row.mark, visit_stored);
}

static uint64_t
walk_kept(uint32_t number, void (*visit)(unsigned publisher, uint32_t number))
{
	struct channels_row row = channel_row(number);
	struct state_txn *txn = read_begin();
	const struct log log = { txn, STATE_MESSAGES, number };
	uint64_t n;

	memset(next_of, 0, sizeof next_of);
	memset(key_taken, 0, KEYS + 1);
	n = each_message(&log, &row.mark, visit);
	state_abort(txn);
	return n;
}

/* One message: everything of it is there, or nothing. */
static void
check_message(unsigned publisher, uint32_t number)
{
	const struct message *message = &shared->messages[publisher][number];
	int is_there = message->channel == LEADING ? message->leading : message->stored;
	const char *what = NULL;

	cr_assert(message->stored <= 1 && message->leading <= 1 && message->copied <= 1);
	if (message->answered && (message->outcome <= PUBLICATION_DELIVERED) != is_there)
		what = "is not what was answered";
	else if (message->posted && message->key == 0 && !is_there)
		what = "is lost";
	else if (!is_there && (message->copied || message->stored))
		what = "has a copy, and is not there itself";
	else if (is_there && message->key == 0 && message->copied != message->has_copy)
		what = "has no copy, or one too many";
	else if (is_there && message->key == 0 && !message->stored)
		what = "has not come where it led";
	else if (message->answered && message->outcome > PUBLICATION_DUPLICATE)
		what = "was refused";
	cr_assert(what == NULL, "message %u of publisher %u %s: channel %u, key %u, answered %u, "
	    "outcome %u, stored %u, leading %u, copy %u, copied %u", number, publisher, what,
	    message->channel, message->key, message->answered, message->outcome,
	    message->stored, message->leading, message->has_copy, message->copied);
}

static void
check_logs(void)
{
	uint64_t n[N_CHANNELS], posted = 0;
	struct state_txn *txn;

	key_taken = calloc(KEYS + 1, 1);
	look_readonly();
	txn = store_look();
	n[DURABLE] = walk_stored(txn, DURABLE);
	n[OTHER] = walk_stored(txn, OTHER);
	state_abort(txn);
	n[LEADING] = walk_kept(LEADING, visit_leading);
	n[COPIES] = walk_kept(COPIES, visit_copied);
	for (unsigned publisher = 0; publisher < PUBLISHERS; publisher++)
		for (uint32_t i = 0; i < shared->n_messages[publisher]; i++) {
			check_message(publisher, i);
			posted += shared->messages[publisher][i].posted;
		}
	fprintf(stderr, "# %llu messages: %llu, %llu stored, %llu led, %llu copied; %llu "
	    "acknowledged, %llu duplicates\n", (unsigned long long)posted,
	    (unsigned long long)n[DURABLE], (unsigned long long)n[OTHER],
	    (unsigned long long)n[LEADING], (unsigned long long)n[COPIES],
	    (unsigned long long)shared->answers, (unsigned long long)shared->duplicates);
}

static void
storm_fini(void)
{
	int status;

	for (unsigned i = 0; i < PUBLISHERS; i++)
		if (publishers[i] > 0) {
			kill(publishers[i], SIGKILL);
			waitpid(publishers[i], &status, 0);
		}
	proc_fini();
}

static void
storm_init(void)
{
	publishing_init();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
	cr_assert(ne(ptr, shared, MAP_FAILED));
	for (unsigned i = 0; i < N_CHANNELS; i++)
		channels[i].dedup_keys = KEYS;
	connect_to(LISTENER);
	subscribe(LISTENER, LEADING);
	subscribe(LISTENER, COPIES);
}

TestSuite(store_publish_kill, .init = storm_init, .fini = storm_fini);

static void
wait_a_moment(unsigned *seed, long up_to_us)
{
	struct timespec moment = { 0, (long)rand_r(seed) % up_to_us * 1000 };

	nanosleep(&moment, NULL);
}

Test(store_publish_kill, killed_at_any_moment_it_neither_loses_nor_repeats)
{
	int64_t give_up_ns = clock_now_ns() + 6 * PATIENCE_NS;
	unsigned seed = 20261121, kills, i, status;

	for (i = 0; i < PUBLISHERS; i++)
		spawn_publisher(i);
	spawn_store();
	for (kills = 0; kills < KILLS; kills++) {
		cr_assert(clock_now_ns() < give_up_ns, "only %u kills", kills);
		if (kills % 4 != 0)
			await_ready();
		wait_a_moment(&seed, 8000);
		kill_store();
		if (kills % 10 == 9) {
			i = (unsigned)rand_r(&seed) % PUBLISHERS;
			kill(publishers[i], SIGKILL);
			status = (unsigned)reap_publisher(i);
			cr_assert(status == SIGKILL || status == 0, "publisher: 0x%x", status);
			spawn_publisher(i);
		}
		spawn_store();
		poke_all();
	}
	await_ready();
	atomic_store(&shared->is_draining, 1);
	poke_all();
	for (i = 0; i < PUBLISHERS; i++)
		cr_assert(eq(int, reap_publisher(i), 0));
	cr_assert(eq(int, drain_store(), ROLE_EXIT_OK));
	cr_assert(eq(u64, rows_in(STATE_INBOX), 0));
	cr_assert(eq(int, store_check(), 0));
	cr_assert(eq(int, fixture_check(NULL), 0));
	check_logs();
	cr_assert(lt(u64, 1000, shared->answers));
	cr_assert(lt(u64, 0, shared->duplicates));
}
