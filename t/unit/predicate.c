/* predicate: what holds for which payload, and what is said of a text that is none. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "form/predicate.h"

static json_t *
payload(const char *text)
{
	const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
	json_error_t error;
	json_t *value = json_loads(text, flags, &error);

	if (value == NULL)	/* as the daemon reads it: integers beyond 64 bits */
		value = json_loads(text, flags | JSON_DECODE_INT_AS_REAL, &error);
	cr_assert(ne(ptr, value, NULL), "%s: %s", text, error.text);
	return value;
}

static int
holds(const char *text, const json_t *value)
{
	struct err err = { 0 };
	struct predicate *p;
	int result;

	cr_assert(zero(int, predicate_compile(&p, text, &err)), "%s: %s", text, err.text);
	result = predicate_holds(p, value);
	predicate_free(p);
	return result;
}

struct given { const char *text; int want; };

/* Each of the N texts, with the payload JSON. */
static void
check_all(const char *json, const struct given *given, size_t n)
{
	json_t *value = json == NULL ? NULL : payload(json);
	size_t i;

	for (i = 0; i < n; i++)
		cr_expect(eq(int, holds(given[i].text, value), given[i].want), "%s with %s",
		    given[i].text, json == NULL ? "no JSON" : json);
	json_decref(value);
}

#define CHECK(json, ...)	do {							\
	static const struct given given_[] = { __VA_ARGS__ };				\
	check_all(json, given_, sizeof given_ / sizeof given_[0]);			\
} while (0)

Test(predicate, the_example)
{
	static const char rule[] =
	    "amount > 1000 and region == 'eu' and exists(customer.id) and qty in 1..9";

	CHECK("{\"amount\":1000.5,\"region\":\"eu\",\"customer\":{\"id\":null},\"qty\":9}", { rule, 1 });
	CHECK("{\"amount\":1000,\"region\":\"eu\",\"customer\":{\"id\":null},\"qty\":9}", { rule, 0 });
	CHECK("{\"amount\":1001,\"region\":\"us\",\"customer\":{\"id\":7},\"qty\":9}", { rule, 0 });
	CHECK("{\"amount\":1001,\"region\":\"eu\",\"customer\":{},\"qty\":9}", { rule, 0 });
	CHECK("{\"amount\":1001,\"region\":\"eu\",\"customer\":{\"id\":7},\"qty\":9.5}", { rule, 0 });
	CHECK(NULL, { rule, 0 });
}

Test(predicate, comparisons)
{
	CHECK("{\"n\":5,\"r\":2.5,\"s\":\"m\",\"t\":true,\"f\":false,\"z\":null}",
	    { "n == 5", 1 }, { "n == 6", 0 }, { "n != 5", 0 }, { "n != 6", 1 },
	    { "n < 5", 0 }, { "n < 6", 1 }, { "n <= 5", 1 }, { "n <= 4", 0 },
	    { "n > 5", 0 }, { "n > 4", 1 }, { "n >= 5", 1 }, { "n >= 6", 0 },
	    { "n == 5.0", 1 }, { "n == 0.5e1", 1 }, { "n < 5.1", 1 }, { "n > 4.9", 1 },
	    { "n > -1", 1 }, { "n > -0.5", 1 }, { "n==5", 1 }, { " n\n>\t4\r ", 1 },
	    { "r == 2.5", 1 }, { "r > 2", 1 }, { "r < 3", 1 }, { "r != 2", 1 }, { "r == 2", 0 },
	    { "s == 'm'", 1 }, { "s == \"m\"", 1 }, { "s != 'm'", 0 }, { "s != 'n'", 1 },
	    { "s < 'n'", 1 }, { "s < 'm'", 0 }, { "s < 'ma'", 1 }, { "s > ''", 1 },
	    { "s >= 'm'", 1 }, { "s <= 'l'", 0 }, { "s > 'Z'", 1 }, { "s < 'ä'", 1 },
	    { "t == true", 1 }, { "t != true", 0 }, { "t == false", 0 }, { "f == false", 1 },
	    { "t != false", 1 }, { "z == null", 1 }, { "z != null", 0 });
}

Test(predicate, ranges_have_both_ends)
{
	CHECK("{\"n\":5,\"r\":2.5,\"s\":\"m\",\"z\":null}",
	    { "n in 1..9", 1 }, { "n in 5..5", 1 }, { "n in 5..6", 1 }, { "n in 4..5", 1 },
	    { "n in 6..9", 0 }, { "n in 1..4", 0 }, { "n in -9..-1", 0 }, { "n in 4.5..5.5", 1 },
	    { "n in 1 .. 9", 1 }, { "r in 2..3", 1 }, { "r in 2.5..2.5", 1 }, { "r in 1..2", 0 },
	    { "s in 'a'..'n'", 1 }, { "s in 'm'..'m'", 1 }, { "s in 'n'..'z'", 0 },
	    { "s in 1..9", 0 }, { "n in 'a'..'z'", 0 }, { "z in 1..9", 0 }, { "x in 1..9", 0 });
}

/* A comparison with what is not there, or is of another type, is false, also !=. */
Test(predicate, missing_and_other_types)
{
	CHECK("{\"n\":5,\"s\":\"5\",\"t\":true,\"z\":null,\"o\":{\"a\":1},\"l\":[1]}",
	    { "x == 5", 0 }, { "x != 5", 0 }, { "x < 5", 0 }, { "x >= 5", 0 },
	    { "x == null", 0 }, { "x != null", 0 }, { "x != ''", 0 }, { "not x == 5", 1 },
	    { "not x != 5", 1 }, { "n.x == 1", 0 }, { "s.x != 1", 0 }, { "o.a.b == 1", 0 },
	    { "s == 5", 0 }, { "s != 5", 0 }, { "n == '5'", 0 }, { "n != '5'", 0 },
	    { "t == 1", 0 }, { "t != 1", 0 }, { "t == 'true'", 0 }, { "n == true", 0 },
	    { "z == 0", 0 }, { "z != 0", 0 }, { "z == false", 0 }, { "z < 1", 0 },
	    { "o == 1", 0 }, { "o != 1", 0 }, { "l == 1", 0 }, { "l != 1", 0 }, { "o < 'z'", 0 },
	    { "n == null", 0 }, { "n != null", 1 }, { "o != null", 1 }, { "l != null", 1 });
	CHECK("5", { "x == 5", 0 }, { "x != 5", 0 }, { "exists(x)", 0 }, { "not exists(x)", 1 });
	CHECK(NULL, { "x == 5", 0 }, { "x != null", 0 }, { "exists(x)", 0 }, { "not x == 5", 1 });
}

Test(predicate, paths)
{
	CHECK("{\"a\":{\"b\":{\"c\":1},\"in\":2,\"0\":3,\"x y\":4,\"p.q\":5,\"\":9},\"and\":6,\"a.b\":7,"
	    "\"größe\":8,\"a-b\":10,\"$_9\":11,\"Not\":12}",
	    { "a.b.c == 1", 1 }, { "exists(a.b.c)", 1 }, { "exists(a.b)", 1 }, { "exists(a.c)", 0 },
	    { "a.in == 2", 1 }, { "a.0 == 3", 1 }, { "a.'x y' == 4", 1 }, { "a.\"p.q\" == 5", 1 },
	    { "'and' == 6", 1 }, { "exists('and')", 1 }, { "'a.b' == 7", 1 }, { "größe == 8", 1 },
	    { "a.'' == 9", 1 }, { "a-b == 10", 1 }, { "$_9 == 11", 1 }, { "Not == 12", 1 },
	    { "'a'.'b'.'c' == 1", 1 }, { "A.b.c == 1", 0 }, { "a.b.c.d == 1", 0 },
	    { "'\\u0061'.b.c == 1", 1 });
	CHECK("{\"l\":[10,[20,21],{\"k\":30}],\"e\":[]}",
	    { "l.0 == 10", 1 }, { "l.1.1 == 21", 1 }, { "l.2.k == 30", 1 }, { "l.'0' == 10", 1 },
	    { "exists(l.2)", 1 }, { "exists(l.3)", 0 }, { "exists(l.00)", 0 }, { "exists(l.01)", 0 },
	    { "exists(l.-1)", 0 }, { "exists(l.k)", 0 }, { "exists(l.1k)", 0 },
	    { "exists(l.18446744073709551616)", 0 }, { "exists(l.'')", 0 }, { "exists(e.0)", 0 });
	CHECK("[{\"a\":1},2]", { "'0'.a == 1", 1 }, { "'1' == 2", 1 });
}

/* No number is rounded to be compared: 2^53 + 1 is not 2^53, and 2^63 not what fits 64 bits. */
Test(predicate, numbers_are_exact)
{
	CHECK("{\"i\":9007199254740993,\"r\":9007199254740992.0}",
	    { "i == 9007199254740993", 1 }, { "i == 9007199254740992", 0 },
	    { "i == 9007199254740992.0", 0 }, { "i > 9007199254740992.0", 1 },
	    { "i < 9007199254740994.0", 1 }, { "i != 9007199254740992.0", 1 },
	    { "r == 9007199254740993", 0 }, { "r < 9007199254740993", 1 },
	    { "r == 9007199254740992", 1 }, { "r > 9007199254740991", 1 });
	CHECK("{\"over\":9223372036854775808}", { "over > 9223372036854775807", 1 },
	    { "over == 9223372036854775808", 1 });
	CHECK("{\"max\":9223372036854775807,\"min\":-9223372036854775808,"
	    "\"huge\":1e300,\"tiny\":-1e300,\"n\":-5}",
	    { "max == 9223372036854775807", 1 }, { "max < 9223372036854775808", 1 },
	    { "max == 9223372036854775808", 0 }, { "min == -9223372036854775808", 1 },
	    { "min == -9223372036854775808.0", 1 }, { "min > -9223372036854777856.0", 1 },
	    { "max < 1e300", 1 }, { "min > -1e300", 1 }, { "huge > 9223372036854775807", 1 },
	    { "tiny < -9223372036854775808", 1 }, { "n < -4.5", 1 }, { "n > -5.5", 1 },
	    { "n == -5.0", 1 }, { "n in -5.5..-4.5", 1 }, { "huge == 1e300", 1 });
	CHECK("{\"z\":0,\"m\":-0.0,\"d\":0.1}", { "z == -0.0", 1 }, { "m == 0", 1 }, { "z == -0", 1 },
	    { "d == 0.1", 1 }, { "d > 0", 1 }, { "z < 0.1", 1 }, { "z > -0.1", 1 });
}

Test(predicate, strings)
{
	CHECK("{\"q\":\"it's\",\"d\":\"\\\"\",\"b\":\"\\\\\",\"n\":\"a\\nb\\tc\",\"u\":\"\\u00e9\","
	    "\"e\":\"\\ud83d\\ude00\",\"z\":\"a\\u0000b\",\"s\":\"/\",\"empty\":\"\",\"k\":\"\\u20ac\"}",
	    { "q == 'it\\'s'", 1 }, { "q == \"it's\"", 1 }, { "d == '\"'", 1 },
	    { "d == \"\\\"\"", 1 }, { "b == '\\\\'", 1 }, { "n == 'a\\nb\\tc'", 1 },
	    { "n == 'a\nb\tc'", 1 }, { "u == 'é'", 1 }, { "u == '\\u00e9'", 1 },
	    { "u == '\\u00E9'", 1 }, { "e == '\\uD83D\\uDE00'", 1 }, { "e == '😀'", 1 },
	    { "k == '\\u20ac'", 1 }, { "z == 'a\\u0000b'", 1 }, { "z == 'a'", 0 },
	    { "z > 'a'", 1 }, { "z < 'aa'", 1 }, { "s == '\\/'", 1 }, { "empty == ''", 1 },
	    { "empty < '\\u0000'", 1 }, { "q == 'and or not ( ) =='", 0 });
}

/* not before and before or; parentheses; each operand counts. */
Test(predicate, logic)
{
	CHECK("{\"t\":true,\"f\":false}",
	    { "t == true and t == true", 1 }, { "t == true and f == true", 0 },
	    { "f == true and t == true", 0 }, { "f == true or t == true", 1 },
	    { "t == true or f == true", 1 }, { "f == true or f == true", 0 },
	    { "not f == true", 1 }, { "not t == true", 0 }, { "not not t == true", 1 },
	    { "t == true or t == true and f == true", 1 },
	    { "(t == true or t == true) and f == true", 0 },
	    { "f == true and t == true or t == true", 1 },
	    { "f == true and (t == true or t == true)", 0 },
	    { "not f == true and f == true", 0 }, { "not (f == true and f == true)", 1 },
	    { "not t == true or t == true", 1 }, { "not (t == true or t == true)", 0 },
	    { "f == true or f == true or t == true", 1 }, { "t == true and t == true and f == true", 0 },
	    { "f == true or not f == true and t == true", 1 }, { "((t == true))", 1 },
	    { "exists(t)and exists(f)or exists(x)", 1 }, { "not(exists(x))", 1 },
	    { "exists(x) and exists(x) or exists(t) and exists(f)", 1 },
	    { "(exists(x) or exists(t)) and not (exists(f) and exists(x))", 1 },
	    { "exists ( t )", 1 },
	    { "exists(x) and exists(t) and exists(t) and exists(t) or exists(f)", 1 },
	    { "exists(t) and exists(x) and exists(t) and exists(t) or exists(f)", 1 },
	    { "not (exists(t) or exists(x) or exists(x)) or exists(x)", 0 },
	    { "(exists(x) or exists(t) or exists(x) or exists(x)) and exists(x)", 0 });
}

/* Every combination of three operands, against what C says. */
Test(predicate, logic_of_three)
{
	static const char *const names[] = { "x", "t" };
	const char *a, *b, *c;
	json_t *value = payload("{\"t\":1}");
	char text[128];
	int i, ta, tb, tc;

	for (i = 0; i < 8; i++) {
		ta = i & 1;
		tb = i >> 1 & 1;
		tc = i >> 2 & 1;
		a = names[ta];
		b = names[tb];
		c = names[tc];
		snprintf(text, sizeof text, "exists(%s) or exists(%s) and exists(%s)", a, b, c);
		cr_expect(eq(int, holds(text, value), ta || (tb && tc)), "%s", text);
		snprintf(text, sizeof text, "exists(%s) and exists(%s) or exists(%s)", a, b, c);
		cr_expect(eq(int, holds(text, value), (ta && tb) || tc), "%s", text);
		snprintf(text, sizeof text, "exists(%s) and (exists(%s) or exists(%s))", a, b, c);
		cr_expect(eq(int, holds(text, value), ta && (tb || tc)), "%s", text);
		snprintf(text, sizeof text, "not exists(%s) and not (exists(%s) or exists(%s))", a, b, c);
		cr_expect(eq(int, holds(text, value), !ta && !(tb || tc)), "%s", text);
		snprintf(text, sizeof text, "not (exists(%s) and not exists(%s)) or exists(%s)", a, b, c);
		cr_expect(eq(int, holds(text, value), !(ta && !tb) || tc), "%s", text);
	}
	json_decref(value);
}

/* The error of TEXT begins with WANT. */
static void
check_error(const char *text, const char *want)
{
	struct predicate *p = (struct predicate *)(void *)&text;
	struct err err = { 0 };

	cr_expect(eq(int, predicate_compile(&p, text, &err), ERR_INVALID), "%s", text);
	cr_expect(eq(ptr, p, NULL));
	cr_expect(zero(int, strncmp(err.text, want, strlen(want))), "%s: %s\nexpected: %s", text,
	    err.text, want);
	cr_expect(eq(int, predicate_compile(&p, text, NULL), ERR_INVALID));
}

Test(predicate, errors_have_a_place_and_a_reason)
{
	static const char *const cases[][2] = {
		{ "", "column 1: the condition is empty" },
		{ "  \t", "column 4: the condition is empty" },
		{ "a", "column 2: the end where a comparison is expected" },
		{ "a b", "column 3: 'b' where a comparison is expected" },
		{ "a = 1", "column 3: '=' compares nothing: write '=='" },
		{ "a === 1", "column 5: '=' where a value is expected" },
		{ "a <> 1", "column 4: '>' where a value is expected" },
		{ "a ==", "column 5: the end where a value is expected" },
		{ "a == b", "column 6: 'b' where a value is expected" },
		{ "a == True", "column 6: 'True' where a value is expected" },
		{ "größe == größe", "column 10: 'größe' where a value is expected" },
		{ "1 == a", "column 1: a number where a field is expected" },
		{ "-1 == a", "column 1: a number where a field is expected" },
		{ "'a' == 'b' 'c'", "column 12: ''' where \"and\", \"or\" or the end is expected" },
		{ "a == 1 AND b == 2", "column 8: 'AND' where \"and\", \"or\" or the end" },
		{ "a == 1 && b == 2", "column 8: '&' where" },
		{ "a == 1 and", "column 11: the end where the name of a field is expected" },
		{ "and a == 1", "column 1: 'and' where a field is expected (one of this name is "
		    "written '\"and\"')" },
		{ "a == 1 or or b == 2", "column 11: 'or' where a field" },
		{ "null == a", "column 1: 'null' where a field" },
		{ "not", "column 4: the end where the name of a field" },
		{ "!a == 1", "column 1: '!' where the name of a field" },
		{ "(a == 1", "column 1: the parenthesis that opens here is not closed" },
		{ "a == 1)", "column 7: ')' where \"and\", \"or\" or the end is expected" },
		{ "(a == 1 b)", "column 9: 'b' where \"and\", \"or\" or ')' is expected" },
		{ "()", "column 2: ')' where the name of a field" },
		{ "exists a", "column 8: exists is to be followed by a field in parentheses" },
		{ "exists()", "column 8: ')' where the name of a field" },
		{ "exists(a", "column 7: the parenthesis that opens here is not closed" },
		{ "exists(a == 1)", "column 10: ')' is expected after the field" },
		{ "exists(a) == true", "column 11: '=' where \"and\", \"or\" or the end" },
		{ "a. == 1", "column 3: ' ' where the name of a field" },
		{ ".a == 1", "column 1: '.' where the name of a field" },
		{ "a..b == 1", "column 3: '.' where the name of a field" },
		{ "a.'b\\u0000' == 1", "column 3: the name of a field has no NUL" },
		{ "a == 'b", "column 6: the string that begins here has no closing quote" },
		{ "a == 'b\\", "column 8: a backslash is to be followed by one of" },
		{ "a == '\\x'", "column 7: a backslash is to be followed by one of" },
		{ "a == '\\u12g4'", "column 7: \\u is to be followed by four" },
		{ "a == '\\u12", "column 7: \\u is to be followed by four" },
		{ "a == '\\ud83d'", "column 7: half of a surrogate pair" },
		{ "a == '\\ud83d\\u0041'", "column 7: half of a surrogate pair" },
		{ "a == '\\ude00'", "column 7: half of a surrogate pair" },
		{ "a == 01", "column 6: not a number as JSON has them" },
		{ "a == 1.", "column 6: not a number" },
		{ "a == 1e", "column 6: not a number" },
		{ "a == 0x10", "column 6: not a number" },
		{ "a == 10k", "column 6: not a number" },
		{ "a == -", "column 6: not a number" },
		{ "a == 1e999", "column 6: the number is too large" },
		{ "a == -1e999", "column 6: the number is too large" },
		{ "a == +1", "column 6: '+' where a value" },
		{ "a == .5", "column 6: '.' where a value" },
		{ "a < true", "column 5: true, false and null have no order" },
		{ "a >= null", "column 6: true, false and null have no order" },
		{ "a in true..false", "column 6: true, false and null have no order" },
		{ "a in 1", "column 7: '..' and the end of the range are expected" },
		{ "a in 1.5", "column 9: '..' and the end of the range are expected" },
		{ "a in 1..", "column 9: the end where a value" },
		{ "a in 1..'b'", "column 9: both ends of a range are numbers, or both strings" },
		{ "a in 1..null", "column 9: both ends of a range" },
		{ "a in 9..1", "column 6: nothing is in a range whose end is before its beginning" },
		{ "a in 'b'..'a'", "column 6: nothing is in a range" },
		{ "a in (1..2)", "column 6: '(' where a value" },
		{ "a \xff== 1", "column 1: not UTF-8" },
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		check_error(cases[i][0], cases[i][1]);
}

/* N times WORD, then REST; to be freed. */
static char *
repeat(const char *word, size_t n, const char *rest)
{
	char *text = calloc(1, n * strlen(word) + strlen(rest) + 1);

	cr_assert(ne(ptr, text, NULL));
	while (n-- > 0)
		strcat(text, word);
	return strcat(text, rest);
}

Test(predicate, bounds)
{
	struct { const char *word; size_t n; const char *rest, *error; } cases[] = {
		{ "not ", 63, "a == 1", NULL },
		{ "not ", 64, "a == 1", "column 257: more than 64 parentheses and nots" },
		{ "(", 64, "", "column 65: more than 64" },
		{ " ", PREDICATE_TEXT_MAX - 6, "a == 1", NULL },
		{ " ", PREDICATE_TEXT_MAX - 5, "a == 1", "column 4097: longer than 4096 bytes" },
		{ "a<1 or ", 500, "a == 1", NULL },
		{ "a.", 2000, "a == 1", NULL },
		{ "(a<1) and ", 400, "a == 1", NULL },	/* beside, not within, each other */
	};
	json_t *value = payload("{\"a\":1}");
	struct predicate *p;
	char *text;
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		text = repeat(cases[i].word, cases[i].n, cases[i].rest);
		if (cases[i].error != NULL)
			check_error(text, cases[i].error);
		else {
			cr_expect(zero(int, predicate_compile(&p, text, NULL)), "%s", text);
			(void)predicate_holds(p, value);
			predicate_free(p);
		}
		free(text);
	}
	cr_expect(eq(int, holds("a<1 or a<1 or a<1 or a == 1", value), 1));
	json_decref(value);
	predicate_free(NULL);
}
