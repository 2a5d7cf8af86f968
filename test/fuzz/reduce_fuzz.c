/*
 * reduce_fuzz.c
 *		Fuzzes the reduction of documents, one a line, that come from one journal in the order of their lines.
 *
 * The first byte chooses strategy and tombstones.  Reading everything once more leaves the row as it was, the last
 * document alone does nothing, under last-write-wins a row holds the last document, and an older document of
 * another journal replaces nothing.
 */
#include "base/json_parse.h"
#include "flow/reduce.h"
#include "tree.h"

#define MAX_DOCUMENTS 16

typedef struct Input
{
	Arena arena;
	JsonParser parser;
	Document documents[MAX_DOCUMENTS];
	int n;
} Input;

static void
read_documents(Input *input, const char *text, size_t size, uint8_t choice)
{
	input->n = 0;
	while (size > 0 && input->n < MAX_DOCUMENTS)
	{
		const char *newline = memchr(text, '\n', size);
		size_t length = newline != NULL ? (size_t) (newline - text) : size;
		Document *document = &input->documents[input->n];

		if (sophia_json_parse(&input->parser, &input->arena, text, length))
		{
			*document = (Document){input->parser.root, 100 + (uint64_t) input->n,
								   1000 * (int64_t) input->n, choice >> (input->n % 4 + 1) & 1};
			input->n++;
		}
		text += length + (newline != NULL);
		size -= length + (newline != NULL);
	}
}

static RowState
reduce_all(Input *input, ReduceStrategy strategy, RowState row)
{
	for (int i = 0; i < input->n; i++)
	{
		REQUIRE(sophia_reduce(&row, &input->documents[i], strategy, &input->arena) ==
				REDUCE_APPLIED);
		REQUIRE(row.exists && row.ordered && row.same_journal);
		REQUIRE(row.deleted == input->documents[i].tombstone);
		REQUIRE(row.offset == input->documents[i].offset);
	}
	return row;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Input input;
	char *text;
	ReduceStrategy strategy;

	if (size == 0)
		return 0;
	strategy = data[0] & 1 ? REDUCE_MERGE : REDUCE_LAST_WRITE_WINS;
	text = exact_copy(data + 1, size - 1);
	read_documents(&input, text, size - 1, data[0]);
	if (input.n > 0)
	{
		RowState row = reduce_all(&input, strategy, (RowState){0});
		RowState again = row;
		const Document *last = &input.documents[input.n - 1];
		Document older = input.documents[0];

		REQUIRE(sophia_reduce(&again, last, strategy, &input.arena) == REDUCE_NOTHING);
		if (strategy == REDUCE_LAST_WRITE_WINS && !last->tombstone)
			REQUIRE(same_node(&row.doc, &last->root));
		if (input.n > 1)
		{
			again = reduce_all(&input, strategy, row);
			REQUIRE(same_node(&again.doc, &row.doc));
		}
		again.same_journal = false;
		older.clock = 1;
		REQUIRE(sophia_reduce(&again, &older, strategy, &input.arena) != REDUCE_APPLIED);
		REQUIRE(again.deleted == row.deleted && again.clock == row.clock);
	}
	sophia_arena_reset(&input.arena);
	free(text);
	return 0;
}
