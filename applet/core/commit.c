/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The bitmap file and the commit file.
 *
 * Persist: bits that were set in memory are written to the bitmap file, a group at
 * a time; whoever set them holds its range until then. This is what makes them
 * survive the death of the process.
 *
 * Commit: take (copy) the new bits, sync the image and what was noted of clients' writes
 * (written.c), write the bits that were taken to the commit file, sync it. This is what makes
 * them survive the death of the machine.
 * The order is rule 2: bits taken before the sync belong to bytes that it covers.
 * A torn write of bits is harmless because bits only go from 0 to 1.
 *
 * A sync that failed is told to nobody before the commit file tells the next start: core_sync_told().
 */
#include "core/checked.h"

#include <stdlib.h>
#include <string.h>

/* ---- bitmap file ---------------------------------------------------------- */

static void persist_event(struct io *io);

/* The words from p on, joined with those of its followers that touch them. Sets
 * the cursor to the first follower that does not. */
static void persist_prepare(struct core *c, struct persist *p)
{
	uint64_t first = p->first / MAP_WORD_BLOCKS;
	uint64_t end = (p->end - 1) / MAP_WORD_BLOCKS + 1;

	for (p = p->next; p; p = p->next) {
		uint64_t w = p->first / MAP_WORD_BLOCKS;
		uint64_t e = (p->end - 1) / MAP_WORD_BLOCKS + 1;

		if (w > end || e < first)
			break;
		first = w < first ? w : first;
		end = e > end ? e : end;
	}
	c->persist_cursor = p;
	c->persist_word = first;
	c->persist_end = end;
}

/* Writes the next of these words, from a copy: others are set meanwhile. */
static bool persist_write(struct core *c)
{
	uint64_t n = c->persist_end - c->persist_word;
	struct io *io = &c->persist_io;

	if (n > MAP_CHUNK_BYTES / sizeof(uint64_t))
		n = MAP_CHUNK_BYTES / sizeof(uint64_t);
	memcpy(c->persist_copy, c->map.words + c->persist_word, n * sizeof(uint64_t));
	io->op = IO_WRITE;
	io->file = FILE_BITMAP;
	io->offset = c->persist_word * sizeof(uint64_t);
	io->length = n * sizeof(uint64_t);
	io->buf = c->persist_copy;
	io->error = 0;
	io->owner = c;
	io->done = persist_event;
	c->persist_word += n;
	return port_io(c, io);
}

static void persist_written(struct core *c)
{
	if (c->persist_io.error && !c->bitmap_error) {
		c->bitmap_error = c->persist_io.error;
		core_note_error(c, "write to the bitmap", c->bitmap_error);
	}
}

static void persist_round(struct core *c);

static void persist_event(struct io *io)
{
	struct core *c = container_of(io, struct core, persist_io);

	persist_written(c);
	persist_round(c);
	core_run(c);
}

static void persist_round(struct core *c)
{
	while (c->persist_now) {
		struct persist *p;

		while (c->persist_word < c->persist_end || c->persist_cursor) {
			if (c->persist_word == c->persist_end)
				persist_prepare(c, c->persist_cursor);
			if (!persist_write(c))
				return;
			persist_written(c);
		}
		p = c->persist_now;
		c->persist_now = c->persist_cursor = c->persist_next;
		c->persist_next = NULL;
		c->persist_tail = &c->persist_next;
		while (p) {
			struct persist *next = p->next;

			if (ENABLE_FEATURE_XNBD_SERVER_THREADS && !c->bitmap_error)
				publish(c, p->first, p->end);
			p->done(p, c->bitmap_error);
			p = next;
		}
	}
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS && !c->persist_next && !c->bitmap_error)
		publish_all(c);
}

void persist_add(struct core *c, struct persist *p)
{
	p->next = NULL;
	*c->persist_tail = p;
	c->persist_tail = &p->next;
	c->kick = true; /* core_run() starts a round when none is under way */
}

/* ---- commit file ---------------------------------------------------------- */

static void commit_step(struct core *c);

static void commit_event(struct io *io)
{
	struct core *c = container_of(io, struct core, commit.io);

	commit_step(c);
	core_run(c);
}

static bool commit_io(struct core *c, uint8_t op, uint8_t file)
{
	c->commit.io.op = op;
	c->commit.io.file = file;
	c->commit.io.error = 0;
	c->commit.io.owner = c;
	c->commit.io.done = commit_event;
	return port_io(c, &c->commit.io);
}

static void commit_file_synced(struct persist *p, int error)
{
	(void)error; /* latched */
	commit_step(container_of(p, struct core, commit.note));
}

/* Syncs the commit file. Where client writes are noted, notes and commit share the sync: the kernel
 * would report an error to only one of them. */
static bool commit_sync_file(struct core *c)
{
	if (!ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		return commit_io(c, IO_SYNC, FILE_COMMIT);
	c->commit.note.done = commit_file_synced;
	written_sync(c, &c->commit.note);
	return false;
}

/* Takes the next bits and begins to sync the image. */
static bool commit_pass(struct core *c)
{
	struct commit *k = &c->commit;
	uint64_t chunk;

	k->chunks = k->written = 0;
	while (ENABLE_FEATURE_XNBD_SERVER_PROXY && k->chunks < COMMIT_CHUNKS_MAX && (chunk = map_next_dirty(&c->map, k->cursor)) < c->map.chunks) {
		map_pop_chunk(&c->map, chunk, k->snapshot + (size_t)k->chunks * MAP_CHUNK_BYTES);
		k->chunk[k->chunks++] = chunk;
		k->cursor = chunk + 1;
	}
	if (k->chunks < COMMIT_CHUNKS_MAX)
		k->cursor = c->map.chunks;
	k->image_dirty = false;
	k->state = COMMIT_SYNC_IMAGE;
	return commit_io(c, IO_SYNC, FILE_IMAGE);
}

/* Writes the next run of chunks that are neighbours. */
static bool commit_write(struct core *c)
{
	struct commit *k = &c->commit;
	unsigned first = k->written;
	unsigned end = first + 1;

	assert(k->state != COMMIT_IDLE && k->state != COMMIT_SYNC_FILE && !k->error); /* rule 2 */
	while (end < k->chunks && k->chunk[end] == k->chunk[end - 1] + 1)
		end++;
	k->written = end;
	k->state = COMMIT_WRITE;
	k->io.offset = COMMIT_HEADER_BYTES + k->chunk[first] * MAP_CHUNK_BYTES;
	k->io.length = (uint64_t)(end - first) * MAP_CHUNK_BYTES; /* the planes of the file are whole chunks */
	k->io.buf = k->snapshot + (size_t)first * MAP_CHUNK_BYTES;
	return commit_io(c, IO_WRITE, FILE_COMMIT);
}

static void commit_finish(struct core *c)
{
	struct commit *k = &c->commit;
	struct commit_waiter *w = k->now;

	if (sync_is_untold(c)) {
		k->state = COMMIT_NOT_TOLD;
		return;
	}
	k->now = NULL;
	k->state = COMMIT_IDLE;
	if (!k->error) {
		k->last_ms = c->now_ms;
		k->count++;
	}
	if (k->next)
		c->kick = true;
	while (w) {
		struct commit_waiter *next = w->next;

		w->done(w, k->error);
		w = next;
	}
}

/* Latched: never retried into a success, since the kernel may have dropped the pages. */
void core_sync_failed(struct core *c, int error)
{
	if (c->commit.error)
		return;
	c->commit.error = error;
	core_note_error(c, "commit", error);
}

void core_sync_told(struct core *c)
{
	c->commit.told = true;
	if (c->commit.state != COMMIT_NOT_TOLD)
		return;
	commit_finish(c);
	core_run(c);
}

/* The I/O of this state is done: goes on until one has to be waited for. */
static void commit_step(struct core *c)
{
	struct commit *k = &c->commit;

	for (;;) {
		bool done;

		if (k->io.error)
			core_sync_failed(c, k->io.error);
		if (!ENABLE_FEATURE_XNBD_SERVER_PROXY || k->error || (k->state == COMMIT_SYNC_IMAGE && !k->chunks) ||
		    (k->state == COMMIT_SYNC_FILE && k->cursor >= c->map.chunks)) {
			commit_finish(c);
			return;
		}
		if (k->state == COMMIT_SYNC_FILE) {
			done = commit_pass(c);
		} else if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->state == COMMIT_SYNC_IMAGE &&
			   c->written.durable != c->written.in_file) {
			k->state = COMMIT_SYNC_NOTES;
			done = commit_sync_file(c);
		} else if (k->written < k->chunks) {
			done = commit_write(c);
		} else {
			k->state = COMMIT_SYNC_FILE;
			done = commit_sync_file(c);
		}
		if (!done)
			return;
	}
}

static bool commit_is_clean(const struct core *c)
{
	/* A target may share its image with others: what they have answered is not known here. */
	bool alone = c->map.words || c->readonly;

	return alone && !c->commit.image_dirty && !c->map.dirty_chunks;
}

/* Begins a commit for all that wait, if none is under way. */
static void commit_start(struct core *c)
{
	struct commit *k = &c->commit;

	if (k->state != COMMIT_IDLE || !k->next)
		return;
	k->now = k->next;
	k->next = NULL;
	k->next_tail = &k->next;
	k->cursor = 0;
	if (k->error || commit_is_clean(c))
		commit_finish(c);
	else if (commit_pass(c))
		commit_step(c);
}

void core_commit(struct core *c, struct commit_waiter *w)
{
	assert(!c->in_port);
	w->next = NULL;
	*c->commit.next_tail = w;
	c->commit.next_tail = &w->next;
	c->kick = true;
}

static void timer_done(struct commit_waiter *w, int error)
{
	(void)error; /* latched and noted */
	w->done = NULL;
}

/* A target syncs when its clients say so; but one that was switched by force may
 * still gain blocks. */
static bool commit_timer_runs(const struct core *c)
{
	return (c->mode == MODE_PROXY || c->map.dirty_chunks) && !c->commit.timer.done && !c->commit.error &&
	       !commit_is_clean(c);
}

void commit_init(struct core *c)
{
	c->persist_tail = &c->persist_next;
	c->commit.next_tail = &c->commit.next;
	c->commit.last_ms = c->now_ms;
}

void commit_kick(struct core *c)
{
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && !c->persist_now && c->persist_next) {
		c->persist_now = c->persist_cursor = c->persist_next;
		c->persist_next = NULL;
		c->persist_tail = &c->persist_next;
		persist_round(c);
	}
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && ENABLE_FEATURE_XNBD_SERVER_PROXY)
		written_kick(c);
	commit_start(c);
}

uint64_t commit_deadline(const struct core *c)
{
	return commit_timer_runs(c) ? c->commit.last_ms + COMMIT_INTERVAL_MS : UINT64_MAX;
}

void commit_tick(struct core *c)
{
	if (!commit_timer_runs(c) || c->now_ms < commit_deadline(c))
		return;
	c->commit.timer.done = timer_done;
	core_commit(c, &c->commit.timer);
}
