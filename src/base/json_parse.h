/*
 * json_parse.h
 *		From a JSON text to a tree (base/json.h).
 *
 * The parser is the hot path of the ingest, so it is ours: it never throws, names what is wrong with a document
 * instead, goes on after what only spoils a text (so that the document's uuid can still be read), keeps every digit
 * of a number, and leaves strings without escapes where they are in the input.
 */
#ifndef SOPHIA_JSON_PARSE_H
#define SOPHIA_JSON_PARSE_H

#include "base/json.h"

/* What is wrong with a text.  All but the first three leave the rest of the document readable. */
typedef enum JsonProblem
{
	JSON_FINE,
	JSON_NO_MEMORY,
	JSON_SYNTAX,
	JSON_TOO_DEEP,
	JSON_TOO_MANY,		 /* values: the rest was read as if only the uuid were wanted */
	JSON_BAD_ENCODING,	 /* bytes that are no UTF-8 */
	JSON_NUL,			 /* \u0000 */
	JSON_LONE_SURROGATE, /* \ud800 without its other half */
	JSON_NUMBER_RANGE	 /* more digits or a larger exponent than the server's numeric holds */
} JsonProblem;

/* Reusable: zero it before the first use, sophia_json_parser_free() at the end. */
typedef struct JsonParser
{
	/* Result of the last parse. */
	JsonProblem problem; /* the first one met */
	size_t problem_at;	 /* byte position of it */
	JsonNode root;		 /* valid unless the problem is one of JSON_NO_MEMORY .. JSON_TOO_MANY */
	JsonNode uuid; /* /_meta/uuid, also of a document that breaks off behind it; JSON_NULL = none */

	/* Set before a parse: only the uuid and the problems are wanted, so that no tree is built; root is then empty. */
	bool skim;

	/* Internal. */
	Arena *arena;
	const char *start;
	const char *next;
	const char *end;
	int depth;
	bool in_meta;
	bool skims;
	size_t values;			  /* of all containers */
	struct JsonMember *stack; /* members and items of the containers that are open */
	size_t stack_size;
	size_t stack_top;
} JsonParser;

#define JSON_MAX_DEPTH 1000

/* Members and items of one text, which bounds the memory of its tree: 128 MB, and as much while it is built. */
#define JSON_MAX_VALUES ((size_t) 4 * 1024 * 1024)

/* Parses one JSON text of `length` bytes into parser->root; true when there is no problem at all. */
extern bool sophia_json_parse(JsonParser *parser, Arena *arena, const char *text, size_t length);
extern void sophia_json_parser_free(JsonParser *parser);

#endif /* SOPHIA_JSON_PARSE_H */
