/*
 * apply_carefully.c
 *		Applying documents of which some may be refused by the table that they go to: see apply.h.
 *
 * The server does not say which row of a statement it refused.  So the documents are halved, each half in a subtransaction,
 * until one stands alone; what goes through is written as it is otherwise.
 */
#include "postgres.h"

#include "flow/apply.h"

#include "access/xact.h"
#include "flow/groups.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* A key that has no row when the rows are fetched, and one when it is inserted, is tried again this often in all. */
#define MAX_TRIES 3

bool
sophia_is_data_error(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_WITH_CHECK_OPTION_VIOLATION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_PLPGSQL_ERROR) ||
		   sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/* Applies in a subtransaction; false with the error in *refused when it lies in the data. */
static bool
apply_once(Apply *apply, const ApplyDocument *documents, int n, ErrorData **refused)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Apply before = *apply;
	int dead_before = list_length(apply->dead);
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		sophia_apply(apply, documents, n);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*refused = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (!sophia_is_data_error((*refused)->sqlerrcode))
			ReThrowError(*refused);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (!done)
	{
		List *dead = apply->dead;

		*apply = before;
		apply->dead = list_truncate(dead, dead_before);
	}
	return done;
}

/* The same, again where somebody else may just have inserted one of the keys. */
static bool
apply_in_subtransaction(Apply *apply, const ApplyDocument *documents, int n, ErrorData **refused)
{
	for (int tries = 1; !apply_once(apply, documents, n, refused); tries++)
	{
		if (apply->careful || (*refused)->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
			tries == MAX_TRIES)
			return false;
		FreeErrorData(*refused);
	}
	return true;
}

void
sophia_apply_carefully(Apply *apply, const ApplyDocument *documents, int n)
{
	ErrorData *refused = NULL;

	check_stack_depth();
	if (n == 0 || apply_in_subtransaction(apply, documents, n, &refused))
		return;
	if (n == 1)
		sophia_apply_dead(apply, documents, refused->sqlerrcode, refused->message);
	else
	{
		sophia_apply_carefully(apply, documents, n / 2);
		sophia_apply_carefully(apply, documents + n / 2, n - n / 2);
	}
	FreeErrorData(refused);
}
