/*
 * similarity_test.c
 *		Unit tests of transform/similarity.c.  The values of Jaro and Jaro-Winkler are those of Winkler's papers.
 */
#include "transform/similarity.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef bool (*Compare)(Span a, Span b, double *similarity);

/* A copy in memory of its exact size, so that a read past its end is seen. */
static Span
exact_span(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len + (len == 0));

	memcpy(copy, text, len);
	return (Span){copy, len};
}

/* Both ways round: every similarity is symmetric. */
static void
check(const char *what, Compare compare, const char *a, const char *b, double expected)
{
	Span x = exact_span(a);
	Span y = exact_span(b);
	double there = -1;
	double back = -1;
	bool compared = compare(x, y, &there) && compare(y, x, &back);

	ok(compared && fabs(there - expected) < 0.00005 && fabs(back - expected) < 0.00005,
	   "%s of \"%s\" and \"%s\" is %.4f (%.4f, %.4f)", what, a, b, expected, there, back);
	free((char *) x.start);
	free((char *) y.start);
}

static void
check_distance(const char *a, const char *b, int expected)
{
	int there = -1;
	int back = -1;

	sophia_levenshtein((Span){a, strlen(a)}, (Span){b, strlen(b)}, &there);
	sophia_levenshtein((Span){b, strlen(b)}, (Span){a, strlen(a)}, &back);
	ok(there == expected && back == expected, "distance of \"%s\" and \"%s\" is %d", a, b, expected);
}

static void
check_long_texts(void)
{
	char text[SIMILARITY_MAX_CHARS + 1];
	Span longest = {text, SIMILARITY_MAX_CHARS};
	Span too_long = {text, SIMILARITY_MAX_CHARS + 1};
	double similarity;
	int distance;

	memset(text, 'a', sizeof(text));
	ok(sophia_jaro(longest, longest, &similarity) && similarity == 1,
	   "the longest text is compared");
	ok(sophia_levenshtein(longest, (Span){"b", 1}, &distance) && distance == SIMILARITY_MAX_CHARS,
	   "the longest distance is found");
	ok(!sophia_jaro(too_long, longest, &similarity) &&
		   !sophia_jaro_winkler(longest, too_long, &similarity) &&
		   !sophia_levenshtein(too_long, longest, &distance) &&
		   !sophia_levenshtein_similarity(longest, too_long, &similarity) &&
		   !sophia_name_similarity(too_long, (Span){"ab", 2}, &similarity),
	   "a longer one is not");
}

int
main(void)
{
	check("jaro", sophia_jaro, "MARTHA", "MARHTA", 0.9444);
	check("jaro", sophia_jaro, "DIXON", "DICKSONX", 0.7667);
	check("jaro", sophia_jaro, "JONES", "JOHNSON", 0.7905);
	check("jaro", sophia_jaro, "", "", 1);
	check("jaro", sophia_jaro, "a", "", 0);
	check("jaro", sophia_jaro, "abc", "xyz", 0);
	check("jaro", sophia_jaro, "Jos\xC3\xA9", "Jose", 0.8333);
	check("jaro", sophia_jaro, "\xE6\x9D\x8E\xE6\x98\x8E", "\xE6\x9D\x8E\xE6\x98\x8E", 1);
	check("jaro-winkler", sophia_jaro_winkler, "MARTHA", "MARHTA", 0.9611);
	check("jaro-winkler", sophia_jaro_winkler, "DIXON", "DICKSONX", 0.8133);
	check("jaro-winkler", sophia_jaro_winkler, "DWAYNE", "DUANE", 0.8400);
	check("jaro-winkler", sophia_jaro_winkler, "abcx", "abyz", 0.6667);

	check_distance("kitten", "sitting", 3);
	check_distance("", "abc", 3);
	check_distance("same", "same", 0);
	check_distance("abcd", "abxcd", 1);
	check_distance("\xC3\xA9t\xC3\xA9", "ete", 2);
	check_distance("ab\xFF", "ab", 1);
	check("levenshtein", sophia_levenshtein_similarity, "kitten", "sitting", 1 - 3 / 7.0);
	check("levenshtein", sophia_levenshtein_similarity, "", "", 1);

	check("tokens", sophia_token_similarity, "Acme Robotics, Inc.", "acme robotics inc", 0.0);
	check("tokens", sophia_token_similarity, "acme robotics inc", "inc acme", 2 / 3.0);
	check("tokens", sophia_token_similarity, "a a b", "b", 0.5);
	check("tokens", sophia_token_similarity, " , ", "", 1);

	check("name", sophia_name_similarity, "ann lee", "lee, ann", 1);
	check("name", sophia_name_similarity, "a. lee", "ann lee", 0.95);
	check("name", sophia_name_similarity, "b. lee", "ann lee", 0.5);
	check("name", sophia_name_similarity, "ann mary lee", "ann lee", 0.8);
	check("name", sophia_name_similarity, "martha o'neil", "o'neil marhta", (2 * (1 + 0.9611)) / 4);
	check("name", sophia_name_similarity, "", "ann", 0);
	check("name", sophia_name_similarity, "", "", 1);
	check_long_texts();
	done_testing();
	return exit_status();
}
