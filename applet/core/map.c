/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The block map. Pure. */
#include "core/map.h"
#include "autoconf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint64_t map_blocks(uint64_t size_bytes)
{
	return size_bytes / BLOCK_BYTES + (size_bytes % BLOCK_BYTES != 0);
}

static uint64_t map_words(uint64_t blocks)
{
	return (blocks + MAP_WORD_BLOCKS - 1) / MAP_WORD_BLOCKS;
}

uint64_t map_bytes(uint64_t size_bytes)
{
	return map_words(map_blocks(size_bytes)) * sizeof(uint64_t);
}

/* Bits [first, end) of one word; first < end <= 64. */
static uint64_t word_mask(unsigned first, unsigned end)
{
	return (~0ULL >> (64 - (end - first))) << first;
}

uint64_t bits_next(const uint64_t *words, uint64_t first, uint64_t end, uint64_t invert)
{
	uint64_t w = first / 64;
	uint64_t bits;

	if (first >= end)
		return end;
	bits = (words[w] ^ invert) & (~0ULL << (first % 64));
	while (!bits) {
		if (++w * 64 >= end)
			return end;
		bits = words[w] ^ invert;
	}
	first = w * 64 + (unsigned)__builtin_ctzll(bits);
	return first < end ? first : end;
}

bool map_init(struct map *m, uint64_t size_bytes, uint64_t *words, bool all_dirty)
{
	uint64_t n = map_words(map_blocks(size_bytes));
	uint64_t i;

	memset(m, 0, sizeof(*m));
	m->words = words;
	m->blocks = map_blocks(size_bytes);
	m->local = m->blocks;
	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY || !words)
		return true;
	m->chunks = (n * 8 + MAP_CHUNK_BYTES - 1) / MAP_CHUNK_BYTES;
	m->dirty = calloc(map_words(m->chunks) + 1, sizeof(uint64_t));
	if (!m->dirty)
		return false;
	if (m->blocks % 64)
		words[n - 1] &= word_mask(0, m->blocks % 64);
	m->local = 0;
	for (i = 0; i < n; i++) {
		/* Reading a page that nobody wrote costs no memory; so only look. */
		if (!words[i])
			continue;
		m->local += (unsigned)__builtin_popcountll(words[i]);
		if (all_dirty) {
			uint64_t chunk = i * 8 / MAP_CHUNK_BYTES;
			uint64_t bit = 1ULL << (chunk % 64);

			m->dirty_chunks += !(m->dirty[chunk / 64] & bit);
			m->dirty[chunk / 64] |= bit;
		}
	}
	return true;
}

void map_free(struct map *m)
{
	free(m->dirty);
	m->dirty = NULL;
}

uint64_t map_next_missing(const struct map *m, uint64_t first, uint64_t end)
{
	if (map_is_complete(m))
		return end;
	return bits_next(m->words, first, end, ~0ULL);
}

uint64_t map_next_local(const struct map *m, uint64_t first, uint64_t end)
{
	if (!m->words)
		return first;
	return bits_next(m->words, first, end, 0);
}

uint64_t map_set(struct map *m, uint64_t first, uint64_t end)
{
	uint64_t added = 0;

	assert(first >= end || end <= m->blocks);
	if (!m->words)
		return 0;
	while (first < end) {
		uint64_t w = first / 64;
		uint64_t stop = (w + 1) * 64 < end ? (w + 1) * 64 : end;
		uint64_t mask = word_mask(first % 64, (unsigned)(stop - w * 64));
		unsigned n = (unsigned)__builtin_popcountll(mask & ~m->words[w]);

		if (n) {
			uint64_t chunk = w * 8 / MAP_CHUNK_BYTES;
			uint64_t bit = 1ULL << (chunk % 64);

			m->words[w] |= mask;
			m->dirty_chunks += !(m->dirty[chunk / 64] & bit);
			m->dirty[chunk / 64] |= bit;
			added += n;
		}
		first = stop;
	}
	m->local += added;
	return added;
}

uint64_t map_next_dirty(const struct map *m, uint64_t chunk)
{
	if (!m->dirty_chunks)
		return m->chunks;
	return bits_next(m->dirty, chunk, m->chunks, 0);
}

uint32_t map_chunk_bytes(const struct map *m, uint64_t chunk)
{
	uint64_t rest = map_words(m->blocks) * 8 - chunk * MAP_CHUNK_BYTES;

	return rest < MAP_CHUNK_BYTES ? (uint32_t)rest : MAP_CHUNK_BYTES;
}

void map_pop_chunk(struct map *m, uint64_t chunk, uint8_t *copy)
{
	uint32_t n = map_chunk_bytes(m, chunk);

	memcpy(copy, (uint8_t *)m->words + chunk * MAP_CHUNK_BYTES, n);
	memset(copy + n, 0, MAP_CHUNK_BYTES - n);
	m->dirty[chunk / 64] &= ~(1ULL << (chunk % 64));
	m->dirty_chunks--;
}
