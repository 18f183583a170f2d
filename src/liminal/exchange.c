/*
 * exchange: one request and its answer, which is what dispatch, push and ask have in common.
 */
#include <stdio.h>
#include <string.h>

#include "liminal/cli.h"

const char *
cli_exit_word(int status)
{
	switch (status) {
	case CLI_DONE:
		return "completed";
	case CLI_TIMED_OUT:
		return "timed_out";
	case CLI_DISCONNECTED:
		return "disconnected";
	default:
		return "failed";
	}
}

static int
exchange_print(struct cli *cli, int status, const struct buf *output, uint16_t reason,
    const char *text)
{
	json_t *object;

	if (!cli->json)
		return status == CLI_DONE &&
		    cli_write_output(cli, buf_head(output), buf_len(output)) != 0 ?
		    CLI_FAILED : status;
	object = json_pack("{ss}", "status", cli_exit_word(status));
	if (status == CLI_DONE) {
		cli_json_bytes(object, "payload", buf_head(output), buf_len(output));
	} else {
		json_object_set_new(object, "reason", json_integer(reason));
		cli_json_bytes(object, "text", text, strlen(text));
	}
	return cli_print_json(cli, object) == 0 ? status : CLI_FAILED;
}

int
cli_exchange(struct cli *cli, const char *subject, const struct buf *payload, cli_unwrap *unwrap)
{
	const struct liminal_answer *answer;
	struct buf output = { 0 };
	struct liminal *conn;
	int status, r;

	if ((conn = cli_open(cli, cli->timeout_ms, &status)) == NULL)
		return status;
	r = liminal_ask(conn, subject, buf_head(payload), buf_len(payload), cli->timeout_ms,
	    &answer);
	status = cli_exit_of(r, liminal_reason(conn));
	if (r != LIMINAL_OK) {
		cli_complain(cli, "%s", liminal_error_text(conn));
		exchange_print(cli, status, &output, liminal_reason(conn),
		    liminal_error_text(conn));
	} else if (unwrap != NULL) {
		status = unwrap(cli, answer->payload, answer->len, &output);
		status = exchange_print(cli, status, &output, LIMINAL_REASON_ACTIVITY_FAILED,
		    "the activity failed");
	} else if (buf_append(&output, answer->payload, answer->len) != 0) {
		cli_complain(cli, "out of memory");
		status = CLI_FAILED;
	} else {
		status = exchange_print(cli, status, &output, 0, "");
	}
	buf_free(&output);
	liminal_free(conn);
	return status;
}
