/*
 * dispatch: one activity for a worker of a pool.
 *
 * With an activity type it is the typed form: the input travels as its data, and what is printed
 * is the data of the output. Without, both are opaque.
 */
#include <stdio.h>
#include <string.h>

#include "form/typed.h"
#include "liminal/cli.h"

#define DISPATCH_SUBJECT_SIZE	1024

enum dispatch_option {
	DISPATCH_SCHEDULE_TO_CLOSE = CLI_LONG,
	DISPATCH_START_TO_CLOSE,
	DISPATCH_CONTENT_TYPE,
};

static const struct option dispatch_options[] = {
	{ "schedule-to-close", required_argument, NULL, DISPATCH_SCHEDULE_TO_CLOSE },
	{ "start-to-close", required_argument, NULL, DISPATCH_START_TO_CLOSE },
	{ "node", required_argument, NULL, 'N' },
	{ "node-required", no_argument, NULL, 'R' },
	{ "workflow-id", required_argument, NULL, 'w' },
	{ "ordinal", required_argument, NULL, 'o' },
	{ "content-type", required_argument, NULL, DISPATCH_CONTENT_TYPE },
	{ NULL, 0, NULL, 0 },
};

/* 1 if an option was given that only the typed form can carry. */
static int
dispatch_read_options(struct cli *cli, struct typed_call *call)
{
	int c, typed = 0;

	while ((c = cli_next_option(cli, "N:Rw:o:", dispatch_options)) != -1) {
		typed = 1;
		switch (c) {
		case DISPATCH_SCHEDULE_TO_CLOSE:
			call->schedule_to_close_ns = cli_duration_ns(cli, optarg);
			break;
		case DISPATCH_START_TO_CLOSE:
			call->start_to_close_ns = cli_duration_ns(cli, optarg);
			break;
		case 'N':
			call->node = optarg;
			break;
		case 'R':
			call->node_required = 1;
			break;
		case 'w':
			call->workflow_id = optarg;
			break;
		case 'o':
			call->has_ordinal = 1;
			call->ordinal = cli_number(cli, optarg, 0, INT64_MAX, "ordinal");
			break;
		case DISPATCH_CONTENT_TYPE:
			call->content_type = optarg;
			break;
		}
	}
	return typed;
}

static int
dispatch_unwrap(struct cli *cli, const void *payload, size_t len, struct buf *output)
{
	struct typed_response response;
	struct err err;
	int status = CLI_FAILED;

	switch (typed_response_parse(payload, len, &response, &err)) {
	case TYPED_RESULT_INVALID:
		cli_complain(cli, "the answer is no typed response: %s", err.text);
		return CLI_FAILED;
	case TYPED_FAILED:
		cli_complain(cli, "%s", response.error);
		break;
	case TYPED_COMPLETED:
		if (typed_response_output(payload, len, output, &err) == 0)
			status = CLI_DONE;
		else
			cli_complain(cli, "the answer's output: %s", err.text);
		break;
	}
	typed_response_free(&response);
	return status;
}

static int
dispatch_typed(struct cli *cli, const char *subject, struct typed_call *call,
    const struct buf *input)
{
	struct buf request = { 0 };
	int status = CLI_FAILED;

	call->data = buf_head(input);
	call->len = buf_len(input);
	if (typed_request_build(call, &request) != 0)
		cli_complain(cli, "the request cannot be built: a text is not UTF-8, or memory "
		    "ran out");
	else
		status = cli_exchange(cli, subject, &request, dispatch_unwrap);
	buf_free(&request);
	return status;
}

/* Does what was said fit together? 0, or the usage's exit code. */
static int
dispatch_check(struct cli *cli, const struct typed_call *call, int typed_only)
{
	if (call->activity_type == NULL && typed_only)
		cli_complain(cli, "these options need an ACTIVITY_TYPE");
	else if (call->node_required && call->node == NULL)
		cli_complain(cli, "--node-required (-R) needs --node (-N)");
	else if (call->has_ordinal && call->workflow_id == NULL)
		cli_complain(cli, "--ordinal (-o) needs --workflow-id (-w)");
	else
		return 0;
	return cli_usage(cli);
}

int
command_dispatch(struct cli *cli)
{
	struct typed_call call = { 0 };
	struct buf input = { 0 };
	const char *name_space;
	char subject[DISPATCH_SUBJECT_SIZE], **arguments;
	int typed_only, len, status;

	typed_only = dispatch_read_options(cli, &call);
	arguments = cli_arguments(cli, 1, 2);
	cli_split_pool(cli, arguments[0], &name_space, &call.task_queue);
	call.activity_type = arguments[1];	/* NULL when there is none */
	if ((status = dispatch_check(cli, &call, typed_only)) != 0)
		return status;
	status = CLI_FAILED;
	len = snprintf(subject, sizeof(subject), "aion.dispatch.%s.%s", name_space,
	    call.task_queue);
	if (len < 0 || (size_t)len >= sizeof(subject)) {
		cli_complain(cli, "the name of the pool is too long");
		return CLI_USAGE;
	}
	if (cli_read_input(cli, &input) == 0)
		status = call.activity_type != NULL ?
		    dispatch_typed(cli, subject, &call, &input) :
		    cli_exchange(cli, subject, &input, NULL);
	buf_free(&input);
	return status;
}
