/*
 * snowflake.c
 *		Providers of kind "snowflake": see snowflake.h.
 */
#include "ai/snowflake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/json_write.h"

#define DASHES "-----"

static bool
append(ByteBuffer *out, const char *text)
{
	return sophia_buffer_append(out, text, strlen(text));
}

bool
sophia_snowflake_embedding_request(ByteBuffer *out, const char *model, const TextSpan *texts,
								   size_t n)
{
	bool ok = append(out, "{\"model\":") && sophia_json_write_string(out, model, strlen(model)) &&
			  append(out, ",\"text\":[");

	for (size_t i = 0; ok && i < n; i++)
		ok = (i == 0 || append(out, ",")) &&
			 sophia_json_write_string(out, texts[i].text, texts[i].length);
	return ok && append(out, "]}");
}

/* ---- tokens ---- */

/* Appends bytes as base64, or as the form for URLs, which has no padding. */
static bool
append_base64(ByteBuffer *out, const unsigned char *bytes, size_t length, bool url)
{
	char *text = malloc((length + 2) / 3 * 4 + 1);
	int n = text != NULL ? EVP_EncodeBlock((unsigned char *) text, bytes, (int) length) : 0;
	bool ok;

	while (url && n > 0 && text[n - 1] == '=')
		n--;
	for (int i = 0; url && i < n; i++)
		text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
	ok = text != NULL && sophia_buffer_append(out, text, n);
	free(text);
	return ok;
}

/* The base64 between the lines that begin and end a PEM, without blanks. */
static bool
pem_content(ByteBuffer *out, const char *key)
{
	const char *begin = strstr(key, "PRIVATE KEY" DASHES);
	const char *end = begin != NULL ? strstr(begin, DASHES "END") : NULL;

	if (end == NULL)
		return false;
	for (const char *c = begin + strlen("PRIVATE KEY" DASHES); c < end; c++)
	{
		if (*c != ' ' && !sophia_buffer_append(out, c, 1))
			return false;
	}
	return true;
}

static EVP_PKEY *
read_key(const char *key)
{
	ByteBuffer base64 = {0};
	ByteBuffer der = {0};
	EVP_PKEY *pair = NULL;

	if (pem_content(&base64, key) &&
		sophia_base64_append(&der, buffer_bytes(&base64), buffer_size(&base64)))
	{
		const unsigned char *bytes = (const unsigned char *) buffer_bytes(&der);

		pair = d2i_AutoPrivateKey(NULL, &bytes, (long) buffer_size(&der));
		OPENSSL_cleanse(buffer_bytes(&der), buffer_size(&der));
	}
	if (buffer_size(&base64) > 0)
		OPENSSL_cleanse(buffer_bytes(&base64), buffer_size(&base64));
	sophia_buffer_free(&base64);
	sophia_buffer_free(&der);
	if (pair != NULL && EVP_PKEY_base_id(pair) != EVP_PKEY_RSA)
	{
		EVP_PKEY_free(pair);
		pair = NULL;
	}
	return pair;
}

static bool
append_upper(ByteBuffer *out, const char *text, size_t length)
{
	bool ok = true;

	for (size_t i = 0; ok && i < length; i++)
	{
		char c = text[i] >= 'a' && text[i] <= 'z' ? (char) (text[i] - 'a' + 'A') : text[i];

		ok = sophia_buffer_append(out, &c, 1);
	}
	return ok;
}

/* ACCOUNT.USER: the account up to its first dot; of a global one up to its first hyphen. */
static bool
append_subject(ByteBuffer *out, const char *account, const char *user)
{
	const char *stop = strstr(account, ".global") != NULL ? "-." : ".";

	return append_upper(out, account, strcspn(account, stop)) && append(out, ".") &&
		   append_upper(out, user, strlen(user));
}

/* SHA256:… of the public key, as DESCRIBE USER shows it. */
static bool
append_fingerprint(ByteBuffer *out, EVP_PKEY *pair)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned char *der = NULL;
	unsigned int n = 0;
	int length = i2d_PUBKEY(pair, &der);
	bool ok = length > 0 && EVP_Digest(der, length, digest, &n, EVP_sha256(), NULL) == 1 &&
			  append(out, "SHA256:") && append_base64(out, digest, n, false);

	OPENSSL_free(der);
	return ok;
}

static bool
append_claims(ByteBuffer *out, EVP_PKEY *pair, const char *account, const char *user, time_t now)
{
	ByteBuffer subject = {0};
	ByteBuffer issuer = {0};
	char times[96];
	bool ok = append_subject(&subject, account, user) && append_subject(&issuer, account, user) &&
			  append(&issuer, ".") && append_fingerprint(&issuer, pair);

	snprintf(times, sizeof(times), ",\"iat\":%lld,\"exp\":%lld}", (long long) now,
			 (long long) now + SNOWFLAKE_TOKEN_SECONDS);
	ok = ok && append(out, "{\"iss\":") &&
		 sophia_json_write_string(out, buffer_bytes(&issuer), buffer_size(&issuer)) &&
		 append(out, ",\"sub\":") &&
		 sophia_json_write_string(out, buffer_bytes(&subject), buffer_size(&subject)) &&
		 append(out, times);
	sophia_buffer_free(&subject);
	sophia_buffer_free(&issuer);
	return ok;
}

/* Appends the signature of all that is in the buffer. */
static bool
append_signature(ByteBuffer *out, EVP_PKEY *pair)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	size_t length = (size_t) EVP_PKEY_size(pair);
	unsigned char *signature = malloc(length);
	bool ok = context != NULL && signature != NULL &&
			  EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, pair) == 1 &&
			  EVP_DigestSign(context, signature, &length, (unsigned char *) buffer_bytes(out),
							 buffer_size(out)) == 1;

	ok = ok && append(out, ".") && append_base64(out, signature, length, true);
	free(signature);
	EVP_MD_CTX_free(context);
	return ok;
}

bool
sophia_snowflake_sign(ByteBuffer *out, const char *key, const char *account, const char *user,
					  time_t now, const char **problem)
{
	static const char header[] = "{\"alg\":\"RS256\",\"typ\":\"JWT\"}";
	ByteBuffer claims = {0};
	EVP_PKEY *pair = read_key(key);
	bool ok;

	*problem = "the secret is no unencrypted RSA private key in PEM form";
	if (pair == NULL)
		return false;
	*problem = "a token could not be signed";
	ok = append_claims(&claims, pair, account, user, now) &&
		 append_base64(out, (const unsigned char *) header, strlen(header), true) &&
		 append(out, ".") &&
		 append_base64(out, (unsigned char *) buffer_bytes(&claims), buffer_size(&claims), true) &&
		 append_signature(out, pair) && sophia_buffer_append(out, "", 1);
	sophia_buffer_free(&claims);
	EVP_PKEY_free(pair);
	return ok;
}
