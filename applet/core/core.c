/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The core: its beginning, its end, its time. */
#include "core/checked.h"

#include <stdlib.h>

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
