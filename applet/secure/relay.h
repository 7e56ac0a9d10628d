/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A relay: TLS on one side, a socket in the clear on the other. Whoever has a connection goes on with the second
 * one in the place of the first, and need not know.
 *
 *   peer <- records -> [net] relay [local] <- data -> who has the connection
 *
 * A relay has a thread or a process of its own, so a slow peer, a long handshake or the wait for random numbers
 * hold up nobody, and records of several connections use several processors. It takes no memory after relay_new().
 *
 * The end of one side is passed on: of the peer, its close_notify is an end of data for who has the
 * connection; an end without one is a lost connection. Who closes the local socket has what was sent before delivered,
 * and a close_notify behind it, as long as the peer takes some of it every 30 seconds.
 */
#ifndef SECURE_RELAY_H
#define SECURE_RELAY_H

#include "secure/keys.h"

struct relay;

/* A relay that owns both descriptors, which do not block from here on. psk: as a client with this key, which
 * is copied; NULL: as a server, with those of psk_use(). who: the peer, for messages. is_dead: NULL, or is asked every
 * few seconds whether the peer has gone without a word. NULL: no memory; the descriptors stay the caller's.
 *
 * As a server, it first sends the length of the key's name to the other end of local, a byte, and the name, when the
 * handshake is done. As a client, it first sends a byte to the other end of local: 0 when the handshake is done. Else what it sends
 * is the reason why not, one line without an end, and then the end. */
struct relay *relay_new(int net, int local, const struct psk *psk, const char *who, bool (*is_dead)(int net));
/* Frees one that was never run. */
void relay_free(struct relay *r);
/* Does all until the connection has ended, then frees it and returns NULL. arg: the relay. */
void *relay_run(void *arg);

/* ---- relay_thread.c ------------------------------------------------------------------------- */

/* A relay with a thread of its own between net, which it owns from here on, and the socket that is returned. The rest as of
 * relay_new(). -1: no memory or no descriptor; net stays the caller's. Loop's thread. */
int relay_begin(int net, const struct psk *psk, const char *who, bool (*is_dead)(int net));
/* How many there are that are servers. Any thread. */
unsigned relays_serving(void);
/* Whether some of these have not sent all that was given to them. Any thread. */
bool relays_are_sending(void);

/* The counts behind these; of relay.c. */
extern _Atomic unsigned relays_served, relays_unsent;

#endif
