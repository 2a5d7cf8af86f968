/*
 * sequence_fuzz.c
 *		Fuzzes the sequencer with what producers may do, and with anything at all.
 *
 * The first byte chooses.  Either a producer writes transactions, and any run of what it wrote is appended once more at
 * once, as after a lost answer: then exactly the documents of committed transactions commit, each once, in their order.
 * Or clocks and flags are any: then no document commits that was not pending.
 */
#include <stdbool.h>

#include "flow/sequencer.h"
#include "flow/uuid.h"
#include "fuzz.h"

#define MAX_DOCUMENTS 512

typedef struct Document
{
	uint64_t clock;
	int flags;
} Document;

typedef struct Reader
{
	ProducerState state;
	int64_t offset;
	uint64_t pending[MAX_DOCUMENTS * 4];
	int n_pending;
	uint64_t committed[MAX_DOCUMENTS * 4];
	int n_committed;
} Reader;

static void
commit_pending(Reader *reader, uint64_t after, uint64_t through)
{
	for (int i = 0; i < reader->n_pending; i++)
		if (reader->pending[i] > after && reader->pending[i] <= through)
			reader->committed[reader->n_committed++] = reader->pending[i];
	reader->n_pending = 0;
}

/* Does with the outcome what the ingest does. */
static void
read_document(Reader *reader, const Document *document)
{
	SequenceResult result =
		sophia_sequence(&reader->state, document->clock, document->flags, reader->offset++);

	REQUIRE(reader->n_pending == 0 || result.outcome == SEQUENCE_DUPLICATE ||
			document->clock == 0 || result.outcome == SEQUENCE_PENDING ||
			result.outcome == SEQUENCE_ACK_COMMIT || result.outcome == SEQUENCE_ROLLBACK ||
			result.discards_pending);
	if (result.discards_pending)
		reader->n_pending = 0;
	switch (result.outcome)
	{
		case SEQUENCE_COMMIT:
			reader->committed[reader->n_committed++] = document->clock;
			break;
		case SEQUENCE_PENDING:
			reader->pending[reader->n_pending++] = document->clock;
			break;
		case SEQUENCE_ACK_COMMIT:
			REQUIRE(reader->n_pending > 0);
			commit_pending(reader, result.commit_after, document->clock);
			break;
		case SEQUENCE_ROLLBACK:
			reader->n_pending = 0;
			break;
		case SEQUENCE_DUPLICATE:
		case SEQUENCE_ACK_EMPTY:
			break;
	}
	REQUIRE((reader->state.begin >= 0) == (reader->n_pending > 0));
	REQUIRE(!reader->state.known || reader->state.max_clock >= reader->state.last_ack);
}

/* What a producer wrote, and what it knows to be committed. */
typedef struct Writer
{
	Document written[MAX_DOCUMENTS];
	int n_written;
	uint64_t committed[MAX_DOCUMENTS];
	int n_committed;
	uint64_t clock;
	uint64_t last_ack;
	int open; /* documents of the transaction */
} Writer;

static void
write_document(Writer *writer, Reader *reader, uint64_t clock, int flags)
{
	Document document = {clock, flags};

	writer->written[writer->n_written++] = document;
	read_document(reader, &document);
}

/* The last so many documents are appended once more; a chunk ends with an acknowledgement, if it holds one. */
static void
repeat_chunk(const Writer *writer, Reader *reader, int n)
{
	int first = writer->n_written;

	if (reader->offset > MAX_DOCUMENTS * 3)
		return;
	while (first > 0 && writer->n_written - first < n &&
		   (first == writer->n_written || !(writer->written[first - 1].flags & DOCUMENT_FLAG_ACK)))
		first--;
	for (int i = first; i < writer->n_written; i++)
		read_document(reader, &writer->written[i]);
}

/* One step of a producer: a document, an acknowledgement, a roll-back, a document by itself, or a repetition. */
static void
step(Writer *writer, Reader *reader, uint8_t what)
{
	switch (what % 5)
	{
		case 0:
			write_document(writer, reader, ++writer->clock, DOCUMENT_FLAG_CONTINUE);
			writer->committed[writer->n_committed + writer->open++] = writer->clock;
			break;
		case 1:
			write_document(writer, reader, ++writer->clock, DOCUMENT_FLAG_ACK);
			writer->n_committed += writer->open;
			writer->open = 0;
			writer->last_ack = writer->clock;
			break;
		case 2:
			if (writer->last_ack == 0)
				break;
			/* a producer that rolled back goes on with newer clocks */
			write_document(writer, reader, writer->last_ack, DOCUMENT_FLAG_ACK);
			writer->open = 0;
			break;
		case 3:
			if (writer->open > 0)
				break;
			write_document(writer, reader, ++writer->clock, 0);
			writer->committed[writer->n_committed++] = writer->clock;
			writer->last_ack = writer->clock;
			break;
		case 4:
			repeat_chunk(writer, reader, what / 5 % 4 + 1);
			break;
	}
}

static void
follow_a_producer(const uint8_t *data, size_t size)
{
	static Reader reader;
	static Writer writer;

	memset(&reader, 0, sizeof(reader));
	memset(&writer, 0, sizeof(writer));
	reader.state.begin = -1;
	writer.clock = 1000;
	for (size_t i = 0; i < size && writer.n_written < MAX_DOCUMENTS; i++)
		step(&writer, &reader, data[i]);
	REQUIRE(reader.n_committed == writer.n_committed);
	REQUIRE(memcmp(reader.committed, writer.committed,
				   sizeof(uint64_t) * (size_t) writer.n_committed) == 0);
}

static void
follow_anything(const uint8_t *data, size_t size)
{
	static Reader reader;

	memset(&reader, 0, sizeof(reader));
	reader.state.begin = -1;
	for (size_t i = 0; i + 9 <= size && reader.offset < MAX_DOCUMENTS; i += 9)
	{
		Document document = {0, data[i]};

		memcpy(&document.clock, data + i + 1, sizeof(document.clock));
		read_document(&reader, &document);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 2 == 0)
		follow_a_producer(data + 1, size - 1);
	else
		follow_anything(data + 1, size - 1);
	return 0;
}
