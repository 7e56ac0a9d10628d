/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The record of what clients have written: one bit for WRITTEN_BLOCKS blocks, in the commit file behind the committed
 * bits. Whenever the process or the machine dies, no local block that a client may have changed is marked "not
 * written":
 *
 *   1. Before a byte goes to the image, its bit is in the file.
 *   2. Where a block is local, so that a start may find it local, the bit is also on the
 *      disk before that.
 *   3. A block that was missing becomes committed after its bit is on the disk (commit.c).
 *   4. After a switch nothing is noted. Before it, one more bit, after those of the blocks, is
 *      put on the disk: it says that nobody knows who wrote what is local.
 *
 * A note makes a client's write wait for its bits, in two stages: notes that come while the file
 * is written share the next write, those that come during a sync of it share the next sync.
 * Point 2 costs one sync for each bit: `safe` has those that are known to be on the disk.
 */
#include "core/checked.h"
#include "core/state.h"

#include <stdlib.h>

static void set_bits(uint64_t *words, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		words[first / 64] |= 1ULL << (first % 64);
}

static bool is_unknown(const uint64_t *words, uint64_t size_bytes)
{
	uint64_t bit = written_runs(map_blocks(size_bytes));

	return words[bit / 64] >> (bit % 64) & 1;
}

void written_forget(uint64_t *written, uint64_t size_bytes)
{
	uint64_t bit = written_runs(map_blocks(size_bytes));

	set_bits(written, bit, bit + 1);
}

bool written_from_local(uint64_t *written, const uint64_t *local, uint64_t size_bytes)
{
	uint64_t blocks = map_blocks(size_bytes), first, end;

	if (!is_unknown(written, size_bytes))
		return true;
	for (first = 0; (first = bits_next(local, first, blocks, 0)) < blocks; first = end) {
		end = bits_next(local, first, blocks, ~0ULL);
		set_bits(written, first / WRITTEN_BLOCKS, written_runs(end));
	}
	return false;
}

bool written_init(struct core *c, uint64_t *words, bool safe)
{
	struct written *w = &c->written;
	uint64_t i, n = written_bytes(c->size_bytes) / sizeof(*words);
	unsigned stage;

	for (stage = 0; stage < NOTE_STAGES; stage++)
		w->tail[stage] = &w->next[stage];
	if (!words)
		return true;
	w->buf = c->commit.snapshot + (size_t)COMMIT_CHUNKS_MAX * MAP_CHUNK_BYTES;
	w->safe = n > SIZE_MAX / sizeof(*words) ? NULL : calloc((size_t)n, sizeof(*words));
	if (!w->safe || !map_init(&w->map, (written_runs(map_blocks(c->size_bytes)) + 1) * BLOCK_BYTES, words, false))
		return false;
	w->in_file = w->map.local;
	for (i = 0; safe && i < n; i++)
		if (words[i]) /* what is not touched costs no memory */
			w->safe[i] = words[i];
	w->durable = safe ? w->in_file : 0;
	return true;
}

void written_free(struct core *c)
{
	map_free(&c->written.map);
	free(c->written.safe);
}

bool written_is_known(const struct core *c)
{
	return c->written.map.words && !is_unknown(c->written.map.words, c->size_bytes);
}

uint64_t written_next(const struct core *c, uint64_t first, uint64_t end, uint64_t *run_end)
{
	uint64_t runs = written_runs(end);
	uint64_t open = bits_next(c->written.map.words, first / WRITTEN_BLOCKS, runs, ~0ULL);
	uint64_t stop = bits_next(c->written.map.words, open, runs, 0) * WRITTEN_BLOCKS;

	*run_end = stop < end ? stop : end;
	if (open * WRITTEN_BLOCKS > first)
		first = open * WRITTEN_BLOCKS;
	return first < end ? first : end;
}

/* ---- notes ------------------------------------------------------------------------- */

static void stage_add(struct core *c, unsigned stage, struct persist *p)
{
	p->next = NULL;
	*c->written.tail[stage] = p;
	c->written.tail[stage] = &p->next;
	c->kick = true;
}

/* All that wait for this stage have it together. False: none waits, or it is under way. */
static bool stage_begin(struct core *c, unsigned stage, struct io *io)
{
	struct written *w = &c->written;

	if (w->now[stage] || !w->next[stage])
		return false;
	w->now[stage] = w->next[stage];
	w->next[stage] = NULL;
	w->tail[stage] = &w->next[stage];
	io->error = 0;
	io->owner = c;
	return true;
}

/* All that were in this stage go on: to the next one, or to done(). Those that need not be durable
 * succeed even after a failed sync, for their blocks will never be committed. */
static void stage_end(struct core *c, unsigned stage)
{
	struct written *w = &c->written;
	struct persist *p = w->now[stage], *next;
	int error = stage == NOTE_WRITE ? w->error : c->commit.error;

	w->now[stage] = NULL;
	c->kick = true;
	for (; p; p = next) {
		next = p->next;
		if (stage == NOTE_WRITE && p->durable && !error) {
			stage_add(c, NOTE_SYNC, p);
			continue;
		}
		if (stage == NOTE_SYNC && !error)
			set_bits(w->safe, p->first, p->end);
		p->done(p, error);
	}
}

static void write_event(struct io *io);

/* Bits that come into a chunk after it was taken are for the next write. */
static void write_chunks(struct core *c)
{
	struct written *w = &c->written;
	struct io *io = &w->write;

	for (;;) {
		uint64_t chunk = map_next_dirty(&w->map, w->chunk);

		if (io->error) {
			w->error = io->error;
			core_sync_failed(c, io->error);
		}
		if (chunk >= w->map.chunks || w->error)
			break;
		map_pop_chunk(&w->map, chunk, w->buf);
		w->chunk = chunk + 1;
		io->op = IO_WRITE;
		io->file = FILE_COMMIT;
		io->offset = commit_written_offset(c->size_bytes) + chunk * MAP_CHUNK_BYTES;
		io->length = MAP_CHUNK_BYTES;
		io->buf = w->buf;
		io->done = write_event;
		if (!port_io(c, io))
			return;
	}
	if (!w->error)
		w->in_file = w->taken;
	stage_end(c, NOTE_WRITE);
}

static void write_event(struct io *io)
{
	struct core *c = container_of(io, struct core, written.write);

	write_chunks(c);
	core_run(c);
}

static void synced(struct core *c)
{
	struct written *w = &c->written;

	if (w->sync.error)
		core_sync_failed(c, w->sync.error);
	else
		w->durable = w->covered;
	stage_end(c, NOTE_SYNC);
}

static void sync_event(struct io *io)
{
	struct core *c = container_of(io, struct core, written.sync);

	synced(c);
	core_run(c);
}

void written_kick(struct core *c)
{
	struct written *w = &c->written;

	if (stage_begin(c, NOTE_WRITE, &w->write)) {
		w->chunk = 0;
		w->taken = w->map.local;
		write_chunks(c);
	}
	if (stage_begin(c, NOTE_SYNC, &w->sync)) {
		w->covered = w->in_file;
		w->sync.op = IO_SYNC;
		w->sync.file = FILE_COMMIT;
		w->sync.done = sync_event;
		if (port_io(c, &w->sync))
			synced(c);
	}
}

void written_sync(struct core *c, struct persist *p)
{
	p->first = p->end = 0;
	p->durable = true;
	stage_add(c, NOTE_WRITE, p);
}

bool written_note(struct core *c, struct persist *p, uint64_t first, uint64_t end)
{
	struct written *w = &c->written;

	p->first = first / WRITTEN_BLOCKS;
	p->end = written_runs(end);
	if (!w->map.words || c->mode == MODE_TARGET)
		return true;
	map_set(&w->map, p->first, p->end);
	if (bits_next(w->safe, p->first, p->end, ~0ULL) == p->end)
		return true;
	p->durable = map_next_local(&c->map, first, end) < end;
	if (!p->durable && w->in_file == w->map.local)
		return true;
	stage_add(c, NOTE_WRITE, p);
	return false;
}

void written_lose(struct core *c, struct persist *p)
{
	uint64_t bit = written_runs(c->map.blocks);

	map_set(&c->written.map, bit, bit + 1);
	written_sync(c, p);
}
