/*
 * call_cache.c
 *		A call on its way: answers that were given before, see run.h.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "ai/run.h"

/* Has the next answer kept, where one waits for it. */
bool
sophia_run_next_store(Run *run, StringInfo message)
{
	StringInfoData value;
	int i;
	bool packed;

	if (run->next_store == run->n_stores)
		return false;
	i = run->stores[run->next_store++];
	initStringInfo(&value);
	packed = sophia_cache_pack(run->call, &run->call->outcomes[i], &value);
	if (packed)
		sophia_cache_write_store(&run->cache, &run->keys[i], run->call->profile->cache_ttl, &value,
								 STORE_BIT | run->next_store, message);
	pfree(value.data);
	return packed;
}

/* Keeps an answer for this statement, and has the cache's server keep it. */
void
sophia_run_keep(Run *run, int i)
{
	StringInfoData value;

	if (run->keys == NULL)
		return;
	initStringInfo(&value);
	if (sophia_cache_pack(run->call, &run->call->outcomes[i], &value))
	{
		sophia_cache_remember(&run->keys[i], &value);
		if (run->cache.server)
			run->stores[run->n_stores++] = i;
	}
	pfree(value.data);
}

/* Takes an answer from the cache; one that does not fit any more counts as not there. */
static void
take_kept(Run *run, int i, const char *value, Size length)
{
	Call *call = run->call;
	Outcome *outcome = &call->outcomes[i];
	Outcome kept = {.profile = call->profile, .cached = true};
	MemoryContext old = MemoryContextSwitchTo(run->context);

	if (!run->found[i] && sophia_cache_unpack(call, &kept, value, length) &&
		(call->kind != CALL_EMBED || call->profile->dimensions == 0 ||
		 kept.dimensions == call->profile->dimensions) &&
		(call->read == NULL || call->read(call, &kept) == NULL))
	{
		*outcome = kept;
		run->found[i] = true;
	}
	MemoryContextSwitchTo(old);
}

/* CacheTaker: i is a place of run->order. */
static void
take_from_server(void *owner, int i, const char *value, Size length)
{
	Run *run = owner;
	int text = run->order[i];
	StringInfoData copy = {.data = unconstify(char *, value), .len = (int) length};

	take_kept(run, text, value, length);
	if (run->found[text])
		sophia_cache_remember(&run->keys[text], &copy);
}

/* Takes what was found out of the texts that are sent. */
static void
drop_found(Run *run)
{
	int n = 0;

	for (int k = 0; k < run->n_order; k++)
	{
		int i = run->order[k];

		if (!run->found[i])
			run->order[n++] = i;
	}
	run->n_order = n;
}

/* Looks for answers that were given before: in this statement, then in the cache's server. */
void
sophia_run_use_cache(Run *run)
{
	Call *call = run->call;
	int64 begin = GetCurrentTimestamp();
	CacheKey *asked;

	run->cache = sophia_cache_use(call);
	if (!run->cache.on || run->n_order == 0)
		return;
	run->keys = palloc_extended(sizeof(CacheKey) * call->n, MCXT_ALLOC_HUGE);
	run->found = palloc0(sizeof(bool) * call->n);
	run->stores = palloc(sizeof(int) * call->n);
	for (int k = 0; k < run->n_order; k++)
	{
		int i = run->order[k];
		Size length;
		const char *value;

		run->keys[i] = sophia_cache_key(&run->cache, call->inputs[i]);
		value = sophia_cache_recall(&run->keys[i], &length);
		if (value != NULL)
			take_kept(run, i, value, length);
	}
	drop_found(run);
	if (run->cache.server && run->n_order > 0)
	{
		asked = palloc_extended(sizeof(CacheKey) * run->n_order, MCXT_ALLOC_HUGE);
		for (int k = 0; k < run->n_order; k++)
			asked[k] = run->keys[run->order[k]];
		sophia_cache_look_up(&run->cache, asked, run->n_order, take_from_server, run);
		drop_found(run);
	}
	for (int i = 0; i < call->n; i++)
	{
		if (!run->found[i])
			continue;
		call->outcomes[i].ms = (GetCurrentTimestamp() - begin) / 1000.0;
		sophia_budget_count(&run->used, call->profile, &call->outcomes[i]);
	}
}
