/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* tls/: client against server in memory, and each against a peer that does what it should not. */
#include "test.h"

#include "tls/internal.h"

#include <stdlib.h>

static const uint8_t psk[32] = { 1, 2, 3, 4, 5, 6, 7, 8 }, other_psk[32] = { 9 };
static uint8_t random_client[TLS_RANDOM_BYTES], random_server[TLS_RANDOM_BYTES];

/* The server's keys: "alice" and "bob" */
static const uint8_t *lookup(void *ctx, const uint8_t *name, size_t len, size_t *psk_len)
{
	if (ctx)
		++*(int *)ctx;
	*psk_len = sizeof(psk);
	if (len == 5 && !memcmp(name, "alice", 5))
		return psk;
	return len == 3 && !memcmp(name, "bob", 3) ? other_psk : NULL;
}

static void begin_client(struct tls *t, const char *name, const uint8_t *key)
{
	CHECK(tls_begin_client(t, (const uint8_t *)name, strlen(name), key, 32, random_client));
}

static void begin_server(struct tls *t)
{
	tls_begin_server(t, lookup, NULL, random_server);
}

/* Bytes on their way */
struct wire {
	size_t len;
	uint8_t at[20000];
};

/* Feeds all of in, in pieces; what is sent is appended to out. *left: what was not taken. */
static enum tls_progress feed_left(struct tls *t, const uint8_t *in, size_t len, size_t piece, struct wire *out,
				   size_t *left)
{
	enum tls_progress p = TLS_MORE;
	do {
		size_t n = len < piece ? len : piece, used, out_len;
		uint8_t *exact = malloc(n + !n), *room = malloc(TLS_HANDSHAKE_OUT_MAX);
		memcpy(exact, in, n);
		p = tls_handshake(t, exact, n, &used, room, &out_len);
		CHECK(used <= n && out_len <= TLS_HANDSHAKE_OUT_MAX && (p != TLS_MORE || used == n));
		memcpy(out->at + out->len, room, out_len);
		out->len += out_len;
		in += used;
		len -= used;
		free(exact);
		free(room);
	} while (len && p == TLS_MORE);
	*left = len;
	return p;
}

static enum tls_progress feed(struct tls *t, const struct wire *in, struct wire *out)
{
	size_t left;
	return feed_left(t, in->at, in->len, in->len + 1, out, &left);
}

/* Both sides up to the end of a handshake, each flight in a wire of its own */
struct pair {
	struct tls client, server;
	struct wire hello, answer, finished, nothing;
};

static void handshake(struct pair *p)
{
	memset(p, 0, sizeof(*p));
	begin_client(&p->client, "alice", psk);
	begin_server(&p->server);
	CHECK(feed(&p->client, &p->nothing, &p->hello) == TLS_MORE);
	CHECK(feed(&p->server, &p->hello, &p->answer) == TLS_MORE);
	CHECK(feed(&p->client, &p->answer, &p->finished) == TLS_DONE);
	CHECK(feed(&p->server, &p->finished, &p->nothing) == TLS_DONE);
	CHECK(!p->nothing.len);
}

static bool same_keys(const struct tls *a, const struct tls *b)
{
	struct tls_keys x, y;
	tls_ktls_keys(a, true, &x);
	tls_ktls_keys(b, false, &y);
	return !memcmp(&x, &y, sizeof(x));
}

/* One record from a to b */
static bool passes(struct tls *a, struct tls *b, size_t len)
{
	static uint8_t data[TLS_DATA_MAX], record[TLS_DATA_MAX + TLS_OVERHEAD], *got;
	size_t got_len;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 31 + len);
	size_t bytes = tls_seal(a, TLS_TYPE_DATA, record, data, len);
	return bytes == len + TLS_OVERHEAD && tls_record_bytes(record) == bytes &&
	       tls_open(b, record, bytes, &got, &got_len) == TLS_DATA && got_len == len && !memcmp(got, data, len);
}

static void succeeds(void)
{
	static struct pair p;
	size_t len;
	handshake(&p);
	CHECK(same_keys(&p.client, &p.server) && same_keys(&p.server, &p.client));
	CHECK(!memcmp(tls_name(&p.server, &len), "alice", 5) && len == 5);
	CHECK(!memcmp(tls_name(&p.client, &len), "alice", 5) && len == 5);
	static const struct tls_handshake_state wiped;
	CHECK(!memcmp(&p.client.handshake, &wiped, sizeof(wiped)) &&
	      !memcmp(&p.server.handshake, &wiped, sizeof(wiped)));
	for (len = 0; len <= TLS_DATA_MAX; len = len * 3 + 1)
		CHECK(passes(&p.client, &p.server, len) && passes(&p.server, &p.client, len));
	CHECK(passes(&p.client, &p.server, TLS_DATA_MAX));
	/* A copy goes on where the original was. */
	struct tls copy = p.server;
	tls_wipe(&p.server);
	CHECK(passes(&copy, &p.client, 10) && passes(&p.client, &copy, 10));
}

/* Between the hellos and the end: a client may have no keys to give up with, a server has. */
static void clear_alerts(void)
{
	static struct pair p;
	static struct wire alert = { .at = { TLS_TYPE_ALERT, 3, 3, 0, 2, 2, ALERT_DECODE_ERROR }, .len = 7 };
	begin_client(&p.client, "alice", psk);
	begin_server(&p.server);
	CHECK(feed(&p.client, &p.nothing, &p.hello) == TLS_MORE);
	CHECK(feed(&p.server, &p.hello, &p.answer) == TLS_MORE);
	p.answer.len = TLS_HEADER_BYTES + (size_t)(p.answer.at[3] << 8 | p.answer.at[4]); /* ServerHello */
	CHECK(feed(&p.client, &p.answer, &p.finished) == TLS_MORE);
	CHECK(feed(&p.client, &alert, &p.finished) == TLS_FAILED && !p.client.by_peer && p.client.alert == ALERT_UNEXPECTED_MESSAGE);
	CHECK(feed(&p.server, &alert, &p.finished) == TLS_FAILED && p.server.by_peer && p.server.alert == ALERT_DECODE_ERROR);
}

static void pieces(void)
{
	static struct pair p, q;
	size_t left;
	handshake(&p);
	for (size_t piece = 1; piece < 300; piece += piece < 20 ? 1 : 37) {
		memset(&q, 0, sizeof(q));
		begin_client(&q.client, "alice", psk);
		begin_server(&q.server);
		feed(&q.client, &q.nothing, &q.hello);
		CHECK(feed_left(&q.server, q.hello.at, q.hello.len, piece, &q.answer, &left) == TLS_MORE);
		CHECK(feed_left(&q.client, q.answer.at, q.answer.len, piece, &q.finished, &left) == TLS_DONE && !left);
		q.finished.len += tls_seal(&q.client, TLS_TYPE_DATA, q.finished.at + q.finished.len, psk, 20);
		CHECK(feed_left(&q.server, q.finished.at, q.finished.len, piece, &q.nothing, &left) == TLS_DONE);
		/* No byte of the data is taken. */
		CHECK(q.finished.len == p.finished.len + 20 + TLS_OVERHEAD);
		CHECK(left <= 20 + TLS_OVERHEAD && (piece > 1 || left == 20 + TLS_OVERHEAD));
	}
	memset(&q, 0, sizeof(q));
	begin_server(&q.server);
	feed(&q.server, &p.hello, &q.answer);
	struct wire more = p.finished;
	more.len += 100;
	CHECK(feed_left(&q.server, more.at, more.len, 1000, &q.nothing, &left) == TLS_DONE && left == 100);
}

/* RFC 8448, section 3, where no certificate is in it */
static void key_schedule(void)
{
	struct tls t;
	static const uint8_t no_psk[32];
	static const uint8_t shared[32] = { 0x8b, 0xd4, 0x05, 0x4f, 0xb5, 0x5b, 0x9d, 0x63, 0xfd, 0xfb, 0xac,
					    0xf9, 0xf0, 0x4b, 0x9f, 0x0d, 0x35, 0xe6, 0xd6, 0x3f, 0x53, 0x75,
					    0x63, 0xef, 0xd4, 0x62, 0x72, 0x90, 0x0f, 0x89, 0x49, 0x2d };
	static const uint8_t early[4] = { 0x33, 0xad, 0x0a, 0x1c }, handshake_secret[4] = { 0x1d, 0xc8, 0x26, 0xe9 },
			     master[4] = { 0x18, 0xdf, 0x06, 0x84 };
	static const uint8_t traffic[32] = { 0xb6, 0x7b, 0x7d, 0x69, 0x0c, 0xc1, 0x6c, 0x4e, 0x75, 0xe5, 0x42,
					     0x13, 0xcb, 0x2d, 0x37, 0xb4, 0xe9, 0xc9, 0x12, 0xbc, 0xde, 0xd9,
					     0x10, 0x5d, 0x42, 0xbe, 0xfd, 0x59, 0xd3, 0x91, 0xad, 0x38 };
	static const uint8_t iv[12] = { 0x5d, 0x31, 0x3e, 0xb2, 0x67, 0x12, 0x76, 0xee, 0x13, 0x00, 0x0b, 0x30 };
	tls_early_secret(&t, no_psk, 32);
	CHECK(!memcmp(t.handshake.secret, early, 4));
	tls_next_secret(&t, shared);
	CHECK(!memcmp(t.handshake.secret, handshake_secret, 4));
	tls_next_secret(&t, NULL);
	CHECK(!memcmp(t.handshake.secret, master, 4));
	tls_half_begin(&t.tx, traffic);
	CHECK(!memcmp(t.tx.iv, iv, 12));
}

static void wrong_keys(void)
{
	static struct pair p;
	static const struct {
		const char *name;
		const uint8_t *key;
		const char *server, *client;
	} table[] = {
		{ "alice", other_psk, "the peer has another key for this name, or none",
		  "the peer has another key for this name, or none" },
		{ "bob", psk, "the peer has another key for this name, or none",
		  "the peer has another key for this name, or none" },
		{ "carol", psk, "there is no key of this name", "the peer has no key of this name" },
	};
	for (size_t i = 0; i < 3; i++) {
		memset(&p, 0, sizeof(p));
		begin_client(&p.client, table[i].name, table[i].key);
		begin_server(&p.server);
		feed(&p.client, &p.nothing, &p.hello);
		CHECK(feed(&p.server, &p.hello, &p.answer) == TLS_FAILED);
		CHECK_STR(tls_reason(&p.server), table[i].server);
		CHECK(p.answer.len == 7 && p.answer.at[0] == TLS_TYPE_ALERT); /* no more is told */
		CHECK(feed(&p.client, &p.answer, &p.finished) == TLS_FAILED && !p.finished.len);
		CHECK_STR(tls_reason(&p.client), table[i].client);
		CHECK(feed(&p.server, &p.hello, &p.nothing) == TLS_FAILED && !p.nothing.len);
	}
	uint8_t long_name[TLS_NAME_MAX + 1] = { 0 }, long_key[TLS_PSK_MAX + 1] = { 0 };
	CHECK(!tls_begin_client(&p.client, long_name, 0, psk, 32, random_client));
	CHECK(!tls_begin_client(&p.client, long_name, TLS_NAME_MAX + 1, psk, 32, random_client));
	CHECK(!tls_begin_client(&p.client, long_name, 1, psk, TLS_PSK_MIN - 1, random_client));
	CHECK(!tls_begin_client(&p.client, long_name, 1, long_key, TLS_PSK_MAX + 1, random_client));
	CHECK(tls_begin_client(&p.client, long_name, TLS_NAME_MAX, long_key, TLS_PSK_MAX, random_client));
}

/* ---- Changed on the way -------------------------------------------------- */

/* What arrives instead of the bytes of a flight (0: hello, 1: answer, 2: finished). Whether the receiver was content.
 */
static bool accepted(const struct pair *p, int flight, const uint8_t *bytes, size_t len)
{
	static struct tls t;
	static struct wire out;
	size_t left;
	out.len = 0;
	if (flight == 1) {
		begin_client(&t, "alice", psk);
		feed(&t, &p->nothing, &out);
	} else {
		begin_server(&t);
		if (flight == 2)
			feed(&t, &p->hello, &out);
	}
	out.len = 0;
	enum tls_progress progress = feed_left(&t, bytes, len, len + 1, &out, &left);
	if (progress == TLS_FAILED)
		CHECK(out.len >= 7 && tls_reason(&t)); /* an alert */
	return flight ? progress == TLS_DONE : progress == TLS_MORE && out.len > 100;
}

static const struct wire *flight_of(const struct pair *p, int flight)
{
	return flight == 0 ? &p->hello : flight == 1 ? &p->answer : &p->finished;
}

static void every_bit(void)
{
	static struct pair p;
	static uint8_t bytes[2000];
	handshake(&p);
	for (int flight = 0; flight < 3; flight++) {
		const struct wire *w = flight_of(&p, flight);
		CHECK(accepted(&p, flight, w->at, w->len));
		for (size_t bit = 0; bit < 8 * w->len; bit++) {
			memcpy(bytes, w->at, w->len);
			bytes[bit / 8] ^= 1 << bit % 8;
			/* The version of a record that is not encrypted MUST be ignored (5.1). */
			bool ignored = flight < 2 && (bit / 8 == 1 || bit / 8 == 2);
			if (!CHECK(accepted(&p, flight, bytes, w->len) == ignored))
				printf("# flight %d, bit %zu of %zu\n", flight, bit, 8 * w->len);
		}
		for (size_t len = 0; len < w->len; len++)
			CHECK(!accepted(&p, flight, w->at, len));
	}
}

static void wrong_order(void)
{
	static struct pair p;
	static uint8_t bytes[4000];
	handshake(&p);
	for (int flight = 0; flight < 3; flight++) {
		for (int instead = 0; instead < 3; instead++) {
			const struct wire *w = flight_of(&p, instead);
			CHECK(accepted(&p, flight, w->at, w->len) == (flight == instead));
		}
	}
	/* The answer's records: ServerHello, EncryptedExtensions, Finished */
	size_t first = TLS_HEADER_BYTES + (p.answer.at[3] << 8 | p.answer.at[4]);
	size_t second = tls_record_bytes(p.answer.at + first), third = p.answer.len - first - second;
	CHECK(second == 6 + TLS_OVERHEAD && third == 36 + TLS_OVERHEAD);
	memcpy(bytes, p.answer.at, first);
	memcpy(bytes + first, p.answer.at + first + second, third);
	memcpy(bytes + first + third, p.answer.at + first, second);
	CHECK(!accepted(&p, 1, bytes, p.answer.len));  /* exchanged */
	CHECK(!accepted(&p, 1, bytes, first + third)); /* left out */
	memcpy(bytes, p.answer.at, first);
	memcpy(bytes + first, p.answer.at, first);
	CHECK(!accepted(&p, 1, bytes, 2 * first)); /* twice */
	memcpy(bytes, p.answer.at, first + second);
	memcpy(bytes + first + second, p.answer.at + first, second + third);
	CHECK(!accepted(&p, 1, bytes, first + 2 * second + third));
	/* The same hello again: another random on the side of the server, so its Finished is another. */
	static struct tls server;
	static struct wire out;
	random_server[0]++;
	begin_server(&server);
	random_server[0]--;
	CHECK(feed(&server, &p.hello, &out) == TLS_MORE);
	CHECK(feed(&server, &p.finished, &out) == TLS_FAILED);
}

/* A Finished of a peer that has the keys of records, but not what only the right one can know */
static void wrong_finished(void)
{
	static struct pair start, p;
	handshake(&start);
	for (int server = 0; server < 2; server++) {
		for (uint8_t len = 31; len <= 33; len++) {
			uint8_t message[MESSAGE_HEADER_BYTES + 33] = { FINISHED, 0, 0, len };
			static struct wire in, out;
			memset(&p, 0, sizeof(p));
			struct tls *t = server ? &p.server : &p.client, peer;
			begin_client(&p.client, "alice", psk);
			begin_server(&p.server);
			feed(&p.client, &p.nothing, &p.hello);
			feed(&p.server, &p.hello, &p.answer);
			p.answer.len -= 36 + TLS_OVERHEAD; /* without Finished */
			CHECK(feed(&p.client, &p.answer, &out) == TLS_MORE);
			memset(&peer, 0, sizeof(peer));
			peer.tx = t->rx;
			in.len = tls_seal(&peer, TLS_TYPE_HANDSHAKE, in.at, message, MESSAGE_HEADER_BYTES + len);
			out.len = 0;
			CHECK(feed(t, &in, &out) == TLS_FAILED);
			CHECK(t->alert == (len == 32 ? ALERT_DECRYPT_ERROR : ALERT_DECODE_ERROR));
		}
	}
}

/* change_cipher_spec is no message: between records it changes nothing, once the handshake has begun. */
static void change_cipher_spec(void)
{
	static const uint8_t ccs[] = { 20, 3, 3, 0, 1, 1 };
	static struct pair p;
	static uint8_t bytes[2000];
	handshake(&p);
	for (int flight = 0; flight < 3; flight++) {
		const struct wire *w = flight_of(&p, flight);
		memcpy(bytes, ccs, 6);
		memcpy(bytes + 6, w->at, w->len);
		CHECK(accepted(&p, flight, bytes, 6 + w->len) == (flight > 0));
		bytes[5] = 2;
		CHECK(!accepted(&p, flight, bytes, 6 + w->len));
		bytes[4] = 2;
		CHECK(!accepted(&p, flight, bytes, 6 + w->len));
		bytes[4] = 0;
		CHECK(!accepted(&p, flight, bytes, 5 + w->len));
	}
}

/* ---- A client that does what it should not ------------------------------- */

/* A ClientHello by hand: extensions as given, pre_shared_key behind them unless there are no names; its binders
 * are right. */
struct hand_hello {
	const char *extensions; /* hexadecimal */
	const char *suites, *compression, *id;
	const char *names[4];
	int binders_missing, behind; /* that many; bytes in the record behind the message */
	bool not_last;               /* another extension follows */
	uint8_t alert;               /* 0: taken */
	bool retry;                  /* a HelloRetryRequest comes */
};

static uint8_t *put_hex(uint8_t *p, const char *text)
{
	for (; text && *text; text += *text == ' ' ? 1 : 2) {
		if (*text != ' ')
			sscanf(text, "%2hhx", p++);
	}
	return p;
}

#define VERSIONS "002b0003020304"
#define GROUPS   "000a00040002001d"
#define MODES    "002d00020101"
#define SHARE    "00330026 0024 001d 0020 0900000000000000000000000000000000000000000000000000000000000001"
#define ALL      VERSIONS GROUPS MODES SHARE

static size_t hand_hello(struct tls *scratch, uint8_t *record, const struct hand_hello *h)
{
	static const uint8_t legacy[2] = { 3, 3 };
	struct output o = { record, 0 };
	uint8_t *p = put(tls_message(&o), legacy, 2), *list, *ext, *binders;
	memset(p, 7, 32);
	p = put_hex(p + 32, h->id ? h->id : "00");
	p = put_hex(p, h->suites ? h->suites : "00021303");
	p = put_hex(p, h->compression ? h->compression : "0100");
	list = p;
	p = put_hex(p + 2, h->extensions);
	ext = p;
	binders = NULL;
	int n = 0;
	if (h->names[0]) {
		p += 6;
		for (; n < 4 && h->names[n]; n++) {
			size_t len = strlen(h->names[n]);
			p = put(put16(p, (unsigned)len), h->names[n], len);
			memset(p, 0, 4);
			p += 4;
		}
		put16(ext + 4, (unsigned)(p - ext - 6));
		binders = p;
		n -= h->binders_missing;
		p = put16(p, (unsigned)n * 33);
		p += n * 33;
		put16(put16(ext, EXT_PRE_SHARED_KEY), (unsigned)(p - ext - 4));
	}
	if (h->not_last)
		p = put_hex(p, "ff010000");
	put16(list, (unsigned)(p - list - 2));
	tls_message_header(&o, CLIENT_HELLO, p);
	for (int i = 0; i < n && binders; i++) {
		uint8_t *binder = binders + 2 + 33 * i;
		tls_early_secret(scratch, !strcmp(h->names[i], "bob") ? other_psk : psk, 32);
		*binder = 32;
		tls_binder(scratch, binder + 1, record + 5, (size_t)(binders - record - 5));
	}
	memset(p, 0, (size_t)h->behind);
	p += h->behind;
	record[0] = TLS_TYPE_HANDSHAKE;
	put16(put16(record + 1, 0x0301), (unsigned)(p - record - 5));
	return (size_t)(p - record);
}

static const struct hand_hello hellos[] = {
	{ ALL, .names = { "alice" } },
	{ ALL, .names = { "nobody", "bob", "alice" } },
	{ ALL, .names = { "nobody", "", "alice" } },
	{ ALL, .names = { "alice" }, .id = "20 0102030405060708 0102030405060708 0102030405060708 0102030405060708" },
	{ ALL, .names = { "alice" }, .suites = "0008 0a0a 1301 1302 1303" },
	/* unknown extensions, and those of others */
	{ "0a0a0000" VERSIONS GROUPS "0010000e000c02683208687474702f312e31" MODES SHARE "001c00024001",
	  .names = { "alice" } },
	{ "002b0005040a0a0304" GROUPS MODES SHARE, .names = { "alice" } },
	{ VERSIONS "000a0008000600170018001d" MODES "0033002b0029 0017 0001 04 001d 0020"
		   "0900000000000000000000000000000000000000000000000000000000000001",
	  .names = { "alice" } },
	{ VERSIONS GROUPS "002d0003020001" SHARE, .names = { "alice" } },
	/* X25519 without a key of it */
	{ VERSIONS "000a000600040017001d" MODES "0033000700050017000104", .names = { "alice" }, .retry = true },
	{ VERSIONS GROUPS MODES "003300020000", .names = { "bob" }, .retry = true },

	{ GROUPS MODES SHARE, .names = { "alice" }, .alert = ALERT_PROTOCOL_VERSION },
	{ "", .names = { NULL }, .alert = ALERT_PROTOCOL_VERSION },
	{ "002b0003020303" GROUPS MODES SHARE, .names = { "alice" }, .alert = ALERT_PROTOCOL_VERSION },
	{ "002b0004020304ff" GROUPS MODES SHARE, .names = { "alice" }, .alert = ALERT_PROTOCOL_VERSION },
	{ "002b0000" GROUPS MODES SHARE, .names = { "alice" }, .alert = ALERT_PROTOCOL_VERSION },
	{ ALL, .names = { "alice" }, .suites = "00041301 1302", .alert = ALERT_HANDSHAKE_FAILURE },
	{ ALL, .names = { "alice" }, .suites = "0003130313" },
	{ ALL, .names = { "alice" }, .suites = "0000", .alert = ALERT_HANDSHAKE_FAILURE },
	{ ALL, .names = { "alice" }, .compression = "020001", .alert = ALERT_ILLEGAL_PARAMETER },
	{ ALL, .names = { "alice" }, .compression = "0101", .alert = ALERT_ILLEGAL_PARAMETER },
	{ ALL, .names = { "alice" }, .compression = "00", .alert = ALERT_ILLEGAL_PARAMETER },
	{ ALL, .names = { "alice" }, .id = "21 00 0102030405060708 0102030405060708 0102030405060708 0102030405060708",
	  .alert = ALERT_DECODE_ERROR },
	{ ALL, .names = { NULL }, .alert = ALERT_MISSING_EXTENSION },
	{ VERSIONS GROUPS SHARE, .names = { "alice" }, .alert = ALERT_MISSING_EXTENSION },
	{ VERSIONS GROUPS "002d00020100" SHARE, .names = { "alice" }, .alert = ALERT_HANDSHAKE_FAILURE },
	{ VERSIONS GROUPS "002d0003010100" SHARE, .names = { "alice" }, .alert = ALERT_MISSING_EXTENSION },
	{ ALL, .names = { "nobody", "neither" }, .alert = ALERT_UNKNOWN_PSK_IDENTITY },
	{ ALL, .names = { "" }, .alert = ALERT_UNKNOWN_PSK_IDENTITY },
	{ ALL, .names = { "nobody", "alice" }, .binders_missing = 1, .alert = ALERT_DECRYPT_ERROR },
	{ ALL, .names = { "alice" }, .binders_missing = 1, .alert = ALERT_DECRYPT_ERROR },
	{ ALL, .names = { "alice" }, .not_last = true, .alert = ALERT_ILLEGAL_PARAMETER },
	{ VERSIONS MODES SHARE, .names = { "alice" }, .alert = ALERT_MISSING_EXTENSION },
	{ VERSIONS GROUPS MODES, .names = { "alice" }, .alert = ALERT_MISSING_EXTENSION },
	{ VERSIONS "000a000400020017" MODES SHARE, .names = { "alice" }, .alert = ALERT_HANDSHAKE_FAILURE },
	{ VERSIONS GROUPS MODES "003300080006 001d 0002 0102", .names = { "alice" }, .alert = ALERT_ILLEGAL_PARAMETER },
	{ VERSIONS GROUPS MODES "003300080006 001d 0003 0102", .names = { "alice" }, .alert = ALERT_DECODE_ERROR },
	{ VERSIONS GROUPS MODES "00330003 0000 00", .names = { "alice" }, .alert = ALERT_MISSING_EXTENSION },
	{ VERSIONS GROUPS MODES "00330026 0024 001d 0020 "
				"0000000000000000000000000000000000000000000000000000000000000000",
	  .names = { "alice" }, .alert = ALERT_ILLEGAL_PARAMETER },
	{ VERSIONS GROUPS MODES "0033004a 0048"
				"001d 0020 0900000000000000000000000000000000000000000000000000000000000001"
				"001d 0020 0900000000000000000000000000000000000000000000000000000000000001",
	  .names = { "alice" }, .alert = ALERT_ILLEGAL_PARAMETER },
	/* twice the same */
	{ ALL VERSIONS, .names = { "alice" }, .alert = ALERT_DECODE_ERROR },
	{ ALL "ff010000ff010000", .names = { "alice" }, .alert = ALERT_DECODE_ERROR },
	/* the lengths of the last extension, and of all */
	{ ALL "ff0100", .names = { NULL }, .alert = ALERT_DECODE_ERROR },
	{ ALL "ff010001", .names = { NULL }, .alert = ALERT_DECODE_ERROR },
	{ ALL, .names = { "alice" }, .behind = 1, .alert = ALERT_UNEXPECTED_MESSAGE },
};

static void hand_made_hellos(void)
{
	static struct tls server, scratch;
	static struct wire in, out;
	for (size_t i = 0; i < sizeof(hellos) / sizeof(*hellos); i++) {
		const struct hand_hello *h = &hellos[i];
		sha256_begin(&scratch.handshake.transcript);
		in.len = hand_hello(&scratch, in.at, h);
		begin_server(&server);
		out.len = 0;
		enum tls_progress p = feed(&server, &in, &out);
		bool ok = h->alert ? p == TLS_FAILED && server.alert == h->alert
				   : p == TLS_MORE && (out.len < 120) == h->retry;
		if (!CHECK(ok))
			printf("# hello %zu: %s\n", i, tls_reason(&server));
		size_t id = in.at[5 + 4 + 34];
		if (!h->alert) /* the session's id comes back, and change_cipher_spec if it is not empty */
			CHECK(!memcmp(out.at + 5 + 4 + 34, in.at + 5 + 4 + 34, 1 + id) &&
			      (out.at[5 + (out.at[3] << 8 | out.at[4])] == TLS_TYPE_CHANGE_CIPHER_SPEC) == (id > 0));
		if (!h->retry)
			continue;
		/* Again, with a key; and again without one */
		CHECK(!memcmp(out.at + 5 + 4 + 2, tls_retry_random, 32));
		struct tls again = server;
		for (int good = 0; good < 2; good++) {
			struct hand_hello second = { good ? ALL : h->extensions, .names = { h->names[0] } };
			sha256_begin(&scratch.handshake.transcript);
			sha256_hash(&scratch.handshake.transcript, in.at + 5, in.len - 5);
			tls_transcript_retry(&scratch);
			sha256_hash(&scratch.handshake.transcript, out.at + 5, out.at[3] << 8 | out.at[4]);
			static struct wire in2, out2;
			in2.len = hand_hello(&scratch, in2.at, &second);
			out2.len = 0;
			server = again;
			CHECK(feed(&server, &in2, &out2) == (good ? TLS_MORE : TLS_FAILED));
			CHECK(good ? out2.len > 120 : server.alert == ALERT_ILLEGAL_PARAMETER);
			server = again; /* the first one once more is not bound to the request */
			CHECK(feed(&server, &in, &out2) == TLS_FAILED);
		}
	}
	/* Every length that a hello says of itself, changed: nothing is read behind its end. */
	sha256_begin(&scratch.handshake.transcript);
	in.len = hand_hello(&scratch, in.at, &hellos[0]);
	for (size_t at = 0; at < in.len; at++) {
		for (int value = 0; value < 256; value += 5) {
			uint8_t was = in.at[at];
			in.at[at] = (uint8_t)value;
			begin_server(&server);
			out.len = 0;
			feed(&server, &in, &out);
			CHECK(value == was || at == 1 || at == 2 || out.len < 10);
			in.at[at] = was;
		}
	}
}

/* Each name is looked up once, up to the first that is known. */
static void lookups(void)
{
	static struct tls server, scratch;
	static struct wire in, out;
	int count = 0;
	sha256_begin(&scratch.handshake.transcript);
	in.len = hand_hello(&scratch, in.at, &hellos[1]);
	tls_begin_server(&server, lookup, &count, random_server);
	CHECK(feed(&server, &in, &out) == TLS_MORE && count == 2);
	size_t len;
	CHECK(!memcmp(tls_name(&server, &len), "bob", 3) && len == 3);
}

/* No TLS at all, and records that are too long */
static void no_tls(void)
{
	static const struct {
		const char *bytes;
		uint8_t alert;
		const char *reason;
	} table[] = {
		{ "474554202f20", ALERT_UNEXPECTED_MESSAGE, NULL }, /* HTTP */
		{ "4e42444d41474943", ALERT_UNEXPECTED_MESSAGE, "a message that may not come now, or no TLS at all" },
		{ "1803030005", ALERT_UNEXPECTED_MESSAGE, NULL },
		{ "1603031000", ALERT_RECORD_OVERFLOW, NULL },
		{ "160303ffff", ALERT_RECORD_OVERFLOW, NULL },
		{ "1603030000", ALERT_UNEXPECTED_MESSAGE, NULL },
		{ "1603030004 01ffffff", ALERT_HANDSHAKE_FAILURE, NULL },
		{ "1603030004 02000000", ALERT_UNEXPECTED_MESSAGE, NULL },
		{ "1703030001 00", ALERT_UNEXPECTED_MESSAGE, NULL },
		{ "1503030002 0228", 0x28,
		  "nothing in common: TLS_CHACHA20_POLY1305_SHA256, X25519 and a pre-shared key are needed" },
		{ "1503030002 0100", 0, "the peer has closed the connection" },
		{ "1503030002 02ff", 0xff, "the peer has given up" },
		{ "1503030001 02", ALERT_UNEXPECTED_MESSAGE, NULL },
		{ "1503030000", ALERT_UNEXPECTED_MESSAGE, NULL },
	};
	static struct tls t;
	static struct wire in, out;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		in.len = (size_t)(put_hex(in.at, table[i].bytes) - in.at);
		begin_server(&t);
		out.len = 0;
		CHECK(feed(&t, &in, &out) == TLS_FAILED && t.alert == table[i].alert);
		CHECK(out.len == (t.by_peer ? 0 : 7));
		if (table[i].reason)
			CHECK_STR(tls_reason(&t), table[i].reason);
	}
}

/* A message in many records */
static void fragments(void)
{
	static struct pair p;
	static struct wire in, out;
	static struct tls t;
	handshake(&p);
	for (size_t piece = 1; piece < 60; piece++) {
		in.len = 0;
		for (size_t at = TLS_HEADER_BYTES; at < p.hello.len; at += piece) {
			size_t n = p.hello.len - at < piece ? p.hello.len - at : piece;
			in.at[in.len] = TLS_TYPE_HANDSHAKE;
			put16(put16(in.at + in.len + 1, 0x0303), (unsigned)n);
			memcpy(in.at + in.len + 5, p.hello.at + at, n);
			in.len += 5 + n;
		}
		begin_server(&t);
		out.len = 0;
		CHECK(feed(&t, &in, &out) == TLS_MORE && out.len > 120);
		/* Nothing may come between: an alert ends it, change_cipher_spec may not */
		size_t first = 5 + piece;
		uint8_t ccs[] = { 20, 3, 3, 0, 1, 1 };
		memcpy(in.at + first, ccs, 6);
		begin_server(&t);
		CHECK(feed(&t, &in, &out) == TLS_FAILED);
	}
}

/* ---- A server that does what it should not -------------------------------- */

struct hand_server {
	const char *hello;       /* of ServerHello, from the suite on; NULL: what is right */
	const char *extensions;  /* of EncryptedExtensions with all lengths; NULL: none */
	const char *id, *behind; /* in the record of ServerHello */
	uint8_t alert;           /* 0: taken */
};

#define SERVER_VERSION "002b00020304"
#define SERVER_KEY     "002900020000"

static const struct hand_server servers[] = {
	{ .hello = NULL },
	{ .extensions = "000a 000a000600040017001d" },
	{ .id = "0101", .alert = ALERT_ILLEGAL_PARAMETER },
	{ .behind = "08000002 0000", .alert = ALERT_UNEXPECTED_MESSAGE },
	{ .behind = "08", .alert = ALERT_UNEXPECTED_MESSAGE },
	{ .extensions = "000e 000a000600040017001d ff010000", .alert = ALERT_UNSUPPORTED_EXTENSION },
	{ .extensions = "0004 ff010000", .alert = ALERT_UNSUPPORTED_EXTENSION },
	{ .extensions = "0006 003300020000", .alert = ALERT_UNSUPPORTED_EXTENSION },
	{ .extensions = "0008 000a0000 000a0000", .alert = ALERT_DECODE_ERROR },
	{ .extensions = "0000 00", .alert = ALERT_DECODE_ERROR },
	{ .extensions = "0001", .alert = ALERT_DECODE_ERROR },
	{ .extensions = "00", .alert = ALERT_DECODE_ERROR },
	{ .hello = "1301 00 0034 " SERVER_VERSION "$" SERVER_KEY, .alert = ALERT_ILLEGAL_PARAMETER },
	{ .hello = "1303 01 0034 " SERVER_VERSION "$" SERVER_KEY, .alert = ALERT_ILLEGAL_PARAMETER },
	{ .hello = "1303 00", .alert = ALERT_PROTOCOL_VERSION },
	{ .hello = "1303 00 0000", .alert = ALERT_PROTOCOL_VERSION },
	{ .hello = "1303 00 0006 002b00020303", .alert = ALERT_PROTOCOL_VERSION },
	{ .hello = "1303 00 0008 002b000403040304", .alert = ALERT_PROTOCOL_VERSION },
	{ .hello = "1303 00 0006 " SERVER_VERSION, .alert = ALERT_HANDSHAKE_FAILURE },
	{ .hello = "1303 00 002e " SERVER_VERSION "$", .alert = ALERT_HANDSHAKE_FAILURE },
	{ .hello = "1303 00 000c " SERVER_VERSION SERVER_KEY, .alert = ALERT_HANDSHAKE_FAILURE },
	{ .hello = "1303 00 0038 " SERVER_VERSION "$" SERVER_KEY "ff010000", .alert = ALERT_UNSUPPORTED_EXTENSION },
	{ .hello = "1303 00 0038 " SERVER_VERSION "$" SERVER_KEY "ff010000 00", .alert = ALERT_DECODE_ERROR },
	{ .hello = "1303 00 0034 " SERVER_VERSION "$"
		   "002900020001",
	  .alert = ALERT_ILLEGAL_PARAMETER },
	{ .hello = "1303 00 003a " SERVER_VERSION SERVER_VERSION "$" SERVER_KEY, .alert = ALERT_DECODE_ERROR },
	{ .hello = "1303 00 0034 " SERVER_VERSION "00330024 0017 0020 "
		   "0900000000000000000000000000000000000000000000000000000000000001" SERVER_KEY,
	  .alert = ALERT_ILLEGAL_PARAMETER },
	{ .hello = "1303 00 0034 " SERVER_VERSION "00330024 001d 0020 "
		   "0000000000000000000000000000000000000000000000000000000000000000" SERVER_KEY,
	  .alert = ALERT_ILLEGAL_PARAMETER },
	{ .hello = "1303 00 0014 " SERVER_VERSION "00330004 001d 0000" SERVER_KEY, .alert = ALERT_ILLEGAL_PARAMETER },
};

/* What our server would do with the client's hello, by hand */
static void hand_answer(struct tls *t, const struct wire *hello, struct wire *out, const struct hand_server *h)
{
	struct output o = { out->at, 0 };
	uint8_t share[32], shared[32], *p;
	/* The client's share: 8 bytes of ServerHello's extensions' list may be anywhere; ours is at a fixed place. */
	const uint8_t *theirs = hello->at + 5 + 4 + 2 + 32 + 1 + 4 + 2 + 2 + 7 + 8 + 6 + 10;
	x25519(share, random_server + 32, x25519_base);
	x25519(shared, random_server + 32, theirs);
	begin_server(t);
	tls_early_secret(t, psk, 32);
	sha256_hash(&t->handshake.transcript, hello->at + 5, hello->len - 5);
	p = put(put16(tls_message(&o), 0x0303), random_server, 32);
	p = put_hex(p, h->id ? h->id : "00");
	const char *text = h->hello ? h->hello : "1303 00 0034 " SERVER_VERSION "$" SERVER_KEY;
	char part[400];
	snprintf(part, sizeof(part), "%s", text);
	char *rest = strchr(part, '$');
	if (rest)
		*rest++ = 0;
	p = put_hex(p, part);
	if (rest) {
		p = put(put_hex(p, "00330024 001d 0020"), share, 32);
		p = put_hex(p, rest);
	}
	tls_send_message(t, &o, SERVER_HELLO, p);
	if (h->behind) {
		size_t was = o.len - 5;
		p = put_hex(o.at, h->behind);
		was += (size_t)(p - o.at);
		o.len += (size_t)(p - o.at);
		o.at = p;
		put16(out->at + 3, (unsigned)was);
	}
	tls_handshake_keys(t, shared);
	tls_send_message(t, &o, ENCRYPTED_EXTENSIONS, put_hex(tls_message(&o), h->extensions ? h->extensions : "0000"));
	tls_send_finished(t, &o);
	out->len = o.len;
}

static void hand_made_servers(void)
{
	static struct tls client, server;
	static struct wire hello, answer, out, none;
	for (size_t i = 0; i < sizeof(servers) / sizeof(*servers); i++) {
		hello.len = answer.len = out.len = 0;
		begin_client(&client, "alice", psk);
		feed(&client, &none, &hello);
		hand_answer(&server, &hello, &answer, &servers[i]);
		enum tls_progress p = feed(&client, &answer, &out);
		if (!CHECK(p == (servers[i].alert ? TLS_FAILED : TLS_DONE) && client.alert == servers[i].alert))
			printf("# server %zu: %s\n", i, tls_reason(&client));
	}
}

/* HelloRetryRequest for a client, which has a key of the one group already */
static void retry_requests(void)
{
	static const struct {
		const char *extensions; /* from the suite on */
		uint8_t alert;
	} table[] = {
		{ "1303 00 000f " SERVER_VERSION "002c0005 0003 010203", 0 },
		{ "1303 00 0006 " SERVER_VERSION, ALERT_ILLEGAL_PARAMETER },
		{ "1303 00 000c " SERVER_VERSION "00330002 0017", ALERT_ILLEGAL_PARAMETER },
		{ "1303 00 000c " SERVER_VERSION "00330002 001d", ALERT_ILLEGAL_PARAMETER },
		{ "1303 00 0015 " SERVER_VERSION "002c0005 0003 010203 00330002 001d", ALERT_ILLEGAL_PARAMETER },
		{ "1303 00 000c " SERVER_VERSION "002c0002 0000", ALERT_DECODE_ERROR },
		{ "1303 00 000d " SERVER_VERSION "002c0003 0003 01", ALERT_DECODE_ERROR },
		{ "1302 00 000f " SERVER_VERSION "002c0005 0003 010203", ALERT_ILLEGAL_PARAMETER },
	};
	static struct tls client;
	static struct wire hello, request, again, none;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		hello.len = again.len = 0;
		begin_client(&client, "alice", psk);
		feed(&client, &none, &hello);
		struct tls_half off = { 0 };
		struct output o = { request.at, 0 };
		uint8_t *p = put(put16(tls_message(&o), 0x0303), tls_retry_random, 32);
		struct tls scratch = { .tx = off };
		sha256_begin(&scratch.handshake.transcript);
		p = put_hex(put_hex(p, "00"), table[i].extensions);
		tls_send_message(&scratch, &o, SERVER_HELLO, p);
		request.len = o.len;
		enum tls_progress progress = feed(&client, &request, &again);
		CHECK(progress == (table[i].alert ? TLS_FAILED : TLS_MORE) && client.alert == table[i].alert);
		if (table[i].alert)
			continue;
		/* The same hello with the cookie, and a binder for all of it; a server with that transcript takes it.
		 */
		CHECK(again.len == hello.len + 9);
		static struct tls server;
		begin_server(&server);
		sha256_hash(&server.handshake.transcript, hello.at + 5, hello.len - 5);
		tls_transcript_retry(&server);
		sha256_hash(&server.handshake.transcript, request.at + 5, request.len - 5);
		static struct wire answer, finished;
		answer.len = finished.len = 0;
		struct tls before = client;
		CHECK(feed(&server, &again, &answer) == TLS_MORE && answer.len > 120);
		CHECK(feed(&client, &answer, &finished) == TLS_DONE);
		CHECK(feed(&server, &finished, &none) == TLS_DONE && !none.len);
		client = before;
		CHECK(feed(&client, &request, &finished) == TLS_FAILED);
		CHECK(client.alert == ALERT_UNEXPECTED_MESSAGE);
	}
	/* The longest cookie, the longest name */
	uint8_t name[TLS_NAME_MAX] = { 1 };
	CHECK(tls_begin_client(&client, name, sizeof(name), psk, 32, random_client));
	hello.len = 0;
	feed(&client, &none, &hello);
	for (unsigned len = 1022; len <= 1023; len++) {
		struct output o = { request.at, 0 };
		struct tls scratch = { .server = false }, copy = client;
		uint8_t *p = put(put16(tls_message(&o), 0x0303), tls_retry_random, 32);
		p = put16(put_hex(p, "00 1303 00"), 6 + 4 + 2 + len);
		p = put16(put16(put16(put_hex(p, SERVER_VERSION), EXT_COOKIE), 2 + len), len);
		memset(p, 5, len);
		tls_send_message(&scratch, &o, SERVER_HELLO, p + len);
		request.len = o.len;
		again.len = 0;
		CHECK(feed(&copy, &request, &again) == (len == 1022 ? TLS_MORE : TLS_FAILED));
	}
}

/* ---- After the handshake -------------------------------------------------- */

/* What a client makes of a record with these contents of its server */
static enum tls_event event_of(struct tls *from, struct tls *to, uint8_t type, const char *hex)
{
	uint8_t content[300], record[300 + TLS_OVERHEAD], *data;
	size_t len = (size_t)(put_hex(content, hex) - content);
	len = tls_seal(from, type, record, content, len);
	return tls_open(to, record, len, &data, &len);
}

static void after_handshake(void)
{
	static const struct {
		uint8_t type;
		const char *content[3];
		enum tls_event client, server; /* for the last of them */
	} table[] = {
		{ 22, { "1800000100" }, TLS_NOTHING, TLS_NOTHING },
		{ 22, { "1800000101" }, TLS_REPLY, TLS_REPLY },
		{ 22, { "1800", "000101" }, TLS_REPLY, TLS_REPLY }, /* in two records of one key */
		{ 22, { "1800000102" }, TLS_ERROR, TLS_ERROR },
		{ 22, { "180000020000" }, TLS_ERROR, TLS_ERROR },
		{ 22,
		  { "18000000"
		    "00" },
		  TLS_ERROR,
		  TLS_ERROR },
		{ 22,
		  { "1800000100"
		    "1800000100" },
		  TLS_ERROR,
		  TLS_ERROR }, /* behind a change of keys */
		{ 22, { "" }, TLS_ERROR, TLS_ERROR },
		{ 22, { "04000003 010203" }, TLS_NOTHING, TLS_ERROR }, /* NewSessionTicket */
		{ 22, { "04000003 010203 04000000" }, TLS_NOTHING, TLS_ERROR },
		{ 22, { "040000", "05 010203", "0405 1800000101" }, TLS_REPLY, TLS_ERROR },
		{ 22, { "04ffffff", "00", "00" }, TLS_NOTHING, TLS_ERROR },
		{ 22, { "0d000000" }, TLS_ERROR, TLS_ERROR }, /* CertificateRequest */
		{ 22, { "01000000" }, TLS_ERROR, TLS_ERROR },
		{ 22, { "14000000" }, TLS_ERROR, TLS_ERROR },
		{ 21, { "0100" }, TLS_CLOSED, TLS_CLOSED },
		{ 21, { "0200" }, TLS_CLOSED, TLS_CLOSED }, /* the level means nothing */
		{ 21, { "015a" }, TLS_NOTHING, TLS_NOTHING },
		{ 21, { "0228" }, TLS_PEER_ALERT, TLS_PEER_ALERT },
		{ 21, { "0114" }, TLS_PEER_ALERT, TLS_PEER_ALERT },
		{ 21, { "01" }, TLS_ERROR, TLS_ERROR },
		{ 21, { "" }, TLS_ERROR, TLS_ERROR },
		{ 21, { "010001" }, TLS_ERROR, TLS_ERROR },
		{ 20, { "01" }, TLS_ERROR, TLS_ERROR },
		{ 24, { "01" }, TLS_ERROR, TLS_ERROR },
		{ 0, { "" }, TLS_ERROR, TLS_ERROR }, /* no type at all */
		{ 23, { "" }, TLS_DATA, TLS_DATA },
	};
	static struct pair start, p;
	handshake(&start);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		for (int server = 0; server < 2; server++) {
			p = start;
			struct tls *to = server ? &p.server : &p.client, *from = server ? &p.client : &p.server;
			enum tls_event want = server ? table[i].server : table[i].client, event = TLS_NOTHING;
			for (int n = 0; n < 3 && table[i].content[n] && event == TLS_NOTHING; n++)
				event = event_of(from, to, table[i].type, table[i].content[n]);
			if (!CHECK(event == want))
				printf("# record %zu of the table: %d, not %d\n", i, event, want);
			bool over = event != TLS_DATA && event != TLS_NOTHING && event != TLS_REPLY;
			if (over)
				CHECK(event_of(from, to, TLS_TYPE_DATA, "00") == TLS_ERROR);
			if (event == TLS_ERROR) { /* which the other side is told */
				uint8_t record[TLS_ALERT_BYTES], *data;
				size_t len = tls_end(to, record);
				CHECK(len == TLS_ALERT_BYTES && tls_reason(to));
				CHECK(tls_open(from, record, len, &data, &len) == TLS_PEER_ALERT);
			}
		}
	}
	/* No other record inside a message */
	p = start;
	CHECK(event_of(&p.server, &p.client, 22, "04000010 00") == TLS_NOTHING);
	CHECK(event_of(&p.server, &p.client, 23, "00") == TLS_ERROR);
	p = start;
	CHECK(event_of(&p.server, &p.client, 22, "04") == TLS_NOTHING);
	CHECK(event_of(&p.server, &p.client, 21, "0100") == TLS_ERROR);
}

static void new_keys(void)
{
	static struct pair p;
	uint8_t record[TLS_KEY_UPDATE_BYTES], request[5], *data;
	size_t len;
	handshake(&p);
	for (int i = 0; i < 5; i++) {
		len = tls_key_update(&p.client, record);
		CHECK(len == TLS_KEY_UPDATE_BYTES && tls_open(&p.server, record, len, &data, &len) == TLS_NOTHING);
		CHECK(same_keys(&p.client, &p.server) && passes(&p.client, &p.server, 100) &&
		      passes(&p.server, &p.client, 5));
		/* by a kernel that encrypts: a message, and then the keys */
		memcpy(request, tls_key_update_message, 5);
		request[4] = 1;
		CHECK(tls_control(&p.client, TLS_TYPE_HANDSHAKE, request, 5) == TLS_REPLY);
		tls_next_key(&p.server);
		CHECK(same_keys(&p.server, &p.client));
	}
	CHECK(tls_control(&p.client, TLS_TYPE_DATA, request, 5) == TLS_ERROR);
	/* The last numbers */
	handshake(&p);
	p.client.tx.seq = p.server.rx.seq = UINT64_MAX - 2;
	CHECK(passes(&p.client, &p.server, 5) && passes(&p.client, &p.server, 5));
	CHECK(tls_seal(&p.client, TLS_TYPE_DATA, record, request, 1) == 0);
}

static void bad_records(void)
{
	static struct pair start, p;
	uint8_t record[100], twice[100], *data;
	size_t len;
	handshake(&start);
	p = start;
	size_t bytes = tls_seal(&p.client, TLS_TYPE_DATA, record, psk, 32);
	for (size_t bit = 0; bit < 8 * bytes; bit++) {
		struct tls server = p.server;
		memcpy(twice, record, bytes);
		twice[bit / 8] ^= 1 << bit % 8;
		size_t told = tls_record_bytes(twice);
		CHECK((told == bytes) == (bit >= 8 && bit / 8 != 3 && bit / 8 != 4));
		CHECK(tls_open(&server, twice, told == bytes ? told : TLS_HEADER_BYTES, &data, &len) == TLS_ERROR);
	}
	/* Again, and in another order */
	memcpy(twice, record, bytes);
	CHECK(tls_open(&p.server, twice, bytes, &data, &len) == TLS_DATA && len == 32 && !memcmp(data, psk, 32));
	CHECK(tls_open(&p.server, record, bytes, &data, &len) == TLS_ERROR);
	p = start;
	tls_seal(&p.client, TLS_TYPE_DATA, record, psk, 32);
	tls_seal(&p.client, TLS_TYPE_DATA, twice, psk, 32);
	CHECK(tls_open(&p.server, twice, bytes, &data, &len) == TLS_ERROR);
	/* Back to where it comes from */
	p = start;
	tls_seal(&p.client, TLS_TYPE_DATA, record, psk, 32);
	CHECK(tls_open(&p.client, record, bytes, &data, &len) == TLS_ERROR);
	/* Before the handshake is over */
	begin_server(&p.server);
	CHECK(tls_open(&p.server, record, bytes, &data, &len) == TLS_ERROR);
	/* Not encrypted; lengths */
	static const char *const headers[] = { "1603030005", "1503030002", "1403030001", "1703030010",
					       "1703034101", "170303ffff", "1703030000" };
	for (size_t i = 0; i < sizeof(headers) / sizeof(*headers); i++) {
		p = start;
		put_hex(record, headers[i]);
		CHECK(!tls_record_bytes(record));
		CHECK(tls_open(&p.server, record, TLS_HEADER_BYTES, &data, &len) == TLS_ERROR);
	}
	/* Padding up to the longest that is legal, and more data than that */
	static uint8_t big[TLS_RECORD_MAX], content[TLS_DATA_MAX + 300];
	for (size_t n = TLS_DATA_MAX - 1; n < TLS_DATA_MAX + 239; n += 79) {
		p = start;
		memset(content, 0, sizeof(content));
		content[4] = TLS_TYPE_DATA;
		bytes = tls_seal(&p.client, 0, big, content, n);
		enum tls_event event = tls_open(&p.server, big, bytes, &data, &len);
		CHECK(n <= TLS_DATA_MAX ? event == TLS_DATA && len == 4 : event == TLS_ERROR);
	}
}

int main(void)
{
	for (int i = 0; i < TLS_RANDOM_BYTES; i++) {
		random_client[i] = (uint8_t)(i * 7 + 1);
		random_server[i] = (uint8_t)(i * 11 + 2);
	}
	key_schedule();
	succeeds();
	clear_alerts();
	pieces();
	wrong_keys();
	wrong_order();
	wrong_finished();
	change_cipher_spec();
	hand_made_hellos();
	lookups();
	no_tls();
	fragments();
	hand_made_servers();
	retry_requests();
	after_handshake();
	new_keys();
	bad_records();
	every_bit();
	return test_end();
}
