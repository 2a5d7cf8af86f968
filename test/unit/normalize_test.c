/*
 * normalize_test.c
 *		Unit tests of the normalising functions: transform/email.c, phone.c, name.c, html.c, slack.c.
 */
#include "transform/normalize.h"
#include "tap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef bool (*Normalize)(const char *in, size_t len, ByteBuffer *out);

typedef struct Case
{
	const char *in;
	const char *expected; /* NULL = cannot be normalised */
} Case;

static bool
lookup(void *arg, const char *id, size_t len, ByteBuffer *out)
{
	return len == 2 && memcmp(id, "U1", 2) == 0 && sophia_buffer_append(out, "Ann", 3);
}

static bool
slack_with_names(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_slack_text(in, len, lookup, NULL, out);
}

static bool
slack_without_names(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_slack_text(in, len, NULL, NULL, out);
}

static bool
german_phone(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "dE", 2, out);
}

static bool
argentine_phone(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "AR", 2, out);
}

static bool
american_phone(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "US", 2, out);
}

/* One case; the input is copied to memory of its exact size, so that a read past its end is seen. */
static void
check(const char *what, Normalize normalize, Case c)
{
	size_t len = strlen(c.in);
	char *in = malloc(len + (len == 0));
	ByteBuffer out = {0};
	bool normalised;

	memcpy(in, c.in, len);
	sophia_buffer_append(&out, "kept", 4);
	normalised = normalize(in, len, &out);
	if (c.expected == NULL)
		ok(!normalised && buffer_size(&out) == 4, "%s: \"%s\" cannot be normalised", what, c.in);
	else
		ok(normalised && buffer_size(&out) == 4 + strlen(c.expected) &&
			   memcmp(buffer_bytes(&out), "kept", 4) == 0 &&
			   memcmp(buffer_bytes(&out) + 4, c.expected, strlen(c.expected)) == 0,
		   "%s: \"%s\" gives \"%s\"", what, c.in, c.expected);
	free(in);
	sophia_buffer_free(&out);
}

#define CHECK_ALL(what, normalize, cases)                                                          \
	for (size_t i = 0; i < sizeof(cases) / sizeof((cases)[0]); i++)                                \
	check(what, normalize, (cases)[i])

static void
test_email(void)
{
	static const Case cases[] = {
		{"Ann@Example.COM", "ann@example.com"},
		{"\t<mailto:ann@example.com?cc=b@x>\n", "ann@example.com"},
		{"Ann <Ann@x.example>", "ann@x.example"},
		{"x@B\xC3\x9C"
		 "CHER.example",
		 "x@xn--bcher-kva.example"},
		{"x@\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E.jp", "x@xn--wgv71a119e.jp"},
		{"a@b@c", NULL},
		{"@", NULL},
		{"a@", NULL},
		{"mailto:", NULL},
		{"<", NULL},
		{">", NULL},
		{"a\xFF@example.com", NULL},
		{"\"ann\"@x.example", "ann@x.example"},
		{"\"ann lee\"@x.example", "\"ann lee\"@x.example"},
		{"\"a\\\"b\"@x.example", "\"a\\\"b\"@x.example"},
		{"\"a\\\"@x.example", NULL},
		{"\"\"\"@x.example", NULL},
		{"x@fa\xC3\x9F.de", "x@xn--fa-hia.de"},
		{"x@\xE2\x80\x8B.de", NULL},
		{"", NULL}};
	char longest[64 + 1 + 64 + 4 + 1];

	CHECK_ALL("email", sophia_normalize_email, cases);
	memset(longest, 'a', sizeof(longest));
	memcpy(longest + 64, "@", 1);
	memcpy(longest + 64 + 1 + 63, ".com", 5);
	check("email of the longest parts", sophia_normalize_email, (Case){longest, longest});
	memcpy(longest + 64 + 1 + 64, ".com", 5);
	longest[64 + 1 + 63] = 'a';
	check("email of a label too long", sophia_normalize_email, (Case){longest, NULL});
	memset(longest, 'a', sizeof(longest));
	memcpy(longest + 65, "@x.com", 7);
	check("email of a local part too long", sophia_normalize_email, (Case){longest, NULL});
}

static void
test_domain(void)
{
	static const Case cases[] = {{"Ann <ann@Mail.Example.CO.UK>", "example.co.uk"},
								 {"sub.acme.com.", "acme.com"},
								 {"x@b\xC3\xBC"
								  "cher.de",
								  "xn--bcher-kva.de"},
								 {"a@co.uk", NULL},
								 {"a@co.uk", NULL}, /* remembered */
								 {"a@mail.acme.com", "acme.com"},
								 {"a@mail.acme.com", "acme.com"},
								 {"a@192.0.2.1", NULL},
								 {"localhost", NULL},
								 {"a@b@acme.com", NULL},
								 {".", NULL},
								 {"", NULL}};

	CHECK_ALL("domain", sophia_email_domain, cases);
}

static void
test_phone(void)
{
	static const Case international[] = {
		{"+49 (0)89 123456", "+4989123456"},
		{"+49-89-123456 ext. 12", "+4989123456"},
		{"0049-89-123456", NULL},
		{"Tel. +49 89 123456,,12", "+4989123456"},
		{"+49 89 123456 \xD0\x94\xD0\xBE\xD0\xB1. 7", "+4989123456"},
		{"+49 89 123456 or 7", NULL},
		{"+1 645 123 1234", NULL},
		{"+1 415 555 0100-910#", "+14155550100"},
		{"+39 06 12", NULL},
		{"tel:+44-20-7946-0958;ext=5", "+442079460958"},
		{"+39 06 1234567", "+39061234567"},
		{"+999 123456789", NULL},
		{"089 123456", NULL},
		{"+49 89", NULL},
		{"++49 89 123456", NULL},
		{"x", NULL},
		{"", NULL}};
	static const Case argentine[] = {{"011 15 2345-6789", "+5491123456789"},
									 {"011 2345-6789", "+541123456789"},
									 {"0", NULL},
									 {"15", NULL}};
	static const Case german[] = {{"0049-89-123456 ext. 12", "+4989123456"},
								  {"4989123456", "+4989123456"},
								  {"089/123456", "+4989123456"},
								  {"+1 415 555 0100", "+14155550100"}};
	static const Case american[] = {{"(415) 555-0100 x99", "+14155550100"},
									{"1-415-555-0100", "+14155550100"},
									{"011 49 89 123456", "+4989123456"},
									{"555-0100", NULL}};

	CHECK_ALL("phone", sophia_normalize_phone, international);
	CHECK_ALL("phone in Argentina", argentine_phone, argentine);
	CHECK_ALL("phone in Germany", german_phone, german);
	CHECK_ALL("phone in the USA", american_phone, american);
}

static void
test_name(void)
{
	static const Case cases[] = {{"  Jose\xCC\x81   GARCI\xCC\x81"
								  "A ",
								  "jose garcia"},
								 {"Stra\xC3\x9F"
								  "e",
								  "strasse"},
								 {"O\xE2\x80\x99"
								  "Brien",
								  "o'brien"},
								 {"Lee, Ann (Acme) ", "lee ann acme"},
								 {"- / -", NULL},
								 {"N/A", NULL},
								 {" \xC2\xA0 ", NULL},
								 {"", NULL}};

	CHECK_ALL("name", sophia_fold_name, cases);
}

static void
test_html(void)
{
	static const Case cases[] = {
		{"<p>Hello<br>World</p>", "Hello\nWorld"},
		{"a<script>if (a<b) '</p>'</SCRIPT >b", "ab"},
		{"<style>x", NULL},
		{"&lt;b&gt; &amp;amp; &#65;&#x42 &nope; &", "<b> &amp; AB &nope; &"},
		{"a < b <c@d.example> <e", "a < b <c@d.example> <e"},
		{"<a title=\"x>y\">z</a>", "z"},
		{"<!-- <b> -->a<!doctype html>", "a"},
		{"<pre>a\n  b</pre>c\nd", "a\nb\nc d"},
		{"&#128;&#0;&#xDFFF;&#99999999999;", "\xE2\x82\xAC\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
		{"&notit; &notin; &nbspx&fjlig;", "\xC2\xACit; \xE2\x88\x89 xfj"},
		{"<![CDATA[a <b>]]>c<![CDATA[", "a <b>c"},
		{"<p hidden>a<p>b</p></p>c<i style='DISPLAY : none'>d</i>", "c"},
		{"<p style=display:none>a<p hidden=x", "a"},
		{"<a title=' hidden '>b</a>", "b"},
		{"<p hidden>a</p", "a</p"},
		{"<", "<"},
		{"</", "</"},
		{"&#", "&#"},
		{"", NULL}};

	CHECK_ALL("html", sophia_strip_html, cases);
}

static void
test_slack(void)
{
	static const Case named[] = {
		{"Hi <@U1>, <@U2|bob>, <@U3>", "Hi @Ann, @bob, <@U3>"},
		{"<#C1|general> <!here> <!subteam^S1|@eng>", "#general @here @eng"},
		{"<https://x.example?a&amp;b|site> <https://y.example>", "site https://y.example"},
		{"&lt;@U1&gt; &amp;lt;", "<@U1> &lt;"},
		{"<@U1", "<@U1"},
		{"<>", "<>"},
		{"", NULL}};
	static const Case unnamed[] = {{"<@U1>", "<@U1>"}, {"<mailto:a@b>", "a@b"}};

	CHECK_ALL("slack", slack_with_names, named);
	CHECK_ALL("slack without names", slack_without_names, unnamed);
}

static void
test_snippet(void)
{
	static const Case cases[] = {{" a\n\t b\xC2\xA0 ", "a b"}, {" \n", NULL}, {"", NULL}};
	char words[2 * SNIPPET_MAX_CHARACTERS];
	ByteBuffer out = {0};

	CHECK_ALL("snippet", sophia_snippet, cases);
	for (size_t i = 0; i < sizeof(words); i++)
		words[i] = i % 2 == 0 ? 'x' : ' ';
	ok(sophia_snippet(words, sizeof(words), &out) && buffer_size(&out) == SNIPPET_MAX_CHARACTERS - 1,
	   "snippet: no blank at the end where it is cut");
	sophia_buffer_free(&out);
}

/* Random bytes of the kind that matter, valid UTF-8 or not: no function may read or write out of bounds. */
static void
test_noise(void)
{
	static const char alphabet[] =
		"<>&;#@|!^\"'=/ \n\tax09+-.:,()\xC3\xA4\xE2\x80\x8B\xF0\x9F\x98\x80\xFF";
	static const Normalize all[] = {sophia_normalize_email, sophia_email_domain, german_phone,
									american_phone,			sophia_fold_name,	 sophia_strip_html,
									slack_with_names,		sophia_snippet};
	uint64_t random = 42;
	bool bounded = true;

	for (int round = 0; round < 100000; round++)
	{
		size_t len = round % 70;
		char *in = malloc(len + (len == 0));
		ByteBuffer out = {0};

		for (size_t i = 0; i < len; i++)
		{
			random = random * 6364136223846793005u + 1442695040888963407u;
			in[i] = alphabet[(random >> 33) % (sizeof(alphabet) - 1)];
		}
		if (!all[round % 8](in, len, &out))
			bounded = bounded && buffer_size(&out) == 0;
		else
			bounded = bounded && buffer_size(&out) > 0 && buffer_size(&out) < 4 * len + 64;
		sophia_buffer_free(&out);
		free(in);
	}
	ok(bounded, "random bytes leave the buffer empty or filled, and nothing else");
}

int
main(void)
{
	test_email();
	test_domain();
	test_phone();
	test_name();
	test_html();
	test_slack();
	test_snippet();
	test_noise();
	done_testing();
	return exit_status();
}
