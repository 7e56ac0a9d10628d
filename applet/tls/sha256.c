/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* SHA-256 (FIPS 180-4), and HMAC and HKDF with it (RFC 2104, RFC 5869). */
#include "tls/crypto.h"

#include <string.h>

/* The first 32 bits of the fractional parts of the cube roots of the first 64
 * primes */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int right) {
  return x >> right | x << (32 - right);
}

static void compress(struct sha256 *s) {
  uint32_t w[64], v[8];
  for (int i = 0; i < 16; i++) {
    const uint8_t *p = s->block + i * sizeof(uint32_t);
    w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
  }
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
           (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  memcpy(v, s->h, sizeof(v));
  /* The variables a to h of the standard are v[-i] to v[7 - i] modulo 8, so
   * they move on by themselves. */
  for (unsigned i = 0; i < 64; i++) {
    uint32_t a = v[-i % 8], b = v[(1 - i) % 8], c = v[(2 - i) % 8];
    uint32_t e = v[(4 - i) % 8], f = v[(5 - i) % 8], g = v[(6 - i) % 8],
             *h = v + (7 - i) % 8;
    *h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) +
          round_constants[i] + w[i];
    v[(3 - i) % 8] += *h;
    *h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
          ((a & b) | (c & (a | b)));
  }
  for (int i = 0; i < 8; i++)
    s->h[i] += v[i];
  wipe(w, sizeof(w));
}

void sha256_begin(struct sha256 *s) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                    0xa54ff53a, 0x510e527f, 0x9b05688c,
                                    0x1f83d9ab, 0x5be0cd19};
  memcpy(s->h, start, sizeof(start));
  s->bytes = 0;
}

void sha256_hash(struct sha256 *s, const void *data, size_t len) {
  const uint8_t *p = data;
  for (; len; len--) {
    s->block[s->bytes++ % 64] = *p++;
    if (s->bytes % 64 == 0)
      compress(s);
  }
}

void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]) {
  uint64_t bits = s->bytes * 8;
  uint8_t byte = 0x80;
  do {
    sha256_hash(s, &byte, 1);
    byte = 0;
  } while (s->bytes % 64 != 56);
  for (int i = 56; i >= 0; i -= 8) {
    byte = bits >> i;
    sha256_hash(s, &byte, 1);
  }
  for (int i = 0; i < SHA256_BYTES; i++)
    out[i] = s->h[i / 4] >> (24 - 8 * (i % 4));
  wipe(s, sizeof(*s));
}

void hmac_sha256(uint8_t out[SHA256_BYTES], const uint8_t *key, size_t key_len,
                 const void *data, size_t len) {
  struct sha256 s;
  uint8_t pad[64 + SHA256_BYTES] = {0};
  if (key_len > 64) {
    sha256_begin(&s);
    sha256_hash(&s, key, key_len);
    sha256_end(&s, pad);
  } else {
    memcpy(pad, key, key_len);
  }
  for (int i = 0; i < 64; i++)
    pad[i] ^= 0x36;
  sha256_begin(&s);
  sha256_hash(&s, pad, 64);
  sha256_hash(&s, data, len);
  sha256_end(&s, pad + 64);
  for (int i = 0; i < 64; i++)
    pad[i] ^= 0x36 ^ 0x5c;
  sha256_begin(&s);
  sha256_hash(&s, pad, sizeof(pad));
  sha256_end(&s, out);
  wipe(pad, sizeof(pad));
}

void hkdf_expand(uint8_t *out, size_t len, const uint8_t prk[SHA256_BYTES],
                 const void *info, size_t info_len) {
  uint8_t block[HKDF_INFO_MAX + 1], key[SHA256_BYTES];
  memcpy(block, info, info_len);
  block[info_len] = 1;
  hmac_sha256(key, prk, SHA256_BYTES, block, info_len + 1);
  memcpy(out, key, len);
  wipe(key, sizeof(key));
}

bool same_secret(const void *a, const void *b, size_t len) {
  const volatile uint8_t *p = a, *q = b;
  uint8_t different = 0;
  for (size_t i = 0; i < len; i++)
    different |= p[i] ^ q[i];
  TLS_PUBLIC(&different, 1);
  return !different;
}

void wipe(void *p, size_t len) {
  memset(p, 0, len);
  __asm__ volatile("" : : "r"(p) : "memory");
}
