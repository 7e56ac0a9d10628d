/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The limits of the core, why they are what they are, and what happens at each.
 * Those in #ifndef are made small by the simulator, so that a small disk reaches
 * them.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

/* Bits of the map that are committed as one: a page of the commit file. A change in
 * one of them costs one write of so many bytes. */
#ifndef MAP_CHUNK_BYTES
#define MAP_CHUNK_BYTES 4096
#endif

/* Chunks noted by one pass of a commit: 1 MiB of memory. What is beyond is committed
 * by further passes, each with its own sync. */
#ifndef COMMIT_CHUNKS_MAX
#define COMMIT_CHUNKS_MAX 256
#endif

/* Blocks that one request asks the origin for ahead of the one it waits for: 32 MiB,
 * as much as the longest READ. A longer CACHE asks on as they come. */
#ifndef FETCH_AHEAD_BLOCKS
#define FETCH_AHEAD_BLOCKS 8192
#endif

/* Fetches that may be asked for ahead, by all together. Beyond it a request asks only
 * for what it waits for; so there are never many more than this, one a request, and what a
 * silent origin was asked for by those who do not wait any more (the window is the limit). */
#ifndef FETCH_AHEAD_MAX
#define FETCH_AHEAD_MAX 512
#endif

/* Blocks, a power of two of at most 64, aligned, that a READ brings with the one it misses:
 * 64 KiB. */
#ifndef READAHEAD_WIDE_BLOCKS
#define READAHEAD_WIDE_BLOCKS 16
#endif

/* Blocks that are asked for ahead of one who reads in order: 8 MiB are more than the window
 * has free. */
#ifndef READAHEAD_BLOCKS_MAX
#define READAHEAD_BLOCKS_MAX 2048
#endif

/* So many answers, and milliseconds, make a sample of how long fetches take. */
#ifndef READAHEAD_SAMPLE
#define READAHEAD_SAMPLE 16
#endif

/* Bytes whose extents are asked for in one status request: fits the 32 bits of its
 * length. The copier asks again behind it. */
#ifndef STATUS_BYTES_MAX
#define STATUS_BYTES_MAX (1u << 30)
#endif

/* Questions about extents that are out for clients, also for those who have gone: each costs a page of
 * memory while the origin owes the answer. Beyond them missing blocks are data. */
#ifndef QUERIES_MAX
#define QUERIES_MAX 64
#endif

/* Blocks of which it is known only together whether a client has written them: 64 KiB.
 * So the record takes 2 MiB a TiB; more is left out of a comparison than was written. */
#ifndef WRITTEN_BLOCKS
#define WRITTEN_BLOCKS 16
#endif

/* Blocks made zero, or trimmed, in one go, 256 KiB to 256 MiB: who wants one of them, or the
 * file system's lock, waits meanwhile. As many as the disk does in ZERO_MS. */
#ifndef ZERO_BLOCKS_MAX
#define ZERO_BLOCKS_MAX (1u << 16)
#endif
#ifndef ZERO_BLOCKS_MIN
#define ZERO_BLOCKS_MIN 64u
#endif

/* Runs of a boot trace. One that is full records no more: a boot is shorter. Each costs 16
 * bytes of memory, and up to TRACE_LINE_BYTES of the file. */
#ifndef TRACE_RUNS_MAX
#define TRACE_RUNS_MAX 4096
#endif

/* Bytes a second: a rate that no link has, so that nothing computed of one overflows. */
#define COPIER_RATE_MAX (1ULL << 50)

enum {
	FETCH_BLOCKS_MAX = 64, /* one fetch is at most one word of the bitmap: 256 KiB */
	FETCH_HASH = 256,      /* buckets of the table of fetches */
	/* Memory for what comes from the origin, half for clients and half for the copier, as
	 * long as the link has no delay. Fetches beyond it are queued: they are as many as
	 * requests in flight make them. */
	FETCH_WINDOW_BYTES = 10 << 20,
	FETCH_WINDOW_BYTES_MIN = 2 * FETCH_BLOCKS_MAX * 4096,
	/* So many times its half of the window the copy may use when the link has a delay: 20 MiB
	 * fill 3 Gbit/s over 50 ms. */
	COPY_WINDOW_GROWTH = 4,
	CLIENT_WINDOW_GROWTH = 2, /* the same for what clients miss */
	WAY_NEAR_MS = 4,   /* half of the window fills 10 Gbit/s for so long; less is never slow */
	WAY_SLOW_MAX = 64, /* fetches that take long without a reason, until that is the link's delay */
	COPY_POLITE_MS = 250, /* so long after the last client had to wait, it asks for one thing at a time */
	COPY_POLITE_BLOCKS = 16, /* ... of no more than that: 64 KiB hold the image and the processor up little */
	READAHEAD_STREAMS = 8,     /* who read in order at the same time; each READ looks at them */
	READAHEAD_STREAM_READS = 1024, /* of others, until one who read in order has gone */
	READAHEAD_GAP_BLOCKS = 32, /* requests of one who reads in order may overtake each other */
	READAHEAD_MS_BLOCKS = 64,  /* a link brings 256 KiB in a millisecond: 2 Gbit/s; the least, too */
	READAHEAD_WORTH = 8,       /* wide fetches may take so many times as long: they bring 16 times as much */
	READAHEAD_LEAST_US = 125,  /* the clock does not tell less from nothing */
	READAHEAD_REST = 64,       /* samples, until they are tried again on a link that was too thin */
	STATUS_WAIT_MS = 5000, /* for an answer about extents: then it is data */
	ZERO_MS = 8,
	COPIER_IN_FLIGHT_MAX = 128, /* zeroings need no memory, but this bounds them */

	TRACE_GAP_BLOCKS = 8,  /* runs of a trace that lie so near are one: 32 KiB cost less than a wait */
	TRACE_NEAR_RUNS = 8,   /* ... as far as it is one of the last so many */
	TRACE_RUN_BLOCKS_MAX = 1 << 16, /* of one run, 256 MiB: the walk over it is short */
	TRACE_LINE_BYTES = 16 + 1 + 5 + 1, /* a block below 2^51, a count */
	TRACE_BYTES_MAX = 64 + 4096 * TRACE_LINE_BYTES, /* of the file */
	COMMIT_HEADER_BYTES = 8192, /* of the commit file: two copies of its header; the planes follow, see state.h */
	COMMIT_INTERVAL_MS = 5000,  /* what is lost at most, of blocks, by a power cut */
	JOB_SAMPLE_MS = 1000,       /* how often the copy's rate is measured */
};

#endif
