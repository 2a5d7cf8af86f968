/*
 * options.c
 *		The options of a call: see options.h.
 *
 * They go to the provider under their names, which are those of OpenAI's and of Snowflake's interfaces.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "ai/options.h"

typedef struct CallOption
{
	const char *name;
	enum jbvType type; /* jbvBinary: an object or an array */
	double least;	   /* of a number */
	double most;
	bool whole; /* a number without a fraction */
	const char *can_be;
} CallOption;

static const CallOption allowed[] = {
	{"encoding_format", jbvString, 0, 0, false, "\"base64\" or \"float\""},
	{"frequency_penalty", jbvNumeric, -2, 2, false, "a number from -2 to 2"},
	{"max_tokens", jbvNumeric, 1, 10000000, true, "a whole number from 1"},
	{"presence_penalty", jbvNumeric, -2, 2, false, "a number from -2 to 2"},
	{"response_format", jbvBinary, 0, 0, false, "an object"},
	{"seed", jbvNumeric, -9.0e15, 9.0e15, true, "a whole number"},
	{"stop", jbvBinary, 0, 0, false, "an array of texts"},
	{"temperature", jbvNumeric, 0, 2, false, "a number from 0 to 2"},
	{"top_p", jbvNumeric, 0, 1, false, "a number from 0 to 1"},
};

static const CallOption *
find_option(const JsonbValue *key)
{
	for (size_t i = 0; i < lengthof(allowed); i++)
	{
		if (strlen(allowed[i].name) == (size_t) key->val.string.len &&
			memcmp(allowed[i].name, key->val.string.val, key->val.string.len) == 0)
			return &allowed[i];
	}
	return NULL;
}

static bool
value_fits(const CallOption *option, const JsonbValue *value)
{
	double number;

	if (value->type != option->type)
		return false;
	if (value->type == jbvString)
		return (value->val.string.len == 6 && memcmp(value->val.string.val, "base64", 6) == 0) ||
			   (value->val.string.len == 5 && memcmp(value->val.string.val, "float", 5) == 0);
	if (value->type != jbvNumeric)
		return true;
	number =
		DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	return number >= option->least && number <= option->most &&
		   (!option->whole || number == (double) (int64) number);
}

static void
check_option(const JsonbValue *key, const JsonbValue *value)
{
	const CallOption *option = find_option(key);

	if (option == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown option \"%s\"", pnstrdup(key->val.string.val, key->val.string.len)),
			 errhint(
				 "The options are \"encoding_format\", \"frequency_penalty\", \"max_tokens\", "
				 "\"presence_penalty\", \"response_format\", \"seed\", \"stop\", \"temperature\" "
				 "and \"top_p\".")));
	if (!value_fits(option, value))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value of option \"%s\"", option->name),
						errhint("It can be %s.", option->can_be)));
}

void
sophia_check_call_options(Jsonb *options)
{
	JsonbIterator *it = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("options must be a JSON object")));
	(void) JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		check_option(&key, &value);
	}
}
