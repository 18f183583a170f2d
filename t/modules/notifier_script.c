/*
 * A notifier for tests: does what a worker's identity or a channel's name says, and writes down each
 * call. args: the file for that, then "fail" to make init fail, or "hang" to make it hang.
 *
 * Lines: PID enter CALL CONN_ID WHAT, and PID leave CALL CONN_ID RESULT when the module returns.
 */
#include <fcntl.h>
#include <liminal/notifier.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS 1024

static const char *file;
static struct { uint64_t conn_id; unsigned n; char identity[64]; } known[CONNECTIONS];

static void
note(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int fd, len;

	len = snprintf(line, sizeof line, "%d ", (int)getpid());
	va_start(ap, fmt);
	len += vsnprintf(line + len, sizeof line - (size_t)len - 1, fmt, ap);
	va_end(ap);
	line[len++] = '\n';
	fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd == -1 || write(fd, line, (size_t)len) != len)
		abort();
	close(fd);
}

static void
misbehave(const char *how)
{
	if (strcmp(how, "crash") == 0)
		raise(SIGSEGV);
	if (strcmp(how, "abort") == 0)
		abort();
	if (strcmp(how, "exit") == 0)
		exit(0);
	while (strcmp(how, "hang") == 0)
		pause();
	/* Nothing that a module does with signals lets it go on. */
	if (strcmp(how, "spin") == 0) {
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		for (volatile int i = 1; i; i |= 1)
			continue;
	}
	/* Children that are left behind, and one that goes on in the caller's code. */
	if (strcmp(how, "child") == 0) {
		pid_t pid = fork();

		while (pid == 0)
			pause();
		note("left child %d", (int)pid);
	}
	if (strcmp(how, "copy") == 0 && fork() == 0)
		return;
	for (int fd = 3; strcmp(how, "close") == 0 && fd < 64; fd++)
		close(fd);
	if (strcmp(how, "nap") == 0)
		usleep((useconds_t)(random() % 1500));
	if (strncmp(how, "slow", 4) == 0)
		usleep(200000);
}

static int
script_init(int argc, const char *const *argv)
{
	if (argc < 1 || argv[argc] != NULL)
		return 2;
	file = argv[0];
	note("init %d", argc);
	if (argc > 1 && strcmp(argv[1], "fail") == 0)
		return 7;
	if (argc > 1)
		misbehave(argv[1]);
	return 0;
}

static void
describe(const struct liminal_registration *r, char *text, size_t size)
{
	size_t at = 0, i;

	at += (size_t)snprintf(text + at, size - at, "queue=%s node=%s identity=%s", r->task_queue,
	    r->node != NULL ? r->node : "(none)", r->identity);
	for (i = 0; i < r->n_namespaces; i++)
		at += (size_t)snprintf(text + at, size - at, " namespace=%s", r->namespaces[i]);
	for (i = 0; i < r->n_activity_types; i++)
		at += (size_t)snprintf(text + at, size - at, " type=%s", r->activity_types[i]);
}

static int
verdict(uint64_t conn_id, const struct liminal_registration *r, char *reason, size_t size)
{
	const char *who = r->identity;
	unsigned n = known[conn_id % CONNECTIONS].n;

	misbehave(who);
	if (reason[0] != '\0')
		snprintf(reason, size, "the reason was not empty");
	else if (strncmp(who, "reject:", 7) == 0)
		snprintf(reason, size, "%s", who + 7);
	else if (strcmp(who, "describe") == 0)
		describe(r, reason, size);
	else if (strcmp(who, "bytes") == 0)
		memcpy(reason, "no\xff\xfe\n", 6);
	else if (strcmp(who, "long") == 0)
		memset(reason, 'x', size);
	else if (strcmp(who, "silent") == 0)
		return -1;
	else if (strcmp(who, "only-once") == 0 && n > 1)
		snprintf(reason, size, "not again");
	return reason[0] != '\0';
}

static int
script_registered(uint64_t conn_id, const struct liminal_registration *r, char *reason,
    size_t size)
{
	int rejected;

	note("enter registered %llu %s", (unsigned long long)conn_id, r->identity);
	if (known[conn_id % CONNECTIONS].conn_id != conn_id ||
	    strcmp(known[conn_id % CONNECTIONS].identity, r->identity) != 0)
		known[conn_id % CONNECTIONS].n = 0;
	known[conn_id % CONNECTIONS].n++;
	known[conn_id % CONNECTIONS].conn_id = conn_id;
	rejected = verdict(conn_id, r, reason, size);
	if (!rejected)
		snprintf(known[conn_id % CONNECTIONS].identity,
		    sizeof known[0].identity, "%s", r->identity);
	note("leave registered %llu %s", (unsigned long long)conn_id,
	    rejected ? "rejected" : "accepted");
	return rejected;
}

static void
script_unregistered(uint64_t conn_id)
{
	const char *who = known[conn_id % CONNECTIONS].conn_id == conn_id ?
	    known[conn_id % CONNECTIONS].identity : "(unknown)";

	note("enter unregistered %llu %s", (unsigned long long)conn_id, who);
	if (strncmp(who, "leave-", 6) == 0 || strcmp(who, "nap") == 0)
		misbehave(who[0] == 'l' ? who + 6 : who);
	note("leave unregistered %llu", (unsigned long long)conn_id);
}

static int
script_publish(uint64_t conn_id, const char *channel, const void *payload, size_t length)
{
	int consumed = strncmp(channel, "tap", 3) == 0;

	note("enter publish %llu %s %zu %.*s", (unsigned long long)conn_id, channel, length,
	    length > 64 ? 64 : (int)length, (const char *)payload);
	misbehave(strncmp(channel, "tap-", 4) == 0 ? channel + 4 : channel);
	note("leave publish %llu %d", (unsigned long long)conn_id, consumed);
	return strcmp(channel, "two") == 0 ? 2 : consumed;
}

const struct liminal_notifier liminal_notifier = {
	.version = LIMINAL_NOTIFIER_VERSION,
	.init = script_init,
	.worker_registered = script_registered,
	.worker_unregistered = script_unregistered,
	.channel_publish = script_publish,
};
