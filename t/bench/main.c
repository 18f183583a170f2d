/*
 * bench: measures liminald, and other brokers beside it in the same way.
 *
 * For each figure the servers of all drivers run side by side and take turns run by run,
 * so that whatever else the machine does meets all of them. See t/bench/README.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pubsub.h"

#define MAX_DRIVERS	8
#define MAX_RUNS	100

enum figure {
	LATENCY, PAIRS, WINDOW64, WINDOW256, FAILOVER, CONNECT1, CONNECT4, RECORD1, RECORD64,
	FAN1, FAN1K, FAN8, FAN64, DURABLE1, DURABLE256, DURABLE8, IDLE, N_FIGURES
};

static const char *const figure_name[N_FIGURES] = {
	"latency", "pairs", "window64", "window256", "failover", "connect1", "connect4", "record1",
	"record64", "fan1", "fan1k", "fan8", "fan64", "durable1", "durable256", "durable8", "idle",
};

static const struct bench_shape shape_of[N_FIGURES] = {
	[LATENCY] = { .callers = 1, .workers = 1, .window = 1, .capacity = 1 },
	[PAIRS] = { .callers = 8, .workers = 8, .window = 1, .capacity = 1 },
	[WINDOW64] = { .callers = 1, .workers = 4, .window = 64, .capacity = 64 },
	[WINDOW256] = { .callers = 1, .workers = 4, .window = 256, .capacity = 64 },
	[RECORD1] = { .callers = 1, .workers = 1, .window = 1, .capacity = 1 },
	[RECORD64] = { .callers = 1, .workers = 4, .window = 64, .capacity = 64 },
};

static const struct bench_pubsub_shape pubsub_shape_of[N_FIGURES] = {
	[FAN1] = { .publishers = 1, .subscribers = 1 },
	[FAN1K] = { .publishers = 1, .subscribers = 1, .size = 1024 },
	[FAN8] = { .publishers = 1, .subscribers = 8 },
	[FAN64] = { .publishers = 1, .subscribers = 64 },
	[DURABLE1] = { .publishers = 1, .outstanding = 1 },
	[DURABLE256] = { .publishers = 1, .outstanding = 256 },
	[DURABLE8] = { .publishers = 8, .outstanding = 256 },
};

static const struct bench_driver *const drivers[] = {
	&bench_driver_liminald, &bench_driver_libliminal, &bench_driver_nats, &bench_driver_redis,
	&bench_driver_beanstalkd, &bench_driver_gearmand, &bench_driver_mosquitto,
	&bench_driver_bare,
};
#define N_DRIVERS	(sizeof drivers / sizeof *drivers)

static struct bench_options options = {
	.runs = 5, .seconds = 2, .warm_up = 0.3, .size = 64, .idle = 10000,
	.window = PUBSUB_WINDOW,
};
static const struct bench_driver *selected[MAX_DRIVERS];
static const char *attached[MAX_DRIVERS];	/* address, or NULL: start our own */
static unsigned n_selected;
static struct bench_server servers[MAX_DRIVERS];
static int failed;

/* VALUE[0] and VALUE[1] of run RUN of a server; one table for each part of a figure. Those of
 * the last figure. */
static struct {
	double value[2][MAX_DRIVERS][MAX_RUNS], commit[MAX_RUNS];
	int bad[MAX_DRIVERS];
} v;

static void
interrupt(int sig)
{
	(void)sig;
	bench_interrupted = 1;
}

static int
is_durable(enum figure figure)
{
	return figure == DURABLE1 || figure == DURABLE256 || figure == DURABLE8;
}

static int
is_time(enum figure figure)
{
	return figure == LATENCY || figure == FAILOVER || figure == RECORD1;
}

static const char *
unit_of(enum figure figure)
{
	if (is_time(figure))
		return "us";
	if (figure == CONNECT1 || figure == CONNECT4)
		return "connections/s";
	if (pubsub_shape_of[figure].subscribers > 1)
		return "deliveries/s";
	return pubsub_shape_of[figure].publishers > 0 ? "messages/s" : "jobs/s";
}

static int
run_once(enum figure figure, const struct bench_server *server, double value[2])
{
	struct bench_result result = { 0 };
	int r;

	switch (figure) {
	case FAILOVER:
		r = bench_run_failover(server, &result);
		break;
	case CONNECT1:
	case CONNECT4:
		return bench_run_connect(server, figure == CONNECT1 ? 1 : 4, &value[0]);
	default:
		if (pubsub_shape_of[figure].publishers > 0)
			return bench_run_pubsub(server, &pubsub_shape_of[figure], &value[0]);
		r = bench_run_jobs(server, &shape_of[figure], &result);
		if (!is_time(figure)) {
			value[0] = result.rate;
			return r;
		}
	}
	value[0] = result.p50_us;
	value[1] = result.p99_us;
	return r;
}

/* All runs of FIGURE with servers FROM..TO, in turns; reported as PREFIX + its name. */
static void
measure(enum figure figure, unsigned from, unsigned to, const char *prefix)
{
	char name[64];
	double value[2];
	unsigned run, i, part;

	memset(&v, 0, sizeof v);
	for (run = 0; run < options.runs && !bench_interrupted; run++) {
		for (i = from; i < to; i++) {
			if (v.bad[i] || run_once(figure, &servers[i], value) != 0) {
				v.bad[i] = 1;
				continue;
			}
			v.value[0][i][run] = value[0];
			v.value[1][i][run] = value[1];
		}
		/* A disk is not the same from one moment to the next. */
		if ((figure == RECORD1 || figure == DURABLE1) &&
		    bench_disk_commit(&servers[to - 1], &v.commit[run]) != 0)
			v.bad[to - 1] = 1;
	}
	if (bench_interrupted)
		return;
	for (part = 0; part < (is_time(figure) ? 2u : 1u); part++)
		for (i = from; i < to; i++) {
			snprintf(name, sizeof name, "%s%s%s", prefix, figure_name[figure],
			    !is_time(figure) ? "" : part == 0 ? " p50" : " p99");
			if (v.bad[i]) {
				bench_report_missing(&options, name, servers[i].driver->name, "failed");
				failed = 1;
			} else {
				bench_report_figure(&options, name, servers[i].driver->name,
				    unit_of(figure), v.value[part][i], options.runs);
			}
		}
}

/* What measures FIGURE of the selected driver I: it, or how it stores messages; NULL: nothing. */
static const struct bench_driver *
driver_for(enum figure figure, unsigned i)
{
	if (is_durable(figure))
		return attached[i] == NULL ? selected[i]->durable : NULL;
	if (pubsub_shape_of[figure].publishers > 0)
		return selected[i]->pubsub != NULL ? selected[i] : NULL;
	return selected[i]->send != NULL ? selected[i] : NULL;
}

/* The selected driver I, for FIGURE, as the server AT. */
static int
start_server(enum figure figure, unsigned i, unsigned at)
{
	const struct bench_driver *driver = driver_for(figure, i);

	if ((attached[i] != NULL ?
	    bench_server_attach(&servers[at], driver, &options, attached[i]) :
	    bench_server_start(&servers[at], driver, &options)) == 0)
		return 0;
	bench_report_missing(&options, figure_name[figure], driver->name, "failed");
	failed = 1;
	return -1;
}

static void
measure_idle(unsigned i)
{
	static const enum figure parts[] = { LATENCY, PAIRS, WINDOW64 };
	const char *name = selected[i]->name;
	struct bench_idle idle;
	unsigned p;

	if (start_server(IDLE, i, 0) != 0)
		return;
	for (p = 0; p < 3 && !bench_interrupted; p++)
		measure(parts[p], 0, 1, "idle: before ");
	if (bench_idle_open(&servers[0], &idle) == 0) {
		if (attached[i] == NULL)
			bench_report_figure(&options, "idle: memory mean", name, "KiB/connection",
			    &idle.mean_kib, 1);
		if (idle.max_kib > 0)
			bench_report_figure(&options, "idle: memory max", name, "KiB/connection",
			    &idle.max_kib, 1);
		for (p = 0; p < 3 && !bench_interrupted; p++)
			measure(parts[p], 0, 1, "idle: while ");
	} else if (!bench_interrupted) {
		bench_report_missing(&options, "idle", name, "failed");
		failed = 1;
	}
	bench_idle_close(&idle);
	bench_server_stop(&servers[0]);
}

/* What the record costs, run by run: each recorded run with the unrecorded one before it. */
static void
report_record(enum figure figure)
{
	double (*value)[MAX_RUNS] = v.value[0], cost[MAX_RUNS];
	unsigned run;

	for (run = 0; run < options.runs; run++)
		cost[run] = figure == RECORD64 ? value[1][run] / value[0][run] :
		    (value[1][run] - value[0][run]) / v.commit[run];
	if (figure == RECORD64) {
		bench_report_figure(&options, "record64: share", "recorded", "of unrecorded", cost,
		    options.runs);
		return;
	}
	bench_report_figure(&options, "record1: commit p50", "disk", "us", v.commit,
	    options.runs);
	bench_report_figure(&options, "record1: cost p50", "recorded", "commits", cost,
	    options.runs);
}

/* Two daemons that differ in nothing but the record. */
static void
measure_record(enum figure figure)
{
	static const struct bench_driver *const pair[2] = {
		&bench_driver_unrecorded, &bench_driver_recorded,
	};
	unsigned n;

	for (n = 0; n < 2; n++)
		if (bench_server_start(&servers[n], pair[n], &options) != 0) {
			bench_report_missing(&options, figure_name[figure], pair[n]->name, "failed");
			failed = 1;
			break;
		}
	if (n == 2) {
		measure(figure, 0, 2, "");
		if (!bench_interrupted && !v.bad[0] && !v.bad[1])
			report_record(figure);
	}
	while (n > 0)
		bench_server_stop(&servers[--n]);
}

/* Only a liminald that is started here has one. */
static int
has_record(void)
{
	unsigned i;

	for (i = 0; i < n_selected; i++)
		if (selected[i] == &bench_driver_liminald && attached[i] == NULL)
			return 1;
	return 0;
}

static void
measure_failover(unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		if (!servers[i].driver->redelivers)
			bench_report_missing(&options, figure_name[FAILOVER],
			    servers[i].driver->name, "a dead worker's job is lost");
		else
			measure(FAILOVER, i, i + 1, "");
}

static void
measure_figure(enum figure figure)
{
	unsigned i, n = 0;

	if (figure == RECORD1 || figure == RECORD64) {
		if (has_record())
			measure_record(figure);
		return;
	}
	for (i = 0; figure == IDLE && i < n_selected && !bench_interrupted; i++)
		if (driver_for(figure, i) != NULL)
			measure_idle(i);
	for (i = 0; figure != IDLE && i < n_selected && !bench_interrupted; i++)
		if (driver_for(figure, i) != NULL && start_server(figure, i, n) == 0)
			n++;
	if (figure == FAILOVER)
		measure_failover(n);
	else if (n > 0)
		measure(figure, 0, n, "");
	if (n > 0 && figure == DURABLE1 && !bench_interrupted)
		bench_report_figure(&options, "durable1: commit p50", "disk", "us", v.commit,
		    options.runs);
	while (n > 0)
		bench_server_stop(&servers[--n]);
}

static void
select_drivers(char *list)
{
	int all = strcmp(list, "all") == 0;
	char *name, *equal;
	size_t i;

	while ((name = strsep(&list, ",")) != NULL) {
		equal = strchr(name, '=');
		if (equal != NULL)
			*equal = '\0';
		for (i = 0; i < N_DRIVERS && n_selected < MAX_DRIVERS; i++) {
			if (!all && strcmp(name, drivers[i]->name) != 0)
				continue;
			if (equal == NULL && drivers[i]->program != NULL &&
			    !bench_program_exists(drivers[i]->program)) {
				bench_complain("%s: %s is not installed, left out",
				    drivers[i]->name, drivers[i]->program);
				failed |= !all;
			} else {
				attached[n_selected] = equal != NULL ? equal + 1 : NULL;
				selected[n_selected++] = drivers[i];
			}
			if (!all)
				break;
		}
		if (!all && i == N_DRIVERS) {
			bench_complain("%s: no such driver", name);
			exit(2);
		}
	}
}

static unsigned
select_figures(char *list)
{
	static const struct { const char *name; enum figure from, to; } groups[] = {
		{ "connect", CONNECT1, CONNECT4 }, { "fan", FAN1, FAN64 },
		{ "durable", DURABLE1, DURABLE8 },
	};
	unsigned set = 0, i, group, found;
	char *name;

	while ((name = strsep(&list, ",")) != NULL) {
		for (i = found = 0; i < N_FIGURES; i++) {
			for (group = 0; group < sizeof groups / sizeof *groups; group++)
				if (strcmp(name, groups[group].name) == 0 &&
				    i >= groups[group].from && i <= groups[group].to)
					break;
			if (group < sizeof groups / sizeof *groups ||
			    strcmp(name, figure_name[i]) == 0) {
				set |= 1u << i;
				found = 1;
			}
		}
		if (!found) {
			bench_complain("%s: no such figure", name);
			exit(2);
		}
	}
	return set;
}

_Noreturn static void
usage(int status)
{
	unsigned i;

	fprintf(status == 0 ? stdout : stderr,
	    "usage: bench [-j] [-b DIR] [-D DIR] [-d DRIVER[=HOST:PORT],...] [-m FIGURE,...]\n"
	    "             [-n CONNECTIONS] [-r RUNS] [-s BYTES] [-t SECONDS] [-w SECONDS]\n"
	    "             [-W MESSAGES]\n\n"
	    "  -b  where liminald is        -d  servers, \"all\" = those that are installed\n"
	    "  -D  on the disk to record on, default that of -b\n"
	    "  -j  JSON lines               -m  figures, default all\n"
	    "  -n  connections of \"idle\"    -r  runs of each figure\n"
	    "  -s  size of a job            -t  seconds of a run     -w  warm-up before each\n"
	    "  -W  messages that a publisher may be ahead of the slowest subscriber\n\n"
	    "figures:");
	for (i = 0; i < N_FIGURES; i++)
		fprintf(status == 0 ? stdout : stderr, " %s", figure_name[i]);
	fprintf(status == 0 ? stdout : stderr, " connect fan durable\ndrivers:");
	for (i = 0; i < N_DRIVERS; i++)
		fprintf(status == 0 ? stdout : stderr, " %s", drivers[i]->name);
	fprintf(status == 0 ? stdout : stderr, "\n");
	exit(status);
}

static double
number(const char *text, double min, double max)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end != '\0' || !(d >= min && d <= max)) {
		bench_complain("%s: not a number from %g to %g", text, min, max);
		exit(2);
	}
	return d;
}

/* Returns the figures. */
static unsigned
parse_options(int argc, char **argv)
{
	char *driver_list = NULL;
	unsigned figures = (1u << N_FIGURES) - 1;
	int c;

	while ((c = getopt(argc, argv, "b:D:d:hjm:n:r:s:t:w:W:")) != -1)
		switch (c) {
		case 'b': bench_set_program_dir(optarg); break;
		case 'D': bench_set_disk_dir(optarg); break;
		case 'd': driver_list = optarg; break;
		case 'h': usage(0);
		case 'j': options.json = 1; break;
		case 'm': figures = select_figures(optarg); break;
		case 'n': options.idle = (unsigned)number(optarg, 1, 30000); break;
		case 'r': options.runs = (unsigned)number(optarg, 1, MAX_RUNS); break;
		case 's': options.size = (size_t)number(optarg, BENCH_MIN_SIZE, 1 << 20); break;
		case 't': options.seconds = number(optarg, 0.01, 3600); break;
		case 'w': options.warm_up = number(optarg, 0, 60); break;
		case 'W': options.window = (unsigned)number(optarg, 1, 1 << 20); break;
		default: usage(2);
		}
	if (optind != argc)
		usage(2);
	if (driver_list != NULL) {
		select_drivers(driver_list);
	} else {
		selected[n_selected++] = &bench_driver_liminald;
	}
	return figures;
}

int
main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct rlimit files;
	unsigned figures = parse_options(argc, argv), i;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	bench_shared = mmap(NULL, sizeof *bench_shared, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (bench_shared == MAP_FAILED)
		return bench_complain("mmap: %s", strerror(errno)) != 0;
	bench_report_machine(&options);
	for (i = 0; i < N_FIGURES && !bench_interrupted; i++)
		if (figures & 1u << i)
			measure_figure((enum figure)i);
	return failed || bench_interrupted;
}
