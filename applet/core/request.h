/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A client's request, between the files request*.c: the blocks that it touches, covers and needs, its range lock, its
 * pieces. The core's thread. */
#ifndef CORE_REQUEST_H
#define CORE_REQUEST_H

#include "core/internal.h"
#include "nbd/nbd.h"

static inline bool is_write(const struct request *r)
{
	return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES || r->type == NBD_CMD_TRIM;
}

static inline uint64_t request_end(const struct request *r)
{
	return r->offset + r->length;
}

static inline uint64_t touched_first(const struct request *r)
{
	return r->offset / BLOCK_BYTES;
}

static inline uint64_t touched_end(const struct request *r)
{
	return map_blocks(request_end(r));
}

/* Blocks that r covers from end to end; the short last block of the disk counts. */
static inline uint64_t whole_first(const struct request *r)
{
	return map_blocks(r->offset);
}

static inline uint64_t whole_end(const struct core *c, const struct request *r)
{
	uint64_t end = request_end(r);

	return end == c->size_bytes ? c->map.blocks : end / BLOCK_BYTES;
}

/*
 * The first missing block whose bytes r needs, or UINT64_MAX. Reads need them
 * all; writes need those that they cover in part (rule 6); a trim leaves them out.
 */
uint64_t request_first_needed(const struct core *c, struct request *r);
/* The one that it has to wait for, or UINT64_MAX: BLOCK_STATUS needs none, see block_status.c. */
uint64_t request_first_awaited(const struct core *c, struct request *r);

/* request.c. Asks for the range lock of blocks [first, end): exclusive if r writes. True: r has it. Else
 * r->range.granted() is called when it has; r goes to the disk then. */
bool request_lock(struct core *c, struct request *r, uint64_t first, uint64_t end);
/* The same; if r has the lock at once, it goes to the disk at once. */
void request_lock_and_go(struct core *c, struct request *r, uint64_t first, uint64_t end);

/* request_pieces.c: up to where a trim of [first, end) changes nothing: the disk cannot, and all is local. first: it does, or r
 * is no trim. */
uint64_t piece_idle_end(const struct core *c, const struct request *r, uint64_t first, uint64_t end);
/* Of zeroes and trims: the first piece of r. */
void piece_begin(struct core *c, struct request *r);
/* The same for the part of a trim that consists of whole blocks; the reply if there is none. */
void piece_trim(struct core *c, struct request *r);
/* The next piece, behind one that went well and left some of r. */
void piece_next(struct core *c, struct request *r);

#endif
