/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Fetches and the connections to the origin: sent as the windows allow, the reply to each, and what happens to them
 * when a connection is lost.
 */
#include "core/checked.h"
#include "core/fetch.h"

#include <errno.h>

/*
 * The connection that a fetch of this kind would take, NULL when none is up. The copier
 * prefers its own, clients prefer the other one, each makes do with what is there.
 */
const struct conn_state *fetch_conn(const struct core *c, unsigned kind, unsigned *slot)
{
	*slot = kind;
	if (!c->conn[kind].up)
		*slot = CONNS - 1 - kind;
	return c->conn[*slot].up ? &c->conn[*slot] : NULL;
}

/* Removes the fetch with this cookie from those asked over the connection. */
static struct fetch *sent_pop(struct core *c, unsigned conn, uint64_t cookie)
{
	struct fetch **p = &c->sent[conn];
	struct fetch *f;

	while (*p && (*p)->cookie != cookie)
		p = &(*p)->next;
	f = *p;
	if (f) {
		*p = f->next;
		if (!f->next)
			c->sent_tail[conn] = p;
	}
	return f;
}

/* False: must wait. */
static bool fetch_send(struct core *c, struct fetch *f)
{
	const struct conn_state *conn;
	uint64_t *used = &c->fetch_bytes[f->kind];
	unsigned slot;
	uint32_t n;

	conn = fetch_conn(c, f->kind, &slot);
	if (!conn)
		return false;
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && f->verify) { /* it is not in the table: aligned anew */
		f->first = f->want_first;
		f->end = f->want_end;
	}
	fetch_align(c, f, conn->unit_blocks);
	n = fetch_bytes(c, f);
	if (*used && *used + n > (f->kind == CONN_CLIENT ? rtt_client_window(c) : c->fetch_window[f->kind]))
		return false;
	queue_pop(&c->queue[f->kind]);
	if (f->end - f->first > conn->max_blocks) {
		/* By now another origin, with a smaller limit: whoever waits asks again, for less at a time. */
		fetch_finish(c, f, f->verify ? END_ORIGIN : END_OK, f->verify ? EMSGSIZE : 0);
		return true;
	}
	f->buf = port_alloc(c, n);
	if (!f->buf) {
		fetch_finish(c, f, END_GIVE_UP, ENOMEM);
		return true;
	}
	*used += n;
	f->state = FETCH_SENT;
	f->cookie = ++c->last_cookie;
	f->sent_ms = c->now_ms;
	f->next = NULL;
	*c->sent_tail[slot] = f;
	c->sent_tail[slot] = &f->next;
	port_conn_read(c, slot, f->cookie, f->first * BLOCK_BYTES, n);
	return true;
}

/* Clients' fetches first: a connection that was lost may have put many of the copy's back into the queue. */
void fetch_pump(struct core *c)
{
	unsigned kind;

	for (kind = 0; kind < CONNS; kind++)
		while (c->queue[kind] && fetch_send(c, container_of(c->queue[kind], struct fetch, io.job)))
			;
}

void *core_conn_buffer(struct core *c, unsigned conn, uint64_t cookie, uint64_t *offset, uint32_t *length)
{
	struct fetch *f = c->sent[conn];

	while (f && f->cookie != cookie)
		f = f->next;
	if (!f)
		return NULL;
	*offset = f->first * BLOCK_BYTES;
	*length = fetch_bytes(c, f);
	return f->buf;
}

void core_conn_data(struct core *c, unsigned conn, uint64_t cookie, int error)
{
	struct fetch *f = sent_pop(c, conn, cookie);

	if (!f)
		return;
	fetch_answered(c);
	if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD && f->kind == CONN_CLIENT && !error)
		readahead_answered(c, f);
	if (error) {
		core_note_error(c, "read from the origin", error);
		if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD && f->wide)
			readahead_failed(c);
		fetch_finish(c, f, END_ORIGIN, error);
	} else if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && f->verify) {
		verify_arrived(c, f);
	} else {
		fetch_store(c, f);
	}
	core_run(c);
}

void core_conn_up(struct core *c, unsigned conn, const struct conn_state *state)
{
	c->conn[conn] = *state;
	c->conn[conn].up = true;
	c->conn_up_ms[conn] = c->now_ms;
	c->kick = true;
	core_run(c);
}

/* What was asked over this connection is asked again, but for what was read ahead and nobody waits for. */
void fetch_conn_lost(struct core *c, unsigned conn)
{
	struct fetch *f = c->sent[conn];
	const struct request *r;

	c->conn[conn].up = false;
	c->sent[conn] = NULL;
	c->sent_tail[conn] = &c->sent[conn];
	while (f) {
		struct fetch *next = f->next;

		fetch_release(c, f);
		r = f->waiters;
		if (f->kind == CONN_CLIENT && !r && !f->io.job.owner)
			fetch_finish(c, f, END_GIVE_UP, EIO);
		else
			fetch_queue(c, f, r ? r->owner : f->io.job.owner);
		for (; r; r = r->next)
			fetch_hurry(c, f, r->owner);
		f = next;
	}
	copier_conn_down(c, conn);
	if (ENABLE_FEATURE_XNBD_SERVER_ORIGIN_HOLES)
		status_conn_lost(c, conn);
	rtt_reset(c);
	c->kick = true;
}

void core_conn_down(struct core *c, unsigned conn)
{
	/* One that has lasted so long was of use, also if nobody had a request for it. */
	if (c->conn[conn].up && c->now_ms - c->conn_up_ms[conn] >= c->hold_ms)
		c->lost = false;
	fetch_conn_lost(c, conn);
	if (c->lost)
		fetch_expire(c);
	core_run(c);
}
