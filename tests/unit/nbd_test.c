/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Tests of applet/nbd: the wire, the gaps, both handshakes, and each handshake
 * against the other.
 *
 * A handshake gets its input in a malloc'ed copy that ends where the input ends, so
 * that the sanitizer sees a read past it; all at once, byte by byte, and in pieces
 * of random size, which must make no difference.
 */
#include "nbd/nbd.h"
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* ---- helpers ----------------------------------------------------------------------- */

static uint64_t seed = 1;

static uint32_t random_below(uint32_t n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % n;
}

struct buf {
	uint8_t *p;
	size_t n;
};

static void put(struct buf *b, const void *p, size_t n)
{
	b->p = realloc(b->p, b->n + n + 1);
	if (!b->p)
		abort();
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void put16(struct buf *b, uint16_t v)
{
	uint8_t p[2];

	nbd_put16(p, v);
	put(b, p, sizeof(p));
}

static void put32(struct buf *b, uint32_t v)
{
	uint8_t p[4];

	nbd_put32(p, v);
	put(b, p, sizeof(p));
}

static void put64(struct buf *b, uint64_t v)
{
	uint8_t p[8];

	nbd_put64(p, v);
	put(b, p, sizeof(p));
}

static const uint8_t zeroes[NBD_OPTION_MAX + 8];

static void put_zeroes(struct buf *b, size_t n)
{
	put(b, zeroes, n);
}

/* A string with its length in front. */
static void put_string(struct buf *b, const char *s)
{
	put32(b, (uint32_t)strlen(s));
	put(b, s, strlen(s));
}

static void put_option(struct buf *b, uint32_t option, const void *data, size_t n)
{
	put64(b, NBD_OPTION_MAGIC);
	put32(b, option);
	put32(b, (uint32_t)n);
	put(b, data, n);
}

static void put_reply(struct buf *b, uint32_t option, uint32_t type, const void *data, size_t n)
{
	put64(b, NBD_OPT_REPLY_MAGIC);
	put32(b, option);
	put32(b, type);
	put32(b, (uint32_t)n);
	put(b, data, n);
}

static void drop(struct buf *b)
{
	free(b->p);
	b->p = NULL;
	b->n = 0;
}

static void drop_first(struct buf *b, size_t n)
{
	if (n)
		memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

static bool same(const struct buf *a, const struct buf *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n));
}

static void send_to_buf(void *ctx, const void *p, size_t n)
{
	put(ctx, p, n);
}

typedef enum nbd_handshake_state step_function(void *h, const uint8_t *in, size_t n, size_t *used);

static enum nbd_handshake_state server_step(void *h, const uint8_t *in, size_t n, size_t *used)
{
	return nbd_server_step(h, in, n, used);
}

static enum nbd_handshake_state client_step(void *h, const uint8_t *in, size_t n, size_t *used)
{
	return nbd_client_step(h, in, n, used);
}

enum { AT_ONCE, BYTEWISE, IN_PIECES, WAYS };

static size_t piece(int way, size_t left)
{
	size_t n = way == AT_ONCE ? left : way == BYTEWISE ? 1 : 1 + random_below(40);

	return n < left ? n : left;
}

/* All that nbd.h promises to callers of a step, on every call of this test. */
static bool promises_kept = true;

/* Gives `n` bytes in the given way. *used: how many were consumed in all. */
static enum nbd_handshake_state feed(step_function *step, void *h, const uint8_t *in, size_t n, int way, size_t *used)
{
	enum nbd_handshake_state state = NBD_HS_MORE;
	size_t have = 0, took;

	*used = 0;
	do {
		have += piece(way, n - have);
		do {
			size_t given = have - *used;
			uint8_t *exact = malloc(given);

			if (given)
				memcpy(exact, in + *used, given);
			state = step(h, exact, given, &took);
			free(exact);
			promises_kept &= took <= given;
			promises_kept &= state != NBD_HS_MORE || took || given < NBD_OPTION_MAX + 20;
			*used += took;
		} while (state == NBD_HS_MORE && took);
	} while (state == NBD_HS_MORE && have < n);
	return state;
}

/* ---- wire.c ------------------------------------------------------------------------ */

static void test_numbers(void)
{
	static const uint8_t raw[8] = { 0xf1, 0x02, 0x83, 0x04, 0x95, 0x06, 0xa7, 0x08 };
	uint8_t p[9];

	CHECK(nbd_get16(raw) == 0xf102);
	CHECK(nbd_get32(raw) == 0xf1028304);
	CHECK(nbd_get64(raw) == 0xf10283049506a708ULL);
	CHECK(nbd_get32(raw + 1) == 0x02830495); /* not aligned */
	memset(p, 0xee, sizeof(p));
	CHECK(nbd_put16(p, 0xf102) == p + 2 && !memcmp(p, raw, 2) && p[2] == 0xee);
	CHECK(nbd_put32(p, 0xf1028304) == p + 4 && !memcmp(p, raw, 4) && p[4] == 0xee);
	CHECK(nbd_put64(p, 0xf10283049506a708ULL) == p + 8 && !memcmp(p, raw, 8) && p[8] == 0xee);
}

static void test_request(void)
{
	static const uint8_t raw[] = "\x25\x60\x95\x13\x00\x14\x00\x06" /* magic, flags, type */
				     "\x80\x01\x02\x03\x04\x05\x06\xff" /* cookie */
				     "\x7f\xff\xff\xff\xff\xff\xf0\x00" /* offset */
				     "\xff\x00\x00\x01";
	const struct nbd_request_header want = { 0x14, NBD_CMD_WRITE_ZEROES, 0x80010203040506ffULL, 0x7ffffffffffff000,
						 0xff000001 };
	struct nbd_request_header h;
	uint8_t p[NBD_REQUEST_BYTES + 1];

	CHECK(sizeof(raw) - 1 == NBD_REQUEST_BYTES);
	p[NBD_REQUEST_BYTES] = 0xee;
	nbd_request_encode(p, &want);
	CHECK(!memcmp(p, raw, NBD_REQUEST_BYTES) && p[NBD_REQUEST_BYTES] == 0xee);
	CHECK(nbd_request_decode(p, &h));
	CHECK(h.flags == want.flags && h.type == want.type && h.cookie == want.cookie);
	CHECK(h.offset == want.offset && h.length == want.length);
	p[3] ^= 1;
	CHECK(!nbd_request_decode(p, &h));
}

/* Decodes the first n bytes of raw, which end where the memory ends. */
static int decode_exact(const uint8_t *raw, size_t n, struct nbd_reply_header *h)
{
	uint8_t *exact = malloc(n);
	int size;

	memcpy(exact, raw, n);
	size = nbd_reply_decode(exact, n, h);
	free(exact);
	return size;
}

static void test_replies(void)
{
	static const uint8_t simple[] = "\x67\x44\x66\x98\x00\x00\x00\x05\x80\x01\x02\x03\x04\x05\x06\xff";
	static const uint8_t chunk[] = "\x66\x8e\x33\xef\x00\x01\x80\x02\x80\x01\x02\x03\x04\x05\x06\xff\x01\x02\x03\x04";
	struct nbd_reply_header h;
	uint8_t p[NBD_CHUNK_BYTES + 1];
	size_t n;

	p[NBD_SIMPLE_REPLY_BYTES] = 0xee;
	nbd_simple_reply_encode(p, NBD_EIO, 0x80010203040506ffULL);
	CHECK(!memcmp(p, simple, NBD_SIMPLE_REPLY_BYTES) && p[NBD_SIMPLE_REPLY_BYTES] == 0xee);
	p[NBD_CHUNK_BYTES] = 0xee;
	nbd_chunk_encode(p, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR_OFFSET, 0x80010203040506ffULL, 0x01020304);
	CHECK(!memcmp(p, chunk, NBD_CHUNK_BYTES) && p[NBD_CHUNK_BYTES] == 0xee);

	for (n = 0; n < NBD_SIMPLE_REPLY_BYTES; n++)
		CHECK(decode_exact(simple, n, &h) == 0);
	for (n = 0; n < NBD_CHUNK_BYTES; n++)
		CHECK(decode_exact(chunk, n, &h) == 0);
	CHECK(decode_exact(simple, NBD_SIMPLE_REPLY_BYTES, &h) == NBD_SIMPLE_REPLY_BYTES);
	CHECK(!h.structured && h.error == NBD_EIO && h.cookie == 0x80010203040506ffULL);
	CHECK(!h.flags && !h.type && !h.length);
	CHECK(decode_exact(chunk, NBD_CHUNK_BYTES, &h) == NBD_CHUNK_BYTES);
	CHECK(h.structured && h.flags == NBD_REPLY_FLAG_DONE && h.type == NBD_REPLY_TYPE_ERROR_OFFSET);
	CHECK(h.cookie == 0x80010203040506ffULL && h.length == 0x01020304 && !h.error);
	CHECK(decode_exact((const uint8_t *)"\x25\x60\x95\x13", 4, &h) == -1);
	CHECK(decode_exact((const uint8_t *)"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, &h) == -1);
}

static void test_errors(void)
{
	static const struct {
		int err;
		uint32_t error;
	} both_ways[] = {
		{ 0, 0 },	{ EPERM, 1 },	   { EIO, 5 },	       { ENOMEM, 12 },	   { EINVAL, 22 },
		{ ENOSPC, 28 }, { EOVERFLOW, 75 }, { EOPNOTSUPP, 95 }, { ESHUTDOWN, 108 },
	};
	unsigned i;

	for (i = 0; i < sizeof(both_ways) / sizeof(both_ways[0]); i++) {
		CHECK(nbd_error_from_errno(both_ways[i].err) == both_ways[i].error);
		CHECK(nbd_errno_from_error(both_ways[i].error) == both_ways[i].err);
	}
	CHECK(nbd_error_from_errno(EDQUOT) == NBD_ENOSPC);
	CHECK(nbd_error_from_errno(EFBIG) == NBD_ENOSPC);
	CHECK(nbd_error_from_errno(ENOTCONN) == NBD_EIO);
	CHECK(nbd_error_from_errno(-1) == NBD_EIO);
	CHECK(nbd_errno_from_error(2) == EINVAL);
	CHECK(nbd_errno_from_error(0xffffffff) == EINVAL);
}

static void test_zeroes(void)
{
	uint32_t first, n, i;

	for (first = 0; first < 4; first++)
		for (n = 0; n < 100; n++) {
			uint8_t *p = calloc(1, first + n + 1); /* the sanitizer sees a read past it */

			CHECK(nbd_zeroes(p + first, n) == n);
			for (i = 0; i < n; i++) {
				p[first + i] = 1U << i % 8;
				if (i)
					p[first + i - 1] = 0;
				CHECK(nbd_zeroes(p + first, n) == i);
			}
			p = realloc(p, first + n ? first + n : 1);
			CHECK(nbd_zeroes(p + first, n) == (n ? n - 1 : 0));
			free(p);
		}
}

/* ---- gaps.c ------------------------------------------------------------------------ */

static void test_gaps_edges(void)
{
	struct nbd_gaps g;

	nbd_gaps_init(&g, 0);
	CHECK(nbd_gaps_filled(&g));
	CHECK(!nbd_gaps_fill(&g, 0, 1));
	nbd_gaps_init(&g, 4096);
	CHECK(!nbd_gaps_filled(&g));
	CHECK(!nbd_gaps_fill(&g, 0, 0));
	CHECK(!nbd_gaps_fill(&g, 0, 4097));
	CHECK(!nbd_gaps_fill(&g, 4096, 1));
	CHECK(!nbd_gaps_fill(&g, 1, 4096));
	CHECK(!nbd_gaps_fill(&g, UINT64_MAX, 1));      /* the sum is 0 */
	CHECK(!nbd_gaps_fill(&g, UINT64_MAX - 9, 20)); /* the sum is 10 */
	CHECK(!nbd_gaps_fill(&g, 1ULL << 32, 4096));   /* 32 bits of it are 0 */
	CHECK(nbd_gaps_fill(&g, 0, 4096));
	CHECK(nbd_gaps_filled(&g));
	CHECK(!nbd_gaps_fill(&g, 0, 1));
	nbd_gaps_init(&g, UINT32_MAX);
	CHECK(!nbd_gaps_fill(&g, 1, UINT32_MAX));
	CHECK(nbd_gaps_fill(&g, UINT32_MAX - 1, 1));
	CHECK(nbd_gaps_fill(&g, 0, UINT32_MAX - 1));
	CHECK(nbd_gaps_filled(&g));
}

/* Every second byte, until there are too many gaps; those that are there go on. */
static void test_gaps_too_many(void)
{
	struct nbd_gaps g;
	unsigned i;

	nbd_gaps_init(&g, 1000);
	for (i = 1; i < NBD_GAPS_MAX; i++)
		CHECK(nbd_gaps_fill(&g, 2 * i - 1, 1));
	CHECK(g.count == NBD_GAPS_MAX);
	CHECK(!nbd_gaps_fill(&g, 500, 1));
	CHECK(nbd_gaps_fill(&g, 999, 1));
	for (i = 0; i < NBD_GAPS_MAX - 1; i++)
		CHECK(nbd_gaps_fill(&g, 2 * i, 1));
	CHECK(nbd_gaps_fill(&g, 2 * NBD_GAPS_MAX - 2, 999 - (2 * NBD_GAPS_MAX - 2)));
	CHECK(nbd_gaps_filled(&g));
}

/* One bool a byte is the truth to compare with. */
static bool gaps_like_a_map(uint32_t length)
{
	bool map[64] = { false };
	struct nbd_gaps g;
	uint32_t left = length;
	unsigned tries;

	nbd_gaps_init(&g, length);
	for (tries = 0; tries < 200; tries++) {
		uint32_t first = random_below(length + 4);
		uint32_t n = random_below(9);
		bool free_all = n != 0;
		uint32_t i;

		for (i = first; i < first + n; i++)
			free_all &= i < length && !map[i];
		if (nbd_gaps_fill(&g, first, n)) {
			if (!free_all)
				return false;
			for (i = first; i < first + n; i++)
				map[i] = true;
			left -= n;
		} else if (free_all && g.count != NBD_GAPS_MAX) {
			return false;
		}
		if (nbd_gaps_filled(&g) != !left)
			return false;
	}
	return true;
}

static void test_gaps_random(void)
{
	bool ok = true;
	unsigned i;

	for (i = 0; i < 5000; i++)
		ok &= gaps_like_a_map(1 + random_below(60));
	CHECK(ok);
}

/* ---- server_handshake.c: one server, some exports ------------------------------------- */

enum { DISK_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA };

static char long_name[NBD_NAME_MAX + 2]; /* the first NBD_NAME_MAX bytes are a name */
static char longest_name[NBD_NAME_MAX + 1];

static const struct nbd_export exports[] = {
	{ "disk", 0x123456789a, DISK_FLAGS, 512, 4096, 1 << 20, true, false, "what it is", 0 },
	{ "other", 0, NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY, 1, 4096, NBD_PAYLOAD_MAX, false, false, NULL, 1 },
	{ longest_name, INT64_MAX, DISK_FLAGS, 1, 65536, 0xffffffff, true, true, longest_name, 2 },
};

enum { DISK, OTHER, LONGEST, EXPORTS };

static bool names_kept = true; /* find() was never given what is no name */

static const struct nbd_export *find(void *ctx, const char *name, size_t n)
{
	unsigned i;

	(void)ctx;
	names_kept &= n <= NBD_NAME_MAX && !memchr(name, '\0', n);
	if (!n)
		return &exports[DISK];
	for (i = 0; i < EXPORTS; i++)
		if (strlen(exports[i].name) == n && !memcmp(exports[i].name, name, n))
			return &exports[i];
	return NULL;
}

static unsigned list_room = UINT_MAX; /* how many more exports a list has room for */

static const struct nbd_export *list(void *ctx, const struct nbd_export *after, uint64_t from)
{
	const struct nbd_export *e = after ? after + 1 : exports;

	(void)ctx;
	while (e < exports + EXPORTS && e->serial < from)
		e++;
	return e < exports + EXPORTS ? e : NULL;
}

static bool has_room(void *ctx)
{
	(void)ctx;
	return list_room && list_room--;
}

static const struct nbd_server_ops server_ops = { .send = send_to_buf, .find = find, .list = list, .has_room = has_room };

/* What a client says, and what comes of it. */
struct talk {
	struct buf says;
	struct buf wants; /* the replies it should get */
	struct buf gets;
	struct nbd_server_handshake h;
	enum nbd_tls tls;
	bool hides;
	const struct nbd_server_ops *ops; /* NULL: server_ops */
	enum nbd_handshake_state state;
	size_t used;
};

static void hello(struct talk *t, uint32_t flags)
{
	memset(t, 0, sizeof(*t));
	put32(&t->says, flags);
}

static void hello_structured(struct talk *t)
{
	hello(t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t->says, NBD_OPT_STRUCTURED_REPLY, "", 0);
	put_reply(&t->wants, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, "", 0);
}

static void talk_one_way(struct talk *t, int way)
{
	drop(&t->gets);
	memset(&t->h, 0, sizeof(t->h));
	t->h.ops = t->ops ? t->ops : &server_ops;
	t->h.ctx = &t->gets;
	t->h.tls = t->tls;
	t->h.hides = t->hides;
	t->state = feed(server_step, &t->h, t->says.p, t->says.n, way, &t->used);
}

/* Whether the server says what it should and ends as it should, in all ways. */
static bool talk_ends(struct talk *t, enum nbd_handshake_state state)
{
	bool ok = true;
	int way;

	for (way = 0; way < WAYS; way++) {
		talk_one_way(t, way);
		ok &= t->state == state && same(&t->gets, &t->wants);
		ok &= state == NBD_HS_CLOSE || t->used == t->says.n;
		ok &= (state == NBD_HS_DONE) == (t->h.export != NULL);
	}
	drop(&t->says);
	drop(&t->wants);
	drop(&t->gets);
	return ok;
}

/* Of an option that is refused as invalid. */
static const char *invalid_text(uint32_t option)
{
	return option == NBD_OPT_LIST || option == NBD_OPT_STRUCTURED_REPLY || option == NBD_OPT_STARTTLS ? "it takes no data" : "malformed";
}

/* An option with this data is answered with this error, and the handshake goes on. */
/* Each error has a text for a person. */
static void wants_error(struct talk *t, uint32_t option, uint32_t error)
{
	const char *text = error == NBD_REP_ERR_UNSUP	  ? "not supported"
			   : error == NBD_REP_ERR_TLS_REQD ? "TLS comes first"
			   : error == NBD_REP_ERR_POLICY   ? "no TLS here"
			   : error == NBD_REP_ERR_UNKNOWN ? "no such export; there is: 'disk', 'other', ..."
			   : error == NBD_REP_ERR_TOO_BIG ? "too long"
							  : invalid_text(option);

	put_reply(&t->wants, option, error, text, strlen(text));
}

static void add_refusal(struct talk *t, uint32_t option, const struct buf *data, uint32_t error)
{
	put_option(&t->says, option, data->p, data->n);
	wants_error(t, option, error);
}

/* The same, with this text. */
static void add_refusal_text(struct talk *t, uint32_t option, const struct buf *data, uint32_t error, const char *text)
{
	put_option(&t->says, option, data->p, data->n);
	put_reply(&t->wants, option, error, text, strlen(text));
}

static void test_greetings(void)
{
	struct nbd_server_handshake h = { .ops = &server_ops };
	struct buf out = { 0 }, want = { 0 };

	h.ctx = &out;
	nbd_server_greet(&h);
	put(&want, "NBDMAGICIHAVEOPT\0\1", 18);
	CHECK(same(&out, &want));
	drop(&out);
	drop(&want);
	nbd_server_greet_oldstyle(&h, &exports[DISK]);
	put(&want, "NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\0\0\0\x12\x34\x56\x78\x9a\0\0\0\x0d", 28);
	put_zeroes(&want, 124);
	CHECK(same(&out, &want));
	CHECK(h.export == &exports[DISK]);
	drop(&out);
	drop(&want);
}

static void test_client_flags(void)
{
	struct talk t;
	uint32_t bit;

	for (bit = 1; bit < 32; bit++) { /* NO_ZEROES is not offered */
		hello(&t, NBD_FLAG_FIXED_NEWSTYLE | 1U << bit);
		CHECK(talk_ends(&t, NBD_HS_CLOSE));
	}
	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(t.h.got_client_flags && t.h.fixed && !t.h.structured);
	hello(&t, 0);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(t.h.got_client_flags && !t.h.fixed);
	hello(&t, 0); /* not fixed: nothing but EXPORT_NAME */
	put_option(&t.says, NBD_OPT_LIST, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
	hello(&t, 0);
	put_option(&t.says, NBD_OPT_ABORT, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_LIST, "", 0);
	t.says.p[4 + 7] ^= 1; /* magic */
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
}

static void put_export(struct buf *b, const struct nbd_export *e, bool structured)
{
	put64(b, e->size_bytes);
	put16(b, e->transmission_flags | (structured ? NBD_FLAG_SEND_DF : 0));
}

static void check_export_name(uint32_t flags, const char *name, const struct nbd_export *e)
{
	struct talk t;

	hello(&t, flags);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, name, strlen(name));
	put_export(&t.wants, e, false);
	put_zeroes(&t.wants, 124);
	if (CHECK(talk_ends(&t, NBD_HS_DONE)))
		CHECK(t.h.export == e);
}

static void check_export_name_closes(const void *name, size_t n)
{
	struct talk t;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, name, n);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
}

static void test_export_name(void)
{
	struct talk t;
	uint32_t flags;

	for (flags = 0; flags < 2; flags++) {
		check_export_name(flags, "", &exports[DISK]);
		check_export_name(flags, "disk", &exports[DISK]);
		check_export_name(flags, "other", &exports[OTHER]);
		check_export_name(flags, longest_name, &exports[LONGEST]);
	}
	check_export_name_closes("nothere", 7);
	check_export_name_closes("disk\0", 5);
	check_export_name_closes("\0", 1);
	check_export_name_closes("dis", 3);
	check_export_name_closes(long_name, sizeof(long_name) - 1);
	check_export_name_closes(zeroes, NBD_OPTION_MAX);
	check_export_name_closes(zeroes, sizeof(zeroes));
	hello_structured(&t);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, "disk", 4);
	put_export(&t.wants, &exports[DISK], true);
	put_zeroes(&t.wants, 124);
	CHECK(talk_ends(&t, NBD_HS_DONE));
	CHECK(t.h.structured && !t.h.allocation);
}

/* Requests may come behind the last option: they are not for us. */
static void test_bytes_behind(void)
{
	struct talk t;
	size_t n;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, "disk", 4);
	n = t.says.n;
	put_zeroes(&t.says, 28);
	talk_one_way(&t, AT_ONCE);
	CHECK(t.state == NBD_HS_DONE && t.used == n);
	drop(&t.says);
	drop(&t.gets);
}

static void test_abort(void)
{
	struct talk t;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_ABORT, "", 0);
	put_reply(&t.wants, NBD_OPT_ABORT, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_ABORT, "because", 7);
	put_reply(&t.wants, NBD_OPT_ABORT, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
}

static void test_list(void)
{
	struct talk t;
	unsigned i;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, NBD_OPT_LIST, "x", 1);
	wants_error(&t, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	put_option(&t.says, NBD_OPT_LIST, "", 0);
	for (i = 0; i < EXPORTS; i++) {
		struct buf data = { 0 };

		put_string(&data, exports[i].name);
		if (exports[i].description)
			put(&data, exports[i].description, strlen(exports[i].description));
		put_reply(&t.wants, NBD_OPT_LIST, NBD_REP_SERVER, data.p, data.n);
		drop(&data);
	}
	put_reply(&t.wants, NBD_OPT_LIST, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_MORE));
}

/* One that its client does not read goes on when there is room again, behind what was sent. */
static void test_list_in_parts(void)
{
	struct buf says = { 0 }, whole = { 0 }, parts = { 0 };
	struct nbd_server_handshake h = { .ops = &server_ops, .got_client_flags = true, .fixed = true };
	unsigned i;
	size_t used;

	put_option(&says, NBD_OPT_LIST, "", 0);
	h.ctx = &whole;
	CHECK(nbd_server_step(&h, says.p, says.n, &used) == NBD_HS_MORE && used == says.n && !h.lists);
	h.ctx = &parts;
	for (i = 1; i <= EXPORTS; i++) {
		list_room = 1;
		CHECK(nbd_server_step(&h, says.p, says.n, &used) == NBD_HS_MORE && used == (i == EXPORTS ? says.n : 0) && h.lists == (i < EXPORTS));
	}
	CHECK(same(&parts, &whole));
	list_room = UINT_MAX;
	drop(&says);
	drop(&whole);
	drop(&parts);
}

static void test_hides(void)
{
	static const char refusal[] = "export names are hidden", unknown[] = "no such export";
	struct buf data = { 0 };
	struct talk t;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	t.hides = true;
	put_option(&t.says, NBD_OPT_LIST, "x", 1);
	wants_error(&t, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
	put_option(&t.says, NBD_OPT_LIST, "", 0);
	put_reply(&t.wants, NBD_OPT_LIST, NBD_REP_ERR_POLICY, refusal, strlen(refusal));
	put_string(&data, "nothere");
	put16(&data, 0);
	put_option(&t.says, NBD_OPT_GO, data.p, data.n);
	put_reply(&t.wants, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, unknown, strlen(unknown));
	drop(&data);
	CHECK(talk_ends(&t, NBD_HS_MORE));
}

static void test_unsupported(void)
{
	static const uint32_t options[] = { 0, 4, NBD_OPT_STARTTLS, 11, 0x7fffffff, 0xffffffff };
	struct buf data = { 0 };
	struct talk t;
	unsigned i;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		add_refusal(&t, options[i], &data, NBD_REP_ERR_UNSUP);
		put(&data, "data", 4);
	}
	add_refusal(&t, NBD_OPT_STRUCTURED_REPLY, &data, NBD_REP_ERR_INVALID);
	drop(&data);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(!t.h.structured);
}

static void hello_tls(struct talk *t, enum nbd_tls tls)
{
	hello(t, NBD_FLAG_FIXED_NEWSTYLE);
	t->tls = tls;
}

static void test_starttls(void)
{
	struct buf data = { 0 };
	struct talk t;
	size_t used;

	hello_tls(&t, NBD_TLS_OFF);
	add_refusal(&t, NBD_OPT_STARTTLS, &data, NBD_REP_ERR_POLICY);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	hello_tls(&t, NBD_TLS_DONE);
	add_refusal_text(&t, NBD_OPT_STARTTLS, &data, NBD_REP_ERR_INVALID, "TLS was begun before");
	CHECK(talk_ends(&t, NBD_HS_MORE));
	hello_tls(&t, NBD_TLS_ON);
	put(&data, "x", 1);
	add_refusal(&t, NBD_OPT_STARTTLS, &data, NBD_REP_ERR_INVALID);
	drop(&data);
	put_option(&t.says, NBD_OPT_STARTTLS, "", 0);
	put_reply(&t.wants, NBD_OPT_STARTTLS, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_TLS));
	CHECK(t.h.tls == NBD_TLS_DONE);

	/* What was negotiated in the clear is forgotten, and what is behind is not taken. */
	hello_structured(&t);
	t.tls = NBD_TLS_ON;
	put_option(&t.says, NBD_OPT_STARTTLS, "", 0);
	put_reply(&t.wants, NBD_OPT_STARTTLS, NBD_REP_ACK, "", 0);
	used = t.says.n;
	put_option(&t.says, NBD_OPT_GO, "", 0);
	talk_one_way(&t, AT_ONCE);
	CHECK(t.state == NBD_HS_TLS && t.used == used && !t.h.structured && same(&t.gets, &t.wants));
	drop(&t.says);
	drop(&t.wants);
	drop(&t.gets);
}

static void test_tls_required(void)
{
	static const uint32_t options[] = { 0, NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY,
					    NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, 99, 0xffffffff };
	struct buf data = { 0 };
	struct talk t;
	unsigned i;

	hello_tls(&t, NBD_TLS_REQUIRE);
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		add_refusal(&t, options[i], &data, NBD_REP_ERR_TLS_REQD);
		put_zeroes(&data, i == 5 ? NBD_OPTION_MAX : 3);
	}
	add_refusal(&t, NBD_OPT_STARTTLS, &data, NBD_REP_ERR_TOO_BIG);
	drop(&data);
	put_option(&t.says, NBD_OPT_STARTTLS, "", 0);
	put_reply(&t.wants, NBD_OPT_STARTTLS, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_TLS));
	hello_tls(&t, NBD_TLS_REQUIRE);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
	hello_tls(&t, NBD_TLS_REQUIRE);
	put_option(&t.says, NBD_OPT_ABORT, "", 0);
	put_reply(&t.wants, NBD_OPT_ABORT, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
	hello(&t, 0); /* newstyle, not fixed: there is only EXPORT_NAME */
	t.tls = NBD_TLS_REQUIRE;
	put_option(&t.says, NBD_OPT_EXPORT_NAME, "", 0);
	CHECK(talk_ends(&t, NBD_HS_CLOSE));
}

/* Options too long to read are skipped, whatever they are, and the next one counts. */
static void test_too_big(void)
{
	static const uint32_t options[] = { 99, NBD_OPT_LIST, NBD_OPT_GO, NBD_OPT_SET_META_CONTEXT, NBD_OPT_STRUCTURED_REPLY };
	struct buf data = { 0 };
	struct talk t;
	unsigned i;

	hello_structured(&t);
	put_zeroes(&data, NBD_OPTION_MAX);
	add_refusal(&t, 99, &data, NBD_REP_ERR_UNSUP);
	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		put_zeroes(&data, 1);
		add_refusal(&t, options[i], &data, NBD_REP_ERR_TOO_BIG);
	}
	drop(&data);
	add_refusal(&t, NBD_OPT_STARTTLS, &data, NBD_REP_ERR_UNSUP);
	CHECK(talk_ends(&t, NBD_HS_MORE));
}

/* 4 GiB of it: nothing is answered before they have passed. */
static void test_longest_option(void)
{
	struct talk t;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	put_option(&t.says, 99, "", 0);
	memset(t.says.p + 4 + 12, 0xff, 4);
	put_zeroes(&t.says, 1000);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(t.h.skip_bytes == 0xffffffff - 1000);
}

/* Data of INFO and GO. */
static struct buf go_data(const char *name, unsigned count, const uint16_t *info)
{
	struct buf b = { 0 };

	put_string(&b, name);
	put16(&b, (uint16_t)count);
	while (count--)
		put16(&b, *info++);
	return b;
}

static void want_info(struct buf *wants, uint32_t option, const struct nbd_export *e, bool structured, unsigned which)
{
	struct buf b = { 0 };

	put16(&b, (uint16_t)which);
	if (which == NBD_INFO_EXPORT)
		put_export(&b, e, structured);
	if (which == NBD_INFO_NAME)
		put(&b, e->name, strlen(e->name));
	if (which == NBD_INFO_DESCRIPTION)
		put(&b, e->description, strlen(e->description));
	if (which == NBD_INFO_BLOCK_SIZE) {
		put32(&b, e->min_block);
		put32(&b, e->preferred_block);
		put32(&b, e->max_payload);
	}
	put_reply(wants, option, NBD_REP_INFO, b.p, b.n);
	drop(&b);
}

static void add_go(struct talk *t, uint32_t option, const char *name, unsigned count, const uint16_t *info)
{
	struct buf data = go_data(name, count, info);

	put_option(&t->says, option, data.p, data.n);
	drop(&data);
}

static void check_info_and_go(const char *name, const struct nbd_export *e, unsigned count, const uint16_t *info,
			      const char *shown)
{
	uint32_t option;
	struct talk t;
	const char *c;

	for (option = NBD_OPT_INFO; option <= NBD_OPT_GO; option++) {
		hello(&t, NBD_FLAG_FIXED_NEWSTYLE); /* no 124 zeroes here */
		add_go(&t, option, name, count, info);
		for (c = shown; *c; c++)
			want_info(&t.wants, option, e, false, (unsigned)(*c - '0'));
		put_reply(&t.wants, option, NBD_REP_ACK, "", 0);
		CHECK(talk_ends(&t, option == NBD_OPT_GO ? NBD_HS_DONE : NBD_HS_MORE));
		CHECK(t.h.export == (option == NBD_OPT_GO ? e : NULL));
		CHECK(t.h.sized == (option == NBD_OPT_GO && strchr(shown, '3')));
	}
}

static void test_info_and_go(void)
{
	static const uint16_t info[] = { 3, 3, 0, 17, 1, 2, 0xffff, 3 };
	struct talk t;

	check_info_and_go("", &exports[DISK], 0, info, "0");
	check_info_and_go("disk", &exports[DISK], 1, info, "03");
	check_info_and_go("", &exports[DISK], 8, info, "0123");
	check_info_and_go("other", &exports[OTHER], 2, info + 3, "01");
	check_info_and_go("other", &exports[OTHER], 8, info, "013"); /* it has no description */
	check_info_and_go(longest_name, &exports[LONGEST], 8, info, "0123");
	hello_structured(&t);
	add_go(&t, NBD_OPT_GO, "other", 0, NULL);
	want_info(&t.wants, NBD_OPT_GO, &exports[OTHER], true, NBD_INFO_EXPORT);
	put_reply(&t.wants, NBD_OPT_GO, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_DONE));
	CHECK(t.h.structured);
}

static void test_go_refused(void)
{
	static const uint16_t info[] = { 3, 1 };
	struct buf data;
	struct talk t;
	size_t n;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	data = go_data("disk", 2, info);
	put_zeroes(&data, 1);
	for (n = 0; n <= data.n; n++) { /* too short and too long, but for the right length */
		struct buf part = { data.p, n };

		if (n != data.n - 1)
			add_refusal(&t, n % 2 ? NBD_OPT_GO : NBD_OPT_INFO, &part, NBD_REP_ERR_INVALID);
	}
	drop(&data);
	data = go_data("disk", 0, NULL);
	nbd_put32(data.p, 0xffffffff);
	add_refusal(&t, NBD_OPT_GO, &data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p, 0xfffffffe);
	add_refusal(&t, NBD_OPT_GO, &data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p, 5); /* the name takes a byte of the count */
	add_refusal(&t, NBD_OPT_GO, &data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p, 4);
	data.p[6] = '\0';
	add_refusal(&t, NBD_OPT_GO, &data, NBD_REP_ERR_INVALID);
	data.p[6] = 'x';
	add_refusal(&t, NBD_OPT_GO, &data, NBD_REP_ERR_UNKNOWN);
	drop(&data);
	data = go_data("disk", 0, NULL);
	nbd_put16(data.p + 8, 0xffff);
	add_refusal(&t, NBD_OPT_INFO, &data, NBD_REP_ERR_INVALID);
	drop(&data);
	data = go_data(long_name, 0, NULL);
	add_refusal(&t, NBD_OPT_INFO, &data, NBD_REP_ERR_INVALID);
	drop(&data);
	CHECK(talk_ends(&t, NBD_HS_MORE));
}

/* Data of LIST_META_CONTEXT and SET_META_CONTEXT; the queries end with NULL. */
static struct buf meta_data(const char *name, const char *const *queries)
{
	struct buf b = { 0 };
	uint32_t count = 0;

	while (queries[count])
		count++;
	put_string(&b, name);
	put32(&b, count);
	while (*queries)
		put_string(&b, *queries++);
	return b;
}

static void want_context(struct buf *wants, uint32_t option)
{
	struct buf b = { 0 };

	put32(&b, option == NBD_OPT_SET_META_CONTEXT ? NBD_BASE_ALLOCATION_ID : 0);
	put(&b, "base:allocation", 15);
	put_reply(wants, option, NBD_REP_META_CONTEXT, b.p, b.n);
	drop(&b);
}

/* Asks; `matches`: gets base:allocation. */
static void add_meta(struct talk *t, uint32_t option, const char *name, const char *const *queries, bool matches)
{
	struct buf data = meta_data(name, queries);

	put_option(&t->says, option, data.p, data.n);
	if (matches)
		want_context(&t->wants, option);
	put_reply(&t->wants, option, NBD_REP_ACK, "", 0);
	drop(&data);
}

static const char *const none[] = { NULL };
static const char *const exact[] = { "base:allocation", NULL };

static void test_meta_matches(void)
{
	static const struct {
		bool list, set;
		const char *query[4];
	} cases[] = {
		{ true, false, { NULL } },
		{ true, true, { "base:allocation", NULL } },
		{ true, false, { "base:", NULL } },
		{ true, true, { "x-y:z", "base:allocation", "base:allocation", NULL } },
		{ true, true, { "base:", "base:allocation", NULL } },
		{ true, true, { "base:allocation", "base:allocatioN", "bass:", NULL } },
		{ false, false, { "base:allocatioN", NULL } },
		{ false, false, { "base:allocatio", NULL } },
		{ false, false, { "base:allocation2", "base:alloc", "Base:", NULL } },
		{ false, false, { "qemu:allocation-depth", "nbd-server:", ":", NULL } },
		{ false, false, { "xbase:allocation", "qemu:dirty-bitmap:base:", "bass:", NULL } },
	};
	struct talk t;
	unsigned i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hello_structured(&t);
		add_meta(&t, NBD_OPT_SET_META_CONTEXT, "disk", exact, true); /* is replaced */
		add_meta(&t, NBD_OPT_SET_META_CONTEXT, "", cases[i].query, cases[i].set);
		add_meta(&t, NBD_OPT_LIST_META_CONTEXT, "", cases[i].query, cases[i].list); /* replaces nothing */
		CHECK(talk_ends(&t, NBD_HS_MORE));
		CHECK(t.h.allocation == cases[i].set);
	}
	hello_structured(&t); /* an export without contexts */
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, "other", exact, false);
	add_meta(&t, NBD_OPT_LIST_META_CONTEXT, "other", none, false);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(!t.h.allocation);
}

/* Two contexts: each only where it is asked for and offered. */
static void test_two_contexts(void)
{
	static const struct {
		const char *query[4];
		int set, list; /* bit 0: base:allocation, bit 1: x-xnbd:local, bit 2: xnbd:local */
	} cases[] = {
		{ { NULL }, 0, 3 },
		{ { "x-xnbd:local", NULL }, 2, 2 },
		{ { "x-xnbd:", NULL }, 0, 2 },
		{ { "base:", NULL }, 0, 1 },
		{ { "x-xnbd:local", "base:allocation", NULL }, 3, 3 },
		{ { "xnbd:local", NULL }, 4, 0 },
		{ { "xnbd:local", "x-xnbd:local", NULL }, 2, 2 },
		{ { "xnbd:", "xnbd:loca", NULL }, 0, 0 },
		{ { "x-xnbd:locals", "x-xnbd:loca", "base:local", NULL }, 0, 0 },
	};
	static const char *const texts[] = { "base:allocation", "x-xnbd:local", "xnbd:local" };
	struct talk t;
	unsigned i;
	int list, k;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hello_structured(&t);
		for (list = 0; list < 2; list++) {
			uint32_t option = list ? NBD_OPT_LIST_META_CONTEXT : NBD_OPT_SET_META_CONTEXT;
			struct buf data = meta_data(longest_name, cases[i].query);

			put_option(&t.says, option, data.p, data.n);
			drop(&data);
			for (k = 0; k < 3; k++) {
				if (!((list ? cases[i].list : cases[i].set) >> k & 1))
					continue;
				put32(&data, list ? 0 : k ? NBD_XNBD_LOCAL_ID : NBD_BASE_ALLOCATION_ID);
				put(&data, texts[k], strlen(texts[k]));
				put_reply(&t.wants, option, NBD_REP_META_CONTEXT, data.p, data.n);
				drop(&data);
			}
			put_reply(&t.wants, option, NBD_REP_ACK, "", 0);
		}
		CHECK(talk_ends(&t, NBD_HS_MORE));
		CHECK(t.h.allocation == (cases[i].set & 1) && t.h.local == (cases[i].set > 1));
	}
}

/* A refused SET leaves nothing selected, a refused LIST changes nothing. */
static void check_meta_refused(const struct buf *data, uint32_t error)
{
	struct talk t;

	hello_structured(&t);
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, "disk", exact, true);
	add_refusal(&t, NBD_OPT_LIST_META_CONTEXT, data, error);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(t.h.allocation);
	hello_structured(&t);
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, "disk", exact, true);
	add_refusal(&t, NBD_OPT_SET_META_CONTEXT, data, error);
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(!t.h.allocation);
}

static void check_query_refused(const char *query, uint32_t error)
{
	const char *const queries[] = { "base:allocation", query, NULL };
	struct buf data = meta_data("disk", queries);

	check_meta_refused(&data, error);
	drop(&data);
}

static void test_meta_refused(void)
{
	struct buf data = meta_data("disk", exact);
	size_t n;

	for (n = 0; n < data.n; n++) {
		struct buf part = { data.p, n };

		check_meta_refused(&part, NBD_REP_ERR_INVALID);
	}
	put_zeroes(&data, 1);
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	data.n--;
	nbd_put32(data.p + 8, 2); /* queries */
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p + 8, 0xffffffff);
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p + 8, 0); /* something behind no query */
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p + 8, 1);
	nbd_put32(data.p + 12, 0xfffffff0); /* length of the query */
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p + 12, 15);
	data.p[data.n - 1] = '\0';
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	data.p[data.n - 1] = 'n';
	data.p[5] = 'u'; /* name of the export */
	check_meta_refused(&data, NBD_REP_ERR_UNKNOWN);
	data.p[5] = '\0';
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	nbd_put32(data.p, 0xffffffff);
	check_meta_refused(&data, NBD_REP_ERR_INVALID);
	drop(&data);
	check_query_refused("", NBD_REP_ERR_INVALID);
	check_query_refused("base", NBD_REP_ERR_INVALID);
	check_query_refused(long_name, NBD_REP_ERR_INVALID);
	put_zeroes(&data, NBD_OPTION_MAX + 1);
	check_meta_refused(&data, NBD_REP_ERR_TOO_BIG);
	drop(&data);
}

static void test_meta_before_structured(void)
{
	struct buf data = meta_data("disk", exact);
	struct talk t;

	hello(&t, NBD_FLAG_FIXED_NEWSTYLE);
	add_refusal_text(&t, NBD_OPT_SET_META_CONTEXT, &data, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY comes first");
	add_refusal_text(&t, NBD_OPT_LIST_META_CONTEXT, &data, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY comes first");
	CHECK(talk_ends(&t, NBD_HS_MORE));
	CHECK(!t.h.allocation);
	drop(&data);
}

/* The selection counts only for the export it was made for. */
static void check_meta_then(const char *meta_name, const char *go_name, const struct nbd_export *e, bool allocation)
{
	struct talk t;

	hello_structured(&t);
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, meta_name, exact, true);
	add_go(&t, NBD_OPT_GO, go_name, 0, NULL);
	want_info(&t.wants, NBD_OPT_GO, e, true, NBD_INFO_EXPORT);
	put_reply(&t.wants, NBD_OPT_GO, NBD_REP_ACK, "", 0);
	CHECK(talk_ends(&t, NBD_HS_DONE));
	CHECK(t.h.allocation == allocation);
	hello_structured(&t);
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, meta_name, exact, true);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, go_name, strlen(go_name));
	put_export(&t.wants, e, true);
	put_zeroes(&t.wants, 124);
	CHECK(talk_ends(&t, NBD_HS_DONE));
	CHECK(t.h.allocation == allocation);
}

static void test_meta_then_go(void)
{
	check_meta_then("disk", "disk", &exports[DISK], true);
	check_meta_then("", "", &exports[DISK], true);
	check_meta_then("disk", "other", &exports[OTHER], false);
	check_meta_then("disk", longest_name, &exports[LONGEST], false);
	check_meta_then(longest_name, longest_name, &exports[LONGEST], true);
}

/* Each time another export, in the memory of the last one. */
static const struct nbd_export *find_renewed(void *ctx, const char *name, size_t n)
{
	static struct nbd_export e;
	uint64_t serial = e.serial + 1;

	e = *find(ctx, name, n);
	e.serial = serial;
	return &e;
}

static void test_meta_then_renewed(void)
{
	static const struct nbd_server_ops ops = { .send = send_to_buf, .find = find_renewed, .list = list };
	struct talk t;

	hello_structured(&t);
	t.ops = &ops;
	add_meta(&t, NBD_OPT_SET_META_CONTEXT, "disk", exact, true);
	put_option(&t.says, NBD_OPT_EXPORT_NAME, "disk", 4);
	put_export(&t.wants, &exports[DISK], true);
	put_zeroes(&t.wants, 124);
	CHECK(talk_ends(&t, NBD_HS_DONE));
	CHECK(!t.h.allocation);
}

/* ---- client_handshake.c --------------------------------------------------------------- */

/* What a server says, and what comes of it. */
struct meeting {
	const char *name; /* the client asks for */
	bool plain, simple, tls;
	bool list; /* it asks for one; each export is "NAME=MORE;" in gets */
	struct buf says;
	struct buf wants; /* what the client should say */
	struct buf gets;
	struct nbd_client_handshake h;
	enum nbd_handshake_state state;
	size_t used;
};

static void meet(struct meeting *m, const char *name, uint16_t flags)
{
	memset(m, 0, sizeof(*m));
	m->name = name;
	put64(&m->says, NBD_INIT_MAGIC);
	put64(&m->says, NBD_OPTION_MAGIC);
	put16(&m->says, flags);
	put32(&m->wants, flags & 3);
}

/* What is sent goes to the same buffer. */
static void put_listed(void *ctx, const void *name, size_t n, const void *more, size_t more_bytes)
{
	put(ctx, name, n);
	put(ctx, "=", 1);
	put(ctx, more, more_bytes);
	put(ctx, ";", 1);
}

static void meet_one_way(struct meeting *m, int way)
{
	drop(&m->gets);
	memset(&m->h, 0x55, sizeof(m->h)); /* nbd_client_start() has to set all */
	m->h.send = send_to_buf;
	m->h.ctx = &m->gets;
	m->h.export_name = m->name;
	m->h.plain = m->plain;
	m->h.simple = m->simple;
	m->h.tls = m->tls;
	m->h.listed = m->list ? put_listed : NULL;
	nbd_client_start(&m->h);
	m->state = feed(client_step, &m->h, m->says.p, m->says.n, way, &m->used);
}

static bool error_is_printable(const struct nbd_client_handshake *h)
{
	size_t i, n = strnlen(h->error, sizeof(h->error));
	bool ok = n < sizeof(h->error);

	for (i = 0; i < n; i++)
		ok &= h->error[i] >= ' ' && h->error[i] <= '~';
	return ok;
}

/* `error`: for NBD_HS_CLOSE, else "". */
static bool meeting_ends(struct meeting *m, enum nbd_handshake_state state, const char *error)
{
	bool ok = true;
	int way;

	for (way = 0; way < WAYS; way++) {
		meet_one_way(m, way);
		ok &= m->state == state && same(&m->gets, &m->wants) && error_is_printable(&m->h);
		ok &= state == NBD_HS_CLOSE || m->used == m->says.n;
		ok &= CHECK_STR(m->h.error, error);
	}
	drop(&m->says);
	drop(&m->wants);
	drop(&m->gets);
	return ok;
}

/* The client sends these in turn. */
static void wants_structured(struct meeting *m)
{
	put_option(&m->wants, NBD_OPT_STRUCTURED_REPLY, "", 0);
}

static void wants_meta(struct meeting *m)
{
	struct buf data = meta_data(m->name, exact);

	put_option(&m->wants, NBD_OPT_SET_META_CONTEXT, data.p, data.n);
	drop(&data);
}

static void wants_go(struct meeting *m)
{
	static const uint16_t info[] = { NBD_INFO_BLOCK_SIZE };
	struct buf data = go_data(m->name, 1, info);

	put_option(&m->wants, NBD_OPT_GO, data.p, data.n);
	drop(&data);
}

static void wants_abort(struct meeting *m)
{
	put_option(&m->wants, NBD_OPT_ABORT, "", 0);
}

static void says(struct meeting *m, uint32_t option, uint32_t type, const void *data, size_t n)
{
	put_reply(&m->says, option, type, data, n);
}

/* As far as GO, whose reply is the next thing to say. */
static void meet_go(struct meeting *m, const char *name)
{
	meet(m, name, 3);
	wants_structured(m);
	says(m, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, "", 0);
	wants_go(m);
}

static void says_export(struct meeting *m, uint64_t size, uint16_t flags)
{
	struct buf b = { 0 };

	put16(&b, NBD_INFO_EXPORT);
	put64(&b, size);
	put16(&b, flags);
	says(m, NBD_OPT_GO, NBD_REP_INFO, b.p, b.n);
	drop(&b);
}

static void says_block_sizes(struct meeting *m, uint32_t min, uint32_t preferred, uint32_t max)
{
	struct buf b = { 0 };

	put16(&b, NBD_INFO_BLOCK_SIZE);
	put32(&b, min);
	put32(&b, preferred);
	put32(&b, max);
	says(m, NBD_OPT_GO, NBD_REP_INFO, b.p, b.n);
	drop(&b);
}

static void says_ack(struct meeting *m, uint32_t option)
{
	says(m, option, NBD_REP_ACK, "", 0);
}

static const char broken[] = "broke the NBD protocol in the handshake";

/* The client knows as soon as it can, and hangs up without a word. */
static void check_not_nbd(const char *text, size_t enough)
{
	struct meeting m = { .name = "" };
	size_t n;

	put(&m.says, text, strlen(text));
	for (n = 0; n <= m.says.n; n++) {
		struct meeting part = { .name = "" };

		put(&part.says, text, n);
		CHECK(n < enough ? meeting_ends(&part, NBD_HS_MORE, "") || part.used == 0 :
				   meeting_ends(&part, NBD_HS_CLOSE, "does not speak NBD"));
	}
	drop(&m.says);
}

static void test_not_nbd(void)
{
	check_not_nbd("HTTP/1.0 400 Bad Request\r\n", 1);
	check_not_nbd("\r\n", 1);
	check_not_nbd("NBD?", 4);
	check_not_nbd("NBDMAGIK", 8);
	check_not_nbd("NBDMAGICx", 9);
	check_not_nbd("NBDMAGICIHAVEOPt", 16);
}

static void check_oldstyle(const char *name, uint64_t size, uint32_t flags, uint16_t want_flags, const char *error)
{
	struct meeting m = { .name = name };

	put64(&m.says, NBD_INIT_MAGIC);
	put64(&m.says, NBD_OLDSTYLE_MAGIC);
	put64(&m.says, size);
	put32(&m.says, flags);
	put_zeroes(&m.says, 124);
	CHECK(meeting_ends(&m, *error ? NBD_HS_CLOSE : NBD_HS_DONE, error));
	CHECK(m.h.oldstyle && !m.h.structured && !m.h.allocation);
	if (!*error)
		CHECK(m.h.size_bytes == size && m.h.transmission_flags == want_flags && m.h.max_payload == NBD_PAYLOAD_MAX);
}

static void test_client_oldstyle(void)
{
	struct meeting m = { .name = "", .list = true };

	check_oldstyle("", 4096, 0x0005, 0x0005, "");
	check_oldstyle("", 0, 0x00030007, 0x0007, "");
	check_oldstyle("", INT64_MAX, 0x0004, 0, "");
	check_oldstyle("", 1ULL << 63, 1, 1, "announces a size that makes no sense");
	check_oldstyle("x", 4096, 1, 1, "is oldstyle and cannot be asked for export 'x'");
	put64(&m.says, NBD_INIT_MAGIC);
	put64(&m.says, NBD_OLDSTYLE_MAGIC);
	put_zeroes(&m.says, 8 + 4 + 124);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "is oldstyle: its only export has no name"));
}

static void check_newstyle(const char *name, uint16_t server_flags)
{
	struct meeting m;

	meet(&m, name, server_flags);
	put_option(&m.wants, NBD_OPT_EXPORT_NAME, name, strlen(name));
	put64(&m.says, 0x1234567890);
	put16(&m.says, 0x0107);
	put_zeroes(&m.says, server_flags & NBD_FLAG_NO_ZEROES ? 0 : 124);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.size_bytes == 0x1234567890 && m.h.transmission_flags == 0x0107);
	CHECK(!m.h.oldstyle && !m.h.structured && !m.h.allocation);
	CHECK(m.h.min_block == 1 && m.h.preferred_block == 4096 && m.h.max_payload == NBD_PAYLOAD_MAX);
}

static void test_client_newstyle(void)
{
	struct meeting m;

	check_newstyle("", 0);
	check_newstyle("disk", 0xfff0);
	check_newstyle(longest_name, NBD_FLAG_NO_ZEROES);
	meet(&m, "x", 2);
	put_option(&m.wants, NBD_OPT_EXPORT_NAME, "x", 1);
	put64(&m.says, UINT64_MAX);
	put16(&m.says, 1);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "announces a size that makes no sense"));
}

/* A server that trips over options: it is seen where it hangs up, and asked without them. */
static void test_client_plain(void)
{
	struct meeting m;
	int way;

	meet(&m, "disk", 3);
	CHECK((meet_one_way(&m, 0), m.state == NBD_HS_MORE && nbd_client_is_haggling(&m.h)));
	put_reply(&m.says, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, "", 0);
	CHECK((meet_one_way(&m, 0), m.state == NBD_HS_MORE && nbd_client_is_haggling(&m.h)));
	drop(&m.says);
	drop(&m.wants);
	drop(&m.gets);
	meet(&m, "disk", 3);
	m.plain = true;
	put_option(&m.wants, NBD_OPT_EXPORT_NAME, "disk", 4);
	for (way = 0; way < WAYS; way++)
		CHECK((meet_one_way(&m, way), m.state == NBD_HS_MORE && same(&m.gets, &m.wants) && !nbd_client_is_haggling(&m.h)));
	put64(&m.says, 4096);
	put16(&m.says, 1);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
}

/* All that fixed newstyle has. */
static void test_client_fixed(void)
{
	struct meeting m;

	meet(&m, "disk", 0xff03);
	wants_structured(&m);
	says_ack(&m, NBD_OPT_STRUCTURED_REPLY);
	wants_meta(&m);
	says(&m, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, "\1\2\3\4base:allocation", 19);
	says_ack(&m, NBD_OPT_SET_META_CONTEXT);
	wants_go(&m);
	says(&m, NBD_OPT_GO, NBD_REP_INFO, "\0\1canonical", 11);
	says_block_sizes(&m, 512, 65536, 0xffffffff);
	says(&m, NBD_OPT_GO, NBD_REP_INFO, "\x12\x34", 2); /* unknown */
	says_export(&m, INT64_MAX, 0x85);
	says_ack(&m, NBD_OPT_GO);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.size_bytes == INT64_MAX && m.h.transmission_flags == 0x85 && !m.h.oldstyle);
	CHECK(m.h.structured && m.h.allocation && m.h.allocation_id == 0x01020304);
	CHECK(m.h.min_block == 512 && m.h.preferred_block == 65536 && m.h.max_payload == NBD_PAYLOAD_MAX);
}

static void says_last(struct meeting *m)
{
	wants_go(m);
	says_export(m, 1, 0x0002); /* HAS_FLAGS is missing: there are none */
	says_ack(m, NBD_OPT_GO);
}

static void check_meta_reply(const void *data, size_t n, uint32_t last, bool allocation)
{
	struct meeting m;

	meet(&m, "", 3);
	wants_structured(&m);
	says_ack(&m, NBD_OPT_STRUCTURED_REPLY);
	wants_meta(&m);
	if (n)
		says(&m, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, data, n);
	says(&m, NBD_OPT_SET_META_CONTEXT, last, "", 0);
	says_last(&m);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.structured && m.h.allocation == allocation && m.h.transmission_flags == 0);
}

static void test_client_meta(void)
{
	check_meta_reply("\0\0\0\7base:allocation", 19, NBD_REP_ACK, true);
	check_meta_reply("", 0, NBD_REP_ACK, false);
	check_meta_reply("", 0, NBD_REP_ERR_UNSUP, false);
	check_meta_reply("\0\0\0\7base:allocation", 19, NBD_REP_ERR_TOO_BIG, false);
	check_meta_reply("\0\0\0\7base:allocation2", 20, NBD_REP_ACK, false);
	check_meta_reply("\0\0\0\7base:allocatio", 18, NBD_REP_ACK, false);
	check_meta_reply("\0\0\0\7base:allocatioN", 19, NBD_REP_ACK, false);
	check_meta_reply("\0\0\0\7", 4, NBD_REP_ACK, false);
}

static void check_structured_refused(uint32_t error)
{
	struct meeting m;

	meet(&m, "disk", 1);
	wants_structured(&m);
	says(&m, NBD_OPT_STRUCTURED_REPLY, error, "no!", 3);
	says_last(&m);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(!m.h.structured && !m.h.allocation);
}

static void test_client_does_without(void)
{
	struct meeting m;

	check_structured_refused(NBD_REP_ERR_UNSUP);
	check_structured_refused(NBD_REP_ERR_POLICY);
	check_structured_refused(0xffffffff);
	meet_go(&m, "disk");
	says(&m, NBD_OPT_GO, NBD_REP_ERR_UNSUP, "what?", 5);
	put_option(&m.wants, NBD_OPT_EXPORT_NAME, "disk", 4);
	put64(&m.says, 77);
	put16(&m.says, 1);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.size_bytes == 77);
}

static void check_refused(const char *name, uint32_t type, const char *message, const char *error)
{
	struct meeting m;

	meet_go(&m, name);
	says(&m, NBD_OPT_GO, type, message, strlen(message));
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, error));
}

static void test_client_refused(void)
{
	check_refused("x", NBD_REP_ERR_UNKNOWN, "", "export 'x' is unknown to the server");
	check_refused("", NBD_REP_ERR_UNKNOWN, "no such thing", "export '' is unknown to the server");
	check_refused("a\nb\x7f-\xc3-\xa9", NBD_REP_ERR_UNKNOWN, "", "export 'a?b?-?-?' is unknown to the server");
	check_refused("x", NBD_REP_ERR_TLS_REQD, "", "requires TLS: write a URI nbds://NAME@HOST/?tls-psk-file=FILE");
	check_refused("x", NBD_REP_ERR_POLICY, "", "refused by policy to give export 'x'");
	check_refused("x", NBD_REP_ERR_POLICY, "not\x1byou", "refused by policy to give export 'x': not?you");
	check_refused("x", NBD_REP_ERR_SHUTDOWN, "bye\n", "is shutting down: bye?");
	check_refused("x", NBD_REP_ERR_BLOCK_SIZE_REQD, "", "refused to give export 'x'");
	check_refused("x", 0xffffffff, "why not", "refused to give export 'x': why not");
	check_refused(longest_name, NBD_REP_ERR_UNKNOWN, "",
		      "export 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...' is unknown to the server");
}

/* The kernel's client: GO at once. */
static void test_client_simple(void)
{
	struct meeting m;

	meet(&m, "disk", 3);
	m.simple = true;
	wants_go(&m);
	says_export(&m, 1 << 20, 0x0105);
	says_ack(&m, NBD_OPT_GO);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.size_bytes == 1 << 20 && m.h.transmission_flags == 0x0105 && !m.h.structured);
	meet(&m, "disk", 1);
	m.simple = true;
	wants_go(&m);
	says(&m, NBD_OPT_GO, NBD_REP_ERR_UNSUP, "", 0);
	CHECK((meet_one_way(&m, 0), m.state == NBD_HS_MORE && nbd_client_is_haggling(&m.h)));
	put_option(&m.wants, NBD_OPT_EXPORT_NAME, "disk", 4);
	put64(&m.says, 4096);
	put16(&m.says, 1);
	put_zeroes(&m.says, 124);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
}

static void meet_list(struct meeting *m, uint16_t flags)
{
	meet(m, "", flags);
	m->list = true;
	if (flags & NBD_FLAG_FIXED_NEWSTYLE)
		put_option(&m->wants, NBD_OPT_LIST, "", 0);
}

static void says_server(struct meeting *m, uint32_t name_bytes, const char *data)
{
	struct buf b = { 0 };

	put32(&b, name_bytes);
	put(&b, data, strlen(data));
	says(m, NBD_OPT_LIST, NBD_REP_SERVER, b.p, b.n);
	drop(&b);
}

static void check_list_fails(uint32_t type, const void *data, size_t n, const char *error, bool aborts)
{
	struct meeting m;

	meet_list(&m, 3);
	says(&m, NBD_OPT_LIST, type, data, n);
	if (aborts)
		wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, error));
}

static void meet_tls(struct meeting *m, uint16_t flags)
{
	meet(m, "x", flags);
	m->tls = true;
	if (flags & NBD_FLAG_FIXED_NEWSTYLE)
		put_option(&m->wants, NBD_OPT_STARTTLS, "", 0);
}

/* With TLS, or not at all. */
static void test_client_tls(void)
{
	static const uint32_t errors[] = { NBD_REP_ERR_UNSUP, NBD_REP_ERR_POLICY, NBD_REP_ERR_INVALID, 0xffffffff };
	struct meeting m;
	unsigned i;

	meet_tls(&m, 3);
	says_ack(&m, NBD_OPT_STARTTLS);
	CHECK(meeting_ends(&m, NBD_HS_TLS, ""));
	CHECK(!nbd_client_is_haggling(&m.h));
	m.h.ctx = &m.gets;
	nbd_client_secured(&m.h);
	put_option(&m.wants, NBD_OPT_STRUCTURED_REPLY, "", 0);
	CHECK(same(&m.gets, &m.wants));
	drop(&m.gets);
	drop(&m.wants);
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		meet_tls(&m, 1);
		says(&m, NBD_OPT_STARTTLS, errors[i], "no", 2);
		wants_abort(&m);
		CHECK(meeting_ends(&m, NBD_HS_CLOSE, "has no TLS for us"));
	}
	meet_tls(&m, 1);
	says(&m, NBD_OPT_STARTTLS, NBD_REP_INFO, "no", 2);
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
	meet_tls(&m, 0); /* plain newstyle: an attacker's, perhaps */
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "is not fixed newstyle, and so has no TLS"));
	meet_tls(&m, 1);
	m.plain = true;
	says_ack(&m, NBD_OPT_STARTTLS);
	CHECK(meeting_ends(&m, NBD_HS_TLS, ""));
}

static void test_client_list(void)
{
	struct meeting m;

	meet_list(&m, 3);
	says_server(&m, 1, "a");
	put(&m.wants, "a=;", 3);
	says_server(&m, 0, "");
	put(&m.wants, "=;", 2);
	says_server(&m, 2, "bcmore");
	put(&m.wants, "bc=more;", 8);
	says_ack(&m, NBD_OPT_LIST);
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	meet_list(&m, 0);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "cannot list its exports: it is not fixed newstyle"));
	check_list_fails(NBD_REP_ERR_POLICY, "", 0, "refused to list its exports", true);
	check_list_fails(NBD_REP_ERR_TLS_REQD, "", 0, "requires TLS: write a URI nbds://NAME@HOST/?tls-psk-file=FILE", true);
	check_list_fails(NBD_REP_SERVER, "\0\0\0", 3, broken, false);
	check_list_fails(NBD_REP_SERVER, "\0\0\0\4abc", 7, broken, false);
	check_list_fails(NBD_REP_SERVER, "\377\377\377\377abc", 7, broken, false);
	check_list_fails(NBD_REP_INFO, "\0\0", 2, broken, false);
}

/* ---- uri.c ------------------------------------------------------------------------------ */

/* want: "HOST PORT NAME", or "PATH NAME" of a Unix socket. */
static void check_uri(const char *text, const char *want)
{
	char *copy = malloc(strlen(text) + 1), is[256];
	struct nbd_uri u;
	const char *wrong;

	if (!copy)
		abort();
	strcpy(copy, text);
	wrong = nbd_uri_parse(copy, &u);
	if (wrong)
		snprintf(is, sizeof(is), "it %s", wrong);
	else if (u.path)
		snprintf(is, sizeof(is), "%s %s", u.path, u.export_name);
	else
		snprintf(is, sizeof(is), "%s %s %s", u.host, u.port, u.export_name);
	if (!wrong && u.tls)
		snprintf(is + strlen(is), sizeof(is) - strlen(is), " TLS %s %s", u.user ? u.user : "any", u.psk_file);
	CHECK_STR(is, want);
	free(copy);
}

static void test_uri(void)
{
	check_uri("nbd://host", "host 10809 ");
	check_uri("nbd://host/", "host 10809 ");
	check_uri("nbd://host:1234/a/b%20c", "host 1234 a/b c");
	check_uri("nbd://host:/x?tls=no", "host 10809 x");
	check_uri("nbd://[fe80::1%25eth0]:8520/%2f", "fe80::1%eth0 8520 /");
	check_uri("nbd://[::1]", "::1 10809 ");
	check_uri("nbd+unix:///?socket=/run/x.sock", "/run/x.sock ");
	check_uri("nbd+unix:///name?a=b&socket=%2Fx%3F&c", "/x? name");
	check_uri("nbd+unix:///name", "it has no ?socket=PATH");
	check_uri("nbd+unix:///?socket=", "it has no ?socket=PATH");
	check_uri("nbd+unix:///?socket=%0", "it has no ?socket=PATH");
	check_uri("nbd+unix://host/?socket=/x", "it has a host before the path of a Unix socket");
	check_uri("nbds://host", "it has no ?tls-psk-file=FILE");
	check_uri("nbds+unix:///?socket=/x", "it has no ?tls-psk-file=FILE");
	check_uri("nbds://host/?tls-psk-file=", "it has no ?tls-psk-file=FILE");
	check_uri("nbds://al%20ice@[::1]:1/x?tls-psk-file=%2Fk&a", "::1 1 x TLS al ice /k");
	check_uri("nbds://host?tls-psk-file=k", "host 10809  TLS any k");
	check_uri("nbds://@host?tls-psk-file=k", "host 10809  TLS  k");
	check_uri("nbds+unix://bob@/x?tls-psk-file=k&socket=s", "s x TLS bob k");
	check_uri("nbds+unix://bob@host/?tls-psk-file=k&socket=s", "it has a host before the path of a Unix socket");
	check_uri("nbdss://host", "it is not a URI of NBD over TCP or a Unix socket");
	check_uri("nbd+vsock://1", "it is not a URI of NBD over TCP or a Unix socket");
	check_uri("http://host", "it is not a URI of NBD over TCP or a Unix socket");
	check_uri("nbd://", "it has no host");
	check_uri("nbd://:10809/x", "it has no host");
	check_uri("nbd://[::1/x", "it has no address between its brackets");
	check_uri("nbd://[::1]x", "it has no address between its brackets");
	check_uri("nbd://host?tls-psk-file=k", "it has tls-psk-file=, which needs TLS: nbds://");
	check_uri("nbd://me@host", "it has a user name, which needs TLS: nbds://");
	check_uri("nbd://host/%", "it has a % that no byte follows");
	check_uri("nbd://host/%4", "it has a % that no byte follows");
	check_uri("nbd://host/%g0", "it has a % that no byte follows");
	check_uri("nbd://host/%00", "it has a % that no byte follows");
}

/* "MUST initiate a soft disconnect", whatever was asked. */
static void test_client_shutdown(void)
{
	struct meeting m;

	meet(&m, "", 3);
	wants_structured(&m);
	says(&m, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_SHUTDOWN, "", 0);
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "is shutting down"));
	meet(&m, "", 3);
	wants_structured(&m);
	says_ack(&m, NBD_OPT_STRUCTURED_REPLY);
	wants_meta(&m);
	says(&m, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_SHUTDOWN, "", 0);
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "is shutting down"));
}

/* The message is cut where the buffer ends. */
static void test_client_long_message(void)
{
	struct meeting m;
	char want[sizeof(m.h.error)];
	char message[4096];

	memset(message, 'm', sizeof(message));
	memset(want, 'm', sizeof(want) - 1);
	want[sizeof(want) - 1] = '\0';
	memcpy(want, "refused to give export 'x': ", 28);
	meet_go(&m, "x");
	says(&m, NBD_OPT_GO, NBD_REP_ERR_INVALID, message, sizeof(message));
	wants_abort(&m);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, want));
}

static void check_block_sizes(uint32_t min, uint32_t preferred, uint32_t max, bool ok, uint32_t want_max)
{
	struct meeting m;

	meet_go(&m, "x");
	says_block_sizes(&m, min, preferred, max);
	says_export(&m, 4096, 1);
	says_ack(&m, NBD_OPT_GO);
	CHECK(meeting_ends(&m, ok ? NBD_HS_DONE : NBD_HS_CLOSE, ok ? "" : "announces block sizes that make no sense"));
	if (ok)
		CHECK(m.h.min_block == min && m.h.preferred_block == preferred && m.h.max_payload == want_max);
}

static void test_client_block_sizes(void)
{
	check_block_sizes(1, 4096, 0xffffffff, true, NBD_PAYLOAD_MAX);
	check_block_sizes(1, 4096, NBD_PAYLOAD_MAX, true, NBD_PAYLOAD_MAX);
	check_block_sizes(1, 1, 1, true, 1);
	check_block_sizes(4096, 4096, 4097, true, 4097);
	check_block_sizes(65536, 1U << 31, 1U << 31, true, NBD_PAYLOAD_MAX);
	check_block_sizes(0, 4096, 1 << 20, false, 0);
	check_block_sizes(1, 0, 1 << 20, false, 0);
	check_block_sizes(0, 0, 0, false, 0);
	check_block_sizes(3, 4096, 1 << 20, false, 0);
	check_block_sizes(512, 4097, 1 << 20, false, 0);
	check_block_sizes(4096, 512, 1 << 20, false, 0);
	check_block_sizes(512, 4096, 4095, false, 0);
	check_block_sizes(1 << 17, 1 << 17, 1 << 20, false, 0);
}

static void check_broken_go(uint32_t option, uint32_t type, const void *data, size_t n)
{
	struct meeting m;

	meet_go(&m, "x");
	says_export(&m, 4096, 1);
	put_reply(&m.says, option, type, data, n);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
}

static void test_client_broken_go(void)
{
	check_broken_go(NBD_OPT_INFO, NBD_REP_ACK, "", 0);
	check_broken_go(NBD_OPT_GO, NBD_REP_ACK, "x", 1);
	check_broken_go(NBD_OPT_GO, NBD_REP_SERVER, "\0\0\0\0", 4);
	check_broken_go(NBD_OPT_GO, 0, "", 0);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, "", 0);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, "", 1);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, zeroes, 2);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, zeroes, 11);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, zeroes, 13);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, "\0\3\0\0\0\0\0\0\0\0\0\0\0", 13);
	check_broken_go(NBD_OPT_GO, NBD_REP_INFO, "\0\3\0\0\0\1\0\0\0\1\0\0\0\1", 15);
	check_broken_go(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, zeroes, NBD_OPTION_MAX + 1);
}

static void test_client_broken(void)
{
	struct meeting m;

	meet_go(&m, "x");
	says_ack(&m, NBD_OPT_GO); /* no NBD_INFO_EXPORT before it */
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
	meet_go(&m, "x");
	says_export(&m, 1ULL << 63, 1);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, "announces a size that makes no sense"));
	meet(&m, "x", 3); /* magic: seen at its first wrong byte */
	wants_structured(&m);
	put(&m.says, "\x00\x03\xe8\x88", 4);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
	meet(&m, "x", 3);
	wants_structured(&m);
	says(&m, NBD_OPT_STRUCTURED_REPLY, NBD_REP_INFO, "\0\0", 2);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
	meet(&m, "x", 3);
	wants_structured(&m);
	says_ack(&m, NBD_OPT_STRUCTURED_REPLY);
	wants_meta(&m);
	says(&m, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, "\0\0\0", 3);
	CHECK(meeting_ends(&m, NBD_HS_CLOSE, broken));
}

/* The longest reply that is taken: it fits what nbd.h promises to need. */
static void test_client_longest_reply(void)
{
	static const uint8_t data[NBD_OPTION_MAX] = { 0, NBD_INFO_DESCRIPTION };
	struct meeting m;

	meet_go(&m, "x");
	says(&m, NBD_OPT_GO, NBD_REP_INFO, data, sizeof(data));
	says_export(&m, 1, 1);
	says_ack(&m, NBD_OPT_GO);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
}

/* ---- garbage ----------------------------------------------------------------------- */

static bool client_result_is_sane(const struct nbd_client_handshake *h, enum nbd_handshake_state state)
{
	bool ok = error_is_printable(h) && (state == NBD_HS_CLOSE) == (*h->error != '\0');

	if (state == NBD_HS_DONE) {
		ok &= h->size_bytes <= INT64_MAX && h->max_payload && h->max_payload <= NBD_PAYLOAD_MAX;
		ok &= h->min_block && h->min_block <= 65536 && !(h->min_block & (h->min_block - 1));
		ok &= !h->allocation || h->structured;
	}
	return ok;
}

static bool server_result_is_sane(const struct nbd_server_handshake *h, enum nbd_handshake_state state)
{
	bool ok = (state == NBD_HS_DONE) == (h->export != NULL);

	if (state == NBD_HS_DONE)
		ok &= !h->allocation || (h->structured && h->meta_serial == h->export->serial && h->export->allocation);
	return ok;
}

/* Bytes changed, runs left out, and the end cut off. */
static void spoil(struct buf *b)
{
	unsigned n = random_below(4);

	while (n-- && b->n > 1) {
		size_t at = random_below((uint32_t)b->n);

		switch (random_below(5)) {
		case 0:
			b->p[at] = (uint8_t)random_below(256);
			break;
		case 1:
			b->p[at] ^= (uint8_t)(1 << random_below(8));
			break;
		case 2:
			b->p[at] = random_below(2) ? 0xff : 0;
			break;
		case 3:
			b->n = at;
			break;
		default:
			at = random_below((uint32_t)b->n > 8 ? 8 : (uint32_t)b->n);
			drop_first(b, at);
		}
	}
}

/* A valid conversation of a client, at random. */
static void random_client(struct buf *b)
{
	static const uint16_t info[] = { 3, 1, 0, 2 };
	static const char *const queries[] = { "base:allocation", "base:", "x:y", NULL };
	static const char *const names[] = { "", "disk", "other", "nothere" };
	unsigned options = random_below(8);

	put32(b, random_below(16) ? 1 + 2 * random_below(2) : random_below(4));
	while (options--) {
		static const uint32_t known[] = { 1, 2, 3, 5, 6, 7, 8, 9, 10, 10, 9, 8, 8, 6, 99 };
		uint32_t option = known[random_below(sizeof(known) / sizeof(known[0]))];
		const char *name = names[random_below(4)];
		struct buf data = { 0 };

		if (option == NBD_OPT_INFO || option == NBD_OPT_GO)
			data = go_data(name, random_below(5), info);
		else if (option == NBD_OPT_SET_META_CONTEXT || option == NBD_OPT_LIST_META_CONTEXT)
			data = meta_data(name, queries + random_below(4));
		else if (option == NBD_OPT_EXPORT_NAME)
			put(&data, name, strlen(name));
		else if (!random_below(8))
			put_zeroes(&data, random_below(8) ? random_below(40) : NBD_OPTION_MAX + random_below(3));
		put_option(b, option, data.p, data.n);
		drop(&data);
	}
}

/* A valid conversation of a server, at random. */
static void random_server(struct buf *b)
{
	struct meeting m;

	meet(&m, "", random_below(8) ? 3 : (uint16_t)random_below(4));
	if (random_below(2)) {
		says_ack(&m, NBD_OPT_STRUCTURED_REPLY);
		if (random_below(4))
			says(&m, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, "\1\2\3\4base:allocation", 19);
		says(&m, NBD_OPT_SET_META_CONTEXT, random_below(4) ? NBD_REP_ACK : NBD_REP_ERR_INVALID, "", 0);
	} else {
		says(&m, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_UNSUP, "message", random_below(8));
	}
	if (random_below(4))
		says_block_sizes(&m, 1U << random_below(17), 1U << random_below(32), random_below(2) ? UINT32_MAX : 1U << 25);
	if (random_below(8))
		says_export(&m, 1ULL << random_below(64), (uint16_t)random_below(65536));
	if (random_below(2))
		says_ack(&m, NBD_OPT_GO);
	else
		says(&m, NBD_OPT_GO, NBD_REP_ERR + random_below(11), "message", random_below(8));
	put_zeroes(&m.says, random_below(140));
	put(b, m.says.p, m.says.n);
	drop(&m.says);
	drop(&m.wants);
}

static void random_bytes(struct buf *b)
{
	size_t n = random_below(300);

	while (n--) {
		uint8_t byte = (uint8_t)(random_below(3) ? random_below(256) : random_below(2) ? 0 : 0xff);

		put(b, &byte, 1);
	}
}

static bool spoiled_client(void)
{
	struct talk t;
	bool ok;

	memset(&t, 0, sizeof(t));
	random_client(&t.says);
	spoil(&t.says);
	if (!random_below(8))
		random_bytes(&t.says);
	talk_one_way(&t, (int)random_below(WAYS));
	ok = server_result_is_sane(&t.h, t.state);
	drop(&t.says);
	drop(&t.gets);
	return ok;
}

static bool spoiled_server(void)
{
	struct meeting m = { .name = random_below(2) ? "" : "disk" };
	bool ok;

	if (random_below(8))
		random_server(&m.says);
	spoil(&m.says);
	if (!random_below(8))
		random_bytes(&m.says);
	meet_one_way(&m, (int)random_below(WAYS));
	ok = client_result_is_sane(&m.h, m.state);
	drop(&m.says);
	drop(&m.gets);
	return ok;
}

static void test_garbage(void)
{
	bool ok = true;
	unsigned i;

	for (i = 0; i < 20000; i++)
		ok &= spoiled_client();
	CHECK(ok);
	for (ok = true, i = 0; i < 40000; i++)
		ok &= spoiled_server();
	CHECK(ok);
}

/* ---- both, against each other ------------------------------------------------------- */

/*
 * A client, our server, and between them one who can make it look like a server that
 * knows less: other handshake flags, and options that are refused.
 */
struct pair {
	uint16_t flags;   /* of the greeting */
	unsigned refused; /* bit mask of options */
	uint32_t error;   /* with which they are */
	int way;
	struct nbd_client_handshake c;
	struct nbd_server_handshake s;
	enum nbd_handshake_state c_state, s_state;
	struct buf from_client, to_server, to_client;
	bool got_flags;
};

/* Brings what the client said to the server, or answers in its place. */
static void between(struct pair *p)
{
	while (p->from_client.n >= (p->got_flags ? 16 : 4)) {
		uint32_t option = p->got_flags ? nbd_get32(p->from_client.p + 8) : 0;
		size_t n = p->got_flags ? 16 + nbd_get32(p->from_client.p + 12) : 4;

		if (p->from_client.n < n)
			return;
		if (p->refused >> option & 1)
			put_reply(&p->to_client, option, p->error, "", 0);
		else
			put(&p->to_server, p->from_client.p, n);
		drop_first(&p->from_client, n);
		p->got_flags = true;
	}
}

static void pair_run(struct pair *p)
{
	size_t used;

	p->c_state = p->s_state = NBD_HS_MORE;
	do {
		if (p->c_state == NBD_HS_MORE) {
			p->c_state = feed(client_step, &p->c, p->to_client.p, p->to_client.n, p->way, &used);
			drop_first(&p->to_client, used);
		}
		between(p);
		if (p->s_state == NBD_HS_MORE) {
			p->s_state = feed(server_step, &p->s, p->to_server.p, p->to_server.n, p->way, &used);
			drop_first(&p->to_server, used);
		}
	} while (p->c_state == NBD_HS_MORE && p->to_client.n);
	between(p); /* the client's last words */
	if (p->s_state == NBD_HS_MORE)
		p->s_state = feed(server_step, &p->s, p->to_server.p, p->to_server.n, p->way, &used);
}

static void pair_begin(struct pair *p, const char *name)
{
	p->c.send = p->s.ops->send;
	p->c.ctx = &p->from_client;
	p->c.export_name = name;
	p->s.ctx = &p->to_client;
	nbd_client_start(&p->c);
	nbd_server_greet(&p->s);
	nbd_put16(p->to_client.p + 16, p->flags);
	pair_run(p);
}

/* Both agree on everything, and it is what the export has to give. */
static bool pair_agrees(const struct pair *p, const struct nbd_export *e)
{
	const struct nbd_client_handshake *c = &p->c;
	bool fixed = p->flags & NBD_FLAG_FIXED_NEWSTYLE;
	bool structured = fixed && !(p->refused >> NBD_OPT_STRUCTURED_REPLY & 1);
	bool allocation = structured && e->allocation && !(p->refused >> NBD_OPT_SET_META_CONTEXT & 1);
	bool go = fixed && !(p->refused >> NBD_OPT_GO & 1);
	uint32_t max = e->max_payload < NBD_PAYLOAD_MAX ? e->max_payload : NBD_PAYLOAD_MAX;

	return p->c_state == NBD_HS_DONE && p->s_state == NBD_HS_DONE && p->s.export == e && !p->to_client.n &&
	       c->structured == structured && p->s.structured == structured && c->allocation == allocation &&
	       p->s.allocation == allocation && (!allocation || c->allocation_id == NBD_BASE_ALLOCATION_ID) &&
	       c->size_bytes == e->size_bytes &&
	       c->transmission_flags == (e->transmission_flags | (structured ? NBD_FLAG_SEND_DF : 0)) &&
	       c->min_block == (go ? e->min_block : 1) && c->preferred_block == (go ? e->preferred_block : 4096) &&
	       c->max_payload == (go ? max : NBD_PAYLOAD_MAX);
}

/* GO refused, or no such export: both must know that it is over. */
static bool pair_parts(const struct pair *p, const char *name)
{
	bool fixed = p->flags & NBD_FLAG_FIXED_NEWSTYLE;
	bool go_refused = p->refused >> NBD_OPT_GO & 1;

	/* By EXPORT_NAME an unknown export ends in the server hanging up. */
	if (!fixed || (go_refused && p->error == NBD_REP_ERR_UNSUP))
		return p->c_state == NBD_HS_MORE && p->s_state == NBD_HS_CLOSE && !find(NULL, name, strlen(name));
	return p->c_state == NBD_HS_CLOSE && p->s_state == NBD_HS_CLOSE && p->c.error[0];
}

static bool pair_meets(const char *name, uint16_t flags, unsigned mask, uint32_t error, int way)
{
	struct pair p = { .flags = flags, .error = error, .way = way, .s.ops = &server_ops };
	const struct nbd_export *e = find(NULL, name, strlen(name));
	bool by_name, ok;

	p.refused = (mask & 1 ? 1U << NBD_OPT_STRUCTURED_REPLY : 0) | (mask & 2 ? 1U << NBD_OPT_SET_META_CONTEXT : 0) |
		    (mask & 4 ? 1U << NBD_OPT_GO : 0);
	/* A server that shuts down is left at once, any other when it refuses GO. */
	by_name = !(flags & NBD_FLAG_FIXED_NEWSTYLE) || !(error == NBD_REP_ERR_SHUTDOWN ? mask : mask & 4) ||
		  error == NBD_REP_ERR_UNSUP;
	pair_begin(&p, name);
	ok = e && by_name ? pair_agrees(&p, e) : pair_parts(&p, name);
	drop(&p.from_client);
	drop(&p.to_server);
	drop(&p.to_client);
	return ok;
}

static void test_both(void)
{
	static const uint32_t errors[] = { NBD_REP_ERR_UNSUP,	NBD_REP_ERR_POLICY,   NBD_REP_ERR_INVALID,
					   NBD_REP_ERR_TLS_REQD, NBD_REP_ERR_UNKNOWN, NBD_REP_ERR_SHUTDOWN };
	const char *const names[] = { "", "disk", "other", longest_name, "nothere", "disk2" };
	unsigned n, error, mask;
	uint16_t flags;
	int way;

	for (n = 0; n < 6; n++)
		for (flags = 0; flags < 2; flags++)
			for (mask = 0; mask < 8; mask++)
				for (error = 0; error < 6; error++)
					for (way = 0; way < WAYS; way++)
						CHECK(pair_meets(names[n], flags, mask, errors[error], way));
}

static void test_both_oldstyle(void)
{
	struct nbd_server_handshake s = { .ops = &server_ops };
	struct meeting m = { .name = "" };

	s.ctx = &m.says;
	nbd_server_greet_oldstyle(&s, &exports[DISK]);
	CHECK(meeting_ends(&m, NBD_HS_DONE, ""));
	CHECK(m.h.oldstyle && m.h.size_bytes == exports[DISK].size_bytes && m.h.transmission_flags == DISK_FLAGS);
}

int main(void)
{
	memset(long_name, 'n', sizeof(long_name) - 1);
	memset(longest_name, 'n', sizeof(longest_name) - 1);
	test_numbers();
	test_request();
	test_replies();
	test_errors();
	test_zeroes();
	test_gaps_edges();
	test_gaps_too_many();
	test_gaps_random();
	test_greetings();
	test_client_flags();
	test_export_name();
	test_bytes_behind();
	test_abort();
	test_list();
	test_list_in_parts();
	test_hides();
	test_unsupported();
	test_starttls();
	test_tls_required();
	test_too_big();
	test_longest_option();
	test_info_and_go();
	test_go_refused();
	test_meta_matches();
	test_two_contexts();
	test_meta_refused();
	test_meta_before_structured();
	test_meta_then_go();
	test_meta_then_renewed();
	test_not_nbd();
	test_client_oldstyle();
	test_client_newstyle();
	test_client_plain();
	test_client_fixed();
	test_client_meta();
	test_client_does_without();
	test_client_simple();
	test_client_list();
	test_uri();
	test_client_refused();
	test_client_tls();
	test_client_shutdown();
	test_client_long_message();
	test_client_block_sizes();
	test_client_broken_go();
	test_client_broken();
	test_client_longest_reply();
	test_garbage();
	test_both();
	test_both_oldstyle();
	CHECK(promises_kept);
	CHECK(names_kept);
	return test_end();
}
