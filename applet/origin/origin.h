/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The origin of a proxy: its identity, and the state of the connections to it. The ports of the core that lead to the
 * origin (core/ports.h) are in origin.c, too.
 *
 * Core's thread; nothing here blocks. A callback may be called before the function that took it
 * returns, and must not begin another attempt. An origin lives as long as its disk: to the end.
 */
#ifndef ORIGIN_ORIGIN_H
#define ORIGIN_ORIGIN_H

#include "nbd/nbd.h"
#include "secure/keys.h"
#include "storage/disk.h"

/* How an attempt to reach an origin ended. error: NULL for success, else one line. refused: this
 * origin is not used. Of the very first attempt, an error without refused means that it serves
 * another disk. */
typedef void origin_callback(void *ctx, const char *error, bool refused);

/* The address of an origin. Functions that take it copy all of it. */
struct origin_address {
	const char *host, *port;
	const char *name;      /* of the export */
	const struct psk *psk; /* the key for TLS; NULL: no TLS */
	const char *psk_file;  /* it comes from there; NULL: no TLS */
};

/* What a URI says: host, port, name, and where the key is, which is not read here. The host is the caller's to free; the other texts
 * are those of the URI. */
void origin_address_of(struct origin_address *a, const struct nbd_uri *u);
/* An origin at this address. Connects at once, and calls `first` once when this
 * first attempt has ended; first NULL: does not connect. Dies when there is no memory. */
struct origin *origin_new(struct disk *d, const struct origin_address *a, origin_callback *first, void *ctx);
/* After the first attempt went well: what the origin is. */
uint64_t origin_size_bytes(const struct origin *o);
const struct fingerprint *origin_fingerprint(const struct origin *o);
/* The core exists from now on: gives it the connection. An origin that is needed, but was not reached
 * yet, is tried until it is, and must then be the one that d->header describes. */
void origin_start(struct origin *o);
/* The same for one from origin_new() without `first`, which another program of this process has had a connection
 * to: it is the one that d->header describes, and is tried until it is reached. */
void origin_resume(struct origin *o);
/* Drops the connections and tries another address; goes back to the old one if that is refused. One at a
 * time. Returns NULL, or why it was not begun: one line; then done is not called. */
const char *origin_reconnect(struct origin *o, const struct origin_address *a, bool force, origin_callback *done, void *ctx);
/* The same with a connection to the new address that is past its handshake and gives
 * simple replies. NULL: fd is the origin's; done() gets the disk. */
const char *origin_adopt(struct origin *o, int fd, origin_callback *done);
/* Whether a reconnect is not done yet, even if nobody waits for it any more. */
bool origin_is_busy(const struct origin *o);
/* Has a worker read its key again, from the same file by the same name: new connections use what is there then. An error is
 * logged, and the key stays. */
void origin_read_key(struct origin *o);
/* Tries to reach it now, without waiting for the end of a pause. */
void origin_hurry(struct origin *o);
/* Of the origin that is in use, or looked for: valid until the next turn of the loop. */
const struct origin_address *origin_address(const struct origin *o);
const char *origin_state(const struct origin *o);
/* Why it is lost, or refused: one line; "none" */
const char *origin_error(const struct origin *o);
/* For this long it has not been connected, or a second longer; 0: it is, or is not needed. */
uint64_t origin_lost_ms(const struct origin *o);
/* Called when the origin of d is no longer needed, after a switch; NULL, or set by who wants to know. It must
 * not call into the core. */
extern void (*origin_closed)(const struct disk *d);
/* At the end of each turn of the loop: sends what was asked. */
void origin_turn(struct origin *o);
/* Closes its connections; nothing of it is left but d->spots, which comparisons may still be in. d->core may be NULL. */
void origin_delete(struct origin *o);
/* The server shuts down: data that the origin still sends is discarded. Core's thread. */
void origin_end(struct origin *o);

#endif
