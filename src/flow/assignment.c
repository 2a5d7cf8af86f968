/*
 * assignment.c
 *		Spreading streams over the ingest workers of a database: see assignment.h.
 *
 * One worker decides and writes down what changes, and all follow what is written, so that no two workers come to
 * different results.  A worker that has not heard yet that it lost a stream does no harm: checkpoints fence it out.
 */
#include "postgres.h"

#include "flow/assignment.h"

#include "access/xlog.h"
#include "base/settings.h"
#include "catalog/pg_type.h"
#include "flow/balance.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "shared/registry.h"
#include "store/statement.h"
#include "utils/builtins.h"

/* A stream that is wanted here. */
typedef struct Followed
{
	char *stream;
	int worker; /* as stored, -1 = none */
	int share;	/* which of the shares it belongs to */
} Followed;

/* Workers that run, but for those that a smaller sophia_stack.ingest_workers is about to end. */
static uint32
living_workers(void)
{
	return sophia_registry_living_workers() & (((uint32) 1 << sophia_ingest_workers) - 1);
}

bool
sophia_assignment_leads(void)
{
	uint32 living = living_workers();

	return living != 0 && pg_rightmost_one_pos32(living) == sophia_registry_worker_index();
}

/* The streams in the order of the tables that they write, and a share for each table. */
static int
load_followed(Followed *followed, Share *shares, uint64 n)
{
	const char *target = NULL;
	int n_shares = 0;

	for (uint64 i = 0; i < n; i++)
	{
		char *its_target = sophia_result_text(i, 2);
		bool null;
		int worker = DatumGetInt32(sophia_result(i, 3, &null));

		if (target == NULL || strcmp(target, its_target) != 0)
			shares[n_shares++] = (Share){.worker = -1};
		target = its_target;
		followed[i].stream = sophia_result_text(i, 1);
		followed[i].worker = null ? -1 : worker;
		followed[i].share = n_shares - 1;
		if (shares[n_shares - 1].worker < 0)
			shares[n_shares - 1].worker = followed[i].worker;
		shares[n_shares - 1].backlog += DatumGetInt64(sophia_result(i, 4, &null));
	}
	return n_shares;
}

/* Gives a stream to a worker; one that somebody is changing just now comes later. */
static bool
store_worker(const char *stream, int worker)
{
	static Statement statement = {
		"UPDATE sophia.streams SET worker = $2 WHERE stream = (SELECT s.stream FROM sophia.streams AS s"
		" WHERE s.stream = $1 FOR NO KEY UPDATE SKIP LOCKED)",
		2,
		{TEXTOID, INT4OID}};

	return sophia_statement_run(
			   &statement, (Datum[]){CStringGetTextDatum(stream), Int32GetDatum(worker)}, NULL) > 0;
}

bool
sophia_assignment_decide(void)
{
	static Statement statement = {
		"SELECT s.stream, sophia.stream_table(s.shape, s.options) AS target, s.worker,"
		" coalesce((SELECT sum(greatest(c.write_head - c.next_offset, 0)) FROM sophia.checkpoints AS c"
		" WHERE c.stream = s.stream), 0)::bigint"
		" FROM sophia.streams AS s WHERE s.state IN ('starting', 'running')"
		" AND s.system_identifier = $1 AND s.database_oid = $2 ORDER BY target, s.stream",
		2,
		{INT8OID, OIDOID}};
	uint64 n = sophia_statement_run(
		&statement,
		(Datum[]){Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)},
		NULL);
	Followed *followed = palloc(sizeof(Followed) * Max(n, 1));
	Share *shares = palloc(sizeof(Share) * Max(n, 1));
	int n_shares = load_followed(followed, shares, n);
	bool changed = false;

	sophia_balance(shares, n_shares, living_workers());
	for (uint64 i = 0; i < n; i++)
	{
		int worker = shares[followed[i].share].worker;

		if (worker != followed[i].worker)
			changed |= store_worker(followed[i].stream, worker);
	}
	return changed;
}
