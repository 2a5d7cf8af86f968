/*
 * similarity.h
 *		How alike two texts are, for match rules: by characters and by words.
 *
 * Pure: no server call.  Texts are UTF-8 of any content and are compared as they are: who wants case, accents or
 * punctuation ignored normalises first.  Every function returns false for a text that is longer than
 * SIMILARITY_MAX_CHARS: such a value is no name, and comparing costs the product of both lengths.
 * Similarities are between 0 (nothing in common) and 1 (equal); two empty texts are equal.
 */
#ifndef SOPHIA_SIMILARITY_H
#define SOPHIA_SIMILARITY_H

#include <stdbool.h>
#include <stddef.h>

#define SIMILARITY_MAX_CHARS 1024

typedef struct Span
{
	const char *start;
	size_t len;
} Span;

/*
 * Jaro's similarity: characters in common within half the length of the longer text, and how many of them are
 * out of order.  Source: M. A. Jaro, Advances in record-linkage methodology as applied to matching the 1985 census of
 * Tampa, Florida, JASA 84 (1989).
 */
extern bool sophia_jaro(Span a, Span b, double *similarity);

/*
 * Jaro's similarity raised by a tenth of what is missing for each of up to four characters that both begin
 * with, where it is above 0.7.  Source: W. E. Winkler, String comparator metrics and enhanced decision rules in the
 * Fellegi-Sunter model of record linkage, ASA Survey Research Methods (1990).
 */
extern bool sophia_jaro_winkler(Span a, Span b, double *similarity);

/*
 * Number of characters to insert, delete or replace to make one text of the other.  Source: V. I. Levenshtein,
 * Soviet Physics Doklady 10 (1966); by rows as in R. A. Wagner and M. J. Fischer, JACM 21 (1974).
 */
extern bool sophia_levenshtein(Span a, Span b, int *distance);

/* One minus the Levenshtein distance divided by the length of the longer text. */
extern bool sophia_levenshtein_similarity(Span a, Span b, double *similarity);

/*
 * Distinct words in common, divided by distinct words in either (P. Jaccard, 1901).  A word is what stands between
 * blanks and ASCII punctuation; words past the 64th are not looked at.
 */
extern bool sophia_token_similarity(Span a, Span b, double *similarity);

/*
 * How alike two names are whatever the order of their words: each word is paired with at most one of the other
 * name, the most alike (Jaro-Winkler) first; an initial is like a word that begins with it (0.9).  The sum, twice,
 * divided by the number of words.  After A. E. Monge and C. P. Elkan, The field matching problem, KDD (1996).
 */
extern bool sophia_name_similarity(Span a, Span b, double *similarity);

#endif /* SOPHIA_SIMILARITY_H */
