/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Poly1305 (RFC 8439): h = (h + block) * r modulo p = 2^130 - 5. h has a limb more than 128 bits. Limb i of h times
 * limb j of r belongs to limb i + j of the product; from limb N = 2^128 on it returns at the bottom 5/4 times, as
 * 2^130 = 5. The limbs of r but the first are multiples of 4, so 5/4 of them are numbers (s). Sums of products
 * fit: clamped limbs of r have 4 zero bits at the top, and the top limb of h is 6 at most.
 */
#include "tls/chacha20.h"

#include <string.h>

enum { N = POLY1305_LIMBS };

#define UNROLL _Pragma("GCC unroll 8")

void poly1305_begin(struct poly1305 *p, const uint8_t key[32])
{
	uint8_t r[16];
	memset(p, 0, sizeof(*p));
	memcpy(r, key, 16);
	for (int i = 0; i < 16; i += 4) {
		r[i + 3] &= 15;
		if (i)
			r[i] &= 252;
	}
	for (int i = 0; i < N; i++) {
		p->r[i] = limb_get(r + i * sizeof(limb));
		p->s[i] = p->r[i] + (p->r[i] >> 2);
	}
	p->s[0] = 0; /* h[N] * r[0] is for the top, and returns with that */
}

/* Whole blocks of 16 bytes */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("O2")))
#endif
static void blocks(struct poly1305 *p, const uint8_t *data, size_t count)
{
	struct poly1305 k = *p;
	for (; count; count--, data += 16) {
		limb2 sum = 0;
		limb product[N];
		UNROLL for (int i = 0; i < N; i++) {
			sum += k.h[i];
			sum += limb_get(data + i * sizeof(limb));
			k.h[i] = sum;
			sum >>= TLS_LIMB_BITS;
		}
		k.h[N] += 1 + (limb)sum;

		sum = 0;
		UNROLL for (int i = 0; i < N; i++) {
			UNROLL for (int j = 0; j <= i; j++)
				sum += (limb2)k.h[j] * k.r[i - j];
			UNROLL for (int j = i + 1; j <= N; j++)
				sum += (limb2)k.h[j] * k.s[N + i - j];
			product[i] = sum;
			sum >>= TLS_LIMB_BITS;
		}
		limb top = (limb)sum + k.h[N] * k.r[0];
		sum = (limb2)(top >> 2) * 5;
		UNROLL for (int i = 0; i < N; i++) {
			sum += product[i];
			k.h[i] = sum;
			sum >>= TLS_LIMB_BITS;
		}
		k.h[N] = (top & 3) + (limb)sum;
	}
	memcpy(p->h, k.h, sizeof(k.h));
}

void poly1305_padded(struct poly1305 *p, const uint8_t *data, size_t len)
{
	uint8_t last[16] = { 0 };
	blocks(p, data, len / 16);
	if (len % 16) {
		memcpy(last, data + len / 16 * 16, len % 16);
		blocks(p, last, 1);
	}
}

/* h + 5 reaches 2^130 if h is not below p: then that without its bit 130 is the rest. So the tag is h, and 5 more
 * if so, modulo 2^128, and the second half of the key. h is below 2^130 + 5 * 2^64, so p is in it once at most. */
void poly1305_end(struct poly1305 *p, const uint8_t key[32], uint8_t tag[16])
{
	limb2 sum = 5;
	for (int i = 0; i < N; i++) {
		sum += p->h[i];
		sum >>= TLS_LIMB_BITS;
	}
	limb more = ((limb)sum + p->h[N]) >> 2;
	sum = (limb2)more * 5;
	for (int i = 0; i < N; i++) {
		sum += p->h[i];
		sum += limb_get(key + 16 + i * sizeof(limb));
		limb_put(tag + i * sizeof(limb), sum);
		sum >>= TLS_LIMB_BITS;
	}
}
