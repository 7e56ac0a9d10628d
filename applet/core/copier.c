/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The background copy: walks over the disk and asks for what is missing.
 *
 * It keeps no state of its own about finished blocks: the map shows what is left. A pass goes from the first block to
 * the last; when blocks are missing after it, another pass asks for them one by one, so that an origin's bad sector
 * costs one block. Blocks that are still missing then could not be read.
 *
 * Holes: where the origin offers base:allocation, it is asked for the extents of
 * the next part first, and blocks that it calls zero are made so without a fetch.
 *
 * Politeness: while clients have lately waited for the origin, one fetch at a time, so that
 * little is ahead of the next block they miss. Not over a connection with a delay, where this would
 * be far too slow; there the size of the window keeps the queue short.
 */
#include "core/checked.h"
#include "nbd/nbd.h"

#include <errno.h>
#include <string.h>

/* The connection of its own is for the copy, for what is fetched ahead of it, and for the comparison. */
void copier_conn_want(struct core *c)
{
	port_copy_conn(c, c->copier.status.state == JOB_RUNNING || prefetch_is_on(c) ||
				  (ENABLE_FEATURE_XNBD_SERVER_VERIFY && c->verify.status.state == JOB_RUNNING));
}

static void job_set(struct core *c, enum job_state state)
{
	c->copier.status.state = state;
	if (state != JOB_RUNNING)
		c->copier.status.rate = 0;
	copier_conn_want(c);
	port_job_changed(c);
}

static void pass_begin(struct core *c, uint32_t run_blocks)
{
	struct copier *k = &c->copier;

	k->cursor = 0;
	k->at_end = false;
	k->run_blocks = run_blocks;
	k->pass_local = c->map.local;
	k->pass_error = 0;
	k->map_start = k->map_end = 0;
}

/* The walk has come to the end and nothing is in flight. */
static void pass_end(struct core *c)
{
	struct copier *k = &c->copier;
	bool progress = c->map.local != k->pass_local;

	if (map_is_complete(&c->map))
		job_set(c, JOB_DONE);
	else if (k->run_blocks == 1 && k->pass_error) /* without an error of ours, only clients' fetches have failed */
		job_set(c, JOB_FAILED);
	else
		pass_begin(c, k->pass_error || !progress ? 1 : k->run_blocks);
}

/* ---- extents of the origin ------------------------------------------------- */

/* Asks for the extents from this block on, over the connection of this slot. */
static void status_request(struct core *c, unsigned slot, uint64_t want)
{
	struct copier *k = &c->copier;
	uint64_t start, rest, block;

	block = want / c->conn[slot].unit_blocks * c->conn[slot].unit_blocks;
	start = block * BLOCK_BYTES;
	rest = c->size_bytes - start;
	k->map_start = k->map_end = start;
	k->status_block = want;
	k->status_start = start;
	k->status_cookie = ++c->last_cookie;
	k->status_conn = slot;
	port_conn_status(c, slot, k->status_cookie, start, (uint32_t)(rest < STATUS_BYTES_MAX ? rest : STATUS_BYTES_MAX));
}

static void status_parse(struct core *c, int error, const struct extent *extents, unsigned count)
{
	struct copier *k = &c->copier;
	unsigned i;

	k->status_cookie = 0;
	k->map.count = k->map_next = 0;
	k->map_start = k->map_end = k->status_start;
	for (i = 0; i < count && i < EXTENTS_MAX && k->map_end < c->size_bytes; i++) {
		k->map.extent[k->map.count++] = extents[i];
		k->map_end += extents[i].length;
	}
	if (k->map_end > c->size_bytes)
		k->map_end = c->size_bytes;
	/* One that does not speak of the block asked for never will. */
	if (error || k->map_end <= k->status_block * BLOCK_BYTES)
		k->status_broken = true;
	c->kick = true;
}

bool core_conn_status(struct core *c, uint64_t cookie, int error, const struct extent *extents, unsigned count)
{
	if (cookie && cookie == c->copier.status_cookie) {
		fetch_answered(c); /* not for a client's: it would prolong --hold for those who wait for data */
		status_parse(c, error, extents, count);
	} else if (!ENABLE_FEATURE_XNBD_SERVER_ORIGIN_HOLES || !status_answered(c, cookie, error, extents, count)) {
		return false;
	}
	core_run(c);
	return true;
}

/* Moves to the extent that holds this byte, which lies in [map_start, map_end). */
static const struct extent *extent_at(struct copier *k, uint64_t byte)
{
	while (k->map_start + k->map.extent[k->map_next].length <= byte)
		k->map_start += k->map.extent[k->map_next++].length;
	return &k->map.extent[k->map_next];
}

/*
 * What the origin says about `block`. *end: the first block for which this may be
 * different. Returns 1 zero, 0 data, -1 not known yet: asked.
 */
static int block_kind(struct core *c, unsigned slot, uint64_t block, uint64_t *end)
{
	struct copier *k = &c->copier;
	uint64_t byte = block * BLOCK_BYTES;
	const struct extent *e;
	uint64_t stop;

	*end = c->map.blocks;
	if (!c->conn[slot].can_status || k->status_broken)
		return 0;
	if (byte < k->map_start || byte >= k->map_end) {
		if (!k->status_cookie)
			status_request(c, slot, block);
		return -1;
	}
	e = extent_at(k, byte);
	stop = k->map_start + e->length;
	if (e->flags & NBD_STATE_ZERO) {
		uint64_t whole = stop >= c->size_bytes ? c->map.blocks : stop / BLOCK_BYTES;

		if (whole > block) {
			*end = whole;
			return 1;
		}
	}
	stop = map_blocks(stop); /* a block that is zero in part only is data */
	*end = stop < c->map.blocks ? stop : c->map.blocks;
	return 0;
}

/* ---- the walk ---------------------------------------------------------------- */

static bool has_room(const struct core *c, const struct conn_state *conn)
{
	const struct copier *k = &c->copier;
	uint64_t used = c->fetch_bytes[CONN_COPIER];
	uint64_t n = (uint64_t)k->run_blocks * BLOCK_BYTES;

	if (!conn || c->queue[CONN_COPIER] || k->in_flight >= COPIER_IN_FLIGHT_MAX)
		return false;
	if (k->status.rate_limit && k->tokens <= 0)
		return false;
	if (rtt_backs_off(c))
		return !used;
	return !used || used + n <= c->fetch_window[CONN_COPIER];
}

/* Asks for the next part. False: nothing to ask for at this moment. */
static bool copier_next(struct core *c, const struct conn_state *conn, unsigned slot)
{
	struct copier *k = &c->copier;
	uint32_t most = rtt_backs_off(c) && k->run_blocks > COPY_POLITE_BLOCKS ? COPY_POLITE_BLOCKS : k->run_blocks;
	uint64_t first, end, stop;
	int kind;

	if (!fetch_next_run(c, k->cursor, c->map.blocks, conn, most, &first, &end)) {
		k->cursor = c->map.blocks;
		return false;
	}
	kind = block_kind(c, slot, first, &stop);
	if (kind < 0)
		return false;
	if (kind > 0) {
		end = stop - first < c->zero_blocks ? stop : first + c->zero_blocks;
		fetch_zero(c, first, end);
	} else {
		end = stop < end ? stop : end;
		fetch_copy(c, first, end);
		k->tokens -= (int64_t)((end - first) * BLOCK_BYTES);
	}
	k->cursor = end;
	return true;
}

/* Clients' fetches fill the image too, so those begun before the walk ended are waited for. Not
 * those begun later: some clients ask again and again for what the origin cannot read. */
static bool pass_is_over(struct core *c)
{
	struct copier *k = &c->copier;

	if (!k->at_end) {
		k->at_end = true;
		c->fetch_pass++;
		c->fetch_old = c->fetch_count;
	}
	return !k->in_flight && !c->fetch_old;
}

/* The pass that goes block by block has skipped these, because a client's fetch had them, which has failed or was forgotten: now
 * it fetches them itself, before the client asks again. */
void copier_client_failed(struct core *c, uint64_t first, uint64_t end, bool old)
{
	struct copier *k = &c->copier;
	const struct conn_state *conn;
	uint64_t stop;
	unsigned slot;

	if (k->status.state != JOB_RUNNING || k->run_blocks > 1 || (k->at_end && !old))
		return;
	end = end < k->cursor ? end : k->cursor;
	conn = fetch_conn(c, CONN_COPIER, &slot);
	for (; fetch_next_run(c, first, end, conn, 1, &first, &stop); first = stop)
		fetch_copy(c, first, stop);
}

void copier_pump(struct core *c)
{
	struct copier *k = &c->copier;
	unsigned slot;

	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && prefetch_pump(c))
		return;
	while (k->status.state == JOB_RUNNING && !c->kick) {
		const struct conn_state *conn = fetch_conn(c, CONN_COPIER, &slot);

		/* When nothing is missing there is nothing to walk for, and no connection is
		 * needed to know it. */
		if (k->cursor >= c->map.blocks || map_is_complete(&c->map)) {
			if (!pass_is_over(c))
				return;
			pass_end(c);
		} else if (!has_room(c, conn) || !copier_next(c, conn, slot)) {
			if (k->cursor < c->map.blocks)
				return;
		}
	}
}

/* One of its fetches or zeroings has ended. */
void copier_fetch_done(struct core *c, int error, bool local_error)
{
	struct copier *k = &c->copier;

	k->in_flight--;
	if (!error)
		return;
	k->status.error = k->pass_error = error;
	/* A full or broken image will not take the rest either. */
	if (local_error)
		prefetch_stop(c);
	if (local_error && k->status.state == JOB_RUNNING)
		job_set(c, JOB_FAILED);
}

/* Extents are forgotten with the connection: the next may lead to another origin. But a reply that
 * is still due on the other connection is waited for: status_start says where it begins. */
void copier_conn_down(struct core *c, unsigned conn)
{
	struct copier *k = &c->copier;

	if (k->status_cookie && k->status_conn != conn)
		return;
	k->status_cookie = 0;
	k->map_start = k->map_end = 0;
}

void copier_stop(struct core *c, enum job_state state)
{
	if (c->copier.status.state == JOB_RUNNING || c->copier.status.state == JOB_PAUSED)
		job_set(c, state);
}

/* ---- time -------------------------------------------------------------------- */

static void sample_begin(struct core *c)
{
	c->copier.sample_ms = c->copier.tokens_ms = c->now_ms;
	c->copier.sample_local = c->map.local;
	c->copier.tokens = 0;
}

/* Half of what it was and half of what it is now. */
static void sample(struct core *c)
{
	struct copier *k = &c->copier;
	uint64_t ms = c->now_ms - k->sample_ms;
	uint64_t bytes = (c->map.local - k->sample_local) * BLOCK_BYTES;
	uint64_t now = bytes * 1000 / ms;

	k->status.rate = k->status.rate ? (k->status.rate + now) / 2 : now;
	k->sample_ms = c->now_ms;
	k->sample_local = c->map.local;
	port_job_changed(c);
}

/* Adds tokens for the time gone; saves up at most a quarter of a second. */
static void tokens_add(struct core *c)
{
	struct copier *k = &c->copier;
	uint64_t ms = c->now_ms - k->tokens_ms;
	int64_t most = (int64_t)(k->status.rate_limit / 4) + 1;
	uint64_t bytes = k->status.rate_limit * (ms < 1000 ? ms : 1000) / 1000;

	if (!bytes)
		return; /* a small rate takes its time */
	k->tokens_ms = c->now_ms;
	k->tokens += (int64_t)bytes;
	if (k->tokens > most)
		k->tokens = most;
	if (k->tokens > 0)
		c->kick = true;
}

void copier_tick(struct core *c)
{
	struct copier *k = &c->copier;

	if (k->status.state != JOB_RUNNING)
		return;
	if (k->status.rate_limit)
		tokens_add(c);
	if (c->now_ms >= k->sample_ms + JOB_SAMPLE_MS)
		sample(c);
}

uint64_t copier_deadline(const struct core *c)
{
	const struct copier *k = &c->copier;
	uint64_t at;

	if (k->status.state != JOB_RUNNING)
		return UINT64_MAX;
	at = k->sample_ms + JOB_SAMPLE_MS;
	if (k->status.rate_limit && k->tokens <= 0) {
		uint64_t ready = k->tokens_ms + (uint64_t)(1 - k->tokens) * 1000 / k->status.rate_limit + 1;

		at = ready < at ? ready : at;
	}
	return at;
}

/* ---- commands ------------------------------------------------------------------ */

int core_job_start(struct core *c, uint32_t max_blocks, uint64_t rate)
{
	struct copier *k = &c->copier;

	if (c->mode == MODE_TARGET)
		return map_is_complete(&c->map) ? 0 : ENOLINK;
	k->max_blocks = max_blocks && max_blocks < FETCH_BLOCKS_MAX ? max_blocks : FETCH_BLOCKS_MAX;
	rate = rate < COPIER_RATE_MAX ? rate : COPIER_RATE_MAX;
	if (rate != k->status.rate_limit)
		k->tokens = 0; /* the balance of the old rate is dropped */
	k->status.rate_limit = rate;
	if (k->status.state == JOB_RUNNING) { /* it may wait for its time, and need not any more */
		c->kick = true;
		core_run(c);
		return 0;
	}
	if (k->status.state == JOB_PAUSED) {
		core_job_resume(c);
		return 0;
	}
	k->status.found = c->map.local;
	k->status.error = 0;
	k->status.rate = 0;
	k->status_broken = false;
	pass_begin(c, k->max_blocks);
	sample_begin(c);
	job_set(c, JOB_RUNNING);
	c->kick = true;
	core_run(c);
	return 0;
}

bool core_job_pause(struct core *c)
{
	assert(!c->in_port);
	if (c->copier.status.state == JOB_RUNNING)
		job_set(c, JOB_PAUSED);
	return c->copier.status.state == JOB_PAUSED;
}

bool core_job_resume(struct core *c)
{
	if (c->copier.status.state == JOB_PAUSED) {
		sample_begin(c);
		job_set(c, JOB_RUNNING);
		c->kick = true;
		core_run(c);
	}
	return c->copier.status.state == JOB_RUNNING;
}

void core_job_cancel(struct core *c)
{
	assert(!c->in_port);
	prefetch_stop(c);
	copier_stop(c, JOB_IDLE);
}

uint64_t copier_eta_s(const struct core *c)
{
	uint64_t bytes = (c->map.blocks - c->map.local) * BLOCK_BYTES;

	if (!bytes)
		return 0;
	return c->copier.status.rate ? bytes / c->copier.status.rate + 1 : UINT64_MAX;
}
