/*
 * call.h
 *		A call of a provider for one text or many.
 */
#ifndef SOPHIA_CALL_H
#define SOPHIA_CALL_H

#include "postgres.h"

#include "ai/openai.h"
#include "ai/profile.h"
#include "ai/prompt.h"
#include "nodes/pg_list.h"

typedef enum CallKind
{
	CALL_CHAT,	 /* a text for each text */
	CALL_EMBED,	 /* a vector for each text */
	CALL_MODELS, /* one text: which models there are */
	CALL_TOKENS	 /* a number of tokens for each text */
} CallKind;

/* What became of one text. */
typedef struct Outcome
{
	bool skipped;  /* the text was NULL */
	int sqlstate;  /* 0 = it is well */
	char *message; /* of the error */
	char *detail;  /* of the error, NULL = none */
	TextSpan text;
	bool cut;	 /* the text may have gone on */
	Datum value; /* jsonb, what Call.read made of the text; 0 = none */
	float *vector;
	int dimensions;
	double similarity; /* of the vector and another one */
	int64 count;	   /* of tokens, of CALL_TOKENS */
	bool cached;	   /* not asked for again */
	bool estimated;	   /* by the rule of thumb */
	int64 tokens_in;   /* -1 = not known */
	int64 tokens_out;
	double ms;
	const Profile *profile; /* of the model that was asked last; NULL = the call's */
} Outcome;

/* What a call finds out beforehand that runs outside a transaction: then it can look nothing up. */
typedef struct Apart
{
	Oid role; /* that the call is made and billed for */
	char *role_name;
	double budget; /* what it may spend, infinity = no limit */
	List *fallbacks; /* profiles of the models that are asked where the first one fails, in their order */
} Apart;

typedef struct Call
{
	CallKind kind;
	const char *function; /* for people, and the key of its default model */
	Profile *profile;
	const Prompt *prompt; /* of a chat: what is said before each text; NULL = nothing */
	int n;
	int n_others;		  /* of n, those at the end that have no result of their own */
	TextSpan *inputs;	  /* text NULL = SQL's NULL; in the server's encoding, which is UTF-8 */
	const char *messages; /* of a chat, instead of its one input; a JSON array */
	int dimensions;		  /* that the vectors must have; 0 = any */

	/*
	 * What each text of the provider means: sets outcome->value, or returns what is wrong with the text.  NULL: it is the
	 * result as it is.
	 */
	char *(*read)(const struct Call *call, Outcome *outcome);
	const struct TaskCall *task;	   /* for read() */
	void (*send)(struct Call *call);   /* how it is run; NULL = sophia_call_send() */
	void (*finish)(struct Call *call); /* what is made of the outcomes at the end; NULL = nothing */
	const Apart *apart;				   /* NULL = it runs in a transaction of the role that calls */
	Outcome *outcomes;				   /* n of them; in the memory context of the caller */
} Call;

/* Runs a call that was made: sends it and finishes its outcomes. */
extern void sophia_call_run(Call *call);

/*
 * Sends a call: equal texts are sent once, all at the same time as far as the provider's limits allow.  Texts of a chat that
 * the provider does not answer go to the models that its own names as fallback, one after the other.
 */
extern void sophia_call_send(Call *call);

/*
 * Finds out what a call of `role` needs that shall run outside a transaction, which palloc's what it keeps in the current memory
 * context.  Raises the errors of a model that cannot be asked.
 */
extern void sophia_call_set_apart(Call *call, Oid role);

/* Whether its texts go to Snowflake's SQL API, many in a statement. */
extern bool sophia_call_asks_statement(const Call *call);

/* The role that a call is made for. */
extern Oid sophia_call_role(const Call *call);

/* Raises the error of an outcome that has one. */
extern void sophia_call_raise(const Outcome *outcome);

/* What the call has cost, a numeric, by the model's price; false where price or tokens are not known. */
extern bool sophia_call_cost(const Profile *profile, const Outcome *outcome, Datum *cost);

#endif /* SOPHIA_CALL_H */
