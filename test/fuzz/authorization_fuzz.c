/*
 * authorization_fuzz.c
 *		Fuzzes the answers of a control plane and the tokens that it hands out.
 *
 * The first byte chooses the status.  What is granted has an address and a token, and no message repeats the secret that
 * was sent.
 */
#include "flow/authorization.h"
#include "fuzz.h"

#define SECRET "c2VjcmV0LW9mLW5vYm9keQ=="

static const long statuses[] = {200, 307, 400, 401, 403, 404, 500, 503};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Authorization authorization = {0};
	int64_t issued = 0;
	int64_t expires = 0;
	char *body;
	long status;

	if (size == 0)
		return 0;
	status = statuses[data[0] % (sizeof(statuses) / sizeof(*statuses))];
	body = malloc(size);
	REQUIRE(body != NULL);
	memcpy(body, data + 1, size - 1);
	body[size - 1] = '\0';
	sophia_authorization_read(&authorization, status, body, size - 1, SECRET);
	REQUIRE(memchr(authorization.message, '\0', sizeof(authorization.message)) != NULL);
	REQUIRE(strstr(authorization.message, SECRET) == NULL);
	if (authorization.kind == AUTHORIZATION_GRANTED)
	{
		size_t length = strlen(authorization.address);

		REQUIRE(status == 200 && authorization.token[0] != '\0');
		REQUIRE(length > 0 && authorization.address[length - 1] != '/');
	}
	sophia_authorization_clear(&authorization);
	if (sophia_token_times(body, &issued, &expires))
		REQUIRE(expires != 0);
	free(body);
	return 0;
}
