/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A question to the origin: between fetch.c, which asks, and verify.c, which compares. */
#ifndef CORE_FETCH_H
#define CORE_FETCH_H

#include "core/core.h"

#include <stddef.h>

enum fetch_state { FETCH_QUEUED, FETCH_SENT, FETCH_STORING };

struct fetch {
	enum fetch_state state;
	uint8_t kind; /* LINK_CLIENT or LINK_COPIER: who began it */
	bool zero;    /* nothing to fetch: the origin says these blocks are zero */
	bool wide;    /* brings more than anybody has asked for */
	bool verify;  /* nothing to store: these blocks are local, and are compared */
	unsigned pass;                 /* c->fetch_pass when it was begun */
	uint64_t first, end;           /* blocks */
	uint64_t want_first, want_end; /* before they were aligned for the origin */
	uint64_t rest_end;             /* verify: up to here it goes on, block by block */
	uint64_t cookie;
	uint64_t sent_ms;
	uint64_t position; /* STORING, or being compared: blocks before it are done */
	uint8_t *buf;
	struct core *core;
	struct request *waiters;
	struct fetch *next_hash, *next; /* next in queue or sent */
	struct range range;
	struct io io;
	struct persist persist;
};

/* The fetch that has this member. */
#define FETCH_OF(ptr, member) ((struct fetch *)(void *)((char *)(ptr)-offsetof(struct fetch, member)))

#endif
