/*
 * curl_times.c
 *		What a program with libcurl takes for one request after the other, for test/bench/gateway.
 *
 * Usage: curl_times kept|fresh N URL FILE [CA_FILE].  FILE is the body of a POST.  `kept` uses one connection, `fresh` one
 * for each request.  Prints the microseconds of each request, a line each.
 */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char body[65536];
static struct curl_slist *headers;

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t
drop(char *bytes, size_t size, size_t n, void *unused)
{
	(void) bytes;
	(void) unused;
	return size * n;
}

static CURL *
prepare(const char *url, const char *ca_file)
{
	CURL *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
	if (ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	return easy;
}

static void
perform(CURL *easy)
{
	CURLcode result = curl_easy_perform(easy);

	if (result == CURLE_OK)
		return;
	fprintf(stderr, "%s\n", curl_easy_strerror(result));
	exit(1);
}

int
main(int argc, char **argv)
{
	const char *ca_file = argc > 5 ? argv[5] : NULL;
	FILE *file = argc > 4 ? fopen(argv[4], "r") : NULL;
	CURL *kept;

	if (file == NULL || fread(body, 1, sizeof(body) - 1, file) == 0)
		return 1;
	fclose(file);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	kept = prepare(argv[3], ca_file);
	for (long i = strtol(argv[2], NULL, 10); i > 0; i--)
	{
		int64_t begin = now_ns();

		if (strcmp(argv[1], "kept") == 0)
			perform(kept);
		else
		{
			CURL *fresh = prepare(argv[3], ca_file);

			perform(fresh);
			curl_easy_cleanup(fresh);
		}
		printf("%.1f\n", (now_ns() - begin) / 1000.0);
	}
	curl_easy_cleanup(kept);
	return 0;
}
