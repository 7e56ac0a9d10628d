/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What the origin is asked for.
 *
 * A fetch is a run of missing blocks inside one word of the bitmap:
 *
 *   QUEUED   no connection is up, or the window is full: clients take turns
 *   SENT     asked over a connection; falls back to QUEUED when the connection is lost
 *   STORING  the bytes have come and go to the image, under an exclusive range
 *
 * While it lives, whoever misses one of its blocks waits for it instead of asking
 * again (rule 5). Under the exclusive range the map stands still: only blocks that
 * are still missing are stored, so a client's write that came first stays (rule 4).
 *
 * fetch_conn.c leads from QUEUED to SENT and back; fetch_store.c is STORING.
 *
 * When it ends, its waiters look at the map again and ask for what they still miss. So the end of a fetch never has to
 * mean success.
 */
#include "core/checked.h"
#include "core/fetch.h"

#include <errno.h>
#include <stdlib.h>

uint32_t fetch_bytes(const struct core *c, const struct fetch *f)
{
	return (uint32_t)(fetch_bytes_end(c, f->end) - f->first * BLOCK_BYTES);
}

/* ---- queue ---------------------------------------------------------------- */

void fetch_queue(struct core *c, struct fetch *f, const void *owner)
{
	f->state = FETCH_QUEUED;
	f->io.job.owner = owner;
	queue_put(&c->queue[f->kind], &f->io.job);
	c->kick = true;
}

void fetch_hurry(struct core *c, struct fetch *f, const void *owner)
{
	if (f->state == FETCH_QUEUED && f->kind == CONN_CLIENT && f->io.job.owner != owner)
		queue_hurry(&c->queue[CONN_CLIENT], &f->io.job, owner);
}

void fetch_align(const struct core *c, struct fetch *f, uint32_t unit)
{
	if (unit <= 1)
		return;
	f->first = f->first / unit * unit;
	f->end = (f->end + unit - 1) / unit * unit;
	if (f->end > c->map.blocks)
		f->end = c->map.blocks;
}

static struct fetch *fetch_new(struct core *c, uint64_t first, uint64_t end, uint8_t kind)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->core = c;
	f->kind = kind;
	f->pass = c->fetch_pass;
	f->first = f->want_first = first;
	f->end = f->want_end = end;
	return f;
}

/* An origin with large blocks gets whole ones, so that the next miss beside this
 * one finds it in the table. */
static struct fetch *fetch_start(struct core *c, const void *owner, uint64_t first, uint64_t end, uint8_t kind)
{
	struct fetch *f = fetch_new(c, first, end, kind);
	const struct conn_state *conn;
	unsigned slot;

	assert(!fetch_find(c, first) && !fetch_find(c, end - 1)); /* rule 5 */
	if (!f)
		return NULL;
	conn = fetch_conn(c, kind, &slot);
	if (conn)
		fetch_align(c, f, conn->unit_blocks);
	fetch_enter(c, f);
	fetch_queue(c, f, owner);
	return f;
}

/* Of an origin with larger blocks whole ones are fetched anyway; and a wide fetch that is aligned
 * only later might overlap another one. */
static bool can_widen(const struct conn_state *conn)
{
	return conn && conn->unit_blocks == 1 && conn->max_blocks >= READAHEAD_WIDE_BLOCKS;
}

/* Grows f, which was just begun, by what lies around it and nobody has asked for. */
static void fetch_widen(const struct core *c, struct fetch *f)
{
	uint64_t begin = f->first / READAHEAD_WIDE_BLOCKS * READAHEAD_WIDE_BLOCKS;
	uint64_t stop = begin + READAHEAD_WIDE_BLOCKS < c->map.blocks ? begin + READAHEAD_WIDE_BLOCKS : c->map.blocks;
	uint64_t word = f->first / MAP_WORD_BLOCKS;
	uint64_t free;

	if (f->end > stop)
		return;
	free = ~(c->map.words[word] | fetch_in_flight(c, word));
	while (f->first > begin && free >> (f->first - 1) % MAP_WORD_BLOCKS & 1)
		f->first--;
	while (f->end < stop && free >> f->end % MAP_WORD_BLOCKS & 1)
		f->end++;
	f->wide = f->first < f->want_first || f->end > f->want_end;
}

/* Begins fetches, for this client, of the blocks of [first, end) that are missing and in no fetch yet: of
 * `first` in any case, of others while there are fewer than FETCH_AHEAD_MAX. wide: also of the blocks around
 * the first. */
void fetch_missing(struct core *c, const void *owner, uint64_t first, uint64_t end, bool wide)
{
	struct fetch *f;
	uint64_t run_first, run_end;
	unsigned slot;
	const struct conn_state *conn = fetch_conn(c, CONN_CLIENT, &slot);
	uint64_t at = first;

	while (fetch_next_run(c, at, end, conn, FETCH_BLOCKS_MAX, &run_first, &run_end)) {
		if (run_first != first && c->fetch_count >= FETCH_AHEAD_MAX)
			return;
		f = fetch_start(c, owner, run_first, run_end, CONN_CLIENT);
		if (!f)
			return;
		if (wide && run_first == first && can_widen(conn))
			fetch_widen(c, f);
		at = run_end;
	}
}

/* Asks for [first, end), a run from fetch_next_run(), for which nobody waits yet. */
bool fetch_ahead(struct core *c, uint64_t first, uint64_t end)
{
	return fetch_start(c, NULL, first, end, CONN_CLIENT);
}

void fetch_wait(struct fetch *f, struct request *r)
{
	r->fetch = f;
	r->next = f->waiters;
	f->waiters = r;
	fetch_hurry(f->core, f, r->owner);
}

void fetch_unwait(struct fetch *f, struct request *r)
{
	struct request **p = &f->waiters;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	/* The client goes, and another one may come with the same owner. */
	if (f->waiters && f->state == FETCH_QUEUED && f->io.job.owner == r->owner)
		queue_move(&f->core->queue[f->kind], &f->io.job, f->waiters->owner);
}

/* Drops queued client fetches that nobody waits for. A request that needs one of them later, such
 * as a long READ that waits for another part now, will ask for it again. */
void fetch_forget(struct core *c)
{
	struct job **first = &c->queue[CONN_CLIENT], *j, *next;

	while ((j = *first)) {
		struct job *others = j->next_owner;

		for (; j; j = next) {
			struct fetch *f = container_of(j, struct fetch, io.job);

			next = j->next;
			if (f->waiters)
				continue;
			queue_remove(first, j);
			fetch_remove(c, f);
			copier_client_failed(c, f->first, f->end, f->pass != c->fetch_pass);
			free(f);
			c->kick = true; /* the copy may have waited for the end of it */
		}
		if (*first != others)
			first = &(*first)->next_owner;
	}
}

/* ---- the end -------------------------------------------------------------- */

void fetch_release(struct core *c, struct fetch *f)
{
	if (!f->buf)
		return;
	port_free(c, f->buf, fetch_bytes(c, f));
	c->fetch_bytes[f->kind] -= fetch_bytes(c, f);
	f->buf = NULL;
}

void fetch_finish(struct core *c, struct fetch *f, enum fetch_end how, int error)
{
	struct request *r;

	if (how == END_OK && f->buf && f->kind == CONN_COPIER)
		rtt_adapt_window(c, f);
	fetch_release(c, f);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && f->verify) {
		if (verify_fetch_done(c, f, error, how == END_ORIGIN))
			fetch_queue(c, f, NULL);
		else
			free(f);
		c->kick = true;
		return;
	}
	if (!f->zero)
		fetch_remove(c, f);
	if (f->kind == CONN_COPIER)
		copier_fetch_done(c, error, how == END_LOCAL);
	else if (error)
		copier_client_failed(c, f->first, f->end, f->pass != c->fetch_pass);
	while ((r = f->waiters)) {
		bool only_for_r = !f->wide && f->want_first >= r->offset / BLOCK_BYTES &&
				  f->want_end <= map_blocks(r->offset + r->length);

		f->waiters = r->next;
		r->why = how == END_ORIGIN ? "the origin cannot read it" : NULL;
		request_resume(c, r, how == END_GIVE_UP || only_for_r ? error : 0);
	}
	free(f);
	c->kick = true;
}

/* With the core: nobody waits any more. */
void fetch_free_queued(struct core *c)
{
	unsigned kind;

	for (kind = 0; kind < CONNS; kind++)
		while (c->queue[kind])
			free(container_of(queue_pop(&c->queue[kind]), struct fetch, io.job));
}

/* Nobody will bring what is queued: those who wait for it are told. */
void fetch_fail_queued(struct core *c, int error)
{
	unsigned kind;

	/* From the queue itself: a fetch that is still to be finished has to be where others look for it. */
	for (kind = 0; kind < CONNS; kind++)
		while (c->queue[kind])
			fetch_finish(c, container_of(queue_pop(&c->queue[kind]), struct fetch, io.job), END_GIVE_UP, error);
}

/* The origin has answered: the time of --hold restarts. */
void fetch_answered(struct core *c)
{
	c->answered_ms = c->now_ms;
	c->lost = false;
}

/* Answers requests that have waited for a silent origin as long as they may, and all when it is lost.
 * Then it removes the fetches in the queue that nobody waits for any more: who reads on while
 * the origin is gone would leave one for each READ. */
void fetch_expire(struct core *c)
{
	struct request **p, *r;
	struct fetch *f;
	bool no_conn = !c->conn[CONN_CLIENT].up && !c->conn[CONN_COPIER].up;
	bool is_lost = c->lost && no_conn, given_up = false;
	unsigned i;

	for (i = 0; i < FETCH_HASH; i++)
		for (f = c->fetches[i]; f; f = f->next_hash)
			for (p = &f->waiters; (r = *p);) {
				uint64_t since = r->begun_ms > c->answered_ms ? r->begun_ms : c->answered_ms;

				if (f->state == FETCH_STORING || (!is_lost && c->now_ms - since < c->hold_ms)) {
					p = &r->next;
					continue;
				}
				*p = r->next;
				given_up = true;
				r->why = "the origin is away";
				request_resume(c, r, EIO);
			}
	if (!given_up)
		return;
	/* While a connection is up, it may still answer others; if it answers nothing, it goes down before long. */
	c->lost |= no_conn;
	fetch_forget(c);
}

/* ---- what the copier asks -------------------------------------------------- */

/* [first, end): a run from fetch_next_run(). */
void fetch_copy(struct core *c, uint64_t first, uint64_t end)
{
	if (fetch_start(c, NULL, first, end, CONN_COPIER))
		c->copier.in_flight++;
	else
		c->copier.status.error = c->copier.pass_error = ENOMEM;
}

/* Makes the missing blocks of [first, end) local and zero. */
void fetch_zero(struct core *c, uint64_t first, uint64_t end)
{
	struct fetch *f = fetch_new(c, first, end, CONN_COPIER);

	if (!f) {
		c->copier.status.error = c->copier.pass_error = ENOMEM;
		return;
	}
	f->zero = true;
	f->sent_ms = c->now_ms;
	c->copier.in_flight++;
	fetch_store(c, f);
}

/* ---- what is compared ------------------------------------------------------- */

/* Asks for [first, end), of one word, although it is local. False: out of memory. */
bool fetch_verify(struct core *c, uint64_t first, uint64_t end)
{
	struct fetch *f = fetch_new(c, first, end, CONN_COPIER);

	if (!f)
		return false;
	f->verify = true;
	f->rest_end = end;
	fetch_queue(c, f, NULL);
	return true;
}

void fetch_compared(struct core *c, struct fetch *f, int error)
{
	fetch_finish(c, f, END_LOCAL, error);
}
