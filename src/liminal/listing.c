/*
 * listing: see listing.h.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "liminal/listing.h"

/* What people get to see of one value. */
#define LISTING_VALUE_MAX	512
#define LISTING_GAP		2

static void
listing_append(struct listing *listing, struct buf *to, const void *bytes, size_t len)
{
	if (!listing->failed && len > 0 && buf_append(to, bytes, len) != 0) {
		listing->failed = 1;
		cli_complain(listing->cli, "out of memory");
	}
}

static void
listing_puts(struct listing *listing, const char *string)
{
	listing_append(listing, &listing->out, string, strlen(string));
}

static void
listing_pad(struct listing *listing, size_t n)
{
	static const char blanks[] = "                ";
	size_t part;

	for (; n > 0; n -= part) {
		part = n < sizeof(blanks) - 1 ? n : sizeof(blanks) - 1;
		listing_append(listing, &listing->out, blanks, part);
	}
}

void
listing_open(struct listing *listing, struct cli *cli, const char *const *columns, size_t n)
{
	memset(listing, 0, sizeof(*listing));
	listing->cli = cli;
	listing->form = cli->json ? LISTING_JSON : columns != NULL ? LISTING_COLUMNS :
	    LISTING_PAIRS;
	if (n > LISTING_COLUMNS_MAX)
		log_panic("a listing with %zu columns", n);
	if (listing->form != LISTING_COLUMNS)
		return;
	listing->columns = columns;
	listing->n_columns = n;
	for (size_t i = 0; i < n; i++)
		listing->widths[i] = strlen(columns[i]);
}

void
listing_free(struct listing *listing)
{
	buf_free(&listing->out);
	buf_free(&listing->text);
	buf_free(&listing->cells);
	memset(listing, 0, sizeof(*listing));
}

/* ---- columns ---- */

static void
listing_print_cell(struct listing *listing, size_t column, const char *text)
{
	size_t len = strlen(text), pad = listing->widths[column] - len;

	if (column > 0)
		listing_pad(listing, LISTING_GAP);
	if (listing->is_number[column])
		listing_pad(listing, pad);
	listing_append(listing, &listing->out, text, len);
	if (column + 1 == listing->n_columns)
		listing_puts(listing, "\n");
	else if (!listing->is_number[column])
		listing_pad(listing, pad);
}

static void
listing_print_heading(struct listing *listing)
{
	char heading[64];
	size_t i, k;

	for (i = 0; i < listing->n_columns; i++) {
		for (k = 0; listing->columns[i][k] != '\0' && k + 1 < sizeof(heading); k++)
			heading[k] = (char)toupper((unsigned char)listing->columns[i][k]);
		heading[k] = '\0';
		listing_print_cell(listing, i, heading);
	}
	listing->is_headed = 1;
}

void
listing_settle(struct listing *listing)
{
	const char *text;
	size_t at;

	if (listing->form != LISTING_COLUMNS || listing->failed)
		return;
	if (!listing->is_headed)
		listing_print_heading(listing);
	for (size_t i = 0; i < buf_len(&listing->cells) / sizeof(at); i++) {
		memcpy(&at, buf_head(&listing->cells) + i * sizeof(at), sizeof(at));
		text = (const char *)buf_head(&listing->text) + at;
		listing_print_cell(listing, i % listing->n_columns, text);
	}
	buf_consume(&listing->cells, buf_len(&listing->cells));
	buf_consume(&listing->text, buf_len(&listing->text));
}

int
listing_flush(struct listing *listing)
{
	listing_settle(listing);
	if (listing->failed)
		return -1;
	if (cli_write_output(listing->cli, buf_head(&listing->out), buf_len(&listing->out)) != 0)
		listing->failed = 1;
	buf_consume(&listing->out, buf_len(&listing->out));
	return listing->failed ? -1 : 0;
}

int
listing_close(struct listing *listing)
{
	int r = listing_flush(listing);

	listing_free(listing);
	return r;
}

static void
listing_put_cell(struct listing *listing, const char *key, const char *text, int is_number)
{
	size_t column, len = strlen(text);

	for (column = 0; column < listing->n_columns; column++)
		if (strcmp(listing->columns[column], key) == 0)
			break;
	if (column == listing->n_columns)
		return;
	listing->row[column] = buf_len(&listing->text);
	listing_append(listing, &listing->text, text, len + 1);
	if (len > listing->widths[column])
		listing->widths[column] = len;
	if (is_number)
		listing->is_number[column] = 1;
}

/* ---- rows ---- */

void
listing_begin_row(struct listing *listing, const char *label)
{
	listing->is_first = 1;
	switch (listing->form) {
	case LISTING_COLUMNS:
		for (size_t i = 0; i < listing->n_columns; i++)
			listing_put_cell(listing, listing->columns[i], "-", 0);
		break;
	case LISTING_PAIRS:
		if (label != NULL) {
			listing_puts(listing, label);
			listing->is_first = 0;
		}
		break;
	case LISTING_JSON:
		listing_puts(listing, "{");
		if (label != NULL)
			listing_string(listing, "table", label);
		break;
	}
}

void
listing_end_row(struct listing *listing)
{
	switch (listing->form) {
	case LISTING_COLUMNS:
		listing_append(listing, &listing->cells, listing->row,
		    listing->n_columns * sizeof(listing->row[0]));
		break;
	case LISTING_PAIRS:
		listing_puts(listing, "\n");
		break;
	case LISTING_JSON:
		listing_puts(listing, "}\n");
		break;
	}
}

/* What stands before a value, and VALUE, which needs no more escaping. */
static void
listing_put(struct listing *listing, const char *key, const char *value, int is_number)
{
	if (listing->form == LISTING_COLUMNS) {
		listing_put_cell(listing, key, value, is_number);
		return;
	}
	if (!listing->is_first)
		listing_puts(listing, listing->form == LISTING_JSON ? "," : " ");
	listing->is_first = 0;
	if (listing->form == LISTING_JSON)
		listing_puts(listing, "\"");
	listing_puts(listing, key);
	listing_puts(listing, listing->form == LISTING_JSON ? "\":" : "=");
	listing_puts(listing, value);
}

void
listing_number(struct listing *listing, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	listing_put(listing, key, text, 1);
}

void
listing_bool(struct listing *listing, const char *key, int value)
{
	int is_json = listing->form == LISTING_JSON;

	listing_put(listing, key, value ? is_json ? "true" : "yes" : is_json ? "false" : "no", 0);
}

void
listing_absent(struct listing *listing, const char *key)
{
	listing_put(listing, key, listing->form == LISTING_JSON ? "null" : "-", 0);
}

/* ---- text ---- */

static void
listing_json_string(struct listing *listing, const void *bytes, size_t len)
{
	char shown[LISTING_VALUE_MAX], escape[8];
	const uint8_t *at = bytes;
	size_t i, from = 0;

	/* A key has one type: what is no text is shown as people would see it. */
	if (!frame_is_utf8(at, len)) {
		at = (const uint8_t *)log_vis(shown, sizeof(shown), bytes, len);
		len = strlen(shown);
	}
	listing_puts(listing, "\"");
	for (i = 0; i < len; i++) {
		if (at[i] >= 0x20 && at[i] != '"' && at[i] != '\\' && at[i] != 0x7f)
			continue;
		listing_append(listing, &listing->out, at + from, i - from);
		snprintf(escape, sizeof(escape), at[i] == '"' || at[i] == '\\' ? "\\%c" :
		    "\\u%04x", at[i]);
		listing_puts(listing, escape);
		from = i + 1;
	}
	listing_append(listing, &listing->out, at + from, len - from);
	listing_puts(listing, "\"");
}

/* In pairs, what would not be seen as one word is quoted. */
static const char *
listing_quote(const struct listing *listing, char *quoted, size_t size, const char *shown)
{
	if (shown[0] != '\0' &&
	    (listing->form == LISTING_COLUMNS || strpbrk(shown, " \"=") == NULL))
		return shown;
	snprintf(quoted, size, "\"%s\"", shown);
	return quoted;
}

void
listing_text(struct listing *listing, const char *key, const void *bytes, size_t len)
{
	char shown[LISTING_VALUE_MAX], quoted[LISTING_VALUE_MAX + 2];

	if (listing->form == LISTING_JSON) {
		listing_put(listing, key, "", 0);
		listing_json_string(listing, bytes, len);
		return;
	}
	log_vis(shown, sizeof(shown), bytes, len);
	listing_put(listing, key, listing_quote(listing, quoted, sizeof(quoted), shown), 0);
}

void
listing_string(struct listing *listing, const char *key, const char *string)
{
	listing_text(listing, key, string, strlen(string));
}

void
listing_list(struct listing *listing, const char *key, const struct frame_vec *strings)
{
	struct frame_view next = strings->encoded, string;
	char shown[LISTING_VALUE_MAX], quoted[LISTING_VALUE_MAX + 2];
	size_t used = 0;
	int n = 0;

	if (listing->form == LISTING_JSON) {
		listing_put(listing, key, "[", 0);
		while (frame_vec_next(&next, &string)) {
			listing_puts(listing, n++ > 0 ? "," : "");
			listing_json_string(listing, string.data, string.len);
		}
		listing_puts(listing, "]");
		return;
	}
	while (used + 2 < sizeof(shown) && frame_vec_next(&next, &string)) {
		if (n++ > 0)
			shown[used++] = ',';
		log_vis(shown + used, sizeof(shown) - used, string.data, string.len);
		used += strlen(shown + used);
	}
	if (n == 0)
		listing_put(listing, key, "-", 0);
	else
		listing_put(listing, key,
		    listing_quote(listing, quoted, sizeof(quoted), shown), 0);
}

void
listing_hex(struct listing *listing, const char *key, const void *bytes, size_t len)
{
	char text[LISTING_VALUE_MAX];
	const uint8_t *at = bytes;
	size_t i;

	for (i = 0; i < len && 2 * i + 3 < sizeof(text); i++)
		snprintf(text + 2 * i, 3, "%02x", at[i]);
	text[2 * i] = '\0';
	listing_string(listing, key, text);
}

void
listing_time(struct listing *listing, const char *key, int64_t ns)
{
	time_t seconds = (time_t)(ns / CLOCK_SECOND);
	char text[40], full[64];
	struct tm tm;

	if (listing->form != LISTING_JSON) {
		localtime_r(&seconds, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		listing_string(listing, key, text);
		return;
	}
	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(full, sizeof(full), "%s.%03dZ", text, (int)(ns % CLOCK_SECOND / CLOCK_MS));
	listing_string(listing, key, full);
}

void
listing_age(struct listing *listing, const char *key, int64_t since_ns, int64_t now_ns)
{
	listing_number(listing, key,
	    since_ns < now_ns ? (uint64_t)((now_ns - since_ns) / CLOCK_MS) : 0);
}
