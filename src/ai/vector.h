/*
 * vector.h
 *		Similarity and distance of two vectors of float4, as embeddings are compared.
 *
 * Pure: no server call.  The sums run in single precision, sixteen of them side by side, which is what makes them fast:
 * their error is some 1e-6 of the sum of the magnitudes that were added.  A sum that leaves the range of a float, or is
 * too small to have all its digits, is taken again in double precision; so a result is infinite only where an element
 * is, and vectors may have any scale.  NaN in an element gives NaN.
 */
#ifndef SOPHIA_VECTOR_H
#define SOPHIA_VECTOR_H

#include <stddef.h>

/* Sum of the products of elements; 0 for n = 0. */
extern double sophia_vector_inner_product(const float *a, const float *b, size_t n);

/* Euclidean distance; 0 for n = 0. */
extern double sophia_vector_l2_distance(const float *a, const float *b, size_t n);

/* Sum of the distances of elements; 0 for n = 0. */
extern double sophia_vector_l1_distance(const float *a, const float *b, size_t n);

/* Cosine of the angle between both, -1 to 1; NaN where one of them has length zero. */
extern double sophia_vector_cosine(const float *a, const float *b, size_t n);

#endif /* SOPHIA_VECTOR_H */
