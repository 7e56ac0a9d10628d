/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * X25519 (RFC 7748). A field element is any number below 2^256, modulo p = 2^255 - 19; what leaves 2^256 at
 * the top returns at the bottom 38 times, as 2^256 = 38 modulo p. Only the result is reduced all the way.
 */
#include "tls/crypto.h"
#include "tls/limb.h"

#include <string.h>

enum { N = X25519_BYTES / LIMB_BYTES };

typedef limb field[N];

const uint8_t x25519_base[X25519_BYTES] = { 9 };

/* r = a + carry * 2^256. The second round adds nothing to the top: after a carry the rest is small. */
static void fold(field r, const limb *a, limb carry)
{
	for (int round = 0; round < 2; round++) {
		limb2 sum = (limb2)carry * 38;
		for (int i = 0; i < N; i++) {
			sum += a[i];
			r[i] = sum;
			sum >>= TLS_LIMB_BITS;
		}
		carry = sum;
		a = r;
	}
}

static void add(field r, const field a, const field b)
{
	limb2 sum = 0;
	for (int i = 0; i < N; i++) {
		sum += (limb2)a[i] + b[i];
		r[i] = sum;
		sum >>= TLS_LIMB_BITS;
	}
	fold(r, r, sum);
}

/* a - b = a + ~b + 1 - 2^256, and so a + ~b + 1 + (-38); each of both times without a carry 38 is missing. */
static void subtract(field r, const field a, const field b)
{
	limb borrow = 0;
	for (int i = 0; i < N; i++) {
		limb2 difference = (limb2)a[i] - b[i] - borrow;
		r[i] = difference;
		borrow = (limb)(difference >> TLS_LIMB_BITS) & 1;
	}
	for (int round = 0; round < 2; round++) {
		borrow *= 38;
		for (int i = 0; i < N; i++) {
			limb2 difference = (limb2)r[i] - borrow;
			r[i] = difference;
			borrow = (limb)(difference >> TLS_LIMB_BITS) & 1;
		}
	}
}

static void multiply(field r, const field a, const field b)
{
	limb product[2 * N] = { 0 };
	for (int i = 0; i < N; i++) {
		limb carry = 0;
		for (int j = 0; j < N; j++) {
			limb2 sum = (limb2)a[i] * b[j] + product[i + j] + carry;
			product[i + j] = sum;
			carry = sum >> TLS_LIMB_BITS;
		}
		product[i + N] = carry;
	}
	limb carry = 0;
	for (int i = 0; i < N; i++) {
		limb2 sum = (limb2)product[i + N] * 38 + product[i] + carry;
		product[i] = sum;
		carry = sum >> TLS_LIMB_BITS;
	}
	fold(r, product, carry);
}

/* Swaps if bit is 1. */
static void swap(field a, field b, limb bit)
{
	for (int i = 0; i < N; i++) {
		limb x = (a[i] ^ b[i]) & -bit;
		a[i] ^= x;
		b[i] ^= x;
	}
}

/* a^(p - 2): the bits of p - 2 = 2^255 - 21 are all 1 but for 2 and 4. */
static void invert(field r, const field a)
{
	field power;
	memcpy(power, a, sizeof(power));
	for (int i = 253; i >= 0; i--) {
		multiply(power, power, power);
		if (i != 2 && i != 4)
			multiply(power, power, a);
	}
	memcpy(r, power, sizeof(power));
}

/* The number below p: the bits from 255 on count 19 each; then p is subtracted if it can be, which is when
 * 19 more would reach bit 255. */
static void reduce(field a)
{
	const int top = TLS_LIMB_BITS - 1;
	limb mask = ((limb)1 << top) - 1;
	for (int round = 0; round < 3; round++) {
		limb2 sum;
		if (round < 2) {
			sum = (a[N - 1] >> top) * 19;
			a[N - 1] &= mask;
		} else {
			sum = 19;
			for (int i = 0; i < N; i++)
				sum = (sum + a[i]) >> (i < N - 1 ? TLS_LIMB_BITS : top);
			sum *= 19;
		}
		for (int i = 0; i < N; i++) {
			sum += a[i];
			a[i] = sum;
			sum >>= TLS_LIMB_BITS;
		}
	}
	a[N - 1] &= mask;
}

/* The names are those of RFC 7748, section 5. */
bool x25519(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES], const uint8_t point[X25519_BYTES])
{
	static const field a24 = { 121665 };
	struct {
		field x1, x2, z2, x3, z3, a, b, c, d;
		uint8_t k[X25519_BYTES];
	} v = { .x2 = { 1 }, .z3 = { 1 } };
	limb swapped = 0;

	memcpy(v.k, scalar, X25519_BYTES);
	v.k[0] &= 248;
	v.k[31] = (v.k[31] & 127) | 64;
	for (int i = 0; i < N; i++)
		v.x1[i] = limb_get(point + i * LIMB_BYTES);
	v.x1[N - 1] &= ((limb)1 << (TLS_LIMB_BITS - 1)) - 1;
	memcpy(v.x3, v.x1, sizeof(field));

	for (int t = 254; t >= 0; t--) {
		limb bit = v.k[t / 8] >> (t % 8) & 1;
		swap(v.x2, v.x3, swapped ^ bit);
		swap(v.z2, v.z3, swapped ^ bit);
		swapped = bit;
		add(v.a, v.x2, v.z2);
		subtract(v.b, v.x2, v.z2);
		add(v.c, v.x3, v.z3);
		subtract(v.d, v.x3, v.z3);
		multiply(v.d, v.d, v.a); /* DA */
		multiply(v.c, v.c, v.b); /* CB */
		add(v.x3, v.d, v.c);
		multiply(v.x3, v.x3, v.x3);
		subtract(v.z3, v.d, v.c);
		multiply(v.z3, v.z3, v.z3);
		multiply(v.z3, v.z3, v.x1);
		multiply(v.a, v.a, v.a); /* AA */
		multiply(v.b, v.b, v.b); /* BB */
		multiply(v.x2, v.a, v.b);
		subtract(v.b, v.a, v.b); /* E */
		multiply(v.z2, v.b, a24);
		add(v.z2, v.z2, v.a);
		multiply(v.z2, v.z2, v.b);
	}
	swap(v.x2, v.x3, swapped);
	swap(v.z2, v.z3, swapped);
	invert(v.z2, v.z2);
	multiply(v.x2, v.x2, v.z2);
	reduce(v.x2);
	for (int i = 0; i < N; i++)
		limb_put(out + i * LIMB_BYTES, v.x2[i]);
	wipe(&v, sizeof(v));
	static const uint8_t zero[X25519_BYTES];
	return !same_secret(out, zero, X25519_BYTES);
}
