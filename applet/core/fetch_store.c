/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What the origin has sent goes to the image, under an exclusive range: what a client has written
 * meanwhile is local, and stays (rule 4). The bits are set when the bytes are there (rule 1).
 */
#include "core/checked.h"
#include "core/fetch.h"
#include "nbd/nbd.h"

static bool block_is_zero(const struct core *c, const struct fetch *f, uint64_t block)
{
	uint32_t n = (uint32_t)(fetch_bytes_end(c, block + 1) - block * BLOCK_BYTES);

	return f->zero || nbd_zeroes(f->buf + (block - f->first) * BLOCK_BYTES, n) == n;
}

static void store_is_in_file(struct persist *p, int error)
{
	struct fetch *f = container_of(p, struct fetch, persist);
	struct core *c = f->core;

	/* An error is latched and keeps clients from writing; what was fetched is
	 * nevertheless in the image and may be read. */
	c->granted_tail = range_unlock(&c->ranges, &f->range, c->granted_tail);
	if (!error && !f->zero)
		c->recent[c->recents++ % STATE_RECENT] = (struct state_recent){ f->first, 1 };
	fetch_finish(c, f, error && f->kind == CONN_COPIER ? END_LOCAL : END_OK, f->kind == CONN_COPIER ? error : 0);
}

static void store_end(struct core *c, struct fetch *f)
{
	c->commit.image_dirty = true;
	if (f->io.error) {
		core_note_error(c, "write to the image", f->io.error);
		c->granted_tail = range_unlock(&c->ranges, &f->range, c->granted_tail);
		fetch_finish(c, f, END_LOCAL, f->io.error);
		return;
	}
	if (f->zero)
		zero_measure(c, f->end - f->first, c->now_ms - f->sent_ms);
	map_set(&c->map, f->first, f->end);
	f->persist.first = f->first;
	f->persist.end = f->end;
	f->persist.done = store_is_in_file;
	persist_add(c, &f->persist);
}

static void store_event(struct io *io);

/* Prepares the write of the next run of missing blocks that are all zero or all
 * not: zeroes are not written to a sparse image. False: nothing is left. */
static bool store_prepare(struct core *c, struct fetch *f)
{
	uint64_t first = map_next_missing(&c->map, f->position, f->end);
	uint64_t end = map_next_local(&c->map, first, f->end);
	uint64_t b = first + 1;
	bool zero;

	assert(f->range.exclusive && !f->range.blockers); /* rule 4 */
	if (first >= f->end)
		return false;
	zero = block_is_zero(c, f, first);
	if (f->zero)
		b = end;
	while (b < end && block_is_zero(c, f, b) == zero)
		b++;
	f->position = b;
	f->io.op = zero ? IO_ZERO : IO_WRITE;
	f->io.file = FILE_IMAGE;
	f->io.flags = 0;
	f->io.offset = first * BLOCK_BYTES;
	f->io.length = fetch_bytes_end(c, b) - f->io.offset;
	f->io.buf = f->zero ? NULL : f->buf + (first - f->first) * BLOCK_BYTES;
	f->io.error = 0;
	f->io.owner = f->kind == CONN_COPIER ? (void *)&c->copier : c;
	f->io.done = store_event;
	return true;
}

static void store_step(struct core *c, struct fetch *f)
{
	while (!f->io.error && store_prepare(c, f))
		if (!port_io(c, &f->io))
			return;
	store_end(c, f);
}

static void store_event(struct io *io)
{
	struct fetch *f = container_of(io, struct fetch, io);
	struct core *c = f->core;

	store_step(c, f);
	core_run(c);
}

static void store_granted(struct range *range)
{
	struct fetch *f = container_of(range, struct fetch, range);

	store_step(f->core, f);
}

void fetch_store(struct core *c, struct fetch *f)
{
	f->state = FETCH_STORING;
	f->position = f->first;
	f->io.error = 0;
	f->range.first = f->first;
	f->range.end = f->end;
	f->range.exclusive = true;
	f->range.granted = store_granted;
	if (range_lock(&c->ranges, &f->range))
		store_step(c, f);
}
