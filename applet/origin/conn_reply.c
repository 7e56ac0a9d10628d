/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A connection: the replies of the origin, simple or structured. */
#include "libbb.h"
#include "origin/conn.h"
#include "origin/origin.h"
#include "reactor/verbose.h"

enum { MESSAGE_MAX = 65536 }; /* longest error chunk that is believed */

static struct pending *pending_find(struct conn *l, uint64_t cookie)
{
	struct pending *p = l->pending;

	while (p && p->cookie != cookie)
		p = p->next;
	return p;
}

static void pending_remove(struct conn *l, struct pending *p)
{
	struct pending **q = &l->pending;

	while (*q != p)
		q = &(*q)->next;
	*q = p->next;
	if (!p->next)
		l->pending_tail = q;
}

/* The origin refuses p, a READ. */
static void tell_error(const struct conn *l, const struct pending *p)
{
	char host[VERBOSE_WORD];
	const struct origin_address *a = origin_address(l->origin);
	const char *port = a->port;

	verbose_word(host, sizeof(host), a->host, strlen(a->host));
	verbose_line(VERBOSE_DISK, "origin %s:%s: read of %u bytes at %llu: %s event=origin-error origin=%s:%s offset=%llu bytes=%u errno=%d",
		     host, port, p->length, (unsigned long long)p->offset, strerror(p->error), host, port,
		     (unsigned long long)p->offset, p->length, p->error);
}

/* The last chunk, or the only reply, has come. False: it was not a whole answer. */
static bool reply_end(struct conn *l, struct pending *p)
{
	int error = p->error;

	if (error && p->kind == PENDING_READ) {
		origin_disk(l->origin)->origin_errors++;
		if (is_verbose())
			tell_error(l, p);
	}
	if (error == ESHUTDOWN) { /* "MUST initiate a soft disconnect"; the next one is asked again */
		conn_fail(l, "it is shutting down");
		return true;
	}
	if (!error && p->kind == PENDING_STATUS && !p->extents->count)
		return false;
	if (!error && p->kind != PENDING_STATUS && !nbd_gaps_filled(&p->gaps))
		return false;
	l->part = PART_HEADER;
	l->reply = NULL;
	pending_remove(l, p);
	if (p->kind == PENDING_SAMPLE)
		conn_sample_done(l, p, error);
	else if (p->kind == PENDING_READ)
		core_conn_data(origin_core(l->origin), l->slot, p->cookie, error);
	else
		core_conn_status(origin_core(l->origin), p->cookie, error, p->extents->extent, p->extents->count);
	free(p);
	return true;
}

static bool chunk_end(struct conn *l)
{
	l->part = PART_HEADER;
	if (l->head.structured && !(l->head.flags & NBD_REPLY_FLAG_DONE))
		return true;
	return reply_end(l, l->reply);
}

static bool simple_reply(struct conn *l)
{
	struct pending *p = l->reply;

	if (l->head.error) {
		p->error = nbd_errno_from_error(l->head.error);
		return reply_end(l, p);
	}
	/* "Structured replies": once negotiated, READ is answered with nothing else. */
	if (p->kind == PENDING_STATUS || l->handshake.structured)
		return false;
	nbd_gaps_fill(&p->gaps, 0, p->length);
	l->data = p->buf;
	l->left = p->length;
	l->part = PART_DATA;
	return true;
}

/* The head of a chunk: how many bytes of fixed fields follow? */
static bool chunk_begin(struct conn *l)
{
	const struct nbd_reply_header *h = &l->head;
	bool status = l->reply->kind == PENDING_STATUS;

	l->part = PART_FIXED;
	if (!l->handshake.structured)
		return false;
	if (h->type & NBD_REPLY_TYPE_ERR) {
		l->need = 6;
		return h->length >= 6 && h->length <= MESSAGE_MAX;
	}
	switch (h->type) {
	case NBD_REPLY_TYPE_NONE:
		return h->length == 0 && (h->flags & NBD_REPLY_FLAG_DONE) && chunk_end(l);
	case NBD_REPLY_TYPE_OFFSET_DATA:
		l->need = 8;
		return !status && h->length > 8;
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		l->need = 12;
		return !status && h->length == 12;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		l->need = 4;
		return status && h->length >= 12 && h->length % 8 == 4;
	default:
		return false;
	}
}

/* The fixed fields of a chunk have come, at p. */
static bool chunk_fixed(struct conn *l, const uint8_t *p)
{
	struct pending *r = l->reply;
	const struct nbd_reply_header *h = &l->head;
	uint64_t offset;
	uint32_t n;

	l->left = h->length - l->need;
	if (h->type & NBD_REPLY_TYPE_ERR) {
		r->error = nbd_errno_from_error(nbd_get32(p));
		l->part = PART_SKIP;
		return r->error != 0;
	}
	if (h->type == NBD_REPLY_TYPE_BLOCK_STATUS) {
		l->part = PART_EXTENTS;
		return nbd_get32(p) == l->handshake.allocation_id && !r->extents->count; /* one chunk for a context */
	}
	offset = nbd_get64(p);
	n = h->type == NBD_REPLY_TYPE_OFFSET_HOLE ? nbd_get32(p + 8) : l->left;
	if (offset < r->offset || !nbd_gaps_fill(&r->gaps, offset - r->offset, n))
		return false;
	l->data = r->buf + (offset - r->offset);
	l->part = PART_DATA;
	if (h->type == NBD_REPLY_TYPE_OFFSET_HOLE)
		memset(l->data, 0, n);
	return true;
}

/* Only the last one may go beyond what was asked for. */
static bool parse_extent(struct conn *l, const uint8_t *p)
{
	struct pending *r = l->reply;
	struct extents *e = r->extents;
	struct extent v = { .length = nbd_get32(p), .flags = nbd_get32(p + 4) };

	l->left -= 8;
	if (!v.length || !r->length)
		return false;
	r->length -= v.length < r->length ? v.length : r->length;
	if (e->count < EXTENTS_MAX)
		e->extent[e->count++] = v;
	return true;
}

/* Takes one part of what was received. 1: took something; 0: needs more; -1: this
 * is not NBD. */
static int parse_part(struct conn *l)
{
	uint8_t *p = l->in + l->in_first;
	uint32_t have = l->in_end - l->in_first;
	uint32_t n;
	int head;

	switch (l->part) {
	case PART_HEADER:
		head = nbd_reply_decode(p, have, &l->head);
		if (head <= 0)
			return head;
		l->in_first += (uint32_t)head;
		l->reply = pending_find(l, l->head.cookie);
		if (!l->reply)
			return -1;
		return (l->head.structured ? chunk_begin(l) : simple_reply(l)) ? 1 : -1;
	case PART_FIXED:
		if (have < l->need)
			return 0;
		l->in_first += l->need;
		return chunk_fixed(l, p) ? 1 : -1;
	case PART_EXTENTS:
		if (!l->left)
			return chunk_end(l) ? 1 : -1;
		if (have < 8)
			return 0;
		l->in_first += 8;
		return parse_extent(l, p) ? 1 : -1;
	default: /* PART_DATA, PART_SKIP */
		if (!l->left)
			return chunk_end(l) ? 1 : -1;
		n = have < l->left ? have : l->left;
		if (l->part == PART_DATA) {
			memcpy(l->data, p, n);
			l->data += n;
		}
		l->in_first += n;
		l->left -= n;
		return n != 0;
	}
}

void conn_parse_replies(struct conn *l)
{
	int took = 1;

	while (l->phase >= CONN_VERIFY && took > 0)
		took = parse_part(l);
	if (l->phase >= CONN_VERIFY && took < 0)
		conn_fail(l, "it broke the NBD protocol");
}
