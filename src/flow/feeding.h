/*
 * feeding.h
 *		The worker's part in tables that Estuary writes itself: what landed in them goes on to the raw tables.
 */
#ifndef SOPHIA_FEEDING_H
#define SOPHIA_FEEDING_H

#include "postgres.h"

/*
 * Feeds a slice of the next adopted table when rows have landed or it is time to look; returns when to come again
 * (sophia_clock_ms).  Only the first worker of a database that runs does so.  Raises no error for what the tables hold.
 */
extern int64 sophia_feeding_turn(void);

#endif /* SOPHIA_FEEDING_H */
