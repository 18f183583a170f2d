/*
 * wire: connecting, and what goes in and out, for the subcommands that talk to the daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "form/frame.h"
#include "liminal/cli.h"

#define WIRE_TOKEN_MAX		65536
#define WIRE_READ_SIZE		65536

/* 0, or -1 after a complaint. */
static int
wire_set_token(struct cli *cli, struct liminal *conn)
{
	static char token[WIRE_TOKEN_MAX + 1];
	size_t len = 0;
	ssize_t n;
	int fd, r;

	if (cli->token_file == NULL)
		return 0;
	if ((fd = open(cli->token_file, O_RDONLY | O_CLOEXEC)) < 0) {
		cli_complain(cli, "%s: %s", cli->token_file, strerror(errno));
		return -1;
	}
	while ((n = read(fd, token + len, sizeof(token) - len)) > 0)
		len += (size_t)n;
	close(fd);
	if (n < 0 || len > WIRE_TOKEN_MAX) {
		cli_complain(cli, "%s: %s", cli->token_file,
		    n < 0 ? strerror(errno) : "too large for a token");
		return -1;
	}
	if (len > 0 && token[len - 1] == '\n')
		len--;
	r = liminal_set_token(conn, token, len);
	explicit_bzero(token, sizeof(token));
	if (r != LIMINAL_OK)
		cli_complain(cli, "%s", liminal_error_text(conn));
	return r == LIMINAL_OK ? 0 : -1;
}

struct liminal *
cli_open(struct cli *cli, int timeout_ms, int *status)
{
	struct liminal *conn = liminal_new();
	int r;

	*status = CLI_FAILED;
	if (conn == NULL) {
		cli_complain(cli, "out of memory");
		return NULL;
	}
	liminal_set_max_frame(conn, cli->max_frame);
	if (wire_set_token(cli, conn) == 0) {
		if ((r = liminal_open(conn, cli->server, timeout_ms)) == LIMINAL_OK)
			return conn;
		cli_complain(cli, "%s", liminal_error_text(conn));
		/* No connection came about, so none has ended. */
		if (r == LIMINAL_TIMED_OUT)
			*status = CLI_TIMED_OUT;
		else if (r == LIMINAL_INVALID)
			*status = CLI_USAGE;
	}
	liminal_free(conn);
	return NULL;
}

int
cli_exit_of(int status, uint16_t reason)
{
	switch (status) {
	case LIMINAL_OK:
		return CLI_DONE;
	case LIMINAL_TIMED_OUT:
		return CLI_TIMED_OUT;
	case LIMINAL_DISCONNECTED:
		return CLI_DISCONNECTED;
	case LIMINAL_REFUSED:
		return reason == LIMINAL_REASON_TIMED_OUT ? CLI_TIMED_OUT :
		    reason == LIMINAL_REASON_DISCONNECTED ? CLI_DISCONNECTED : CLI_FAILED;
	default:
		return CLI_FAILED;
	}
}

int
cli_read_input(struct cli *cli, struct buf *input)
{
	uint8_t *room;
	ssize_t n;

	for (;;) {
		if ((room = buf_reserve(input, WIRE_READ_SIZE)) == NULL) {
			cli_complain(cli, "out of memory");
			return -1;
		}
		n = read(STDIN_FILENO, room, WIRE_READ_SIZE);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			cli_complain(cli, "standard input: %s", strerror(errno));
			return -1;
		}
		buf_commit(input, (size_t)n);
		if (buf_len(input) > cli->max_frame) {
			cli_complain(cli, "the input is larger than a frame of %zu bytes (-m)",
			    cli->max_frame);
			return -1;
		}
	}
}

int
cli_write_output(struct cli *cli, const void *bytes, size_t len)
{
	const char *at = bytes;
	ssize_t n;

	while (len > 0) {
		n = write(STDOUT_FILENO, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			cli_complain(cli, "standard output: %s", strerror(errno));
			return -1;
		}
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

void
cli_split_pool(const struct cli *cli, char *text, const char **name_space,
    const char **task_queue)
{
	char *slash = strchr(text, '/');

	if (slash == NULL || slash == text || slash[1] == '\0' ||
	    strchr(slash + 1, '/') != NULL || strchr(text, '.') != NULL) {
		cli_complain(cli, "\"%s\" is not NAMESPACE/QUEUE, two names without dots", text);
		exit(CLI_USAGE);
	}
	*slash = '\0';
	*name_space = text;
	*task_queue = slash + 1;
}

int
cli_append_json(struct cli *cli, struct buf *output, json_t *object)
{
	char *line = json_dumps(object, JSON_COMPACT);
	int r = -1;

	json_decref(object);
	if (line != NULL && buf_append(output, line, strlen(line)) == 0)
		r = buf_append(output, "\n", 1);
	free(line);
	if (r != 0)
		cli_complain(cli, "out of memory");
	return r;
}

int
cli_print_json(struct cli *cli, json_t *object)
{
	struct buf line = { 0 };
	int r;

	if ((r = cli_append_json(cli, &line, object)) == 0)
		r = cli_write_output(cli, buf_head(&line), buf_len(&line));
	buf_free(&line);
	return r;
}

static char *
wire_base64(const uint8_t *bytes, size_t len)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *out = malloc((len + 2) / 3 * 4 + 1), *p = out;
	uint32_t three;

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		three = (uint32_t)bytes[i] << 16;
		if (i + 1 < len)
			three |= (uint32_t)bytes[i + 1] << 8;
		if (i + 2 < len)
			three |= bytes[i + 2];
		*p++ = digits[three >> 18];
		*p++ = digits[three >> 12 & 63];
		*p++ = i + 1 < len ? digits[three >> 6 & 63] : '=';
		*p++ = i + 2 < len ? digits[three & 63] : '=';
	}
	*p = '\0';
	return out;
}

void
cli_json_bytes(json_t *object, const char *key, const void *bytes, size_t len)
{
	char name[64], *text;

	if (frame_is_utf8(bytes, len)) {
		json_object_set_new(object, key, json_stringn(bytes, len));
		return;
	}
	snprintf(name, sizeof(name), "%s_base64", key);
	if ((text = wire_base64(bytes, len)) != NULL)
		json_object_set_new(object, name, json_string(text));
	free(text);
}
