/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Spots: blocks drawn by chance, at each connection, that have to be the same here and at the
 * origin: local, and not written by clients. Machines that were made from one image differ in
 * few of the blocks that fingerprints sample.
 *
 * A client may write a spot while it is looked at. Where clients write is noted before the
 * bytes change: so a spot that differs, and is noted by now, tells nothing.
 */
#include "libbb.h"
#include "origin/link.h"
#include "storage/identity.h"

enum { DRAWS = 8192 }; /* so many blocks are looked at: less than a millisecond */

/* Another number at each call. */
static uint64_t chance(void)
{
	static uint64_t state;

	state = (state + loop_now_ms) * 6364136223846793005ULL + 1442695040888963407ULL;
	return state >> 11;
}

struct spots *spots_new(const struct disk *d, uint64_t size_bytes)
{
	uint64_t blocks = map_blocks(size_bytes), block;
	struct spots *s;
	unsigned i;

	if (!ENABLE_FEATURE_XNBD_SERVER_VERIFY || !d->words || !d->written || d->header.mixed || size_bytes != d->header.size_bytes || !blocks)
		return NULL;
	s = calloc(1, sizeof(*s));
	for (i = 0; s && i < DRAWS && s->count < SPOTS; i++) {
		block = chance() % blocks;
		if (identity_is_origins(d, block))
			s->spot[s->count++].block = block;
	}
	if (s)
		s->disk = d;
	return s;
}

static void spots_run(struct job *j)
{
	struct spots *s = (struct spots *)j;
	unsigned i;

	for (i = 0; i < s->count; i++) {
		uint64_t sample = s->spot[i].sample; /* 0: the origin cannot read it */
		uint64_t here = identity_sample(s->disk, s->spot[i].block, s->buf);

		s->spot[i].differs = sample && here && here != sample;
	}
}

static void spots_done(struct job *j)
{
	struct spots *s = (struct spots *)j;
	struct link *l = s->link;
	bool differ = false;
	unsigned i;

	for (i = 0; i < s->count; i++)
		differ |= s->spot[i].differs && identity_is_origins(s->disk, s->spot[i].block);
	free(s);
	if (l)
		link_compared(l, differ);
}

void spots_compare(struct spots *s, struct link *l)
{
	s->link = l;
	s->job.run = spots_run;
	s->job.done = spots_done;
	pool_submit(&s->job);
}
