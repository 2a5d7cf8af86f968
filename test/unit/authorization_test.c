/*
 * authorization_test.c
 *		Unit tests of flow/authorization.c: every answer of the control plane that is known, and
 *		tokens.
 */
#include "flow/authorization.h"

#include <string.h>

#include "tap.h"

#define SECRET "eyJpZCI6IjExOjIyIiwic2VjcmV0IjoicyJ9"

typedef struct Answer
{
	const char *name;
	long status;
	const char *body;
	Authorization expected; /* wait_ms and kind, and: */
	const char *address;
	const char *token;
	const char *prefix;
	const char *message; /* NULL: none */
} Answer;

static const Answer answers[] = {
	{"granted",
	 200,
	 "{\"brokerAddress\":\"https://gazette.example.com\",\"brokerToken\":\"a.b.c\","
	 "\"journalNamePrefix\":\"acmeCo/contacts/1122334455667788/\",\"retryMillis\":0}",
	 {.kind = AUTHORIZATION_GRANTED},
	 "https://gazette.example.com",
	 "a.b.c",
	 "acmeCo/contacts/1122334455667788/",
	 NULL},
	{"granted for a prefix, by an address that ends with a slash",
	 200,
	 "{\"reactorToken\":\"x\",\"brokerToken\":\"a.b.c\",\"brokerAddress\":\"http://h:1/\"}\n",
	 {.kind = AUTHORIZATION_GRANTED},
	 "http://h:1",
	 "a.b.c",
	 NULL,
	 NULL},
	{"provisional",
	 200,
	 "{\"retryMillis\":2750}",
	 {.kind = AUTHORIZATION_PROVISIONAL, .wait_ms = 2750},
	 NULL,
	 NULL,
	 NULL,
	 NULL},
	{"provisional by redirection",
	 307,
	 "",
	 {.kind = AUTHORIZATION_PROVISIONAL, .wait_ms = -1},
	 NULL,
	 NULL,
	 NULL,
	 NULL},
	{"without a token",
	 200,
	 "{\"brokerAddress\":\"http://h:1\"}",
	 {.kind = AUTHORIZATION_UNAVAILABLE},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane's answer names no broker or no token"},
	{"no JSON",
	 200,
	 "<html>",
	 {.kind = AUTHORIZATION_UNAVAILABLE},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane's answer names no broker or no token"},
	{"JSON of another kind",
	 200,
	 "[1]",
	 {.kind = AUTHORIZATION_UNAVAILABLE},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane's answer names no broker or no token"},
	{"a text with lines",
	 403,
	 "ann@acme is not authorized\nto acmeCo/ for Read\n",
	 {.kind = AUTHORIZATION_DENIED},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 403: ann@acme is not authorized to acmeCo/ for Read"},
	{"a masked token",
	 403,
	 "{\"error\":\"missing_capabilities\",\"message\":\"the token lacks a capability\","
	 "\"missing_capabilities\":[\"ReadCatalog\",\"ReadData\"]}",
	 {.kind = AUTHORIZATION_DENIED},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 403: the token lacks a capability; missing: ReadCatalog, "
	 "ReadData"},
	{"an error without a message",
	 403,
	 "{\"error\":\"missing_capabilities\"}",
	 {.kind = AUTHORIZATION_DENIED},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 403: missing_capabilities"},
	{"401",
	 401,
	 "invalid secret provided",
	 {.kind = AUTHORIZATION_UNKNOWN},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 401: invalid secret provided"},
	{"404",
	 404,
	 "collection acmeCo/x is not known",
	 {.kind = AUTHORIZATION_NOT_FOUND},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 404: collection acmeCo/x is not known"},
	{"400",
	 400,
	 "",
	 {.kind = AUTHORIZATION_REJECTED},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 400: no reason given"},
	{"503",
	 503,
	 "cordoned",
	 {.kind = AUTHORIZATION_UNAVAILABLE},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 503: cordoned"},
	{"a text that repeats the secret",
	 500,
	 "what is Bearer " SECRET "?",
	 {.kind = AUTHORIZATION_UNAVAILABLE},
	 NULL,
	 NULL,
	 NULL,
	 "the control plane answered 500: a text that repeats the secret"},
};

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void
test_answers(void)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
	{
		const Answer *answer = &answers[i];
		Authorization got;
		bool granted = answer->expected.kind == AUTHORIZATION_GRANTED;

		sophia_authorization_read(&got, answer->status, answer->body, strlen(answer->body), SECRET);
		ok(got.kind == answer->expected.kind, "%s: kind", answer->name);
		ok(got.wait_ms == answer->expected.wait_ms, "%s: wait", answer->name);
		ok(!granted || (same(got.address, answer->address) && same(got.token, answer->token) &&
						same(got.prefix, answer->prefix)),
		   "%s: address, token, prefix", answer->name);
		ok(strcmp(got.message, answer->message != NULL ? answer->message : "") == 0,
		   "%s: message \"%s\"", answer->name, got.message);
		sophia_authorization_clear(&got);
		ok(got.token == NULL, "%s: is cleared", answer->name);
	}
}

/* A reason without end is cut. */
static void
test_long_reason(void)
{
	char body[5000];
	Authorization got;

	memset(body, 'x', sizeof(body));
	sophia_authorization_read(&got, 500, body, sizeof(body), SECRET);
	ok(strlen(got.message) < sizeof(got.message) && strlen(got.message) > 200, "long reason: %zu",
	   strlen(got.message));
	sophia_authorization_clear(&got);
}

static void
test_tokens(void)
{
	int64_t issued = -1;
	int64_t expires = -1;
	bool valid;

	/* {"iat":1766000000,"exp":1766003600.5,"x":"??>"} */
	valid = sophia_token_times(
		"e30.eyJpYXQiOjE3NjYwMDAwMDAsImV4cCI6MTc2NjAwMzYwMC41LCJ4IjoiPz8-In0.sig", &issued,
		&expires);
	ok(valid && issued == 1766000000 && expires == 1766003600, "a token with both times");
	/* {"exp":5} */
	valid = sophia_token_times("e30.eyJleHAiOjV9.sig", &issued, &expires);
	ok(valid && issued == 0 && expires == 5, "a token that does not say when it was issued");
	ok(!sophia_token_times("e30.e30.sig", &issued, &expires), "a token that never expires");
	ok(!sophia_token_times("opaque", &issued, &expires), "no token");
	ok(!sophia_token_times("a..c", &issued, &expires), "an empty payload");
	ok(!sophia_token_times("a.b", &issued, &expires), "no signature");
	ok(!sophia_token_times("a.%%%%.c", &issued, &expires), "no base64");
	ok(!sophia_token_times("a.eyJleHAiOj.c", &issued, &expires), "a payload that breaks off");
}

int
main(void)
{
	test_answers();
	test_long_reason();
	test_tokens();
	done_testing();
	return exit_status();
}
