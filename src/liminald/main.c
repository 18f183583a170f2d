/*
 * liminald: options, configuration, and the way to a running master.
 *
 * The order matters: the locks before what they protect is changed, the addresses before the
 * privileges are dropped, the environments before the first fork.
 */
#include <malloc.h>
#include <sys/types.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "form/conf.h"
#include "liminald/limits.h"
#include "liminald/master.h"
#include "os/dirlock.h"
#include "os/process.h"
#include "os/rundir.h"
#include "os/user.h"
#include "role/role.h"
#include "state/channels.h"
#include "state/state.h"
#include "state/store.h"

#define MAIN_OVERRIDES_MAX 64
#define MAIN_MMAP_THRESHOLD (128 * 1024)	/* bytes; the C library's initial value */

struct main_options {
	int foreground, check_only, version, help;
	const char *file;
	char *overrides[MAIN_OVERRIDES_MAX];
	unsigned n_overrides;
};

static const struct master_roles main_roles = {
	.connection = connection_main,
	.keeper = keeper_main,
	.store = store_main,
	.notifier = notifier_main,
	.router = router_main,
};

static const char main_usage[] =
    "usage: liminald -f [-c FILE] [-o KEY=VALUE]...\n"
    "       liminald -t [-c FILE] [-o KEY=VALUE]...\n"
    "       liminald -V | -h\n"
    "  -f            run in the foreground, log to standard error\n"
    "  -c FILE       configuration (default " CONF_DEFAULT_FILE ")\n"
    "  -t            check the configuration and exit\n"
    "  -o KEY=VALUE  override one top-level key; repeatable\n"
    "  -V            print the version\n"
    "  -h            print this\n";

static int
main_parse(struct main_options *options, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "+fc:to:Vh")) != -1) {
		switch (c) {
		case 'f':
			options->foreground = 1;
			break;
		case 'c':
			options->file = optarg;
			break;
		case 't':
			options->check_only = 1;
			break;
		case 'o':
			if (options->n_overrides == MAIN_OVERRIDES_MAX) {
				fprintf(stderr, "liminald: more than %d times -o\n",
				    MAIN_OVERRIDES_MAX);
				return -1;
			}
			options->overrides[options->n_overrides++] = optarg;
			break;
		case 'V':
			options->version = 1;
			break;
		case 'h':
			options->help = 1;
			break;
		default:
			return -1;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "liminald: %s: unexpected argument\n", argv[optind]);
		return -1;
	}
	return 0;
}

static void
main_warn_inactive(const char *key)
{
	log_warnx("configuration key=%s has no effect in this version", key);
}

/* Whom to become; *USER stays untouched and 0 is returned when that is nobody else. */
static int
main_find_user(const struct conf *conf, struct user *user, struct err *err)
{
	if (geteuid() != 0) {
		if (conf->user != NULL)
			log_debug("user=%s ignored: not started as root", conf->user);
		return 0;
	}
	if (conf->user == NULL) {
		log_warnx("running as root: set user to the account that liminald shall use");
		return 0;
	}
	return user_find(user, conf->user, err);
}

/* The locks that are ours; -1 = we do not have it. */
struct main_locks {
	int runtime_fd, persist_fd;
};

/* The environments, as the user that we are for good. */
static int
main_create_environments(struct master *master, const struct conf *conf,
    struct main_locks *locks, struct err *err)
{
	uint32_t n = slots_needed(conf->max_connections);
	bool needs_store = conf_needs_store(conf);
	int rc;

	if (needs_store) {
		rc = rundir_open_persistent(conf->persist_dir, &locks->persist_fd, err);
		if (rc != 0)
			return rc;
		process_keep_lock(&master->family, locks->persist_fd);
	}
	rc = state_create(conf->runtime_dir, n, err);
	if (rc == 0)
		rc = channels_create(conf->runtime_dir, conf, err);
	if (rc == 0 && needs_store)
		rc = store_create(conf->persist_dir, n, err);
	return rc;
}

/* Everything that can fail because of where we are; nothing has been forked yet. */
static int
main_prepare(struct master *master, const struct conf *conf, struct main_locks *locks,
    struct err *err)
{
	struct user user = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	int rc;

	rc = main_find_user(conf, &user, err);
	if (rc != 0)
		return rc;
	rc = rundir_open(conf->runtime_dir, user.uid, user.gid, &locks->runtime_fd, err);
	if (rc != 0)
		return rc;
	rc = master_init(master, conf, &main_roles, err);
	if (rc != 0)
		return rc;
	process_keep_lock(&master->family, locks->runtime_fd);
	rc = master_listen(master, err);
	if (rc != 0)
		return rc;
	process_shun_oom_killer(&master->family);
	if (user.uid != (uid_t)-1) {
		rc = user_become(&user, err);
		if (rc != 0)
			return rc;
	}
	limits_check(conf->max_connections);
	return main_create_environments(master, conf, locks, err);
}

static int
main_run(const struct conf *conf)
{
	static struct master master;
	struct err err = { 0 };
	struct main_locks locks = { -1, -1 };
	int status;

	if (main_prepare(&master, conf, &locks, &err) != 0) {
		log_errorx("%s", err.text);
		status = MASTER_EXIT_ENVIRONMENT;
	} else if (master_start(&master, &err) != 0) {
		log_errorx("%s", err.text);
		status = MASTER_EXIT_INTERNAL;
	} else {
		/* What starting up has freed would be sorted again by each child, page by page. */
		malloc_trim(0);
		status = master_run(&master);
	}
	master_fini(&master);
	if (locks.persist_fd != -1)
		dirlock_close(locks.persist_fd);
	if (locks.runtime_fd != -1)
		dirlock_close(locks.runtime_fd);
	return status;
}

int
main(int argc, char **argv, char **envp)
{
	struct main_options options = { 0 };
	struct conf_source source;
	struct conf conf;
	int status;

	process_init_title(argc, argv, envp);
	/* Fixed, or it grows with use, and LMDB's megabytes of mostly untouched lists would come
	 * from the heap of each child and be zeroed there: 130 KiB for each connection. */
	mallopt(M_MMAP_THRESHOLD, MAIN_MMAP_THRESHOLD);
	if (process_fill_standard_fds() == -1)
		return MASTER_EXIT_INTERNAL;
	if (main_parse(&options, argc, argv) == -1) {
		fputs(main_usage, stderr);
		return MASTER_EXIT_USAGE;
	}
	if (options.help || options.version) {
		fputs(options.help ? main_usage : "liminald " LIMINAL_VERSION "\n", stdout);
		return fflush(stdout) == 0 ? MASTER_EXIT_OK : MASTER_EXIT_INTERNAL;
	}
	if (!options.foreground && !options.check_only) {
		fputs("liminald: daemon mode is not in this version; let a supervisor run "
		    "\"liminald -f\"\n", stderr);
		return MASTER_EXIT_USAGE;
	}
	source = (struct conf_source){ .file = options.file, .overrides = options.overrides,
	    .n_overrides = options.n_overrides };
	if (conf_load(&conf, &source, stderr) != 0) {
		conf_free(&conf);
		return MASTER_EXIT_CONFIGURATION;
	}
	status = MASTER_EXIT_OK;
	if (!options.check_only) {
		log_set_level((enum log_level)conf.log_level);
		log_set_name("master");
		process_set_title("master");
		conf_each_inactive(&conf, main_warn_inactive);
		status = main_run(&conf);
	}
	conf_free(&conf);
	return status;
}
