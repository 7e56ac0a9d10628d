/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Read-ahead: what clients will ask for is fetched before they do.
 *
 * In order: who has read on where the last READ ended gets the next blocks fetched, twice as
 * many each time he has come near their end: 256 KiB at first, and more where the link brings
 * that too as soon as ever.
 *
 * At random: a READ that misses a block brings the missing ones around it too, 64 KiB
 * aligned. They cost little beside the wait, and the copy would have to bring them anyway.
 * On a thin link they cost much: so the time that fetches take with them is held against the
 * time that they took without, and if it is too long they are left out for a while.
 *
 * All of this is a wish: it takes only what the clients' window has free, waits for nothing,
 * and where it fails, who needs a block asks for that block alone.
 */
#include "core/core.h"
#include "core/fetch.h"

/* ---- the link ---------------------------------------------------------------- */

static void sample_end(struct readahead *a)
{
	uint64_t mean = a->sum_ms * 1000 / a->answers;

	if (a->rest) {
		a->narrow_us = mean > READAHEAD_LEAST_US ? mean : READAHEAD_LEAST_US;
		a->rest--;
	} else if (mean > READAHEAD_WORTH * a->narrow_us) {
		a->rest = READAHEAD_REST;
	}
	a->answers = 0;
}

/* What comes while a fetch is on its way that meets no queue. */
static uint64_t blocks_under_way(const struct way *w)
{
	uint64_t blocks = (w->least_ms == UINT64_MAX ? 1 : w->least_ms + 1) * READAHEAD_MS_BLOCKS;

	return blocks < READAHEAD_BLOCKS_MAX ? blocks : READAHEAD_BLOCKS_MAX;
}

/*
 * How far it is worth to go: to fill the link, and no further. More would be a queue, in which
 * the misses of others wait. So as with TCP: half of it when an answer was slow, once for all
 * that was under way then; more when one was not, although as much was under way as might be.
 * A queue that is mostly the copy's is for the copy to shorten.
 */
static void most_follow(struct core *c, const struct fetch *f, uint64_t ms)
{
	struct readahead *a = &c->readahead;
	const struct way *way = &c->way[LINK_CLIENT];
	uint64_t limit = blocks_under_way(way);

	if (way_is_slow(way, ms)) {
		if (f->cookie <= a->since || c->fetch_bytes[LINK_COPIER] > c->fetch_bytes[LINK_CLIENT])
			return;
		a->most = a->most / 2 > READAHEAD_MS_BLOCKS ? a->most / 2 : READAHEAD_MS_BLOCKS;
		a->since = c->last_cookie;
	} else if (2 * c->fetch_bytes[LINK_CLIENT] >= a->most * BLOCK_BYTES) {
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

	way_note(&c->way[LINK_CLIENT], ms,
		 c->fetch_bytes[LINK_CLIENT] <= blocks * BLOCK_BYTES && !c->fetch_bytes[LINK_COPIER]);
	most_follow(c, f, ms);
	if (blocks > READAHEAD_WIDE_BLOCKS)
		return; /* longer than wide: tells nothing of either kind */
	if (!a->answers) {
		a->begun_ms = c->now_ms;
		a->sum_ms = 0;
	}
	a->sum_ms += ms;
	/* Of many moments: those of one were perhaps all asked just before a millisecond was over,
	 * and seem to have taken a whole one. */
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

	a->most = blocks_under_way(&c->way[LINK_CLIENT]);
	a->since = 0;
	a->rest = 1;
	a->answers = 0;
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
static bool lives(const struct readahead *a, const struct stream *s)
{
	return s->blocks && a->reads - s->used < READAHEAD_STREAM_READS;
}

/* The one that is worth least: who reads in order is worth more than who does not. */
static struct stream *stream_oldest(struct readahead *a)
{
	struct stream *oldest = a->stream;
	unsigned i;

	for (i = 1; i < READAHEAD_STREAMS; i++) {
		struct stream *s = &a->stream[i];

		if (lives(a, s) != lives(a, oldest) ? lives(a, oldest) : s->used < oldest->used)
			oldest = s;
	}
	return oldest;
}

/* Asks for [first, end) as far as that leaves a part of the window free. Returns where it
 * has stopped. */
static uint64_t ask(struct core *c, uint64_t first, uint64_t end)
{
	uint64_t room = way_client_window(c) / 4 * 3;
	uint64_t run_first, run_end, used;
	unsigned slot;
	const struct link_state *link = fetch_link(c, LINK_CLIENT, &slot);

	fetch_pump(c); /* what clients have asked for comes first */
	if (!link || c->queue[LINK_CLIENT])
		return first;
	used = c->fetch_bytes[LINK_CLIENT];
	while (fetch_next_run(c, first, end, link, FETCH_BLOCKS_MAX, &run_first, &run_end)) {
		used += (run_end - run_first) * BLOCK_BYTES;
		if (used > room || c->fetch_count >= FETCH_AHEAD_MAX || !fetch_ahead(c, run_first, run_end))
			return run_first;
		first = run_end;
	}
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
		s->end = ask(c, s->end, stop);
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
