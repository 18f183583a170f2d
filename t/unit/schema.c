/* schema: what a publisher and an operator are told, and what hostile payloads are not able to do. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "form/schema.h"

/* A payload is judged in a fraction of this; the rest is for sanitizers on a busy machine. */
#define TOO_LONG_S	20

#define N(array)	(sizeof(array) / sizeof((array)[0]))

/* An allocation of exactly the text's size, so that a sanitizer sees its end. */
static char *
exact_copy(const char *text, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	memcpy(copy, text, len);
	return copy;
}

static json_t *
parse(const char *text, struct err *err)
{
	char *copy = exact_copy(text, strlen(text));
	json_t *json = schema_parse(copy, strlen(text), err);

	free(copy);
	return json;
}

static int
compile(struct schema **schema, const char *text, struct err *err)
{
	char *copy = exact_copy(text, strlen(text));
	int rc = schema_compile(schema, copy, strlen(text), NULL, 0, err);

	free(copy);
	return rc;
}

/* What VALUE is told by SCHEMA; "" when it conforms. */
static const char *
judge(const char *schema_text, const char *value_text, struct err *err)
{
	struct schema *schema;
	json_t *value;
	int rc;

	*err = (struct err){ 0, 0, "" };
	cr_assert(zero(int, compile(&schema, schema_text, err)), "%.200s: %s", schema_text, err->text);
	value = parse(value_text, err);
	cr_assert(value != NULL, "%.200s: %s", value_text, err->text);
	rc = schema_validate(schema, value, err);
	cr_assert(rc == 0 || rc == ERR_INVALID, "%s: %d", err->text, rc);
	cr_assert(eq(int, err->code, rc));
	/* Who does not read the reason gets the same verdict. */
	cr_assert(eq(int, schema_validate(schema, value, NULL), rc));
	json_decref(value);
	schema_free(schema);
	return err->text;
}

static void
assert_told(const char *told, const char *reason, const char *about)
{
	cr_expect(strcmp(told, reason) == 0, "%.200s: \"%s\", not \"%s\"", about, told, reason);
}

struct judgement { const char *schema, *value, *reason; };

static void
assert_judged(const struct judgement *all, size_t n)
{
	struct err err;

	for (size_t i = 0; i < n; i++)
		assert_told(judge(all[i].schema, all[i].value, &err), all[i].reason, all[i].schema);
}

Test(schema, the_reason_names_path_and_keyword)
{
	static const struct judgement all[] = {
		{ "{\"type\":\"string\"}", "1", "the payload: type: not a string" },
		{ "{\"type\":[\"string\",\"null\",\"number\"]}", "[]",
		    "the payload: type: not null, a number or a string" },
		{ "{\"properties\":{\"customer\":{\"properties\":{\"id\":{\"type\":\"string\"}}}}}",
		    "{\"customer\":{\"id\":7}}", "/customer/id: type: not a string" },
		{ "{\"items\":{\"items\":{\"type\":\"integer\"}}}", "[[],[1,1.5]]",
		    "/1/1: type: not an integer" },
		{ "{\"required\":[\"a\",\"id\"]}", "{\"a\":1}", "the payload: required: id is missing" },
		{ "{\"properties\":{\"a\":true},\"additionalProperties\":false}", "{\"a\":1,\"b\":2}",
		    "/b: additionalProperties: not allowed" },
		{ "{\"properties\":{\"a/b~c\":false}}", "{\"a/b~c\":1}",
		    "/a~1b~0c: properties: not allowed" },
		{ "{\"properties\":{\"\":false}}", "{\"\":1}", "/: properties: not allowed" },
		{ "{\"propertyNames\":{\"maxLength\":2}}", "{\"long\":1}",
		    "the payload: propertyNames: no member may be called long" },
		{ "{\"dependentRequired\":{\"card\":[\"address\"]}}", "{\"card\":1}",
		    "the payload: dependentRequired: address is missing, needed by card" },
		{ "{\"patternProperties\":{\"^n_\":{\"maximum\":5}}}", "{\"n_a\":6}",
		    "/n_a: maximum: more than 5" },
		{ "{\"prefixItems\":[true,false]}", "[1,2]", "/1: prefixItems: not allowed" },
		{ "{\"contains\":{\"const\":1}}", "[2]", "the payload: contains: 0 items fit, not at least 1" },
		{ "{\"contains\":{\"const\":1},\"maxContains\":1}", "[1,1]",
		    "the payload: maxContains: 2 items fit, more than 1" },
		{ "{\"unevaluatedProperties\":false}", "{\"x\":1}",
		    "/x: unevaluatedProperties: not allowed" },
		{ "{\"allOf\":[{\"properties\":{\"a\":{\"$ref\":\"#/$defs/n\"}}}],"
		    "\"$defs\":{\"n\":{\"minimum\":1.5}}}", "{\"a\":1}", "/a: minimum: less than 1.5" },
		{ "false", "1", "the payload: not allowed" },
		{ "true", "1", "" },
	};

	assert_judged(all, N(all));
}

Test(schema, the_reason_says_what_of_values)
{
	static const struct judgement all[] = {
		{ "{\"enum\":[1,\"a\"]}", "2", "the payload: enum: none of the values that are allowed" },
		{ "{\"const\":{\"a\":[1.0]}}", "{\"a\":[1]}", "" },
		{ "{\"const\":null}", "0", "the payload: const: not the value that is required" },
		{ "{\"minLength\":3}", "\"\u00fc\u00fc\"",
		    "the payload: minLength: shorter than 3 characters" },
		{ "{\"maxLength\":2}", "\"\u00fc\U0001f600\"", "" },
		{ "{\"maxLength\":1}", "\"\u00fc\u00fc\"", "the payload: maxLength: longer than 1 characters" },
		{ "{\"pattern\":\"^a+$\"}", "\"ab\"", "the payload: pattern: it does not match" },
		{ "{\"exclusiveMinimum\":0}", "0", "the payload: exclusiveMinimum: not more than 0" },
		{ "{\"exclusiveMaximum\":2.5}", "3", "the payload: exclusiveMaximum: not less than 2.5" },
		{ "{\"multipleOf\":0.01}", "19.999", "the payload: multipleOf: no multiple of 0.01" },
		{ "{\"minItems\":2}", "[1]", "the payload: minItems: fewer than 2 items" },
		{ "{\"maxItems\":0}", "[1]", "the payload: maxItems: more than 0 items" },
		{ "{\"minProperties\":1}", "{}", "the payload: minProperties: fewer than 1 members" },
		{ "{\"maxProperties\":0}", "{\"a\":1}", "the payload: maxProperties: more than 0 members" },
		{ "{\"uniqueItems\":true}", "[1,{\"a\":1,\"b\":2},2,{\"b\":2,\"a\":1.0}]",
		    "the payload: uniqueItems: items 1 and 3 are equal" },
		{ "{\"anyOf\":[{\"type\":\"null\"},false]}", "1", "the payload: anyOf: it fits none of the 2" },
		{ "{\"oneOf\":[true,false,true]}", "1",
		    "the payload: oneOf: it fits two of the 3: number 1 and 3" },
		{ "{\"oneOf\":[false]}", "1", "the payload: oneOf: it fits none of the 1" },
		{ "{\"not\":{\"type\":\"number\"}}", "1", "the payload: not: it fits what it must not" },
		{ "{\"if\":{\"type\":\"number\"},\"then\":{\"minimum\":5}}", "1",
		    "the payload: minimum: less than 5" },
	};

	assert_judged(all, N(all));
}

Test(schema, numbers_are_what_they_are_worth)
{
	static const struct judgement all[] = {
		{ "{\"type\":\"integer\"}", "1.0", "" },
		{ "{\"type\":\"integer\"}", "1e300", "" },
		{ "{\"type\":\"integer\"}", "123456789012345678901234567890", "" },
		{ "{\"type\":\"integer\"}", "[-9223372036854775809]", "the payload: type: not an integer" },
		{ "{\"minimum\":9223372036854775808}", "9223372036854775807",
		    "the payload: minimum: less than 9.22337203685478e+18" },
		{ "{\"exclusiveMaximum\":9007199254740993}", "9007199254740992.0", "" },
		{ "{\"maximum\":9007199254740992.0}", "9007199254740993",
		    "the payload: maximum: more than 9.00719925474099e+15" },
		{ "{\"const\":9007199254740992.0}", "9007199254740993",
		    "the payload: const: not the value that is required" },
		{ "{\"enum\":[0,1,2,3,4,5,6,9007199254740992.0]}", "9007199254740992", "" },
		{ "{\"enum\":[0,1,2,3,4,5,6,9007199254740992.0]}", "9007199254740993",
		    "the payload: enum: none of the values that are allowed" },
		{ "{\"uniqueItems\":true}", "[9007199254740992.0,9007199254740993]", "" },
		{ "{\"uniqueItems\":true}", "[0,2,3,4,5,6,7,8,9,10,-0.0]",
		    "the payload: uniqueItems: items 0 and 10 are equal" },
		{ "{\"multipleOf\":0.0001}", "0.0075", "" },
		{ "{\"multipleOf\":0.01}", "4.35", "" },
		{ "{\"multipleOf\":0.01}", "1234567890123.45", "" },
		{ "{\"multipleOf\":1e-300}", "1.234567890123456e300", "" },
		{ "{\"multipleOf\":7}", "1e300", "the payload: multipleOf: no multiple of 7" },
		{ "{\"multipleOf\":2.5}", "-7.5", "" },
		{ "{\"multipleOf\":3}", "-9223372036854775808", "the payload: multipleOf: no multiple of 3" },
		/* An integer that is too large leaves the others exact. */
		{ "{\"prefixItems\":[true,{\"const\":9007199254740993}]}",
		    "[99999999999999999999,9007199254740993]", "" },
		{ "{\"prefixItems\":[true,{\"const\":\"12345678901234567890\"}]}",
		    "[12345678901234567890,\"12345678901234567890\"]", "" },
	};

	assert_judged(all, N(all));
}

Test(schema, patterns_are_ecmascripts)
{
	static const char no[] = "the payload: pattern: it does not match";
	static const struct judgement all[] = {
		{ "{\"pattern\":\"^\\\\d$\"}", "\"7\"", "" },
		{ "{\"pattern\":\"^\\\\d$\"}", "\"\u0661\"", no },
		{ "{\"pattern\":\"^\\\\w$\"}", "\"\u00e9\"", no },
		{ "{\"pattern\":\"^\\\\s\\\\S[\\\\s]$\"}", "\"\u00a0x\u2003\"", "" },
		{ "{\"pattern\":\"^a.c$\"}", "\"a\u2028c\"", no },
		{ "{\"pattern\":\"^a.c$\"}", "\"a\U0001f600c\"", "" },
		{ "{\"pattern\":\"^abc$\"}", "\"abc\\n\"", no },
		{ "{\"pattern\":\"^\\\\u00e9\\\\x41\\\\cJ\\\\0\\\\v$\"}", "\"\u00e9A\\n\\u0000\\u000b\"", "" },
		{ "{\"pattern\":\"^\\\\ud83d\\\\ude00\\\\u{1F600}$\"}", "\"\U0001f600\U0001f600\"", "" },
		{ "{\"pattern\":\"^\\\\p{Lowercase_Letter}\\\\P{Nd}\\\\p{Script=Greek}\\\\p{gc=Lu}$\"}",
		    "\"\u00e9\u00e9\u03c0A\"", "" },
		{ "{\"pattern\":\"^[[:alpha:]]$\"}", "\"a]\"", "" },
		{ "{\"pattern\":\"^[^]$\"}", "\"\\n\"", "" },
		{ "{\"pattern\":\"[]\"}", "\"]\"", no },
		{ "{\"pattern\":\"^x{,2}$\"}", "\"x{,2}\"", "" },
		{ "{\"pattern\":\"^x{2,}?{$\"}", "\"xxx{\"", "" },
		{ "{\"pattern\":\"^(?<y>a|(b))\\\\k<y>\\\\1\\\\2$\"}", "\"aaa\"", "" },
		{ "{\"pattern\":\"^\\\\/\\\\-\\\\.\\\\#$\"}", "\"/-.#\"", "" },
		{ "{\"pattern\":\"(?<!a)b(?!c)\"}", "\"ab bc xb\"", "" },
	};

	assert_judged(all, N(all));
}

struct mistake { const char *schema, *reason; };

static void
assert_mistaken(const struct mistake *all, size_t n)
{
	struct schema *schema;
	struct err err;

	for (size_t i = 0; i < n; i++) {
		err = (struct err){ 0, 0, "" };
		cr_expect(eq(int, compile(&schema, all[i].schema, &err), ERR_INVALID), "%s", all[i].schema);
		cr_expect(eq(ptr, schema, NULL));
		assert_told(err.text, all[i].reason, all[i].schema);
		cr_expect(eq(int, compile(&schema, all[i].schema, NULL), ERR_INVALID));
	}
}

Test(schema, a_mistake_in_a_schema_is_told_with_its_place)
{
	static const struct mistake all[] = {
		{ "", "not JSON: it is empty" },
		{ "{\n \"type\": }", "not JSON: line 2, column 10: wrong syntax" },
		{ "{\"a\":1,\"a\":1}", "not JSON: line 1, column 10: a member occurs twice" },
		{ "[]", "the schema: a schema is an object, true or false" },
		{ "{\"properties\":{\"a\":{\"type\":\"strin\"}}}",
		    "/properties/a: type: not the name of a type, or several" },
		{ "{\"items\":[{}]}", "the schema: items: a schema is an object, true or false" },
		{ "{\"allOf\":[]}", "the schema: allOf: not an array of schemas, at least one" },
		{ "{\"$defs\":{\"a\":{\"minLength\":-1}}}", "/$defs/a: minLength: not a whole number from 0" },
		{ "{\"minLength\":1.5}", "the schema: minLength: not a whole number from 0" },
		{ "{\"multipleOf\":0}", "the schema: multipleOf: not a number above 0" },
		{ "{\"maximum\":\"1\"}", "the schema: maximum: not a number" },
		{ "{\"required\":[1]}", "the schema: required: not an array of strings" },
		{ "{\"dependentRequired\":{\"a\":\"b\"}}",
		    "the schema: dependentRequired: a member is not an array of strings" },
		{ "{\"enum\":1}", "the schema: enum: not an array" },
		{ "{\"uniqueItems\":1}", "the schema: uniqueItems: not true or false" },
		{ "{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
		    "the schema: $schema: neither draft 2020-12 nor a known document: "
		    "http://json-schema.org/draft-07/schema#" },
		{ "{\"$anchor\":\"1\"}", "the schema: $anchor: not a name of letters, digits, _, - and ." },
		{ "{\"$id\":\"a#b\"}", "the schema: $id: not a URI without fragment" },
		{ "{\"$defs\":{\"a\":{\"$id\":\"x\"},\"b\":{\"$id\":\"x\"}}}",
		    "/$defs/b: $id: another schema has the same URI" },
		{ "{\"$defs\":{\"a\":{\"$anchor\":\"x\"},\"b\":{\"$anchor\":\"x\"}}}",
		    "/$defs/b: $anchor: another schema has the same name" },
	};

	assert_mistaken(all, N(all));
}

Test(schema, a_reference_that_leads_nowhere_is_a_mistake)
{
	static const struct mistake all[] = {
		{ "{\"properties\":{\"a\":{\"$ref\":\"#/$defs/b\"}}}",
		    "/properties/a: $ref: there is no schema at #/$defs/b" },
		{ "{\"$ref\":\"#nobody\"}", "the schema: $ref: there is no schema at #nobody" },
		{ "{\"$ref\":\"other.json\"}", "the schema: $ref: there is no schema at other.json" },
		{ "{\"$ref\":\"#/required\",\"required\":[\"a\"]}",
		    "the schema: $ref: there is no schema at #/required" },
		{ "{\"$ref\":\"#/allOf/01\",\"allOf\":[true,true]}",
		    "the schema: $ref: there is no schema at #/allOf/01" },
		{ "{\"$ref\":1}", "the schema: $ref: not a string, or with NUL" },
		{ "{\"$ref\":\"#/%zz\"}", "the schema: $ref: not a URI reference" },
		{ "{\"$ref\":\"#/%00\"}", "the schema: $ref: not a URI reference" },
		{ "{\"$dynamicRef\":\"#x\"}", "the schema: $dynamicRef: there is no schema at #x" },
		{ "{\"$ref\":\"#\"}", "the schema: it leads back to itself without going into the payload" },
		{ "{\"items\":{\"anyOf\":[{\"$ref\":\"#/items\"}]}}",
		    "/items/anyOf/0: it leads back to itself without going into the payload" },
	};

	assert_mistaken(all, N(all));
}

Test(schema, a_pattern_that_is_none_is_a_mistake)
{
	static const struct { const char *pattern, *reason; } all[] = {
		{ "(", "missing closing parenthesis" },
		{ "\\\\A", "\\A, which ECMAScript does not know" },
		{ "(?i)a", "(?, which ECMAScript does not know" },
		{ "(*UTF)a", "(*, which ECMAScript does not know" },
		{ "a++", "a quantifier behind a quantifier" },
		{ "\\\\u12", "\\u without a character" },
		{ "\\\\ud800", "\\u without a character" },
		{ "\\\\p{L", "\\p without a property in braces" },
		{ "\\\\p{Nonsense}", "unknown property after \\P or \\p" },
		{ "a\\\\", "a backslash at the end" },
	};
	struct schema *schema;
	char text[256], want[256];
	struct err err;

	for (size_t i = 0; i < N(all); i++) {
		snprintf(text, sizeof(text), "{\"items\":{\"pattern\":\"%s\"}}", all[i].pattern);
		snprintf(want, sizeof(want), "/items: pattern: no regular expression: %s", all[i].reason);
		cr_expect(eq(int, compile(&schema, text, &err), ERR_INVALID), "%s", text);
		assert_told(err.text, want, text);
	}
}

Test(schema, documents_are_found_by_their_uris)
{
	static const char text[] = "{\"$id\":\"http://a.example/x/main\",\"$ref\":\"../d.json#/$defs/n\"}";
	struct schema_document document = { "http://a.example/d.json", NULL };
	struct schema *schema;
	struct err err = { 0, 0, "" };
	json_t *value = json_integer(5);

	document.json = parse("{\"$defs\":{\"n\":{\"maximum\":4},\"bad\":{\"$ref\":\"gone\"}}}", NULL);
	cr_assert(zero(int, schema_compile(&schema, text, strlen(text), &document, 1, &err)), "%s", err.text);
	cr_assert(eq(int, schema_validate(schema, value, &err), ERR_INVALID));
	assert_told(err.text, "the payload: maximum: more than 4", "document");
	schema_free(schema);
	json_decref(value);

	/* What is wrong in a document is told with its URI. */
	json_decref(document.json);
	document.json = parse("{\"$defs\":{\"n\":{\"$ref\":\"gone\"}}}", NULL);
	cr_assert(eq(int, schema_compile(&schema, text, strlen(text), &document, 1, &err), ERR_INVALID));
	assert_told(err.text, "http://a.example/d.json#/$defs/n: $ref: there is no schema at gone", "document");
	json_decref(document.json);
}

Test(schema, a_vocabulary_that_is_needed_and_unknown_is_a_mistake)
{
	static const char text[] = "{\"$schema\":\"http://a.example/meta\"}";
	struct schema_document meta = { "http://a.example/meta", NULL };
	struct schema *schema;
	struct err err;

	meta.json = parse("{\"$vocabulary\":{"
	    "\"https://json-schema.org/draft/2020-12/vocab/format-assertion\":true}}", NULL);
	cr_assert(eq(int, schema_compile(&schema, text, strlen(text), &meta, 1, &err), ERR_INVALID));
	cr_assert(strstr(err.text, "a vocabulary that is not supported") != NULL, "%s", err.text);
	json_decref(meta.json);
}

struct unreadable { const char *text; size_t len; const char *reason; };

Test(schema, what_is_no_json_is_refused_with_its_place)
{
	static const struct unreadable all[] = {
		{ "", 0, "not JSON: it is empty" },
		{ "{\"a\":1,\n\"a\":2}", 15, "not JSON: line 2, column 3: a member occurs twice" },
		{ "[1e999]", 7, "not JSON: line 1, column 6: a number is out of range" },
		{ "\"\xff\"", 3, "not JSON: line 1, column 1: not UTF-8" },
		{ "{\"a\\u0000\":1}", 13, "not JSON: line 1, column 10: a member's name contains NUL" },
		{ "[1] 2", 5, "not JSON: line 1, column 5: there is more behind its end" },
		{ "[", 1, "not JSON: line 1, column 1: it ends too early" },
		{ "nul", 3, "not JSON: line 1, column 3: wrong syntax" },
		{ "[1,\0]", 5, "not JSON: line 1, column 4: it ends too early" },
		{ "[1]\0x", 5, "not JSON: line 1, column 4: there is more behind its end" },
		{ "[99999999999999999999,]", 23, "not JSON: line 1, column 25: wrong syntax" },
	};
	struct err err;
	char *copy;

	for (size_t i = 0; i < N(all); i++) {
		copy = exact_copy(all[i].text, all[i].len);
		cr_expect(eq(ptr, schema_parse(copy, all[i].len, &err), NULL), "%s", all[i].text);
		assert_told(err.text, all[i].reason, all[i].text);
		cr_expect(eq(int, err.code, ERR_INVALID));
		free(copy);
	}
}

/* FRONT, N times MIDDLE, BACK; to be freed. */
static char *
repeated(const char *front, const char *middle, size_t n, const char *back)
{
	char *text = malloc(strlen(front) + n * strlen(middle) + strlen(back) + 1), *p = stpcpy(text, front);

	while (n-- > 0)
		p = stpcpy(p, middle);
	strcpy(p, back);
	return text;
}

static void
assert_refused_in_time(const char *schema, char *value, const char *reason)
{
	time_t start = time(NULL);
	struct err err;
	const char *text = judge(schema, value, &err);

	cr_expect(strstr(text, reason) != NULL, "%.60s for %.60s: %s", schema, value, text);
	cr_expect(lt(long, time(NULL) - start, TOO_LONG_S), "%.60s", schema);
	cr_expect(lt(sz, strlen(text), sizeof(err.text)));
	free(value);
}

Test(schema, patterns_cannot_be_kept_busy)
{
	static const char busy[] = "a pattern takes too long to match";

	assert_refused_in_time("{\"pattern\":\"^(a+)+$\"}", repeated("\"", "a", 60, "!\""), busy);
	assert_refused_in_time("{\"pattern\":\"\\\\s+$\"}", repeated("\"", " ", 1000000, "x\""), busy);
	assert_refused_in_time("{\"pattern\":\"(?=.*b)\"}", repeated("\"", "a", 1000000, "\""), busy);
	/* Few steps, each of them long. */
	assert_refused_in_time("{\"pattern\":\"[a-z]+[0-9]\"}", repeated("\"", "a", 1000000, "\""), busy);
	/* Items that fail before PCRE2 says anything. */
	assert_refused_in_time("{\"pattern\":\"[a-z]{9}[a-z]{20000}|B\"}",
	    repeated("\"", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 300, "\""), busy);
	assert_refused_in_time("{\"pattern\":\"^(a|b)*$\"}", repeated("\"", "a", 1000000, "\""),
	    "a pattern takes too much memory to match");
	/* Many that are just about tolerable. */
	assert_refused_in_time("{\"items\":{\"not\":{\"pattern\":\"^(a+)+$\"}}}",
	    repeated("[", "\"aaaaaaaaaaaaaaaaaa!\",", 20000, "0]"), busy);
	assert_refused_in_time("{\"patternProperties\":{\"^(a+)+$\":true}}",
	    repeated("{\"", "a", 60, "!\":1}"), busy);
}

Test(schema, a_pattern_goes_on_after_a_long_text)
{
	struct err err;
	char *value = repeated("[\"", "ab", 100000, "\",\"ab\"]");

	assert_told(judge("{\"items\":{\"pattern\":\"^(ab)+$\"}}",
	    "[\"ab\",\"abab\"]", &err), "", "items");
	assert_told(judge("{\"items\":{\"pattern\":\"^[ab]+$\"}}", value, &err), "", "items");
	free(value);
}

Test(schema, what_is_nested_is_bounded)
{
	static const char tree[] = "{\"items\":{\"$ref\":\"#\"}}";
	char *deep = repeated("", "[", 2000, "");
	struct err err = { 0, 0, "" };
	char *shallow;

	assert_refused_in_time(tree, repeated(deep, "]", 2000, ""),
	    ": it is nested too deeply to be validated");
	free(deep);
	deep = repeated("", "[", 400, "");
	shallow = repeated(deep, "]", 400, "");
	assert_told(judge(tree, shallow, &err), "", "items");
	free(deep);
	free(shallow);
	deep = repeated("", "[", 3000, "");
	cr_assert(eq(ptr, parse(deep, &err), NULL));
	cr_assert(strstr(err.text, "nested too deeply") != NULL, "%s", err.text);
	free(deep);
}

/* Which alternative is tried must not hide that the check had to end. */
Test(schema, work_is_bounded_in_every_alternative)
{
	static const char busy[] = "it takes too much work to validate";
	static const char *const schemas[] = {
		/* Doubles at each level. */
		"{\"items\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}}",
		"{\"anyOf\":[{\"items\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}},true]}",
		"{\"oneOf\":[{\"items\":{\"oneOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}},false]}",
		"{\"not\":{\"items\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}}}",
		"{\"if\":{\"items\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}},\"then\":true}",
		"{\"dependentSchemas\":{\"a\":{\"properties\":{\"a\":{\"allOf\":[{\"$ref\":\"#\"},"
		    "{\"$ref\":\"#\"}]}}}}}",
		"{\"unevaluatedItems\":{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}}",
	};
	char *arrays = repeated("", "[", 60, ""), *objects = repeated("", "{\"a\":", 60, "0");

	for (size_t i = 0; i < N(schemas); i++)
		assert_refused_in_time(schemas[i], strstr(schemas[i], "dependent") != NULL ?
		    repeated(objects, "}", 60, "") : repeated(arrays, "]", 60, ""), busy);
	free(arrays);
	free(objects);
	assert_refused_in_time("{\"anyOf\":[{\"contains\":false},{\"contains\":false},{\"contains\":false},"
	    "{\"contains\":false},{\"contains\":{\"type\":\"null\"}},{\"contains\":{\"type\":\"null\"}},"
	    "{\"contains\":{\"type\":\"null\"}},{\"contains\":{\"type\":\"null\"}}]}",
	    repeated("[", "1,", 1000000, "1]"), busy);
}

Test(schema, a_hundred_thousand_items_are_told_apart_at_once)
{
	char *text = malloc(2000000), *p = stpcpy(text, "[0");
	struct err err;

	for (int i = 1; i < 100000; i++)
		p += sprintf(p, ",[%d]", i);
	strcpy(p, "]");
	assert_told(judge("{\"uniqueItems\":true}", text, &err), "", "items");
	strcpy(p, ",[77.0]]");
	assert_told(judge("{\"uniqueItems\":true}", text, &err),
	    "the payload: uniqueItems: items 77 and 100000 are equal", "items");
	free(text);
}

static bool
is_utf8(const char *text)
{
	json_t *json = json_string(text);

	json_decref(json);
	return json != NULL;
}

/* Names that a peer chose end in the reason: cut between characters, without control characters. */
Test(schema, the_reason_is_bounded_and_clean)
{
	static const char *const pieces[] = { "\u00fc", "\u20ac", "\U0001f600", "a", "~", "\\n", "\\u007f" };
	char *inner, *value;
	struct err err;
	const char *text;

	for (size_t i = 0; i < N(pieces); i++)
		for (size_t n = 1; n < 300; n++) {
			inner = repeated("{\"", pieces[i], n, "\":");
			value = repeated("", inner, 5, "0}}}}}");
			text = judge("{\"additionalProperties\":{\"$ref\":\"#\"},\"type\":\"object\"}", value, &err);
			cr_assert(is_utf8(text), "%s", value);
			cr_assert(strlen(text) < sizeof(err.text) && strpbrk(text, "\n\x7f") == NULL, "%s", text);
			cr_assert(strstr(text, ": type: not an object") != NULL, "%s", text);
			free(inner);
			free(value);
		}
}

/* A deep path and two long names: more than there is room for. */
Test(schema, the_reason_is_cut_where_characters_end)
{
	char *key = repeated("", "\u20ac", 40, ""), *deep = repeated("", "[", 100, ""), *name, *rule, *value;
	struct err err;
	const char *text;

	value = repeated(deep, "{\"", 1, key);
	free(deep);
	deep = repeated(value, "\":1}", 1, "");
	free(value);
	value = repeated(deep, "]", 100, "");
	for (size_t n = 1; n < 60; n++) {
		name = repeated(key, "\":[\"", 1, "");
		rule = repeated("{\"items\":{\"$ref\":\"#\"},\"dependentRequired\":{\"", name, 1, "");
		free(name);
		name = repeated(rule, "a", n, "\"]}}");
		text = judge(name, value, &err);
		cr_assert(is_utf8(text), "%s", text);
		cr_assert(lt(sz, strlen(text), sizeof(err.text)));
		cr_assert(zero(int, strcmp(text + strlen(text) - strlen("…"), "…")), "%zu: %s", n, text);
		if (n > 30)
			cr_assert(lt(sz, sizeof(err.text) - 8, strlen(text)), "%zu: %s", n, text);
		free(name);
		free(rule);
	}
	free(key);
	free(deep);
	free(value);
}
