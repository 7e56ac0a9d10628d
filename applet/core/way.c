/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * How far away the origin is, in response time, and so how much may be in flight: enough to fill
 * the link, but no more, since what clients miss would queue behind it.
 */
#include "core/internal.h"
#include "core/fetch.h"

bool way_is_slow(const struct way *w, uint64_t ms)
{
	return ms > 2 * w->least_ms && ms > WAY_NEAR_MS;
}

/* One slow fetch on an idle link may be bad luck; WAY_SLOW_MAX of them, and no quick one, mean that
 * the path to the origin has become longer, although the link stayed up. */
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

/* Whether the link has a delay: a few fetches in flight do not fill it. */
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
 * Over a link with a delay, the copy's window is adapted: a fetch that was about as quick as the
 * quickest, although the window was full, shows that the link is not full yet; one that took twice
 * as long has waited in a queue, where clients' fetches would wait too. A link without a delay is
 * filled by the initial window, which the processor's cache can hold.
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
