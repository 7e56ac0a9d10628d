/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Fronts: threads beside the core's, which answer READs of published blocks by themselves.
 *
 * A front tests the bits at one step and reads the image at later ones, in parts, while everything else
 * goes on; some steps after its answer the core is told, if it wanted to be. What a front
 * reads is checked as any other READ that was under way since its bits were tested.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { READS_MAX = 6, SECTOR = 512 };

struct front_read {
	uint64_t offset; /* bytes */
	uint32_t length, have;
	uint64_t sent;     /* when the bits were tested; 0: not in use */
	uint64_t answered; /* it is, as the n-th; the core is to be told; 0: not yet */
	uint8_t *buf;
};

static struct front_read reads[READS_MAX];
static uint64_t answers;
static uint64_t *bits;  /* the core's */
static uint64_t *known; /* by block: it was published */

static uint64_t words(void)
{
	return map_bytes(plan.size_bytes) / 8;
}

static void drop(struct front_read *r)
{
	free(r->buf);
	memset(r, 0, sizeof(*r));
}

void fronts_begin(void)
{
	known = calloc(words() + 1, sizeof(*known));
}

void fronts_end(void)
{
	free(known);
	free(bits);
	bits = NULL;
}

uint64_t fronts_oldest(void)
{
	uint64_t oldest = sim_time;
	unsigned i;

	for (i = 0; i < READS_MAX; i++)
		if (reads[i].sent && reads[i].sent < oldest)
			oldest = reads[i].sent;
	return oldest;
}

/* ---- the life of a core ---------------------------------------------------------------- */

uint64_t *fronts_bits(void)
{
	free(bits);
	bits = plan.fronts ? calloc(words() + 1, sizeof(*bits)) : NULL;
	return bits;
}

void fronts_crash(bool committed_only)
{
	unsigned i;

	for (i = 0; i < READS_MAX; i++)
		drop(&reads[i]);
	if (committed_only)
		memset(known, 0, words() * sizeof(*known));
}

/* Rule F1, across the death of a core: what it had published is local in the next one. */
void fronts_started(void)
{
	uint64_t w;

	for (w = 0; core.map.words && w < words(); w++)
		if (known[w] & ~core.map.words[w])
			broken("rule F1: of the blocks from %llu on some were published, and are missing after a start",
			       (unsigned long long)w * 64);
	memset(known, 0, words() * sizeof(*known));
}

static uint64_t published_word(uint64_t w)
{
	if (core.all_published)
		return w + 1 == words() && core.map.blocks % 64 ? (1ULL << core.map.blocks % 64) - 1 : ~0ULL;
	return core.published ? core.published[2 * w] | (uint64_t)core.published[2 * w + 1] << 32 : 0;
}

/* No bit is on its way to the bitmap file, or failed to get there. */
static bool all_are_in_file(void)
{
	return core.map.words && !core.persist_now && !core.persist_next && !core.bitmap_error;
}

/* Rule F1, at any moment: the bits of what is published are in a file, and stay published. And, for the
 * sake of speed, all that may be published is. */
void fronts_audit(void)
{
	const uint64_t *file = (const uint64_t *)(const void *)disk_bytes(FILE_BITMAP);
	const uint64_t *committed = (const uint64_t *)(const void *)(disk_bytes(FILE_COMMIT) + COMMIT_HEADER_BYTES);
	uint64_t w;

	for (w = 0; w < words(); w++) {
		uint64_t now = published_word(w);

		if (known[w] & ~now)
			broken("rule F1: of the blocks from %llu on some are published no more", (unsigned long long)w * 64);
		if (core.map.words && now & ~(file[w] | committed[w]))
			broken("rule F1: of the blocks from %llu on some are published, and their bits are in no file",
			       (unsigned long long)w * 64);
		if ((plan.fronts || map_is_complete(&core.map)) && all_are_in_file() && core.map.words[w] != now)
			broken("of the blocks from %llu on some are not published", (unsigned long long)w * 64);
		known[w] = now;
	}
	if (!core.map.words && !core.all_published)
		broken("not all of a target is published");
}

/* ---- READs -------------------------------------------------------------------------------- */

static bool is_published(const struct front_read *r)
{
	return core_is_published(&core, r->offset, r->length);
}

/* Part of what is to be read, which ends between two sectors: others may write there. */
static void read_part(struct front_read *r, uint32_t end)
{
	disk_image_read(r->buf + r->have, r->offset + r->have, end - r->have);
	r->have = end;
}

void fronts_read(void)
{
	struct front_read *r = reads;
	unsigned tries = 3;

	while (r < reads + READS_MAX && r->sent)
		r++;
	if (r == reads + READS_MAX)
		return;
	do /* else it is the core's */
		draw_range(&r->offset, &r->length);
	while (--tries && !is_published(r));
	if (!is_published(r))
		return;
	r->buf = malloc(r->length);
	r->sent = sim_time;
	event("a front begins READ at %llu+%u", (unsigned long long)r->offset, r->length);
	count(COUNT_FRONT_READS);
	if (chance(20))
		read_part(r, r->length);
}

/* Rules F2 and F3: in what was read, there is nothing but what a client has written, old or new; and
 * nothing older than what was answered before the bits were tested. */
static void read_end(struct front_read *r)
{
	read_part(r, r->length);
	event("a front ends READ at %llu+%u", (unsigned long long)r->offset, r->length);
	if (!is_published(r))
		broken("rule F1: what a front has read is published no more");
	model_read(r->offset, r->length, r->buf, r->sent);
	if (core_wants_to_see(&core, r->offset, r->length))
		r->answered = ++answers;
	else
		drop(r);
}

/* In the order of the answers. */
static void tell_oldest(void)
{
	struct front_read *r, *oldest = NULL;

	for (r = reads; r < reads + READS_MAX; r++)
		if (r->answered && (!oldest || r->answered < oldest->answered))
			oldest = r;
	event("the core is told of READ at %llu+%u", (unsigned long long)oldest->offset, oldest->length);
	count(COUNT_FRONT_READS_TOLD);
	note_read(oldest->offset, oldest->length);
	core_has_read(&core, oldest->offset, oldest->length);
	drop(oldest);
}

bool fronts_step(void)
{
	struct front_read *live[READS_MAX], *r;
	unsigned n = 0;

	for (r = reads; r < reads + READS_MAX; r++)
		if (r->sent)
			live[n++] = r;
	if (!n)
		return false;
	r = live[chance_of(n)];
	if (r->answered) {
		tell_oldest();
	} else if (r->length - r->have > SECTOR && chance(40)) {
		uint64_t end = (r->offset + r->have + chance_of(r->length - r->have)) / SECTOR * SECTOR;

		if (end > r->offset + r->have)
			read_part(r, (uint32_t)(end - r->offset));
	} else {
		read_end(r);
	}
	return true;
}
