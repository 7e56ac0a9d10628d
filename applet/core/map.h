/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The block map: one bit a block, 1 = local. Its words are the bitmap file, byte
 * for byte: block i is bit i % 64 of the native 64-bit word i / 64.
 *
 * It also knows which chunks (MAP_CHUNK_BYTES of the bitmap: 128 MiB of disk) hold bits that the commit
 * file does not have yet.
 */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include "core/limits.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	BLOCK_BYTES = 4096,
	MAP_WORD_BLOCKS = 64,
};

struct map {
	uint64_t *words; /* NULL: every block is local (a target) */
	uint64_t blocks;
	uint64_t local; /* how many bits are set */
	uint64_t *dirty; /* one bit a chunk */
	uint64_t chunks, dirty_chunks;
};

/* First bit in [first, end) that is 1 (invert ~0: that is 0), or end. */
uint64_t bits_next(const uint64_t *words, uint64_t first, uint64_t end, uint64_t invert);

/* How many blocks, and how many bytes of bitmap, a disk of this size has. */
uint64_t map_blocks(uint64_t size_bytes);
uint64_t map_bytes(uint64_t size_bytes);

/* words: map_bytes(size_bytes) bytes, owned by the caller; bits past the last
 * block are cleared. NULL for a target. all_dirty: no set bit is committed.
 * False: out of memory. */
bool map_init(struct map *m, uint64_t size_bytes, uint64_t *words, bool all_dirty);
void map_free(struct map *m);

static inline bool map_is_local(const struct map *m, uint64_t block)
{
	return !m->words || (m->words[block / 64] >> (block % 64) & 1);
}

static inline bool map_is_complete(const struct map *m)
{
	return m->local == m->blocks;
}

/* First missing (local) block in [first, end), or end. */
uint64_t map_next_missing(const struct map *m, uint64_t first, uint64_t end);
uint64_t map_next_local(const struct map *m, uint64_t first, uint64_t end);

/* Sets the bits of [first, end). Returns how many were 0. */
uint64_t map_set(struct map *m, uint64_t first, uint64_t end);

/* First dirty chunk at or after `chunk`, or m->chunks. */
uint64_t map_next_dirty(const struct map *m, uint64_t chunk);
/* Copies a chunk (padded with zeroes to MAP_CHUNK_BYTES) and marks it clean. */
void map_pop_chunk(struct map *m, uint64_t chunk, uint8_t *copy);
/* Bytes of this chunk that exist in the file (the last one may be short). */
uint32_t map_chunk_bytes(const struct map *m, uint64_t chunk);

#endif
