/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The limits of the core, why they are what they are, and what happens at each.
 * Those in #ifndef are made small by the simulator, so that a small disk reaches
 * them.
 */
#ifndef CORE_LIMITS_H
#define CORE_LIMITS_H

/* The ends of a disk that are covered: 8 MiB and 2 MiB. See storage/cover.h. */
#ifndef COVER_BLOCKS_HEAD
#define COVER_BLOCKS_HEAD 2048
#endif
#ifndef COVER_BLOCKS_TAIL
#define COVER_BLOCKS_TAIL 512
#endif

/* Bytes of the bitmap that are committed as one chunk: a page of the commit file. A change of
 * any of its bits costs one write of this size. */
#ifndef MAP_CHUNK_BYTES
#define MAP_CHUNK_BYTES 4096
#endif

/* Chunks taken by one pass of a commit: 1 MiB of memory. What is beyond is committed
 * by further passes, each with its own sync. */
#ifndef COMMIT_CHUNKS_MAX
#define COMMIT_CHUNKS_MAX 256
#endif

/* Blocks that one request asks the origin for at once, from the first it misses on: 32 MiB,
 * as much as the longest READ. A longer CACHE asks for more as these arrive. */
#ifndef FETCH_AHEAD_BLOCKS
#define FETCH_AHEAD_BLOCKS 8192
#endif

/* Once there are this many fetches in total, a request begins only the one it waits for. So there are
 * hardly more than this, plus one per request, plus those sent to a silent origin for requests that
 * no longer wait (bounded by the window). */
#ifndef FETCH_AHEAD_MAX
#define FETCH_AHEAD_MAX 512
#endif

/* Size of the aligned group of blocks that a READ fetches around one it misses: 64 KiB. A power of
 * two, at most 64. */
#ifndef READAHEAD_WIDE_BLOCKS
#define READAHEAD_WIDE_BLOCKS 16
#endif

/* Blocks that are asked for ahead of one who reads in order: 8 MiB are more than the window
 * has free. */
#ifndef READAHEAD_BLOCKS_MAX
#define READAHEAD_BLOCKS_MAX 2048
#endif

/* A sample of response times takes at least this many replies, and this many milliseconds. */
#ifndef READAHEAD_SAMPLE
#define READAHEAD_SAMPLE 16
#endif

/* Bytes whose extents are asked for in one status request: fits the 32 bits of its
 * length. The copier asks again behind it. */
#ifndef STATUS_BYTES_MAX
#define STATUS_BYTES_MAX (1u << 30)
#endif

/* Status requests outstanding for clients, including clients that have gone: each takes a page of
 * memory until the origin answers. Beyond this number, missing blocks are reported as data. */
#ifndef QUERIES_MAX
#define QUERIES_MAX 64
#endif

/* Blocks that share one bit of the record of client writes: 64 KiB. So the record takes 2 MiB per
 * TiB, and a comparison leaves out more than was written. */
#ifndef WRITTEN_BLOCKS
#define WRITTEN_BLOCKS 16
#endif

/* Blocks that are zeroed or trimmed in one piece, 256 KiB to 256 MiB: as many as the disk does in
 * ZERO_MS, since whoever needs one of them, or the file system's lock, waits that long. */
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

/* Bytes per second, faster than any connection: limits set by users are capped here, so that no
 * computation with one overflows. */
#define COPIER_RATE_MAX (1ULL << 50)

enum {
	FETCH_BLOCKS_MAX = 64, /* one fetch is at most one word of the bitmap: 256 KiB */
	FETCH_HASH = 256,      /* buckets of the table of fetches */
	/* Memory for data from the origin while the connection has no delay, half for clients and half for
	 * the copier. Fetches beyond it are queued; requests in flight bound their number. */
	FETCH_WINDOW_BYTES = 10 << 20,
	FETCH_WINDOW_BYTES_MIN = 2 * FETCH_BLOCKS_MAX * 4096,
	/* Over a connection with a delay, the copy's half of the window may grow by this factor: 20 MiB fill
	 * 3 Gbit/s at 50 ms. */
	COPY_WINDOW_GROWTH = 4,
	CLIENT_WINDOW_GROWTH = 2, /* the same for what clients miss */
	RTT_NEAR_MS = 4,   /* half of the window fills 10 Gbit/s for this long; a fetch within it is never slow */
	RTT_SLOW_MAX = 64, /* slow fetches on an idle connection, after which their time counts as its round-trip time */
	COPY_POLITE_MS = 250, /* for so long after a client last had to wait, the copy has one fetch in flight */
	COPY_POLITE_BLOCKS = 16, /* the most of such a fetch: 64 KiB keep image and processor busy only briefly */
	READAHEAD_STREAMS = 8,     /* sequential readers known at a time; each READ is compared with all */
	READAHEAD_STREAM_READS = 1024, /* READs of others, after which a sequential reader counts as gone */
	READAHEAD_GAP_BLOCKS = 32, /* how far requests of a sequential reader may be out of order */
	READAHEAD_MS_BLOCKS = 64,  /* assumed of a connection in a millisecond: 256 KiB (2 Gbit/s); also the minimum of `most` */
	READAHEAD_WORTH = 8,       /* wide fetches may take this many times as long: they bring 16 times as much */
	READAHEAD_MIN_US = 125,  /* the clock cannot tell shorter times from zero */
	READAHEAD_REST = 64,       /* samples until wide fetches are tried again on a connection that was too slow */
	STATUS_WAIT_MS = 5000, /* how long to wait for a status reply before answering "data" */
	ZERO_MS = 8,
	VERIFY_WORDS = 4096,   /* of the bitmap, 1 GiB, that a comparison passes over in one turn: half a millisecond */
	COPIER_IN_FLIGHT_MAX = 128, /* zeroings need no memory, but this bounds them */

	TRACE_GAP_BLOCKS = 8,  /* a gap up to this size does not begin a new run: 32 KiB cost less than a wait */
	TRACE_NEAR_RUNS = 8,   /* how many of the last runs such a gap may follow */
	TRACE_RUN_BLOCKS_MAX = 1 << 16, /* longest run, 256 MiB: so that a walk over one is short */
	TRACE_LINE_BYTES = 16 + 1 + 5 + 1, /* a block below 2^51, a count */
	TRACE_BYTES_MAX = 64 + 4096 * TRACE_LINE_BYTES, /* of the file */
	COMMIT_HEADER_BYTES = 8192, /* of the commit file: two copies of its header; the planes follow, see state.h */
	COMMIT_INTERVAL_MS = 5000,  /* a power cut loses at most the blocks that became local in this time */
	JOB_SAMPLE_MS = 1000,       /* how often the copy's rate is measured */
};

#endif
