/*
 * secrets.c
 *		Secrets by reference: see secrets.h.  Nothing here raises an error.
 *
 * A file is opened without following a link, below a folder that the administrator named, by a name
 * without a slash: no reference leads out of that folder.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "base/settings.h"
#include "store/secrets.h"

#define SECRET_MAX_BYTES (64 * 1024)
#define SECRET_MAX_NAME	 255

#define ENV_PREFIX	"env:"
#define FILE_PREFIX "file:"

/* The name after a prefix, NULL when the reference has another one. */
static const char *
name_after(const char *reference, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(reference, prefix, length) == 0 ? reference + length : NULL;
}

/* Letters, digits, '_' and, in the name of a file, '-' and '.', which does not come first. */
static bool
name_valid(const char *name, bool file)
{
	size_t length;

	for (length = 0; name[length] != '\0'; length++)
	{
		bool letter = (name[length] >= 'a' && name[length] <= 'z') ||
					  (name[length] >= 'A' && name[length] <= 'Z');
		bool other = (name[length] >= '0' && name[length] <= '9') || name[length] == '_';
		bool mark = name[length] == '-' || (name[length] == '.' && length > 0);

		if (!letter && !other && !(file && mark))
			return false;
	}
	return length > 0 && length <= SECRET_MAX_NAME;
}

bool
sophia_secret_reference_valid(const char *reference)
{
	const char *variable = name_after(reference, ENV_PREFIX);
	const char *file = name_after(reference, FILE_PREFIX);

	return (variable != NULL && name_valid(variable, false)) ||
		   (file != NULL && name_valid(file, true));
}

void
sophia_secret_clear(Secret *secret)
{
	if (secret->value != NULL)
		explicit_bzero(secret->value, secret->length);
	free(secret->value);
	secret->value = NULL;
	secret->length = 0;
}

static bool
read_environment(const char *name, Secret *secret, char *error, size_t error_size)
{
	const char *value = getenv(name);

	if (value == NULL || value[0] == '\0')
	{
		snprintf(error, error_size, "environment variable \"%s\" is not set", name);
		return false;
	}
	secret->value = strdup(value);
	if (secret->value == NULL)
	{
		strlcpy(error, "out of memory", error_size);
		return false;
	}
	secret->length = strlen(secret->value);
	return true;
}

/* Reads an open file, without the newline at its end. */
static bool
read_content(int fd, const char *name, Secret *secret, char *error, size_t error_size)
{
	struct stat info;
	ssize_t n;

	if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || info.st_size > SECRET_MAX_BYTES)
	{
		snprintf(error, error_size, "secret file \"%s\" is no regular file of at most %d bytes",
				 name, SECRET_MAX_BYTES);
		return false;
	}
	secret->value = malloc(info.st_size + 1);
	if (secret->value == NULL)
	{
		strlcpy(error, "out of memory", error_size);
		return false;
	}
	while (secret->length < (size_t) info.st_size &&
		   (n = read(fd, secret->value + secret->length, info.st_size - secret->length)) > 0)
		secret->length += n;
	while (secret->length > 0 &&
		   (secret->value[secret->length - 1] == '\n' || secret->value[secret->length - 1] == '\r'))
		secret->length--;
	secret->value[secret->length] = '\0';
	if (secret->length == 0)
		snprintf(error, error_size, "secret file \"%s\" is empty or cannot be read", name);
	return secret->length > 0;
}

static bool
read_file(const char *name, Secret *secret, char *error, size_t error_size)
{
	char path[MAXPGPATH];
	bool done;
	int fd;

	if (sophia_secrets_directory == NULL || sophia_secrets_directory[0] != '/')
	{
		snprintf(error, error_size,
				 "secret file \"%s\" cannot be read: sophia_stack.secrets_directory is not set",
				 name);
		return false;
	}
	if (snprintf(path, sizeof(path), "%s/%s", sophia_secrets_directory, name) >= sizeof(path))
	{
		snprintf(error, error_size, "the path of secret file \"%s\" is too long", name);
		return false;
	}
	/* O_NONBLOCK: a pipe of that name must not hold us up. */
	fd = BasicOpenFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
	{
		snprintf(error, error_size, "could not open secret file \"%s\": %s", name, strerror(errno));
		return false;
	}
	done = read_content(fd, name, secret, error, error_size);
	close(fd);
	return done;
}

/* Puts the lines of a private key (PEM) into one, with spaces between them. */
static void
join_lines(Secret *secret)
{
	if (strncmp(secret->value, "-----BEGIN ", strlen("-----BEGIN ")) != 0)
		return;
	for (size_t i = 0; i < secret->length; i++)
	{
		if (secret->value[i] == '\n' || secret->value[i] == '\r')
			secret->value[i] = ' ';
	}
}

bool
sophia_secret_read(const char *reference, Secret *secret, char *error, size_t error_size)
{
	const char *variable = name_after(reference, ENV_PREFIX);
	const char *file = name_after(reference, FILE_PREFIX);
	bool done;

	sophia_secret_clear(secret);
	if (!sophia_secret_reference_valid(reference))
	{
		strlcpy(error, "a secret is named by env:NAME or file:name", error_size);
		return false;
	}
	if (variable != NULL)
		done = read_environment(variable, secret, error, error_size);
	else
		done = read_file(file, secret, error, error_size);
	if (done)
		join_lines(secret);
	for (size_t i = 0; done && i < secret->length; i++)
	{
		if ((unsigned char) secret->value[i] < 0x20 || secret->value[i] == 0x7F)
		{
			snprintf(error, error_size, "secret \"%s\" holds a control character", reference);
			done = false;
		}
	}
	if (!done)
		sophia_secret_clear(secret);
	return done;
}
