/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Read-ahead: what clients will ask for is fetched before they do.
 *
 * Sequential: for a READ that begins where the last one ended, the next blocks are fetched,
 * twice as many each time the reader comes near their end: up to 256 KiB at first, and more
 * as long as the connection does not become slower by it.
 *
 * Random: a READ that misses a block also fetches the missing ones around it, in an aligned
 * 64 KiB. They cost little compared with the wait, and the copy would have to fetch them
 * anyway. On a connection with little bandwidth they cost a lot: so response times with them are
 * compared with those without, and if they are too long, wide fetches stop for a while.
 *
 * All of this is best effort: it uses only what is free in the clients' window, waits for
 * nothing, and where it fails, whoever needs a block asks for that block alone.
 */
//config:config FEATURE_XNBD_SERVER_READAHEAD
//config:	bool "Read-ahead (1.5 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	A proxy fetches more than is asked for: ahead of clients who read in order,
//config:	and around what others miss, where the connection has the bandwidth for it.
#include "core/internal.h"
#include "core/fetch.h"

#include <string.h>

/* ---- the connection ---------------------------------------------------------------- */

static void sample_end(struct readahead *a)
{
	uint64_t mean = a->sum_ms * 1000 / a->answers;

	if (a->rest) {
		a->single_us = mean > READAHEAD_MIN_US ? mean : READAHEAD_MIN_US;
		a->rest--;
	} else if (mean > READAHEAD_WORTH * a->single_us) {
		a->rest = READAHEAD_REST;
	}
	a->answers = 0;
}

/* How much arrives in the shortest response time, that is, without a queue. */
static uint64_t blocks_in_flight(const struct rtt *w)
{
	uint64_t blocks = (w->min_rtt_ms == UINT64_MAX ? 1 : w->min_rtt_ms + 1) * READAHEAD_MS_BLOCKS;

	return blocks < READAHEAD_BLOCKS_MAX ? blocks : READAHEAD_BLOCKS_MAX;
}

/*
 * How far it is worth reading ahead: enough to fill the connection, and no more, since others' misses
 * would queue behind it. So, as in TCP: halved when a reply was slow, once for all that were in
 * flight then; increased when one was not, although at least half of `most` was in flight.
 * A queue that is mostly the copy's is for the copy to shorten.
 */
static void most_follow(struct core *c, const struct fetch *f, uint64_t ms)
{
	struct readahead *a = &c->readahead;
	const struct rtt *rtt = &c->rtt[CONN_CLIENT];
	uint64_t limit = blocks_in_flight(rtt);

	if (rtt_is_slow(rtt, ms)) {
		if (f->cookie <= a->since || c->fetch_bytes[CONN_COPIER] > c->fetch_bytes[CONN_CLIENT])
			return;
		a->most = a->most / 2 > READAHEAD_MS_BLOCKS ? a->most / 2 : READAHEAD_MS_BLOCKS;
		a->since = c->last_cookie;
	} else if (2 * c->fetch_bytes[CONN_CLIENT] >= a->most * BLOCK_BYTES) {
		a->most += f->end - f->first;
	}
	if (a->most > limit)
		a->most = limit;
}

void readahead_answered(struct core *c, const struct fetch *f)
{
	struct readahead *a = &c->readahead;
	uint64_t blocks = f->end - f->first;
	uint64_t ms = c->now_ms - f->sent_ms;

	rtt_sample(&c->rtt[CONN_CLIENT], ms,
		 c->fetch_bytes[CONN_CLIENT] <= blocks * BLOCK_BYTES && !c->fetch_bytes[CONN_COPIER]);
	most_follow(c, f, ms);
	if (blocks > READAHEAD_WIDE_BLOCKS)
		return; /* longer than wide: tells nothing of either kind */
	if (!a->answers) {
		a->begun_ms = c->now_ms;
		a->sum_ms = 0;
	}
	a->sum_ms += ms;
	/* Spread over some time: replies to fetches that were all sent just before the clock's tick
	 * would seem to have taken a whole millisecond. */
	if (++a->answers >= READAHEAD_SAMPLE && c->now_ms - a->begun_ms >= READAHEAD_SAMPLE)
		sample_end(a);
}

void readahead_failed(struct core *c)
{
	struct readahead *a = &c->readahead;

	a->rest = READAHEAD_REST;
	a->answers = 0;
}

void readahead_reset(struct core *c)
{
	struct readahead *a = &c->readahead;

	a->most = blocks_in_flight(&c->rtt[CONN_CLIENT]);
	a->since = 0;
	a->rest = 1;
	a->answers = 0;
	memset(a->stream, 0, sizeof(a->stream)); /* what was asked for is forgotten: fetch_conn_lost() */
}

bool readahead_is_wide(const struct core *c)
{
	/* Who has a boot trace knows better. */
	return !c->readahead.rest && !prefetch_is_on(c);
}

/* ---- who reads in order -------------------------------------------------------- */

static bool reads_on(const struct stream *s, uint64_t first, uint64_t end)
{
	/* A block that is read in parts is read twice. */
	return s->next && first + 1 >= s->next && first <= s->next + READAHEAD_GAP_BLOCKS && end >= s->next;
}

/* Has read in order, and not only long ago. */
static bool is_active(const struct readahead *a, const struct stream *s)
{
	return s->blocks && a->reads - s->used < READAHEAD_STREAM_READS;
}

/* The one to replace: one that is not live, if any, and of these the least recently used. */
static struct stream *stream_oldest(struct readahead *a)
{
	struct stream *oldest = a->stream;
	unsigned i;

	for (i = 1; i < READAHEAD_STREAMS; i++) {
		struct stream *s = &a->stream[i];

		if (is_active(a, s) != is_active(a, oldest) ? is_active(a, oldest) : s->used < oldest->used)
			oldest = s;
	}
	return oldest;
}

/* Asks for [first, end) as far as that leaves a part of the window free. Returns where it
 * has stopped. */
static uint64_t fetch_stretch(struct core *c, uint64_t first, uint64_t end)
{
	uint64_t room = rtt_client_window(c) / 4 * 3;
	uint64_t run_first, run_end, used;
	unsigned slot;
	const struct conn_state *conn = fetch_conn(c, CONN_CLIENT, &slot);

	fetch_pump(c); /* what clients have asked for comes first */
	if (!conn || c->queue[CONN_CLIENT])
		return first;
	used = c->fetch_bytes[CONN_CLIENT];
	while (fetch_next_run(c, first, end, conn, FETCH_BLOCKS_MAX, &run_first, &run_end)) {
		used += (run_end - run_first) * BLOCK_BYTES;
		if (used > room || c->fetch_count >= FETCH_AHEAD_MAX || !fetch_ahead(c, run_first, run_end)) {
			end = run_first;
			break;
		}
		first = run_end;
	}
	fetch_pump(c);
	fetch_forget(c); /* it waits for nothing */
	return end;
}

static void stream_go(struct core *c, struct stream *s, uint64_t first, uint64_t end)
{
	struct readahead *a = &c->readahead;
	uint64_t stop;

	if (s->end < end)
		s->end = end;
	if (s->end - end > s->blocks / 2)
		return;
	s->blocks = s->blocks ? 2 * s->blocks : 2 * (end - first);
	if (s->blocks > a->most)
		s->blocks = a->most;
	stop = end + s->blocks < c->map.blocks ? end + s->blocks : c->map.blocks;
	if (s->end < stop)
		s->end = fetch_stretch(c, s->end, stop);
}

void readahead_read(struct core *c, uint64_t first, uint64_t end, bool missed)
{
	struct readahead *a = &c->readahead;
	struct stream *s;
	unsigned i;

	if (map_is_complete(&c->map) || prefetch_is_on(c))
		return;
	a->reads++;
	for (i = 0; i < READAHEAD_STREAMS; i++) {
		s = &a->stream[i];
		if (!reads_on(s, first, end))
			continue;
		s->used = a->reads;
		s->next = end;
		stream_go(c, s, first, end);
		return;
	}
	if (!missed)
		return;
	s = stream_oldest(a);
	s->used = a->reads;
	s->next = end;
	s->end = end;
	s->blocks = 0;
}
