/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A boot trace: the blocks that clients asked for, in the order of their first use. The next
 * machine with the same image fetches them in this order, before its clients ask.
 *
 * It is a list of runs of blocks. A run grows when blocks near it are asked for soon after, so
 * a boot makes a few hundred. Its file is text, and valid for one disk size:
 *
 *   xnbd-trace 1 BYTES     the size of the disk
 *   FIRST COUNT            a run, in blocks; as many lines as there are runs
 */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H

#include "core/limits.h"
#include "core/map.h"

#include <stddef.h>

struct trace_run {
	uint64_t first, end; /* blocks */
};

struct trace {
	struct trace_run *run; /* of TRACE_RUNS_MAX; NULL: nothing was ever recorded */
	unsigned runs;
	bool recording;  /* read by any thread */
	bool changed;    /* since its owner took it last */
	struct map seen; /* local: the block is in a run, or a client has written it before reading it */
};

/* Begins to record. False: out of memory. */
bool trace_begin(struct trace *t, uint64_t size_bytes);
/* t has just begun: it goes on behind these runs, less than TRACE_RUNS_MAX, or has them and is to stop. They fit. What clients had
 * written before they read it is not known any more. */
void trace_resume(struct trace *t, const struct trace_run *run, unsigned runs);
/* Records no more; what there is stays. */
void trace_stop(struct trace *t);
void trace_free(struct trace *t);

/* A client needs these blocks. */
void trace_add(struct trace *t, uint64_t first, uint64_t end);
/* It needs them no more from the origin: it has written them. */
void trace_forget(struct trace *t, uint64_t first, uint64_t end);

/* Whether these are runs of a trace of this disk. */
bool trace_fits(const struct trace_run *run, size_t runs, uint64_t size_bytes);
/* Writes the text to `to`, which has room for TRACE_BYTES_MAX. Returns its length. */
size_t trace_encode(const struct trace *t, uint64_t size_bytes, char *to);
/* run: room for TRACE_RUNS_MAX. NULL, or what is wrong with the n bytes of text: a few words. */
const char *trace_decode(const char *text, size_t n, uint64_t size_bytes, struct trace_run *run, unsigned *runs);

#endif
