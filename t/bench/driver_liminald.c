/*
 * liminald: jobs in the opaque form to the pool bench/<queue>.
 *
 * A caller has a conversation for each job that may be outstanding, so that one answer
 * never waits for another one, as with the other servers. Workers announce their capacity.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "form/frame.h"
#include "pubsub.h"

#define MAX_PAYLOAD	(16u << 20)

enum { FRAME_USED, CORRELATION };	/* client->state */

static int
write_conf(const struct bench_server *server, const char *path)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return bench_complain("%s: %s", path, strerror(errno));
	fprintf(f, "listen = { \"127.0.0.1:0\" }\n"
	    "runtime_dir = \"run\"\n"
	    "persist_dir = \"%s\"\n"
	    "limits { connections = %u }\n", server->disk[0] != '\0' ? server->disk : "persist",
	    server->options->idle + 128);
	fprintf(f, "channel \"bench\" { keep_bytes = \"64M\" }\n"
	    "channel \"bench-durable\" { durable = true }\n");
	if (server->record != NULL)
		fprintf(f, "dispatch { record = %s }\n", server->record);
	return fclose(f) == 0 ? 0 : bench_complain("%s: %s", path, strerror(errno));
}

int
bench_liminald_start(struct bench_server *server)
{
	char conf[160], dir[160];
	const char *const argv[] = { "liminald", "-f", "-c", conf, NULL };
	const char *address;

	snprintf(conf, sizeof conf, "%s/conf", server->dir);
	snprintf(dir, sizeof dir, "%s/run", server->dir);
	mkdir(dir, 0700);
	snprintf(dir, sizeof dir, "%s/persist", server->dir);
	mkdir(dir, 0700);
	if (write_conf(server, conf) != 0 || bench_server_spawn(server, argv) != 0)
		return -1;
	address = bench_server_await_log(server, "ready: listening on 127.0.0.1:");
	if (address == NULL)
		return -1;
	return bench_server_use_port(server, atoi(address));
}

static int
append_frame(struct bench_client *client, const struct frame *frame)
{
	return frame_encode(&client->conn[0].out, frame) == 0 ? 0 :
	    bench_complain("a frame cannot be encoded");
}

static struct frame_view
view_text(const char *text)
{
	return (struct frame_view){ (const uint8_t *)text, strlen(text) };
}

/* The first complete frame of the input: 1, 0 if there is none, -1. */
static int
take_frame(struct bench_client *client, struct frame *frame)
{
	struct bench_conn *conn = &client->conn[0];
	struct frame_fault fault = { 0 };
	enum frame_status status;
	size_t used;

	buf_consume(&conn->in, (size_t)client->state[FRAME_USED]);
	client->state[FRAME_USED] = 0;
	if (buf_len(&conn->in) == 0)
		return 0;
	status = frame_decode(buf_head(&conn->in), buf_len(&conn->in), MAX_PAYLOAD, frame, &used,
	    &fault);
	if (status == FRAME_NEED_HEADER || status == FRAME_NEED_PAYLOAD)
		return 0;
	if (status != FRAME_OK)
		return bench_complain("liminald: %s", fault.text);
	client->state[FRAME_USED] = used;
	return 1;
}

static int
await_frame(struct bench_client *client, uint8_t type, struct frame *frame)
{
	int r;

	while ((r = take_frame(client, frame)) == 0)
		if (bench_conn_flush(&client->conn[0]) != 0 ||
		    bench_conn_fill(&client->conn[0]) != 0)
			return -1;
	if (r == 1 && frame->type != type)
		return bench_complain("liminald: %s", frame_type_name(frame->type));
	return r < 0 ? -1 : 0;
}

static int
register_worker(struct bench_client *client)
{
	struct frame frame = { .type = FRAME_WORKER_REGISTER, .flags = FRAME_FLAG_CAPACITY };
	struct buf namespaces = { 0 };
	char identity[32];

	frame_encode_string(&namespaces, "bench", 5);
	snprintf(identity, sizeof identity, "worker-%u", client->index);
	frame.u.worker_register.namespaces.count = 1;
	frame.u.worker_register.namespaces.encoded =
	    (struct frame_view){ buf_head(&namespaces), buf_len(&namespaces) };
	frame.u.worker_register.task_queue = view_text(client->queue);
	frame.u.worker_register.identity = view_text(identity);
	frame.u.worker_register.has_capacity = 1;
	frame.u.worker_register.max_concurrent = client->capacity;
	append_frame(client, &frame);
	buf_free(&namespaces);
	if (await_frame(client, FRAME_WORKER_REGISTER_ACK, &frame) != 0)
		return -1;
	return frame.u.worker_register_ack.accepted ? 0 : bench_complain("not registered");
}

static int
open_conversations(struct bench_client *client)
{
	struct frame frame = { .type = FRAME_CONVERSATION_OPEN };
	char subject[80];
	unsigned i;

	snprintf(subject, sizeof subject, "aion.dispatch.bench.%s", client->queue);
	for (i = 1; i <= client->capacity; i++) {
		frame.stream = i;
		frame.u.conversation_open.conversation = i;
		frame.u.conversation_open.subject = view_text(subject);
		if (append_frame(client, &frame) != 0)
			return -1;
	}
	return 0;
}

static int
liminald_open(struct bench_client *client)
{
	struct frame frame = { .type = FRAME_CONNECT };

	if (bench_conn_open(&client->conn[0], client->server) != 0)
		return -1;
	frame.u.connect.min = frame.u.connect.max = (struct frame_version){ 1, 0 };
	if (append_frame(client, &frame) != 0 ||
	    await_frame(client, FRAME_CONNECT_ACK, &frame) != 0)
		return -1;
	if (client->role == BENCH_WORKER)
		return register_worker(client);
	return client->role == BENCH_CALLER ? open_conversations(client) : 0;
}

int
bench_liminald_send(struct bench_client *client, uint64_t id, struct bench_view payload)
{
	struct frame frame = { .type = FRAME_CONVERSATION_MESSAGE, .flags = FRAME_FLAG_REPLY };

	frame.stream = (uint32_t)(id % client->capacity) + 1;
	frame.u.conversation_message.conversation = frame.stream;
	frame.u.conversation_message.envelope.payload =
	    (struct frame_view){ payload.data, payload.len };
	return append_frame(client, &frame);
}

static int
liminald_send(struct bench_client *client, struct bench_view job)
{
	uint64_t id;

	memcpy(&id, job.data, sizeof id);
	return bench_liminald_send(client, id, job);
}

static int
liminald_reply(struct bench_client *client, struct bench_view result)
{
	struct frame frame = { .type = FRAME_PUSH_REPLY, .stream = FRAME_PUSH_STREAM };

	frame.u.push.correlation = client->state[CORRELATION];
	frame.u.push.payload = (struct frame_view){ result.data, result.len };
	return append_frame(client, &frame);
}

static int
liminald_receive(struct bench_client *client, struct bench_view *content)
{
	struct frame frame;
	struct frame_view view;
	int r = take_frame(client, &frame);

	if (r != 1)
		return r;
	switch (frame.type) {
	case FRAME_PUSH:
		client->state[CORRELATION] = frame.u.push.correlation;
		view = frame.u.push.payload;
		break;
	case FRAME_CONVERSATION_MESSAGE:
		view = frame.u.conversation_message.envelope.payload;
		break;
	case FRAME_CONVERSATION_ERROR:
		view = frame.u.conversation_error.message.view;
		return bench_complain("liminald: reason %#x: %.*s",
		    frame.u.conversation_error.reason, (int)view.len, (const char *)view.data);
	default:
		return bench_complain("liminald: %s", frame_type_name(frame.type));
	}
	*content = (struct bench_view){ view.data, view.len };
	return 1;
}

static int
liminald_bye(struct bench_client *client)
{
	const struct frame frame = { .type = FRAME_DISCONNECT };

	if (append_frame(client, &frame) != 0)
		return -1;
	return bench_conn_flush(&client->conn[0]);
}

const struct bench_driver bench_driver_liminald = {
	.name = "liminald",
	.program = "liminald",
	.redelivers = 1,
	.start = bench_liminald_start,
	.open = liminald_open,
	.send = liminald_send,
	.receive = liminald_receive,
	.reply = liminald_reply,
	.bye = liminald_bye,
	.pubsub = &bench_pubsub_liminald,
	.durable = &bench_driver_liminald_store,
};
