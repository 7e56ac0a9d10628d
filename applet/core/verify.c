/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The comparison with the origin: what is local and no client has written has to be
 * what the origin has.
 *
 * A walk over the disk, like the copier's, but it fetches what is local. Replies are
 * compared with the image under a shared range, like that of a read; a client's write
 * notes its blocks under its own, exclusive, range. So a block is compared either
 * before it is written, or not at all: there is no false difference.
 *
 * What the origin cannot read is asked again block by block, so that a bad sector
 * leaves one block not compared.
 *
 * Politeness: like the copier, whose window it shares. While clients have lately waited for the origin, one fetch at a
 * time.
 */
//config:config FEATURE_XNBD_SERVER_VERIFY
//config:	bool "Comparison with the origin (7.6 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	It is remembered where clients have written, so that all else can be
//config:	compared with the origin before the switch: when xnbd-bgctl asks for
//config:	it, with --verify before --auto-switch, and by --check. It takes
//config:	4 MiB of memory for each TiB of the disk.
#include "core/checked.h"
#include "core/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- its state --------------------------------------------------------------- */

/* Whether what comes now is of a comparison that still runs. */
static bool counts(const struct core *c)
{
	return c->verify.status.state == JOB_RUNNING && !c->verify.stale;
}

static void verify_set(struct core *c, enum job_state state)
{
	struct verify *v = &c->verify;

	v->status.state = state;
	v->writers_known = written_is_known(c);
	v->stale = v->in_flight;
	c->kick = true;
	copier_conn_want(c);
	port_job_changed(c);
}

static void verify_fail(struct core *c, const char *what, int error)
{
	if (!counts(c))
		return;
	core_note_error(c, what, error);
	c->verify.status.error = error;
	verify_set(c, JOB_FAILED);
}

/* ---- the walk ------------------------------------------------------------------ */

static bool has_room(const struct core *c, const struct conn_state *conn)
{
	const struct verify *v = &c->verify;
	uint64_t used = c->fetch_bytes[CONN_COPIER];

	if (!conn || c->queue[CONN_COPIER] || v->in_flight >= COPIER_IN_FLIGHT_MAX)
		return false;
	if (v->status.rate_limit && v->next_us > c->now_ms * 1000)
		return false;
	if (rtt_backs_off(c))
		return !v->in_flight;
	return !used || used + (uint64_t)FETCH_BLOCKS_MAX * BLOCK_BYTES <= c->fetch_window[CONN_COPIER];
}

/* The next blocks to compare: local, not written, in one word of the bitmap, not more than the connection allows. False:
 * there are none before the cursor, which has moved; it may be a rest for the next turn. Counts those that it skips. */
static bool next_run(struct core *c, const struct conn_state *conn, uint64_t *run_first, uint64_t *run_end)
{
	uint64_t first = c->verify.cursor, at, end, stop, blocks = c->map.blocks;
	unsigned words = 0;

	for (;;) {
		c->verify.cursor = first = map_next_local(&c->map, first, blocks);
		if (first == blocks)
			return false;
		if (words++ == VERIFY_WORDS) { /* a disk of many TiB, all of it written by clients: others have their turn */
			c->verify.rests = true;
			return false;
		}
		end = (first / MAP_WORD_BLOCKS + 1) * MAP_WORD_BLOCKS;
		end = end < blocks ? end : blocks;
		at = written_next(c, first, end, &stop);
		if (at == first)
			break;
		for (; first < at; first++)
			c->verify.status.written += map_is_local(&c->map, first);
	}
	end = first - first % conn->unit_blocks + conn->max_blocks;
	end = end < stop ? end : stop;
	*run_first = first;
	*run_end = map_next_missing(&c->map, first, end);
	return true;
}

/* Keeps to rate_limit: the next fetch waits as long as this one may take. Unused time counts up to 50 ms. */
static void pay(struct core *c, uint64_t bytes)
{
	struct verify *v = &c->verify;
	uint64_t earliest = c->now_ms > 50 ? (c->now_ms - 50) * 1000 : 0;

	if (!v->status.rate_limit)
		return;
	v->next_us = (v->next_us > earliest ? v->next_us : earliest) + bytes * 1000000 / v->status.rate_limit;
}

static void compare_next(struct core *c, const struct conn_state *conn)
{
	struct verify *v = &c->verify;
	uint64_t first, end;

	if (!next_run(c, conn, &first, &end))
		return;
	if (!fetch_verify(c, first, end)) {
		verify_fail(c, "comparison", ENOMEM);
	} else {
		v->in_flight++;
		v->cursor = end;
		pay(c, (end - first) * BLOCK_BYTES);
	}
}

static void walk_end(struct core *c)
{
	const struct verify *v = &c->verify;

	verify_set(c, v->status.different || v->status.unreadable ? JOB_FAILED : JOB_DONE);
}

/* ---- comparing ------------------------------------------------------------------- */

static void compare_blocks(struct core *c, const struct fetch *f)
{
	struct verify *v = &c->verify;
	const uint8_t *theirs = f->buf + (f->io.offset - f->first * BLOCK_BYTES);
	uint64_t at, n, i;

	for (at = 0; counts(c) && at < f->io.length; at += n) {
		n = f->io.length - at < BLOCK_BYTES ? f->io.length - at : BLOCK_BYTES;
		v->status.compared++;
		if (memcmp(theirs + at, v->buf + at, n) == 0)
			continue;
		v->status.different++;
		for (i = at; theirs[i] == v->buf[i]; i++)
			;
		if (f->io.offset + i < v->status.first)
			v->status.first = f->io.offset + i;
	}
}

static void compare_event(struct io *io);

/* Prepares to read the next blocks that nobody has written yet. False: there are none. */
static bool compare_prepare(struct core *c, struct fetch *f)
{
	uint64_t first, end, stop;

	assert(!f->range.blockers);
	if (!counts(c))
		return false;
	first = written_next(c, f->position, f->want_end, &end);
	c->verify.status.written += first - f->position;
	if (first == f->want_end)
		return false;
	f->position = end;
	stop = end * BLOCK_BYTES < c->size_bytes ? end * BLOCK_BYTES : c->size_bytes;
	f->io.op = IO_READ;
	f->io.file = FILE_IMAGE;
	f->io.flags = 0;
	f->io.offset = first * BLOCK_BYTES;
	f->io.length = stop - f->io.offset;
	f->io.buf = c->verify.buf;
	f->io.error = 0;
	f->io.owner = &c->copier;
	f->io.done = compare_event;
	return true;
}

static void compare_end(struct core *c, struct fetch *f)
{
	c->verify.comparing = NULL;
	c->granted_tail = range_unlock(&c->ranges, &f->range, c->granted_tail);
	fetch_compared(c, f, f->io.error);
}

static void compare_step(struct core *c, struct fetch *f)
{
	while (!f->io.error && compare_prepare(c, f)) {
		if (!port_io(c, &f->io))
			return;
		if (!f->io.error)
			compare_blocks(c, f);
	}
	compare_end(c, f);
}

static void compare_event(struct io *io)
{
	struct fetch *f = container_of(io, struct fetch, io);
	struct core *c = f->core;

	if (!io->error)
		compare_blocks(c, f);
	compare_step(c, f);
	core_run(c);
}

static void compare_granted(struct range *range)
{
	struct fetch *f = container_of(range, struct fetch, range);

	compare_step(f->core, f);
}

/* One at a time: there is one buffer. */
static void compare_begin(struct core *c, struct fetch *f)
{
	c->verify.comparing = f;
	f->position = f->want_first;
	f->io.error = 0;
	f->range.first = f->want_first;
	f->range.end = f->want_end;
	f->range.exclusive = false;
	f->range.granted = compare_granted;
	if (range_lock(&c->ranges, &f->range))
		compare_step(c, f);
}

void verify_arrived(struct core *c, struct fetch *f)
{
	f->next = NULL;
	*c->verify.arrived_tail = f;
	c->verify.arrived_tail = &f->next;
	c->kick = true;
}

static struct fetch *pop_arrived(struct verify *v)
{
	struct fetch *f = v->arrived;

	v->arrived = f->next;
	if (!v->arrived)
		v->arrived_tail = &v->arrived;
	return f;
}

/* ---- what fetches call ------------------------------------------------------------- */

static void shrink(struct fetch *f, uint64_t first)
{
	f->want_first = first;
	f->want_end = first + 1;
}

/*
 * A fetch has ended: compared, or with an error of the origin or of ours. True: f was changed
 * to other blocks, and is to be resent.
 */
bool verify_fetch_done(struct core *c, struct fetch *f, int error, bool of_origin)
{
	struct verify *v = &c->verify;

	if (error && !of_origin)
		verify_fail(c, "comparison", error);
	if (counts(c)) {
		if (error && f->want_end - f->want_first > 1) {
			shrink(f, f->want_first);
			return true;
		}
		if (error) {
			v->status.unreadable++;
			v->status.error = error;
		}
		if (f->want_end < f->rest_end) {
			shrink(f, f->want_end);
			return true;
		}
	}
	if (!--v->in_flight)
		v->stale = false;
	return false;
}

void verify_pump(struct core *c)
{
	struct verify *v = &c->verify;
	unsigned slot;

	while (v->arrived && !v->comparing) {
		struct fetch *f = pop_arrived(v);

		if (counts(c))
			compare_begin(c, f);
		else
			fetch_compared(c, f, 0);
	}
	while (counts(c) && !c->kick && !v->rests) {
		const struct conn_state *conn = fetch_conn(c, CONN_COPIER, &slot);

		if (v->cursor >= c->map.blocks) {
			if (v->in_flight)
				return;
			walk_end(c);
		} else if (has_room(c, conn)) {
			compare_next(c, conn);
		} else {
			return;
		}
	}
}

/* ---- time ---------------------------------------------------------------------------- */

static void sample_begin(struct core *c)
{
	c->verify.sample_ms = c->now_ms;
	c->verify.sample_cursor = c->verify.cursor;
}

void verify_tick(struct core *c)
{
	struct verify *v = &c->verify;
	uint64_t now;

	if (v->status.state != JOB_RUNNING)
		return;
	if (v->rests || (v->status.rate_limit && v->next_us <= c->now_ms * 1000))
		c->kick = true;
	v->rests = false;
	if (c->now_ms < v->sample_ms + JOB_SAMPLE_MS)
		return;
	now = (v->cursor - v->sample_cursor) * BLOCK_BYTES * 1000 / (c->now_ms - v->sample_ms);
	v->status.rate = v->status.rate ? (v->status.rate + now) / 2 : now;
	sample_begin(c);
	port_job_changed(c);
}

uint64_t verify_deadline(const struct core *c)
{
	const struct verify *v = &c->verify;
	uint64_t at, ready = (v->next_us + 999) / 1000;

	if (v->status.state != JOB_RUNNING)
		return UINT64_MAX;
	if (v->rests)
		return c->now_ms;
	at = v->sample_ms + JOB_SAMPLE_MS;
	return v->status.rate_limit && ready > c->now_ms && ready < at ? ready : at;
}

/* ---- commands --------------------------------------------------------------------------- */

int core_verify(struct core *c, uint64_t rate)
{
	struct verify *v = &c->verify;

	if (c->mode == MODE_TARGET || !c->written.map.words)
		return ENOLINK;
	if (!v->buf)
		v->buf = malloc((size_t)FETCH_BLOCKS_MAX * BLOCK_BYTES);
	if (!v->buf)
		return ENOMEM;
	rate = rate < COPIER_RATE_MAX ? rate : COPIER_RATE_MAX;
	if (rate != v->status.rate_limit)
		v->next_us = 0;
	v->status.rate_limit = rate;
	c->kick = true;
	if (v->status.state == JOB_RUNNING) { /* one that waited for its time need not any more */
		core_run(c);
		return 0;
	}
	/* A copy that has ended may have left it small; only a copy follows the connection's delay. */
	c->fetch_window[CONN_COPIER] = c->copy_window;
	v->cursor = 0;
	v->local = c->map.local;
	v->status.compared = v->status.different = v->status.written = v->status.unreadable = 0;
	v->status.first = UINT64_MAX;
	v->status.error = 0;
	v->status.rate = 0;
	sample_begin(c);
	verify_set(c, JOB_RUNNING);
	core_run(c);
	return 0;
}

void core_verify_cancel(struct core *c)
{
	assert(!c->in_port);
	if (c->verify.status.state == JOB_RUNNING)
		verify_set(c, JOB_IDLE);
}

uint64_t verify_eta_s(const struct core *c)
{
	uint64_t bytes = (c->map.blocks - c->verify.cursor) * BLOCK_BYTES;

	if (!bytes)
		return 0;
	return c->verify.status.rate ? bytes / c->verify.status.rate + 1 : UINT64_MAX;
}

/* The larger of what the walk has met and what was local when it began: so it cannot end well if
 * it has overlooked something. */
uint64_t verify_comparable(const struct core *c)
{
	const struct verify *v = &c->verify;
	uint64_t met = v->status.compared + v->status.unreadable + v->status.written;

	return (met > v->local ? met : v->local) - (v->writers_known ? v->status.written : 0);
}

bool verify_is_partial(const struct verify_status *s, uint64_t comparable)
{
	return s->state == JOB_DONE && (!s->compared || s->compared < comparable);
}
