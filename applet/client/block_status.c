/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The answers to BLOCK_STATUS: a chunk for each metadata context that was selected. */
#include "libbb.h"
#include "client/block_status.h"

uint32_t status_bytes(const struct nbd_server_handshake *h)
{
	/* What the core tells of base:allocation, and a chunk for x-xnbd:local. */
	return sizeof(struct extents) * (h->allocation + h->local) + (h->local ? STATUS_HEAD_BYTES : 0);
}

/* Header and context id of a chunk with n extents. Returns the byte after them. */
static uint8_t *put_head(uint8_t *p, uint64_t cookie, bool last, uint32_t id, unsigned n)
{
	nbd_chunk_encode(p, last ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_BLOCK_STATUS, cookie, 4 + 8 * n);
	return nbd_put32(p + NBD_CHUNK_BYTES, id);
}

/* In place: what the core has filled in, as it goes over the wire. */
static uint8_t *put_extents(uint8_t *p, struct extents *e, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		struct extent v = e->extent[i];

		p = nbd_put32(nbd_put32(p, v.length), v.flags);
	}
	return p;
}

/* At most `room` extents of x-xnbd:local from r's offset on. Returns how many. */
static unsigned put_local(uint8_t *p, const struct map *m, const struct request *r, unsigned room)
{
	uint64_t at = r->offset, end = at + r->length;
	unsigned n;

	for (n = 0; n < room && at < end; n++) {
		uint64_t block = at / BLOCK_BYTES;
		bool local = map_is_local(m, block);
		uint64_t stop = (local ? map_next_missing : map_next_local)(m, block, map_blocks(end)) * BLOCK_BYTES;

		stop = stop < end ? stop : end;
		p = nbd_put32(nbd_put32(p, (uint32_t)(stop - at)), local ? NBD_STATE_LOCAL : 0);
		at = stop;
	}
	return n;
}

/* Holes of a file system, or of an origin, may be smaller than our sectors: "data" is never wrong. */
static void keep_to_sectors(struct extents *e, const struct request *r, uint32_t unit)
{
	uint32_t all = 0;
	unsigned i;

	for (i = 0; i < e->count; i++)
		all |= e->extent[i].length;
	if (all & (unit - 1))
		*e = (struct extents){ .count = 1, .extent = { { .length = r->length } } };
}

uint32_t status_encode(const struct nbd_server_handshake *h, const struct map *m, const struct request *r, uint32_t unit,
		       uint64_t cookie, uint8_t *head)
{
	unsigned most = r->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	struct extents *e = r->buf;
	uint8_t *data = (uint8_t *)e->extent;
	uint8_t *p;
	unsigned n;

	if (!h->allocation) {
		n = put_local(data, m, r, most);
		put_head(head, cookie, true, NBD_XNBD_LOCAL_ID, n);
		return 8 * n;
	}
	if (ENABLE_FEATURE_XNBD_SERVER_SECTORS)
		keep_to_sectors(e, r, unit);
	n = e->count < most ? e->count : most;
	put_head(head, cookie, !h->local, NBD_BASE_ALLOCATION_ID, n);
	p = put_extents(data, e, n);
	if (!h->local)
		return (uint32_t)(p - data);
	n = put_local(p + STATUS_HEAD_BYTES, m, r, most);
	p = put_head(p, cookie, true, NBD_XNBD_LOCAL_ID, n);
	return (uint32_t)(p - data) + 8 * n;
}
