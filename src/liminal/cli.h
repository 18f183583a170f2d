/*
 * cli: what the subcommands of liminal share.
 *
 * A subcommand is one file with one function, named in the table in main.c. It reads its options
 * with cli_next_option(), which deals with those that all have, and returns one of enum
 * cli_exit. Messages for people go through cli_complain(), payloads are bytes as they are.
 */
#ifndef LIMINAL_LIMINAL_CLI_H
#define LIMINAL_LIMINAL_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "liminal.h"

#define CLI_DEFAULT_SERVER	"127.0.0.1:7677"
#define CLI_DEFAULT_DIR		"/run/liminald"
#define CLI_DEFAULT_STORE	"/var/lib/liminald"

enum cli_exit {
	CLI_DONE = 0,
	CLI_FAILED = 1,		/* refused or failed */
	CLI_USAGE = 2,
	CLI_TIMED_OUT = 3,
	CLI_DISCONNECTED = 4,	/* the worker or the connection ended */
};

struct cli {
	const struct cli_command *command;
	int argc;
	char **argv;		/* argv[0] is the subcommand */

	const char *server;	/* -s */
	const char *token_file;	/* -T, or NULL */
	int timeout_ms;		/* -t; negative = for ever */
	size_t max_frame;	/* -m */
	const char *dir;	/* -d */
	int json;		/* -j */
};

/* Groups of options that several subcommands have. */
#define CLI_WIRE	0x01	/* -s -T -t -m */
#define CLI_STATE	0x02	/* -d, the runtime directory */
#define CLI_STORE	0x04	/* -d, the persistence directory */

struct cli_command {
	const char *name;
	int (*run)(struct cli *cli);
	int groups;		/* of CLI_* */
	const char *arguments;	/* for the usage line */
	const char *summary;
};

/* Values of long options without a letter start here. */
#define CLI_LONG	256

/*
 * The next option of the subcommand itself, which are the letters OWN (as for getopt(3)) and
 * the long ones LONGS (may be NULL); its value is in optarg. -1 after the last; then
 * optind stands on the first argument. Ends the process for -h and for bad options.
 */
int	cli_next_option(struct cli *cli, const char *own, const struct option *longs);

/* The number of arguments behind the options is between MIN and MAX, or usage. Returns the
 * first of them. */
char	**cli_arguments(struct cli *cli, int min, int max);

/* The usage line to standard error; CLI_USAGE. */
int	cli_usage(const struct cli *cli);

/* "liminal SUBCOMMAND: text" to standard error. */
void	cli_complain(const struct cli *cli, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

/* Values of options; they end the process with CLI_USAGE when they are wrong. */
int64_t	cli_duration_ns(const struct cli *cli, const char *text);	/* "5" = "5s" */
int64_t	cli_number(const struct cli *cli, const char *text, int64_t min, int64_t max,
	    const char *what);

/* ---- wire (wire.c) ---- */

/* An open connection, or NULL after a complaint; *STATUS is then the exit code. */
struct liminal *cli_open(struct cli *cli, int timeout_ms, int *status);

/* The exit code for a failed call. An answer's reason counts. */
int	cli_exit_of(int status, uint16_t reason);

/* The word for an exit code that a script reads with -j. */
const char *cli_exit_word(int status);

/* All of standard input; 0, or -1 after a complaint. */
int	cli_read_input(struct cli *cli, struct buf *input);
int	cli_write_output(struct cli *cli, const void *bytes, size_t len);

/* Split "NAMESPACE/QUEUE" in place; ends the process when it is none. */
void	cli_split_pool(const struct cli *cli, char *text, const char **name_space,
	    const char **task_queue);

/* One line of JSON to standard output; takes the reference. 0, or -1 after a complaint. */
int	cli_print_json(struct cli *cli, json_t *object);

/* The same to the end of OUTPUT. */
int	cli_append_json(struct cli *cli, struct buf *output, json_t *object);

/* Put BYTES under KEY if they are UTF-8, else as base64 under KEY_base64. */
void	cli_json_bytes(json_t *object, const char *key, const void *bytes, size_t len);

/* ---- exchange.c ---- */

/* What makes output of an answer's payload: 0 = good, else an exit code after a complaint. */
typedef int cli_unwrap(struct cli *cli, const void *payload, size_t len, struct buf *output);

/* Ask SUBJECT once and print the answer, through UNWRAP if not NULL. Returns the exit code. */
int	cli_exchange(struct cli *cli, const char *subject, const struct buf *payload,
	    cli_unwrap *unwrap);

/* ---- subcommands ---- */

int	command_dispatch(struct cli *cli);
int	command_push(struct cli *cli);
int	command_ask(struct cli *cli);
int	command_publish(struct cli *cli);
int	command_subscribe(struct cli *cli);
int	command_work(struct cli *cli);
int	command_ping(struct cli *cli);
int	command_status(struct cli *cli);
int	command_connections(struct cli *cli);
int	command_workers(struct cli *cli);
int	command_pools(struct cli *cli);
int	command_pushes(struct cli *cli);
int	command_conversations(struct cli *cli);
int	command_channels(struct cli *cli);
int	command_top(struct cli *cli);
int	command_dump(struct cli *cli);
int	command_history(struct cli *cli);
int	command_crash(struct cli *cli);
int	command_close(struct cli *cli);
int	command_drain(struct cli *cli);

#endif
