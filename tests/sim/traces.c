/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The boot trace: what is recorded is compared with what clients have asked for, and traces
 * are fetched that were recorded by nobody.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 40 };

static bool *needed;  /* by block: a client has read it, or written a part of it */
static bool *covered; /* ... or has written all of it before */
static bool *before;  /* ... to the program before this one, which has not told that */
static bool *allowed; /* a trace may name it */
static uint64_t blocks;

/* What the program before this one has left. */
static struct {
	bool is_there;
	struct trace_run *recorded, *prefetched; /* NULL: nothing */
	unsigned records, prefetches;
} left;

void traces_begin(void)
{
	blocks = map_blocks(plan.size_bytes);
	needed = calloc(blocks, sizeof(*needed));
	covered = calloc(blocks, sizeof(*covered));
	before = calloc(blocks, sizeof(*before));
	allowed = calloc(blocks, sizeof(*allowed));
}

void traces_end(void)
{
	free(needed);
	free(covered);
	free(before);
	free(allowed);
}

/* ---- start ------------------------------------------------------------------------------ */

static struct trace_run *runs_copy(const struct trace_run *run, unsigned runs)
{
	struct trace_run *copy = run ? malloc((runs + 1) * sizeof(*run)) : NULL;

	if (copy)
		memcpy(copy, run, runs * sizeof(*run));
	return copy;
}

void traces_exchange(void)
{
	const struct trace_run *run = core_recorded(&core, &left.records);

	left.recorded = runs_copy(run, left.records);
	run = core_prefetched(&core, &left.prefetches);
	left.prefetched = runs_copy(run, left.prefetches);
	left.is_there = true;
	if (!left.prefetched != !prefetch_is_on(&core) || (left.prefetched && left.prefetches != core.prefetch.runs))
		broken("not all that is to be fetched is handed over");
}

static void check_resumed(void)
{
	unsigned i;

	if (core.trace.runs != left.records || memcmp(core.trace.run, left.recorded, left.records * sizeof(*left.recorded)) != 0)
		broken("a trace that goes on has other runs");
	if (left.records && !core.trace.changed)
		broken("a trace that goes on is not to be written");
	if (core.trace.recording != (core.mode != MODE_TARGET && left.records < TRACE_RUNS_MAX))
		broken("a trace %s", core.trace.recording ? "goes on" : "does not go on");
	for (i = 0; core.trace.recording && i < left.records; i++)
		if (map_next_missing(&core.trace.seen, left.recorded[i].first, left.recorded[i].end) != left.recorded[i].end)
			broken("a trace that goes on does not know what it has");
}

static void go_on(void)
{
	memcpy(before, covered, blocks);
	if (left.recorded && !core_record(&core, left.recorded, left.records) && !memory_has_failed())
		broken("no recording goes on, and nothing is wrong");
	if (left.recorded && core.trace.run)
		check_resumed();
	if (left.prefetched && !core_prefetch(&core, left.prefetched, left.prefetches) && !memory_has_failed())
		broken("a trace is not fetched any more, and nothing is wrong");
}

static void begin_anew(bool asks)
{
	memset(needed, 0, blocks);
	memset(covered, 0, blocks);
	memset(before, 0, blocks);
	memset(allowed, 0, blocks);
	if (!asks)
		return;
	if (chance(50) && !core_record(&core, NULL, 0) && !memory_has_failed())
		broken("no recording begins, and nothing is wrong");
	if (chance(30))
		traces_prefetch();
}

void traces_start(bool asks, bool crashed)
{
	if (left.is_there && !crashed)
		go_on();
	else
		begin_anew(asks);
	free(left.recorded);
	free(left.prefetched);
	memset(&left, 0, sizeof(left));
}

/* ---- recording -------------------------------------------------------------------------- */

static void need(uint64_t block)
{
	needed[block] |= !covered[block];
	allowed[block] |= !covered[block] || before[block];
}

void traces_note(const struct request *r)
{
	uint64_t first = r->offset / BLOCK_BYTES, stop = r->offset + r->length;
	uint64_t end = map_blocks(stop), b;

	switch (r->type) {
	case NBD_CMD_READ:
		for (b = first; b < end; b++)
			need(b);
		break;
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
	case NBD_CMD_TRIM:
		for (b = first; b < end; b++) {
			bool whole = b * BLOCK_BYTES >= r->offset &&
				     ((b + 1) * BLOCK_BYTES <= stop || stop == plan.size_bytes);

			if (whole)
				covered[b] = true;
			else if (r->type != NBD_CMD_TRIM)
				need(b);
		}
	}
}

static void check_runs(const struct trace_run *run, unsigned runs)
{
	bool *named = calloc(blocks, sizeof(*named));
	uint64_t b;
	unsigned i;

	for (i = 0; i < runs; i++) {
		if (!allowed[run[i].first] || !allowed[run[i].end - 1])
			broken("a trace names block %llu, which nobody asked for", (unsigned long long)run[i].first);
		memset(named + run[i].first, true, run[i].end - run[i].first);
	}
	for (b = 0; core.trace.recording && b < blocks; b++)
		if (needed[b] && !named[b])
			broken("a trace does not name block %llu", (unsigned long long)b);
	free(named);
}

void traces_check(void)
{
	struct trace_run *run;
	const char *why;
	unsigned runs;
	size_t n;
	char *text;

	if (!core.trace.run)
		return;
	text = malloc(TRACE_BYTES_MAX);
	run = malloc(TRACE_RUNS_MAX * sizeof(*run));
	n = trace_encode(&core.trace, plan.size_bytes, text);
	why = trace_decode(text, n, plan.size_bytes, run, &runs);
	if (why)
		broken("a trace that was recorded cannot be read: %s", why);
	if (runs != core.trace.runs || memcmp(run, core.trace.run, runs * sizeof(*run)) != 0)
		broken("a trace is not read as it was written");
	check_runs(run, runs);
	free(run);
	free(text);
}

/* ---- prefetch ---------------------------------------------------------------------------- */

/* In one window, or, where a gap is no work, anywhere: runs that overlap, are here already,
 * come twice. */
static void draw_run(struct trace_run *r)
{
	const struct window *w = &plan.window[chance_of(plan.windows)];
	uint64_t first = w->first / BLOCK_BYTES, end = map_blocks(w->end);

	if (plan.gap != GAP_ZERO && chance(20)) {
		first = 0;
		end = blocks;
	}
	r->first = first + chance_of(end - first);
	r->end = r->first + 1 + chance_of(chance(70) && end - r->first > 8 ? 8 : end - r->first);
	if (r->end - r->first > TRACE_RUN_BLOCKS_MAX)
		r->end = r->first + TRACE_RUN_BLOCKS_MAX;
}

void traces_prefetch(void)
{
	struct trace_run run[RUNS_MAX];
	unsigned runs = (unsigned)chance_of(RUNS_MAX), i;

	for (i = 0; i < runs; i++) {
		if (i && chance(10))
			run[i] = run[chance_of(i)];
		else
			draw_run(&run[i]);
		origin_want(run[i].first, run[i].end);
	}
	event("a trace of %u runs is to be fetched", runs);
	count(COUNT_PREFETCHES);
	if (!core_prefetch(&core, run, runs) && !memory_has_failed())
		broken("a trace is not fetched, and nothing is wrong");
}
