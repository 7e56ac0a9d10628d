/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* ChaCha20 and Poly1305 by themselves; for chacha20_poly1305.c. Pure functions, constant time. */
#ifndef TLS_CHACHA20_H
#define TLS_CHACHA20_H

#include "tls/limb.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHACHA20_RUN_BYTES = 8 * 64 };

/* out = in ^ the next CHACHA20_RUN_BYTES of the key stream; both may be the same. state: the 16 words of RFC 8439,
 * section 2.3; its counter moves on. */
void chacha20_run(uint32_t *state, uint8_t *out, const uint8_t *in);

enum { POLY1305_LIMBS = 16 / LIMB_BYTES };

struct poly1305 {
	limb r[POLY1305_LIMBS], s[POLY1305_LIMBS]; /* the key: its first half, and that times 5/4 */
	limb h[POLY1305_LIMBS + 1];
};

void poly1305_begin(struct poly1305 *p, const uint8_t key[32]);
/* data, with zeroes up to a multiple of 16 bytes, as the AEAD wants it */
void poly1305_padded(struct poly1305 *p, const uint8_t *data, size_t len);
/* key: the same */
void poly1305_end(struct poly1305 *p, const uint8_t key[32], uint8_t tag[16]);

#endif
