/*
 * vector.c
 *		Similarity and distance of two vectors of float4.
 *
 * Each sum has a fast and an exact form.  The fast one adds into sixteen floats, which the compiler keeps in four
 * registers of four lanes, so that no addition waits for the one before; the extension for vectors of GCC and Clang
 * serves every processor that has such registers.
 */
#include "ai/vector.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#define LANES	  4
#define REGISTERS 4
#define BLOCK	  (LANES * REGISTERS)

/* Four floats; elements of an array are only aligned as floats are. */
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef Lanes UnalignedLanes __attribute__((aligned(sizeof(float)), may_alias));

#define LANES_AT(floats) (*(const UnalignedLanes *) (floats))

/* Sums of squares of this size and above have all digits: what was lost below FLT_MIN does not count in them. */
#define FULL_PRECISION (FLT_MIN / FLT_EPSILON * 65536)

typedef struct CosineSums
{
	double product;
	double a_squared;
	double b_squared;
} CosineSums;

static double
sum_of(const Lanes *sums)
{
	Lanes total = (sums[0] + sums[1]) + (sums[2] + sums[3]);

	return ((double) total[0] + total[1]) + ((double) total[2] + total[3]);
}

/* Whether a sum of squares is right as it was taken in single precision. */
static bool
is_precise(double squares)
{
	return squares >= FULL_PRECISION && squares <= FLT_MAX;
}

static double
exact_product(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

static double
exact_squares(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
	return sum;
}

/* The three sums of a cosine in one pass. */
static CosineSums
fast_cosine_sums(const float *a, const float *b, size_t n)
{
	Lanes product[REGISTERS] = {{0}};
	Lanes a_squared[REGISTERS] = {{0}};
	Lanes b_squared[REGISTERS] = {{0}};
	CosineSums sums;
	size_t i = 0;

	for (; i + BLOCK <= n; i += BLOCK)
	{
		for (int r = 0; r < REGISTERS; r++)
		{
			Lanes x = LANES_AT(a + i + r * LANES);
			Lanes y = LANES_AT(b + i + r * LANES);

			product[r] += x * y;
			a_squared[r] += x * x;
			b_squared[r] += y * y;
		}
	}
	sums = (CosineSums){sum_of(product), sum_of(a_squared), sum_of(b_squared)};
	sums.product += exact_product(a + i, b + i, n - i);
	sums.a_squared += exact_product(a + i, a + i, n - i);
	sums.b_squared += exact_product(b + i, b + i, n - i);
	return sums;
}

double
sophia_vector_inner_product(const float *a, const float *b, size_t n)
{
	Lanes sums[REGISTERS] = {{0}};
	double sum;
	size_t i = 0;

	for (; i + BLOCK <= n; i += BLOCK)
	{
		for (int r = 0; r < REGISTERS; r++)
			sums[r] += LANES_AT(a + i + r * LANES) * LANES_AT(b + i + r * LANES);
	}
	sum = sum_of(sums) + exact_product(a + i, b + i, n - i);
	return is_precise(fabs(sum)) ? sum : exact_product(a, b, n);
}

double
sophia_vector_l2_distance(const float *a, const float *b, size_t n)
{
	Lanes sums[REGISTERS] = {{0}};
	double squares;
	size_t i = 0;

	for (; i + BLOCK <= n; i += BLOCK)
	{
		for (int r = 0; r < REGISTERS; r++)
		{
			Lanes difference = LANES_AT(a + i + r * LANES) - LANES_AT(b + i + r * LANES);

			sums[r] += difference * difference;
		}
	}
	squares = sum_of(sums) + exact_squares(a + i, b + i, n - i);
	return sqrt(is_precise(squares) ? squares : exact_squares(a, b, n));
}

double
sophia_vector_l1_distance(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += fabs((double) a[i] - b[i]);
	return sum;
}

double
sophia_vector_cosine(const float *a, const float *b, size_t n)
{
	CosineSums sums = fast_cosine_sums(a, b, n);
	double cosine;

	if (!is_precise(sums.a_squared) || !is_precise(sums.b_squared))
		sums = (CosineSums){exact_product(a, b, n), exact_product(a, a, n), exact_product(b, b, n)};
	/* The square of the smallest float is some 1e-90 and that of the largest 1e77: their product is a double. */
	cosine = sums.product / sqrt(sums.a_squared * sums.b_squared);
	return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}
