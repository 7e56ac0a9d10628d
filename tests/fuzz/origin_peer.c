/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The origin of a proxy: answers, and sees that it is asked only what an origin may be. */
#include "origin_peer.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 };

struct peer_disk peer_disk;

/* Every third block is zero, every fifth of a sick disk cannot be read. */
const uint8_t *origin_bytes(void)
{
	static uint8_t *bytes;
	uint64_t i;

	if (bytes)
		return bytes;
	bytes = malloc(ORIGIN_BYTES_MAX);
	for (i = 0; i < ORIGIN_BYTES_MAX; i++)
		bytes[i] = i / BLOCK % 3 == 2 ? 0 : (uint8_t)(1 + i / BLOCK * 31 + i % 251);
	return bytes;
}

static bool is_sick(uint64_t offset, uint32_t n)
{
	uint64_t block;

	for (block = offset / BLOCK; block * BLOCK < offset + n; block++)
		if (block % 5 == 4)
			return true;
	return false;
}

/* ---- handshake -------------------------------------------------------------------- */

static void send_bytes(void *ctx, const void *p, size_t n)
{
	struct origin_peer *o = ctx;

	channel_say(&o->channel, p, n);
}

static const struct nbd_export *find(void *ctx, const char *name, size_t n)
{
	(void)name;
	(void)n;
	return &((struct origin_peer *)ctx)->nbd;
}

static const struct nbd_export *list(void *ctx, const struct nbd_export *after, uint64_t from)
{
	(void)from;
	return after ? NULL : &((struct origin_peer *)ctx)->nbd;
}

static const struct nbd_server_ops ops = { .send = send_bytes, .find = find, .list = list };

static bool speaks(const struct origin_peer *p)
{
	return !peer_disk.by_hand || p->answered < peer_disk.by_self;
}

void origin_peer_begin(struct origin_peer *p, int fd)
{
	channel_open(&p->channel, fd, true);
	memset(&p->handshake, 0, sizeof(p->handshake));
	p->handshake.ops = &ops;
	p->handshake.ctx = p;
	p->nbd = peer_disk.nbd;
	p->transmission = false;
	p->answered = 0;
	if (speaks(p))
		nbd_server_greet(&p->handshake);
}

/* An origin without structured replies does not know the option. */
static size_t refuse_structured(struct origin_peer *p)
{
	const struct channel *c = &p->channel;
	uint8_t reply[20];

	if (peer_disk.structured || !p->handshake.got_client_flags || c->in_bytes < 16 ||
	    nbd_get32(c->in + 8) != NBD_OPT_STRUCTURED_REPLY)
		return 0;
	nbd_put64(reply, NBD_OPT_REPLY_MAGIC);
	nbd_put32(reply + 8, NBD_OPT_STRUCTURED_REPLY);
	nbd_put32(reply + 12, NBD_REP_ERR_UNSUP);
	nbd_put32(reply + 16, 0);
	channel_say(&p->channel, reply, sizeof(reply));
	return 16;
}

static bool handshake_step(struct origin_peer *p)
{
	struct channel *c = &p->channel;
	enum nbd_handshake_state state = NBD_HS_MORE;
	size_t used = refuse_structured(p);

	if (!used)
		state = nbd_server_step(&p->handshake, c->in, c->in_bytes, &used);
	channel_take(c, used);
	p->transmission = state == NBD_HS_DONE;
	if (state == NBD_HS_CLOSE)
		channel_close(c);
	return used != 0;
}

/* ---- requests ------------------------------------------------------------------------ */

/* Rule 8, and what the handshake has said. */
static void check_request(const struct nbd_export *e, const struct nbd_request_header *h)
{
	if (h->type != NBD_CMD_READ && h->type != NBD_CMD_BLOCK_STATUS && h->type != NBD_CMD_DISC)
		finding("the origin is asked for something else than to read");
	if (h->type == NBD_CMD_DISC || peer_disk.by_hand)
		return; /* by hand it may have said anything of its size and blocks */
	if (h->offset > e->size_bytes || h->length > e->size_bytes - h->offset || !h->length)
		finding("the origin is asked beyond its end");
	if (h->type == NBD_CMD_READ && h->length > e->max_payload)
		finding("the origin is asked for too much at a time");
	if (h->offset % e->min_block || (h->length % e->min_block && h->offset + h->length != e->size_bytes))
		finding("the origin is asked for parts of its blocks");
}

static void answer_read(struct origin_peer *p, const struct nbd_request_header *h)
{
	static uint8_t others[ORIGIN_BYTES_MAX];
	uint8_t head[NBD_CHUNK_BYTES + NBD_CHUNK_OFFSET_BYTES];

	if (peer_disk.other && !others[0])
		memset(others, 0xee, sizeof(others));
	if (p->handshake.structured) {
		nbd_chunk_encode(head, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, h->cookie, 8 + h->length);
		nbd_put64(head + NBD_CHUNK_BYTES, h->offset);
		channel_say(&p->channel, head, sizeof(head));
	} else {
		nbd_simple_reply_encode(head, 0, h->cookie);
		channel_say(&p->channel, head, NBD_SIMPLE_REPLY_BYTES);
	}
	channel_say(&p->channel, (peer_disk.other ? others : origin_bytes()) + h->offset, h->length);
}

static void answer_status(struct origin_peer *p, const struct nbd_request_header *h)
{
	uint8_t head[NBD_CHUNK_BYTES + 4 + 8 * 64];
	uint8_t *q = head + NBD_CHUNK_BYTES + 4;
	uint64_t at = h->offset, end = h->offset + h->length;
	unsigned n;

	for (n = 0; at < end && n < 64; n++) {
		uint64_t next = (at / BLOCK + 1) * BLOCK;

		next = next < end ? next : end;
		q = nbd_put32(q, (uint32_t)(next - at));
		q = nbd_put32(q, at / BLOCK % 3 == 2 ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0);
		at = next;
	}
	nbd_chunk_encode(head, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_BLOCK_STATUS, h->cookie, 4 + 8 * n);
	nbd_put32(head + NBD_CHUNK_BYTES, NBD_BASE_ALLOCATION_ID);
	channel_say(&p->channel, head, (size_t)(q - head));
}

static void answer_error(struct origin_peer *p, const struct nbd_request_header *h)
{
	uint8_t head[NBD_CHUNK_BYTES + 6];

	nbd_chunk_encode(head, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, h->cookie, 6);
	nbd_put16(nbd_put32(head + NBD_CHUNK_BYTES, NBD_EIO), 0);
	if (!p->handshake.structured)
		nbd_simple_reply_encode(head, NBD_EIO, h->cookie);
	channel_say(&p->channel, head, p->handshake.structured ? sizeof(head) : NBD_SIMPLE_REPLY_BYTES);
}

static void answer(struct origin_peer *p, const struct nbd_request_header *h)
{
	bool unknown = h->offset > ORIGIN_BYTES_MAX || h->length > ORIGIN_BYTES_MAX - h->offset;

	if (h->type == NBD_CMD_READ && (unknown || (peer_disk.sick && is_sick(h->offset, h->length))))
		answer_error(p, h);
	else if (h->type == NBD_CMD_READ)
		answer_read(p, h);
	else if (h->type == NBD_CMD_BLOCK_STATUS)
		answer_status(p, h);
	p->answered++;
	if (h->type == NBD_CMD_DISC || (peer_disk.leaves && p->answered == peer_disk.leaves))
		channel_close(&p->channel);
}

bool origin_peer_step(struct origin_peer *p, bool forced)
{
	struct channel *c = &p->channel;
	struct nbd_request_header h;
	bool did = channel_step(c);

	if (c->hung_up && !c->in_bytes)
		channel_close(c);
	if (c->fd < 0 || !(forced || speaks(p)))
		return did;
	if (!p->transmission)
		return handshake_step(p) || did;
	if (c->in_bytes < NBD_REQUEST_BYTES)
		return did;
	if (!nbd_request_decode(c->in, &h)) {
		if (!peer_disk.by_hand)
			finding("the origin is asked something that is no request");
		channel_close(c);
		return true;
	}
	channel_take(c, NBD_REQUEST_BYTES);
	check_request(&p->nbd, &h);
	answer(p, &h);
	return true;
}
