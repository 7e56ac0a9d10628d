/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What every byte may be.
 *
 * The disk is cut into cells of one grain. A cell has a list of candidates: the
 * writes (0 is the origin) whose bytes it may hold. A write that is answered well
 * removes those candidates that were over before it began: they were overwritten.
 * Of writes that overlapped in time either may have won, until a read has shown
 * which. A read may return what was a candidate at any moment while it was under way.
 *
 * A candidate that was removed comes back at a power cut, unless the write that
 * removed it was durable.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

struct write {
	uint64_t offset, length;
	uint64_t begun, ended; /* UINT64_MAX: not answered yet */
	uint64_t hash;
	enum content content;
	bool good, durable; /* answered without an error; for sure on the platter */
};

struct candidate {
	unsigned write;
	bool lost;     /* superseded also on the platter */
	uint64_t gone; /* when it was superseded, UINT64_MAX = not yet */
};

struct cell {
	struct candidate *list;
	unsigned count, room;
};

static struct write *writes;
static unsigned write_count, write_room;
static struct cell *cells;
static uint64_t cell_count;
static uint64_t last_cut; /* when the power was cut last */

static uint64_t cell_bytes(uint64_t cell)
{
	uint64_t rest = plan.modelled_bytes - cell * plan.grain;

	return rest < plan.grain ? rest : plan.grain;
}

enum { ZERO_PART = 8 * BLOCK_BYTES };

/* The disk is zero in some of its parts, which are eight blocks long and begin somewhere
 * in a block. *end: where this part ends. */
static bool origin_is_zero(uint64_t offset, uint64_t *end)
{
	uint64_t part = (offset + plan.zero_shift) / ZERO_PART;

	*end = (part + 1) * ZERO_PART - plan.zero_shift;
	if (plan.gap == GAP_ZERO && gap_end(offset)) {
		*end = gap_end(offset);
		return true;
	}
	return mix(writes[0].hash ^ part * 77) % 100 < plan.zero_percent;
}

bool model_origin_is_zero(uint64_t offset, uint64_t end)
{
	uint64_t stop;

	for (; offset < end; offset = stop)
		if (!origin_is_zero(offset, &stop))
			return false;
	return true;
}

static uint64_t data_word(uint64_t hash, uint64_t offset)
{
	uint64_t x = (hash + offset / 8) * 0x9e3779b97f4a7c15ULL;

	return x ^ (x >> 32);
}

/* Eight bytes of a write at a time: into `to`, or compared with what is there. */
static bool data_bytes(uint64_t hash, uint64_t offset, uint64_t end, uint8_t *to, bool compare)
{
	while (offset < end) {
		uint64_t word = data_word(hash, offset), there = 0;
		unsigned from = offset % 8;
		unsigned n = end - offset < 8 - from ? (unsigned)(end - offset) : 8 - from;
		unsigned i;

		if (n == 8 && compare) {
			memcpy(&there, to, 8);
			if (there != word)
				return false;
		} else if (n == 8) {
			memcpy(to, &word, 8);
		}
		for (i = 0; n < 8 && i < n; i++) {
			uint8_t byte = ((const uint8_t *)&word)[from + i];

			if (compare && to[i] != byte)
				return false;
			if (!compare)
				to[i] = byte;
		}
		offset += n;
		to += n;
	}
	return true;
}

static bool zero_bytes(uint64_t n, uint8_t *to, bool compare)
{
	if (!compare)
		memset(to, 0, n);
	for (; compare && n >= 8; n -= 8, to += 8) {
		uint64_t there;

		memcpy(&there, to, 8);
		if (there)
			return false;
	}
	for (; compare && n; n--)
		if (*to++)
			return false;
	return true;
}

static bool bytes(unsigned write, uint64_t offset, uint64_t n, uint8_t *to, bool compare)
{
	const struct write *w = &writes[write];
	uint64_t end = offset + n, stop;
	bool same = true;

	if (w->content != CONTENT_DATA)
		return zero_bytes(n, to, compare);
	if (write)
		return data_bytes(w->hash, offset, end, to, compare);
	for (; same && offset < end; offset = stop) {
		bool zero = origin_is_zero(offset, &stop);

		stop = stop < end ? stop : end;
		same = zero ? zero_bytes(stop - offset, to, compare) : data_bytes(w->hash, offset, stop, to, compare);
		to += stop - offset;
	}
	return same;
}

void model_bytes(unsigned write, uint64_t offset, uint64_t n, uint8_t *to)
{
	bytes(write, offset, n, to, false);
}

static unsigned write_new(uint64_t offset, uint64_t length, enum content content)
{
	struct write *w;

	if (write_count == write_room) {
		write_room = write_room * 2 + 64;
		writes = realloc(writes, write_room * sizeof(*writes));
	}
	w = &writes[write_count];
	memset(w, 0, sizeof(*w));
	w->offset = offset;
	w->length = length;
	w->begun = sim_time;
	w->ended = UINT64_MAX;
	w->hash = chance_of(UINT64_MAX);
	w->content = content;
	return write_count++;
}

static void candidate_add(struct cell *c, unsigned write)
{
	if (c->count == c->room) {
		c->room = c->room * 2 + 2;
		c->list = realloc(c->list, c->room * sizeof(*c->list));
	}
	c->list[c->count++] = (struct candidate){ .write = write, .gone = UINT64_MAX };
}

void model_begin(void)
{
	uint64_t i;

	write_count = 0;
	last_cut = 0;
	write_new(0, plan.size_bytes, CONTENT_DATA);
	writes[0].begun = writes[0].ended = 0;
	writes[0].good = writes[0].durable = true;
	cell_count = (plan.modelled_bytes + plan.grain - 1) / plan.grain;
	cells = calloc(cell_count + 1, sizeof(*cells));
	for (i = 0; i < cell_count; i++)
		candidate_add(&cells[i], 0);
}

void model_end(void)
{
	uint64_t i;

	for (i = 0; i < cell_count; i++)
		free(cells[i].list);
	free(cells);
	free(writes);
	writes = NULL;
	write_room = 0;
}

static uint64_t first_cell(uint64_t offset)
{
	return place(offset) / plan.grain;
}

static uint64_t end_cell(uint64_t offset, uint64_t length)
{
	return (place(offset + length) + plan.grain - 1) / plan.grain;
}

unsigned model_write(uint64_t offset, uint64_t length, enum content content)
{
	unsigned w = write_new(offset, length, content);
	uint64_t i;

	for (i = first_cell(offset); i < end_cell(offset, length); i++)
		candidate_add(&cells[i], w);
	return w;
}

/* Those that no power cut and no read under way can bring back are dropped. */
static void cell_prune(struct cell *c, uint64_t oldest)
{
	unsigned i, kept = 0;

	for (i = 0; i < c->count; i++)
		if (!c->list[i].lost || c->list[i].gone > oldest)
			c->list[kept++] = c->list[i];
	c->count = kept;
}

/* w has happened: what was over before it began is no longer there. */
static void supersede(const struct write *w, bool platter)
{
	uint64_t oldest = oldest_request(), i;
	unsigned k;

	for (i = first_cell(w->offset); i < end_cell(w->offset, w->length); i++) {
		for (k = 0; k < cells[i].count; k++) {
			struct candidate *e = &cells[i].list[k];

			if (writes[e->write].ended >= w->begun)
				continue;
			if (e->gone == UINT64_MAX)
				e->gone = sim_time;
			e->lost |= platter;
		}
		cell_prune(&cells[i], oldest);
	}
}

void model_written(unsigned write, bool error, bool durable)
{
	struct write *w = &writes[write];

	w->ended = sim_time;
	w->good = !error && w->content != CONTENT_TRIM;
	w->durable = w->good && durable;
	if (w->good)
		supersede(w, w->durable);
}

/* Rule 7: no power cut may take these away. */
void model_flushed(uint64_t sent)
{
	unsigned i;

	for (i = 1; i < write_count; i++) {
		struct write *w = &writes[i];

		if (!w->good || w->durable || w->ended > sent)
			continue;
		w->durable = true;
		supersede(w, true);
	}
}

static bool is_of(unsigned write, uint64_t cell, const uint8_t *p)
{
	return bytes(write, unplace(cell * plan.grain), cell_bytes(cell), (uint8_t *)p, true);
}

/* A read has shown what the cell holds: what else was possible, and over when the
 * read began, is so no longer ("never go back"). */
static void cell_seen(struct cell *c, uint64_t cell, const uint8_t *p, uint64_t sent)
{
	bool old = sent > last_cut; /* what the last power cut has left: the next changes nothing */
	unsigned k;

	if (c->count == 1)
		return;
	for (k = 0; k < c->count; k++)
		if (is_of(c->list[k].write, cell, p))
			old &= writes[c->list[k].write].ended <= last_cut;
	for (k = 0; k < c->count; k++) {
		struct candidate *e = &c->list[k];

		if (writes[e->write].ended >= sent || is_of(e->write, cell, p))
			continue;
		if (e->gone == UINT64_MAX)
			e->gone = sim_time;
		e->lost |= old && writes[e->write].ended <= last_cut;
	}
}

/* For whoever replays the seed: what was possible, and what was there. */
static void explain(uint64_t cell, const uint8_t *p)
{
	const struct cell *c = &cells[cell];
	unsigned k;

	trace("at %llu there is %02x; last power cut at %llu", (unsigned long long)unplace(cell * plan.grain), *p,
	      (unsigned long long)last_cut);
	for (k = 0; k < c->count; k++) {
		const struct write *w = &writes[c->list[k].write];
		uint8_t byte;

		model_bytes(c->list[k].write, unplace(cell * plan.grain), 1, &byte);
		trace("  write %u: %02x, at %llu+%llu, from %llu to %llu, gone at %llu%s%s", c->list[k].write,
		      byte, (unsigned long long)w->offset,
		      (unsigned long long)w->length, (unsigned long long)w->begun, (unsigned long long)w->ended,
		      (unsigned long long)c->list[k].gone, c->list[k].lost ? ", also on the platter" : "",
		      w->durable ? ", durable" : "");
	}
}

void model_read(uint64_t offset, uint64_t length, const uint8_t *p, uint64_t sent)
{
	uint64_t i;
	unsigned k;

	for (i = first_cell(offset); i < end_cell(offset, length); i++) {
		struct cell *c = &cells[i];
		const uint8_t *at = p + (i * plan.grain - place(offset));

		for (k = 0; k < c->count; k++)
			if (c->list[k].gone > sent && is_of(c->list[k].write, i, at))
				break;
		if (k == c->count) {
			explain(i, at);
			broken("rule 3: a read at %llu got wrong bytes", (unsigned long long)unplace(i * plan.grain));
		}
		cell_seen(c, i, at, sent);
	}
}

bool model_allows(uint64_t offset, uint64_t length, const uint8_t *p)
{
	uint64_t i;
	unsigned k;

	for (i = first_cell(offset); i < end_cell(offset, length); i++) {
		struct cell *c = &cells[i];
		const uint8_t *at = p + (i * plan.grain - place(offset));

		for (k = 0; k < c->count; k++)
			if (c->list[k].gone == UINT64_MAX && is_of(c->list[k].write, i, at))
				break;
		if (k == c->count) {
			explain(i, at);
			return false;
		}
	}
	return true;
}

bool model_may_be_zero(uint64_t offset, uint64_t length, uint64_t sent)
{
	static const uint8_t zeroes[BLOCK_BYTES];
	uint64_t i;
	unsigned k;

	for (i = first_cell(offset); i < end_cell(offset, length); i++) {
		for (k = 0; k < cells[i].count; k++)
			if (cells[i].list[k].gone > sent && is_of(cells[i].list[k].write, i, zeroes))
				break;
		if (k == cells[i].count)
			return false;
	}
	return true;
}

static void cell_cut(struct cell *c)
{
	unsigned k, kept = 0;

	for (k = 0; k < c->count; k++) {
		if (c->list[k].lost)
			continue;
		c->list[kept] = c->list[k];
		c->list[kept++].gone = UINT64_MAX;
	}
	c->count = kept;
}

void model_forget(unsigned write)
{
	if (writes[write].ended == UINT64_MAX)
		writes[write].ended = sim_time;
}

void model_crash(bool power, bool committed_only)
{
	uint64_t i;
	unsigned w;

	for (w = 1; w < write_count; w++)
		if (writes[w].ended == UINT64_MAX)
			writes[w].ended = sim_time; /* it may have happened or not */
	if (!committed_only)
		return;
	if (power)
		last_cut = sim_time;
	for (i = 0; i < cell_count; i++)
		cell_cut(&cells[i]);
	/* What was answered and is there after the cut is on the platter; the rest of
	 * what was answered is gone. Neither is known: nothing more can be durable. */
	for (w = 1; w < write_count; w++)
		writes[w].good &= writes[w].durable;
}
