/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What a client was answered: the handshake as it must be, each reply to a request that was
 * made, no request answered twice, and of a disk that nobody writes to the right bytes.
 */
#include "client_check.h"
#include "nbd/nbd.h"
#include "origin_peer.h"
#include "world.h"

#include <string.h>

enum { REQUESTS_MAX = 4096, HANDSHAKE_MAX = 256 << 10 };

struct client_disk client_disk;

struct asked {
	struct nbd_request_header h;
	bool answered;
	bool twin; /* another one has its cookie */
	size_t got; /* bytes of a READ, in chunks that have come */
};

static struct asked asked[REQUESTS_MAX];
static unsigned asked_count;

/* ---- the handshake, once more ------------------------------------------------------------ */

static uint8_t said[HANDSHAKE_MAX];
static size_t said_bytes;
static struct nbd_export export;

static void say(void *ctx, const void *p, size_t n)
{
	(void)ctx;
	if (n > sizeof(said) - said_bytes)
		n = sizeof(said) - said_bytes;
	memcpy(said + said_bytes, p, n);
	said_bytes += n;
}

static const struct nbd_export *find(void *ctx, const char *name, size_t n)
{
	(void)ctx;
	(void)name;
	return n ? NULL : &export;
}

static const struct nbd_export *list(void *ctx, const struct nbd_export *after, uint64_t from)
{
	(void)ctx;
	(void)from;
	return after ? NULL : &export;
}

static void export_prepare(void)
{
	export.name = "";
	export.size_bytes = client_disk.size_bytes;
	export.transmission_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE |
				    NBD_FLAG_CAN_MULTI_CONN;
	export.transmission_flags |= client_disk.readonly ? NBD_FLAG_READ_ONLY
							  : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
								    NBD_FLAG_SEND_FAST_ZERO;
	export.min_block = 1;
	export.preferred_block = 4096;
	export.max_payload = NBD_PAYLOAD_MAX;
	export.allocation = true;
	export.local = client_disk.proxy;
}

/* Returns the bytes of the log that it took, SIZE_MAX when it has not ended well. */
static size_t handshake(struct nbd_server_handshake *h, const struct channel *c)
{
	static const struct nbd_server_ops ops = { .send = say, .find = find, .list = list };
	enum nbd_handshake_state state;
	size_t at = 0, used;

	export_prepare();
	memset(h, 0, sizeof(*h));
	h->ops = &ops;
	said_bytes = 0;
	if (client_disk.oldstyle) {
		nbd_server_greet_oldstyle(h, &export);
		return 0;
	}
	nbd_server_greet(h);
	do {
		state = nbd_server_step(h, c->log + at, c->log_bytes - at, &used);
		at += used;
	} while (state == NBD_HS_MORE && used);
	return state == NBD_HS_DONE ? at : SIZE_MAX;
}

/* ---- requests and replies ------------------------------------------------------------------ */

/* The whole requests of n bytes. */
static void take_requests(const uint8_t *p, size_t n)
{
	unsigned i;

	asked_count = 0;
	while (n >= NBD_REQUEST_BYTES && asked_count < REQUESTS_MAX) {
		struct asked *a = &asked[asked_count];
		size_t bytes = NBD_REQUEST_BYTES;

		if (!nbd_request_decode(p, &a->h) || a->h.type == NBD_CMD_DISC)
			return;
		if (a->h.type == NBD_CMD_WRITE)
			bytes += a->h.length;
		if (bytes > n)
			return;
		a->answered = a->twin = false;
		a->got = 0;
		for (i = 0; i < asked_count; i++)
			if (asked[i].h.cookie == a->h.cookie)
				asked[i].twin = a->twin = true;
		asked_count++;
		p += bytes;
		n -= bytes;
	}
}

/* With structured replies, READ and BLOCK_STATUS have no others where they succeed. */
static bool fits(const struct nbd_request_header *h, const struct nbd_reply_header *r)
{
	if (h->cookie != r->cookie)
		return false;
	if (!r->structured || r->type & NBD_REPLY_TYPE_ERR)
		return true;
	return h->type == (r->type == NBD_REPLY_TYPE_BLOCK_STATUS ? NBD_CMD_BLOCK_STATUS : NBD_CMD_READ);
}

static struct asked *find_asked(const struct nbd_reply_header *r)
{
	struct asked *open = NULL, *taken = NULL;
	unsigned i;

	for (i = 0; i < asked_count; i++) {
		if (asked[i].answered) {
			if (asked[i].twin && fits(&asked[i].h, r))
				taken = &asked[i];
			continue;
		}
		if (fits(&asked[i].h, r))
			return &asked[i];
		if (asked[i].h.cookie == r->cookie)
			open = &asked[i];
	}
	if (!open || !taken)
		finding("an answer to what was not asked, or a second one");
	/* An error of one cookie for two requests was counted for the other of them. */
	open->answered = true;
	return taken;
}

static void check_data(uint64_t offset, const uint8_t *p, size_t n)
{
	if (offset > client_disk.size_bytes || n > client_disk.size_bytes - offset)
		finding("bytes from beyond the end of the disk");
	if (client_disk.readonly && memcmp(p, origin_bytes() + offset, n) != 0)
		finding("a client has read a wrong byte");
}

static void check_zeroes(uint64_t offset, size_t n)
{
	static const uint8_t zeroes[4096];
	size_t part;

	for (; n; n -= part, offset += part) {
		part = n < sizeof(zeroes) ? n : sizeof(zeroes);
		check_data(offset, zeroes, part);
	}
}

/* A READ may be answered in chunks, which come in order; with DF in one. */
static void check_chunk(struct asked *a, const struct nbd_reply_header *r, const uint8_t *p)
{
	bool hole = r->type == NBD_REPLY_TYPE_OFFSET_HOLE;
	size_t n = hole ? nbd_get32(p + 8) : r->type == NBD_REPLY_TYPE_OFFSET_DATA ? r->length - NBD_CHUNK_OFFSET_BYTES : 0;

	if (hole && (r->length != NBD_CHUNK_HOLE_BYTES || !n))
		finding("a hole chunk of another length, or an empty hole");
	if (n && (nbd_get64(p) != a->h.offset + a->got || n > a->h.length - a->got))
		finding("a chunk with other bytes than are to come");
	if (n && a->got && a->h.flags & NBD_CMD_FLAG_DF)
		finding("a second chunk in answer to a READ that wants one");
	if (hole)
		check_zeroes(a->h.offset + a->got, n);
	else
		check_data(a->h.offset + a->got, p + NBD_CHUNK_OFFSET_BYTES, n);
	a->got += n;
	if (r->flags & NBD_REPLY_FLAG_DONE && a->got != a->h.length)
		finding("a READ is answered, and bytes are missing");
}

/* The body of a reply to a, of which n bytes at p are here; its length. */
static size_t check_body(struct asked *a, const struct nbd_reply_header *r, const uint8_t *p, size_t n)
{
	size_t bytes = r->structured ? r->length : a->h.type == NBD_CMD_READ && !r->error ? a->h.length : 0;

	if (a->twin || bytes > n || a->h.type != NBD_CMD_READ || r->error || (r->structured && r->type & NBD_REPLY_TYPE_ERR))
		return bytes;
	if (r->structured)
		check_chunk(a, r, p);
	else
		check_data(a->h.offset, p, bytes);
	return bytes;
}

/* False: a simple reply may be to one READ or to another, nobody knows how long it is. */
static bool check_replies(const uint8_t *p, size_t n, bool structured)
{
	struct nbd_reply_header r;
	struct asked *a;
	size_t bytes;
	int head;

	while ((head = nbd_reply_decode(p, n, &r)) > 0) {
		if (r.structured && !structured)
			finding("a chunk that nobody can use");
		a = find_asked(&r);
		if (structured && !r.structured && a->h.type == NBD_CMD_READ && !a->twin)
			finding("a simple reply to a READ, after structured ones were negotiated");
		if (a->twin && !r.structured)
			return false;
		a->answered = !r.structured || r.flags & NBD_REPLY_FLAG_DONE;
		bytes = (size_t)head + check_body(a, &r, p + head, n - (size_t)head);
		if (bytes > n)
			return true; /* the rest is under way */
		p += bytes;
		n -= bytes;
	}
	if (head < 0)
		finding("a reply that is none");
	return true;
}

bool client_check(const struct channel *c)
{
	struct nbd_server_handshake h;
	size_t taken, n;
	unsigned i;

	if (c->fd < 0 || !c->in || c->lost || client_disk.unknown)
		return true;
	taken = handshake(&h, c);
	n = c->in_bytes < said_bytes ? c->in_bytes : said_bytes;
	if (memcmp(c->in, said, n) != 0)
		finding("another handshake than was to come");
	if (taken == SIZE_MAX) {
		if (c->in_bytes > said_bytes)
			finding("it goes on after a handshake that has failed");
		return true;
	}
	take_requests(c->log + taken, c->log_bytes - taken);
	if (!check_replies(c->in + n, c->in_bytes - n, h.structured))
		return true;
	for (i = 0; i < asked_count; i++)
		if (!asked[i].answered)
			return c->unread || c->hung_up || c->out_bytes;
	return true;
}
