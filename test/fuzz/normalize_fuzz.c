/*
 * normalize_fuzz.c
 *		Fuzzes the normalising functions.
 *
 * The first byte chooses the function.  What it refuses leaves the buffer as it was; what is normal stays as it is; text
 * of HTML and Slack grows by no more than its references and names do.
 */
#include "transform/normalize.h"

#include "fuzz.h"

static bool
name_of(void *arg, const char *id, size_t len, ByteBuffer *out)
{
	return len > 1 && sophia_buffer_append(out, id + 1, len - 1);
}

static bool
slack_text(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_slack_text(in, len, name_of, NULL, out);
}

static bool
phone_in_argentina(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "AR", 2, out);
}

static bool
phone_in_brazil(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "br", 2, out);
}

static bool
phone_in_america(const char *in, size_t len, ByteBuffer *out)
{
	return sophia_normalize_phone_in(in, len, "US", 2, out);
}

typedef struct Target
{
	bool (*normalize)(const char *in, size_t len, ByteBuffer *out);
	bool stable; /* its result normalises to itself */
} Target;

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const Target targets[] = {{sophia_normalize_email, true}, {sophia_email_domain, true},
									 {sophia_normalize_phone, true}, {phone_in_argentina, true},
									 {phone_in_brazil, true},		 {phone_in_america, true},
									 {sophia_strip_html, false},	 {slack_text, false},
									 {sophia_fold_name, false},		 {sophia_snippet, true}};
	ByteBuffer out = {0};
	ByteBuffer again = {0};
	const Target *target;
	char *in;

	if (size == 0)
		return 0;
	target = &targets[data[0] % (sizeof(targets) / sizeof(targets[0]))];
	in = exact_copy(data + 1, --size);
	REQUIRE(sophia_buffer_append(&out, "kept", 4));
	if (!target->normalize(in, size, &out))
		REQUIRE(buffer_size(&out) == 4);
	else
	{
		size_t n = buffer_size(&out) - 4;
		char *normal = exact_copy(buffer_bytes(&out) + 4, n);

		REQUIRE(n > 0 && n <= 4 * size + 64);
		if (target->stable)
			REQUIRE(target->normalize(normal, n, &again) && buffer_size(&again) == n &&
					memcmp(buffer_bytes(&again), normal, n) == 0);
		free(normal);
	}
	REQUIRE(memcmp(buffer_bytes(&out), "kept", 4) == 0);
	sophia_buffer_free(&again);
	sophia_buffer_free(&out);
	free(in);
	return 0;
}
