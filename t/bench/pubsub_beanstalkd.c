/* beanstalkd with a binlog that is flushed every 50 ms: jobs that are put and acknowledged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub.h"

static int
binlog_start(struct bench_server *server)
{
	const char *const argv[] = { "beanstalkd", "-l", "127.0.0.1", "-p", server->port,
	    "-z", "2000000", "-b", server->disk, "-f", "50", NULL };

	if (bench_server_spawn(server, argv) != 0)
		return -1;
	return bench_server_await_port(server);
}

static int
binlog_open(struct bench_client *client)
{
	if (bench_conn_open(&client->conn[0], client->server) != 0)
		return -1;
	bench_conn_printf(&client->conn[0], "use %s\r\n", client->queue);
	return bench_conn_expect(&client->conn[0], "USING ");
}

static int
binlog_encode(struct bench_client *client, struct bench_view message, struct buf *out)
{
	char head[64];
	int n = snprintf(head, sizeof head, "put 0 0 3600 %zu\r\n", message.len);

	(void)client;
	if (buf_append(out, head, (size_t)n) != 0 ||
	    buf_append(out, message.data, message.len) != 0 || buf_append(out, "\r\n", 2) != 0)
		return bench_complain("out of memory");
	return 0;
}

static int
binlog_acknowledge(struct bench_client *client, uint64_t *n)
{
	return bench_take_lines(&client->conn[0], "INSERTED ", n);
}

static int
binlog_count_stored(struct bench_client *client, uint64_t *n)
{
	static const char key[] = "current-jobs-ready: ";
	struct bench_conn *conn = &client->conn[0];
	const char *at;

	bench_conn_printf(conn, "stats-tube %s\r\n", client->queue);
	if (bench_conn_expect(conn, "OK ") != 0)
		return -1;
	while (buf_len(&conn->in) == 0 || (at = memmem(buf_head(&conn->in), buf_len(&conn->in),
	    key, sizeof key - 1)) == NULL || memchr(at, '\n', buf_len(&conn->in) -
	    (size_t)(at - (const char *)buf_head(&conn->in))) == NULL)
		if (bench_conn_fill(conn) != 0)
			return -1;
	*n = strtoull(at + sizeof key - 1, NULL, 10);
	return 0;
}

static int
binlog_bye(struct bench_client *client)
{
	return bench_driver_beanstalkd.bye(client);
}

static const struct bench_pubsub pubsub_binlog = {
	.open = binlog_open,
	.encode = binlog_encode,
	.acknowledge = binlog_acknowledge,
	.count_stored = binlog_count_stored,
};

const struct bench_driver bench_driver_beanstalkd_binlog = {
	.name = "beanstalkd50", .program = "beanstalkd", .on_disk = 1,
	.start = binlog_start, .bye = binlog_bye, .pubsub = &pubsub_binlog,
};
