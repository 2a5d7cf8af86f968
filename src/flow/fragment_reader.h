/*
 * fragment_reader.h
 *		Reading a journal from its fragments: chooses the file that holds the next byte, opens it, proves it whole and
 *		appends its content to the reader.
 *
 * Each reader has at most one file open, which is proved whole before its first byte is delivered.  It is served in
 * bounded slices by the kind, source_fragments.c; what both know of a source and of a reader stands here.
 * A failure is kept as the reader's problem, which the kind reports; nothing is thrown for it.
 */
#ifndef SOPHIA_FRAGMENT_READER_H
#define SOPHIA_FRAGMENT_READER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "flow/fragment_index.h"
#include "flow/source.h"

/* Why something does not go on; message '' = it does. */
typedef struct FragmentsProblem
{
	int sqlstate;
	bool permanent;
	char message[512];
} FragmentsProblem;

/* Source.private of the kind. */
typedef struct FragmentsState
{
	FragmentIndex *index;  /* NULL once its memory is gone */
	MemoryContext scratch; /* of one check of the address */
	TimestampTz next_scan;
	int64 scan_interval_ms;
	uint64 refresh_tried;	  /* the refresh_wanted of the last scan */
	int next_reader;		  /* who is served first next time */
	FragmentsProblem problem; /* with the folder as a whole */
} FragmentsState;

/* Reader.private of the kind. */
typedef struct FragmentsReader
{
	IndexedJournal *journal; /* NULL while no scan has seen it */
	Fragment *fragment;		 /* pinned while its file is open */
	FragmentFile *file;
	bool verified;
	bool doubted; /* the byte before the reader's position is read first: it must end a line */
	uint64 idle;  /* the scan after which there was nothing to do */
	FragmentsProblem problem;
} FragmentsReader;

/* The message is formatted, and cut to fit. */
extern void sophia_fragments_set_problem(FragmentsProblem *problem, int sqlstate, bool permanent,
										 const char *format, ...) pg_attribute_printf(4, 5);
extern void sophia_fragments_clear_problem(FragmentsProblem *problem);

/* open_reader and close_reader of the kind. */
extern void sophia_fragments_open_reader(Reader *reader);
extern void sophia_fragments_close_reader(Reader *reader);

/* Gives a reader one slice; true when more can be done at once. */
extern bool sophia_fragments_serve(Reader *reader);

#endif /* SOPHIA_FRAGMENT_READER_H */
