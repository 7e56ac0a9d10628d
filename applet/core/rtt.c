/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * How far away the origin is, in response time, and so how much may be in flight: enough to fill
 * the connection, but no more, since what clients miss would queue behind it.
 */
#include "core/internal.h"
#include "core/fetch.h"

bool rtt_is_slow(const struct rtt *w, uint64_t ms)
{
	return ms > 2 * w->min_rtt_ms && ms > RTT_NEAR_MS;
}

/* One slow fetch on an idle connection may be bad luck; RTT_SLOW_MAX of them, and no quick one, mean that
 * the path to the origin has become longer, although the connection stayed up. */
void rtt_sample(struct rtt *w, uint64_t ms, bool little)
{
	if (ms < w->min_rtt_ms)
		w->min_rtt_ms = ms;
	if (!rtt_is_slow(w, ms))
		w->slow = 0;
	else if (little && (!w->slow++ || ms < w->slow_ms))
		w->slow_ms = ms;
	if (w->slow < RTT_SLOW_MAX)
		return;
	w->min_rtt_ms = w->slow_ms;
	w->slow = 0;
}

/* Whether the connection has a delay: a few fetches in flight do not fill it. */
static bool has_delay(const struct rtt *w)
{
	return w->min_rtt_ms > RTT_NEAR_MS && w->min_rtt_ms != UINT64_MAX;
}

/* What clients miss has to come in any case, so memory is all that bounds it. */
uint64_t rtt_client_window(const struct core *c)
{
	return has_delay(&c->rtt[CONN_CLIENT]) ? c->client_window_max : c->fetch_window[CONN_CLIENT];
}

/* Whether copy and comparison ask for one thing at a time, because of clients. While these have more in the queue than
 * may be under way, no connection has room for more of others. */
bool rtt_backs_off(const struct core *c)
{
	return c->queue[CONN_CLIENT] ||
	       (!has_delay(&c->rtt[CONN_COPIER]) && (c->waiting || c->now_ms - c->waited_ms < COPY_POLITE_MS));
}

/*
 * Over a connection with a delay, the copy's window is adapted: a fetch that was about as quick as the
 * quickest, although the window was full, shows that the connection is not full yet; one that took twice
 * as long has waited in a queue, where clients' fetches would wait too. A connection without a delay is
 * filled by the initial window, which the processor's cache can hold.
 */
void rtt_adapt_window(struct core *c, const struct fetch *f)
{
	struct rtt *rtt = &c->rtt[CONN_COPIER];
	uint64_t *window = &c->fetch_window[CONN_COPIER];
	uint64_t used = c->fetch_bytes[CONN_COPIER];
	uint64_t ms = c->now_ms - f->sent_ms;
	uint64_t step = (uint64_t)FETCH_BLOCKS_MAX * BLOCK_BYTES;

	if (f->cookie <= c->copy_since)
		return;
	rtt_sample(rtt, ms, used <= 2 * step && c->copier.in_flight <= 2 && !c->fetch_bytes[CONN_CLIENT]);
	if (!has_delay(rtt))
		*window = c->copy_window;
	else if (rtt_is_slow(rtt, ms) && *window >= 3 * step)
		*window -= step;
	else if (ms <= rtt->min_rtt_ms + rtt->min_rtt_ms / 2 && used + step > *window)
		*window = *window + step < c->copy_window_max ? *window + step : c->copy_window_max;
}

/* What comes up may be another connection, and what has still to be stored came over the old one. */
void rtt_reset(struct core *c)
{
	unsigned kind;

	for (kind = 0; kind < CONNS; kind++)
		c->rtt[kind] = (struct rtt){ .min_rtt_ms = UINT64_MAX };
	c->fetch_window[CONN_COPIER] = c->copy_window;
	c->copy_since = c->last_cookie;
	if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD)
		readahead_reset(c);
}
