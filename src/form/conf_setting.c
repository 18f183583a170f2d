/*
 * conf_setting: what was read, as text and not yet looked at: the settings, the sections of
 * the file that hold them, and lists of texts. A setting may be the token: it is wiped before
 * it is freed.
 */
#include <stdlib.h>
#include <string.h>

#include "form/conf_parts.h"

void
conf_setting_reset(struct conf_setting *setting)
{
	unsigned i;

	for (i = 0; i < setting->n; i++) {
		explicit_bzero(setting->values[i], strlen(setting->values[i]));
		free(setting->values[i]);
	}
	free(setting->values);
	free(setting->lines);
	memset(setting, 0, sizeof *setting);
}

int
conf_setting_add(struct conf_setting *setting, const char *value, int line)
{
	char **values;
	int *lines;

	values = realloc(setting->values, (setting->n + 1) * sizeof *values);
	if (values != NULL)
		setting->values = values;
	lines = realloc(setting->lines, (setting->n + 1) * sizeof *lines);
	if (lines != NULL)
		setting->lines = lines;
	if (values == NULL || lines == NULL || (values[setting->n] = strdup(value)) == NULL)
		return -1;
	lines[setting->n++] = line;
	return 0;
}

int
conf_list_add(struct conf_list *list, const char *text)
{
	char **more;

	more = realloc(list->texts, (list->n + 2) * sizeof *more);
	if (more == NULL)
		return -1;
	list->texts = more;
	more[list->n] = strdup(text);
	more[list->n + 1] = NULL;
	if (more[list->n] == NULL)
		return -1;
	list->n++;
	return 0;
}

void
conf_list_free(struct conf_list *list)
{
	unsigned i;

	for (i = 0; i < list->n; i++)
		free(list->texts[i]);
	free(list->texts);
	memset(list, 0, sizeof *list);
}

struct conf_setting *
conf_setting_at(struct conf_reading *r, const struct conf_block *block, int index)
{
	unsigned first;

	if (block == NULL || block->settings == NULL)
		return &r->settings[index];
	conf_section_keys(block->section, &first);
	return &block->settings[(unsigned)index - first];
}

struct conf_block *
conf_block_find(struct conf_reading *r, const char *section, const char *title)
{
	unsigned i;

	for (i = 0; i < r->n_blocks; i++)
		if (strcmp(r->blocks[i].section, section) == 0 && (title == NULL ||
		    (r->blocks[i].title != NULL && strcmp(r->blocks[i].title, title) == 0)))
			return &r->blocks[i];
	return NULL;
}

unsigned
conf_block_count(const struct conf_reading *r, const char *section)
{
	unsigned i, n = 0;

	for (i = 0; i < r->n_blocks; i++)
		n += strcmp(r->blocks[i].section, section) == 0;
	return n;
}

int
conf_block_add(struct conf_reading *r, const char *section, char *title, int line)
{
	struct conf_block *more, *block;
	unsigned first, n = conf_section_keys(section, &first);

	more = realloc(r->blocks, (r->n_blocks + 1) * sizeof *more);
	if (more == NULL) {
		free(title);
		return -1;
	}
	r->blocks = more;
	block = &more[r->n_blocks++];
	*block = (struct conf_block){ conf_keys[first].section, title, line, NULL };
	if (conf_section_kind(section) != CONF_SECTION_TITLED)
		return 0;
	block->settings = calloc(n, sizeof *block->settings);
	return block->settings == NULL ? -1 : 0;
}

void
conf_reading_free(struct conf_reading *r)
{
	unsigned i, j, n, first;

	for (i = 0; r->settings != NULL && i < conf_n_keys; i++)
		conf_setting_reset(&r->settings[i]);
	free(r->settings);
	for (i = 0; i < r->n_blocks; i++) {
		n = conf_section_keys(r->blocks[i].section, &first);
		for (j = 0; r->blocks[i].settings != NULL && j < n; j++)
			conf_setting_reset(&r->blocks[i].settings[j]);
		free(r->blocks[i].settings);
		free(r->blocks[i].title);
	}
	free(r->blocks);
	conf_error_free(r);
	free(r->dir);
}
