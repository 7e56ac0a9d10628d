/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A fetch: one read from the origin. For fetch.c, which begins and ends it, fetch_table.c, which finds it, fetch_conn.c,
 * which sends it, fetch_store.c, which stores the reply, and verify.c, which compares it. The core's thread.
 */
#ifndef CORE_FETCH_H
#define CORE_FETCH_H

#include "core/internal.h"

#include <stddef.h>

enum fetch_state { FETCH_QUEUED, FETCH_SENT, FETCH_STORING };

struct fetch {
	enum fetch_state state;
	uint8_t kind; /* CONN_CLIENT or CONN_COPIER: who began it */
	bool zero;    /* nothing to fetch: the origin reports these blocks as zero */
	bool wide;    /* brings more than anybody has asked for */
	bool verify;  /* nothing to store: these blocks are local, and are compared */
	unsigned pass;                 /* c->fetch_pass when it was begun */
	uint64_t first, end;           /* blocks */
	uint64_t want_first, want_end; /* before it was widened, or aligned for the origin */
	uint64_t rest_end;             /* verify: after an error it goes on up to here, block by block */
	uint64_t cookie;
	uint64_t sent_ms;
	uint64_t position; /* STORING, or being compared: blocks before it are done */
	uint8_t *buf;
	struct core *core;
	struct request *waiters;
	struct fetch *next_hash, *next; /* next: sent */
	struct range range;
	struct io io; /* its job: in the queue; the owner is the client in whose turn it is sent, NULL: of the copy or read-ahead */
	struct persist persist;
};

/* Where blocks before end_block end in the disk: bytes. The last block may be short. */
static inline uint64_t fetch_bytes_end(const struct core *c, uint64_t end_block)
{
	uint64_t end = end_block * BLOCK_BYTES;

	return end < c->size_bytes ? end : c->size_bytes;
}

/* fetch_table.c. Enters f into the table. Until it is removed, its range of blocks may only grow, within the same word. */
void fetch_enter(struct core *c, struct fetch *f);
void fetch_remove(struct core *c, struct fetch *f);
/* Bits of this word that somebody has asked for already. */
uint64_t fetch_in_flight(const struct core *c, uint64_t word);

/* fetch.c. The length of f in the disk. */
uint32_t fetch_bytes(const struct core *c, const struct fetch *f);
/* f, which is in no list, waits to be sent, in the turn of this client (NULL: of the copy or read-ahead). */
void fetch_queue(struct core *c, struct fetch *f, const void *owner);
/* This client waits for f, too. What the copy has asked for is in no client's way: it has a window of its own. */
void fetch_hurry(struct core *c, struct fetch *f, const void *owner);
/* Grows f to the origin's minimum block size, in blocks; that divides a word. */
void fetch_align(const struct core *c, struct fetch *f, uint32_t unit);
/* Frees the memory for the reply, if f has any. */
void fetch_release(struct core *c, struct fetch *f);

enum fetch_end { END_OK, END_ORIGIN, END_LOCAL, END_GIVE_UP };

/* f is in no list any more. Tells everybody who waits for it, and frees it. */
void fetch_finish(struct core *c, struct fetch *f, enum fetch_end how, int error);
/* The bytes of f have come, or are known to be zero: they go to the image, where blocks are still missing;
 * then fetch_finish(). */
void fetch_store(struct core *c, struct fetch *f);

#endif
