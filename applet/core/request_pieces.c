/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Zeroes and trims may be as long as the disk, so they are done in pieces, each under its own
 * range: others who want these blocks wait for one piece at most, and the port serves others
 * between two pieces. An error ends the request.
 *
 * Where the disk cannot trim at all, nothing is done to local blocks, not even noted. Their range is waited for all the same: who
 * is answered may count on the bits of all of them.
 */
#include "core/request.h"

uint64_t piece_idle_end(const struct core *c, const struct request *r, uint64_t first, uint64_t end)
{
	return r->type == NBD_CMD_TRIM && c->no_trims ? map_next_missing(&c->map, first, end) : first;
}

static void piece_cut(const struct core *c, struct request *r, uint32_t all)
{
	uint64_t first = touched_first(r), end = map_blocks(r->offset + all);
	uint64_t idle = piece_idle_end(c, r, first, end < first + ZERO_BLOCKS_MAX ? end : first + ZERO_BLOCKS_MAX) - first;
	uint64_t most = (first + (idle > c->zero_blocks ? idle : c->zero_blocks)) * BLOCK_BYTES - r->offset;

	r->length = all < most ? all : (uint32_t)most;
	r->rest = all - r->length;
	r->begun_ms = c->now_ms;
}

void piece_begin(struct core *c, struct request *r)
{
	piece_cut(c, r, r->length);
	request_lock_and_go(c, r, touched_first(r), touched_end(r));
}

/* core_run() begins it: pieces do not call each other. */
void piece_next(struct core *c, struct request *r)
{
	r->offset += r->length;
	r->flags &= (uint16_t)~NBD_CMD_FLAG_FAST_ZERO; /* too late to refuse it */
	piece_cut(c, r, r->rest);
	if (!request_lock(c, r, touched_first(r), touched_end(r)))
		return;
	r->range.next_granted = NULL;
	*c->granted_tail = &r->range;
	c->granted_tail = &r->range.next_granted;
}

/* Longer pieces while the disk does them in no time, shorter ones when somebody had to wait. */
void zero_measure(struct core *c, uint64_t blocks, uint64_t ms)
{
	if (blocks < c->zero_blocks && (ms <= ZERO_MS || c->zero_blocks == ZERO_BLOCKS_MIN))
		return;
	if (ms > ZERO_MS)
		blocks = blocks * ZERO_MS / ms;
	else if (ms < ZERO_MS / 4)
		blocks *= 2;
	if (blocks > ZERO_BLOCKS_MAX)
		blocks = ZERO_BLOCKS_MAX;
	c->zero_blocks = blocks > ZERO_BLOCKS_MIN ? blocks : ZERO_BLOCKS_MIN;
}

/* A trim only touches whole blocks: part of one cannot become local. */
void piece_trim(struct core *c, struct request *r)
{
	uint64_t first = whole_first(r);
	uint64_t end = whole_end(c, r);
	uint64_t stop = request_end(r);

	if (first >= end) {
		request_reply(c, r, NBD_SUCCESS);
		return;
	}
	r->offset = first * BLOCK_BYTES;
	if (stop > end * BLOCK_BYTES)
		stop = end * BLOCK_BYTES;
	r->length = (uint32_t)(stop - r->offset);
	piece_begin(c, r);
}
