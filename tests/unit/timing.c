/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Whether times tell secrets: the comparison of tags, X25519 and Poly1305, by Welch's t-test, as dudect does it
 * (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?"). In random order a function gets a fixed secret or
 * random ones, and the mean times of these two classes are compared. What takes longer than nine tenths of all is left out: it
 * was interrupted.
 *
 * Noise of the machine comes and goes, a leak stays: it is one if t is large in every round, with the same sign.
 * "timing leak" compares byte by byte to the first difference, which has to be found.
 */
#include "test.h"

#include "tls/chacha20.h"
#include "tls/crypto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	ROUNDS = 8,
	SAMPLES_MAX = 20000,
	SECRET_BYTES = 32,
	MESSAGE_BYTES = 1024,
	T_LEAK = 10, /* by chance once in 10^23; dudect takes 4.5 for a hint */
};

static uint64_t now(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#else
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
#endif
}

/* ---- what is measured ------------------------------------------------------------------------- */

static uint8_t known[SECRET_BYTES], message[MESSAGE_BYTES], out[SECRET_BYTES];
static volatile bool result;

static void compare(const uint8_t *secret)
{
	for (int i = 0; i < 8; i++) /* one takes little more than the clock */
		result = same_secret(secret, known, SECRET_BYTES);
}

static void exchange(const uint8_t *secret)
{
	result = x25519(out, secret, x25519_base);
}

static void authenticate(const uint8_t *secret)
{
	struct poly1305 p;

	poly1305_begin(&p, secret);
	poly1305_padded(&p, message, sizeof(message));
	poly1305_end(&p, secret, out);
}

/* Of r, h and the carries, all depends on the data, too. */
static void authenticate_data(const uint8_t *secret)
{
	struct poly1305 p;

	poly1305_begin(&p, known);
	for (int i = 0; i < 16; i++)
		poly1305_padded(&p, secret, SECRET_BYTES);
	poly1305_end(&p, known, out);
}

static void compare_leaking(const uint8_t *secret)
{
	for (int i = 0; i < 8; i++) {
		int at = 0;

		while (at < SECRET_BYTES && ((volatile const uint8_t *)secret)[at] == known[at])
			at++;
		result = at == SECRET_BYTES;
	}
}

/* ---- statistics ------------------------------------------------------------------------------- */

static struct sample {
	uint64_t ticks;
	bool fixed;
} samples[SAMPLES_MAX];

static uint32_t random_number(void)
{
	static uint64_t x = 88172645463325252U;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 32);
}

static int by_ticks(const void *a, const void *b)
{
	uint64_t x = ((const struct sample *)a)->ticks, y = ((const struct sample *)b)->ticks;

	return (x > y) - (x < y);
}

/* Welch's t of the two classes in the first n samples. */
static double welch(unsigned n)
{
	double count[2] = { 0 }, mean[2] = { 0 }, squares[2] = { 0 };

	for (unsigned i = 0; i < n; i++) {
		unsigned class = samples[i].fixed;
		double x = (double)samples[i].ticks, d = x - mean[class];

		count[class]++;
		mean[class] += d / count[class];
		squares[class] += d * (x - mean[class]);
	}
	if (count[0] < 2 || count[1] < 2)
		return count[0] < 2 ? -1e9 : 1e9; /* one class is always slower */
	return (mean[0] - mean[1]) / sqrt(squares[0] / (count[0] - 1) / count[0] + squares[1] / (count[1] - 1) / count[1] + 1e-9);
}

static double measure(void (*f)(const uint8_t *secret), unsigned n)
{
	uint8_t secret[SECRET_BYTES];

	for (unsigned i = 0; i < n; i++) {
		struct sample *s = &samples[i];
		uint64_t begin;

		s->fixed = random_number() & 1;
		for (int j = 0; j < SECRET_BYTES; j++) /* the same work for both, without a branch that is predicted */
			secret[j] = known[j] ^ ((uint8_t)random_number() & (s->fixed - 1U));
		begin = now();
		f(secret);
		s->ticks = now() - begin;
	}
	qsort(samples, n, sizeof(samples[0]), by_ticks);
	return welch(n / 10 * 9);
}

/* Whether f tells its secret. */
static bool leaks(const char *name, void (*f)(const uint8_t *secret), unsigned n)
{
	int sign = 0;

	for (int round = 0; round < ROUNDS; round++) {
		double t = measure(f, n);

		printf("%s: t = %.1f\n", name, t);
		if (fabs(t) < T_LEAK || (sign && (t > 0) != (sign > 0)))
			return false;
		sign = t > 0 ? 1 : -1;
	}
	return true;
}

int main(int argc, char **argv)
{
	(void)argv;
	for (int i = 0; i < SECRET_BYTES; i++)
		known[i] = (uint8_t)(i * 7);
	if (argc > 1) {
		CHECK(!leaks("a comparison to the first difference", compare_leaking, SAMPLES_MAX));
		return test_end();
	}
	CHECK(!leaks("comparison", compare, SAMPLES_MAX));
	CHECK(!leaks("X25519", exchange, SAMPLES_MAX / 20));
	CHECK(!leaks("Poly1305, key", authenticate, SAMPLES_MAX));
	CHECK(!leaks("Poly1305, data", authenticate_data, SAMPLES_MAX));
	memset(known, 0, sizeof(known)); /* no carries at all */
	CHECK(!leaks("X25519, zeroes", exchange, SAMPLES_MAX / 20));
	CHECK(!leaks("Poly1305, zeroes as key", authenticate, SAMPLES_MAX));
	CHECK(!leaks("Poly1305, zeroes as data", authenticate_data, SAMPLES_MAX));
	return test_end();
}
