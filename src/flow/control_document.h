/*
 * control_document.h
 *		What a document says that is no data: an acknowledgement or a control document.
 *
 * Which documents these are is told by the flags of their uuid alone; their bodies are read tolerantly, since two
 * generations of writers exist.  An older one writes backfill markers as control documents with members in /_meta, a
 * newer one as acknowledgements with members at the top.  Sources: estuary/flow crates/shuffle/src/slice/read.rs,
 * crates/publisher/src/intents.rs and its snapshots.
 */
#ifndef SOPHIA_CONTROL_DOCUMENT_H
#define SOPHIA_CONTROL_DOCUMENT_H

#include "postgres.h"

#include "base/json.h"
#include "flow/uuid.h"

typedef enum ControlKind
{
	CONTROL_NOTHING, /* a plain acknowledgement */
	CONTROL_BACKFILL_BEGIN,
	CONTROL_BACKFILL_COMPLETE,
	CONTROL_UNKNOWN,	/* a control document of another kind */
	CONTROL_ACK_CONTENT /* an acknowledgement with content that no writer is known for */
} ControlKind;

typedef struct ControlDocument
{
	ControlKind kind;
	bool bounded;		 /* it says where the truncation ends */
	uint64 truncated_at; /* documents of a smaller clock are superseded */
} ControlDocument;

/* Reads a document whose uuid has the flag of an acknowledgement or of a control document. */
extern ControlDocument sophia_control_document_read(const JsonNode *root, int flags);

/* The name of the event that a kind is recorded as. */
extern const char *sophia_control_document_event(ControlKind kind);

#endif /* SOPHIA_CONTROL_DOCUMENT_H */
