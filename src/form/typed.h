/*
 * typed: the two payload forms of a dispatch (README, "Dispatch").
 *
 * Opaque payloads are any bytes and are none of this module's business. Typed ones
 * are JSON objects that say what they are in their content_type. Requests come from
 * callers, responses from workers; both are read as hostile input. Whatever the
 * daemon passes on stays as it came, byte for byte, except a response that lacks its
 * worker's id. The client library builds and reads both sides with the same code.
 */
#ifndef LIMINAL_FORM_TYPED_H
#define LIMINAL_FORM_TYPED_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define TYPED_REQUEST_TYPE	"application/vnd.aion.dispatch.request+json"
#define TYPED_RESPONSE_TYPE	"application/vnd.aion.dispatch.response+json"

/* Ten years: what is longer is a mistake, and nanoseconds of it still fit 63 bits. */
#define TYPED_TIMEOUT_MAX_MS	(INT64_C(3650) * 24 * 3600 * 1000)

enum typed_form { TYPED_OPAQUE, TYPED_REQUEST, TYPED_INVALID };

/* What the daemon needs of a request; strings are owned, without NUL inside. */
struct typed_request {
	char	*conversation_id;
	char	*activity_type;		/* not empty */
	char	*workflow_id;		/* or NULL */
	char	*node;			/* or NULL */
	int	 node_required;		/* only with a node */
	int	 has_ordinal;
	int64_t	 ordinal;		/* >= 0 */
	int64_t	 schedule_to_close_ns;	/* 0 = none */
	int64_t	 start_to_close_ns;	/* 0 = none */
};

/*
 * Which form PAYLOAD has. TYPED_OPAQUE: anything but a JSON object of one of the two
 * types; bytes that cannot be one are recognised without parsing. TYPED_REQUEST: OUT
 * is filled, release it with typed_request_free(). TYPED_INVALID: a response, or a
 * request that must not reach a worker; ERR names the member (code ERR_INVALID, or
 * ERR_NOMEM).
 */
enum typed_form typed_request_parse(const uint8_t *payload, size_t len,
		    struct typed_request *out, struct err *err);
void		typed_request_free(struct typed_request *request);

/* Append the bytes of a valid request's input data to OUT. 0, ERR_INVALID, ERR_NOMEM. */
int		typed_request_input(const uint8_t *payload, size_t len, struct buf *out,
		    struct err *err);

enum typed_result { TYPED_COMPLETED, TYPED_FAILED, TYPED_RESULT_INVALID };

struct typed_response {
	int	 has_worker_id;		/* pass the payload on as it is */
	char	*error;			/* owned; TYPED_FAILED only: text or compact JSON */
};

/* Judge a worker's answer to a typed request; an opaque one is TYPED_RESULT_INVALID, and
 * ERR says why. Release OUT with typed_response_free() unless it is. */
enum typed_result typed_response_parse(const uint8_t *payload, size_t len,
		    struct typed_response *out, struct err *err);
void		typed_response_free(struct typed_response *response);

/* Append a valid response whose worker_id is missing (has_worker_id is 0) to OUT, with
 * WORKER_ID put in and everything else kept. 0, ERR_INVALID, ERR_NOMEM. */
int		typed_response_with_worker(const uint8_t *payload, size_t len,
		    const char *worker_id, struct buf *out);

/* Append the bytes that a completed response carries to OUT: the data of an output
 * {content_type, data}, the text of an output that is a string, else the output as
 * compact JSON. 0, ERR_INVALID, ERR_NOMEM. */
int		typed_response_output(const uint8_t *payload, size_t len, struct buf *out,
		    struct err *err);

/* A request to build; all pointers stay the caller's. Text must be UTF-8. */
struct typed_call {
	const char	*activity_type, *task_queue;
	const char	*conversation_id;	/* NULL = a new UUID */
	const char	*workflow_id;		/* or NULL */
	const char	*node;			/* or NULL */
	int		 node_required;
	int		 has_ordinal;
	int64_t		 ordinal;
	int64_t		 schedule_to_close_ns, start_to_close_ns;	/* 0 = none */
	const char	*content_type;		/* of the data; NULL = a general one */
	const void	*data;			/* any bytes */
	size_t		 len;
};

/* Append a payload to OUT. 0, ERR_NOMEM, or ERR_INVALID when a text is not UTF-8. After an
 * error OUT is as before. Data that is UTF-8 travels as a string, other as an array of bytes.
 * A WORKER_ID of NULL leaves the id to the daemon. An error text that is not UTF-8 is
 * made readable with '?'. */
int		typed_request_build(const struct typed_call *call, struct buf *out);
int		typed_response_build_completed(const char *worker_id, const char *content_type,
		    const void *data, size_t len, struct buf *out);
int		typed_response_build_failed(const char *worker_id, const char *error,
		    struct buf *out);

#endif
