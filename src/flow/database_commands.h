/*
 * database_commands.h
 *		Gets workers out of the way of statements that need a database for themselves.
 */
#ifndef SOPHIA_DATABASE_COMMANDS_H
#define SOPHIA_DATABASE_COMMANDS_H

/* Installs the utility hook; for _PG_init while preloading. */
extern void sophia_database_commands_install(void);

#endif /* SOPHIA_DATABASE_COMMANDS_H */
