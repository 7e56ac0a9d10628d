/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The primitives of the suite, as pure functions: SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869),
 * X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439).
 *
 * No branch and no index depends on a key or on data; lengths are not secret. Any thread. Outputs may not
 * overlap inputs, except where it is said.
 */
#ifndef TLS_CRYPTO_H
#define TLS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A test of constant time defines it: marks data that depends on secrets as public from here on (declassification). */
#ifndef TLS_PUBLIC
#define TLS_PUBLIC(p, len)
#endif

enum {
	SHA256_BYTES = 32,
	X25519_BYTES = 32,
	CHACHA20_POLY1305_KEY_BYTES = 32,
	CHACHA20_POLY1305_NONCE_BYTES = 12,
	CHACHA20_POLY1305_TAG_BYTES = 16,
};

/* A hash of bytes that come in pieces. A copy of it is a hash of the same bytes. */
struct sha256 {
	uint64_t bytes;
	uint32_t h[8];
	uint8_t block[64];
};

void sha256_begin(struct sha256 *s);
void sha256_hash(struct sha256 *s, const void *data, size_t len);
/* s is used up. */
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]);

/* out may be key or data. */
void hmac_sha256(uint8_t out[SHA256_BYTES], const uint8_t *key, size_t key_len, const void *data, size_t len);

/* HKDF-Expand for one block: len is at most SHA256_BYTES. info_len: at most HKDF_INFO_MAX. out may be prk. */
enum { HKDF_INFO_MAX = 127 };
void hkdf_expand(uint8_t *out, size_t len, const uint8_t prk[SHA256_BYTES], const void *info, size_t info_len);

/* out = scalar * point, the u coordinates. False: out is all zeroes, as points of low order give. */
bool x25519(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES], const uint8_t point[X25519_BYTES]);
extern const uint8_t x25519_base[X25519_BYTES];

/* Encrypts len bytes from in to out, which may be the same, and writes the tag. */
void chacha20_poly1305_seal(const uint8_t *key, const uint8_t *nonce, const void *aad, size_t aad_len, uint8_t *out,
			    const uint8_t *in, size_t len, uint8_t *tag);

/* Decrypts data in place if the tag is right. False: it is not, and data is as it was. */
bool chacha20_poly1305_open(const uint8_t *key, const uint8_t *nonce, const void *aad, size_t aad_len, uint8_t *data,
			    size_t len, const uint8_t *tag);

/* Whether len bytes are the same, in a time that does not tell where they differ. */
bool same_secret(const void *a, const void *b, size_t len);

/* Overwrites memory in a way that the compiler keeps. */
void wipe(void *p, size_t len);

#endif
