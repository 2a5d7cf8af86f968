/*
 * attempt.c
 *		Running something that may fail without ending the worker: see attempt.h.
 */
#include "postgres.h"

#include "flow/attempt.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"

bool
sophia_attempt(void (*work)(void *argument), void *argument, Failure *failure)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		work(argument);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;
		int length;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		failure->sqlstate = error->sqlerrcode;
		length = pg_mbcliplen(error->message, strlen(error->message), sizeof(failure->message) - 1);
		memcpy(failure->message, error->message, length);
		failure->message[length] = '\0';
		FreeErrorData(error);
		/* somebody's lock is no news */
		if (failure->sqlstate != ERRCODE_LOCK_NOT_AVAILABLE)
			EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(context);
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	return done;
}

bool
sophia_failure_is_transient(const Failure *failure)
{
	int category = ERRCODE_TO_CATEGORY(failure->sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_CONNECTION_EXCEPTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_READ_ONLY_SQL_TRANSACTION) ||
		   failure->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}
