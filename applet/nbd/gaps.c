/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Which bytes of a structured reply are still to come: the gaps between its chunks. */
#include "nbd/nbd.h"

void nbd_gaps_init(struct nbd_gaps *g, uint32_t length_bytes)
{
	g->count = length_bytes != 0;
	g->gap[0].first = 0;
	g->gap[0].end = length_bytes;
}

/* Takes [first, end) out of gap i, which holds all of it. */
static bool gap_shrink(struct nbd_gaps *g, unsigned i, uint32_t first, uint32_t end)
{
	uint32_t old_end = g->gap[i].end;

	if (first == g->gap[i].first && end == old_end) {
		g->gap[i] = g->gap[--g->count];
	} else if (first == g->gap[i].first) {
		g->gap[i].first = end;
	} else {
		if (end != old_end) {
			if (g->count == NBD_GAPS_MAX)
				return false;
			g->gap[g->count].first = end;
			g->gap[g->count++].end = old_end;
		}
		g->gap[i].end = first;
	}
	return true;
}

bool nbd_gaps_fill(struct nbd_gaps *g, uint64_t first, uint32_t length_bytes)
{
	unsigned i;

	for (i = 0; length_bytes && i < g->count; i++) {
		if (first < g->gap[i].first || first >= g->gap[i].end)
			continue;
		/* What begins in one gap must also end in it, else it overlaps. */
		if (length_bytes > g->gap[i].end - first)
			return false;
		return gap_shrink(g, i, (uint32_t)first, (uint32_t)first + length_bytes);
	}
	return false;
}

bool nbd_gaps_filled(const struct nbd_gaps *g)
{
	return !g->count;
}
