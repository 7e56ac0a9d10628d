/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * How far away the origin is, and so how much may be under way: enough to fill the link, no
 * more than that, since what clients miss would wait in the queue behind it.
 */
#include "core/core.h"
#include "core/fetch.h"

bool way_is_slow(const struct way *w, uint64_t ms)
{
	return ms > 2 * w->least_ms && ms > WAY_NEAR_MS;
}

/* One that is slow although little was under way may have had bad luck; many in a row: the way
 * to the origin has become longer, while the link stayed. */
void way_note(struct way *w, uint64_t ms, bool little)
{
	if (ms < w->least_ms)
		w->least_ms = ms;
	if (!way_is_slow(w, ms))
		w->slow = 0;
	else if (little && (!w->slow++ || ms < w->slow_ms))
		w->slow_ms = ms;
	if (w->slow < WAY_SLOW_MAX)
		return;
	w->least_ms = w->slow_ms;
	w->slow = 0;
}

/* Whether the origin is so far away that a few fetches under way do not fill the link. */
static bool is_far(const struct way *w)
{
	return w->least_ms > WAY_NEAR_MS && w->least_ms != UINT64_MAX;
}

/* What clients miss has to come in any case, so memory is all that bounds it. */
uint64_t way_client_window(const struct core *c)
{
	return is_far(&c->way[LINK_CLIENT]) ? c->client_window_max : c->fetch_window[LINK_CLIENT];
}

/* Whether copy and comparison ask for one thing at a time, because of clients. */
bool way_stands_back(const struct core *c)
{
	return !is_far(&c->way[LINK_COPIER]) && (c->waiting || c->now_ms - c->waited_ms < COPY_POLITE_MS);
}

/*
 * The copy's window follows a link with a delay: what has come about as soon as ever, although
 * as much was under way as might be, has not filled it; what took twice as long has waited in
 * a queue, and would have clients' fetches wait there too. A short link is filled by the
 * window as it is at first, which the processor's cache can hold.
 */
void way_window_follow(struct core *c, const struct fetch *f)
{
	struct way *way = &c->way[LINK_COPIER];
	uint64_t *window = &c->fetch_window[LINK_COPIER];
	uint64_t used = c->fetch_bytes[LINK_COPIER];
	uint64_t ms = c->now_ms - f->sent_ms;
	uint64_t step = (uint64_t)FETCH_BLOCKS_MAX * BLOCK_BYTES;

	if (f->cookie <= c->copy_since)
		return;
	way_note(way, ms, used <= 2 * step && c->copier.in_flight <= 2 && !c->fetch_bytes[LINK_CLIENT]);
	if (!is_far(way))
		*window = c->copy_window;
	else if (way_is_slow(way, ms) && *window >= 3 * step)
		*window -= step;
	else if (ms <= way->least_ms + way->least_ms / 2 && used + step > *window)
		*window = *window + step < c->copy_window_max ? *window + step : c->copy_window_max;
}

/* What comes up may be another link, and what has still to be stored came over the old one. */
void way_reset(struct core *c)
{
	unsigned kind;

	for (kind = 0; kind < LINKS; kind++)
		c->way[kind] = (struct way){ .least_ms = UINT64_MAX };
	c->fetch_window[LINK_COPIER] = c->copy_window;
	c->copy_since = c->last_cookie;
	if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD)
		readahead_reset(c);
}
