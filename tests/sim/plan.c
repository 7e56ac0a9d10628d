/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What is drawn once a run: the disk, what may fail and how often, the limits.
 *
 * A disk of some GiB is modelled in windows only: at its beginning, around 2 GiB and
 * 4 GiB, at its end. Between them lie gaps, of which nothing is known but that they
 * are local from the start, or zero at the origin. So an offset that loses its upper
 * bits ends in a window, and is found.
 */
#include "sim.h"

#include <string.h>

enum { BLOCKS_MAX = 260, WINDOW_BYTES = 64 * BLOCK_BYTES };

struct plan plan;
struct limits limits;

/* ---- windows ------------------------------------------------------------------------- */

uint64_t place(uint64_t offset)
{
	const struct window *w;

	for (w = plan.window; w < plan.window + plan.windows; w++) {
		if (offset < w->first)
			return w->at;
		if (offset < w->end)
			return w->at + (offset - w->first);
	}
	return plan.modelled_bytes;
}

uint64_t unplace(uint64_t at)
{
	const struct window *w = plan.window;

	while (w + 1 < plan.window + plan.windows && at >= w[1].at)
		w++;
	return w->first + (at - w->at);
}

uint64_t gap_end(uint64_t offset)
{
	const struct window *w;

	for (w = plan.window; w < plan.window + plan.windows; w++) {
		if (offset < w->first)
			return w->first;
		if (offset < w->end)
			return 0;
	}
	return plan.size_bytes;
}

/* In the order of the disk; whole words of the bitmap, so that no fetch leaves one. */
static void window_add(uint64_t around, uint64_t bytes)
{
	uint64_t first = around / WINDOW_BYTES * WINDOW_BYTES;
	uint64_t end = first + bytes < plan.size_bytes ? first + bytes : plan.size_bytes;
	struct window *last = plan.windows ? &plan.window[plan.windows - 1] : NULL;

	if (first >= end)
		return;
	if (last && first <= last->end) {
		plan.modelled_bytes += end > last->end ? end - last->end : 0;
		last->end = end > last->end ? end : last->end;
		return;
	}
	plan.window[plan.windows++] = (struct window){ first, end, plan.modelled_bytes };
	plan.modelled_bytes += end - first;
}

static void draw_windows(void)
{
	plan.windows = 0;
	plan.modelled_bytes = 0;
	if (plan.gap == GAP_NONE) {
		plan.window[plan.windows++] = (struct window){ 0, plan.size_bytes, 0 };
		plan.modelled_bytes = plan.size_bytes;
		return;
	}
	window_add(0, WINDOW_BYTES);
	if (chance(30))
		window_add((1ULL << 31) - WINDOW_BYTES, 2 * WINDOW_BYTES);
	window_add((1ULL << 32) - WINDOW_BYTES, 2 * WINDOW_BYTES);
	window_add(plan.size_bytes - 1, WINDOW_BYTES);
}

/* ---- the disk ------------------------------------------------------------------------- */

static void draw_big(void)
{
	static const uint64_t sizes[] = { 1ULL << 32, 1ULL << 32, 1ULL << 31, 1ULL << 33, 5ULL << 30, 1ULL << 34 };
	static const int by[] = { 0, 1, -1, 511, 512, -512, 4095, 4096, -4096, 8 * 4096 + 512 };

	plan.grain = GRAIN_MAX;
	plan.size_bytes = sizes[chance_of(6)] + (uint64_t)(int64_t)by[chance_of(10)];
	if (chance(30))
		plan.size_bytes += chance_of(3 * WINDOW_BYTES);
	plan.gap = chance(50) ? GAP_LOCAL : GAP_ZERO;
}

static void draw_tiny(void)
{
	static const uint64_t sizes[] = { 1, 2, 511, 512, 513, 4095, 4096, 4097, 8191, 8192, 8193 };

	plan.grain = chance(50) ? 1 : GRAIN_MAX;
	plan.size_bytes = sizes[chance_of(11)];
}

static void draw_small(void)
{
	plan.grain = chance(70) ? GRAIN_MAX : 1;
	plan.size_bytes = 1 + chance_of(plan.grain == 1 ? 5 * BLOCK_BYTES : (chance(50) ? 20 : BLOCKS_MAX) * BLOCK_BYTES);
	if (chance(50)) /* most disks are whole */
		plan.size_bytes = (plan.size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

/* ---- what fails, and the limits --------------------------------------------------------- */

/* Some operations on some files, each at a rate of its own. */
static void draw_faults(bool disk, bool sync)
{
	static const uint16_t rates[] = { 3, 30, 30, 200 };
	unsigned file, op;

	for (file = 0; file < FILES; file++)
		for (op = 0; op < OPS; op++)
			if ((op == IO_SYNC ? sync : disk) && chance(50))
				plan.fault_mille[file][op] = rates[chance_of(4)];
}

static void draw_limits(void)
{
	static const unsigned chunks[] = { 8, 8, 64, 4096 };
	static const unsigned commits[] = { 1, 2, 2, 64 };
	uint64_t last;

	limits.map_chunk_bytes = plan.gap == GAP_NONE ? chunks[chance_of(4)] : 4096;
	limits.commit_chunks_max = plan.gap == GAP_NONE || chance(20) ? commits[chance_of(4)] : 64;
	limits.fetch_ahead_blocks = chance(80) ? 70 : 8192;
	limits.fetch_ahead_max = chance(80) ? 3 : 512;
	limits.status_bytes_max = plan.gap == GAP_NONE && chance(80) ? 96 * BLOCK_BYTES : 1u << 30;
	limits.queries_max = chance(50) ? 1 + (unsigned)chance_of(3) : 64;
	limits.written_blocks = chance(50) ? 1 : chance(50) ? 4 : 16;
	limits.trace_runs_max = chance(30) ? 1 + (unsigned)chance_of(12) : 4096;
	limits.readahead_wide_blocks = 1u << chance_of(5);
	limits.readahead_blocks_max = chance(80) ? 1 + (unsigned)chance_of(12) : 1024;
	limits.readahead_sample = 1 + (unsigned)chance_of(chance(80) ? 3 : 16);
	/* The ends lie in windows. */
	last = map_blocks(plan.size_bytes) - plan.window[plan.windows - 1].first / BLOCK_BYTES;
	limits.cover_blocks_head = 1 + (unsigned)chance_of(8);
	limits.cover_blocks_tail = (unsigned)chance_of(last < 8 ? last + !last : 8);
	limits.zero_blocks_max = plan.gap == GAP_NONE && chance(80) ? 20 : 1u << 18;
	limits.zero_blocks_min = limits.zero_blocks_max == 20 ? 1 + (unsigned)chance_of(8) : 1u << 18;
}

void draw_plan(void)
{
	static const uint32_t units[] = { 1, 1, 1, 1, 2, 4, 8, 16 };
	static const unsigned syncs[] = { 0, 10, 50, 95 };
	static const unsigned memory[] = { 5, 50, 150 };
	static const unsigned orders[] = { 0, 0, 30, 90 };
	static const unsigned slow[] = { 0, 0, 30, 90 };

	memset(&plan, 0, sizeof(plan));
	switch (chance_of(10)) {
	case 0:
		draw_big();
		break;
	case 1:
		draw_tiny();
		break;
	default:
		draw_small();
	}
	draw_windows();
	plan.target = chance(8);
	plan.readonly = plan.target && chance(20);
	plan.unit_blocks = units[chance_of(8)];
	plan.sync_percent = syncs[chance_of(4)];
	plan.depth = 1 + (unsigned)chance_of(DEPTH_MAX);
	plan.bad_percent = chance(15) ? 8 : 0;
	plan.zero_percent = chance(50) ? 40 : 0;
	plan.zero_shift = 512 * (uint32_t)chance_of(8);
	plan.hold_ms = chance(10) ? 3000 : 0;
	draw_faults(chance(15), chance(12));
	plan.slow_percent = slow[chance_of(4)];
	plan.memory_mille = chance(15) ? memory[chance_of(3)] : 0;
	plan.start_mille = chance(10) ? 50 : 0;
	plan.adopt = !plan.target && (plan.gap == GAP_LOCAL || chance(10));
	plan.silent_mille = chance(15) ? 30 : 0;
	plan.stray_mille = chance(15) ? 30 : 0;
	plan.no_punch = chance(30);
	plan.can_status = chance(60) || plan.gap == GAP_ZERO;
	plan.crashes = chance(60);
	plan.calm = chance(40);
	plan.order_percent = orders[chance_of(4)];
	plan.lies = chance(50);
	plan.blind = chance(50);
	plan.fronts = chance(70);
	plan.rings = plan.fronts && chance(50);
	plan.storm = plan.crashes && plan.gap == GAP_NONE && chance(30);
	plan.commit_device = !plan.target && !plan.adopt && chance(40);
	plan.cover = !plan.target && chance(50);
	plan.overwrite = !plan.target && !plan.adopt && chance(plan.commit_device ? 30 : 70); /* what begins anew mends a device that was left half written */
	plan.old_commit = plan.commit_device && plan.overwrite && chance(60);
	draw_limits();
}
