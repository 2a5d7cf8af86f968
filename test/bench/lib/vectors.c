/*
 * vectors.c
 *		Cosines of pairs of vectors a second on one core, without a server: see ../vectors.
 *
 * The vectors are few enough to stay in the processor's caches, as one side of a search does.
 */
#include "ai/vector.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DIMENSIONS 768
#define VECTORS	   32
#define SECONDS	   1.0

static float vectors[VECTORS][DIMENSIONS];

static double
processor_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int
main(void)
{
	double start;
	double seconds;
	double sum = 0;
	long pairs = 0;

	for (int v = 0; v < VECTORS; v++)
		for (int i = 0; i < DIMENSIONS; i++)
			vectors[v][i] = (float) rand() / RAND_MAX - 0.5f;
	start = processor_seconds();
	do
	{
		for (int a = 0; a < VECTORS; a++)
			for (int b = 0; b < VECTORS; b++)
				sum += sophia_vector_cosine(vectors[a], vectors[b], DIMENSIONS);
		pairs += VECTORS * VECTORS;
		seconds = processor_seconds() - start;
	} while (seconds < SECONDS);
	/* Each vector and itself make 1, and nothing the compiler could leave out. */
	if (sum < pairs / VECTORS / 2.0)
		return 1;
	printf("%.0f\n", pairs / seconds);
	return 0;
}
