/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The core's limits (core/limits.h), drawn once a run: small ones, so that a small disk
 * reaches them, or those of the program. Comes before every file of the core. */
#ifndef SIM_LIMITS_H
#define SIM_LIMITS_H

struct limits {
	unsigned map_chunk_bytes, commit_chunks_max;
	unsigned fetch_ahead_blocks, fetch_ahead_max;
	unsigned status_bytes_max, queries_max, zero_blocks_max, zero_blocks_min;
	unsigned trace_runs_max;
	unsigned written_blocks;
	unsigned cover_blocks_head, cover_blocks_tail;
	unsigned readahead_wide_blocks, readahead_blocks_max, readahead_sample;
};

extern struct limits limits;

#define COVER_BLOCKS_HEAD (limits.cover_blocks_head)
#define COVER_BLOCKS_TAIL (limits.cover_blocks_tail)
#define MAP_CHUNK_BYTES (limits.map_chunk_bytes)
#define COMMIT_CHUNKS_MAX (limits.commit_chunks_max)
#define FETCH_AHEAD_BLOCKS (limits.fetch_ahead_blocks)
#define FETCH_AHEAD_MAX (limits.fetch_ahead_max)
#define STATUS_BYTES_MAX (limits.status_bytes_max)
#define QUERIES_MAX (limits.queries_max)
#define ZERO_BLOCKS_MAX (limits.zero_blocks_max)
#define ZERO_BLOCKS_MIN (limits.zero_blocks_min)
#define TRACE_RUNS_MAX (limits.trace_runs_max)
#define WRITTEN_BLOCKS (limits.written_blocks)
#define READAHEAD_WIDE_BLOCKS (limits.readahead_wide_blocks)
#define READAHEAD_BLOCKS_MAX (limits.readahead_blocks_max)
#define READAHEAD_SAMPLE (limits.readahead_sample)

#endif
