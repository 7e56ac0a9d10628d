/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A link: one connection to an origin, as an NBD client. For origin.c and the files of a link only:
 * link.c connects, sends and closes; link_reply.c parses replies; link_verify.c leads from VERIFY to UP.
 *
 *   DOWN -> RESOLVING -> CONNECTING -> HANDSHAKE -> VERIFY -> UP
 *
 * VERIFY reads the sampled blocks, and random blocks that are compared with the image
 * (link_verify.c), so that nobody gets a byte from another disk.
 * Any failure, from any state, leads to DOWN and one call of origin_link_failed();
 * no step may take longer than link.c allows it.
 * Requests that are unanswered by then are forgotten here: the core asks again.
 * Loop's thread; nothing here blocks. A link is a member of its struct origin.
 */
#ifndef ORIGIN_LINK_H
#define ORIGIN_LINK_H

#include "nbd/nbd.h"
#include "origin/endpoint.h"
#include "origin/origin.h"
#include "reactor/loop.h"
#include "reactor/pool.h"

enum {
	LINK_ERROR_BYTES = 200,
	LINK_CHECK_MS = 1000, /* so often one that is UP is looked at */
};

enum link_phase { LINK_DOWN, LINK_RESOLVING, LINK_CONNECTING, LINK_HANDSHAKE, LINK_VERIFY, LINK_UP };

/* What comes next of a reply. */
enum link_part { PART_HEADER, PART_FIXED, PART_DATA, PART_SKIP, PART_EXTENTS };

enum { SPOTS = 16 };

/* Blocks that are compared with the image. */
struct spots {
	struct job job;
	struct link *link; /* NULL: the attempt has been given up */
	const struct disk *disk;
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
	uint64_t asked_ms;
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

struct link {
	struct event event; /* fd -1 while there is none */
	enum link_phase phase;
	struct origin *origin;
	unsigned slot; /* enum link_slot */
	struct timer timer;
	uint64_t progress_ms; /* when the origin last sent something */
	struct resolving *resolving;
	struct endpoints endpoints; /* of the running attempt */
	unsigned tried;             /* how many of them */
	struct nbd_client_handshake handshake;
	struct fingerprint fingerprint; /* as far as VERIFY has come */
	struct spots *spots;
	bool differs; /* origin and image differ in a spot */
	bool want_out;
	bool adopted; /* handed over: the origin never told us its size */
	bool shaken;  /* this attempt has completed its handshake */
	bool tripped; /* the origin hung up while options were negotiated */
	bool starved; /* no memory for a request: the link fails at the end of this turn */

	uint8_t *in;
	uint32_t in_first, in_end;
	uint8_t *out;
	uint32_t out_bytes, out_room;
	struct pending *pending, **pending_tail;

	/* the reply being read */
	enum link_part part;
	struct pending *reply;
	struct nbd_reply_header head;
	uint32_t need;
	uint8_t *data; /* where the next data goes */
	uint32_t left; /* bytes of data, extents or message still to come */
};

void link_init(struct link *l, struct origin *o, unsigned slot);
/* From DOWN. plain: as in struct nbd_client_handshake. */
void link_connect(struct link *l, const char *host, const char *port, const char *export_name, bool plain);
/* From DOWN to VERIFY, over fd, which is past its handshake and gives simple replies:
 * the link's from here on. size_bytes: what the disk has to have. */
void link_adopt(struct link *l, int fd, uint64_t size_bytes);
/* To DOWN, from any phase; tells nobody. */
void link_close(struct link *l);
bool link_is_idle(const struct link *l);
/* At the end of each turn of the loop. */
void link_turn(struct link *l);
/* UP only. */
void link_ask_read(struct link *l, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf);
void link_ask_status(struct link *l, uint64_t cookie, uint64_t offset, uint32_t length);

/* ---- between the files of a link ----------------------------------------------------- */

/* To DOWN; origin_link_failed() is called. */
void link_fail(struct link *l, const char *why);
/* Queues a request, from VERIFY on. buf: where the data goes; the link then owns that of a sample.
 * The result belongs to the link. NULL: no memory; buf stays the caller's, and the link fails at
 * the end of this turn. */
struct pending *link_ask(struct link *l, enum pending_kind kind, uint64_t cookie, uint64_t offset, uint32_t length, uint8_t *buf);
/* link_reply.c: takes what has been received, from VERIFY on. */
void link_take_replies(struct link *l);
/* link_verify.c: after the handshake: reads samples and spots; then the link is UP, and
 * origin_link_ready() decides whether this is our disk. */
void link_verify(struct link *l);
/* ... this sample has come, or error (errno) instead. Frees its memory. */
void link_sample_done(struct link *l, const struct pending *p, int error);

/* Called by the link: it is UP; the origin decides whether it serves our disk. */
void origin_link_ready(struct origin *o, unsigned slot);
/* ... it is still UP: every LINK_CHECK_MS. */
void origin_link_steady(struct origin *o, unsigned slot);
/* ... it is DOWN. why: one line. */
void origin_link_failed(struct origin *o, unsigned slot, const char *why);
struct core *origin_core(struct origin *o);
struct disk *origin_disk(struct origin *o);

#endif
