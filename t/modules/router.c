/*
 * A router for tests, which does what a job's workflow id, or else its payload, says. Its first
 * argument is a directory for the files of "gate"; with "fail", "crash" or "hang" as its last
 * one it does that when it is started.
 *
 *	index N		that candidate
 *	loyal		the first one; when somebody had it already, as report
 *	report		none, and the reason tells all that it was shown
 *	gate NAME	the last one, when the file NAME is there; NAME.asked is made meanwhile
 *	crash exit hang deface
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <liminal/router.h>

static const char *folder;

static void __attribute__((noreturn))
hang(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (;;)
		pause();
}

static int
test_init(int argc, const char *const *argv)
{
	const char *last = argc > 0 ? argv[argc - 1] : "";

	if (argc == 0 || argv[argc] != NULL || strcmp(last, "fail") == 0)
		return 7;
	if (strcmp(last, "crash") == 0)
		abort();
	if (strcmp(last, "hang") == 0)
		hang();
	folder = argv[0];
	return 0;
}

static void
wait_at_gate(const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/%s.asked", folder, name);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof path, "%s/%s", folder, name);
	while (access(path, F_OK) != 0)
		usleep(2000);
}

static const char *
or_none(const char *text)
{
	return text != NULL ? text : "none";
}

static void
report(const struct liminal_router_request *request, const struct liminal_router_worker *workers,
    size_t n, char *reason, size_t size)
{
	size_t i, len;

	len = (size_t)snprintf(reason, size, "%s|%s|%s|%d|%zu|", request->channel,
	    or_none(request->activity_type), or_none(request->node), request->node_required,
	    request->length);
	for (i = 0; i < request->n_excluded && len < size; i++)
		len += (size_t)snprintf(reason + len, size - len, "-%s ", request->excluded[i]);
	for (i = 0; i < n && len < size; i++)
		len += (size_t)snprintf(reason + len, size - len, "%s@%s:%u/%u%s ",
		    workers[i].worker_id, or_none(workers[i].node), workers[i].in_flight,
		    workers[i].max_concurrent, workers[i].since > 0 ? "" : "?");
}

static long
test_select(const struct liminal_router_request *request,
    const struct liminal_router_worker *workers, size_t n, char *reason, size_t size)
{
	char what[256];
	long index;

	snprintf(what, sizeof what, "%.*s", (int)request->length,
	    (const char *)request->payload);
	if (request->workflow_id != NULL)
		snprintf(what, sizeof what, "%s", request->workflow_id);
	if (sscanf(what, "index %ld", &index) == 1)
		return index;
	if (strcmp(what, "loyal") == 0 && request->n_excluded == 0)
		return 0;
	if (strncmp(what, "gate ", 5) == 0) {
		wait_at_gate(what + 5);
		return (long)n - 1;
	}
	if (strcmp(what, "crash") == 0)
		raise(SIGSEGV);
	if (strcmp(what, "exit") == 0)
		exit(0);
	if (strcmp(what, "hang") == 0)
		hang();
	if (strcmp(what, "deface") == 0)
		memset(reason, 0xff, size);
	else
		report(request, workers, n, reason, size);
	return -1;
}

const struct liminal_router liminal_router = {
	.version = LIMINAL_ROUTER_VERSION, .init = test_init, .select = test_select
};
