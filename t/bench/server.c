/*
 * server: starting a broker on a free port in a throw-away directory, and ending it.
 *
 * A server that was started is asked to end (TERM), killed when it does not, and its
 * directory removed, also when the bench program is interrupted. If that program is killed, its
 * servers still get a TERM from the kernel.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define TICK_NS	INT64_C(2000000)

static const char *program_dir, *disk_dir;

void
bench_set_program_dir(const char *dir)
{
	program_dir = dir;
}

void
bench_set_disk_dir(const char *dir)
{
	disk_dir = dir;
}

/* Where PROGRAM is: the build directory, then PATH, then where daemons live. */
static int
find_program(const char *program, char *out, size_t size)
{
	char path[4096], *dir, *rest = path;

	snprintf(path, sizeof path, "%s:%s:/usr/local/sbin:/usr/sbin:/sbin",
	    program_dir != NULL ? program_dir : ".", getenv("PATH") ? getenv("PATH") : "");
	while ((dir = strsep(&rest, ":")) != NULL) {
		snprintf(out, size, "%s/%s", dir, program);
		if (access(out, X_OK) == 0)
			return 0;
	}
	return -1;
}

int
bench_program_exists(const char *program)
{
	char path[4096];

	return find_program(program, path, sizeof path) == 0;
}

int
bench_server_use_port(struct bench_server *server, int port)
{
	if (port < 1 || port > 65535)
		return bench_complain("%d: not a port", port);
	server->address.sin_family = AF_INET;
	server->address.sin_port = htons((uint16_t)port);
	snprintf(server->port, sizeof server->port, "%d", port);
	return 0;
}

static int
choose_port(struct bench_server *server)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
		bench_complain("cannot find a free port: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	close(fd);
	return bench_server_use_port(server, ntohs(a.sin_port));
}

int
bench_server_spawn(struct bench_server *server, const char *const *argv)
{
	char path[4096], *args[32];
	pid_t parent = getpid();
	size_t i;
	int fd;

	if (find_program(argv[0], path, sizeof path) != 0)
		return bench_complain("%s: not found", argv[0]);
	for (i = 0; argv[i] != NULL && i < 31; i++)
		args[i] = strdup(argv[i]);
	args[i] = NULL;
	server->pid = fork();
	if (server->pid == 0) {
		/* Its own session: a terminal's interrupt reaches it only through us. */
		setsid();
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1);
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		fd = open(server->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(open("/dev/null", O_RDWR), 0);
		dup2(fd, 1);
		dup2(fd, 2);
		execv(path, args);
		_exit(127);
	}
	while (i > 0)
		free(args[--i]);
	return server->pid > 0 ? 0 : bench_complain("fork: %s", strerror(errno));
}

/* 1 while the server runs; complains with the end of its log when it does not. */
static int
is_running(struct bench_server *server)
{
	char tail[400] = "";
	int status, fd;
	off_t size;
	ssize_t n;

	if (server->pid == 0 || waitpid(server->pid, &status, WNOHANG) == 0)
		return 1;
	server->pid = 0;
	fd = open(server->log, O_RDONLY);
	size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	n = fd >= 0 ? pread(fd, tail, sizeof tail - 1, size > 399 ? size - 399 : 0) : 0;
	tail[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
	bench_complain("%s ended (status %#x): %s", server->driver->name, (unsigned)status, tail);
	return 0;
}

int
bench_server_await_port(struct bench_server *server)
{
	int64_t end = bench_now_ns() + BENCH_WAIT_NS;
	int fd, r;

	while (bench_now_ns() < end && !bench_interrupted && is_running(server)) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = connect(fd, (const struct sockaddr *)&server->address,
		    sizeof server->address);
		close(fd);
		if (r == 0)
			return 0;
		bench_sleep_ns(TICK_NS);
	}
	return bench_complain("%s does not listen on port %s", server->driver->name,
	    server->port);
}

const char *
bench_server_await_log(struct bench_server *server, const char *text)
{
	static char content[16384];
	int64_t end = bench_now_ns() + BENCH_WAIT_NS;
	const char *at;
	ssize_t n;
	int fd;

	while (bench_now_ns() < end && !bench_interrupted && is_running(server)) {
		fd = open(server->log, O_RDONLY | O_CLOEXEC);
		n = fd >= 0 ? read(fd, content, sizeof content - 1) : 0;
		if (fd >= 0)
			close(fd);
		content[n > 0 ? n : 0] = '\0';
		at = strstr(content, text);
		if (at != NULL && strchr(at, '\n') != NULL)
			return at + strlen(text);
		bench_sleep_ns(TICK_NS);
	}
	bench_complain("%s does not say \"%s\"", server->driver->name, text);
	return NULL;
}

/* Figures of a file system in memory say nothing about a record; better none. */
static int
make_disk_dir(struct bench_server *server)
{
	const char *parent = disk_dir != NULL ? disk_dir : program_dir != NULL ? program_dir : ".";
	char path[PATH_MAX];
	struct statfs fs;

	if (realpath(parent, path) == NULL || statfs(path, &fs) != 0)
		return bench_complain("%s: %s", parent, strerror(errno));
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		return bench_complain("%s is in memory: name a directory on a disk with -D", path);
	snprintf(server->disk, sizeof server->disk, "%s/liminal-bench.%s.XXXXXX", path,
	    server->driver->name);
	if (mkdtemp(server->disk) == NULL) {
		server->disk[0] = '\0';
		return bench_complain("cannot make a directory in %s: %s", path, strerror(errno));
	}
	return 0;
}

int
bench_server_start(struct bench_server *server, const struct bench_driver *driver,
    const struct bench_options *options)
{
	memset(server, 0, sizeof *server);
	server->driver = driver;
	server->options = options;
	server->address.sin_family = AF_INET;
	server->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(server->dir, sizeof server->dir, "%s/liminal-bench.%s.XXXXXX",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", driver->name);
	if (mkdtemp(server->dir) == NULL) {
		server->dir[0] = '\0';
		return bench_complain("cannot make a directory: %s", strerror(errno));
	}
	snprintf(server->log, sizeof server->log, "%s/log", server->dir);
	if ((driver->on_disk && make_disk_dir(server) != 0) || choose_port(server) != 0 ||
	    driver->start(server) != 0) {
		bench_server_stop(server);
		return -1;
	}
	return 0;
}

/* ADDRESS is HOST:PORT, numbers only. */
int
bench_server_attach(struct bench_server *server, const struct bench_driver *driver,
    const struct bench_options *options, const char *address)
{
	const char *colon = strrchr(address, ':');
	char host[64];

	memset(server, 0, sizeof *server);
	server->driver = driver;
	server->options = options;
	if (colon == NULL || (size_t)(colon - address) >= sizeof host)
		return bench_complain("%s: not HOST:PORT", address);
	memcpy(host, address, (size_t)(colon - address));
	host[colon - address] = '\0';
	if (inet_pton(AF_INET, host, &server->address.sin_addr) != 1)
		return bench_complain("%s: not an IPv4 address", host);
	return bench_server_use_port(server, atoi(colon + 1));
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	remove(path);
	return 0;
}

void
bench_server_stop(struct bench_server *server)
{
	int64_t end = bench_now_ns() + BENCH_WAIT_NS;
	struct timespec tick = { .tv_nsec = TICK_NS };

	if (server->pid > 0) {
		kill(server->pid, SIGTERM);
		while (waitpid(server->pid, NULL, WNOHANG) == 0) {
			if (bench_now_ns() > end) {
				bench_complain("%s does not end: killed", server->driver->name);
				kill(server->pid, SIGKILL);
				end = INT64_MAX;
			}
			nanosleep(&tick, NULL);
		}
		server->pid = 0;
	}
	if (server->dir[0] != '\0')
		nftw(server->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (server->disk[0] != '\0')
		nftw(server->disk, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	server->dir[0] = server->disk[0] = '\0';
}
