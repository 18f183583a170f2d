/*
 * liminal top: pools and workers, drawn anew each second.
 *
 * The state is opened for each picture: a daemon that is started again has a new one, and
 * between two pictures nothing of it is held.
 */
#include <sys/ioctl.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "liminal/inspect.h"

#define TOP_EVERY_NS	CLOCK_SECOND
#define TOP_ROWS	24
#define TOP_COLUMNS	80
#define TOP_ENTER	"\033[?1049h\033[?25l"	/* the other screen, no cursor */
#define TOP_LEAVE	"\033[?25h\033[?1049l"
#define TOP_HOME	"\033[H"
#define TOP_LINE_END	"\033[K\n"
#define TOP_BELOW	"\033[J"

struct top_worker {
	uint64_t conn_id;
	pid_t pid;
	uint32_t in_flight, max_concurrent;
	enum look_process process;
	uint8_t queue[64], identity[64];	/* as far as there is room */
	size_t queue_len, identity_len;
};

struct top {
	struct cli *cli;
	struct look look;
	struct status status, before;	/* before: of the last picture */
	int64_t at_ns, before_ns;	/* monotonic; 0 = there was none */
	struct pools pools;
	struct top_worker *workers;	/* the busiest first */
	size_t n_workers, size_workers;
	struct buf text;
};

static volatile sig_atomic_t top_is_over, top_is_suspended;

/* ---- gathering ---- */

static size_t
top_keep(uint8_t *to, size_t size, const struct frame_view *from)
{
	size_t len = from->len < size ? from->len : size;

	memcpy(to, from->data, len);
	return len;
}

static int
top_add_worker(void *arg, void *row)
{
	const struct workers_item *item = row;
	struct top *top = arg;
	struct top_worker *worker;

	if (top->n_workers == top->size_workers) {
		size_t size = top->size_workers > 0 ? 2 * top->size_workers : 64;

		worker = reallocarray(top->workers, size, sizeof(*worker));
		if (worker == NULL) {
			cli_complain(top->cli, "out of memory");
			return -1;
		}
		top->workers = worker;
		top->size_workers = size;
	}
	worker = &top->workers[top->n_workers++];
	worker->conn_id = item->connection.conn_id;
	worker->pid = item->connection.row.pid;
	worker->in_flight = item->in_flight;
	worker->max_concurrent = item->max_concurrent;
	worker->process = look_child(&top->look, worker->pid);
	worker->queue_len = top_keep(worker->queue, sizeof(worker->queue),
	    &item->registration.task_queue);
	worker->identity_len = top_keep(worker->identity, sizeof(worker->identity),
	    &item->registration.identity);
	return 0;
}

static int
top_compare(const void *a, const void *b)
{
	const struct top_worker *x = a, *y = b;

	if (x->in_flight != y->in_flight)
		return x->in_flight > y->in_flight ? -1 : 1;
	return x->conn_id < y->conn_id ? -1 : x->conn_id > y->conn_id;
}

/* 0, or -1 after a complaint. */
static int
top_gather(struct top *top)
{
	static const struct walk walk = {
		.table = STATE_WORKERS, .item_size = sizeof(struct workers_item),
		.copy = workers_copy, .show = top_add_worker, .release = workers_release,
	};

	top->before = top->status;
	top->before_ns = top->at_ns;
	top->at_ns = clock_now_ns();
	top->n_workers = 0;
	pools_free(&top->pools);
	if (status_collect(&top->look, &top->status) != 0 ||
	    pools_collect(&top->look, &top->pools) != 0 ||
	    walk_table(&top->look, &walk, top) != 0)
		return -1;
	qsort(top->workers, top->n_workers, sizeof(top->workers[0]), top_compare);
	return 0;
}

/* ---- the picture, as plain text ---- */

static void __attribute__((format(printf, 2, 3)))
top_print(struct top *top, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		buf_append(&top->text, line, (size_t)n < sizeof(line) ? (size_t)n :
		    sizeof(line) - 1);
}

/* How fast a counter moves; the keeper copies them once a second. */
static uint64_t
top_rate(const struct top *top, const char *name)
{
	uint64_t now = status_counter(&top->status, name);
	uint64_t then = status_counter(&top->before, name);

	if (top->before_ns == 0 || now < then || top->at_ns <= top->before_ns)
		return 0;
	return (uint64_t)((double)(now - then) * (double)CLOCK_SECOND /
	    (double)(top->at_ns - top->before_ns) + 0.5);
}

static void
top_print_head(struct top *top)
{
	const struct status *status = &top->status;
	time_t now = time(NULL);
	char clock[16];
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	top_print(top, "liminald %s, pid %d, %s  %s\n", top->cli->dir, (int)top->look.master,
	    top->look.is_running ? "running" : "NOT RUNNING", clock);
	top_print(top, "connections %" PRIu64 "  workers %" PRIu64 "  in flight %" PRIu64
	    "  waiting %" PRIu64 "  conversations %" PRIu64 "\n", status->connections,
	    status->workers, status->in_flight, status->pending, status->conversations);
	if (top->before_ns != 0)
		top_print(top, "a second: dispatched %" PRIu64 "  completed %" PRIu64
		    "  failed %" PRIu64 "  retried %" PRIu64 "  frames in %" PRIu64
		    " out %" PRIu64 "\n", top_rate(top, "dispatched"),
		    top_rate(top, "completed"), top_rate(top, "failed"),
		    top_rate(top, "retried"), top_rate(top, "frames_in"),
		    top_rate(top, "frames_out"));
	else
		top_print(top, "in all: dispatched %" PRIu64 "  completed %" PRIu64
		    "  failed %" PRIu64 "  retried %" PRIu64 "  frames in %" PRIu64
		    " out %" PRIu64 "\n", status_counter(status, "dispatched"),
		    status_counter(status, "completed"), status_counter(status, "failed"),
		    status_counter(status, "retried"), status_counter(status, "frames_in"),
		    status_counter(status, "frames_out"));
	top_print(top, "\n");
}

static void
top_take_listing(struct top *top, struct listing *listing)
{
	listing_settle(listing);
	buf_append(&top->text, buf_head(&listing->out), buf_len(&listing->out));
	listing_free(listing);
	top_print(top, "\n");
}

static void
top_print_pools(struct top *top)
{
	struct listing listing;

	listing_open(&listing, top->cli, pools_columns, POOLS_N_COLUMNS);
	for (size_t i = 0; i < top->pools.n; i++)
		pools_show(&listing, &top->pools.list[i], top->at_ns);
	top_take_listing(top, &listing);
}

static void
top_print_workers(struct top *top)
{
	static const char *const columns[] = {
		"conn_id", "pid", "state", "in_flight", "max_concurrent", "task_queue", "identity"
	};
	const struct top_worker *worker;
	struct listing listing;

	listing_open(&listing, top->cli, columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < top->n_workers; i++) {
		worker = &top->workers[i];
		listing_begin_row(&listing, NULL);
		listing_number(&listing, "conn_id", worker->conn_id);
		listing_number(&listing, "pid", (uint64_t)worker->pid);
		listing_string(&listing, "state", look_process_names[worker->process]);
		listing_number(&listing, "in_flight", worker->in_flight);
		listing_number(&listing, "max_concurrent", worker->max_concurrent);
		listing_text(&listing, "task_queue", worker->queue, worker->queue_len);
		listing_text(&listing, "identity", worker->identity, worker->identity_len);
		listing_end_row(&listing);
	}
	top_take_listing(top, &listing);
}

static void
top_compose(struct top *top)
{
	buf_consume(&top->text, buf_len(&top->text));
	top_print_head(top);
	top_print_pools(top);
	top_print_workers(top);
}

/* ---- the screen ---- */

static void
top_on_signal(int sig)
{
	if (sig == SIGTSTP)
		top_is_suspended = 1;
	else if (sig != SIGWINCH)
		top_is_over = 1;
}

/* The signals come in while the screen waits, and nowhere else. */
static void
top_catch_signals(sigset_t *wait_mask)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH };
	struct sigaction action = { .sa_handler = top_on_signal };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		sigaction(caught[i], &action, NULL);
		sigaddset(&blocked, caught[i]);
	}
	sigprocmask(SIG_BLOCK, &blocked, wait_mask);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigdelset(wait_mask, caught[i]);
}

static int
top_enter(struct cli *cli, const struct termios *before)
{
	struct termios raw = *before;

	raw.c_lflag &= (tcflag_t)~(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	return cli_write_output(cli, TOP_ENTER, sizeof(TOP_ENTER) - 1);
}

static void
top_leave(struct cli *cli, const struct termios *before)
{
	cli_write_output(cli, TOP_LEAVE, sizeof(TOP_LEAVE) - 1);
	tcsetattr(STDIN_FILENO, TCSADRAIN, before);
}

/* As much of the text as the screen has room for. */
static int
top_draw(struct top *top)
{
	struct winsize size = { .ws_row = TOP_ROWS, .ws_col = TOP_COLUMNS };
	const char *at = (const char *)buf_head(&top->text), *end = at + buf_len(&top->text);
	struct buf screen = { 0 };
	const char *next;
	size_t len;
	int r;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == -1 || size.ws_row < 2 || size.ws_col < 2)
		size = (struct winsize){ .ws_row = TOP_ROWS, .ws_col = TOP_COLUMNS };
	r = buf_append(&screen, TOP_HOME, sizeof(TOP_HOME) - 1);
	for (int row = 1; r == 0 && at < end && row < size.ws_row; row++, at = next + 1) {
		if ((next = memchr(at, '\n', (size_t)(end - at))) == NULL)
			next = end;
		len = (size_t)(next - at) < size.ws_col ? (size_t)(next - at) : size.ws_col;
		r = buf_append(&screen, at, len);
		if (r == 0)
			r = buf_append(&screen, TOP_LINE_END, sizeof(TOP_LINE_END) - 1);
	}
	if (r == 0)
		r = buf_append(&screen, TOP_BELOW, sizeof(TOP_BELOW) - 1);
	if (r == 0)
		r = cli_write_output(top->cli, buf_head(&screen), buf_len(&screen));
	buf_free(&screen);
	return r == 0 ? 0 : -1;
}

/* A picture of what is there now, or of the fault. */
static int
top_refresh(struct top *top)
{
	struct err err = { 0 };
	int r;

	if (look_open_quietly(&top->look, top->cli, &err) != 0) {
		state_close(top->look.state);
		buf_consume(&top->text, buf_len(&top->text));
		top_print(top, "%s\n", err.text);
		return top_draw(top);
	}
	if ((r = top_gather(top)) == 0)
		top_compose(top);
	state_close(top->look.state);
	return r == 0 ? top_draw(top) : -1;
}

/* Until DEADLINE_NS, a key or a signal. */
static void
top_wait(int64_t deadline_ns, const sigset_t *wait_mask)
{
	struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
	int64_t left = deadline_ns - clock_now_ns();
	struct timespec ts = { .tv_sec = left / CLOCK_SECOND, .tv_nsec = left % CLOCK_SECOND };
	char key;
	ssize_t n;

	if (left <= 0 || ppoll(&keys, 1, &ts, wait_mask) <= 0)
		return;
	n = read(STDIN_FILENO, &key, 1);
	/* A terminal that is gone reads as its end. */
	if (n == 0 || (n == -1 && errno != EINTR && errno != EAGAIN) ||
	    (n == 1 && (key == 'q' || key == 'Q')))
		top_is_over = 1;
}

static int
top_watch(struct top *top)
{
	struct termios before;
	sigset_t wait_mask;
	int64_t next_ns;
	int r;

	if (tcgetattr(STDIN_FILENO, &before) == -1) {
		cli_complain(top->cli, "standard input: %s", strerror(errno));
		return -1;
	}
	top_catch_signals(&wait_mask);
	r = top_enter(top->cli, &before);
	while (r == 0 && !top_is_over) {
		next_ns = clock_now_ns() + TOP_EVERY_NS;
		r = top_refresh(top);
		while (r == 0 && !top_is_over && !top_is_suspended && clock_now_ns() < next_ns)
			top_wait(next_ns, &wait_mask);
		if (top_is_suspended && !top_is_over) {
			top_leave(top->cli, &before);
			top_is_suspended = 0;
			raise(SIGSTOP);
			r = top_enter(top->cli, &before);
		}
	}
	top_leave(top->cli, &before);
	/* What was said meanwhile has gone with the screen. */
	if (r != 0)
		cli_complain(top->cli, "cannot read the state or draw");
	return r;
}

/* Not for a terminal: one picture. */
static int
top_snapshot(struct top *top)
{
	int r;

	if (look_open(&top->look, top->cli) != 0)
		return CLI_FAILED;
	if (top->cli->json) {
		r = status_show(&top->look);
	} else if ((r = top_gather(top)) == 0) {
		top_compose(top);
		r = cli_write_output(top->cli, buf_head(&top->text), buf_len(&top->text));
	}
	return look_close(&top->look, r == 0 ? CLI_DONE : CLI_FAILED);
}

int
command_top(struct cli *cli)
{
	const char *terminal = getenv("TERM");
	struct top top = { .cli = cli };
	int r;

	if (cli_next_option(cli, "", NULL) != -1)
		return cli_usage(cli);
	cli_arguments(cli, 0, 0);
	if (cli->json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || terminal == NULL ||
	    strcmp(terminal, "dumb") == 0)
		r = top_snapshot(&top);
	else
		r = top_watch(&top) == 0 ? CLI_DONE : CLI_FAILED;
	pools_free(&top.pools);
	free(top.workers);
	buf_free(&top.text);
	return r;
}
