/*
 * json_write.h
 *		JSON as text, written into a buffer.
 */
#ifndef SOPHIA_JSON_WRITE_H
#define SOPHIA_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

/* Appends UTF-8 text as a JSON string, with its quotes; false: no memory. */
extern bool sophia_json_write_string(ByteBuffer *out, const char *text, size_t length);

#endif /* SOPHIA_JSON_WRITE_H */
