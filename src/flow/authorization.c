/*
 * authorization.c
 *		Answers of Estuary's control plane, and the times in a broker's token: see authorization.h.
 *
 * An answer is JSON: {"brokerAddress", "brokerToken", "journalNamePrefix", "retryMillis"}, where what
 * is empty is left out.  A refusal is plain text, or JSON with a message.
 */
#include "flow/authorization.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/json_parse.h"

#define HTTP_OK					200
#define HTTP_TEMPORARY_REDIRECT 307
#define HTTP_BAD_REQUEST		400
#define HTTP_UNAUTHORIZED		401
#define HTTP_FORBIDDEN			403
#define HTTP_NOT_FOUND			404

#define LONGEST_REASON 240

/* ---- members of a JSON object ---- */

static const JsonNode *
member(const JsonNode *node, const char *name)
{
	return node != NULL ? sophia_json_member(node, name, strlen(name)) : NULL;
}

/* A string that is not empty, as a copy; else NULL. */
static char *
string_member(const JsonNode *node, const char *name)
{
	const JsonNode *value = member(node, name);
	char *copy;

	if (value == NULL || value->kind != JSON_STRING || value->length == 0 ||
		memchr(value->u.text, '\0', value->length) != NULL)
		return NULL;
	copy = malloc(value->length + 1);
	if (copy == NULL)
		return NULL;
	memcpy(copy, value->u.text, value->length);
	copy[value->length] = '\0';
	return copy;
}

/* A number without its fraction; 0 when there is none or it is out of range. */
static int64_t
number_member(const JsonNode *node, const char *name)
{
	const JsonNode *value = member(node, name);
	char text[40];
	double number;

	if (value == NULL || value->kind != JSON_NUMBER || value->length >= sizeof(text))
		return 0;
	memcpy(text, value->u.text, value->length);
	text[value->length] = '\0';
	number = strtod(text, NULL);
	return number > 0 && number < 9e15 ? (int64_t) number : 0;
}

/* ---- refusals ---- */

static bool
contains(const char *text, size_t length, const char *part)
{
	size_t part_length = strlen(part);

	for (size_t at = 0; part_length > 0 && at + part_length <= length; at++)
	{
		if (memcmp(text + at, part, part_length) == 0)
			return true;
	}
	return false;
}

/* Appends text on one line, cut to what fits. */
static void
add_reason(char *reason, const char *text, size_t length)
{
	size_t used = strlen(reason);

	for (size_t i = 0; i < length && used < LONGEST_REASON; i++)
		reason[used++] = (unsigned char) text[i] < 0x20 || text[i] == 0x7F ? ' ' : text[i];
	reason[used] = '\0';
}

static void
add_string(char *reason, const char *before, const JsonNode *value)
{
	if (value == NULL || value->kind != JSON_STRING)
		return;
	add_reason(reason, before, strlen(before));
	add_reason(reason, value->u.text, value->length);
}

/* {"error": …, "message": …, "missing_capabilities": […]} */
static void
describe_object(char *reason, const JsonNode *root)
{
	const JsonNode *missing = member(root, "missing_capabilities");

	add_string(reason, "", member(root, member(root, "message") != NULL ? "message" : "error"));
	for (uint32_t i = 0; missing != NULL && missing->kind == JSON_ARRAY && i < missing->length; i++)
		add_string(reason, i == 0 ? "; missing: " : ", ", &missing->u.items[i]);
}

static void
refuse(Authorization *authorization, long status, const JsonNode *root, const char *body,
	   size_t length, const char *secret)
{
	char reason[LONGEST_REASON + 1] = "";

	while (length > 0 && isspace((unsigned char) body[length - 1]))
		length--;
	if (contains(body, length, secret))
		add_reason(reason, "a text that repeats the secret", 30);
	else if (root != NULL && root->kind == JSON_OBJECT)
		describe_object(reason, root);
	else
		add_reason(reason, body, length);
	snprintf(authorization->message, sizeof(authorization->message),
			 "the control plane answered %ld: %s", status,
			 reason[0] != '\0' ? reason : "no reason given");
}

/* ---- answers ---- */

static void
take_grant(Authorization *authorization, const JsonNode *root)
{
	size_t length;

	authorization->address = string_member(root, "brokerAddress");
	authorization->token = string_member(root, "brokerToken");
	authorization->prefix = string_member(root, "journalNamePrefix");
	length = authorization->address != NULL ? strlen(authorization->address) : 0;
	while (length > 0 && authorization->address[length - 1] == '/')
		authorization->address[--length] = '\0';
	if (length > 0 && authorization->token != NULL)
		return;
	authorization->kind = AUTHORIZATION_UNAVAILABLE;
	snprintf(authorization->message, sizeof(authorization->message),
			 "the control plane's answer names no broker or no token");
}

static AuthorizationKind
kind_of(long status)
{
	switch (status)
	{
		case HTTP_OK:
			return AUTHORIZATION_GRANTED;
		case HTTP_TEMPORARY_REDIRECT:
			return AUTHORIZATION_PROVISIONAL;
		case HTTP_BAD_REQUEST:
			return AUTHORIZATION_REJECTED;
		case HTTP_UNAUTHORIZED:
			return AUTHORIZATION_UNKNOWN;
		case HTTP_FORBIDDEN:
			return AUTHORIZATION_DENIED;
		case HTTP_NOT_FOUND:
			return AUTHORIZATION_NOT_FOUND;
		default:
			return AUTHORIZATION_UNAVAILABLE;
	}
}

static void
judge(Authorization *authorization, long status, const JsonNode *root, const char *body,
	  size_t length, const char *secret)
{
	int64_t wait_ms = root != NULL ? number_member(root, "retryMillis") : 0;

	authorization->kind = kind_of(status);
	if (authorization->kind == AUTHORIZATION_PROVISIONAL)
		authorization->wait_ms = -1;
	else if (authorization->kind != AUTHORIZATION_GRANTED)
		refuse(authorization, status, root, body, length, secret);
	else if (wait_ms > 0)
	{
		authorization->kind = AUTHORIZATION_PROVISIONAL;
		authorization->wait_ms = wait_ms;
	}
	else
		take_grant(authorization, root);
}

void
sophia_authorization_read(Authorization *authorization, long status, const char *body,
						  size_t length, const char *secret)
{
	JsonParser parser = {0};
	Arena arena = {0};
	bool parsed = sophia_json_parse(&parser, &arena, body, length);

	memset(authorization, 0, sizeof(*authorization));
	judge(authorization, status, parsed ? &parser.root : NULL, body, length, secret);
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
}

/* Overwrites what is about to be freed; volatile, so that it is not optimised away. */
static void
wipe(char *text)
{
	for (volatile char *at = text; at != NULL && *at != '\0'; at++)
		*at = '\0';
	free(text);
}

void
sophia_authorization_clear(Authorization *authorization)
{
	free(authorization->address);
	free(authorization->prefix);
	wipe(authorization->token);
	authorization->address = authorization->prefix = authorization->token = NULL;
}

/* ---- tokens ---- */

/* Decodes base64url without padding (RFC 4648, section 5). */
static bool
decode_url(ByteBuffer *out, const char *text, size_t length)
{
	size_t padded = (length + 3) / 4 * 4;
	char *standard = malloc(padded + 1);
	bool done;

	if (standard == NULL)
		return false;
	for (size_t i = 0; i < padded; i++)
	{
		char ch = i < length ? text[i] : '=';

		standard[i] = ch == '-' ? '+' : ch == '_' ? '/' : ch;
	}
	done = sophia_base64_append(out, standard, padded);
	free(standard);
	return done;
}

bool
sophia_token_times(const char *token, int64_t *issued, int64_t *expires)
{
	const char *payload = strchr(token, '.');
	const char *end = payload != NULL ? strchr(payload + 1, '.') : NULL;
	ByteBuffer text = {0};
	JsonParser parser = {0};
	Arena arena = {0};

	*issued = *expires = 0;
	if (end != NULL && end > payload + 1 && decode_url(&text, payload + 1, end - payload - 1) &&
		sophia_json_parse(&parser, &arena, buffer_bytes(&text), buffer_size(&text)))
	{
		*issued = number_member(&parser.root, "iat");
		*expires = number_member(&parser.root, "exp");
	}
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
	sophia_buffer_free(&text);
	return *expires > 0;
}
