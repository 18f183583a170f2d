/*
 * ask: one message to a conversation on any subject, and its reply.
 */
#include "liminal/cli.h"

int
command_ask(struct cli *cli)
{
	struct buf payload = { 0 };
	char **arguments;
	int status = CLI_FAILED;

	while (cli_next_option(cli, "", NULL) != -1)
		continue;
	arguments = cli_arguments(cli, 1, 1);
	if (cli_read_input(cli, &payload) == 0)
		status = cli_exchange(cli, arguments[0], &payload, NULL);
	buf_free(&payload);
	return status;
}
