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

typedef struct Call
{
	CallKind kind;
	const char *function; /* for people, and the key of its default model */
	Profile *profile;
	const Prompt *prompt; /* of a chat: what is said before each text; NULL = nothing */
	int n;
	TextSpan *inputs;	  /* text NULL = SQL's NULL; in the server's encoding, which is UTF-8 */
	const char *messages; /* of a chat, instead of its one input; a JSON array */
	int dimensions;		  /* that the vectors must have; 0 = any */

	/*
	 * What each text of the provider means: sets outcome->value, or returns what is wrong with the text.  NULL: it is the
	 * result as it is.
	 */
	char *(*read)(const struct Call *call, Outcome *outcome);
	const struct TaskCall *task; /* for read() */
	Outcome *outcomes;			 /* n of them; in the memory context of the caller */
} Call;

/*
 * Runs a call: equal texts are sent once, all at the same time as far as the provider's limits allow.  Texts of a chat that
 * the provider does not answer go to the models that its own names as fallback, one after the other.
 */
extern void sophia_call_run(Call *call);

/* Raises the error of an outcome that has one. */
extern void sophia_call_raise(const Outcome *outcome);

/* What the call has cost, a numeric, by the model's price; false where price or tokens are not known. */
extern bool sophia_call_cost(const Profile *profile, const Outcome *outcome, Datum *cost);

#endif /* SOPHIA_CALL_H */
