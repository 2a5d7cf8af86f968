/*
 * similarity.c
 *		Similarity of texts: see similarity.h.  Pure: no server call, no memory but the stack.
 */
#include "transform/similarity.h"

#include "transform/unicode.h"

#include <string.h>

#define MAX_WORDS		   64
#define INITIAL_SIMILARITY 0.9 /* of an initial and a word that begins with it */
#define WINKLER_PREFIX	   4
#define WINKLER_SCALE	   0.1
#define WINKLER_FLOOR	   0.7

#define smaller_of(a, b) ((a) < (b) ? (a) : (b))
#define larger_of(a, b)	 ((a) > (b) ? (a) : (b))

/* A text as characters. */
typedef struct Letters
{
	int count;
	uint32_t at[SIMILARITY_MAX_CHARS];
} Letters;

typedef struct Words
{
	int count;
	Span at[MAX_WORDS];
} Words;

/* False where the text is too long. */
static bool
read_letters(Span text, Letters *letters)
{
	const char *at = text.start;
	const char *end = text.start + text.len;

	letters->count = 0;
	while (at < end)
	{
		if (letters->count == SIMILARITY_MAX_CHARS)
			return false;
		letters->at[letters->count++] = sophia_utf8_next(&at, end);
	}
	return true;
}

static int
shared_prefix(const Letters *a, const Letters *b, int most)
{
	int n = 0;

	most = smaller_of(most, smaller_of(a->count, b->count));
	while (n < most && a->at[n] == b->at[n])
		n++;
	return n;
}

/*
 * Marks the characters that both have within the window, each used once, and returns their number.
 */
static int
mark_matches(const Letters *a, const Letters *b, bool *in_a, bool *in_b)
{
	int window = larger_of(larger_of(a->count, b->count) / 2 - 1, 0);
	int matches = 0;

	memset(in_a, 0, a->count);
	memset(in_b, 0, b->count);
	for (int i = 0; i < a->count; i++)
	{
		int last = smaller_of(i + window, b->count - 1);

		for (int j = larger_of(i - window, 0); j <= last; j++)
		{
			if (!in_b[j] && a->at[i] == b->at[j])
			{
				in_a[i] = in_b[j] = true;
				matches++;
				break;
			}
		}
	}
	return matches;
}

/* Number of marked characters that stand in another order in the other text. */
static int
out_of_order(const Letters *a, const Letters *b, const bool *in_a, const bool *in_b)
{
	int different = 0;
	int j = 0;

	for (int i = 0; i < a->count; i++)
	{
		if (!in_a[i])
			continue;
		while (!in_b[j])
			j++;
		different += a->at[i] != b->at[j++];
	}
	return different;
}

static double
jaro(const Letters *a, const Letters *b)
{
	bool in_a[SIMILARITY_MAX_CHARS];
	bool in_b[SIMILARITY_MAX_CHARS];
	double matches;
	double in_order;

	if (a->count == 0 && b->count == 0)
		return 1;
	matches = mark_matches(a, b, in_a, in_b);
	if (matches == 0)
		return 0;
	in_order = matches - out_of_order(a, b, in_a, in_b) / 2;
	return (matches / a->count + matches / b->count + in_order / matches) / 3;
}

static double
jaro_winkler(const Letters *a, const Letters *b)
{
	double similarity = jaro(a, b);

	if (similarity > WINKLER_FLOOR)
		similarity += shared_prefix(a, b, WINKLER_PREFIX) * WINKLER_SCALE * (1 - similarity);
	return similarity;
}

bool
sophia_jaro(Span a, Span b, double *similarity)
{
	Letters x;
	Letters y;

	if (!read_letters(a, &x) || !read_letters(b, &y))
		return false;
	*similarity = jaro(&x, &y);
	return true;
}

bool
sophia_jaro_winkler(Span a, Span b, double *similarity)
{
	Letters x;
	Letters y;

	if (!read_letters(a, &x) || !read_letters(b, &y))
		return false;
	*similarity = jaro_winkler(&x, &y);
	return true;
}

/* What both begin and end with costs nothing and is left out; the rest needs one row of the table at a time. */
static int
levenshtein(const Letters *a, const Letters *b)
{
	int row[SIMILARITY_MAX_CHARS + 1];
	int skip = shared_prefix(a, b, SIMILARITY_MAX_CHARS);
	int rows = a->count;
	int columns = b->count;

	while (rows > skip && columns > skip && a->at[rows - 1] == b->at[columns - 1])
	{
		rows--;
		columns--;
	}
	rows -= skip;
	columns -= skip;
	for (int j = 0; j <= columns; j++)
		row[j] = j;
	for (int i = 1; i <= rows; i++)
	{
		int diagonal = row[0];

		row[0] = i;
		for (int j = 1; j <= columns; j++)
		{
			int replaced = diagonal + (a->at[skip + i - 1] != b->at[skip + j - 1]);

			diagonal = row[j];
			row[j] = smaller_of(replaced, 1 + smaller_of(row[j], row[j - 1]));
		}
	}
	return row[columns];
}

bool
sophia_levenshtein(Span a, Span b, int *distance)
{
	Letters x;
	Letters y;

	if (!read_letters(a, &x) || !read_letters(b, &y))
		return false;
	*distance = levenshtein(&x, &y);
	return true;
}

bool
sophia_levenshtein_similarity(Span a, Span b, double *similarity)
{
	Letters x;
	Letters y;
	int longer;

	if (!read_letters(a, &x) || !read_letters(b, &y))
		return false;
	longer = larger_of(x.count, y.count);
	*similarity = longer == 0 ? 1 : 1 - (double) levenshtein(&x, &y) / longer;
	return true;
}

/* Blanks, and ASCII punctuation but for the apostrophe, which stands within words. */
static bool
is_separator(uint32_t c)
{
	if (c >= 0x80)
		return sophia_unicode_is_space(c);
	return c <= ' ' || (c != '\'' && strchr("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~", (int) c) != NULL);
}

static void
read_words(Span text, Words *words)
{
	const char *at = text.start;
	const char *end = text.start + text.len;
	const char *word = NULL;

	words->count = 0;
	while (at < end && words->count < MAX_WORDS)
	{
		const char *here = at;
		bool separator = is_separator(sophia_utf8_next(&at, end));

		if (!separator && word == NULL)
			word = here;
		if (word != NULL && (separator || at == end))
		{
			words->at[words->count++] = (Span){word, (separator ? here : at) - word};
			word = NULL;
		}
	}
}

static bool
equal_words(Span a, Span b)
{
	return a.len == b.len && memcmp(a.start, b.start, a.len) == 0;
}

static bool
has_word(const Words *words, int count, Span word)
{
	for (int i = 0; i < count; i++)
		if (equal_words(words->at[i], word))
			return true;
	return false;
}

bool
sophia_token_similarity(Span a, Span b, double *similarity)
{
	Words x;
	Words y;
	int common = 0;
	int either = 0;

	read_words(a, &x);
	read_words(b, &y);
	for (int i = 0; i < x.count; i++)
	{
		if (has_word(&x, i, x.at[i]))
			continue;
		either++;
		common += has_word(&y, y.count, x.at[i]);
	}
	for (int j = 0; j < y.count; j++)
		either += !has_word(&y, j, y.at[j]) && !has_word(&x, x.count, y.at[j]);
	*similarity = either == 0 ? 1 : (double) common / either;
	return true;
}

/* How alike two words of names are; false where one is too long. */
static bool
word_similarity(Span a, Span b, double *similarity)
{
	Letters x;
	Letters y;

	if (equal_words(a, b))
	{
		*similarity = 1;
		return true;
	}
	if (!read_letters(a, &x) || !read_letters(b, &y))
		return false;
	if ((x.count == 1) != (y.count == 1))
		*similarity = x.at[0] == y.at[0] ? INITIAL_SIMILARITY : 0;
	else
		*similarity = jaro_winkler(&x, &y);
	return true;
}

/* The sum over pairs of words, the most alike first; `alike` holds a row for each word of the first name. */
static double
pair_words(double alike[MAX_WORDS][MAX_WORDS], int rows, int columns)
{
	bool row_used[MAX_WORDS] = {false};
	bool column_used[MAX_WORDS] = {false};
	double sum = 0;

	for (int pairs = smaller_of(rows, columns); pairs > 0; pairs--)
	{
		int row = -1;
		int column = -1;

		for (int i = 0; i < rows; i++)
			for (int j = 0; j < columns; j++)
				if (!row_used[i] && !column_used[j] && (row < 0 || alike[i][j] > alike[row][column]))
				{
					row = i;
					column = j;
				}
		row_used[row] = column_used[column] = true;
		sum += alike[row][column];
	}
	return sum;
}

bool
sophia_name_similarity(Span a, Span b, double *similarity)
{
	double alike[MAX_WORDS][MAX_WORDS];
	Words x;
	Words y;

	read_words(a, &x);
	read_words(b, &y);
	for (int i = 0; i < x.count; i++)
		for (int j = 0; j < y.count; j++)
			if (!word_similarity(x.at[i], y.at[j], &alike[i][j]))
				return false;
	*similarity =
		x.count + y.count == 0 ? 1 : 2 * pair_words(alike, x.count, y.count) / (x.count + y.count);
	return true;
}
