/*
 * requests.c
 *		Requests that a backend asks of the ingest workers of its database, and their answers.
 *
 * The backend owns its request: it makes the dynamic shared memory segment for the answer, takes a slot, waits, and gives
 * both up whatever happens.  The worker copies the request out, and for the answer looks the slot up again by its id; so
 * neither side depends on the other staying alive.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/clock.h"
#include "base/compat.h"
#include "shared/registry_state.h"

#define SMALL_ANSWER 8192
#define LARGE_ANSWER (1024 * 1024)

/* The slot of that request, NULL when it was given up.  The lock is held. */
static RequestSlot *
find_request(uint64 id)
{
	for (int i = 0; i < REQUEST_SLOTS; i++)
	{
		if (sophia_registry->requests[i].id == id)
			return &sophia_registry->requests[i];
	}
	return NULL;
}

/* ---- worker side ---- */

bool
sophia_registry_next_request(uint64 after, Request *request)
{
	RequestSlot *next = NULL;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	for (int i = 0; i < REQUEST_SLOTS; i++)
	{
		RequestSlot *slot = &sophia_registry->requests[i];

		if (slot->id > after && slot->database == MyDatabaseId && !slot->answered &&
			(next == NULL || slot->id < next->id))
			next = slot;
	}
	if (next != NULL)
	{
		request->id = next->id;
		request->kind = next->kind;
		strlcpy(request->name, next->name, sizeof(request->name));
	}
	LWLockRelease(sophia_registry->lock);
	return next != NULL;
}

bool
sophia_registry_request_alive(uint64 id)
{
	RequestSlot *slot;
	bool alive;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	slot = find_request(id);
	alive = slot != NULL && !slot->answered;
	LWLockRelease(sophia_registry->lock);
	return alive;
}

/* Copies the text to where the backend waits for it; false when that is gone. */
static bool
deliver(dsm_handle handle, Size size, int *sqlstate, const char *text)
{
	dsm_segment *segment = dsm_attach(handle);
	Size length = strlen(text);

	if (segment == NULL)
		return false;
	if (length >= size && *sqlstate == 0)
	{
		*sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		text = "the answer of the ingest worker is too long";
		length = strlen(text);
	}
	if (length >= size)
		length = pg_mbcliplen(text, length, size - 1);
	memcpy(dsm_segment_address(segment), text, length);
	((char *) dsm_segment_address(segment))[length] = '\0';
	dsm_detach(segment);
	return true;
}

void
sophia_registry_answer(uint64 id, int sqlstate, const char *text)
{
	RequestSlot *slot;
	dsm_handle segment = DSM_HANDLE_INVALID;
	Size size = 0;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	slot = find_request(id);
	if (slot != NULL && !slot->answered)
	{
		segment = slot->segment;
		size = slot->size;
	}
	LWLockRelease(sophia_registry->lock);
	if (segment == DSM_HANDLE_INVALID || !deliver(segment, size, &sqlstate, text))
		return;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	slot = find_request(id);
	if (slot != NULL)
	{
		slot->answered = true;
		slot->sqlstate = sqlstate;
		SetLatch(&GetPGProcByNumber(slot->proc_number)->procLatch);
	}
	LWLockRelease(sophia_registry->lock);
}

/* ---- backend side ---- */

/* Takes a slot and wakes the workers; 0 when all are taken. */
static uint64
post_request(RequestKind kind, const char *name, dsm_segment *segment, Size size)
{
	uint64 id = 0;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < REQUEST_SLOTS; i++)
	{
		RequestSlot *slot = &sophia_registry->requests[i];

		if (slot->id != 0)
			continue;
		id = ++sophia_registry->last_request;
		slot->id = id;
		slot->database = MyDatabaseId;
		slot->proc_number = compat_my_proc_number();
		slot->kind = kind;
		strlcpy(slot->name, name, sizeof(slot->name));
		slot->segment = dsm_segment_handle(segment);
		slot->size = size;
		slot->answered = false;
		sophia_registry_wake_workers(MyDatabaseId);
		break;
	}
	LWLockRelease(sophia_registry->lock);
	return id;
}

static void
give_up_request(int code, Datum id)
{
	RequestSlot *slot;

	LWLockAcquire(sophia_registry->lock, LW_EXCLUSIVE);
	slot = find_request(DatumGetUInt64(id));
	if (slot != NULL)
		slot->id = 0;
	LWLockRelease(sophia_registry->lock);
}

static bool
is_answered(uint64 id, int *sqlstate)
{
	RequestSlot *slot;
	bool answered;

	LWLockAcquire(sophia_registry->lock, LW_SHARED);
	slot = find_request(id);
	answered = slot != NULL && slot->answered;
	if (answered)
		*sqlstate = slot->sqlstate;
	LWLockRelease(sophia_registry->lock);
	return answered;
}

static bool
wait_for_answer(uint64 id, int64 timeout_ms, int *sqlstate)
{
	int64 deadline = sophia_clock_ms() + timeout_ms;

	while (!is_answered(id, sqlstate))
	{
		int64 left = deadline - sophia_clock_ms();

		if (left <= 0)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) Min(left, 60000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Waits, and gives the request up however the waiting ends. */
static bool
await_answer(const uint64 id, const int64 timeout_ms, int *sqlstate)
{
	volatile bool answered = false;

	PG_ENSURE_ERROR_CLEANUP(give_up_request, UInt64GetDatum(id));
	{
		answered = wait_for_answer(id, timeout_ms, sqlstate);
	}
	PG_END_ENSURE_ERROR_CLEANUP(give_up_request, UInt64GetDatum(id));
	give_up_request(0, UInt64GetDatum(id));
	return answered;
}

bool
sophia_registry_ask(RequestKind kind, const char *name, int64 timeout_ms, int *sqlstate, char **text)
{
	Size size = kind == REQUEST_COLLECTIONS ? LARGE_ANSWER : SMALL_ANSWER;
	dsm_segment *segment = dsm_create(size, 0);
	uint64 id = post_request(kind, name, segment, size);
	bool answered;

	if (id == 0)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("too many sessions wait for an ingest worker"),
						errhint("Try again when some of them have ended.")));

	answered = await_answer(id, timeout_ms, sqlstate);
	if (answered)
		*text = pstrdup(dsm_segment_address(segment));
	dsm_detach(segment);
	return answered;
}
