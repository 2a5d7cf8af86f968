/*
 * Unit tests of flow/reduce.c: what a document does to its row, by strategy, order and deletion.
 */
#include <string.h>

#include "base/json_parse.h"
#include "flow/reduce.h"
#include "tap.h"

#define HIGH UINT64_C(0x8000000000000000)

static JsonParser parser;
static Arena arena;

/* A document of the journal that is being applied. */
static Document
document(const char *text, uint64_t clock, int64_t offset)
{
	Document result = {.clock = clock, .offset = offset};
	const JsonNode *meta;

	sophia_json_parse(&parser, &arena, text, strlen(text));
	result.root = parser.root;
	meta = sophia_json_member(&result.root, "_meta", 5);
	result.tombstone = meta != NULL && sophia_json_member(meta, "op", 2) != NULL;
	return result;
}

/* A row that a document made, in this journal or another. */
static RowState
row(const char *text, uint64_t clock, int64_t offset, bool same_journal)
{
	RowState result = {.exists = true,
					   .ordered = true,
					   .same_journal = same_journal,
					   .clock = clock,
					   .offset = offset};

	sophia_json_parse(&parser, &arena, text, strlen(text));
	result.doc = parser.root;
	return result;
}

/* The number of member `name`, -1 for null, -2 when it is absent. */
static int
number(const JsonNode *node, const char *name)
{
	const JsonNode *value = sophia_json_member(node, name, strlen(name));

	return value == NULL ? -2 : value->kind == JSON_NULL ? -1 : value->u.text[0] - '0';
}

static void
test_newer(void)
{
	RowState state = {0};
	Document first = document("{\"_meta\":{\"u\":1},\"a\":1,\"b\":2}", 10, 0);
	Document second = document("{\"_meta\":{\"v\":2},\"b\":null,\"c\":3}", 5, 100);

	ok(sophia_reduce(&state, &first, REDUCE_MERGE, &arena) == REDUCE_APPLIED && state.exists,
	   "the first document makes the row");
	ok(sophia_reduce(&state, &second, REDUCE_MERGE, &arena) == REDUCE_APPLIED,
	   "within a journal the later document counts, whatever its clock");
	ok(number(&state.doc, "a") == 1 && number(&state.doc, "b") == -1 && number(&state.doc, "c") == 3,
	   "merge unites and takes an explicit null");
	ok(number(sophia_json_member(&state.doc, "_meta", 5), "v") == 2 &&
		   number(sophia_json_member(&state.doc, "_meta", 5), "u") == -2,
	   "_meta is that of the last document");
	ok(state.clock == 5 && state.offset == 100, "the row knows its last document");
	ok(sophia_reduce(&state, &second, REDUCE_MERGE, &arena) == REDUCE_NOTHING,
	   "the very same document again does nothing");

	state = (RowState){0};
	sophia_reduce(&state, &first, REDUCE_LAST_WRITE_WINS, &arena);
	sophia_reduce(&state, &second, REDUCE_LAST_WRITE_WINS, &arena);
	ok(number(&state.doc, "a") == -2 && number(&state.doc, "c") == 3, "lastWriteWins replaces");
}

static void
test_other_journal(void)
{
	RowState state = row("{\"a\":1,\"n\":null,\"_meta\":{\"u\":1}}", 100, 7, false);
	Document older = document("{\"a\":9,\"n\":9,\"b\":2,\"_meta\":{\"u\":9}}", 50, 0);
	Document newer = document("{\"a\":3}", 101, 10);

	ok(sophia_reduce(&state, &older, REDUCE_MERGE, &arena) == REDUCE_FILLED,
	   "an older document of another journal fills");
	ok(number(&state.doc, "a") == 1 && number(&state.doc, "n") == -1 &&
		   number(&state.doc, "b") == 2 &&
		   number(sophia_json_member(&state.doc, "_meta", 5), "u") == 1,
	   "it adds what the row lacks and changes nothing else");
	ok(sophia_reduce(&state, &older, REDUCE_MERGE, &arena) == REDUCE_NOTHING,
	   "one that has nothing to add does nothing, whatever its _meta");
	ok(state.clock == 100 && state.offset == 7 && !state.same_journal,
	   "the row still stands for its newest document");
	ok(sophia_reduce(&state, &newer, REDUCE_MERGE, &arena) == REDUCE_APPLIED &&
		   number(&state.doc, "a") == 3,
	   "a newer one of another journal is applied");

	state = row("{\"a\":1}", 100, 7, false);
	ok(sophia_reduce(&state, &older, REDUCE_LAST_WRITE_WINS, &arena) == REDUCE_NOTHING &&
		   number(&state.doc, "a") == 1,
	   "lastWriteWins drops an older document of another journal");
	state = row("{\"a\":1}", HIGH | 1, 7, false);
	ok(sophia_reduce(&state, &newer, REDUCE_LAST_WRITE_WINS, &arena) == REDUCE_NOTHING,
	   "clocks are unsigned");
	state = row("{\"a\":1}", 100, 7, false);
	state.ordered = false;
	ok(sophia_reduce(&state, &older, REDUCE_LAST_WRITE_WINS, &arena) == REDUCE_APPLIED,
	   "a row that came another way is older than any document");
}

static void
test_out_of_turn(void)
{
	RowState state = row("{\"a\":1}", 100, 7, true);
	Document older = document("{\"a\":9,\"b\":2}", 50, 500);
	Document newer = document("{\"a\":3}", 101, 3);
	Document same = document("{\"a\":4}", 101, 3);

	state.by_clock = true;
	ok(sophia_reduce(&state, &older, REDUCE_MERGE, &arena) == REDUCE_FILLED &&
		   number(&state.doc, "a") == 1 && number(&state.doc, "b") == 2,
	   "out of its turn an older document of the same journal only fills");
	ok(sophia_reduce(&state, &newer, REDUCE_MERGE, &arena) == REDUCE_APPLIED &&
		   number(&state.doc, "a") == 3 && state.offset == 3,
	   "and a newer one counts, wherever it stands");
	ok(sophia_reduce(&state, &same, REDUCE_MERGE, &arena) == REDUCE_NOTHING,
	   "the very same document again does nothing");
	state = row("{\"a\":1}", 100, 7, true);
	state.by_clock = true;
	ok(sophia_reduce(&state, &older, REDUCE_LAST_WRITE_WINS, &arena) == REDUCE_NOTHING,
	   "lastWriteWins drops the older one");
}

static void
test_tombstones(void)
{
	RowState state = row("{\"id\":1,\"a\":1}", 10, 0, true);
	Document gone = document("{\"id\":1,\"_meta\":{\"op\":\"d\"}}", 11, 10);
	Document back = document("{\"id\":1,\"b\":2}", 12, 20);
	Document late = document("{\"id\":1,\"c\":3}", 5, 0);

	ok(sophia_reduce(&state, &gone, REDUCE_MERGE, &arena) == REDUCE_APPLIED && state.deleted &&
		   number(&state.doc, "a") == 1,
	   "a tombstone keeps what the row had");
	state.same_journal = false;
	ok(sophia_reduce(&state, &late, REDUCE_MERGE, &arena) == REDUCE_NOTHING && state.deleted,
	   "an older document of another journal does not bring it back");
	ok(sophia_reduce(&state, &back, REDUCE_MERGE, &arena) == REDUCE_APPLIED && !state.deleted &&
		   number(&state.doc, "a") == -2 && number(&state.doc, "b") == 2,
	   "a later document starts from an empty one");

	state = row("{\"id\":1,\"a\":1}", 10, 0, true);
	ok(sophia_reduce(&state, &gone, REDUCE_LAST_WRITE_WINS, &arena) == REDUCE_APPLIED &&
		   state.deleted && number(&state.doc, "a") == 1 &&
		   sophia_json_member(&state.doc, "_meta", 5) != NULL,
	   "a tombstone keeps the row under lastWriteWins too");
	state = row("{\"id\":1}", 100, 0, false);
	ok(sophia_reduce(&state, &gone, REDUCE_MERGE, &arena) == REDUCE_NOTHING && !state.deleted,
	   "an older tombstone of another journal deletes nothing");
	state = (RowState){0};
	ok(sophia_reduce(&state, &gone, REDUCE_MERGE, &arena) == REDUCE_APPLIED && state.exists &&
		   state.deleted,
	   "a tombstone of an unknown key is remembered");
}

static void
test_replay(void)
{
	RowState state = row("{\"id\":1,\"a\":1}", 10, 50, true);
	Document again = document("{\"id\":1,\"a\":2}", 9, 120);

	again.rewound_from = 100;
	ok(sophia_reduce(&state, &again, REDUCE_MERGE, &arena) == REDUCE_NOTHING &&
		   number(&state.doc, "a") == 1,
	   "what is read again does not change a row of a document before the beginning");
	state.offset = 110;
	ok(sophia_reduce(&state, &again, REDUCE_MERGE, &arena) == REDUCE_APPLIED &&
		   number(&state.doc, "a") == 2,
	   "it does change a row of a document behind it");
}

static void
test_no_journal(void)
{
	RowState state = {0};
	Document first = document("{\"id\":1,\"a\":1}", 10, -1);
	Document second = document("{\"id\":1,\"a\":2}", 11, -1);

	state.by_clock = true;
	ok(sophia_reduce(&state, &first, REDUCE_MERGE, &arena) == REDUCE_APPLIED &&
		   sophia_reduce(&state, &second, REDUCE_MERGE, &arena) == REDUCE_APPLIED &&
		   number(&state.doc, "a") == 2,
	   "of two documents that have no offset, the later one counts");
}

int
main(void)
{
	test_newer();
	test_other_journal();
	test_out_of_turn();
	test_tombstones();
	test_replay();
	test_no_journal();
	sophia_json_parser_free(&parser);
	sophia_arena_free(&arena);
	done_testing();
	return exit_status();
}
