/*
 * listing: rows for people, in columns or as pairs, and for scripts, as JSON lines.
 *
 * A row is a sequence of keys and values. JSON shows all of them, columns those that the
 * listing was opened with, under their keys in capitals. Nothing is written before
 * listing_flush(), so rows can be made wherever writing is forbidden. What came from
 * a peer is escaped here: vis(3) for people, valid UTF-8 in JSON.
 */
#ifndef LIMINAL_LIMINAL_LISTING_H
#define LIMINAL_LIMINAL_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "form/frame.h"
#include "liminal/cli.h"

#define LISTING_COLUMNS_MAX	16

enum listing_form { LISTING_COLUMNS, LISTING_PAIRS, LISTING_JSON };

struct listing {
	struct cli *cli;
	enum listing_form form;
	struct buf out;			/* finished lines */
	int failed;			/* out of memory, or nobody reads */
	int is_first;			/* nothing of the row is there yet */

	/* LISTING_COLUMNS: the rows since the last flush; widths never shrink. */
	const char *const *columns;
	size_t n_columns;
	size_t widths[LISTING_COLUMNS_MAX];
	uint8_t is_number[LISTING_COLUMNS_MAX];
	size_t row[LISTING_COLUMNS_MAX];	/* offsets into TEXT */
	struct buf text, cells;
	int is_headed;
};

/* With COLUMNS (N of them, static) for people; without, pairs. JSON if CLI was told so. */
void	listing_open(struct listing *listing, struct cli *cli, const char *const *columns, size_t n);

/* Write what is finished. 0, or -1 after a complaint. */
int	listing_flush(struct listing *listing);

/* The same, into listing->out only. */
void	listing_settle(struct listing *listing);

/* Flush (a heading stands also above no rows) and free. 0, or -1 after a complaint. */
int	listing_close(struct listing *listing);
void	listing_free(struct listing *listing);

/* LABEL (may be NULL) is what a row of pairs begins with; in JSON it is under "table". */
void	listing_begin_row(struct listing *listing, const char *label);
void	listing_end_row(struct listing *listing);

void	listing_number(struct listing *listing, const char *key, uint64_t value);
void	listing_text(struct listing *listing, const char *key, const void *bytes, size_t len);
void	listing_string(struct listing *listing, const char *key, const char *string);
void	listing_bool(struct listing *listing, const char *key, int value);
void	listing_absent(struct listing *listing, const char *key);
void	listing_list(struct listing *listing, const char *key, const struct frame_vec *strings);
/* Bytes that mean nothing to us, in hexadecimal. */
void	listing_hex(struct listing *listing, const char *key, const void *bytes, size_t len);
/* Real time: RFC 3339 in UTC with milliseconds, or local time for people. */
void	listing_time(struct listing *listing, const char *key, int64_t ns);
/* Milliseconds since a monotonic time of this boot; 0 for one in the future. */
void	listing_age(struct listing *listing, const char *key, int64_t since_ns, int64_t now_ns);

#endif
