/*
 * uuid_fuzz.c
 *		Fuzzes the reading of uuids: what is taken has 36 characters, and its parts make the same text again.
 */
#include <strings.h>

#include "flow/uuid.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = exact_copy(data, size);
	DocumentUuid uuid;

	if (sophia_uuid_parse(text, size, &uuid))
	{
		uint64_t c = uuid.clock;
		char again[37];

		REQUIRE(size == 36);
		REQUIRE(uuid.flags >= 0 && uuid.flags < 1 << 10);
		REQUIRE(uuid.producer < (uint64_t) 1 << 48);
		snprintf(again, sizeof(again), "%08x-%04x-%04x-%02x%02x-%012llx",
				 (unsigned) (c >> 4 & 0xffffffff), (unsigned) (c >> 36 & 0xffff),
				 (unsigned) (c >> 52 & 0xfff) | 0x1000,
				 0x80 | (unsigned) (c & 0xf) << 2 | (unsigned) uuid.flags >> 8,
				 (unsigned) uuid.flags & 0xff, (unsigned long long) uuid.producer);
		REQUIRE(strncasecmp(again, text, 36) == 0);
		sophia_clock_unix_us(uuid.clock);
	}
	free(text);
	return 0;
}
