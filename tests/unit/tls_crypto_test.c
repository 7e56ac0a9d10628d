/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The primitives of tls/, by published vectors: Wycheproof, FIPS 180-4, RFC 7748, RFC 8439, RFC 8448. */
#include "test.h"

#include "tls/chacha20.h"
#include "tls/crypto.h"

#include <stdlib.h>

/* Bytes of a vector */
struct bytes {
	size_t len;
	uint8_t *at;
};

static struct bytes hex(const char *text)
{
	struct bytes b = { strlen(text) / 2, NULL };
	b.at = malloc(b.len + 1); /* one call, one object: the sanitizer sees every byte too many */
	for (size_t i = 0; i < b.len; i++) {
		unsigned value;
		sscanf(text + 2 * i, "%2x", &value);
		b.at[i] = (uint8_t)value;
	}
	return b;
}

static bool is(const uint8_t *data, const char *want)
{
	struct bytes b = hex(want);
	bool same = !memcmp(data, b.at, b.len);
	free(b.at);
	return same;
}

static bool vector(bool ok, const char *kind, int number)
{
	if (!ok)
		printf("# %s, vector %d\n", kind, number);
	return CHECK(ok);
}

static void aead(int number, const char *key, const char *nonce, const char *aad, const char *message,
		 const char *cipher, const char *tag, bool valid)
{
	struct bytes k = hex(key), n = hex(nonce), a = hex(aad), m = hex(message), c = hex(cipher), t = hex(tag);
	uint8_t *out = malloc(m.len + 1), made[16];
	chacha20_poly1305_seal(k.at, n.at, a.at, a.len, out, m.at, m.len, made);
	bool sealed = !memcmp(out, c.at, c.len) && !memcmp(made, t.at, 16);
	vector(m.len == c.len && t.len == 16 && sealed == valid, "AEAD, sealed", number);
	memcpy(out, m.at, m.len); /* in place */
	chacha20_poly1305_seal(k.at, n.at, a.at, a.len, out, out, m.len, made);
	vector((!memcmp(out, c.at, c.len) && !memcmp(made, t.at, 16)) == valid, "AEAD, in place", number);
	memcpy(out, c.at, c.len);
	bool opened = chacha20_poly1305_open(k.at, n.at, a.at, a.len, out, c.len, t.at);
	vector(opened == valid && !memcmp(out, valid ? m.at : c.at, c.len), "AEAD, opened", number);
	free(k.at), free(n.at), free(a.at), free(m.at), free(c.at), free(t.at), free(out);
}

static void hkdf(int number, const char *ikm, const char *salt, const char *info, size_t size, const char *okm)
{
	struct bytes i = hex(ikm), s = hex(salt), f = hex(info), want = hex(okm);
	uint8_t prk[32], block[32], *message = calloc(1, 32 + f.len + 1), *out = malloc(size + 32);
	hmac_sha256(prk, s.at, s.len, i.at, i.len);
	/* One block by hkdf_expand(), if info fits; more as RFC 5869 makes them */
	if (f.len <= HKDF_INFO_MAX) {
		size_t len = size < 32 ? size : 32;
		hkdf_expand(out, len, prk, f.at, f.len);
		vector(!memcmp(out, want.at, len), "HKDF, first block", number);
	}
	for (size_t at = 0, n = 1; at < size; at += 32, n++) {
		memcpy(message, block, n > 1 ? 32 : 0);
		memcpy(message + (n > 1 ? 32 : 0), f.at, f.len);
		message[(n > 1 ? 32 : 0) + f.len] = (uint8_t)n;
		hmac_sha256(block, prk, 32, message, (n > 1 ? 32 : 0) + f.len + 1);
		memcpy(out + at, block, 32);
	}
	vector(want.len == size && !memcmp(out, want.at, size), "HKDF", number);
	free(i.at), free(s.at), free(f.at), free(want.at), free(message), free(out);
}

static void hmac(int number, const char *key, const char *message, const char *tag, bool valid)
{
	struct bytes k = hex(key), m = hex(message), t = hex(tag);
	uint8_t out[32];
	hmac_sha256(out, k.at, k.len, m.at, m.len);
	vector(same_secret(out, t.at, t.len) == valid, "HMAC", number);
	free(k.at), free(m.at), free(t.at);
}

static void xdh(int number, const char *scalar, const char *point, const char *shared)
{
	struct bytes k = hex(scalar), u = hex(point), want = hex(shared);
	static const uint8_t zero[32];
	uint8_t out[32];
	bool ok = x25519(out, k.at, u.at);
	vector(!memcmp(out, want.at, 32) && ok == !!memcmp(want.at, zero, 32), "X25519", number);
	free(k.at), free(u.at), free(want.at);
}

static void wycheproof(void)
{
#define AEAD(number, ...) aead(number, __VA_ARGS__);
#define HKDF(number, ...) hkdf(number, __VA_ARGS__);
#define HMAC(number, ...) hmac(number, __VA_ARGS__);
#define XDH(number, ...)  xdh(number, __VA_ARGS__);
#include "vectors/wycheproof.h"
}

/* FIPS 180-4 (the examples of NIST), in pieces of each length */
static void sha256_vectors(void)
{
	static const struct {
		const char *text, *hash;
	} table[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
		{ "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnop"
		  "q"
		  "rstnopqrstu",
		  "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1" },
	};
	struct sha256 s;
	uint8_t out[32];
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		for (size_t piece = 1, len = strlen(table[i].text); piece <= len + 1; piece++) {
			sha256_begin(&s);
			for (size_t at = 0; at < len; at += piece)
				sha256_hash(&s, table[i].text + at, len - at < piece ? len - at : piece);
			sha256_end(&s, out);
			CHECK(is(out, table[i].hash));
		}
	}
	sha256_begin(&s);
	for (int i = 0; i < 1000000; i++)
		sha256_hash(&s, "a", 1);
	sha256_end(&s, out);
	CHECK(is(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
}

/* RFC 7748, section 5.2: each result is the next scalar */
static void x25519_iterated(void)
{
	uint8_t k[32] = { 9 }, u[32] = { 9 }, r[32];
	for (int i = 0; i < 1000; i++) {
		x25519(r, k, u);
		memcpy(u, k, 32);
		memcpy(k, r, 32);
		if (!i)
			CHECK(is(k, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
	}
	CHECK(is(k, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
	/* RFC 8448, section 3: both sides */
	struct bytes client = hex("49af42ba7f7994852d713ef2784bcbcaa7911de26adc5642cb634540e7ea5005");
	struct bytes server = hex("b1580eeadf6dd589b8ef4f2d5652578cc810e9980191ec8d058308cea216a21e");
	uint8_t a[32], b[32];
	CHECK(x25519(a, client.at, x25519_base) &&
	      is(a, "99381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c"));
	CHECK(x25519(b, server.at, x25519_base) &&
	      is(b, "c9828876112095fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f"));
	CHECK(x25519(r, client.at, b) && is(r, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d"));
	CHECK(x25519(r, server.at, a) && is(r, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d"));
	free(client.at), free(server.at);
}

/* RFC 8439, appendix A.3: what Poly1305 has to carry, and where 2^130 - 5 begins */
static void poly1305_edges(void)
{
	static const struct {
		const char *key, *data, *tag;
	} table[] = {
		/* vectors 7 to 11: r, and s = 0 unless given */
		{ "02000000000000000000000000000000"
		  "00000000000000000000000000000000",
		  "ffffffffffffffffffffffffffffffff", "03000000000000000000000000000000" },
		{ "02000000000000000000000000000000"
		  "ffffffffffffffffffffffffffffffff",
		  "02000000000000000000000000000000", "03000000000000000000000000000000" },
		{ "01000000000000000000000000000000"
		  "00000000000000000000000000000000",
		  "ffffffffffffffffffffffffffffffff"
		  "f0ffffffffffffffffffffffffffffff"
		  "11000000000000000000000000000000",
		  "05000000000000000000000000000000" },
		{ "01000000000000000000000000000000"
		  "00000000000000000000000000000000",
		  "ffffffffffffffffffffffffffffffff"
		  "fbfefefefefefefefefefefefefefefe"
		  "01010101010101010101010101010101",
		  "00000000000000000000000000000000" },
		{ "02000000000000000000000000000000"
		  "00000000000000000000000000000000",
		  "fdffffffffffffffffffffffffffffff", "faffffffffffffffffffffffffffffff" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct bytes key = hex(table[i].key), data = hex(table[i].data);
		struct poly1305 p;
		uint8_t tag[16];
		poly1305_begin(&p, key.at);
		poly1305_padded(&p, data.at, data.len);
		poly1305_end(&p, key.at, tag);
		vector(is(tag, table[i].tag), "Poly1305", 7 + (int)i);
		free(key.at), free(data.at);
	}
}

/* Every length around the runs of the key stream, by a stream made block by block. */
static void lengths(void)
{
	enum { MAX = 3 * CHACHA20_RUN_BYTES };
	uint8_t key[32] = { 1, 2, 3 }, nonce[12] = { 4, 5 }, in[MAX], out[MAX], whole[MAX], tag[16];
	for (int i = 0; i < MAX; i++)
		in[i] = (uint8_t)(i * 7);
	chacha20_poly1305_seal(key, nonce, "", 0, whole, in, MAX, tag);
	for (size_t len = 0; len < MAX; len++) {
		memset(out, 0x55, MAX);
		chacha20_poly1305_seal(key, nonce, "", 0, out, in, len, tag);
		bool ok = !memcmp(out, whole, len) && out[len] == 0x55;
		ok &= chacha20_poly1305_open(key, nonce, "", 0, out, len, tag) && !memcmp(out, in, len);
		vector(ok, "length", (int)len);
		tag[len % 16] ^= 1 << len % 8;
		CHECK(!chacha20_poly1305_open(key, nonce, "", 0, out, len, tag));
	}
}

int main(void)
{
	sha256_vectors();
	wycheproof();
	x25519_iterated();
	poly1305_edges();
	lengths();
	return test_end();
}
