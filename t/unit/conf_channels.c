/* conf_channels: channels and routes of the configuration, as the rest of the daemon gets them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "base/err.h"
#include "base/hash.h"
#include "unit/conf_fixture.h"

TestSuite(conf_channels, .init = setup, .fini = teardown);

/* The number of the channel that is found by NAME, or -1. */
static int
find(const struct conf *conf, const char *name, size_t len)
{
	const struct conf_channel *channel = conf_channel_find(conf, name, len);

	return channel == NULL ? -1 : (int)(channel - conf->channels);
}

/* A channel with nothing said but its name. */
static void
check_plain_channel(const struct conf_channel *channel)
{
	uint8_t id[HASH_SCHEMA_ID_SIZE];

	hash_schema_id("{}", 2, id);
	cr_expect(zero(int, channel->durable));
	cr_expect(eq(ptr, channel->schema_file, NULL));
	cr_expect(eq(ptr, channel->schema, NULL));
	cr_expect(zero(int, memcmp(channel->schema_id, id, sizeof id)));
	cr_expect(zero(u64, channel->keep_messages));
	cr_expect(eq(u64, channel->keep_bytes, 64u << 20));
	cr_expect(zero(i64, channel->keep_age_ns));
	cr_expect(eq(i64, channel->dedup_window_ns, 600 * SECOND));
	cr_expect(eq(u64, channel->dedup_keys, 1000000));
	cr_expect(eq(i64, channel->redelivery_delay_ns, SECOND));
}

Test(conf_channels, channels_as_they_are_used)
{
	char *errors, *schema = realpath("t/conf/schemas/order.json", NULL), *text = slurp(schema);
	const struct conf_channel *orders, *audit;
	uint8_t id[HASH_SCHEMA_ID_SIZE];
	struct conf c;

	cr_assert(zero(int, load(&c, "t/conf/05.conf", 0, NULL, &errors)), "%s", errors);
	cr_assert(eq(uint, c.n_channels, 5));
	orders = &c.channels[0];
	audit = &c.channels[1];
	cr_assert(zero(int, find(&c, "orders!", 6)));
	check_text(orders->name, "orders");
	cr_expect(eq(sz, orders->name_len, 6));
	cr_expect(eq(int, orders->durable, true));
	check_text(orders->schema_file, schema);
	cr_expect(ne(ptr, orders->schema, NULL));
	hash_schema_id(text, strlen(text), id);
	cr_expect(zero(int, memcmp(orders->schema_id, id, sizeof id)));
	cr_expect(eq(u64, orders->keep_messages, 100000));
	cr_expect(eq(u64, orders->keep_bytes, 1u << 30));
	cr_expect(eq(i64, orders->keep_age_ns, 7 * 86400 * SECOND));
	cr_expect(eq(i64, orders->dedup_window_ns, 3600 * SECOND));
	cr_expect(eq(u64, orders->dedup_keys, 1000));
	cr_expect(eq(i64, orders->redelivery_delay_ns, SECOND / 4));
	cr_assert(eq(int, find(&c, "audit", 5), 1));
	check_plain_channel(audit);
	cr_expect(eq(int, find(&c, "audi", 4), -1));
	cr_expect(eq(int, find(&c, "audit\0", 6), -1));
	cr_expect(eq(int, find(&c, "Audit", 5), -1));
	cr_expect(eq(int, find(&c, "", 0), -1));
	cr_expect(eq(int, find(&c, " größer \"als\"\n $1", 19), 4));
	cr_assert(eq(uint, c.n_routes, 7));
	check_text(c.routes[0].name, "big-eu");
	cr_expect(zero(uint, c.routes[0].from));
	cr_expect(eq(uint, c.routes[0].to, 1));
	cr_expect(ne(ptr, c.routes[0].predicate, NULL));
	cr_expect(eq(ptr, c.routes[1].when, NULL));
	cr_expect(eq(ptr, c.routes[1].predicate, NULL));
	cr_assert(eq(uint, orders->n_routes, 3));
	cr_expect(zero(uint, orders->routes[0]));
	cr_expect(eq(uint, orders->routes[1], 1));
	cr_expect(eq(uint, orders->routes[2], 2));
	cr_assert(eq(uint, audit->n_routes, 1));
	cr_expect(eq(uint, audit->routes[0], 6));
	free(text);
	free(schema);
	free(errors);
	conf_free(&c);
}

/* What is said of the channels of TEXT: S that the store writes them, P that they are parsed, each channel
 * a letter, or a dot. To be freed. */
static char *
channel_marks(const char *text, int *needs_store)
{
	char *errors, *marks;
	struct conf c;
	unsigned i;

	cr_assert(zero(int, load(&c, write_file("marks.conf", text, strlen(text), 0600), 0, NULL,
	    &errors)), "%s", errors);
	marks = calloc(c.n_channels + 1, 2);
	for (i = 0; i < c.n_channels; i++) {
		marks[2 * i] = c.channels[i].is_by_store ? 'S' : '.';
		marks[2 * i + 1] = c.channels[i].is_parsed ? 'P' : '.';
	}
	*needs_store = conf_needs_store(&c);
	free(errors);
	conf_free(&c);
	return marks;
}

/* What routes mean for the channels before them, however far; not for those behind. */
Test(conf_channels, routes_reach)
{
	static const char unrecorded[] = "dispatch { record = false }\n";
	static const struct { const char *text, *marks; int needs_store; } cases[] = {
		{ "", "", 0 },
		{ "channel a {} channel b {}", "....", 0 },
		{ "channel a { durable = true } channel b {}", "S...", 1 },
		{ "channel a {} channel b { durable = true } channel c {} channel d {}\n"
		    "route x { from = a to = b } route y { from = b to = c }\n"
		    "route z { from = d to = a }", "S.S...S.", 1 },
		{ "channel a {} channel b { schema = s.json } channel c {} channel d {}\n"
		    "route x { from = a to = b } route y { from = b to = c }\n"
		    "route z { from = d to = a }", ".P.P...P", 0 },
		{ "channel a {} channel b {} channel c {} channel d {}\n"
		    "route x { from = b to = c when = 'a == 1' } route z { from = a to = b }\n"
		    "route y { from = d to = c }", ".P.P....", 0 },
		{ "channel a {} channel b {} channel c { durable = yes }\n"
		    "route x { from = a to = b } route y { from = a to = c when = 'exists(q)' }\n"
		    "route z { from = b to = c }", "SPS.S.", 1 },
	};
	char text[1024], *marks;
	int needs_store;
	size_t i;

	(void)write_file("s.json", "{}", 2, 0600);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		snprintf(text, sizeof text, "%s%s", unrecorded, cases[i].text);
		marks = channel_marks(text, &needs_store);
		check_text(marks, cases[i].marks);
		cr_expect(eq(int, needs_store, cases[i].needs_store), "%s", text);
		free(marks);
	}
	free(channel_marks("", &needs_store));
	cr_expect(eq(int, needs_store, 1), "the record needs the store");
}

Test(conf_channels, none)
{
	char *errors;
	struct conf c;

	cr_assert(zero(int, load(&c, "/dev/null", 0, NULL, &errors)), "%s", errors);
	cr_expect(eq(int, find(&c, "a", 1), -1));
	free(errors);
	conf_free(&c);
}

/* A long row of channels, each found again, and that it is none when its ends are joined. */
Test(conf_channels, many_channels)
{
	const int n = 2000;
	char *text, *errors, name[32], end[300];
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *file;
	struct conf c;
	int i;

	for (i = 0; i < n; i++)
		fprintf(out, "channel \"c%d\" { durable = %s }\n", i, i == n - 1 ? "yes" : "no");
	for (i = 1; i < n; i++)
		fprintf(out, "route \"r%d\" { from = \"c%d\" to = \"c%d\" }\n", i, i - 1, i);
	fflush(out);
	file = write_file("many.conf", text, size, 0600);
	cr_assert(zero(int, load(&c, file, 0, NULL, &errors)), "%s", errors);
	cr_assert(eq(int, (int)c.n_channels, n));
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof name, "c%d", i);
		cr_assert(eq(int, find(&c, name, strlen(name)), i));
		cr_assert(eq(int, c.channels[i].is_by_store, true));
	}
	free(errors);
	conf_free(&c);

	fprintf(out, "route \"back\" { from = \"c%d\" to = \"c0\" }\n", n - 1);
	fclose(out);
	cr_assert(eq(int, load(&c, write_file("many.conf", text, size, 0600), 0, NULL, &errors),
	    ERR_INVALID));
	snprintf(end, sizeof end, "\"r15\", \"r16\" and %d more\n", n - 16);
	cr_expect(eq(int, contains(errors, "route \"back\" closes a cycle that begins and ends at "
	    "channel \"c0\": the routes \"r1\", \"r2\", "), 1), "%s", errors);
	cr_expect(eq(int, contains(errors, end), 1), "%s", errors);
	free(text);
	free(errors);
	conf_free(&c);
}

/* The longest name, and a byte more. */
Test(conf_channels, channel_names)
{
	char text[512], *errors;
	struct conf c;
	int len, rc;

	for (len = CONF_CHANNEL_NAME_MAX; len <= CONF_CHANNEL_NAME_MAX + 1; len++) {
		snprintf(text, sizeof text, "channel \"%0*d\" { }", len, 7);
		rc = load(&c, write_file("name.conf", text, strlen(text), 0600), 0, NULL, &errors);
		cr_expect(eq(int, rc, len == CONF_CHANNEL_NAME_MAX ? 0 : ERR_INVALID), "%s", errors);
		free(errors);
		conf_free(&c);
	}
}

/* A schema is looked at when the configuration is; a file that is no schema of any size is said so. */
Test(conf_channels, schema_files)
{
	static const char text[] = "\nchannel a {\n schema = s.json }";
	size_t size = ((size_t)4 << 20) + 1;
	char *big = malloc(size), *errors;
	struct conf c;

	memset(big, ' ', size);
	memcpy(big, "{}", 2);
	(void)write_file("s.json", big, size - 1, 0600);
	cr_expect(zero(int, load(&c, write_file("s.conf", text, strlen(text), 0600), 0, NULL,
	    &errors)), "%s", errors);
	free(errors);
	conf_free(&c);
	(void)write_file("s.json", big, size, 0600);
	cr_expect(eq(int, load(&c, write_file("s.conf", text, strlen(text), 0600), 0, NULL,
	    &errors), ERR_INVALID));
	cr_expect(eq(int, contains(errors, "s.conf:3: channel \"a\": schema: /"), 1), "%s", errors);
	cr_expect(eq(int, contains(errors, "/s.json: longer than 4194304 bytes\n"), 1), "%s", errors);
	free(errors);
	conf_free(&c);
	free(big);
}
