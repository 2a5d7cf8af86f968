/*
 * fragment_scan.h
 *		Scanning a folder of fragments: takes what the folders hold now into the index.
 *
 * A scan reads folder entries only and opens no file, so that thousands of files cost milliseconds.
 * Failures of the file system are text for the caller; nothing is thrown for them.
 */
#ifndef SOPHIA_FRAGMENT_SCAN_H
#define SOPHIA_FRAGMENT_SCAN_H

#include "flow/fragment_index.h"

/*
 * Looks at the folders anew, and at the journals' write heads.  False when some folder could not be read; the rest
 * was, nothing is forgotten, and *sqlstate and `error` tell of the first.
 */
extern bool sophia_index_scan(FragmentIndex *index, int *sqlstate, char *error, size_t error_size);

#endif /* SOPHIA_FRAGMENT_SCAN_H */
