/*
 * cli: options, usage, messages; see cli.h.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "form/conf.h"
#include "liminal/cli.h"

#define CLI_LETTERS_SIZE	64

void
cli_complain(const struct cli *cli, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_plain("liminal %s: %s", cli->command->name, text);
}

int
cli_usage(const struct cli *cli)
{
	log_plain("usage: liminal %s [OPTION]... %s (-h lists the options)", cli->command->name,
	    cli->command->arguments);
	return CLI_USAGE;
}

static void
cli_help(const struct cli *cli, const struct option *longs)
{
	const struct cli_command *command = cli->command;

	printf("usage: liminal %s [OPTION]... %s\n\n%s.\n\n", command->name, command->arguments,
	    command->summary);
	if ((command->groups & CLI_WIRE) != 0)
		printf("  -s ADDRESS     of the daemon (LIMINAL_SERVER, else %s)\n"
		    "  -T TOKEN_FILE  holds the authentication token\n"
		    "  -t TIMEOUT     how long to wait, as in 500ms, 5s, 10m\n"
		    "  -m SIZE        of the largest frame, as in 64K, 16M\n",
		    CLI_DEFAULT_SERVER);
	if ((command->groups & CLI_STATE) != 0)
		printf("  -d DIR         runtime directory of the daemon (LIMINAL_RUNTIME_DIR, else %s)\n",
		    CLI_DEFAULT_DIR);
	if ((command->groups & CLI_STORE) != 0)
		printf("  -d DIR         persistence directory of the daemon (LIMINAL_PERSIST_DIR, "
		    "else %s)\n", CLI_DEFAULT_STORE);
	printf("  -j             print JSON, one object a line\n"
	    "  -h             print this\n");
	for (; longs != NULL && longs->name != NULL; longs++) {
		printf("  --%s%s", longs->name, longs->has_arg ? " VALUE" : "");
		printf(longs->val < CLI_LONG ? " (-%c)\n" : "\n", longs->val);
	}
	printf("\nSee liminal(1).\n");
}

int64_t
cli_duration_ns(const struct cli *cli, const char *text)
{
	int64_t ns;
	const char *error;
	long long seconds = strtonum(text, 0, INT_MAX / 1000, &error);

	if (error == NULL)
		return seconds * CLOCK_SECOND;
	if (conf_parse_duration(text, &ns) != 0) {
		cli_complain(cli, "\"%s\" is not a duration such as 250ms, 5s, 10m", text);
		exit(CLI_USAGE);
	}
	return ns;
}

int64_t
cli_number(const struct cli *cli, const char *text, int64_t min, int64_t max, const char *what)
{
	const char *error;
	long long number = strtonum(text, min, max, &error);

	if (error != NULL) {
		cli_complain(cli, "%s \"%s\" is %s", what, text, error);
		exit(CLI_USAGE);
	}
	return number;
}

static void
cli_set_timeout(struct cli *cli, const char *text)
{
	int64_t ms = cli_duration_ns(cli, text) / CLOCK_MS;

	cli->timeout_ms = ms > INT_MAX ? INT_MAX : (int)ms;
}

static void
cli_set_max_frame(struct cli *cli, const char *text)
{
	uint64_t bytes;

	if (conf_parse_size(text, &bytes) != 0 || bytes < 1024 || bytes > INT32_MAX) {
		cli_complain(cli, "\"%s\" is not a size from 1K to 2047M", text);
		exit(CLI_USAGE);
	}
	cli->max_frame = (size_t)bytes;
}

/* 1 if C is an option that all have, or all of a group. */
static int
cli_take_common(struct cli *cli, int c)
{
	switch (c) {
	case 'j':
		cli->json = 1;
		return 1;
	case 's':
		cli->server = optarg;
		return 1;
	case 'T':
		cli->token_file = optarg;
		return 1;
	case 't':
		cli_set_timeout(cli, optarg);
		return 1;
	case 'm':
		cli_set_max_frame(cli, optarg);
		return 1;
	case 'd':
		cli->dir = optarg;
		return 1;
	default:
		return 0;
	}
}

int
cli_next_option(struct cli *cli, const char *own, const struct option *longs)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	char letters[CLI_LETTERS_SIZE];
	int c;

	snprintf(letters, sizeof(letters), ":jh%s%s%s",
	    (cli->command->groups & CLI_WIRE) != 0 ? "s:T:t:m:" : "",
	    (cli->command->groups & (CLI_STATE | CLI_STORE)) != 0 ? "d:" : "", own);
	for (;;) {
		c = getopt_long(cli->argc, cli->argv, letters, longs == NULL ? none : longs, NULL);
		switch (c) {
		case 'h':
			cli_help(cli, longs);
			exit(CLI_DONE);
		case ':':
			cli_complain(cli, "%s needs a value", cli->argv[optind - 1]);
			exit(cli_usage(cli));
		case '?':
			if (optopt > 0 && optopt < CLI_LONG)
				cli_complain(cli, "no option -%c", optopt);
			else
				cli_complain(cli, "no option %s", cli->argv[optind - 1]);
			exit(cli_usage(cli));
		default:
			/* A subcommand's own letter goes before that of a group it is not in. */
			if ((c > 0 && c < CLI_LONG && strchr(own, c) != NULL) ||
			    !cli_take_common(cli, c))
				return c;
		}
	}
}

char **
cli_arguments(struct cli *cli, int min, int max)
{
	int n = cli->argc - optind;

	if (n < min || n > max)
		exit(cli_usage(cli));
	return cli->argv + optind;
}
