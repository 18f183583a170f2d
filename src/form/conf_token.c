/*
 * conf_token: the authentication token, from its file or from the environment. It must never
 * get into a message; what held it is wiped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "form/conf_parts.h"

/* Also room for the newline and for one byte that tells that it is too long. */
#define READ_SIZE	(CONF_MAX_TOKEN + 2)

static void __attribute__((format(printf, 3, 4)))
token_error(struct conf_reading *r, const struct conf_setting *setting, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	conf_error_add(r, setting->origin, setting->n > 0 ? setting->lines[0] : 0, "%s%s: %s",
	    setting->origin == CONF_FROM_OVERRIDE ? "-o " : "",
	    setting->label == NULL ? "auth.token_file" : setting->label, text);
}

static void
token_take(struct conf_reading *r, const struct conf_setting *setting, const char *what,
    const char *bytes, size_t len, struct conf *conf)
{
	if (len == 0)
		token_error(r, setting, "%sthe token is empty", what);
	else if (len > CONF_MAX_TOKEN)
		token_error(r, setting, "%sthe token is longer than %d bytes", what,
		    CONF_MAX_TOKEN);
	else if ((conf->token = malloc(len)) == NULL)
		r->nomem = true;
	else {
		memcpy(conf->token, bytes, len);
		conf->token_len = len;
	}
}

/* Up to SIZE bytes; -1 with errno. */
static ssize_t
read_full(int fd, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t rc;

	while (n < size) {
		rc = read(fd, buf + n, size - n);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			return -1;
		if (rc == 0)
			break;
		n += (size_t)rc;
	}
	return (ssize_t)n;
}

static void
token_read_fd(struct conf_reading *r, const struct conf_setting *setting, const char *path,
    int fd, struct conf *conf)
{
	char buf[READ_SIZE], what[300];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0) {
		token_error(r, setting, "%s: %s", path, strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode)) {
		token_error(r, setting, "%s: not a regular file", path);
		return;
	}
	if ((st.st_mode & (S_IROTH | S_IWOTH)) != 0) {
		token_error(r, setting, "%s: everybody may read or write the token: chmod o-rw %s",
		    path, path);
		return;
	}
	n = read_full(fd, buf, sizeof buf);
	if (n < 0)
		token_error(r, setting, "%s: %s", path, strerror(errno));
	else {
		if (n > 0 && buf[n - 1] == '\n')
			n--;
		snprintf(what, sizeof what, "%s: ", path);
		token_take(r, setting, what, buf, (size_t)n, conf);
	}
	explicit_bzero(buf, sizeof buf);
}

void
conf_token_read(struct conf_reading *r, const struct conf_setting *setting, struct conf *conf)
{
	const char *text = setting->values[0];
	int fd;

	if (setting->origin == CONF_FROM_ENVIRONMENT) {
		token_take(r, setting, "", text, strlen(text), conf);
		return;
	}
	if (*text == '\0') {
		token_error(r, setting, "the path is empty");
		return;
	}
	conf->token_file = conf_path_resolve(r, setting->origin, text);
	if (conf->token_file == NULL) {
		r->nomem = true;
		return;
	}
	fd = open(conf->token_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		token_error(r, setting, "%s: %s", conf->token_file, strerror(errno));
		return;
	}
	token_read_fd(r, setting, conf->token_file, fd, conf);
	close(fd);
}
