/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * BLOCK_STATUS of clients.
 *
 * Local blocks are answered from the image. About missing blocks the origin is asked, if it offers base:allocation: its
 * answer is passed on for those that are still missing when it comes. A block that became local meanwhile may have been
 * written: the image is asked instead. So "zero" is only reported for data that was zero at some moment after the
 * request.
 *
 * "Data" is never wrong. It is the answer wherever the origin has none: it is lost, refuses, or
 * takes longer than STATUS_WAIT_MS or --hold. So nobody waits for an origin that is silent.
 */
//config:config FEATURE_XNBD_SERVER_ORIGIN_HOLES
//config:	bool "Holes of the origin (800 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY && FEATURE_XNBD_SERVER_STRUCTURED
//config:	help
//config:	Clients of a proxy are told where the origin has holes, so that nobody
//config:	fetches them. Without this, what is not here is data.
#include "core/checked.h"
#include "nbd/nbd.h"

#include <stdlib.h>

/* A question to the origin. */
struct query {
	struct query *next; /* by age */
	struct request *r;  /* NULL: has been answered, or its client has gone */
	uint64_t cookie;
	uint64_t start;     /* bytes: the origin was asked from here on */
	unsigned conn;
};

/* Answers r, whose first block is missing, with what these extents, from byte `at` on, say of it; if
 * they do not reach it, all of it is data. */
static void status_tell(struct core *c, struct request *r, uint64_t at, const struct extent *e, unsigned count)
{
	struct extents *out = r->buf;
	uint64_t end = r->offset + r->length;

	out->count = 0;
	for (; count && at < end; at += e++->length, count--) {
		uint64_t from = at > r->offset ? at : r->offset;
		uint64_t stop = at + e->length < end ? at + e->length : end;

		if (from >= stop)
			continue;
		out->extent[out->count].length = (uint32_t)(stop - from);
		out->extent[out->count++].flags = e->flags & (NBD_STATE_HOLE | NBD_STATE_ZERO);
	}
	if (!out->count) {
		out->count = 1;
		out->extent[0].length = r->length;
		out->extent[0].flags = 0;
	}
	request_reply(c, r, NBD_SUCCESS);
}

/* Cuts r where local blocks end, or missing ones. Returns whether its first block is local. */
static bool status_cut(const struct core *c, struct request *r)
{
	uint64_t first = r->offset / BLOCK_BYTES, end = map_blocks(r->offset + r->length);
	bool local = map_is_local(&c->map, first);
	uint64_t stop = (local ? map_next_missing : map_next_local)(&c->map, first, end);

	if (stop < end)
		r->length = (uint32_t)(stop * BLOCK_BYTES - r->offset);
	return local;
}

/* Asks the origin about r, in its own blocks. False: it cannot be asked, or need not. */
static bool query_send(struct core *c, struct request *r)
{
	unsigned slot, n = 0;
	const struct conn_state *conn = fetch_conn(c, CONN_CLIENT, &slot);
	struct query *q, **tail;
	uint64_t unit, length;

	for (tail = &c->queries; *tail; tail = &(*tail)->next)
		n++;
	if (!conn || !conn->can_status || n >= QUERIES_MAX || status_cut(c, r))
		return false;
	q = calloc(1, sizeof(*q));
	if (!q)
		return false;
	unit = (uint64_t)conn->unit_blocks * BLOCK_BYTES;
	q->r = r;
	q->conn = slot;
	q->cookie = ++c->last_cookie;
	q->start = r->offset / unit * unit;
	length = (r->offset + r->length - q->start + unit - 1) / unit * unit;
	if (length > c->size_bytes - q->start)
		length = c->size_bytes - q->start;
	*tail = q;
	port_conn_status(c, slot, q->cookie, q->start, (uint32_t)(length < STATUS_BYTES_MAX ? length : STATUS_BYTES_MAX));
	return true;
}

/* Answers r: of missing blocks, with these extents from byte `start` on. */
static void status_finish(struct core *c, struct request *r, uint64_t start, const struct extent *e, unsigned count)
{
	if (status_cut(c, r))
		request_find_data(c, r);
	else
		status_tell(c, r, start, e, count);
}

void status_begin(struct core *c, struct request *r)
{
	if (!ENABLE_FEATURE_XNBD_SERVER_ORIGIN_HOLES || !query_send(c, r))
		status_finish(c, r, 0, NULL, 0);
}

/* The end of a question: these extents, or none, are what has come of it. */
static void query_end(struct core *c, struct query **p, const struct extent *e, unsigned count)
{
	struct query *q = *p;

	*p = q->next;
	if (q->r)
		status_finish(c, q->r, q->start, e, count);
	free(q);
}

bool status_answered(struct core *c, uint64_t cookie, int error, const struct extent *e, unsigned count)
{
	struct query **p = &c->queries;

	while (*p && (*p)->cookie != cookie)
		p = &(*p)->next;
	if (!*p)
		return false;
	query_end(c, p, e, error ? 0 : count < EXTENTS_MAX ? count : EXTENTS_MAX);
	return true;
}

void status_conn_lost(struct core *c, unsigned conn)
{
	struct query **p = &c->queries;

	while (*p)
		if ((*p)->conn == conn)
			query_end(c, p, NULL, 0);
		else
			p = &(*p)->next;
}

void status_expire(struct core *c)
{
	uint64_t most = c->hold_ms && c->hold_ms < STATUS_WAIT_MS ? c->hold_ms : STATUS_WAIT_MS;
	struct query *q;

	for (q = c->queries; q; q = q->next) {
		struct request *r = q->r;

		if (!r || c->now_ms - r->begun_ms < most)
			continue;
		q->r = NULL;
		status_finish(c, r, 0, NULL, 0);
	}
}

void status_abandon(struct core *c, struct request *r)
{
	struct query *q = c->queries;

	while (q && q->r != r)
		q = q->next;
	if (!q)
		return;
	q->r = NULL;
	status_finish(c, r, 0, NULL, 0);
}
