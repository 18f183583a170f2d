/*
 * conf: the configuration. t/conf/NN.conf is read, and what comes of it is compared with
 * NN.ok (printed back) or NN.bad (the errors); @DIR@ there stands for the directory t/conf.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "form/conf.h"
#include "unit/conf_fixture.h"

TestSuite(conf, .init = setup, .fini = teardown);

/* TEXT with each WORD replaced by WITH; TEXT is freed. */
static char *
replace(char *text, const char *word, const char *with)
{
	char *result, *at, *from = text;
	size_t size;
	FILE *out = open_memstream(&result, &size);

	while ((at = strstr(from, word)) != NULL) {
		fwrite(from, 1, (size_t)(at - from), out);
		fputs(with, out);
		from = at + strlen(word);
	}
	fputs(from, out);
	fclose(out);
	free(text);
	return result;
}

/* TEXT, freed, with WITH in place of what stands from FROM up to TO. */
static char *
cut(char *text, const char *from, const char *to, const char *with)
{
	char *start = strstr(text, from), *end = start == NULL ? NULL : strstr(start, to), *result;

	cr_assert(ne(ptr, end, NULL), "not in: %s", text);
	*start = '\0';
	cr_assert(lt(int, 0, asprintf(&result, "%s%s%s", text, with, end)));
	free(text);
	return result;
}

static char *
expected(const char *conf_path, const char *suffix)
{
	char path[512], *dir, *text;

	snprintf(path, sizeof path, "%.*s.%s", (int)strlen(conf_path) - 5, conf_path, suffix);
	text = slurp(path);
	dir = realpath("t/conf", NULL);
	if (text != NULL)
		text = replace(text, "@DIR@", dir);
	free(dir);
	return text;
}

/* What CONF prints, read again, prints the same and has the same keys without effect. */
static void
check_round_trip(const struct conf *conf)
{
	char *first = print(conf), *second, *errors;
	struct conf again;

	cr_expect(zero(int, load(&again, write_file("again.conf", first, strlen(first), 0600), 0,
	    NULL, &errors)), "%s", errors);
	second = print(&again);
	check_text(second, first);
	cr_expect(eq(uint, again.inactive.n, conf->inactive.n));
	free(first);
	free(second);
	free(errors);
	conf_free(&again);
}

static void
check_case(const char *path)
{
	char *ok = expected(path, "ok"), *bad = expected(path, "bad"), *errors, *text;
	struct conf conf;
	int rc = load(&conf, path, 0, NULL, &errors);

	cr_expect(ne(int, ok == NULL, bad == NULL), "%s: needs one of .ok and .bad", path);
	if (ok != NULL) {
		cr_expect(zero(int, rc), "%s: %s", path, errors);
		check_text(errors, "");
		text = rc == 0 ? print(&conf) : NULL;
		if (text != NULL) {
			check_text(text, ok);
			check_round_trip(&conf);
		}
		free(text);
	}
	if (bad != NULL) {
		cr_expect(eq(int, rc, ERR_INVALID), "%s", path);
		check_text(errors, bad);
	}
	conf_free(&conf);
	free(errors);
	free(ok);
	free(bad);
}

Test(conf, cases_of_t_conf)
{
	DIR *dir = opendir("t/conf");
	struct dirent *entry;
	char path[512];
	unsigned n = 0;

	cr_assert(ne(ptr, dir, NULL), "no t/conf here: set LIMINAL_SRCDIR");
	while ((entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (len < 5 || strcmp(entry->d_name + len - 5, ".conf") != 0)
			continue;
		snprintf(path, sizeof path, "t/conf/%s", entry->d_name);
		check_case(path);
		n++;
	}
	closedir(dir);
	cr_assert(lt(uint, 10, n));
}

#define EXAMPLE_PROGRAM	"/usr/local/libexec/upper"
#define EXAMPLE_MODULE	"/usr/local/lib/liminal/exec.so"
#define EXAMPLE_SCHEMA	"schemas/orders.json"

/* The example that is installed: good as it is, and good with each key switched on. It then
 * says what the defaults say, and has each key. */
Test(conf, example_documents_every_key)
{
	char *text = slurp("conf/liminald.conf"), *line, *errors, *got, *want, *p, notifier[512];
	struct conf plain, full;

	cr_assert(ne(ptr, text, NULL));
	cr_expect(zero(int, load(&plain, "conf/liminald.conf", 0, NULL, &errors)), "%s", errors);
	free(errors);
	want = print(&plain);
	check_round_trip(&plain);
	for (line = text; line != NULL; line = (p = strchr(line, '\n')) ? p + 1 : NULL) {
		line += strspn(line, "\t");
		if (*line == '#' && line[1] != ' ' && line[1] != '\n')
			*line = ' ';
	}
	setenv("LIMINAL_AUTH_TOKEN", "in place of the file", 1);
	/* What it names need not be installed here. */
	text = replace(text, EXAMPLE_PROGRAM, "/bin/sh");
	text = replace(text, EXAMPLE_MODULE, "full.conf");
	text = replace(text, EXAMPLE_SCHEMA, "any.json");
	(void)write_file("any.json", "{}", 2, 0600);
	cr_expect(zero(int, load(&full, write_file("full.conf", text, strlen(text), 0600), 0, NULL,
	    &errors)), "%s", errors);
	free(errors);
	got = print(&full);
	got = cut(got, "channel \"orders-eu\" {", "route ", "");	/* has what the other has */
	cr_expect(zero(int, contains(got, "\n# user")));
	cr_expect(zero(int, contains(got, "\t# ")), "a key is missing: %s", got);
	cr_expect(eq(int, contains(text, "token_file = "), 1));
	got = replace(got, "user = \"liminal\"", "# user = \"\"");
	got = replace(got, "pid_file = \"/run/liminald.pid\"", "# pid_file = \"\"");
	got = replace(got, "health_listen = \"127.0.0.1:7678\"", "# health_listen = \"\"");
	got = replace(got, "responder \"upper\" {\n\texec = { \"/bin/sh\" }\n}\n",
	    "# no responder\n");
	p = strstr(got, "notifier {");
	cr_assert(ne(ptr, p, NULL));
	cr_expect(eq(int, contains(p, "full.conf\"\n\targs = { \"/usr/local/libexec/on-worker\" }\n"
	    "\ttimeout = \"1s\"\n}\n"), 1));
	snprintf(notifier, sizeof notifier, "%.*s", (int)(strstr(p, "\n}\n") + 3 - p), p);
	got = replace(got, notifier, "# no notifier\n");
	got = cut(got, "channel \"orders\" {", "dispatch {", "# no channel\n# no route\n");
	got = replace(got, "# auth: the token is from LIMINAL_AUTH_TOKEN", "# no auth: open");
	check_text(got, want);
	free(got);
	free(want);
	free(text);
	conf_free(&plain);
	conf_free(&full);
}

Test(conf, defaults)
{
	struct conf c;
	char *errors;

	cr_assert(zero(int, load(&c, "/dev/null", 0, NULL, &errors)), "%s", errors);
	cr_expect(eq(uint, c.n_listen, 1));
	check_text(c.listen[0], "127.0.0.1:7677");
	check_text(c.runtime_dir, "/run/liminald");
	cr_expect(eq(ptr, c.user, NULL));
	cr_expect(eq(ptr, c.token, NULL));
	cr_expect(eq(ptr, c.health_listen, NULL));
	cr_expect(eq(ptr, c.pid_file, NULL));
	cr_expect(eq(i64, c.drain_timeout_ns, 30 * SECOND));
	cr_expect(eq(int, c.log_level, CONF_LOG_INFO));
	cr_expect(eq(i64, c.reply_timeout_ns, 5 * SECOND));
	cr_expect(eq(int, c.fallback, CONF_FALLBACK_ECHO));
	cr_expect(eq(int, c.connection_subjects, CONF_SUBJECTS_LOCAL));
	cr_expect(eq(int, c.router, CONF_ROUTER_LEAST_LOADED));
	cr_expect(eq(u32, c.default_capacity, 1));
	cr_expect(eq(u32, c.queue_limit, 10000));
	cr_expect(eq(u32, c.max_attempts, 3));
	cr_expect(eq(i64, c.first_push_delay_ns, SECOND / 50));
	cr_expect(eq(i64, c.router_timeout_ns, SECOND));
	cr_expect(eq(ptr, c.router_module, NULL));
	cr_expect(zero(uint, c.router_args.n));
	cr_expect(eq(int, c.record, true));
	cr_expect(eq(u32, c.record_keep, 1000000));
	cr_expect(eq(i64, c.record_keep_age_ns, 30 * 86400 * SECOND));
	cr_expect(zero(uint, c.n_responders));
	cr_expect(zero(uint, c.n_channels));
	cr_expect(zero(uint, c.n_routes));
	cr_expect(eq(ptr, c.notifier_module, NULL));
	cr_expect(eq(i64, c.notifier_timeout_ns, SECOND));
	cr_expect(eq(u32, c.max_connections, 1024));
	cr_expect(eq(u32, c.max_connections_per_address, 0));
	cr_expect(eq(u32, c.max_frame_bytes, 16u << 20));
	cr_expect(eq(i64, c.handshake_timeout_ns, 10 * SECOND));
	cr_expect(eq(u32, c.max_conversations, 1024));
	cr_expect(eq(u32, c.max_subscriptions, 1024));
	cr_expect(eq(u32, c.max_pushes, 1024));
	cr_expect(eq(u64, c.outbound_bytes, 64u << 20));
	free(errors);
	conf_free(&c);
}

Test(conf, durations_and_sizes)
{
	static const struct { const char *text; int64_t ns; } durations[] = {
		{ "0s", 0 }, { "250ms", SECOND / 4 }, { "5s", 5 * SECOND }, { "010m", 600 * SECOND },
		{ "2h", 7200 * SECOND }, { "7d", 604800 * SECOND },
		{ "106751d", INT64_C(106751) * 86400 * SECOND },
	};
	static const struct { const char *text; uint64_t bytes; } sizes[] = {
		{ "0", 0 }, { "512", 512 }, { "64K", 65536 }, { "16M", 16u << 20 },
		{ "1G", 1u << 30 }, { "17179869183G", UINT64_C(17179869183) << 30 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const not_durations[] = {
		"", "5", "s", "-5s", "+5s", " 5s", "5 s", "5s ", "5S", "1.5s", "5us", "5sec", "0x5s",
		"106752d", "9223372036855s", "99999999999999999999ms",
	};
	static const char *const not_sizes[] = {
		"", "K", "-1", "+1", " 1", "1 K", "1k", "1KB", "1.5M", "1T", "0x10",
		"17179869184G", "18446744073709551616",
	};
	uint64_t bytes;
	int64_t ns;
	size_t i;

	for (i = 0; i < sizeof durations / sizeof durations[0]; i++) {
		ns = -1;
		cr_expect(zero(int, conf_parse_duration(durations[i].text, &ns)));
		cr_expect(eq(i64, ns, durations[i].ns), "%s", durations[i].text);
	}
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		bytes = 1;
		cr_expect(zero(int, conf_parse_size(sizes[i].text, &bytes)));
		cr_expect(eq(u64, bytes, sizes[i].bytes), "%s", sizes[i].text);
	}
	for (i = 0; i < sizeof not_durations / sizeof not_durations[0]; i++)
		cr_expect(eq(int, conf_parse_duration(not_durations[i], &ns), ERR_INVALID), "\"%s\"",
		    not_durations[i]);
	for (i = 0; i < sizeof not_sizes / sizeof not_sizes[0]; i++)
		cr_expect(eq(int, conf_parse_size(not_sizes[i], &bytes), ERR_INVALID), "\"%s\"",
		    not_sizes[i]);
}

/* Defaults, file, environment, -o: each wins over the ones before it. */
Test(conf, precedence)
{
	static const char text[] = "listen = { \"a:1\", \"a:2\" }\ndrain_timeout = \"1s\"\n"
	    "runtime_dir = \"from-file\"\nlog_level = \"debug\"\n";
	char *const overrides[] = { (char[]){ "drain_timeout=7s" },
	    (char[]){ "drain_timeout = 8s" } };
	char want[1024], *errors, *cwd = getcwd(NULL, 0);
	const char *file = write_file("p.conf", text, strlen(text), 0600);
	struct conf c;

	cr_assert(zero(int, load(&c, file, 0, NULL, &errors)), "%s", errors);
	cr_expect(eq(uint, c.n_listen, 2));
	cr_expect(eq(i64, c.drain_timeout_ns, SECOND));
	snprintf(want, sizeof want, "%s/from-file", scratch);
	check_text(c.runtime_dir, want);
	conf_free(&c);
	free(errors);

	setenv("LIMINAL_LISTEN", "b:1, unix:s ,[::1]:0", 1);
	setenv("LIMINAL_DRAIN_TIMEOUT", "2s", 1);
	setenv("LIMINAL_RUNTIME_DIR", "./from-environment", 1);
	setenv("LIMINAL_PERSIST_DIR", "/p", 1);
	setenv("LIMINAL_HEALTH_LISTEN", "h:1", 1);
	cr_assert(zero(int, load(&c, file, 0, NULL, &errors)), "%s", errors);
	cr_expect(eq(uint, c.n_listen, 3));
	check_text(c.listen[0], "b:1");
	snprintf(want, sizeof want, "unix:%s/s", cwd);
	check_text(c.listen[1], want);
	check_text(c.listen[2], "[::1]:0");
	cr_expect(eq(i64, c.drain_timeout_ns, 2 * SECOND));
	snprintf(want, sizeof want, "%s/from-environment", cwd);
	check_text(c.runtime_dir, want);
	check_text(c.persist_dir, "/p");
	check_text(c.health_listen, "h:1");
	cr_expect(eq(int, c.log_level, CONF_LOG_DEBUG));
	conf_free(&c);
	free(errors);

	cr_assert(zero(int, load(&c, file, 2, overrides, &errors)), "%s", errors);
	cr_expect(eq(i64, c.drain_timeout_ns, 8 * SECOND));
	cr_expect(eq(uint, c.n_listen, 3));
	conf_free(&c);
	free(errors);
	free(cwd);
}

Test(conf, override_forms)
{
	static const struct { const char *text; unsigned n; const char *last; } listens[] = {
		{ "listen=127.0.0.1:0", 1, "127.0.0.1:0" },
		{ "listen=a:1,b:2", 2, "b:2" },
		{ "listen = {\"a:1\", 'b:2', [::1]:3}", 3, "[::1]:3" },
		{ "listen=\"a:1\",\"b:2\"", 2, "b:2" },
		{ "listen=unix:/tmp/a#b+c", 1, "unix:/tmp/a#b+c" },
	};
	char text[128], *errors;
	char *const overrides[] = { text };
	struct conf c;
	size_t i;

	for (i = 0; i < sizeof listens / sizeof listens[0]; i++) {
		snprintf(text, sizeof text, "%s", listens[i].text);
		cr_assert(zero(int, load(&c, "/dev/null", 1, overrides, &errors)), "%s: %s", text,
		    errors);
		cr_assert(eq(uint, c.n_listen, listens[i].n), "%s", text);
		check_text(c.listen[c.n_listen - 1], listens[i].last);
		conf_free(&c);
		free(errors);
	}
	snprintf(text, sizeof text, "user=\"with space\"");
	cr_expect(eq(int, load(&c, "/dev/null", 1, overrides, &errors), ERR_INVALID));
	check_text(errors, "-o user: \"with space\" is not the name of a user\n");
	conf_free(&c);
	free(errors);
	snprintf(text, sizeof text, "limits.connections=7");
	cr_expect(zero(int, load(&c, "/dev/null", 1, overrides, &errors)));
	cr_expect(eq(u32, c.max_connections, 7));
	conf_free(&c);
	free(errors);
}

/* What others are given: absolute paths, and lists that end as execv wants them to. */
Test(conf, sections_as_they_are_used)
{
	char *errors, *dir = realpath("t/conf", NULL), want[1024];
	struct conf c;

	cr_assert(zero(int, load(&c, "t/conf/01.conf", 0, NULL, &errors)), "%s", errors);
	cr_assert(eq(uint, c.n_responders, 2));
	check_text(c.responders[0].subject, "upper");
	cr_assert(eq(uint, c.responders[0].exec.n, 3));
	check_text(c.responders[0].exec.texts[0], "/bin/sh");
	check_text(c.responders[0].exec.texts[2], "exec upper --port");
	cr_expect(eq(ptr, c.responders[0].exec.texts[3], NULL));
	check_text(c.responders[1].subject, "a b.c");
	snprintf(want, sizeof want, "%s/../tools/check-layers", dir);
	check_text(c.responders[1].exec.texts[0], want);
	snprintf(want, sizeof want, "%s/01.ok", dir);
	check_text(c.notifier_module, want);
	cr_assert(eq(uint, c.notifier_args.n, 2));
	check_text(c.notifier_args.texts[1], "--tap=orders");
	cr_expect(eq(ptr, c.notifier_args.texts[2], NULL));
	cr_expect(eq(i64, c.notifier_timeout_ns, 60 * SECOND));
	cr_expect(eq(int, c.router, CONF_ROUTER_MODULE));
	check_text(c.router_module, want);
	cr_assert(eq(uint, c.router_args.n, 2));
	check_text(c.router_args.texts[1], "");
	cr_expect(eq(i64, c.router_timeout_ns, SECOND / 100));
	cr_expect(eq(u32, c.record_keep, 1000000000));
	cr_expect(eq(i64, c.record_keep_age_ns, 3650 * 86400 * SECOND));
	free(dir);
	free(errors);
	conf_free(&c);
}

/* What TEXT with OVERRIDES prints, or the errors. To be freed. */
static char *
print_or_errors(const char *text, unsigned n, char *const *overrides)
{
	char *errors, *result;
	struct conf c;
	int rc = load(&c, write_file("n.conf", text, strlen(text), 0600), n, overrides, &errors);

	result = errors;
	if (rc == 0) {
		check_round_trip(&c);
		result = print(&c);
		free(errors);
	}
	conf_free(&c);
	return result;
}

/* One value may make a section that the file does not have, if with it it is whole. */
Test(conf, override_makes_a_section)
{
	static const char in_file[] = "notifier { module = n.conf timeout = 2s args = { a } }";
	char *const module = (char[]){ "notifier.module=/bin/sh" };
	char *const timeout = (char[]){ "notifier.timeout=3s" };
	char *const args = (char[]){ "notifier.args=x, y z" };
	char *const list = (char[]){ "notifier.args={ 'x, y' }" };
	char *const none = (char[]){ "notifier.args={}" };
	const struct { const char *file; char *overrides[3]; const char *want; } cases[] = {
		{ "", { module }, "notifier {\n\tmodule = \"/bin/sh\"\n\targs = { }\n"
		    "\ttimeout = \"1s\"\n}\n" },
		{ "", { args, module, timeout }, "notifier {\n\tmodule = \"/bin/sh\"\n"
		    "\targs = { \"x\", \"y z\" }\n\ttimeout = \"3s\"\n}\n" },
		{ "notifier { }", { module, list }, "notifier {\n\tmodule = \"/bin/sh\"\n"
		    "\targs = { \"x, y\" }\n\ttimeout = \"1s\"\n}\n" },
		{ in_file, { module, none }, "notifier {\n\tmodule = \"/bin/sh\"\n"
		    "\targs = { }\n\ttimeout = \"2s\"\n}\n" },
		{ "", { timeout }, "-o notifier.timeout: there is no section 'notifier', which "
		    "needs module (the shared object that is to be notified)\n" },
		{ "", { args }, "-o notifier.args: there is no section 'notifier', which "
		    "needs module (the shared object that is to be notified)\n" },
		{ "", { (char[]){ "notifier.module=" } }, "-o notifier.module: the path is empty\n" },
		{ "", { (char[]){ "notifier.module=/" } }, "-o notifier.module: /: not a regular "
		    "file\n" },
		{ "", { (char[]){ "dispatch.router_args=a" } }, "-o dispatch.router_args: the "
		    "router \"least_loaded\" takes no arguments\n" },
		{ "dispatch { router_args = { a } }",
		    { (char[]){ "dispatch.router=/bin/sh" } }, "# no notifier\n" },
	};
	char *got;
	unsigned n;
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		for (n = 0; n < 3 && cases[i].overrides[n] != NULL; n++)
			continue;
		got = print_or_errors(cases[i].file, n, cases[i].overrides);
		if (*cases[i].want == '-')
			check_text(got, cases[i].want);
		else
			cr_expect(eq(int, contains(got, cases[i].want), 1), "%s", got);
		free(got);
	}
}

/* A program that nobody may execute is found when the configuration is checked. */
Test(conf, files_of_sections_are_checked)
{
	static const char text[] = "responder x { exec = { file } }\n";
	char *errors;
	struct conf c;

	(void)write_file("file", "", 0, 0600);
	cr_expect(eq(int, load(&c, write_file("x.conf", text, strlen(text), 0600), 0, NULL,
	    &errors), ERR_INVALID));
	cr_expect(eq(int, contains(errors, "x.conf:1: responder \"x\": exec: /"), 1), "%s",
	    errors);
	cr_expect(eq(int, contains(errors, "/file: Permission denied"), 1), "%s", errors);
	conf_free(&c);
	free(errors);
	(void)write_file("file", "", 0, 0700);
	cr_expect(zero(int, load(&c, write_file("x.conf", text, strlen(text), 0600), 0, NULL,
	    &errors)), "%s", errors);
	conf_free(&c);
	free(errors);
}

/* Any number of sections; each is found again. */
Test(conf, many_responders)
{
	char *text, *errors;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct conf c;
	int i;

	for (i = 0; i < 500; i++)
		fprintf(out, "responder \"r%d\" { exec = { \"/bin/sh\", \"%d\" } }\n", i, i);
	fclose(out);
	cr_assert(zero(int, load(&c, write_file("many.conf", text, size, 0600), 0, NULL,
	    &errors)), "%s", errors);
	cr_assert(eq(uint, c.n_responders, 500));
	check_text(c.responders[499].subject, "r499");
	check_text(c.responders[499].exec.texts[1], "499");
	free(text);
	free(errors);
	conf_free(&c);
}

/* Errors of all sources at once, the ones of the file first. */
Test(conf, errors_of_every_source)
{
	static const char text[] = "user = \"a b\"\ndrain_timeout = \"replaced, not looked at\"\n"
	    "unknown = 1\n";
	char *const overrides[] = { (char[]){ "litsen=1" }, (char[]){ "log_level=loud" },
	    (char[]){ "user" }, (char[]){ "limits=1" }, (char[]){ "channel=1" },
	    (char[]){ "route.x.from=a" }, (char[]){ "responder=x" },
	    (char[]){ "responder.exec=/bin/cat" }, (char[]){ "responder.a.exec=/bin/cat" },
	    (char[]){ "limits.nothing=1" },
	    (char[]){ "runtime_dir={\"a\"}" }, (char[]){ "pid_file=\"a" }, (char[]){ "" } };
	static const char want[] =
	    "%s:1: user: \"a b\" is not the name of a user\n"
	    "%s:3: unknown key 'unknown'\n"
	    "LIMINAL_LISTEN: \"\": not an address: host:port, [v6]:port or unix:/path\n"
	    "LIMINAL_DRAIN_TIMEOUT: \"5\" is not a duration such as \"250ms\", \"5s\", \"10m\", "
	    "\"2h\" or \"7d\"\n"
	    "LIMINAL_AUTH_TOKEN: the token is empty\n"
	    "-o litsen: unknown key\n"
	    "-o user: KEY=VALUE is expected\n"
	    "-o limits: a section; name one of its keys as SECTION.KEY\n"
	    "-o channel: a section with titles can only be set in the file\n"
	    "-o route.x.from: a section with titles can only be set in the file\n"
	    "-o responder: a section with titles can only be set in the file\n"
	    "-o responder.exec: a section with titles can only be set in the file\n"
	    "-o responder.a.exec: a section with titles can only be set in the file\n"
	    "-o limits.nothing: unknown key\n"
	    "-o runtime_dir: not a value: {\"a\"}\n"
	    "-o pid_file: not a value: \"a\n"
	    "-o : KEY=VALUE is expected\n"
	    "-o log_level: \"loud\" is not \"error\", \"warn\", \"info\" or \"debug\"\n";
	const char *file = write_file("e.conf", text, strlen(text), 0600);
	char *errors, *expect;
	struct conf c;

	setenv("LIMINAL_DRAIN_TIMEOUT", "5", 1);
	setenv("LIMINAL_AUTH_TOKEN", "", 1);
	setenv("LIMINAL_LISTEN", "", 1);
	cr_expect(eq(int, load(&c, file, sizeof overrides / sizeof overrides[0], overrides, &errors),
	    ERR_INVALID));
	expect = replace(strdup(want), "%s", file);
	check_text(errors, expect);
	free(expect);
	free(errors);
	conf_free(&c);
}

/* Load a file whose auth section names TOKEN_FILE; nothing may show the token. */
static int
load_token(struct conf *c, const char *token_file, char **errors)
{
	char text[1024], path[512], *printed;
	int rc;

	snprintf(path, sizeof path, "%s", token_file);
	snprintf(text, sizeof text, "\nauth { token_file = \"%s\" }\n", path);
	rc = load(c, write_file("auth.conf", text, strlen(text), 0600), 0, NULL, errors);
	cr_expect(zero(int, contains(*errors, "s3cret")));
	if (rc == 0) {
		printed = print(c);
		cr_expect(zero(int, contains(printed, "s3cret")));
		free(printed);
		check_round_trip(c);
	}
	return rc;
}

static void
check_token(const char *bytes, size_t len, mode_t mode, const char *token, const char *complaint)
{
	char *errors;
	struct conf c;

	(void)write_file("token", bytes, len, mode);
	cr_expect(eq(int, load_token(&c, "token", &errors), complaint == NULL ? 0 : ERR_INVALID),
	    "%s", errors);
	if (complaint == NULL) {
		cr_assert(eq(sz, c.token_len, strlen(token)));
		cr_expect(zero(int, memcmp(c.token, token, c.token_len)));
	} else {
		cr_expect(eq(int, contains(errors, "auth.conf:2: auth.token_file: /"), 1), "%s",
		    errors);
		cr_expect(eq(int, contains(errors, complaint), 1), "%s", errors);
	}
	conf_free(&c);
	free(errors);
}

Test(conf, token_file)
{
	char big[4098], want[4097];

	memset(big, 'x', sizeof big);
	memset(want, 'x', sizeof want);
	want[4096] = '\0';
	check_token("s3cret", 6, 0600, "s3cret", NULL);
	check_token("s3cret\n", 7, 0640, "s3cret", NULL);
	check_token("s3cret\r\n\n", 9, 0400, "s3cret\r\n", NULL);
	check_token("", 0, 0600, NULL, "/token: the token is empty");
	check_token("\n", 1, 0600, NULL, "/token: the token is empty");
	check_token("s3cret", 6, 0644, NULL, "/token: everybody may read or write the token: chmod");
	check_token("s3cret", 6, 0602, NULL, "chmod o-rw");
	check_token(big, 4096, 0600, want, NULL);
	check_token(big, 4097, 0600, NULL, "/token: the token is longer than 4096 bytes");
	check_token(big, 4098, 0600, NULL, "/token: the token is longer than 4096 bytes");
	big[4096] = '\n';
	check_token(big, 4097, 0600, want, NULL);
}

Test(conf, token_of_the_environment)
{
	char big[4098], *errors, *printed;
	struct conf c;

	/* The file is then not read, and an auth section may be without one. */
	setenv("LIMINAL_AUTH_TOKEN", "s3cret\n", 1);
	cr_expect(zero(int, load_token(&c, "nowhere", &errors)), "%s", errors);
	cr_assert(eq(sz, c.token_len, 7));
	cr_expect(eq(ptr, c.token_file, NULL));
	check_text(getenv("LIMINAL_AUTH_TOKEN"), "s3cret\n");
	conf_free(&c);
	free(errors);
	cr_expect(zero(int, load(&c, "t/conf/02.conf", 0, NULL, &errors)), "%s", errors);
	printed = print(&c);
	cr_expect(eq(int, contains(printed, "# auth: the token is from LIMINAL_AUTH_TOKEN\n"), 1));
	free(printed);
	conf_free(&c);
	free(errors);

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	setenv("LIMINAL_AUTH_TOKEN", big, 1);
	cr_expect(eq(int, load(&c, "/dev/null", 0, NULL, &errors), ERR_INVALID));
	check_text(errors, "LIMINAL_AUTH_TOKEN: the token is longer than 4096 bytes\n");
	conf_free(&c);
	free(errors);
}

Test(conf, files_that_cannot_be_read)
{
	static char big[1024 * 1024 + 1];
	char *errors;
	struct conf c;

	cr_expect(eq(int, load(&c, "no/such.conf", 0, NULL, &errors), ERR_INVALID));
	check_text(errors, "no/such.conf: No such file or directory\n");
	conf_free(&c);
	free(errors);
	cr_expect(eq(int, load(&c, "t/conf", 0, NULL, &errors), ERR_INVALID));
	check_text(errors, "t/conf: Is a directory\n");
	conf_free(&c);
	free(errors);
	cr_expect(eq(int, load(&c, write_file("nul.conf", "user\0=", 6, 0600), 0, NULL, &errors),
	    ERR_INVALID));
	cr_expect(eq(int, contains(errors, "nul.conf: not a text file"), 1));
	conf_free(&c);
	free(errors);
	memset(big, '\n', sizeof big);
	cr_expect(eq(int, load(&c, write_file("big.conf", big, sizeof big, 0600), 0, NULL, &errors),
	    ERR_INVALID));
	cr_expect(eq(int, contains(errors, "big.conf: longer than"), 1));
	conf_free(&c);
	free(errors);
}

/* Every beginning of a good and of a bad file, and each with a byte changed, is read without
 * harm, and never taken for good while something was said about it. */
Test(conf, mutilated_files)
{
	static const char *const files[] = { "t/conf/01.conf", "t/conf/03.conf", "t/conf/04.conf",
	    "t/conf/05.conf", "t/conf/10.conf", "t/conf/12.conf", "t/conf/19.conf",
	    "t/conf/23.conf" };
	static const char bytes[] = "{}=\"'\\#,+*\n$/(";
	char *text, *errors;
	struct conf c;
	size_t i, n, len;
	int rc;

	for (i = 0; i < sizeof files / sizeof files[0]; i++) {
		text = slurp(files[i]);
		cr_assert(ne(ptr, text, NULL));
		len = strlen(text);
		for (n = 0; n < 2 * len; n++) {
			char kept = text[n % len];

			if (n >= len)
				text[n % len] = bytes[n % (sizeof bytes - 1)];
			rc = load(&c, write_file("m.conf", text, n < len ? n : len, 0600), 0, NULL,
			    &errors);
			cr_expect(eq(int, rc == 0, *errors == '\0'));
			text[n % len] = kept;
			conf_free(&c);
			free(errors);
		}
		free(text);
	}
}

static char inactive[512];

static void
note_inactive(const char *key)
{
	snprintf(inactive + strlen(inactive), sizeof inactive - strlen(inactive), "%s ", key);
}

Test(conf, keys_without_effect_are_named)
{
	char *errors;
	struct conf c;

	cr_assert(zero(int, load(&c, "t/conf/02.conf", 0, NULL, &errors)));
	conf_each_inactive(&c, note_inactive);
	check_text(inactive, "");
	conf_free(&c);
	free(errors);
	cr_assert(zero(int, load(&c, "t/conf/01.conf", 0, NULL, &errors)));
	conf_each_inactive(&c, note_inactive);
	check_text(inactive, "health_listen pid_file ");
	conf_free(&c);
	free(errors);
}
