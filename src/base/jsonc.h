/*
 * jsonc.h
 *		json-c under names that do not clash: it calls its type json_object, as the server calls a
 *		function. Write jsonc_object for the type; the functions json_object_* keep their names.
 */
#ifndef SOPHIA_JSONC_H
#define SOPHIA_JSONC_H

#define json_object jsonc_object
#include <json-c/json.h>
#undef json_object

#endif /* SOPHIA_JSONC_H */
