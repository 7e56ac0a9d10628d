/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A relay: TLS on one side, an unencrypted socket on the other. The owner of a connection uses the second socket
 * instead of the first. If the kernel can take over after the handshake, the relay gives the first socket back, and
 * ends: see kernel_tls.h.
 *
 *   peer <- records -> [net] relay [local] <- data -> who has the connection
 *
 * A relay has a thread or a process of its own, so a slow peer, a long handshake or the wait for random numbers
 * hold up nobody, and records of several connections use several processors. It takes no memory after relay_new().
 *
 * The end of either side is passed on. A close_notify of the peer becomes an end of file on the local socket; an end
 * without one becomes a lost connection. When the local socket is closed, the relay still delivers what was sent
 * before, and a close_notify, as long as the peer accepts data at least every 30 seconds and acknowledges the end
 * within another 30.
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
/* Frees a relay that was never run. */
void relay_free(struct relay *r);
/* Does all until the connection has ended, then frees it and returns NULL. arg: the relay. */
void *relay_run(void *arg);

enum { RELAY_TEXT_BYTES = TLS_NAME_MAX + 1 };

/* Whether the handshake is done. Returns the descriptor to go on with, which does not block: local, the other end of
 * the relay's; or the socket with the peer, with the kernel's TLS, and local is to be closed; and text, of
 * RELAY_TEXT_BYTES, has the name of the peer's key, of a server. -1: it has failed, and text has one line that says
 * why, of a client. */
int relay_result(int local, char *text);

/* ---- relay_thread.c ------------------------------------------------------------------------- */

/* A relay with a thread of its own between net, which it owns from here on, and the socket that is returned. The rest as of
 * relay_new(). -1: no memory or no descriptor; net stays the caller's. Core's thread. */
int relay_begin(int net, const struct psk *psk, const char *who, bool (*is_dead)(int net));
/* How many there are that are servers, until their peers have all that was sent. Any thread. */
unsigned relays_serving(void);
/* How many of these have completed the handshake. */
unsigned relays_up(void);

/* The counts behind these; of relay.c. */
extern _Atomic unsigned relays_served, relays_open;

#endif
