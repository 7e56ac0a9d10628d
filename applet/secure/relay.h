/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A relay: TLS on one side, a socket in the clear on the other. Whoever has a connection goes on with the second
 * one in the place of the first. When the handshake is done, the relay gives the first one back if the kernel can do the
 * rest, and ends: see kernel_tls.h.
 *
 *   peer <- records -> [net] relay [local] <- data -> who has the connection
 *
 * A relay has a thread or a process of its own, so a slow peer, a long handshake or the wait for random numbers
 * hold up nobody, and records of several connections use several processors. It takes no memory after relay_new().
 *
 * The end of one side is passed on: of the peer, its close_notify is an end of data for who has the
 * connection; an end without one is a lost connection. Who closes the local socket has what was sent before delivered,
 * and a close_notify behind it, as long as the peer takes some of it every 30 seconds, and acknowledges the end of it within 30 more.
 */
#ifndef SECURE_RELAY_H
#define SECURE_RELAY_H

#include "secure/kernel_tls.h"
#include "secure/keys.h"

struct relay;

/* A relay that owns both descriptors, which do not block from here on. psk: as a client with this key, which
 * is copied; NULL: as a server, with those of psk_use(). who: the peer, for messages. is_dead: NULL, or is asked every
 * few seconds whether the peer has gone without a word. NULL: no memory; the descriptors stay the caller's.
 *
 * The other end of local has to be given to relay_result() when it can be read for the first time. */
struct relay *relay_new(int net, int local, const struct psk *psk, const char *who, bool (*is_dead)(int net));
/* Frees one that was never run. */
void relay_free(struct relay *r);
/* Does all until the connection has ended, then frees it and returns NULL. arg: the relay. */
void *relay_run(void *arg);

enum { RELAY_TEXT_BYTES = TLS_NAME_MAX + 1 };

/* Whether the handshake is done. Returns the descriptor to go on with, which does not block: local, the other end of the
 * relay's; or the socket with the peer, with the kernel's TLS, and local is to be closed; and text, of RELAY_TEXT_BYTES, has the
 * name of the peer's key, of a server. -1: it has failed, and text has one line that says why, of a client. */
int relay_result(int local, char *text);

/* ---- relay_thread.c ------------------------------------------------------------------------- */

/* A relay with a thread of its own between net, which it owns from here on, and the socket that is returned. The rest as of
 * relay_new(). -1: no memory or no descriptor; net stays the caller's. Loop's thread. */
int relay_begin(int net, const struct psk *psk, const char *who, bool (*is_dead)(int net));
/* How many there are that are servers. Any thread. */
unsigned relays_serving(void);
/* How many of these have done the handshake. */
unsigned relays_up(void);
/* Whether some of these have not sent all that was given to them. Any thread. */
bool relays_are_sending(void);

/* The counts behind these; of relay.c. */
extern _Atomic unsigned relays_served, relays_open, relays_unsent;

#endif
