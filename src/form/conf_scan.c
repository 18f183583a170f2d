/*
 * conf_scan: cut a configuration file into sections and pieces, one per assignment, so that
 * libConfuse, which stops at the first error and miscounts lines after block comments, reads
 * each of them alone and one mistake hides no other.
 *
 * The tokens are those of libConfuse's lexer. Errors here are those that a single piece
 * cannot show: open strings, comments and sections, and sections that are unknown or
 * repeated. Values are not looked at.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "form/conf_parts.h"

#define WORD_END	" \t\r\n\"'#{}()=,+*"

struct scan_token {
	char type;		/* 'w' a word or string, '+' for +=, else itself, 0 = end */
	size_t start, end;	/* in the text, quotes included */
	int line;
};

struct scan {
	struct conf_reading *r;
	struct conf_pieces *pieces;
	char *text;
	size_t pos;
	int line;
	struct scan_token *tokens;	/* n, and then one of type 0 */
	size_t n, size;
	int balance;			/* { minus } of the whole file */
	const char *section;		/* the open one, the last of r->blocks, or NULL */
};

static void
scan_token_add(struct scan *s, char type, size_t start, int line)
{
	struct scan_token *more;

	if (s->n + 1 >= s->size) {
		more = realloc(s->tokens, (s->size * 2 + 64) * sizeof *more);
		if (more == NULL) {
			s->r->nomem = true;
			return;
		}
		s->tokens = more;
		s->size = s->size * 2 + 64;
	}
	s->tokens[s->n++] = (struct scan_token){ type, start, s->pos, line };
	s->tokens[s->n] = (struct scan_token){ 0, s->pos, s->pos, line };
}

/* An error whose place is blanked: what libConfuse then says about the rest of the line is
 * not worth reading. */
static void __attribute__((format(printf, 3, 4)))
scan_error_lexical(struct scan *s, int line, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	conf_error_add(s->r, CONF_FROM_FILE, line, "%s", text);
	if (s->r->n_errors > 0)
		s->r->errors[s->r->n_errors - 1].lexical = true;
}

/* Overwrite up to s->pos; the lines stay. */
static void
scan_blank(struct scan *s, size_t start)
{
	for (; start < s->pos; start++)
		if (s->text[start] != '\n')
			s->text[start] = ' ';
}

static void
scan_comment(struct scan *s)
{
	size_t start = s->pos;
	int line = s->line;

	if (s->text[s->pos] == '/' && s->text[s->pos + 1] == '*') {
		for (s->pos += 2; s->text[s->pos] != '\0'; s->pos++) {
			if (s->text[s->pos] == '\n')
				s->line++;
			if (s->text[s->pos] == '*' && s->text[s->pos + 1] == '/')
				break;
		}
		if (s->text[s->pos] == '\0')
			scan_error_lexical(s, line,
			    "the comment that begins here does not end");
		else
			s->pos += 2;
	} else
		s->pos += strcspn(s->text + s->pos, "\n");
	scan_blank(s, start);
}

/* No value of ours goes over a line, so a quote that does is one that was forgotten. */
static void
scan_string(struct scan *s)
{
	size_t start = s->pos;
	char quote = s->text[s->pos++];
	int line = s->line;

	for (; s->text[s->pos] != quote; s->pos++) {
		if (s->text[s->pos] == '\\' && s->text[s->pos + 1] != '\0') {
			if (s->text[++s->pos] == '\n')
				s->line++;
		} else if (s->text[s->pos] == '\n' || s->text[s->pos] == '\0') {
			scan_error_lexical(s, line,
			    "the string that begins here has no closing quote");
			scan_blank(s, start);
			return;
		}
	}
	s->pos++;
	scan_token_add(s, 'w', start, line);
}

static void
scan_symbol(struct scan *s)
{
	size_t start = s->pos;
	char c = s->text[s->pos++];

	if (c == '+' && s->text[s->pos] == '=') {
		s->pos++;
		scan_token_add(s, '+', start, s->line);
		return;
	}
	if (c == '+' || c == '*') {
		scan_error_lexical(s, s->line,
		    "unexpected '%c': put the value into quotes", c);
		scan_blank(s, start);
		return;
	}
	s->balance += (c == '{') - (c == '}');
	scan_token_add(s, c, start, s->line);
}

static void
scan_tokens(struct scan *s)
{
	const char *p;

	scan_token_add(s, 0, 0, 1);	/* so that there is always an end */
	s->n = 0;
	while (s->text[s->pos] != '\0' && !s->r->nomem) {
		p = s->text + s->pos;
		if (*p == '\n')
			s->line++;
		if (isspace((unsigned char)*p))
			s->pos++;
		else if (*p == '#' || (*p == '/' && (p[1] == '/' || p[1] == '*')))
			scan_comment(s);
		else if (*p == '"' || *p == '\'')
			scan_string(s);
		else if (strchr(WORD_END, *p) != NULL)
			scan_symbol(s);
		else {
			size_t start = s->pos;

			s->pos += strcspn(p, WORD_END);
			scan_token_add(s, 'w', start, s->line);
		}
	}
}

static char
scan_type(const struct scan *s, size_t i)
{
	return i < s->n ? s->tokens[i].type : 0;
}

/* The text of tokens [FIRST, END), to be freed. */
static char *
scan_text(struct scan *s, size_t first, size_t end)
{
	size_t start = s->tokens[first].start;
	char *text = strndup(s->text + start, s->tokens[end - 1].end - start);

	if (text == NULL)
		s->r->nomem = true;
	return text;
}

/* The text of a word, without its quotes; to be freed. */
static char *
scan_word(struct scan *s, size_t i)
{
	size_t start = s->tokens[i].start, end = s->tokens[i].end;
	char *word;

	if (s->text[start] == '"' || s->text[start] == '\'') {
		start++;
		end--;
	}
	word = strndup(s->text + start, end - start);
	if (word == NULL)
		s->r->nomem = true;
	return word;
}

static bool
scan_is_assignment(const struct scan *s, size_t i)
{
	return scan_type(s, i) == 'w' &&
	    (scan_type(s, i + 1) == '=' || scan_type(s, i + 1) == '+');
}

static bool
scan_is_section(const struct scan *s, size_t i)
{
	return scan_type(s, i) == 'w' && (scan_type(s, i + 1) == '{' ||
	    (scan_type(s, i + 1) == 'w' && scan_type(s, i + 2) == '{'));
}

/* A word that belongs to the value before it and does not begin something itself. */
static bool
scan_is_value(const struct scan *s, size_t i)
{
	return scan_type(s, i) == 'w' && !scan_is_assignment(s, i) && scan_type(s, i + 1) != '{';
}

/* A section that takes a title begins where only values can be: a list was not closed. */
static bool
scan_is_titled(struct scan *s, size_t i)
{
	enum conf_section_kind kind;
	char *name;

	if (scan_type(s, i) != 'w' || scan_type(s, i + 1) != 'w' || scan_type(s, i + 2) != '{' ||
	    (name = scan_word(s, i)) == NULL)
		return false;
	kind = conf_section_kind(name);
	free(name);
	return kind == CONF_SECTION_TITLED;
}

/* Tokens [FIRST, END) as a piece called by the token NAME, unless it is stray text. */
static void
scan_emit(struct scan *s, size_t first, size_t end, bool named)
{
	struct conf_piece *more, *piece;

	more = realloc(s->pieces->v, (s->pieces->n + 1) * sizeof *more);
	if (more == NULL) {
		s->r->nomem = true;
		return;
	}
	s->pieces->v = more;
	piece = &more[s->pieces->n++];
	*piece = (struct conf_piece){ .line = s->tokens[first].line };
	piece->block = s->section == NULL ? -1 : (int)s->r->n_blocks - 1;
	piece->append = named && scan_type(s, first + 1) == '+';
	piece->text = scan_text(s, first, end);
	if (named)
		piece->name = scan_word(s, first);
}

/* Whatever stands on the same line after a piece's end makes the piece wrong, not its
 * successor. */
static size_t
scan_stray(const struct scan *s, size_t i, int line)
{
	while (i < s->n && s->tokens[i].line == line && !scan_is_assignment(s, i) &&
	    !scan_is_section(s, i) && (s->tokens[i].type != '}' || s->section == NULL))
		i++;
	return i;
}

static size_t
scan_assignment(struct scan *s, size_t first)
{
	size_t i = first + 2;

	if (scan_type(s, i) == '{') {
		for (i++; (scan_is_value(s, i) && !scan_is_titled(s, i)) ||
		    (scan_type(s, i) != 0 && strchr(",=+()", scan_type(s, i)) != NULL); i++)
			continue;
		if (scan_type(s, i) == '}')
			i++;
	} else if (scan_is_value(s, i))
		i++;
	i = scan_stray(s, i, s->tokens[i - 1].line);
	scan_emit(s, first, i, true);
	return i;
}

/* From the opening brace at I past the one that closes it. */
static size_t
scan_skip_braces(struct scan *s, size_t i)
{
	int line = s->tokens[i].line, depth = 0;

	for (; i < s->n; i++) {
		depth += (s->tokens[i].type == '{') - (s->tokens[i].type == '}');
		if (depth == 0)
			return i + 1;
	}
	conf_error_add(s->r, CONF_FROM_FILE, line, "the brace that opens here is not closed");
	return i;
}

/* TITLE: see conf_block; it is taken. */
static void
scan_enter(struct scan *s, const char *name, char *title, int line)
{
	const struct conf_block *first = NULL;

	if (title != NULL || conf_section_kind(name) == CONF_SECTION_PLAIN)
		first = conf_block_find(s->r, name, title);
	if (first != NULL && title != NULL)
		conf_error_add(s->r, CONF_FROM_FILE, line,
		    "%s \"%s\" is repeated (first in line %d)", name, title, first->line);
	else if (first != NULL)
		conf_error_add(s->r, CONF_FROM_FILE, line,
		    "section '%s' is repeated (first in line %d)", name, first->line);
	if (conf_block_add(s->r, name, title, line) < 0)
		s->r->nomem = true;
	else
		s->section = s->r->blocks[s->r->n_blocks - 1].section;
}

/* The title of the section at I, or NULL; says so if it should be the other way round. */
static char *
scan_title(struct scan *s, size_t i, const char *name, enum conf_section_kind kind)
{
	int line = s->tokens[i].line;
	char type = scan_type(s, i + 1), *text, *title;

	if (type == '=')
		conf_error_add(s->r, CONF_FROM_FILE, line, "section '%s' takes no '='", name);
	else if (type == 'w' && kind == CONF_SECTION_PLAIN)
		conf_error_add(s->r, CONF_FROM_FILE, line, "section '%s' takes no title", name);
	else if (type != 'w' && kind == CONF_SECTION_TITLED)
		conf_error_add(s->r, CONF_FROM_FILE, line,
		    "section '%s' needs a title: %s \"…\" { … }", name, name);
	else if (type == 'w' && (text = scan_text(s, i + 1, i + 2)) != NULL) {
		title = conf_title_read(s->r, text, s->tokens[i + 1].line);
		free(text);
		return title;
	}
	return NULL;
}

/* A name and a brace, with a title or a wrong '=' between them. */
static size_t
scan_section(struct scan *s, size_t i, char *name)
{
	size_t brace = scan_type(s, i + 1) == '{' ? i + 1 : i + 2;
	enum conf_section_kind kind = s->section == NULL ? conf_section_kind(name) :
	    CONF_SECTION_UNKNOWN;
	int line = s->tokens[i].line;

	if (conf_key_find(s->section, name) >= 0)
		conf_error_add(s->r, CONF_FROM_FILE, line,
		    "'%s' is not a section: write %s = …", name, name);
	else if (kind == CONF_SECTION_UNKNOWN)
		conf_error_add(s->r, CONF_FROM_FILE, line, "unknown section '%s'%s%s%s", name,
		    s->section != NULL ? " in section '" : "",
		    s->section != NULL ? s->section : "", s->section != NULL ? "'" : "");
	else {
		scan_enter(s, name, scan_title(s, i, name, kind), line);
		return brace + 1;
	}
	return scan_skip_braces(s, brace);
}

static void
scan_leave_open(struct scan *s)
{
	conf_error_add(s->r, CONF_FROM_FILE, s->r->blocks[s->r->n_blocks - 1].line,
	    "section '%s' opens here and is not closed", s->section);
	s->section = NULL;
	s->balance--;
}

/* In an unbalanced file, what can only stand at the top level ends the open section. */
static void
scan_check_open(struct scan *s, const char *name)
{
	if (s->section != NULL && s->balance > 0 && conf_key_find(s->section, name) < 0 &&
	    (conf_key_find(NULL, name) >= 0 || conf_section_kind(name) != CONF_SECTION_UNKNOWN))
		scan_leave_open(s);
}

static size_t
scan_named(struct scan *s, size_t i)
{
	char *name = scan_word(s, i);

	if (name == NULL)
		return s->n;
	scan_check_open(s, name);
	if (scan_is_section(s, i) ||
	    (scan_type(s, i + 1) == '=' && scan_type(s, i + 2) == '{' && s->section == NULL &&
	    conf_section_kind(name) != CONF_SECTION_UNKNOWN))
		i = scan_section(s, i, name);
	else
		i = scan_assignment(s, i);
	free(name);
	return i;
}

void
conf_scan(struct conf_reading *r, char *text, struct conf_pieces *pieces)
{
	struct scan s = { .r = r, .pieces = pieces, .text = text, .line = 1 };
	size_t i = 0, end;

	scan_tokens(&s);
	while (i < s.n && !r->nomem) {
		if (scan_is_assignment(&s, i) || scan_is_section(&s, i))
			i = scan_named(&s, i);
		else if (s.tokens[i].type == '}' && s.section != NULL) {
			s.section = NULL;
			i++;
		} else {
			end = scan_stray(&s, i + 1, s.tokens[i].line);
			scan_emit(&s, i, end, false);
			i = end;
		}
	}
	if (s.section != NULL)
		scan_leave_open(&s);
	free(s.tokens);
}

void
conf_scan_free(struct conf_pieces *pieces)
{
	unsigned i;

	for (i = 0; i < pieces->n; i++) {
		free(pieces->v[i].name);
		free(pieces->v[i].text);
	}
	free(pieces->v);
}
