/*
 * liminald through the client library (include/liminal.h), as a program of its users would
 * do it. The driver "liminald" speaks the same wire without the library: what lies between
 * the two is the library's price.
 *
 * The library flushes and waits by itself, so receive() is where this driver blocks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "liminal.h"
#include "pubsub.h"

#define WAIT_MS	((int)(BENCH_WAIT_NS / 1000000))

enum { CORRELATION };			/* client->state */

struct library_client {
	struct liminal *liminal;
	uint64_t *conversation;		/* one for each job that may be outstanding */
};

struct liminal *
bench_libliminal(const struct bench_client *client)
{
	return ((const struct library_client *)client->library)->liminal;
}

static int
complain(const struct library_client *library, const char *what, int status)
{
	return bench_complain("libliminal: %s: %s: %s", what, liminal_status_text(status),
	    liminal_error_text(library->liminal));
}

static int
register_worker(struct bench_client *client, struct library_client *library)
{
	const char *const namespaces[] = { "bench" };
	struct liminal_worker worker = { .namespaces = namespaces, .n_namespaces = 1 };
	int status;

	worker.task_queue = client->queue;
	worker.max_concurrent = client->capacity;
	status = liminal_register(library->liminal, &worker, WAIT_MS);
	return status == LIMINAL_OK ? 0 : complain(library, "register", status);
}

static int
open_conversations(struct bench_client *client, struct library_client *library)
{
	unsigned i;
	int status;

	library->conversation = calloc(client->capacity, sizeof *library->conversation);
	for (i = 0; i < client->capacity; i++) {
		status = liminal_open_pool(library->liminal, "bench", client->queue,
		    &library->conversation[i]);
		if (status != LIMINAL_OK)
			return complain(library, "open a pool", status);
	}
	return 0;
}

static int
libliminal_open(struct bench_client *client)
{
	struct library_client *library = client->library;
	char address[32];
	int status;

	if (library == NULL) {
		library = client->library = calloc(1, sizeof *library);
		library->liminal = liminal_new();
	}
	snprintf(address, sizeof address, "127.0.0.1:%s", client->server->port);
	status = liminal_open(library->liminal, address, WAIT_MS);
	if (status != LIMINAL_OK)
		return complain(library, "open", status);
	if (client->role == BENCH_WORKER)
		return register_worker(client, library);
	return client->role == BENCH_CALLER ? open_conversations(client, library) : 0;
}

static int
libliminal_send(struct bench_client *client, struct bench_view job)
{
	struct library_client *library = client->library;
	uint64_t id;
	int status;

	memcpy(&id, job.data, sizeof id);
	status = liminal_send_request(library->liminal,
	    library->conversation[id % client->capacity], job.data, job.len, NULL);
	return status == LIMINAL_OK ? 0 : complain(library, "send", status);
}

static int
libliminal_receive(struct bench_client *client, struct bench_view *content)
{
	struct library_client *library = client->library;
	const struct liminal_answer *answer;
	const struct liminal_job *job;
	int status;

	if (client->role == BENCH_WORKER) {
		status = liminal_next_job(library->liminal, WAIT_MS, &job);
		if (status != LIMINAL_OK)
			return complain(library, "next job", status);
		client->state[CORRELATION] = job->correlation;
		*content = (struct bench_view){ job->payload, job->len };
		return 1;
	}
	status = liminal_next_answer(library->liminal, WAIT_MS, &answer);
	if (status != LIMINAL_OK)
		return complain(library, "next answer", status);
	if (answer->is_error)
		return bench_complain("libliminal: reason %#x: %.*s", answer->reason,
		    (int)answer->len, (const char *)answer->payload);
	*content = (struct bench_view){ answer->payload, answer->len };
	return 1;
}

static int
libliminal_reply(struct bench_client *client, struct bench_view result)
{
	struct library_client *library = client->library;
	int status = liminal_reply(library->liminal, client->state[CORRELATION], result.data,
	    result.len);

	return status == LIMINAL_OK ? 0 : complain(library, "reply", status);
}

static int
libliminal_bye(struct bench_client *client)
{
	struct library_client *library = client->library;

	liminal_close(library->liminal);
	return 0;
}

const struct bench_driver bench_driver_libliminal = {
	.name = "libliminal",
	.program = "liminald",
	.redelivers = 1,
	.start = bench_liminald_start,
	.open = libliminal_open,
	.send = libliminal_send,
	.receive = libliminal_receive,
	.reply = libliminal_reply,
	.bye = libliminal_bye,
	.pubsub = &bench_pubsub_libliminal,
};
