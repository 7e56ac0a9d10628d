/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * X25519 (RFC 7748). A field element is any number below 2^256, modulo p =
 * 2^255 - 19; what leaves 2^256 at the top returns at the bottom 38 times, as
 * 2^256 = 38 modulo p. Only the result is reduced all the way.
 */
#include "tls/crypto.h"
#include "tls/limb.h"

#include <string.h>

enum { N = X25519_BYTES / LIMB_BYTES };

typedef limb field[N];

const uint8_t x25519_base[X25519_BYTES] = {9};

/* r = a + carry * 2^256. The second round adds nothing to the top: after a
 * carry the rest is small. */
static void fold(field r, const limb *a, limb carry) {
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

/* r = a + b; or a - b, which is a + ~b - 37 + p * 2, as ~b = 2^256 - 1 - b: p *
 * 2 - 37 = 2^256 - 75. */
static void add(field r, const field a, const field b, bool negative) {
  limb mask = -(limb)negative, more = mask & (limb)-75;
  limb2 sum = 0;
  for (int i = 0; i < N; i++) {
    sum += a[i];
    sum += b[i] ^ mask;
    sum += more;
    r[i] = sum;
    sum >>= TLS_LIMB_BITS;
    more = mask;
  }
  fold(r, r, sum);
}

static void multiply(field r, const field a, const field b) {
  limb product[2 * N] = {0};
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

/* a^(p - 2): the bits of p - 2 = 2^255 - 21 are all 1 but for 2 and 4. */
static void invert(field r, const field a) {
  field power;
  memcpy(power, a, sizeof(power));
  for (int i = 253; i >= 0; i--) {
    multiply(power, power, power);
    if (i != 2 && i != 4)
      multiply(power, power, a);
  }
  memcpy(r, power, sizeof(power));
}

/* The number below p. 19 more reach bit 255 if p can be subtracted, which is to
 * add 19 and drop that bit; as the number is below 2^256, that is so twice at
 * most. */
static void reduce(field a) {
  const int top = TLS_LIMB_BITS - 1;
  for (int round = 0; round < 2; round++) {
    limb2 sum = 19;
    for (int i = 0; i < N; i++)
      sum = (sum + a[i]) >> (i < N - 1 ? TLS_LIMB_BITS : top);
    sum *= 19;
    for (int i = 0; i < N; i++) {
      sum += a[i];
      a[i] = sum;
      sum >>= TLS_LIMB_BITS;
    }
    a[N - 1] &= (limb)-1 >> 1;
  }
}

/* The names are those of RFC 7748, section 5. */
enum { X2, Z2, X3, Z3, X1, A24, A, B, C, D, FIELDS };

/* A step of the ladder */
static const struct {
  char op;
  uint8_t to, a, b;
} ladder[] = {
    {'+', A, X2, Z2},  {'-', B, X2, Z2},  {'+', C, X3, Z3},
    {'-', D, X3, Z3},  {'*', D, D, A},    {'*', C, C, B}, /* DA, CB */
    {'+', X3, D, C},   {'*', X3, X3, X3}, {'-', Z3, D, C},
    {'*', Z3, Z3, Z3}, {'*', Z3, Z3, X1}, {'*', A, A, A}, /* AA */
    {'*', B, B, B},    {'*', X2, A, B},                   /* BB */
    {'-', B, A, B},    {'*', Z2, B, A24},                 /* E */
    {'+', Z2, Z2, A},  {'*', Z2, Z2, B},
};

/* Exchanges X2, Z2 and X3, Z3 if bit is 1. */
static void swap(field *f, limb bit) {
  limb *a = f[X2], *b = f[X3];
  for (int i = 0; i < 2 * N; i++) {
    limb x = (a[i] ^ b[i]) & -bit;
    a[i] ^= x;
    b[i] ^= x;
  }
}

bool x25519(uint8_t out[X25519_BYTES], const uint8_t scalar[X25519_BYTES],
            const uint8_t point[X25519_BYTES]) {
  static const uint8_t zero[X25519_BYTES];
  field f[FIELDS] = {[X2] = {1}, [Z3] = {1}, [A24] = {121665}};
  limb swapped = 0;

  for (int i = 0; i < N; i++)
    f[X1][i] = limb_get(point + i * sizeof(limb));
  f[X1][N - 1] &= (limb)-1 >> 1;
  memcpy(f[X3], f[X1], sizeof(field));

  for (int t = 255; t >= 0; t--) {
    /* Bits 255 and 254 of a scalar count as 0 and 1, and the lowest three as 0.
     */
    limb bit = scalar[t / 8] >> (t % 8) & 1;
    if (t >= 254)
      bit = t == 254;
    if (t < 3)
      bit = 0;
    swap(f, swapped ^ bit);
    swapped = bit;
    for (size_t i = 0; i < sizeof(ladder) / sizeof(*ladder); i++) {
      limb *to = f[ladder[i].to], *a = f[ladder[i].a], *b = f[ladder[i].b];
      if (ladder[i].op == '*')
        multiply(to, a, b);
      else
        add(to, a, b, ladder[i].op == '-');
    }
  }
  /* The last bit was 0: nothing is left to be exchanged. */
  invert(f[Z2], f[Z2]);
  multiply(f[X2], f[X2], f[Z2]);
  reduce(f[X2]);
  for (int i = 0; i < N; i++)
    limb_put(out + i * sizeof(limb), f[X2][i]);
  wipe(f, sizeof(f));
  return !same_secret(out, zero, X25519_BYTES);
}
