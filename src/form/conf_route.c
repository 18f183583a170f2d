/*
 * conf_route: what routes make of the channels that they join. A walk from each channel along
 * its routes, depth first, finds the cycles; a channel is settled when all that can be reached
 * from it is, so each is looked at once.
 *
 * The walk keeps its own stack: a configuration may have a row of channels longer than ours.
 */
#include <stdlib.h>
#include <string.h>

#include "form/conf_parts.h"

/* The routes of a cycle that are named; more do not help. */
#define CYCLE_NAMED	16

enum state { UNSEEN, OPEN, SETTLED };

struct visit {
	enum state state;
	unsigned next;			/* of the channel's routes */
};

struct walk {
	struct conf_reading *r;
	struct conf *conf;
	struct visit *visits;		/* of each channel */
	unsigned *path;			/* depth open channels; each leads to the next by the
					   route before its visit's next */
	unsigned depth;
};

/* Routes and their blocks are in the same order. */
static const struct conf_block *
block_of_route(const struct conf_reading *r, unsigned number)
{
	unsigned i;

	for (i = 0; i < r->n_blocks; i++)
		if (strcmp(r->blocks[i].section, "route") == 0 && number-- == 0)
			return &r->blocks[i];
	return NULL;
}

/* The route by which the walk left the channel at I of the path. */
static const struct conf_route *
route_taken(const struct walk *w, unsigned i)
{
	unsigned number = w->path[i];

	return &w->conf->routes[w->conf->channels[number].routes[w->visits[number].next - 1]];
}

/* The last route of the path leads back to the channel at FIRST of it. */
static void
report_cycle(struct walk *w, unsigned first)
{
	const struct conf *conf = w->conf;
	const struct conf_route *last = route_taken(w, w->depth - 1);
	const struct conf_block *block = block_of_route(w->r, (unsigned)(last - conf->routes));
	unsigned i, n = w->depth - first;
	char *names;
	size_t size;
	FILE *out;

	if (n == 1) {
		conf_error_add(w->r, CONF_FROM_FILE, block->line,
		    "route \"%s\" leads from channel \"%s\" to itself", block->title,
		    conf->channels[last->from].name);
		return;
	}
	if ((out = open_memstream(&names, &size)) == NULL) {
		w->r->nomem = true;
		return;
	}
	for (i = first; i < w->depth && i < first + CYCLE_NAMED; i++)
		fprintf(out, "%s\"%s\"", i == first ? "" : ", ", route_taken(w, i)->name);
	if (n > CYCLE_NAMED)
		fprintf(out, " and %u more", n - CYCLE_NAMED);
	if (fclose(out) == 0)
		conf_error_add(w->r, CONF_FROM_FILE, block->line,
		    "route \"%s\" closes a cycle that begins and ends at channel \"%s\": "
		    "the routes %s", block->title, conf->channels[last->to].name, names);
	else
		w->r->nomem = true;
	free(names);
}

/* All that channel NUMBER leads to is settled. */
static void
settle(struct walk *w, unsigned number)
{
	struct conf_channel *channel = &w->conf->channels[number];
	unsigned i;

	channel->is_by_store = channel->durable;
	channel->is_parsed = channel->schema != NULL;
	for (i = 0; i < channel->n_routes; i++) {
		const struct conf_route *route = &w->conf->routes[channel->routes[i]];
		const struct conf_channel *to = &w->conf->channels[route->to];

		channel->is_by_store |= to->is_by_store;
		channel->is_parsed |= to->is_parsed || route->predicate != NULL;
	}
	w->visits[number].state = SETTLED;
}

static void
enter(struct walk *w, unsigned number)
{
	w->visits[number].state = OPEN;
	w->path[w->depth++] = number;
}

static void
report_if_cycle(struct walk *w, unsigned number)
{
	unsigned i;

	if (w->visits[number].state != OPEN)
		return;
	for (i = w->depth - 1; w->path[i] != number; i--)
		continue;
	report_cycle(w, i);
}

static void
walk_from(struct walk *w, unsigned number)
{
	const struct conf_channel *channel;
	unsigned to;

	enter(w, number);
	while (w->depth > 0) {
		number = w->path[w->depth - 1];
		channel = &w->conf->channels[number];
		if (w->visits[number].next == channel->n_routes) {
			settle(w, number);
			w->depth--;
			continue;
		}
		to = w->conf->routes[channel->routes[w->visits[number].next++]].to;
		if (w->visits[to].state == UNSEEN)
			enter(w, to);
		else
			report_if_cycle(w, to);
	}
}

/* Give each channel its routes, without those that are wrong anyway. 0 or -1. */
static int
distribute(struct conf *conf)
{
	struct conf_channel *channel;
	unsigned i;

	for (i = 0; i < conf->n_routes; i++)
		if (conf->routes[i].from != CONF_CHANNEL_NONE &&
		    conf->routes[i].to != CONF_CHANNEL_NONE)
			conf->channels[conf->routes[i].from].n_routes++;
	for (i = 0; i < conf->n_channels; i++) {
		channel = &conf->channels[i];
		if (channel->n_routes > 0 && (channel->routes = calloc(channel->n_routes,
		    sizeof *channel->routes)) == NULL)
			return -1;
		channel->n_routes = 0;
	}
	for (i = 0; i < conf->n_routes; i++) {
		if (conf->routes[i].from == CONF_CHANNEL_NONE ||
		    conf->routes[i].to == CONF_CHANNEL_NONE)
			continue;
		channel = &conf->channels[conf->routes[i].from];
		channel->routes[channel->n_routes++] = i;
	}
	return 0;
}

void
conf_route_link(struct conf_reading *r, struct conf *conf)
{
	struct walk w = { .r = r, .conf = conf };
	unsigned i;

	if (conf->n_channels == 0)
		return;
	w.visits = calloc(conf->n_channels, sizeof *w.visits);
	w.path = calloc(conf->n_channels, sizeof *w.path);
	if (w.visits == NULL || w.path == NULL || distribute(conf) < 0)
		r->nomem = true;
	for (i = 0; i < conf->n_channels && !r->nomem; i++)
		if (w.visits[i].state == UNSEEN)
			walk_from(&w, i);
	free(w.visits);
	free(w.path);
}
