/*
 * control_plane.h
 *		Access to a broker that Estuary's control plane hands out: a kind of broker_access.h.
 */
#ifndef SOPHIA_CONTROL_PLANE_H
#define SOPHIA_CONTROL_PLANE_H

#include "flow/broker_access.h"

/* Starts to ask; source, its token and its collection or prefix are set. */
extern void sophia_control_plane_open(BrokerAccess *access);

extern const BrokerAccessKind sophia_access_control_plane;

#endif /* SOPHIA_CONTROL_PLANE_H */
