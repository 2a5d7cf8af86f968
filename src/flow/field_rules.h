/*
 * field_rules.h
 *		What becomes of a field that no column holds: the name of its column, and the types that hold more.
 *
 * Pure, so that the rules can be tested apart.  The README documents them for users.
 */
#ifndef SOPHIA_FIELD_RULES_H
#define SOPHIA_FIELD_RULES_H

#include <stdbool.h>

#include "base/json.h"

/* Longest name of a column with its NUL, as PostgreSQL has it. */
#define FIELD_NAME 64

/*
 * The name of the column of a field: lower-case, ASCII characters but letters and digits as "_", at most 63 bytes.  Try 0 is
 * made from the last step of the pointer, 1 from all of them, and any further one has the number of the try at its end.
 */
extern void sophia_field_name(char name[FIELD_NAME], const JsonPointer *pointer, int attempt);

/* True for a name that no column of a table may have, or that says that Estuary made the table. */
extern bool sophia_field_name_reserved(const char *name);

/* The next conversion that holds all values of this one and more, or NULL.  Types of columns have the same names. */
extern const char *sophia_field_wider(const char *conversion);

/* The narrowest conversion that holds the values of both. */
extern const char *sophia_field_common(const char *a, const char *b);

/* Writes a JSON pointer of `steps` names; false when it does not fit. */
extern bool sophia_field_pointer(char *out, size_t size, const JsonPointer *pointer);

#endif /* SOPHIA_FIELD_RULES_H */
