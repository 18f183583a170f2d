/*
 * typed: reading of typed payloads; see typed.h. Building is in typed_build.c.
 *
 * Peers write what is read here. Names that the daemon keeps hold no NUL; objects
 * with a name twice are refused, because the worker's parser might pick the other
 * one; numbers are range checked before they are converted. Error texts name the
 * member and never quote the peer.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "form/typed.h"

/* Part of both types. Without it, or an escape that could hide it, nothing is typed. */
#define TYPED_MARK	"vnd.aion.dispatch.re"
#define TYPED_ESCAPE	"\\u00"

/* Whole numbers up to here are exact as a double. */
#define EXACT_MAX	9007199254740992.0

enum shape { SHAPE_OPAQUE, SHAPE_REQUEST, SHAPE_RESPONSE, SHAPE_BROKEN };

static int
contains(const uint8_t *bytes, size_t len, const char *text)
{
	return memmem(bytes, len, text, strlen(text)) != NULL;
}

static int
may_be_typed(const uint8_t *bytes, size_t len)
{
	size_t i = 0;

	while (i < len && (bytes[i] == ' ' || bytes[i] == '\t' || bytes[i] == '\n' ||
	    bytes[i] == '\r'))
		i++;
	if (i == len || bytes[i] != '{')
		return 0;
	return contains(bytes, len, TYPED_MARK) || contains(bytes, len, TYPED_ESCAPE);
}

static int
string_is(const json_t *value, const char *text)
{
	return json_is_string(value) && json_string_length(value) == strlen(text) &&
	    memcmp(json_string_value(value), text, strlen(text)) == 0;
}

/*
 * What did not parse is opaque, with one exception: JSON that others may well be able
 * to read, but not this daemon or not with one meaning. If it names one of the two
 * types, passing it on as opaque would let it slip past every check.
 */
static enum shape
shape_unreadable(enum json_error_code code, const uint8_t *payload, size_t len,
    struct err *err)
{
	const char *what;

	switch (code) {
	case json_error_out_of_memory:
		err_set(err, ERR_NOMEM, "out of memory while reading a typed payload");
		return SHAPE_BROKEN;
	case json_error_duplicate_key:
		what = "a member occurs twice";
		break;
	case json_error_numeric_overflow:
		what = "a number is out of range";
		break;
	case json_error_stack_overflow:
		what = "it is nested too deeply";
		break;
	case json_error_null_byte_in_key:
		what = "a member's name contains NUL";
		break;
	default:
		return SHAPE_OPAQUE;
	}
	if (!contains(payload, len, TYPED_MARK))
		return SHAPE_OPAQUE;
	err_set(err, ERR_INVALID, "the typed payload cannot be read: %s", what);
	return SHAPE_BROKEN;
}

/* *ROOT is the caller's to release for a request or a response, else NULL. */
static enum shape
shape_load(const uint8_t *payload, size_t len, json_t **root, struct err *err)
{
	const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
	json_error_t error;
	json_t *type;

	*root = NULL;
	if (!may_be_typed(payload, len))
		return SHAPE_OPAQUE;
	*root = json_loadb((const char *)payload, len, flags, &error);
	/* A 64-bit unsigned number somewhere does not make the rest unreadable. */
	if (*root == NULL && json_error_code(&error) == json_error_numeric_overflow)
		*root = json_loadb((const char *)payload, len, flags | JSON_DECODE_INT_AS_REAL,
		    &error);
	if (*root == NULL)
		return shape_unreadable(json_error_code(&error), payload, len, err);
	type = json_object_get(*root, "content_type");
	if (string_is(type, TYPED_REQUEST_TYPE))
		return SHAPE_REQUEST;
	if (string_is(type, TYPED_RESPONSE_TYPE))
		return SHAPE_RESPONSE;
	json_decref(*root);
	*root = NULL;
	return SHAPE_OPAQUE;
}

/* A member that is given and not null; absent and null are the same everywhere. */
static json_t *
member(const json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

/* PATH is KEY with the names of the objects around it, for the error text. */
static int
read_name(const json_t *object, const char *key, const char *path, int required, char **out,
    struct err *err)
{
	json_t *value = member(object, key);
	const char *text;

	*out = NULL;
	if (value == NULL && !required)
		return 0;
	if (value == NULL)
		return err_set(err, ERR_INVALID, "%s is missing", path);
	if (!json_is_string(value))
		return err_set(err, ERR_INVALID, "%s must be a string", path);
	text = json_string_value(value);
	if (strlen(text) != json_string_length(value))
		return err_set(err, ERR_INVALID, "%s must not contain NUL", path);
	if ((*out = strdup(text)) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	return 0;
}

/* 1 if VALUE is a whole number within 0..MAX. */
static int
read_whole(const json_t *value, int64_t max, int64_t *out)
{
	double real;

	if (json_is_integer(value))
		*out = json_integer_value(value);
	else if (json_is_real(value)) {
		real = json_real_value(value);
		if (!(real >= 0 && real <= EXACT_MAX) || (double)(int64_t)real != real)
			return 0;
		*out = (int64_t)real;
	} else
		return 0;
	return *out >= 0 && *out <= max;
}

static int
read_timeout(const json_t *request, const char *key, int64_t *ns, struct err *err)
{
	json_t *value = member(request, key);
	int64_t ms;

	*ns = 0;
	if (value == NULL)
		return 0;
	if (!read_whole(value, TYPED_TIMEOUT_MAX_MS, &ms) || ms == 0)
		return err_set(err, ERR_INVALID, "request.%s must be a whole number from 1 to %lld; "
		    "leave it out for no limit", key, (long long)TYPED_TIMEOUT_MAX_MS);
	*ns = ms * 1000000;
	return 0;
}

/* Data is a string or an array of byte values. It is appended to OUT unless that is NULL. */
static int
read_data(const json_t *data, const char *path, struct buf *out, struct err *err)
{
	size_t n = json_array_size(data);
	int64_t value;
	uint8_t *to = NULL;

	if (json_is_string(data)) {
		if (out != NULL && buf_append(out, json_string_value(data),
		    json_string_length(data)) != 0)
			return err_set(err, ERR_NOMEM, "out of memory");
		return 0;
	}
	if (!json_is_array(data))
		return err_set(err, ERR_INVALID, "%s must be a string or an array of bytes", path);
	if (out != NULL && (to = buf_reserve(out, n)) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		if (!read_whole(json_array_get(data, i), 255, &value))
			return err_set(err, ERR_INVALID,
			    "%s[%zu] must be a whole number from 0 to 255", path, i);
		if (to != NULL)
			to[i] = (uint8_t)value;
	}
	if (out != NULL)
		buf_commit(out, n);
	return 0;
}

static int
read_input(const json_t *request, struct buf *out, struct err *err)
{
	json_t *input = member(request, "input");

	if (input == NULL)
		return err_set(err, ERR_INVALID, "request.input is missing");
	if (!json_is_object(input))
		return err_set(err, ERR_INVALID,
		    "request.input must be an object with content_type and data");
	if (!json_is_string(json_object_get(input, "content_type")))
		return err_set(err, ERR_INVALID, "request.input.content_type must be a string");
	if (member(input, "data") == NULL)
		return err_set(err, ERR_INVALID, "request.input.data is missing");
	return read_data(json_object_get(input, "data"), "request.input.data", out, err);
}

static int
read_node(const json_t *request, struct typed_request *out, struct err *err)
{
	json_t *required = member(request, "node_required");
	int rc;

	if ((rc = read_name(request, "node", "request.node", 0, &out->node, err)) != 0)
		return rc;
	if (required == NULL)
		return 0;
	if (!json_is_boolean(required))
		return err_set(err, ERR_INVALID, "request.node_required must be true or false");
	out->node_required = json_is_true(required);
	if (out->node_required && (out->node == NULL || out->node[0] == '\0'))
		return err_set(err, ERR_INVALID,
		    "request.node is missing or empty although request.node_required is true");
	return 0;
}

static int
read_ordinal(const json_t *root, struct typed_request *out, struct err *err)
{
	json_t *value = member(root, "ordinal");

	if (value == NULL)
		return 0;
	out->has_ordinal = 1;
	if (!read_whole(value, INT64_MAX, &out->ordinal))
		return err_set(err, ERR_INVALID, "ordinal must be a whole number from 0");
	return 0;
}

/* An empty one looks as if the dispatch were recorded, and nothing could be asked for again. */
static int
check_workflow(const struct typed_request *request, struct err *err)
{
	if (request->workflow_id == NULL || request->workflow_id[0] != '\0')
		return 0;
	return err_set(err, ERR_INVALID, "workflow_id must not be empty: leave it out");
}

static int
read_request(const json_t *root, struct typed_request *out, struct err *err)
{
	json_t *request = member(root, "request");
	char *queue = NULL;
	int rc;

	if (member(root, "result") != NULL)
		return err_set(err, ERR_INVALID, "a request must not have a result: "
		    "it is shaped as a response");
	if (request == NULL)
		return err_set(err, ERR_INVALID, "request is missing");
	if (!json_is_object(request))
		return err_set(err, ERR_INVALID, "request must be an object");
	if ((rc = read_name(root, "conversation_id", "conversation_id", 1,
	    &out->conversation_id, err)) != 0 ||
	    (rc = read_name(root, "workflow_id", "workflow_id", 0, &out->workflow_id,
	    err)) != 0 ||
	    (rc = check_workflow(out, err)) != 0 ||
	    (rc = read_ordinal(root, out, err)) != 0 ||
	    (rc = read_name(request, "activity_type", "request.activity_type", 1,
	    &out->activity_type, err)) != 0)
		return rc;
	if (out->activity_type[0] == '\0')
		return err_set(err, ERR_INVALID, "request.activity_type must not be empty");
	rc = read_name(request, "task_queue", "request.task_queue", 1, &queue, err);
	free(queue);
	if (rc != 0 || (rc = read_node(request, out, err)) != 0 ||
	    (rc = read_timeout(request, "schedule_to_close_timeout_ms",
	    &out->schedule_to_close_ns, err)) != 0 ||
	    (rc = read_timeout(request, "start_to_close_timeout_ms",
	    &out->start_to_close_ns, err)) != 0)
		return rc;
	return read_input(request, NULL, err);
}

enum typed_form
typed_request_parse(const uint8_t *payload, size_t len, struct typed_request *out,
    struct err *err)
{
	enum shape shape;
	json_t *root;
	int rc;

	memset(out, 0, sizeof(*out));
	if ((shape = shape_load(payload, len, &root, err)) == SHAPE_OPAQUE)
		return TYPED_OPAQUE;
	if (shape != SHAPE_REQUEST) {
		if (shape == SHAPE_RESPONSE)
			err_set(err, ERR_INVALID, "content_type says that this is a response; "
			    "a request is expected");
		json_decref(root);
		return TYPED_INVALID;
	}
	rc = read_request(root, out, err);
	json_decref(root);
	if (rc == 0)
		return TYPED_REQUEST;
	typed_request_free(out);
	return TYPED_INVALID;
}

void
typed_request_free(struct typed_request *request)
{
	free(request->conversation_id);
	free(request->activity_type);
	free(request->workflow_id);
	free(request->node);
	memset(request, 0, sizeof(*request));
}

int
typed_request_input(const uint8_t *payload, size_t len, struct buf *out, struct err *err)
{
	enum shape shape;
	json_t *root;
	int rc;

	if ((shape = shape_load(payload, len, &root, err)) == SHAPE_BROKEN)
		return ERR_INVALID;
	if (shape == SHAPE_REQUEST)
		rc = read_input(member(root, "request"), out, err);
	else
		rc = err_set(err, ERR_INVALID, "this is not a typed request");
	json_decref(root);
	return rc;
}

/* An output {content_type, data} is checked; every other JSON value is one too. */
static int
output_has_data(const json_t *output)
{
	json_t *data = json_object_get(output, "data");

	return json_is_string(json_object_get(output, "content_type")) &&
	    (json_is_string(data) || json_is_array(data));
}

static int
read_output(const json_t *output, struct buf *out, struct err *err)
{
	char *text;
	int rc;

	if (output == NULL)
		return err_set(err, ERR_INVALID, "result.output is missing");
	if (output_has_data(output))
		return read_data(json_object_get(output, "data"), "result.output.data", out, err);
	if (out == NULL)
		return 0;
	if (json_is_string(output))
		return read_data(output, "result.output", out, err);
	if ((text = json_dumps(output, JSON_COMPACT | JSON_ENCODE_ANY)) == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	if ((rc = buf_append(out, text, strlen(text))) != 0)
		err_set(err, rc, "out of memory");
	free(text);
	return rc;
}

static int
read_error(const json_t *error, char **out, struct err *err)
{
	size_t len;

	if (error == NULL || json_is_null(error))
		return err_set(err, ERR_INVALID, "result.error is missing");
	if (json_is_string(error)) {
		len = json_string_length(error);
		if ((*out = malloc(len + 1)) != NULL) {
			memcpy(*out, json_string_value(error), len + 1);
			for (size_t i = 0; i < len; i++)
				if ((*out)[i] == '\0')
					(*out)[i] = ' ';
		}
	} else if (json_is_object(error))
		*out = json_dumps(error, JSON_COMPACT);
	else
		return err_set(err, ERR_INVALID, "result.error must be a string or an object");
	return *out == NULL ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

/* The result object of a response, or NULL with ERR filled. *ROOT is the caller's. */
static json_t *
load_result(const uint8_t *payload, size_t len, json_t **root, struct err *err)
{
	enum shape shape = shape_load(payload, len, root, err);
	json_t *result;

	if (shape == SHAPE_BROKEN)
		return NULL;
	if (shape != SHAPE_RESPONSE) {
		err_set(err, ERR_INVALID, "this is not a typed response: content_type must be %s",
		    TYPED_RESPONSE_TYPE);
		return NULL;
	}
	if (member(*root, "request") != NULL) {
		err_set(err, ERR_INVALID, "a response must not have a request: "
		    "it is shaped as a request");
		return NULL;
	}
	result = json_object_get(*root, "result");
	if (!json_is_object(result)) {
		err_set(err, ERR_INVALID, "result must be an object with a status");
		return NULL;
	}
	return result;
}

static int
has_worker_id(const json_t *root)
{
	json_t *id = json_object_get(root, "worker_id");

	return json_is_string(id) && json_string_length(id) > 0;
}

enum typed_result
typed_response_parse(const uint8_t *payload, size_t len, struct typed_response *out,
    struct err *err)
{
	enum typed_result verdict = TYPED_RESULT_INVALID;
	json_t *root, *result, *status;

	memset(out, 0, sizeof(*out));
	if ((result = load_result(payload, len, &root, err)) != NULL) {
		status = json_object_get(result, "status");
		out->has_worker_id = has_worker_id(root);
		if (string_is(status, "completed")) {
			if (read_output(json_object_get(result, "output"), NULL, err) == 0)
				verdict = TYPED_COMPLETED;
		} else if (string_is(status, "failed")) {
			if (read_error(json_object_get(result, "error"), &out->error, err) == 0)
				verdict = TYPED_FAILED;
		} else
			err_set(err, ERR_INVALID, "result.status must be completed or failed");
	}
	json_decref(root);
	return verdict;
}

void
typed_response_free(struct typed_response *response)
{
	free(response->error);
	memset(response, 0, sizeof(*response));
}

int
typed_response_output(const uint8_t *payload, size_t len, struct buf *out, struct err *err)
{
	json_t *root, *result = load_result(payload, len, &root, err);
	int rc = ERR_INVALID;

	if (result != NULL && !string_is(json_object_get(result, "status"), "completed"))
		err_set(err, ERR_INVALID, "result.status is not completed");
	else if (result != NULL)
		rc = read_output(json_object_get(result, "output"), out, err);
	json_decref(root);
	return rc;
}

/* The rest of the object stays as it came: the member is put in after the brace. */
static int
splice_worker(const uint8_t *payload, size_t len, const char *worker_id, struct buf *out)
{
	size_t brace = (size_t)((const uint8_t *)memchr(payload, '{', len) - payload) + 1;
	json_t *id = json_string(worker_id);
	char *text = id == NULL ? NULL : json_dumps(id, JSON_ENCODE_ANY);
	size_t head = strlen("\"worker_id\":"), n;
	uint8_t *to;

	json_decref(id);
	if (text == NULL)
		return ERR_INVALID;
	n = head + strlen(text) + 1;
	if (len > SIZE_MAX - n || (to = buf_reserve(out, len + n)) == NULL) {
		free(text);
		return ERR_NOMEM;
	}
	memcpy(to, payload, brace);
	memcpy(to + brace, "\"worker_id\":", head);
	memcpy(to + brace + head, text, strlen(text));
	to[brace + n - 1] = ',';
	memcpy(to + brace + n, payload + brace, len - brace);
	buf_commit(out, len + n);
	free(text);
	return 0;
}

int
typed_response_with_worker(const uint8_t *payload, size_t len, const char *worker_id,
    struct buf *out)
{
	json_t *root, *result = load_result(payload, len, &root, NULL);
	int rc = ERR_INVALID;
	char *text;

	if (result != NULL && json_object_get(root, "worker_id") == NULL)
		rc = splice_worker(payload, len, worker_id, out);
	else if (result != NULL &&
	    json_object_set_new(root, "worker_id", json_string(worker_id)) == 0) {
		/* Null, empty or no string: a second member would be ambiguous, so the
		 * object is written anew. */
		text = json_dumps(root, JSON_COMPACT);
		rc = text == NULL ? ERR_NOMEM : buf_append(out, text, strlen(text));
		free(text);
	}
	json_decref(root);
	return rc;
}
