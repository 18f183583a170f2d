/*
 * conf_parts: what the files of the configuration share. Nobody else includes this.
 *
 * The way of a value: conf_scan cuts the file into pieces, one per key; conf_file has
 * libConfuse read each piece into a setting (texts and where they stand); environment and
 * overrides replace settings; conf_value turns the setting that is left into the field of
 * struct conf. All of them add to one list of errors.
 */
#ifndef LIMINAL_FORM_CONF_PARTS_H
#define LIMINAL_FORM_CONF_PARTS_H

#include "form/conf.h"

#define CONF_MAX_KEYS	32	/* one bit each in struct conf's inactive */
#define CONF_MAX_TOKEN	4096

enum conf_kind {
	CONF_KIND_ADDRESSES, CONF_KIND_ADDRESS, CONF_KIND_PATH, CONF_KIND_NAME,
	CONF_KIND_DURATION, CONF_KIND_SIZE32, CONF_KIND_SIZE64, CONF_KIND_COUNT,
	CONF_KIND_WORD, CONF_KIND_ROUTER, CONF_KIND_BOOL, CONF_KIND_TOKEN_FILE,
};

struct conf_key {
	const char *section;		/* NULL = top level */
	const char *name;
	enum conf_kind kind;
	size_t offset;			/* of the field in struct conf */
	const char *initial;		/* as in the file; NULL = the field stays 0 */
	int64_t min, max;		/* ns, bytes or a count */
	const char *const *words;	/* in the order of the enum, NULL at the end */
	bool inactive;
};

/* The keys in the order in which they are printed, sections together. */
extern const struct conf_key conf_keys[];
extern const unsigned conf_n_keys;

enum conf_section { CONF_SECTION_UNKNOWN, CONF_SECTION_KNOWN, CONF_SECTION_LATER };

/* SECTION NULL = top level. Returns the index of the key or -1. */
int	conf_key_find(const char *section, const char *name);
/* By "name" or "section.name", for overrides and messages. */
int	conf_key_find_dotted(const char *dotted);
const char *conf_key_dotted(const struct conf_key *key, char *buf, size_t size);
enum conf_section conf_section_kind(const char *name);

enum conf_origin { CONF_FROM_DEFAULT, CONF_FROM_FILE, CONF_FROM_ENVIRONMENT, CONF_FROM_OVERRIDE };

struct conf_setting {
	enum conf_origin origin;
	const char *label;	/* of the variable, else NULL; not ours */
	bool broken;		/* reported; values that were read still count */
	int line;		/* of the key, in the file */
	char **values;		/* n of each */
	int *lines;
	unsigned n;
};

struct conf_error {
	enum conf_origin origin;
	int line;
	bool lexical;		/* see conf_scan */
	unsigned seq;		/* sort is by origin, line, then this */
	char *text;
};

struct conf_reading {
	const char *file;	/* as named; NULL = none */
	char *dir;		/* of the file, absolute */
	struct conf_setting settings[CONF_MAX_KEYS];
	int auth_line;		/* 0 = no such section */
	struct conf_error *errors;
	unsigned n_errors;
	bool nomem;
};

/* One assignment of the file: what libConfuse gets to see at a time. */
struct conf_piece {
	const char *section;	/* NULL = top level; one of conf_keys */
	char *name;		/* NULL = stray text */
	char *text;
	int line;
	bool append;		/* += */
};

struct conf_pieces {
	struct conf_piece *v;
	unsigned n;
};

/* Errors. LINE 0 = the file as a whole; those of variables and overrides begin with their
 * name. */
void	conf_error_add(struct conf_reading *r, enum conf_origin origin, int line,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
bool	conf_error_is_lexical(const struct conf_reading *r, int line);
void	conf_error_print(struct conf_reading *r, FILE *out);
void	conf_error_free(struct conf_reading *r);

/* Settings. */
void	conf_setting_reset(struct conf_setting *setting);
int	conf_setting_add(struct conf_setting *setting, const char *value, int line);
int	conf_setting_parse(struct conf_reading *r, const struct conf_key *key, const char *text,
	    int line, struct conf_setting *setting);

/* TEXT (changed: comments become blanks) into PIECES; errors and sections into R. */
void	conf_scan(struct conf_reading *r, char *text, struct conf_pieces *pieces);
void	conf_scan_free(struct conf_pieces *pieces);

/* Read r->file. */
void	conf_file_read(struct conf_reading *r);

/* Put the setting of the key at INDEX into CONF, or its default. */
void	conf_value_apply(struct conf_reading *r, int index, struct conf *conf);
char	*conf_path_resolve(const struct conf_reading *r, enum conf_origin origin, const char *path);

/* The largest unit that gives a whole number. */
const char *conf_format_duration(int64_t ns, char *buf, size_t size);
const char *conf_format_size(uint64_t bytes, char *buf, size_t size);

/* NULL when TEXT is host:port, [v6]:port or unix:path; else what is wrong with it. */
const char *conf_address_check(const char *text);

/* Read the token of auth.token_file into CONF. */
void	conf_token_read(struct conf_reading *r, const struct conf_setting *setting,
	    struct conf *conf);

#endif
