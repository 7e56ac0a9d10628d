/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The table of fetches: which blocks somebody has asked for, so that nobody asks again (rule 5). A fetch lies
 * inside one word of the bitmap, and the table is hashed by words.
 */
#include "core/checked.h"
#include "core/fetch.h"

static unsigned hash_word(uint64_t word)
{
	return word % FETCH_HASH;
}

struct fetch *fetch_find(const struct core *c, uint64_t block)
{
	struct fetch *f = c->fetches[hash_word(block / MAP_WORD_BLOCKS)];

	while (f && (block < f->first || block >= f->end))
		f = f->next_hash;
	return f;
}

uint64_t fetch_in_flight(const struct core *c, uint64_t word)
{
	const struct fetch *f;
	uint64_t mask = 0;

	for (f = c->fetches[hash_word(word)]; f; f = f->next_hash)
		if (f->first / MAP_WORD_BLOCKS == word)
			mask |= (~0ULL >> (64 - (f->end - f->first))) << (f->first % 64);
	return mask;
}

void fetch_enter(struct core *c, struct fetch *f)
{
	struct fetch **bucket = &c->fetches[hash_word(f->first / MAP_WORD_BLOCKS)];

	f->next_hash = *bucket;
	*bucket = f;
	c->fetch_count++;
}

void fetch_remove(struct core *c, struct fetch *f)
{
	struct fetch **p = &c->fetches[hash_word(f->first / MAP_WORD_BLOCKS)];

	while (*p != f)
		p = &(*p)->next_hash;
	*p = f->next_hash;
	c->fetch_count--;
	c->fetch_old -= f->pass != c->fetch_pass;
}

/*
 * The first run of blocks at or after `first` and before `end` that are missing
 * and that nobody has asked for. It lies inside one word and, also when aligned to
 * the origin's blocks, is no longer than max_blocks and what `conn` allows (NULL:
 * none is up). False: there is none.
 */
bool fetch_next_run(const struct core *c, uint64_t first, uint64_t end, const struct conn_state *conn,
		    uint32_t max_blocks, uint64_t *run_first, uint64_t *run_end)
{
	uint32_t unit = conn ? conn->unit_blocks : 1;

	if (conn && max_blocks > conn->max_blocks)
		max_blocks = conn->max_blocks;
	if (max_blocks < unit)
		max_blocks = unit;
	while ((first = map_next_missing(&c->map, first, end)) < end) {
		uint64_t word = first / MAP_WORD_BLOCKS;
		uint64_t free = ~c->map.words[word] & ~fetch_in_flight(c, word) & (~0ULL << (first % 64));
		uint64_t stop = (word + 1) * MAP_WORD_BLOCKS;
		uint64_t taken;

		if (!free) {
			first = stop;
			continue;
		}
		first = word * MAP_WORD_BLOCKS + (unsigned)__builtin_ctzll(free);
		if (first >= end)
			return false;
		taken = ~(free >> (first % 64));
		if (taken && first + (unsigned)__builtin_ctzll(taken) < stop)
			stop = first + (unsigned)__builtin_ctzll(taken);
		if (stop > first - first % unit + max_blocks)
			stop = first - first % unit + max_blocks;
		*run_first = first;
		*run_end = stop < end ? stop : end;
		return true;
	}
	return false;
}
