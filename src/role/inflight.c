/* Sequences of a durable subscription: runs in a tree, those that come again also in a queue. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "role/inflight.h"

static int
inflight_compare(struct inflight_run *a, struct inflight_run *b)
{
	return a->first < b->first ? -1 : a->first > b->first;
}

RB_GENERATE_INTERNAL(inflight_tree, inflight_run, link, inflight_compare,
    static __attribute__((unused)))

/* NEXT stands on something that is not settled. */
static void
inflight_skip_ahead(struct inflight *f)
{
	const struct consumers_range *range;

	while (f->at_ahead < f->n_ahead) {
		range = &f->ahead[f->at_ahead];
		if (range->from > f->next)
			return;
		if (range->to >= f->next)
			f->next = range->to + 1;
		f->at_ahead++;
	}
	free(f->ahead);
	f->ahead = NULL;
	f->at_ahead = f->n_ahead = 0;
}

int
inflight_init(struct inflight *f, uint32_t max_in_flight, uint64_t cursor, const void *ranges,
    size_t n)
{
	uint64_t before = cursor;
	size_t i;

	memset(f, 0, sizeof *f);
	RB_INIT(&f->runs);
	TAILQ_INIT(&f->deferred);
	TAILQ_INIT(&f->due);
	f->max = max_in_flight < INFLIGHT_MAX ? max_in_flight : INFLIGHT_MAX;
	if (cursor == UINT64_MAX)
		return ERR_CORRUPT;
	f->next = cursor + 1;
	if (n == 0)
		return 0;
	if ((f->ahead = malloc(n * sizeof *f->ahead)) == NULL)
		return ERR_NOMEM;
	memcpy(f->ahead, ranges, n * sizeof *f->ahead);
	f->n_ahead = n;
	for (i = 0; i < n; i++) {
		if (f->ahead[i].from <= before || f->ahead[i].from - before < 2 ||
		    f->ahead[i].to < f->ahead[i].from || f->ahead[i].to == UINT64_MAX)
			return ERR_CORRUPT;
		before = f->ahead[i].to;
	}
	return 0;
}

void
inflight_fini(struct inflight *f)
{
	struct inflight_run *run;

	while ((run = RB_ROOT(&f->runs)) != NULL) {
		RB_REMOVE(inflight_tree, &f->runs, run);
		free(run);
	}
	free(f->ahead);
	memset(f, 0, sizeof *f);
}

/* Runs. */

static struct inflight_run *
inflight_find(const struct inflight *f, uint64_t sequence)
{
	struct inflight_run *run = RB_ROOT(&f->runs);

	while (run != NULL) {
		if (sequence < run->first)
			run = RB_LEFT(run, link);
		else if (sequence > run->last)
			run = RB_RIGHT(run, link);
		else
			break;
	}
	return run;
}

static struct inflight_queue *
inflight_queue_of(struct inflight *f, const struct inflight_run *run)
{
	return run->state == INFLIGHT_DEFERRED ? &f->deferred :
	    run->state == INFLIGHT_DUE ? &f->due : NULL;
}

static void
inflight_add(struct inflight *f, struct inflight_run *run, uint64_t first, uint64_t last,
    enum inflight_state state)
{
	run->first = first;
	run->last = last;
	run->state = state;
	RB_INSERT(inflight_tree, &f->runs, run);
	f->n_runs++;
}

static void
inflight_del(struct inflight *f, struct inflight_run *run)
{
	struct inflight_queue *queue = inflight_queue_of(f, run);

	if (queue != NULL)
		TAILQ_REMOVE(queue, run, queue_link);
	RB_REMOVE(inflight_tree, &f->runs, run);
	f->n_runs--;
	free(run);
}

/*
 * Take FIRST..LAST, an end of RUN or all of it, out of it. What is between the runs then is settled, or the
 * caller's to put elsewhere. The order in the tree stays: a run shrinks in its own place.
 */
static void
inflight_cut_end(struct inflight *f, struct inflight_run *run, uint64_t first, uint64_t last)
{
	if (first == run->first && last == run->last)
		inflight_del(f, run);
	else if (first == run->first)
		run->first = last + 1;
	else
		run->last = first - 1;
}

/* The same for SEQUENCE anywhere in it: a deferred run is one message, so what is left over has no time. 0 or
 * ERR_NOMEM. */
static int
inflight_cut(struct inflight *f, struct inflight_run *run, uint64_t sequence)
{
	struct inflight_run *upper;
	uint64_t last = run->last;

	if (sequence == run->first || sequence == last) {
		inflight_cut_end(f, run, sequence, sequence);
		return 0;
	}
	if ((upper = malloc(sizeof *upper)) == NULL)
		return ERR_NOMEM;
	run->last = sequence - 1;
	inflight_add(f, upper, sequence + 1, last, run->state);
	if (inflight_queue_of(f, run) != NULL)
		TAILQ_INSERT_AFTER(inflight_queue_of(f, run), run, upper, queue_link);
	return 0;
}

/* What the client has is one run where it is one: with its neighbours. */
static void
inflight_join(struct inflight *f, struct inflight_run *run)
{
	struct inflight_run *before = RB_PREV(inflight_tree, &f->runs, run);
	struct inflight_run *behind = RB_NEXT(inflight_tree, &f->runs, run);

	if (behind != NULL && behind->state == INFLIGHT_SENT && behind->first == run->last + 1) {
		run->last = behind->last;
		inflight_del(f, behind);
	}
	if (before != NULL && before->state == INFLIGHT_SENT && before->last + 1 == run->first) {
		before->last = run->last;
		inflight_del(f, run);
	}
}

/* Delivery. */

uint64_t
inflight_next(const struct inflight *f, uint64_t head, uint64_t *first)
{
	const struct inflight_run *run = TAILQ_FIRST(&f->due);
	uint64_t n;

	if (run != NULL) {
		*first = run->first;
		return run->last - run->first + 1;
	}
	if (f->next > head)
		return 0;
	*first = f->next;
	n = head - f->next + 1;
	if (f->at_ahead < f->n_ahead && n > f->ahead[f->at_ahead].from - f->next)
		n = f->ahead[f->at_ahead].from - f->next;
	return n < f->max - f->n ? n : f->max - f->n;
}

int
inflight_sent(struct inflight *f, uint64_t first, uint64_t n)
{
	struct inflight_run *again, *run;

	if (n == 0)
		return 0;
	/* The usual case needs no run of its own. */
	if (first == f->next && (run = RB_MAX(inflight_tree, &f->runs)) != NULL &&
	    run->state == INFLIGHT_SENT && run->last + 1 == first) {
		run->last += n;
	} else {
		if ((run = malloc(sizeof *run)) == NULL)
			return ERR_NOMEM;
		if (first != f->next && (again = inflight_find(f, first)) != NULL)
			inflight_cut_end(f, again, first, first + n - 1);
		inflight_add(f, run, first, first + n - 1, INFLIGHT_SENT);
		inflight_join(f, run);
	}
	if (first != f->next)
		return 0;
	f->n += (uint32_t)n;
	f->next += n;
	inflight_skip_ahead(f);
	return 0;
}

/* Verdicts. */

enum inflight_state
inflight_state_of(const struct inflight *f, uint64_t sequence)
{
	const struct inflight_run *run = inflight_find(f, sequence);

	return run != NULL ? run->state : INFLIGHT_NONE;
}

static int
inflight_defer(struct inflight *f, struct inflight_run *from, uint64_t sequence, int64_t due_ns)
{
	struct inflight_run *run;
	int rc;

	if (from->state != INFLIGHT_SENT)
		return ERR_NOTFOUND;
	if ((run = malloc(sizeof *run)) == NULL)
		return ERR_NOMEM;
	if ((rc = inflight_cut(f, from, sequence)) != 0) {
		free(run);
		return rc;
	}
	run->due_ns = due_ns;
	inflight_add(f, run, sequence, sequence, INFLIGHT_DEFERRED);
	TAILQ_INSERT_TAIL(&f->deferred, run, queue_link);
	return 0;
}

int
inflight_judge(struct inflight *f, uint64_t sequence, enum inflight_verdict verdict,
    int64_t due_ns)
{
	struct inflight_run *run = inflight_find(f, sequence);
	int rc;

	if (run == NULL)
		return ERR_NOTFOUND;
	if (verdict == INFLIGHT_DEFER)
		return inflight_defer(f, run, sequence, due_ns);
	if ((rc = inflight_cut(f, run, sequence)) == 0)
		f->n--;
	return rc;
}

/* Coming again. */

int64_t
inflight_next_due(const struct inflight *f)
{
	const struct inflight_run *run = TAILQ_FIRST(&f->deferred);

	return run != NULL ? run->due_ns : INT64_MAX;
}

int
inflight_expire(struct inflight *f, int64_t now_ns)
{
	struct inflight_run *run, *before;
	int found = 0;

	while ((run = TAILQ_FIRST(&f->deferred)) != NULL && run->due_ns <= now_ns) {
		found = 1;
		before = TAILQ_LAST(&f->due, inflight_queue);
		if (before != NULL && before->last + 1 == run->first) {
			/* They are read from the log in one go. */
			before->last = run->last;
			inflight_del(f, run);
			continue;
		}
		TAILQ_REMOVE(&f->deferred, run, queue_link);
		run->state = INFLIGHT_DUE;
		TAILQ_INSERT_TAIL(&f->due, run, queue_link);
	}
	return found;
}

/* Loss. */

/* Of what was never delivered: how many are from NEXT on and before OLDEST. */
static uint64_t
inflight_lose_new(struct inflight *f, uint64_t oldest)
{
	const struct consumers_range *range;
	uint64_t n = 0;

	while (f->next < oldest && f->at_ahead < f->n_ahead) {
		range = &f->ahead[f->at_ahead];
		if (range->from >= oldest)
			break;
		n += range->from - f->next;
		f->next = range->from;
		inflight_skip_ahead(f);
	}
	if (f->next < oldest) {
		n += oldest - f->next;
		f->next = oldest;
		inflight_skip_ahead(f);
	}
	return n;
}

uint64_t
inflight_lose(struct inflight *f, uint64_t oldest)
{
	struct inflight_run *run, *behind;
	uint64_t lost = 0, last;

	for (run = RB_MIN(inflight_tree, &f->runs); run != NULL && run->first < oldest;
	    run = behind) {
		behind = RB_NEXT(inflight_tree, &f->runs, run);
		if (run->state == INFLIGHT_SENT)
			continue;
		last = run->last < oldest ? run->last : oldest - 1;
		lost += last - run->first + 1;
		inflight_cut_end(f, run, run->first, last);
	}
	f->n -= (uint32_t)lost;
	return lost + inflight_lose_new(f, oldest);
}

/* What is to be remembered. */

uint64_t
inflight_cursor(const struct inflight *f)
{
	const struct inflight_run *run = RB_ROOT(&f->runs);

	if (run == NULL)
		return f->next - 1;
	while (RB_LEFT(run, link) != NULL)
		run = RB_LEFT(run, link);
	return run->first - 1;
}

size_t
inflight_count_ranges(const struct inflight *f)
{
	return f->n_runs + (f->n_ahead - f->at_ahead);
}

size_t
inflight_ranges(const struct inflight *f, struct consumers_range *ranges, size_t max)
{
	struct inflight_tree runs = f->runs;	/* the walk of tree.h wants one that it could change */
	struct inflight_run *run;
	uint64_t at = inflight_cursor(f) + 1;
	size_t n = 0, left;

	RB_FOREACH(run, inflight_tree, &runs) {
		if (n == max)
			return n;
		if (run->first > at)
			ranges[n++] = (struct consumers_range){ at, run->first - 1 };
		at = run->last + 1;
	}
	if (n < max && at < f->next)
		ranges[n++] = (struct consumers_range){ at, f->next - 1 };
	left = f->n_ahead - f->at_ahead;
	if (left > max - n)
		left = max - n;
	if (left > 0)
		memcpy(&ranges[n], &f->ahead[f->at_ahead], left * sizeof *ranges);
	return n + left;
}
