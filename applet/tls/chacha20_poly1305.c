/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The AEAD of RFC 8439, section 2.8. */
#include "tls/chacha20.h"
#include "tls/crypto.h"

#include <string.h>

/* One message. The first block of the key stream is Poly1305's key; the other blocks of the first run are for the
 * first data, so a short message takes one run. */
struct aead {
	uint32_t state[16];
	uint8_t stream[CHACHA20_RUN_BYTES]; /* the first run; a last part */
	struct poly1305 mac;
};

enum { FIRST_BYTES = CHACHA20_RUN_BYTES - 64 };

static void aead_begin(struct aead *a, const uint8_t *key, const uint8_t *nonce)
{
	memcpy(a->state, "expand 32-byte k", 16);
	memcpy(a->state + 4, key, 32);
	a->state[12] = 0;
	memcpy(a->state + 13, nonce, 12);
	for (int i = 0; i < 16; i++)
		a->state[i] = little32(a->state[i]);
	memset(a->stream, 0, sizeof(a->stream));
	chacha20_run(a->state, a->stream, a->stream);
}

/* Once after aead_begin(): for what follows in len, stream is used anew. */
static void encrypt(struct aead *a, uint8_t *out, const uint8_t *in, size_t len)
{
	size_t first = len < FIRST_BYTES ? len : FIRST_BYTES;
	for (size_t i = 0; i < first; i++)
		out[i] = in[i] ^ a->stream[64 + i];
	for (out += first, in += first, len -= first; len >= CHACHA20_RUN_BYTES; len -= CHACHA20_RUN_BYTES) {
		chacha20_run(a->state, out, in);
		out += CHACHA20_RUN_BYTES;
		in += CHACHA20_RUN_BYTES;
	}
	if (len) {
		memcpy(a->stream, in, len);
		chacha20_run(a->state, a->stream, a->stream);
		memcpy(out, a->stream, len);
	}
}

/* Before encrypt() changes stream: the key is there. */
static void authenticate(struct aead *a, const uint8_t *key, const void *aad, size_t aad_len, const uint8_t *data,
			 size_t len, uint8_t *tag)
{
	uint64_t lengths[2] = { little64(aad_len), little64(len) };
	poly1305_begin(&a->mac, key);
	poly1305_padded(&a->mac, aad, aad_len);
	poly1305_padded(&a->mac, data, len);
	poly1305_padded(&a->mac, (const uint8_t *)lengths, sizeof(lengths));
	poly1305_end(&a->mac, key, tag);
}

void chacha20_poly1305_seal(const uint8_t *key, const uint8_t *nonce, const void *aad, size_t aad_len, uint8_t *out,
			    const uint8_t *in, size_t len, uint8_t *tag)
{
	struct aead a;
	uint8_t mac_key[32];
	aead_begin(&a, key, nonce);
	memcpy(mac_key, a.stream, sizeof(mac_key));
	encrypt(&a, out, in, len);
	authenticate(&a, mac_key, aad, aad_len, out, len, tag);
	wipe(&a, sizeof(a));
	wipe(mac_key, sizeof(mac_key));
}

bool chacha20_poly1305_open(const uint8_t *key, const uint8_t *nonce, const void *aad, size_t aad_len, uint8_t *data,
			    size_t len, const uint8_t *tag)
{
	struct aead a;
	uint8_t expected[CHACHA20_POLY1305_TAG_BYTES];
	aead_begin(&a, key, nonce);
	authenticate(&a, a.stream, aad, aad_len, data, len, expected);
	bool right = same_secret(expected, tag, sizeof(expected));
	if (right)
		encrypt(&a, data, data, len);
	wipe(&a, sizeof(a));
	return right;
}
