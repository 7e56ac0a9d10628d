/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What a boot trace names is fetched before clients ask for it, in its order, and before
 * the background copy goes on.
 *
 * These are fetches of the copier's kind: whoever misses a block in flight waits for it, and
 * nothing is fetched twice. It is best effort: what fails is left to whoever needs it.
 *
 * Politeness: clients' own fetches go first, and while one of them is in flight only a quarter
 * of the window is used. A client that waits for blocks of the trace does not slow it down.
 */
#include "core/internal.h"

#include <stdlib.h>
#include <string.h>

bool prefetch_is_on(const struct core *c)
{
	return ENABLE_FEATURE_XNBD_SERVER_TRACE && c->prefetch.run;
}

void prefetch_stop(struct core *c)
{
	if (!prefetch_is_on(c))
		return;
	free(c->prefetch.run);
	c->prefetch.run = NULL;
	copier_conn_want(c);
}

/* Whether [first, end) may be asked for now. It is an upper limit that counts: the blocks
 * may have to be aligned for the origin. */
static bool has_room(const struct core *c, const struct conn_state *conn, uint64_t first, uint64_t end)
{
	uint64_t used = c->fetch_bytes[CONN_COPIER];
	uint64_t window = c->fetch_window[CONN_COPIER];
	uint64_t slack = 2 * (uint64_t)(conn->unit_blocks - 1);
	uint64_t n = (end - first + slack) * BLOCK_BYTES;

	if (c->fetch_bytes[CONN_CLIENT])
		window /= 4;
	return !used || used + n <= window;
}

/* Asks for as much as may be under way. True: there is more, the copy has to wait. */
bool prefetch_pump(struct core *c)
{
	struct prefetch *k = &c->prefetch;
	uint64_t first, end;
	unsigned slot;

	while (prefetch_is_on(c) && !c->kick) {
		const struct conn_state *conn = fetch_conn(c, CONN_COPIER, &slot);
		const struct trace_run *run = &k->run[k->next];

		/* As for the copy, no connection is needed to know that nothing is missing. */
		if (k->next == k->runs || map_is_complete(&c->map)) {
			prefetch_stop(c);
			break;
		}
		if (!conn || c->queue[CONN_COPIER] || c->copier.in_flight >= COPIER_IN_FLIGHT_MAX)
			break;
		if (k->cursor < run->first)
			k->cursor = run->first;
		if (!fetch_next_run(c, k->cursor, run->end, conn, FETCH_BLOCKS_MAX, &first, &end)) {
			k->next++;
			k->cursor = 0;
			continue;
		}
		if (!has_room(c, conn, first, end))
			break;
		fetch_copy(c, first, end);
		k->cursor = end;
	}
	return prefetch_is_on(c);
}

bool core_prefetch(struct core *c, const struct trace_run *run, unsigned runs)
{
	struct prefetch *k = &c->prefetch;

	if (c->mode == MODE_TARGET || map_is_complete(&c->map) || !runs)
		return true;
	prefetch_stop(c);
	k->run = malloc(runs * sizeof(*run));
	if (!k->run)
		return false;
	memcpy(k->run, run, runs * sizeof(*run));
	k->runs = runs;
	k->next = 0;
	k->cursor = 0;
	copier_conn_want(c);
	c->kick = true;
	core_run(c);
	return true;
}
