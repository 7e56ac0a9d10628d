/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The key schedule (RFC 8446, section 7.1). */
#include "tls/internal.h"

/* HKDF-Expand-Label. The label is one of this file's callers', 12 bytes at most; context_len is 0 or SHA256_BYTES. */
static void expand_label(uint8_t *out, size_t len, const uint8_t secret[SHA256_BYTES], const char *label,
			 const uint8_t *context, size_t context_len)
{
	uint8_t info[2 + 1 + 6 + 12 + 1 + SHA256_BYTES], *p = info;
	size_t label_len = strlen(label);
	p = put16(p, (unsigned)len);
	*p++ = 6 + label_len;
	p = put(p, "tls13 ", 6);
	p = put(p, label, label_len);
	*p++ = context_len;
	p = put(p, context, context_len);
	hkdf_expand(out, len, secret, info, (size_t)(p - info));
}

static void empty_hash(uint8_t out[SHA256_BYTES])
{
	struct sha256 s;
	sha256_begin(&s);
	sha256_end(&s, out);
}

static const uint8_t zero[SHA256_BYTES];

void tls_early_secret(struct tls *t, const uint8_t *psk, size_t len)
{
	hmac_sha256(t->handshake.secret, zero, SHA256_BYTES, psk, len);
}

void tls_next_secret(struct tls *t, const uint8_t *input)
{
	uint8_t salt[SHA256_BYTES];
	empty_hash(salt);
	expand_label(salt, SHA256_BYTES, t->handshake.secret, "derived", salt, SHA256_BYTES);
	hmac_sha256(t->handshake.secret, salt, SHA256_BYTES, input ? input : zero, SHA256_BYTES);
	wipe(salt, sizeof(salt));
}

static void transcript_hash(const struct tls *t, uint8_t out[SHA256_BYTES])
{
	struct sha256 s = t->handshake.transcript;
	sha256_end(&s, out);
}

/* out: a secret of the present one and the transcript */
static void derive(const struct tls *t, uint8_t out[SHA256_BYTES], const char *label)
{
	uint8_t hash[SHA256_BYTES];
	transcript_hash(t, hash);
	expand_label(out, SHA256_BYTES, t->handshake.secret, label, hash, SHA256_BYTES);
}

void tls_transcript_retry(struct tls *t)
{
	uint8_t message[MESSAGE_HEADER_BYTES + SHA256_BYTES] = { MESSAGE_HASH, 0, 0, SHA256_BYTES };
	sha256_end(&t->handshake.transcript, message + MESSAGE_HEADER_BYTES);
	sha256_begin(&t->handshake.transcript);
	sha256_hash(&t->handshake.transcript, message, sizeof(message));
}

/* What Finished and binders have in common: a MAC of the transcript with a key of a secret */
static void finished(const struct sha256 *transcript, uint8_t out[SHA256_BYTES], const uint8_t secret[SHA256_BYTES])
{
	struct sha256 s = *transcript;
	uint8_t key[SHA256_BYTES];
	expand_label(key, SHA256_BYTES, secret, "finished", zero, 0);
	sha256_end(&s, out);
	hmac_sha256(out, key, SHA256_BYTES, out, SHA256_BYTES);
	wipe(key, sizeof(key));
}

void tls_binder(const struct tls *t, uint8_t out[SHA256_BYTES], const uint8_t *partial, size_t len)
{
	struct sha256 s = t->handshake.transcript;
	uint8_t secret[SHA256_BYTES];
	sha256_hash(&s, partial, len);
	empty_hash(secret);
	expand_label(secret, SHA256_BYTES, t->handshake.secret, "ext binder", secret, SHA256_BYTES);
	finished(&s, out, secret);
	wipe(secret, sizeof(secret));
}

void tls_verify_data(const struct tls *t, uint8_t out[SHA256_BYTES], const uint8_t secret[SHA256_BYTES])
{
	finished(&t->handshake.transcript, out, secret);
}

void tls_half_begin(struct tls_half *h, const uint8_t secret[SHA256_BYTES])
{
	memmove(h->secret, secret, SHA256_BYTES);
	expand_label(h->key, sizeof(h->key), secret, "key", zero, 0);
	expand_label(h->iv, sizeof(h->iv), secret, "iv", zero, 0);
	h->seq = 0;
	h->on = true;
}

void tls_half_next(struct tls_half *h)
{
	expand_label(h->secret, SHA256_BYTES, h->secret, "traffic upd", zero, 0);
	tls_half_begin(h, h->secret);
}

static void half_derive(const struct tls *t, struct tls_half *h, const char *label)
{
	derive(t, h->secret, label);
	tls_half_begin(h, h->secret);
}

void tls_handshake_keys(struct tls *t, const uint8_t shared[X25519_BYTES])
{
	tls_next_secret(t, shared);
	half_derive(t, t->server ? &t->rx : &t->tx, "c hs traffic");
	half_derive(t, t->server ? &t->tx : &t->rx, "s hs traffic");
}

void tls_application_keys(struct tls *t)
{
	tls_next_secret(t, NULL);
	half_derive(t, t->server ? &t->tx : &t->rx, "s ap traffic");
	derive(t, t->handshake.secret, "c ap traffic");
}
