/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What is published: the blocks that any thread may read from the image without asking the core.
 *
 * The bits of these blocks are in the bitmap file (commit.c), so that not even the death of the
 * process takes back what was read. They go only from 0 to 1. The core's thread alone sets them, with
 * release: whoever sees one, with acquire, finds the block's bytes in the image. They lie in
 * words of 32 bits, which are atomic on every machine.
 */
#include "core/checked.h"

/* The bits of [*first, end) that lie in the word of *first, which is moved to the next word. */
static uint32_t bits_in_word(uint64_t *first, uint64_t end)
{
	uint32_t bits = ~(uint32_t)0 << (*first % 32);

	*first = (*first | 31) + 1;
	return *first > end ? bits & ~(uint32_t)0 >> (*first - end) : bits;
}

void publish(struct core *c, uint64_t first, uint64_t end)
{
	assert(!c->bitmap_error && map_next_missing(&c->map, first, end) == end);
	while (c->published && first < end) {
		uint32_t *word = &c->published[first / 32];

		__atomic_store_n(word, *word | bits_in_word(&first, end), __ATOMIC_RELEASE);
	}
}

void publish_all(struct core *c)
{
	if (map_is_complete(&c->map))
		__atomic_store_n(&c->all_published, true, __ATOMIC_RELEASE);
}

void publish_begin(struct core *c)
{
	uint64_t first, end = 0;

	publish_all(c);
	while (c->published && !c->all_published && (first = map_next_local(&c->map, end, c->map.blocks)) < c->map.blocks) {
		end = map_next_missing(&c->map, first, c->map.blocks);
		publish(c, first, end);
	}
}

static bool is_published(const struct core *c, uint64_t first, uint64_t end)
{
	if (__atomic_load_n(&c->all_published, __ATOMIC_ACQUIRE))
		return true;
	if (!c->published)
		return false;
	while (first < end) {
		const uint32_t *word = &c->published[first / 32];

		if (bits_in_word(&first, end) & ~__atomic_load_n(word, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

bool core_is_published(const struct core *c, uint64_t offset, uint32_t length)
{
	assert(length && offset <= c->size_bytes && length <= c->size_bytes - offset);
	return is_published(c, offset / BLOCK_BYTES, map_blocks(offset + length));
}

bool core_wants_to_see(const struct core *c, uint64_t offset, uint32_t length)
{
	uint64_t end = map_blocks(offset + length);
	uint64_t stop = end + READAHEAD_BLOCKS_MAX < c->map.blocks ? end + READAHEAD_BLOCKS_MAX : c->map.blocks;

	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && __atomic_load_n(&c->trace.recording, __ATOMIC_RELAXED))
		return true;
	return ENABLE_FEATURE_XNBD_SERVER_READAHEAD && __atomic_load_n(&c->mode, __ATOMIC_RELAXED) == MODE_PROXY &&
	       !is_published(c, end, stop);
}
