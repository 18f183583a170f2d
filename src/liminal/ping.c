/*
 * ping: one round trip to the daemon's process for this connection, after its handshake.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "liminal/cli.h"

#define PING_DEFAULT_TIMEOUT_MS	5000

int
command_ping(struct cli *cli)
{
	struct liminal *conn;
	int64_t began, took_us;
	char line[512];
	int status, r;

	cli->timeout_ms = PING_DEFAULT_TIMEOUT_MS;
	while (cli_next_option(cli, "", NULL) != -1)
		continue;
	cli_arguments(cli, 0, 0);
	if ((conn = cli_open(cli, cli->timeout_ms, &status)) == NULL)
		return status;
	began = clock_now_ns();
	r = liminal_ping(conn, cli->timeout_ms);
	took_us = (clock_now_ns() - began) / 1000;
	status = cli_exit_of(r, liminal_reason(conn));
	if (r != LIMINAL_OK) {
		cli_complain(cli, "%s", liminal_error_text(conn));
	} else if (cli->json) {
		r = cli_print_json(cli, json_pack("{ss,ss,sI}", "server", cli->server, "status",
		    "completed", "round_trip_us", (json_int_t)took_us));
	} else {
		snprintf(line, sizeof(line), "%.400s answered in %lld us\n", cli->server,
		    (long long)took_us);
		r = cli_write_output(cli, line, strlen(line));
	}
	liminal_free(conn);
	return r != 0 && status == CLI_DONE ? CLI_FAILED : status;
}
