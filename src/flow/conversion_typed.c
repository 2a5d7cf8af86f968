/*
 * conversion_typed.c
 *		Conversions to types that only some collections need: reals, dates, identifiers, addresses, bytes.
 *
 * They read what the type's input function reads, but refuse instead of raising an error.
 */
#include "postgres.h"

#include "flow/conversion_functions.h"

#include <math.h>
#include <sys/socket.h>

#include "base/base64.h"
#include "base/compat.h"
#include "flow/timestamp_text.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/float.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

static ByteBuffer decoded;

/* False with *null when there is no value, false without it for a misfit. */
static bool
read_float8(CONVERSION_ARGUMENTS, float8 *result)
{
	const char *text;
	char *copy;
	size_t length;
	bool error = false;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return false;
	copy = pnstrdup(text, length);
	*result = compat_read_float8(copy, &error);
	return error ? sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION,
								 "is no number that fits")
				 : true;
}

bool
sophia_convert_float8(CONVERSION_ARGUMENTS)
{
	float8 result;

	if (!read_float8(context, values, n, value, null, &result))
		return *null;
	*value = Float8GetDatum(result);
	return true;
}

bool
sophia_convert_float4(CONVERSION_ARGUMENTS)
{
	float8 result;

	if (!read_float8(context, values, n, value, null, &result))
		return *null;
	if (isinf((float4) result) && !isinf(result))
		return sophia_misfit(context, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
	*value = Float4GetDatum((float4) result);
	return true;
}

bool
sophia_convert_date(CONVERSION_ARGUMENTS)
{
	const char *text;
	size_t length;
	DateADT result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!sophia_date_parse(text, length, &result))
		return sophia_misfit(context, ERRCODE_INVALID_DATETIME_FORMAT, "is no date");
	*value = DateADTGetDatum(result);
	return true;
}

bool
sophia_convert_time(CONVERSION_ARGUMENTS)
{
	const char *text;
	size_t length;
	TimeADT result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	if (!sophia_time_parse(text, length, &result))
		return sophia_misfit(context, ERRCODE_INVALID_DATETIME_FORMAT, "is no time of day");
	*value = TimeADTGetDatum(result);
	return true;
}

/* The moment in UTC, without its zone. */
bool
sophia_convert_timestamp(CONVERSION_ARGUMENTS)
{
	/* both count microseconds from the same moment */
	return sophia_convert_timestamptz(context, values, n, value, null);
}

bool
sophia_convert_interval(CONVERSION_ARGUMENTS)
{
	const char *text;
	size_t length;
	Interval *result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	result = palloc(sizeof(Interval));
	if (!sophia_interval_parse(text, length, result))
		return sophia_misfit(context, ERRCODE_INVALID_DATETIME_FORMAT, "is no interval");
	*value = IntervalPGetDatum(result);
	return true;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9'	  ? c - '0'
		   : c >= 'a' && c <= 'f' ? c - 'a' + 10
		   : c >= 'A' && c <= 'F' ? c - 'A' + 10
								  : -1;
}

/* 32 hexadecimal digits, hyphens between any bytes, perhaps in braces. */
static bool
read_uuid(const char *text, size_t length, pg_uuid_t *result)
{
	const char *end = text + length;
	int bytes = 0;

	if (length > 2 && *text == '{' && end[-1] == '}')
		text++, end--;
	while (text < end)
	{
		int high;
		int low;

		if (*text == '-' && bytes > 0)
		{
			text++;
			continue;
		}
		high = hex_digit(*text++);
		low = text < end ? hex_digit(*text++) : -1;
		if (high < 0 || low < 0 || bytes == UUID_LEN)
			return false;
		result->data[bytes++] = (unsigned char) (high << 4 | low);
	}
	return bytes == UUID_LEN;
}

bool
sophia_convert_uuid(CONVERSION_ARGUMENTS)
{
	const char *text;
	size_t length;
	pg_uuid_t *result;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	result = palloc(sizeof(pg_uuid_t));
	if (!read_uuid(text, length, result))
		return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no uuid");
	*value = UUIDPGetDatum(result);
	return true;
}

/* True when no bit is set behind the network part, as cidr demands. */
static bool
is_network(const inet *address)
{
	for (int bit = ip_bits(address); bit < ip_maxbits(address); bit++)
		if (ip_addr(address)[bit / 8] & (0x80 >> bit % 8))
			return false;
	return true;
}

static bool
convert_address(CONVERSION_ARGUMENTS, bool network)
{
	const char *text;
	size_t length;
	inet *result;
	int bits;

	*null = !sophia_scalar_text(values, n, &text, &length);
	if (*null)
		return true;
	text = pnstrdup(text, length);
	result = palloc0(sizeof(inet));
	ip_family(result) = strchr(text, ':') != NULL ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	bits = pg_inet_net_pton(ip_family(result), text, ip_addr(result),
							network ? ip_addrsize(result) : -1);
	if (bits >= 0 && bits <= ip_maxbits(result))
	{
		ip_bits(result) = bits;
		SET_VARSIZE(result, VARHDRSZ + offsetof(inet_struct, ipaddr) + ip_addrsize(result));
		*value = InetPGetDatum(result);
		if (!network || is_network(result))
			return true;
	}
	return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no network address");
}

bool
sophia_convert_cidr(CONVERSION_ARGUMENTS)
{
	return convert_address(context, values, n, value, null, true);
}

bool
sophia_convert_inet(CONVERSION_ARGUMENTS)
{
	return convert_address(context, values, n, value, null, false);
}

bool
sophia_convert_base64(CONVERSION_ARGUMENTS)
{
	const JsonNode *node = sophia_first_value(values, n);

	*null = node == NULL;
	if (node == NULL)
		return true;
	sophia_buffer_clear(&decoded);
	if (node->kind != JSON_STRING || !sophia_base64_append(&decoded, node->u.text, node->length))
		return sophia_misfit(context, ERRCODE_INVALID_TEXT_REPRESENTATION, "is no base64");
	*value =
		PointerGetDatum(cstring_to_text_with_len(buffer_bytes(&decoded), buffer_size(&decoded)));
	return true;
}
