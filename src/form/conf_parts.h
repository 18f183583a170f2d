/*
 * conf_parts: what the files of the configuration share. Nobody else includes this.
 *
 * The way of a value: conf_scan cuts the file into sections and pieces, one piece per key;
 * conf_file has libConfuse read each piece into a setting (texts and where they stand);
 * environment and overrides replace settings; conf_value turns the setting that is left into
 * the field of struct conf. All of them add to one list of errors.
 */
#ifndef LIMINAL_FORM_CONF_PARTS_H
#define LIMINAL_FORM_CONF_PARTS_H

#include "base/err.h"
#include "form/conf.h"

#define CONF_MAX_TOKEN	4096

enum conf_kind {
	CONF_KIND_ADDRESSES, CONF_KIND_ADDRESS, CONF_KIND_PATH, CONF_KIND_NAME,
	CONF_KIND_DURATION, CONF_KIND_SIZE32, CONF_KIND_SIZE64, CONF_KIND_COUNT,
	CONF_KIND_WORD, CONF_KIND_BOOL, CONF_KIND_TOKEN_FILE,
	CONF_KIND_TEXTS,	/* a list of any texts */
	CONF_KIND_PROGRAM,	/* the same, the first the path of a program */
	CONF_KIND_MODULE,	/* the path of a shared object */
	CONF_KIND_ROUTER,	/* a word, or the path of a shared object */
	CONF_KIND_COUNT64,
	CONF_KIND_SCHEMA,	/* the path of a JSON Schema */
	CONF_KIND_CHANNEL,	/* the name of a channel, kept as its number */
	CONF_KIND_PREDICATE,
};

struct conf_key {
	const char *section;		/* NULL = top level */
	const char *name;
	enum conf_kind kind;
	size_t offset;			/* of the field in struct conf, or in the struct of a
					   titled section */
	const char *initial;		/* as in the file; NULL = the field stays 0 */
	int64_t min, max;		/* ns, bytes or a count */
	const char *const *words;	/* in the order of the enum, NULL at the end */
	const char *required;		/* not NULL: the section is nothing without it; why */
	bool inactive;
};

/* The keys in the order in which they are printed, sections together. */
extern const struct conf_key conf_keys[];
extern const unsigned conf_n_keys;

enum conf_section_kind {
	CONF_SECTION_UNKNOWN, CONF_SECTION_PLAIN, CONF_SECTION_TITLED
};

/* SECTION NULL = top level. Returns the index of the key or -1. */
int	conf_key_find(const char *section, const char *name);
/* By "name" or "section.name", for overrides and messages. */
int	conf_key_find_dotted(const char *dotted);
const char *conf_key_dotted(const struct conf_key *key, char *buf, size_t size);
bool	conf_key_is_list(const struct conf_key *key);
/* NAME NULL = the top level, of which there is one. */
enum conf_section_kind conf_section_kind(const char *name);
/* The keys of SECTION: how many, from *FIRST on. */
unsigned conf_section_keys(const char *section, unsigned *first);

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

/* A section that the file opens. */
struct conf_block {
	const char *section;	/* one of conf_keys */
	char *title;		/* NULL = it takes none, or has none by mistake */
	int line;
	struct conf_setting *settings;	/* titled sections only, in the order of their keys;
					   those of the others are in struct conf_reading */
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
	struct conf_setting *settings;	/* conf_n_keys */
	struct conf_block *blocks;	/* n_blocks, in the order of the file */
	unsigned n_blocks;
	struct conf_error *errors;
	unsigned n_errors;
	bool nomem;
};

/* One assignment of the file: what libConfuse gets to see at a time. */
struct conf_piece {
	int block;		/* the section as an index of blocks; -1 = top level */
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

/* One of the key called NAME in BLOCK, at its line and after the title and the key. */
void	conf_error_block(struct conf_reading *r, const struct conf_block *block,
	    const char *name, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Settings. 0 or -1. */
void	conf_setting_reset(struct conf_setting *setting);
int	conf_setting_add(struct conf_setting *setting, const char *value, int line);
int	conf_setting_parse(struct conf_reading *r, const struct conf_key *key, const char *text,
	    int line, struct conf_setting *setting);

/* The place of the key at INDEX: in BLOCK's settings, or with BLOCK NULL in those of R. */
struct conf_setting *conf_setting_at(struct conf_reading *r, const struct conf_block *block,
	    int index);
/* The first block of SECTION; with TITLE the one that has it. NULL if there is none. */
struct conf_block *conf_block_find(struct conf_reading *r, const char *section,
	    const char *title);
/* Takes TITLE. 0 or -1. */
int	conf_block_add(struct conf_reading *r, const char *section, char *title, int line);
void	conf_reading_free(struct conf_reading *r);

/* Lists of texts. 0 or -1. */
int	conf_list_add(struct conf_list *list, const char *text);
void	conf_list_free(struct conf_list *list);

/* TEXT (changed: comments become blanks) into PIECES; errors and sections into R. */
void	conf_scan(struct conf_reading *r, char *text, struct conf_pieces *pieces);
void	conf_scan_free(struct conf_pieces *pieces);

/* Read r->file. */
void	conf_file_read(struct conf_reading *r);
/* The title that is written as TEXT, to be freed; NULL with the error added. */
char	*conf_title_read(struct conf_reading *r, const char *text, int line);

/* Put every setting, or its default, into CONF: all but those of channels and routes. */
void	conf_value_apply(struct conf_reading *r, struct conf *conf);
/* The settings of BLOCK, which has a title, or their defaults, into the struct INTO. */
void	conf_value_apply_block(struct conf_reading *r, struct conf_block *block,
	    struct conf *conf, void *into);
/* How many blocks of SECTION there are. */
unsigned conf_block_count(const struct conf_reading *r, const char *section);
char	*conf_path_resolve(const struct conf_reading *r, enum conf_origin origin, const char *path);

/* Channels and routes into CONF, checked, compiled and complete but for what routes do to
 * channels. */
void	conf_channel_apply(struct conf_reading *r, struct conf *conf);
void	conf_channel_free(struct conf *conf);
/* What the routes make of the channels; a cycle is an error. */
void	conf_route_link(struct conf_reading *r, struct conf *conf);

/* A route's end while its channel is not known. */
#define CONF_CHANNEL_NONE	(~0u)

/* The bytes of the file PATH, at most MAX, with a NUL behind them; to be freed. 0, ERR_SYSTEM,
 * ERR_INVALID or ERR_NOMEM. */
int	conf_slurp(const char *path, size_t max, char **bytes, size_t *len, struct err *err);

/* Digits only, no sign and no blanks; *END behind them. 0 or ERR_INVALID. */
int	conf_parse_number(const char *text, uint64_t *number, const char **end);
/* The largest unit that gives a whole number. */
const char *conf_format_duration(int64_t ns, char *buf, size_t size);
const char *conf_format_size(uint64_t bytes, char *buf, size_t size);

/* NULL when TEXT is host:port, [v6]:port or unix:path; else what is wrong with it. */
const char *conf_address_check(const char *text);

/* Read the token of auth.token_file into CONF. */
void	conf_token_read(struct conf_reading *r, const struct conf_setting *setting,
	    struct conf *conf);

#endif
