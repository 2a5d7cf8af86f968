/*
 * address.h
 *		Which addresses an endpoint may have, and how it may name its secret.
 *
 * Checked when an endpoint is created, and again by the worker each time it opens one: the settings, and the rows
 * of a restored database, may be others by then.
 */
#ifndef SOPHIA_FLOW_ADDRESS_H
#define SOPHIA_FLOW_ADDRESS_H

/* http[s]://host[:port] of a broker.  Raises 22023. */
extern void sophia_check_broker_address(const char *address);

/* The same of Estuary's control plane; '' stands for sophia_stack.control_plane.  Raises 22023. */
extern void sophia_check_estuary_address(const char *address);

/* An absolute folder, in one of sophia_stack.fragment_directories or below.  Raises 22023, 42501. */
extern void sophia_check_fragments_address(const char *address);

/*
 * A secret's reference, env:NAME or file:name; `what` names the argument.  Raises 22023, and shows neither the value nor the statement: it may
 * well be the secret itself.
 */
extern void sophia_check_secret_reference(const char *reference, const char *what);

#endif /* SOPHIA_FLOW_ADDRESS_H */
