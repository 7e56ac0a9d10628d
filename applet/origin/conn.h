/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * One connection to an origin, as an NBD client. For origin*.c and the files of a connection only: conn_connect.c leads
 * from DOWN to HANDSHAKE, conn.c to VERIFY; it sends, receives and closes; conn_reply.c parses replies; conn_verify.c
 * leads from VERIFY to UP.
 *
 *   DOWN -> RESOLVING -> CONNECTING -> HANDSHAKE -> VERIFY -> UP
 *
 * VERIFY reads the sampled blocks, and random blocks that are compared with the image (conn_verify.c), so that nobody
 * gets a byte from another disk. Any failure, from any state, leads to DOWN and one call of origin_conn_failed(); the
 * time limits of the steps are in conn_connect.c, those of replies in conn.c. Unanswered requests are dropped here; the
 * core sends them again. Core's thread; nothing here blocks. A connection is a member of its struct origin.
 */
#ifndef ORIGIN_CONN_H
#define ORIGIN_CONN_H

#include "nbd/nbd.h"
#include "origin/endpoint.h"
#include "origin/origin.h"
#include "reactor/loop.h"
#include "reactor/pool.h"

enum {
	CONN_ERROR_BYTES = 200,
	CONN_CHECK_MS = 1000, /* so often one that is UP is looked at */
	CONN_IN_BYTES = 64 << 10,
};

enum conn_phase { CONN_DOWN, CONN_RESOLVING, CONN_CONNECTING, CONN_HANDSHAKE, CONN_VERIFY, CONN_UP };

/* What comes next of a reply. */
enum conn_part { PART_HEADER, PART_FIXED, PART_DATA, PART_SKIP, PART_EXTENTS };

enum { SPOTS = 16 };

/* Blocks that are compared with the image. */
struct spots {
	struct job job;
	struct conn *conn; /* NULL: the attempt has been given up */
	struct disk *disk;
	unsigned count;
	bool sent; /* they are being compared: done() frees them */
	struct {
		uint64_t block, sample; /* sample: of the origin; 0 = not known */
		bool differs;
	} spot[SPOTS];
	uint8_t buf[BLOCK_BYTES];
};

enum pending_kind { PENDING_READ, PENDING_STATUS, PENDING_SAMPLE };

/* A request that was sent, and not answered. */
struct pending {
	struct pending *next;
	uint64_t cookie;
	uint64_t sent_ms;
	uint64_t offset;
	uint32_t length;
	int error; /* of an error chunk, errno */
	uint8_t kind;
	uint8_t sample;
	uint8_t *buf; /* READ: the core's; SAMPLE: ours */
	struct nbd_gaps gaps;
	struct extents extents[]; /* STATUS: one element; length is then what it does not cover yet */
};

struct resolving;

struct conn {
	struct event event; /* fd -1 while there is none */
	enum conn_phase phase;
	struct origin *origin;
	unsigned slot; /* enum conn_slot */
	struct timer timer;
	uint64_t progress_ms; /* when the origin last sent something */
	struct resolving *resolving;
	struct endpoints endpoints; /* of the running attempt */
	unsigned tried;             /* how many of them */
	bool is_unknown;            /* the last lookup has found none, or there was none: others do not wait for the next one */
	struct nbd_client_handshake handshake;
	struct fingerprint fingerprint; /* as far as VERIFY has come */
	struct spots *spots;
	bool differs; /* origin and image differ in a spot */
	bool want_out;
	bool securing; /* HANDSHAKE: what comes next tells how TLS has begun */
	const struct psk *psk; /* TLS with this key, or no connection; NULL: none. Valid until DOWN */
	bool adopted; /* handed over: the origin never told us its size */
	bool shaken;  /* this attempt has completed its handshake */
	bool tripped; /* the origin closed the connection during option negotiation */
	bool starved; /* no memory for a request: the connection fails at the end of this turn */

	uint8_t *in; /* CONN_IN_BYTES */
	uint32_t in_first, in_end;
	uint8_t *out;
	uint32_t out_bytes, out_room;
	struct pending *pending, **pending_tail;

	/* the reply being read */
	enum conn_part part;
	struct pending *reply;
	struct nbd_reply_header head;
	uint32_t need;
	uint8_t *data; /* where the next data goes */
	uint32_t left; /* bytes of data, extents or message still to come */
};

void conn_init(struct conn *l, struct origin *o, unsigned slot);
/* From DOWN. plain: as in struct nbd_client_handshake. */
void conn_connect(struct conn *l, const char *host, const char *port, const char *export_name, bool plain);
/* From DOWN to VERIFY, over fd, which is past its handshake and gives simple replies:
 * the connection's from here on. size_bytes: what the disk has to have. */
void conn_adopt(struct conn *l, int fd, uint64_t size_bytes);
/* To DOWN, from any phase; tells nobody. */
void conn_close(struct conn *l);
bool conn_is_idle(const struct conn *l);
/* At the end of each turn of the loop. */
void conn_turn(struct conn *l);
/* UP only. */
void conn_send_read(struct conn *l, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf);
void conn_send_status(struct conn *l, uint64_t cookie, uint64_t offset, uint32_t length);

/* ---- between the files of a connection ----------------------------------------------------- */

/* To DOWN; origin_conn_failed() is called. */
void conn_fail(struct conn *l, const char *why);
/* Queues a request, from VERIFY on. buf: where the data goes; the connection then owns that of a sample.
 * The result belongs to the connection. NULL: no memory; buf stays the caller's, and the connection fails at
 * the end of this turn. */
struct pending *conn_send_request(struct conn *l, enum pending_kind kind, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf);
/* Queues n bytes, which are copied; ctx is the connection: for its handshake. Without memory it fails at the end of
 * this turn. */
void conn_append(void *ctx, const void *p, size_t n);
/* From HANDSHAKE on, when the socket has something, or has ended: receives it, and does what it says. The connection may
 * be DOWN then. */
void conn_received(struct conn *l);
/* UP, every CONN_CHECK_MS: if a reply is overdue, the origin counts as lost, and the connection goes DOWN. */
void conn_check(struct conn *l);
/* Closes the socket, if there is one; the phase stays. */
void conn_drop_fd(struct conn *l);
/* conn_connect.c: what the lookup of a name finds, if one is under way, is not this connection's any more. */
void conn_forget_lookup(struct conn *l);
/* conn_reply.c: takes what has been received, from VERIFY on. */
void conn_parse_replies(struct conn *l);
/* conn_verify.c: after the handshake: reads samples and spots; then the connection is UP, and
 * origin_conn_ready() decides whether this is our disk. */
void conn_verify(struct conn *l);
/* conn_verify.c: this sample has come, or error (errno) instead. Frees its memory. */
void conn_sample_done(struct conn *l, const struct pending *p, int error);

/* Called by the connection: it is UP; the origin decides whether it serves our disk. */
void origin_conn_ready(struct origin *o, unsigned slot);
/* Called by the connection: it is still UP; every CONN_CHECK_MS. */
void origin_conn_steady(struct origin *o, unsigned slot);
/* Called by the connection: it is DOWN. why: one line. */
void origin_conn_failed(struct origin *o, unsigned slot, const char *why);
struct core *origin_core(struct origin *o);
struct disk *origin_disk(struct origin *o);

#endif
