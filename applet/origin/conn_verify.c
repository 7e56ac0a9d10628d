/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A connection before it is used: checks whether the origin has the same disk.
 *
 * Reads the blocks of the fingerprint, and spots: random blocks, other ones for each connection,
 * that must be equal here and at the origin, since they are local and no client has written near
 * them. Machines that were made from one image differ in few of the blocks that fingerprints
 * sample.
 *
 * A client may write to a spot while it is compared. The record of client writes has it before the
 * bytes change: so a difference counts only if the spot is still not in the record afterwards.
 */
#include "libbb.h"
#include "origin/conn.h"
#include "storage/identity.h"

enum { DRAWS = 8192 }; /* so many blocks are looked at: less than a millisecond */

/* Another number at each call. */
static uint64_t chance(void)
{
	static uint64_t state;

	state = (state + loop_now_ms()) * 6364136223846793005ULL + 1442695040888963407ULL;
	return state >> 11;
}

/* Draws spots of a disk that has size_bytes at the origin; to be freed. NULL: no memory, or there
 * is nothing to compare. */
static struct spots *spots_new(struct disk *d, uint64_t size_bytes)
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

static void verified(struct conn *l)
{
	l->phase = CONN_UP;
	l->progress_ms = loop_now_ms();
	timer_set(&l->timer, loop_now_ms() + CONN_CHECK_MS);
	origin_conn_ready(l->origin, l->slot);
}

static void compared(struct conn *l, bool differ)
{
	l->spots = NULL;
	l->differs = differ;
	verified(l);
}

/* By a worker. */
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
	struct conn *l = s->conn;
	bool differ = false;
	unsigned i;

	for (i = 0; i < s->count; i++)
		differ |= s->spot[i].differs && identity_is_origins(s->disk, s->spot[i].block);
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
		s->disk->comparisons--;
	free(s);
	if (l)
		compared(l, differ);
}

/* Has a worker compare the spots with the image. Frees s in any case, and then calls compared(),
 * unless the attempt was given up meanwhile (s->conn is NULL). */
static void spots_compare(struct spots *s, struct conn *l)
{
	s->sent = true;
	s->conn = l;
	s->job.run = spots_run;
	s->job.done = spots_done;
	s->job.class = JOB_LONG; /* many transfers */
	s->job.queue = &origin_disk(l->origin)->spots;
	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
		s->disk->comparisons++;
	pool_submit(&s->job);
}

/* ---- samples ------------------------------------------------------------------------- */

/* All has come that was asked for. */
static void samples_done(struct conn *l)
{
	if (l->spots)
		spots_compare(l->spots, l);
	else
		verified(l);
}

static uint64_t sampled_block(const struct conn *l, unsigned i)
{
	return i < STATE_SAMPLES ? fingerprint_block(l->handshake.size_bytes, i) : l->spots->spot[i - STATE_SAMPLES].block;
}

/* Asks for the sampled blocks and the spots, aligned to the origin's minimum block size. */
void conn_verify(struct conn *l)
{
	const struct nbd_client_handshake *h = &l->handshake;
	uint64_t unit = h->min_block > BLOCK_BYTES ? h->min_block : BLOCK_BYTES;
	unsigned i, n;

	l->phase = CONN_VERIFY;
	l->shaken = true;
	l->differs = false;
	memset(&l->fingerprint, 0, sizeof(l->fingerprint));
	l->spots = spots_new(origin_disk(l->origin), h->size_bytes);
	n = STATE_SAMPLES + (l->spots ? l->spots->count : 0);
	for (i = 0; h->size_bytes && i < n; i++) {
		uint64_t first = sampled_block(l, i) * BLOCK_BYTES / unit * unit;
		uint64_t rest = h->size_bytes - first;
		uint32_t length = (uint32_t)(rest < unit ? rest : unit);
		uint8_t *buf = malloc(length);
		struct pending *p = buf ? conn_send_request(l, PENDING_SAMPLE, i + 1, first, length, buf) : NULL;

		if (!p) {
			free(buf);
			l->starved = true;
			return;
		}
		p->sample = (uint8_t)i;
	}
	if (!l->pending)
		samples_done(l);
}

/* A sample that the origin cannot read stays unknown. */
void conn_sample_done(struct conn *l, const struct pending *p, int error)
{
	uint64_t size = l->handshake.size_bytes;
	uint64_t start = sampled_block(l, p->sample) * BLOCK_BYTES;
	uint64_t n = size - start < BLOCK_BYTES ? size - start : BLOCK_BYTES;

	if (error && l->adopted && l->phase == CONN_VERIFY) {
		free(p->buf);
		conn_fail(l, "not all of a disk of this size can be read from it");
		return;
	}
	if (!error)
		*(p->sample < STATE_SAMPLES ? &l->fingerprint.sample[p->sample] : &l->spots->spot[p->sample - STATE_SAMPLES].sample) =
			fingerprint_sample(p->buf + (start - p->offset), (size_t)n);
	free(p->buf);
	if (!l->pending)
		samples_done(l);
}
