/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The core: its beginning, its time, the switch. */
#include "core/checked.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static void set_windows(struct core *c, uint64_t bytes, bool fixed)
{
	unsigned i;

	if (bytes < FETCH_WINDOW_BYTES_MIN)
		bytes = FETCH_WINDOW_BYTES_MIN;
	for (i = 0; i < CONNS; i++)
		c->fetch_window[i] = bytes / CONNS;
	c->copy_window = c->fetch_window[CONN_COPIER];
	c->client_window_max = c->fetch_window[CONN_CLIENT] * (fixed ? 1 : CLIENT_WINDOW_GROWTH);
	c->copy_window_max = c->copy_window * (fixed ? 1 : COPY_WINDOW_GROWTH);
}

#if ENABLE_FEATURE_XNBD_WRAPPER_PROXY
void core_share(struct core *c, uint64_t fetch_window)
{
	set_windows(c, fetch_window, false);
}
#endif

bool core_init(struct core *c, const struct core_config *config)
{
	unsigned i;

	c->owner = config->owner;
	c->mode = config->proxy && !config->switched ? MODE_PROXY : MODE_TARGET;
	c->covered = config->covered;
	c->readonly = config->readonly;
	c->size_bytes = config->size_bytes;
	c->now_ms = c->answered_ms = config->now_ms;
	c->hold_ms = config->hold_ms;
	c->granted_tail = &c->granted;
	c->zero_blocks = ZERO_BLOCKS_MIN;
	set_windows(c, config->fetch_window ? config->fetch_window : FETCH_WINDOW_BYTES, config->fixed_window);
	for (i = 0; i < CONNS; i++)
		c->sent_tail[i] = &c->sent[i];
	rtt_reset(c);
	commit_init(c);
	c->commit.told = !config->proxy; /* there is no commit file */
	/* A server that died may have left what it had answered in the page cache: the
	 * first FLUSH must sync that. */
	c->commit.image_dirty = (config->proxy || !c->readonly) && !config->synced;
	if (!map_init(&c->map, c->size_bytes, config->proxy ? config->words : NULL, config->all_dirty))
		return false;
	if (ENABLE_FEATURE_XNBD_SERVER_THREADS) {
		c->published = config->proxy ? (uint32_t *)(void *)config->published : NULL;
		publish_begin(c);
	}
	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY || !config->proxy)
		return true;
	c->verify.arrived_tail = &c->verify.arrived;
	/* Aligned, and in units of it, as O_DIRECT wants it: storage/resident.c */
	c->commit.snapshot = aligned_alloc(MAP_CHUNK_BYTES, (size_t)(COMMIT_CHUNKS_MAX + 1) * MAP_CHUNK_BYTES);
	c->persist_copy = malloc(MAP_CHUNK_BYTES);
	c->commit.chunk = malloc(COMMIT_CHUNKS_MAX * sizeof(*c->commit.chunk));
	return c->commit.snapshot && c->commit.chunk && c->persist_copy &&
	       (!ENABLE_FEATURE_XNBD_SERVER_VERIFY || written_init(c, config->written, !config->notes_unsafe));
}

void core_free(struct core *c)
{
	fetch_free_queued(c);
	map_free(&c->map);
	free(c->commit.snapshot);
	free(c->persist_copy);
	free(c->commit.chunk);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE) {
		free(c->prefetch.run);
		trace_free(&c->trace);
	}
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY) {
		free(c->verify.buf);
		written_free(c);
	}
}

struct core *core_new(const struct core_config *config)
{
	struct core *c = calloc(1, sizeof(*c));

	if (!c || core_init(c, config))
		return c;
	core_delete(c);
	return NULL;
}

void core_delete(struct core *c)
{
	if (c)
		core_free(c);
	free(c);
}

void core_note_error(struct core *c, const char *what, int error)
{
	if (c->first_error_what)
		return;
	c->first_error_what = what;
	c->first_error = error;
}

/* Does what has become possible, until nothing is left. Every function that
 * brings an event to the core ends with it. */
void core_run(struct core *c)
{
	assert(!c->in_port);
	for (;;) {
		struct range *r = c->granted;

		if (r) {
			c->granted = r->next_granted;
			if (!c->granted)
				c->granted_tail = &c->granted;
			r->granted(r);
		} else if (c->kick) {
			c->kick = false;
			commit_kick(c);
			if (ENABLE_FEATURE_XNBD_SERVER_PROXY) {
				fetch_pump(c);
				copier_pump(c);
				if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
					verify_pump(c);
			}
		} else {
			return;
		}
	}
}

/* ---- time ----------------------------------------------------------------- */

enum { HOLD_TICK_MS = 100 }; /* how exactly --hold and STATUS_WAIT_MS are kept */

static bool hold_runs(const struct core *c)
{
	return c->hold_ms && c->waiting;
}

void core_now(struct core *c, uint64_t now_ms)
{
	if (now_ms > c->now_ms)
		c->now_ms = now_ms;
}

void core_alone(struct core *c)
{
	c->waited_ms = 0;
	c->kick = true;
	core_run(c);
}

void core_hold(struct core *c, uint64_t hold_ms)
{
	c->hold_ms = hold_ms;
	c->lost = false;
	if (hold_runs(c))
		fetch_expire(c);
	core_run(c);
}

void core_tick(struct core *c, uint64_t now_ms)
{
	core_now(c, now_ms);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY) {
		commit_tick(c);
		copier_tick(c);
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
			verify_tick(c);
		if (hold_runs(c))
			fetch_expire(c);
		if (ENABLE_FEATURE_XNBD_SERVER_ORIGIN_HOLES)
			status_expire(c);
	}
	core_run(c);
}

uint64_t core_deadline(const struct core *c)
{
	uint64_t at, copier, verify;

	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY)
		return UINT64_MAX;
	if (c->kick) /* core_abandon() may have left something to do */
		return c->now_ms;
	at = commit_deadline(c);
	copier = copier_deadline(c);
	if (copier < at)
		at = copier;
	verify = ENABLE_FEATURE_XNBD_SERVER_VERIFY ? verify_deadline(c) : UINT64_MAX;
	if (verify < at)
		at = verify;
	if ((hold_runs(c) || c->queries) && c->now_ms + HOLD_TICK_MS < at)
		at = c->now_ms + HOLD_TICK_MS;
	return at;
}

/* ---- switch ---------------------------------------------------------------- */

/* Everything is committed: the origin is no longer needed. */
static void become_target(struct core *c)
{
	__atomic_store_n(&c->mode, MODE_TARGET, __ATOMIC_RELAXED);
	prefetch_stop(c);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE)
		trace_stop(&c->trace); /* there is no origin to spare any more */
	copier_stop(c, map_is_complete(&c->map) ? JOB_DONE : JOB_IDLE);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		core_verify_cancel(c);
	port_conns_close(c);
	fetch_conn_lost(c, CONN_CLIENT);
	fetch_conn_lost(c, CONN_COPIER);
	fetch_fail_queued(c, EIO);
}

static void switch_end(struct core *c, int error)
{
	struct commit_waiter *w = c->switch_waiters;

	c->switch_waiters = NULL;
	if (!error && c->mode == MODE_PROXY)
		become_target(c);
	while (w) {
		struct commit_waiter *next = w->next;

		w->done(w, error);
		w = next;
	}
}

/* No block is missing, and all bits are in the commit file. Not all that are set may be: blocks come also while it is
 * written. */
static bool is_whole(const struct core *c)
{
	return map_is_complete(&c->map) && !c->map.dirty_chunks && c->commit.state == COMMIT_IDLE;
}

/* Writes wait from now on: each would have to go to both places. */
static void switch_frozen(struct freeze *f)
{
	struct core *c = (struct core *)(void *)((char *)f - offsetof(struct core, switch_freeze));

	port_switch(c, c->switch_whole);
}

/* The next start knows of it. */
static void switch_failed(struct commit_waiter *own, int error)
{
	switch_end((struct core *)(void *)((char *)own - offsetof(struct core, switch_commit)), error);
}

void core_switched(struct core *c, int error)
{
	bool was_covered = c->covered;

	assert(c->switch_waiters && !c->in_port);
	if (error && was_covered)
		core_note_error(c, "uncover", error);
	c->covered = was_covered && error;
	if (error && sync_is_untold(c)) {
		c->switch_commit.done = switch_failed;
		core_commit(c, &c->switch_commit);
	} else {
		switch_end(c, error);
	}
	if (was_covered)
		core_thaw(c, &c->switch_freeze);
	else
		core_run(c);
}

static void switch_committed(struct commit_waiter *own, int error)
{
	struct core *c = (struct core *)(void *)((char *)own - offsetof(struct core, switch_commit));

	c->switch_whole = is_whole(c); /* and so it stays: bits are never cleared. Another commit may begin before the freeze is granted */
	if (error || (!c->covered && !c->switch_whole)) {
		switch_end(c, error);
	} else if (!ENABLE_FEATURE_XNBD_SERVER_COVER || !c->covered) {
		port_switch(c, true);
	} else {
		c->switch_freeze.frozen = switch_frozen;
		core_freeze(c, &c->switch_freeze);
	}
}

/* The record of client writes is marked, on the disk, as incomplete: the commit may follow. */
static void switch_noted(struct persist *p, int error)
{
	struct core *c = (struct core *)(void *)((char *)p - offsetof(struct core, switch_note));

	(void)error; /* latched */
	core_commit(c, &c->switch_commit);
}

const char *core_switch(struct core *c, bool force, struct commit_waiter *w)
{
	if (c->mode == MODE_TARGET) {
		w->done(w, 0);
		return NULL;
	}
	if (core_has_failed(c))
		return "an earlier write or sync of the cache failed: the cache cannot be trusted";
	if (!force && !map_is_complete(&c->map))
		return "blocks are missing";
	w->next = c->switch_waiters;
	c->switch_waiters = w;
	if (!w->next) {
		c->switch_commit.done = switch_committed;
		c->switch_note.done = switch_noted;
		/* A switch without missing blocks is recorded; until it is, clients' writes are noted. */
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && c->written.map.words && !map_is_complete(&c->map))
			written_lose(c, &c->switch_note);
		else
			core_commit(c, &c->switch_commit);
	}
	core_run(c);
	return NULL;
}

bool core_is_switching(const struct core *c)
{
	return c->switch_waiters;
}

/* ---- freeze ----------------------------------------------------------------- */

static void freeze_granted(struct range *r)
{
	struct freeze *f = (struct freeze *)(void *)((char *)r - offsetof(struct freeze, range));

	f->frozen(f);
}

/* A shared range of the whole disk: as a read of all of it. */
void core_freeze(struct core *c, struct freeze *f)
{
	assert(!c->in_port);
	f->range.first = 0;
	f->range.end = c->map.blocks;
	f->range.exclusive = false;
	f->range.granted = freeze_granted;
	if (range_lock(&c->ranges, &f->range))
		f->frozen(f);
}

void core_thaw(struct core *c, struct freeze *f)
{
	c->granted_tail = range_unlock(&c->ranges, &f->range, c->granted_tail);
	core_run(c);
}
