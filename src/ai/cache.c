/*
 * cache.c
 *		The session's side of the cache: see cache.h.
 *
 * A key is the SHA-256 of all that an answer depends on.  In the server it stands behind what a purge selects by: database,
 * function, and a digest of the model's name, which may hold any character.  What is kept is the text or the vector as the
 * provider gave it, so that an answer of the cache is read by the same rules as one of the provider.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "ai/cache.h"
#include "ai/client.h"
#include "base/json_parse.h"
#include "base/settings.h"

#define CACHE_VERSION 1
#define KEYS_PER_ASK  256
#define MEMO_BYTES	  (16 * 1024 * 1024) /* most that is kept of a statement */
#define VALUE_BYTES	  (1024 * 1024)		 /* largest value that is kept */
#define TAG_DIGITS	  16

/* ---- keys ---- */

static void
raise_digest(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not compute a SHA-256")));
}

static EVP_MD_CTX *
begin_digest(void)
{
	static EVP_MD_CTX *context = NULL; /* kept, so that an error leaves nothing behind */

	if (context == NULL)
		context = EVP_MD_CTX_new();
	if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		raise_digest();
	return context;
}

static CacheKey
end_digest(EVP_MD_CTX *context)
{
	CacheKey key;

	if (EVP_DigestFinal_ex(context, key.digest, NULL) != 1)
		raise_digest();
	return key;
}

/* Adds bytes after their length, so that what follows one another cannot be cut differently. */
static void
digest_bytes(EVP_MD_CTX *context, const void *bytes, uint64 length)
{
	if (EVP_DigestUpdate(context, &length, sizeof(length)) != 1 ||
		EVP_DigestUpdate(context, bytes, length) != 1)
		raise_digest();
}

static void
digest_string(EVP_MD_CTX *context, const char *string)
{
	digest_bytes(context, string != NULL ? string : "", string != NULL ? strlen(string) : 0);
}

static void
digest_number(EVP_MD_CTX *context, int64 number)
{
	digest_bytes(context, &number, sizeof(number));
}

static CacheKey
digest_call(const Call *call)
{
	const Profile *profile = call->profile;
	EVP_MD_CTX *context = begin_digest();

	digest_number(context, CACHE_VERSION);
	digest_number(context, MyDatabaseId);
	digest_number(context, profile->cache_generation);
	digest_string(context, profile->provider);
	digest_number(context, profile->generation);
	digest_string(context, call->function);
	digest_number(context, call->kind);
	digest_string(context, profile->model);
	digest_string(context, profile->remote_name);
	digest_string(context, profile->options);
	digest_number(context, call->dimensions);
	digest_number(context, call->prompt != NULL ? call->prompt->version : 0);
	digest_string(context, call->prompt != NULL ? call->prompt->instructions : NULL);
	if (sophia_call_asks_statement(call))
		digest_bytes(context, VARDATA_ANY(DatumGetPointer(call->prompt->options)),
					 VARSIZE_ANY_EXHDR(DatumGetPointer(call->prompt->options)));
	digest_number(context, call->messages != NULL);
	digest_string(context, call->messages);
	return end_digest(context);
}

CacheKey
sophia_cache_key(const CacheUse *use, TextSpan text)
{
	EVP_MD_CTX *context = begin_digest();

	digest_bytes(context, &use->call, sizeof(use->call));
	digest_bytes(context, text.text, text.length);
	return end_digest(context);
}

/* Whether the options of a call ask for answers that differ from each other. */
static bool
is_random(const char *options)
{
	static Arena arena; /* reset before each use, so that an error leaves nothing behind */
	JsonParser parser = {0};
	const JsonNode *temperature;
	bool random = true;

	if (strstr(options, "\"temperature\"") == NULL)
		return false;
	sophia_arena_reset(&arena);
	if (sophia_json_parse(&parser, &arena, options, strlen(options)) &&
		parser.root.kind == JSON_OBJECT)
	{
		temperature = sophia_json_member(&parser.root, "temperature", strlen("temperature"));
		random = temperature != NULL && temperature->kind == JSON_NUMBER &&
				 strtod(pnstrdup(temperature->u.text, temperature->length), NULL) > 0;
	}
	sophia_json_parser_free(&parser);
	return random;
}

/* Digits that stand for the name of a model in keys. */
static void
write_tag(char *tag, const char *model)
{
	EVP_MD_CTX *context = begin_digest();
	CacheKey key;

	digest_string(context, model);
	key = end_digest(context);
	for (int i = 0; i < TAG_DIGITS / 2; i++)
		snprintf(tag + 2 * i, 3, "%02x", key.digest[i]);
}

CacheUse
sophia_cache_use(const Call *call)
{
	CacheUse use = {0};
	char tag[TAG_DIGITS + 1];

	if (!sophia_cache || call->kind == CALL_MODELS || is_random(call->profile->options))
		return use;
	use.on = true;
	use.server = sophia_cache_server[0] != '\0' && call->profile->cache_ttl > 0;
	use.call = digest_call(call);
	if (!use.server)
		return use;
	write_tag(tag, call->profile->model);
	snprintf(use.prefix, sizeof(use.prefix), "sophia:%d:" UINT64_FORMAT ":%u:%s:%s:", CACHE_VERSION,
			 GetSystemIdentifier(), MyDatabaseId, call->function, tag);
	return use;
}

/* ---- values ---- */

bool
sophia_cache_pack(const Call *call, const Outcome *outcome, StringInfo value)
{
	resetStringInfo(value);
	if (outcome->sqlstate != 0 || outcome->skipped || outcome->estimated)
		return false;
	appendStringInfoChar(value, (char) call->kind);
	if (call->kind == CALL_TOKENS)
		appendBinaryStringInfo(value, (const char *) &outcome->count, sizeof(outcome->count));
	else if (call->kind == CALL_EMBED)
		appendBinaryStringInfo(value, (const char *) outcome->vector,
							   (int) (sizeof(float) * outcome->dimensions));
	else if (outcome->text.length < VALUE_BYTES)
	{
		appendStringInfoChar(value, outcome->cut);
		appendBinaryStringInfo(value, outcome->text.text, (int) outcome->text.length);
	}
	return value->len > 1;
}

bool
sophia_cache_unpack(const Call *call, Outcome *outcome, const char *value, Size length)
{
	if (length < 2 || value[0] != (char) call->kind)
		return false;
	value++, length--;
	if (call->kind == CALL_TOKENS)
	{
		if (length != sizeof(outcome->count))
			return false;
		memcpy(&outcome->count, value, length);
	}
	else if (call->kind == CALL_EMBED)
	{
		if (length % sizeof(float) != 0)
			return false;
		outcome->dimensions = (int) (length / sizeof(float));
		outcome->vector = memcpy(palloc(length), value, length);
	}
	else
	{
		outcome->cut = value[0] != 0;
		outcome->text = (TextSpan){pnstrdup(value + 1, length - 1), length - 1};
	}
	return true;
}

/* ---- of this statement ---- */

typedef struct MemoEntry
{
	CacheKey key; /* must come first */
	char *value;
	Size length;
} MemoEntry;

typedef struct Memo
{
	HTAB *entries; /* NULL = there is none */
	MemoryContext context;
	TimestampTz statement;
	Size bytes;
} Memo;

static Memo memo;

/* MemoryContextCallback: the transaction has ended, or another statement has begun. */
static void
forget_memo(void *unused)
{
	memo.entries = NULL;
}

/* Has a memo of this very statement, unless no transaction runs. */
static bool
have_memo(void)
{
	static MemoryContextCallback callback = {.func = forget_memo};
	TimestampTz statement = GetCurrentStatementStartTimestamp();
	HASHCTL control = {.keysize = sizeof(CacheKey), .entrysize = sizeof(MemoEntry)};

	if (!IsTransactionState())
		return false;
	if (memo.entries != NULL && memo.statement == statement)
		return true;
	if (memo.entries != NULL)
		MemoryContextDelete(memo.context);
	memo.context = control.hcxt = AllocSetContextCreate(
		TopTransactionContext, "sophia_stack answers of a statement", ALLOCSET_DEFAULT_SIZES);
	MemoryContextRegisterResetCallback(memo.context, &callback);
	memo.entries = hash_create("sophia_stack answers of a statement", 64, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	memo.statement = statement;
	memo.bytes = 0;
	return true;
}

const char *
sophia_cache_recall(const CacheKey *key, Size *length)
{
	MemoEntry *entry;

	if (memo.entries == NULL || !have_memo())
		return NULL;
	entry = hash_search(memo.entries, key, HASH_FIND, NULL);
	if (entry == NULL)
		return NULL;
	*length = entry->length;
	return entry->value;
}

void
sophia_cache_remember(const CacheKey *key, const StringInfoData *value)
{
	MemoEntry *entry;
	char *copy;
	bool found;

	if (!have_memo() || memo.bytes + value->len > MEMO_BYTES)
		return;
	copy = MemoryContextAlloc(memo.context, value->len);
	memcpy(copy, value->data, value->len);
	entry = hash_search(memo.entries, key, HASH_ENTER, &found);
	entry->value = copy;
	entry->length = value->len;
	memo.bytes += value->len + sizeof(MemoEntry);
}

/* ---- messages ---- */

static void
append_item(StringInfo out, const void *bytes, Size length)
{
	uint32 n = (uint32) length;

	appendBinaryStringInfo(out, (char *) &n, sizeof(n));
	appendBinaryStringInfo(out, bytes, (int) length);
}

static void
append_key(StringInfo out, const CacheUse *use, const CacheKey *key)
{
	static const char digits[] = "0123456789abcdef";
	char text[sizeof(use->prefix) + 2 * CACHE_DIGEST_BYTES];
	Size n = strlen(use->prefix);

	memcpy(text, use->prefix, n);
	for (int i = 0; i < CACHE_DIGEST_BYTES; i++)
	{
		text[n++] = digits[key->digest[i] >> 4];
		text[n++] = digits[key->digest[i] & 15];
	}
	append_item(out, text, n);
}

/* A request to the gateway, which has a body only. */
static void
write_message(StringInfo message, AskKind kind, uint64 number, const StringInfoData *body)
{
	static const char no_texts[REQUEST_TEXTS] = {0};
	RequestHeader header = {.kind = kind,
							.number = number,
							.database = MyDatabaseId,
							.role = GetOuterUserId(),
							.body_length = body->len};

	appendBinaryStringInfo(message, (char *) &header, sizeof(header));
	appendBinaryStringInfo(message, no_texts, sizeof(no_texts));
	appendBinaryStringInfo(message, body->data, body->len);
}

void
sophia_cache_write_store(const CacheUse *use, const CacheKey *key, int ttl,
						 const StringInfoData *value, uint64 number, StringInfo message)
{
	char seconds[16];
	StringInfoData body;

	snprintf(seconds, sizeof(seconds), "%d", ttl);
	initStringInfo(&body);
	append_item(&body, seconds, strlen(seconds));
	append_key(&body, use, key);
	append_item(&body, value->data, value->len);
	write_message(message, REQUEST_STORE, number, &body);
	pfree(body.data);
}

/* ---- lookups ---- */

/* Keys [from, from + KEYS_PER_ASK) are asked for by request number from + 1. */
typedef struct Asking
{
	Exchange exchange; /* must come first */
	const CacheUse *use;
	const CacheKey *keys;
	int n;
	int next;
	CacheTaker take;
	void *owner;
} Asking;

/* Exchange.next */
static bool
next_lookup(Exchange *exchange, StringInfo message)
{
	Asking *asking = (Asking *) exchange;
	int from = asking->next;
	StringInfoData body;

	if (from >= asking->n)
		return false;
	initStringInfo(&body);
	while (asking->next < asking->n && asking->next < from + KEYS_PER_ASK)
		append_key(&body, asking->use, &asking->keys[asking->next++]);
	write_message(message, REQUEST_LOOKUP, from + 1, &body);
	pfree(body.data);
	return true;
}

/* Exchange.take */
static void
take_values(Exchange *exchange, const AnswerHeader *header, const char *body, Size length)
{
	Asking *asking = (Asking *) exchange;
	const char *end = body + length;
	int i = (int) header->number - 1;

	for (uint32 n; body < end; i++)
	{
		memcpy(&n, body, sizeof(n));
		body += sizeof(n);
		if (n == CACHE_NO_VALUE)
			continue;
		asking->take(asking->owner, i, body, n);
		body += n;
	}
}

/* Exchange.again: what is looked up once more does no harm. */
static void
look_again(Exchange *exchange)
{
	((Asking *) exchange)->next = 0;
}

void
sophia_cache_look_up(const CacheUse *use, const CacheKey *keys, int n, CacheTaker take, void *owner)
{
	Asking asking = {
		.exchange = {.window = 4, .next = next_lookup, .take = take_values, .again = look_again},
		.use = use,
		.keys = keys,
		.n = n,
		.take = take,
		.owner = owner};

	sophia_client_exchange(&asking.exchange);
}

/* ---- purging ---- */

typedef struct Purge
{
	Exchange exchange; /* must come first */
	StringInfoData pattern;
	bool sent;
	int64 purged;
} Purge;

/* Exchange.next */
static bool
next_purge(Exchange *exchange, StringInfo message)
{
	Purge *purge = (Purge *) exchange;

	if (purge->sent)
		return false;
	write_message(message, REQUEST_PURGE, 1, &purge->pattern);
	purge->sent = true;
	return true;
}

/* Exchange.take */
static void
take_purged(Exchange *exchange, const AnswerHeader *header, const char *body, Size length)
{
	if (header->sqlstate != 0)
		ereport(ERROR, (errcode(header->sqlstate), errmsg("the cache could not be purged"),
						errdetail_internal("%s.", pnstrdup(body, length)),
						errhint("See sophia.cache_status.")));
	memcpy(&((Purge *) exchange)->purged, body, sizeof(int64));
}

int64
sophia_cache_purge(const char *model, const char *function)
{
	Purge purge = {.exchange = {.window = 1, .next = next_purge, .take = take_purged}};
	char tag[TAG_DIGITS + 1] = "*";

	if (model != NULL)
		write_tag(tag, model);
	initStringInfo(&purge.pattern);
	appendStringInfo(&purge.pattern, "sophia:%d:" UINT64_FORMAT ":%u:%s:%s:*", CACHE_VERSION,
					 GetSystemIdentifier(), MyDatabaseId, function != NULL ? function : "*", tag);
	sophia_client_exchange(&purge.exchange);
	return purge.purged;
}
