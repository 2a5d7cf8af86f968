/*
 * profile.h
 *		A model and its provider, as a call needs them.
 */
#ifndef SOPHIA_PROFILE_H
#define SOPHIA_PROFILE_H

#include "postgres.h"

#include "executor/spi.h"

typedef struct Profile
{
	char *model;	   /* "" = only the provider is asked */
	char *remote_name; /* what the provider calls it */
	char *provider;
	char *address;
	char *addresses; /* the address and its replicas, a line each */
	char *ca_file;	 /* "" = the system's authorities */
	char *secret;	 /* its reference, "" = none */
	char *kind;
	char *auth; /* see sophia.provider_auth() */
	char *session; /* of kind "snowflake": warehouse, role and so on of its statements, a JSON object */
	int64 generation;
	int timeout_ms;
	int attempts;
	int connections;
	int min_connections;
	int idle_ms;
	int in_flight;
	int breaker_failures;
	int breaker_ms;
	int queue_bytes;
	char *options;	/* a JSON object: the model's defaults, with those of the call over them */
	int dimensions; /* of its embeddings, 0 = whatever comes */
	int pack_items; /* most texts, and bytes of them, of one request for embeddings */
	int pack_bytes;
	int context_tokens; /* that a text and its answer may have together, 0 = not known */
	char *fallback;		/* models to ask where the provider fails, a line each; "" = none */
	Datum call_options; /* jsonb: those that were given with the call, for another model */
	bool has_call_options;
	int cache_ttl;			/* seconds that answers are kept; 0 = they are not */
	int64 cache_generation; /* answers of an earlier one are not used any more */
	bool estimates_tokens;	/* the provider cannot count tokens, as check_provider found */
	bool uncommitted;		/* written by this very transaction */
	bool has_price;
	Datum price_in; /* numeric, of a million tokens */
	Datum price_out;
} Profile;

/*
 * The profile of a model, or of the default one of `function` where `model` is NULL, or else of complete or embed_text.  `options` (NULL: none) are those of the
 * call; `embeds` tells which of the model's defaults are meant: those for embeddings, or all others.  Raises 42704
 * for an unknown model, 55000 where there is no default, or where the profile is not committed yet.
 */
extern Profile *sophia_profile_of_model(const char *model, const char *function, Datum options,
										bool has_options, bool embeds);

/* The profile of a provider alone.  Raises 42704, 55000. */
extern Profile *sophia_profile_of_provider(const char *provider);

/*
 * Runs a query of one row at most, by the snapshot of the statement that calls, within an SPI connection; whether there is
 * one.  *plan is kept, NULL at first.
 */
extern bool sophia_profile_query(SPIPlanPtr *plan, const char *sql, int n, Oid *types,
								 Datum *values, const char *nulls);

#endif /* SOPHIA_PROFILE_H */
