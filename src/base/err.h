/*
 * err: errors as values.
 *
 * A function that can fail returns 0 or one of the negative codes below: one
 * code per distinct reaction of the caller, not per cause. Where the text
 * reaches a person or a peer, the function takes a struct err as its last
 * parameter and fills it; NULL is allowed and means that nobody will read it.
 * Nothing here allocates.
 */
#ifndef LIMINAL_BASE_ERR_H
#define LIMINAL_BASE_ERR_H

enum err_code {
	ERR_SYSTEM = -1,	/* a system or library call failed; see err.sys */
	ERR_NOMEM = -2,		/* out of memory: give up this operation only */
	ERR_INVALID = -3,	/* the input is wrong; the text says where */
	ERR_NOTFOUND = -4,	/* no such thing (any more) */
	ERR_FULL = -5,		/* a limit or the state's map is full: refuse */
	ERR_BUSY = -6,		/* taken or locked: try again later */
	ERR_CORRUPT = -7,	/* a stored record does not read back */
	ERR_CLOSED = -8,	/* the peer or its process has ended */
	ERR_TIMEOUT = -9,	/* the time allowed ran out */
};

struct err {
	int	code;		/* 0 or enum err_code */
	int	sys;		/* errno or the library's code; 0 = none */
	char	text[256];	/* a sentence for a person, without newline */
};

/* Fill ERR (may be NULL) and return CODE. */
int	err_set(struct err *err, int code, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": strerror(ERRNUM)". */
int	err_sys(struct err *err, int errnum, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));

#endif
