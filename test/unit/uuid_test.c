/* Unit tests of flow/uuid.c. */
#include <string.h>

#include "flow/uuid.h"
#include "tap.h"

static const struct
{
	const char *text;
	uint64_t producer;
	uint64_t clock;
	int flags;
} good[] = {
	{"45566778-2334-1112-a002-010000000001", 0x010000000001, 0x1122334455667788, 2},
	{"83fc2f81-cc5f-11e9-8800-090607050309", 0x090607050309, 0x1e9cc5f83fc2f812, 0},
	{"83fc2f81-cc5f-11e9-8801-090607050309", 0x090607050309, 0x1e9cc5f83fc2f812, 1},
	{"83fc2f81-cc5f-11e9-8802-090607050309", 0x090607050309, 0x1e9cc5f83fc2f812, 2},
	{"83fc2f81-cc5f-11e9-8804-090607050309", 0x090607050309, 0x1e9cc5f83fc2f812, 4},
	{"83FC2F81-CC5F-11E9-8804-090607050309", 0x090607050309, 0x1e9cc5f83fc2f812, 4},
	{"83fc2f81-cc5f-11e9-8bff-ffffffffffff", 0xffffffffffff, 0x1e9cc5f83fc2f812, 0x3ff},
	{"ffffffff-ffff-1fff-bc00-010000000001", 0x010000000001, UINT64_MAX, 0},
	{"00000000-0000-1000-8000-000000000000", 0, 0, 0},
};

static const struct
{
	const char *text;
	const char *what;
} bad[] = {
	{"", "empty"},
	{"83fc2f81-cc5f-11e9-8800-09060705030", "a digit short"},
	{"83fc2f81-cc5f-11e9-8800-0906070503090", "a digit long"},
	{"83fc2f81-cc5f-41e9-8800-090607050309", "version 4"},
	{"83fc2f81-cc5f-01e9-8800-090607050309", "version 0"},
	{"83fc2f81-cc5f-11e9-0800-090607050309", "variant NCS"},
	{"83fc2f81-cc5f-11e9-c800-090607050309", "variant Microsoft"},
	{"83fc2f81_cc5f-11e9-8800-090607050309", "wrong dash"},
	{"83fc2f81c-c5f-11e9-8800-090607050309", "moved dash"},
	{"83fc2f8g-cc5f-11e9-8800-090607050309", "no hexadecimal digit"},
	{"{3fc2f81-cc5f-11e9-8800-09060705030}", "braces"},
	{" 83fc2f81-cc5f-11e9-8800-09060705030", "leading space"},
};

static const struct
{
	uint64_t clock;
	int64_t us;
} moments[] = {
	{0x1b21dd2138140000, 0},
	{0x1b21dd2197721000, INT64_C(10000000)},
	{0x1b21dd2138140000 - 16, -1},
	{0x1b21dd2138140000 - 160, -1},
	{0x1b21dd2138140000 - 161, -2},
	{0x1b21dd2138140000 + 159, 0},
	{0x1b21dd2138140000 + 160, 1},
	{0, INT64_C(-12219292800000000)},
	{UINT64_MAX, (INT64_C(0x0fffffffffffffff) - INT64_C(122192928000000000)) / 10},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A moment and the first clock of it; what is behind what. */
static void
test_clocks(void)
{
	ok(sophia_clock_of_unix_us(0) == 0x1b21dd2138140000, "the first clock of 1970");
	ok(sophia_clock_of_unix_us(10000000) == 0x1b21dd2197721000, "the first clock of 10 s later");
	ok(sophia_clock_of_unix_us(INT64_C(-12219292800000000)) == 0, "the first of all");
	ok(sophia_clock_of_unix_us(INT64_MIN) == 0, "before the first");
	ok(sophia_clock_of_unix_us(INT64_MAX) == UINT64_MAX, "behind the last");
	ok(sophia_clock_unix_us(sophia_clock_of_unix_us(INT64_C(1780000000123456))) ==
		   INT64_C(1780000000123456),
	   "there and back");

	const uint64_t noon = sophia_clock_of_unix_us(INT64_C(1780000000000000));
	const uint64_t second = UINT64_C(10000000) << 4;

	ok(!sophia_clock_is_behind(noon, noon, 0), "not behind itself");
	ok(!sophia_clock_is_behind(noon, noon + 5 * second, 5), "five seconds are not more than five");
	ok(sophia_clock_is_behind(noon, noon + 5 * second + 16, 5), "a little more is");
	ok(!sophia_clock_is_behind(noon + second, noon, 0), "what is newer is not behind");
	ok(sophia_clock_is_behind(0, UINT64_MAX, 48 * 3600), "clocks are unsigned");
}

int
main(void)
{
	for (size_t i = 0; i < COUNT(good); i++)
	{
		DocumentUuid u = {0};

		ok(sophia_uuid_parse(good[i].text, strlen(good[i].text), &u) && u.clock == good[i].clock &&
			   u.producer == good[i].producer && u.flags == good[i].flags,
		   "reads %s", good[i].text);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
	{
		DocumentUuid u = {1, 2, 3};

		ok(!sophia_uuid_parse(bad[i].text, strlen(bad[i].text), &u) && u.clock == 1 &&
			   u.producer == 2 && u.flags == 3,
		   "refuses: %s", bad[i].what);
	}
	for (size_t i = 0; i < COUNT(moments); i++)
		ok(sophia_clock_unix_us(moments[i].clock) == moments[i].us, "clock %016llx",
		   (unsigned long long) moments[i].clock);
	test_clocks();
	done_testing();
	return exit_status();
}
