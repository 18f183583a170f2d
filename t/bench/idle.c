/*
 * idle: many connections that do nothing, and what each of them costs the server in memory.
 *
 * Private_Clean + Private_Dirty of smaps_rollup. A server that has a process for each
 * connection: mean and maximum over a sample of the processes that came with them. Another one:
 * how much its processes grew, divided by the connections.
 */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

#define MAX_PROCESSES	65536u
#define SAMPLE		200u
#define SPARE_FILES	64u

static int
parent_of(pid_t pid)
{
	char path[64], text[512], *at;
	int parent = -1;
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return -1;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	text[n] = '\0';
	at = strrchr(text, ')');	/* the name may hold anything */
	return at != NULL && sscanf(at + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

/* The server's process and its children: a sorted list. */
static unsigned
list_processes(const struct bench_server *server, pid_t *out)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	unsigned n = 0;
	pid_t pid;

	while (dir != NULL && (e = readdir(dir)) != NULL && n < MAX_PROCESSES) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		pid = atoi(e->d_name);
		if (pid == server->pid || parent_of(pid) == server->pid)
			out[n++] = pid;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* Private memory of a process in KiB, 0 when it is gone. */
static double
private_kib(pid_t pid)
{
	char path[64], line[256];
	double sum = 0, kib;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "Private_Clean: %lf", &kib) == 1 ||
		    sscanf(line, "Private_Dirty: %lf", &kib) == 1)
			sum += kib;
	if (f != NULL)
		fclose(f);
	return sum;
}

_Noreturn static void
hold(const struct bench_server *server, unsigned index, unsigned n)
{
	struct bench_client *client = calloc(n, sizeof *client);
	unsigned i;

	for (i = 0; i < n; i++) {
		if (bench_client_open(&client[i], server, BENCH_IDLE, "", index, 1) != 0 ||
		    bench_client_flush(&client[i]) != 0)
			_exit(1);
		buf_free(&client[i].conn[0].in);
		buf_free(&client[i].conn[0].out);
		atomic_fetch_add(&bench_shared->ready, 1);
	}
	for (;;)
		pause();
}

static int
open_all(const struct bench_server *server, struct bench_idle *idle)
{
	unsigned total = server->options->idle, i;
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	idle->n_holders = 4;
	while (idle->n_holders < 16 && total / idle->n_holders + SPARE_FILES > files.rlim_cur)
		idle->n_holders++;
	atomic_store(&bench_shared->ready, 0);
	for (i = 0; i < idle->n_holders; i++) {
		idle->holder[i] = bench_fork();
		if (idle->holder[i] == 0)
			hold(server, i, total * (i + 1) / idle->n_holders -
			    total * i / idle->n_holders);
	}
	return bench_await_ready(total, idle->holder, idle->n_holders);
}

/* BEFORE and AFTER are lists of the server's processes; KIB_BEFORE what they had then. */
static void
weigh(struct bench_idle *idle, unsigned total, const pid_t *before, unsigned n_before,
    double kib_before, pid_t *after, unsigned n_after)
{
	unsigned i, j, n = 0, taken = 0;
	double kib, sum = 0;

	for (i = 0; i < n_after; i++) {
		for (j = 0; j < n_before && before[j] != after[i]; j++)
			;
		if (j == n_before)
			after[n++] = after[i];
		else
			sum += private_kib(after[i]);
	}
	idle->processes = n;
	idle->mean_kib = idle->max_kib = 0;
	if (n < total / 2) {
		idle->mean_kib = (sum - kib_before) / total;
		return;
	}
	for (i = 0, sum = 0; i < SAMPLE; i++) {
		kib = private_kib(after[(size_t)i * n / SAMPLE]);
		if (kib <= 0)
			continue;
		taken++;
		sum += kib;
		if (kib > idle->max_kib)
			idle->max_kib = kib;
	}
	idle->mean_kib = taken > 0 ? sum / taken : 0;
}

int
bench_idle_open(struct bench_server *server, struct bench_idle *idle)
{
	pid_t *before = calloc(2 * MAX_PROCESSES, sizeof *before);
	pid_t *after = before + MAX_PROCESSES;
	unsigned n_before, n_after, i;
	double kib_before = 0;
	int r;

	memset(idle, 0, sizeof *idle);
	n_before = list_processes(server, before);
	for (i = 0; i < n_before; i++)
		kib_before += private_kib(before[i]);
	r = open_all(server, idle);
	if (r == 0 && server->pid > 0) {
		n_after = list_processes(server, after);
		weigh(idle, server->options->idle, before, n_before, kib_before, after, n_after);
	}
	free(before);
	return r;
}

void
bench_idle_close(struct bench_idle *idle)
{
	bench_kill(idle->holder, idle->n_holders);
}
