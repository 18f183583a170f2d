/*
 * liminal: the command line tool. One table of subcommands, one file for each.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "liminal/cli.h"

static const struct cli_command main_commands[] = {
	{ "dispatch", command_dispatch, CLI_WIRE, "NAMESPACE/QUEUE [ACTIVITY_TYPE]",
	    "send standard input to a worker of the pool, print its result" },
	{ "push", command_push, CLI_WIRE, "CONN_ID",
	    "send standard input to one connection, print its reply" },
	{ "ask", command_ask, CLI_WIRE, "SUBJECT",
	    "send standard input to a conversation on the subject, print the reply" },
	{ "publish", command_publish, CLI_WIRE, "CHANNEL",
	    "publish standard input as a message, or as one a line" },
	{ "subscribe", command_subscribe, CLI_WIRE, "CHANNEL", "print the messages of a channel" },
	{ "work", command_work, CLI_WIRE,
	    "NAMESPACE/QUEUE [-a TYPE]... [-n MAX] -- PROGRAM [ARGUMENT]...",
	    "be a worker that runs a program once per job" },
	{ "ping", command_ping, CLI_WIRE, "", "see whether the daemon answers, and how fast" },
	{ "status", command_status, CLI_STATE, "", "how much there is of everything, and every counter" },
	{ "connections", command_connections, CLI_STATE, "", "who is connected" },
	{ "workers", command_workers, CLI_STATE, "", "who works for which pools" },
	{ "pools", command_pools, CLI_STATE, "", "workers, running and waiting jobs of each pool" },
	{ "pushes", command_pushes, CLI_STATE, "", "what somebody has and has not answered" },
	{ "conversations", command_conversations, CLI_STATE, "", "open conversations" },
	{ "channels", command_channels, CLI_STATE, "", "channels, what is kept of them, who listens" },
	{ "history", command_history, CLI_STORE, "[WORKFLOW_ID]",
	    "what was done for a workflow, or which workflows there are" },
	{ "top", command_top, CLI_STATE, "", "watch pools and workers; q quits" },
	{ "dump", command_dump, CLI_STATE, "[TABLE]", "the rows of one or of all tables, decoded" },
	{ "crash", command_crash, CLI_STATE, "CONN_ID", "kill a connection's process by SIGSEGV" },
	{ "close", command_close, CLI_STATE, "CONN_ID", "end a connection" },
	{ "drain", command_drain, CLI_STATE, "", "let the daemon drain and exit" },
};

#define MAIN_N_COMMANDS (sizeof(main_commands) / sizeof(main_commands[0]))

static void
main_print_commands(FILE *to)
{
	fprintf(to, "usage: liminal SUBCOMMAND [OPTION]... [ARGUMENT]...\n\n");
	for (size_t i = 0; i < MAIN_N_COMMANDS; i++)
		fprintf(to, "  %-14s %s\n", main_commands[i].name, main_commands[i].summary);
	fprintf(to, "\nliminal SUBCOMMAND -h tells more; so does liminal(1).\n");
}

static const char *
main_setting(const char *variable, const char *otherwise)
{
	const char *value = getenv(variable);

	return value != NULL && value[0] != '\0' ? value : otherwise;
}

int
main(int argc, char **argv)
{
	struct cli cli = {
		.argc = argc - 1,
		.argv = argv + 1,
		.server = main_setting("LIMINAL_SERVER", CLI_DEFAULT_SERVER),
		.timeout_ms = -1,
		.max_frame = LIMINAL_DEFAULT_MAX_FRAME,
		.dir = main_setting("LIMINAL_RUNTIME_DIR", CLI_DEFAULT_DIR),
	};

	if (argc >= 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
		main_print_commands(stdout);
		return CLI_DONE;
	}
	if (argc >= 2 && (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)) {
		printf("liminal %s\n", LIMINAL_VERSION);
		return CLI_DONE;
	}
	for (size_t i = 0; argc >= 2 && i < MAIN_N_COMMANDS; i++)
		if (strcmp(argv[1], main_commands[i].name) == 0) {
			cli.command = &main_commands[i];
			if ((cli.command->groups & CLI_STORE) != 0)
				cli.dir = main_setting("LIMINAL_PERSIST_DIR", CLI_DEFAULT_STORE);
			return cli.command->run(&cli);
		}
	if (argc >= 2)
		log_plain("liminal: no subcommand \"%s\"; liminal -h lists them", argv[1]);
	else
		main_print_commands(stderr);
	return CLI_USAGE;
}
