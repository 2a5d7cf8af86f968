/*
 * openai.h
 *		Providers of kind "openai": what is sent to them, and what their answers mean.
 *
 * The dialect of OpenAI's API that vLLM, llama.cpp, TEI, Ollama and others speak: chat completions and embeddings.  Source:
 * OpenAI's API reference, and what those servers answer where they differ from it; a chat may come whole, or as a stream of
 * events (text/event-stream).  Pure: no server call; memory is
 * malloc'ed and belongs to the buffers and the arena that the caller gives.
 */
#ifndef SOPHIA_OPENAI_H
#define SOPHIA_OPENAI_H

#include <stdint.h>

#include "base/buffer.h"
#include "base/json_parse.h"

typedef struct TextSpan
{
	const char *text;
	size_t length;
} TextSpan;

/* Why a request failed. */
typedef struct OpenaiProblem
{
	char sqlstate[6];
	char message[256]; /* clipped, of printable characters; may quote the provider */
	bool too_many;	   /* a pack of texts might get through in parts */
} OpenaiProblem;

/* What an answer says. */
typedef struct OpenaiAnswer
{
	int64_t tokens_in; /* -1 = not told */
	int64_t tokens_out;
	TextSpan text;	 /* of a chat completion */
	bool cut;		 /* the text ends because it may have no more tokens */
	int64_t count;	 /* of tokens */
	int dimensions;	 /* of embeddings */
	float **vectors; /* one a text, in their order */
} OpenaiAnswer;

/* The path of a service below an address, which may end with a version or a folder of its own: "/v1" is added only if not. */
extern bool sophia_openai_path(ByteBuffer *out, const char *address, const char *service);

/*
 * The body of a chat completion.  `messages` is a JSON array, or NULL: then the prompt is the one message of a user, after
 * `instructions` (NULL: none) as the system's message.  `options` is a JSON object whose members are added.  False: no memory.
 */
extern bool sophia_openai_chat_request(ByteBuffer *out, const char *model, const char *instructions,
									   TextSpan prompt, const char *messages, const char *options);

/* The body of an embedding of n texts; `options` as above. */
extern bool sophia_openai_embedding_request(ByteBuffer *out, const char *model,
											const TextSpan *texts, size_t n, const char *options);

/* Clips a text to what fits, at the boundary of a character, and blots out what is not printable. */
extern void sophia_openai_clip(char *out, size_t size, const char *text, size_t length);

/* Whether the body of an error says that the text was too long. */
extern bool sophia_openai_too_large(const char *body, size_t length);

/*
 * The body of a request for the tokens of a text, and where it goes: /tokenize beside /v1, not below it.  Each server reads its
 * own name of the text: llama.cpp "content", vLLM "prompt", TEI "inputs".
 */
extern bool sophia_openai_tokens_request(ByteBuffer *out, const char *model, TextSpan text);
extern const char *sophia_openai_tokens_service(const char *address);

/*
 * Reads an answer by its HTTP status and body.  What `answer` points to lives in the arena and in the body.  False: it failed,
 * see `problem`.
 */
extern bool sophia_openai_chat_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena,
									  int status, const char *body, size_t length);
extern bool sophia_openai_embedding_answer(OpenaiAnswer *answer, OpenaiProblem *problem,
										   Arena *arena, int status, const char *body,
										   size_t length, size_t n);

/* The same of the list of models: their names, joined by commas, as text. */
extern bool sophia_openai_models_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena,
										int status, const char *body, size_t length);

/* The same of the tokens of a text: how many there are. */
extern bool sophia_openai_tokens_answer(OpenaiAnswer *answer, OpenaiProblem *problem, Arena *arena,
										int status, const char *body, size_t length);

#endif /* SOPHIA_OPENAI_H */
