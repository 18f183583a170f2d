/*
 * push: a payload to one connection, and its reply. For the daemon it is a conversation
 * whose participant is that connection.
 */
#include <inttypes.h>
#include <stdio.h>

#include "liminal/cli.h"

int
command_push(struct cli *cli)
{
	struct buf payload = { 0 };
	char subject[64];
	int status = CLI_FAILED;

	while (cli_next_option(cli, "", NULL) != -1)
		continue;
	snprintf(subject, sizeof(subject), "liminal.connection.%" PRId64,
	    cli_number(cli, cli_arguments(cli, 1, 1)[0], 1, INT64_MAX, "CONN_ID"));
	if (cli_read_input(cli, &payload) == 0)
		status = cli_exchange(cli, subject, &payload, NULL);
	buf_free(&payload);
	return status;
}
