/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * ChaCha20 (RFC 8439), eight blocks side by side: a lane of each vector belongs to one block. The compiler makes
 * the vectors of what the processor has. On x86-64, where the program as a whole is compiled without SSE, there are
 * two such functions, and the wider one is used where the processor knows AVX2. The loops are rolled: that is as fast.
 */
#include "tls/chacha20.h"

#include <string.h>

enum { LANES = CHACHA20_RUN_BYTES / 64 };

typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));

static inline __attribute__((always_inline)) void step(lanes *a, const lanes *b, lanes *c, int left)
{
	*a += *b;
	*c ^= *a;
	*c = *c << left | *c >> (32 - left);
}

static inline __attribute__((always_inline)) void quarter(lanes *a, lanes *b, lanes *c, lanes *d)
{
	step(a, b, d, 16);
	step(c, d, b, 12);
	step(a, b, d, 8);
	step(c, d, b, 7);
}

static inline __attribute__((always_inline)) void run(const uint32_t *state, uint8_t *out, const uint8_t *in)
{
	const lanes numbers = { 0, 1, 2, 3, 4, 5, 6, 7 };
	lanes x[16];
	for (int i = 0; i < 16; i++)
		x[i] = (lanes){ 0 } + state[i];
	x[12] += numbers;
	for (unsigned i = 0; i < 20 * 4; i++) {
		unsigned odd = i / 4 % 2; /* columns; in odd rounds diagonals */
		quarter(x + i % 4, x + 4 + (i + odd) % 4, x + 8 + (i + 2 * odd) % 4, x + 12 + (i + 3 * odd) % 4);
	}
	for (int i = 0; i < 16; i++)
		x[i] += state[i];
	x[12] += numbers;
	for (int lane = 0; lane < LANES; lane++) {
		for (int i = 0; i < 16; i++, in += 4, out += 4) {
			uint32_t word, key = little32(((const uint32_t *)&x[i])[lane]);
			memcpy(&word, in, 4);
			word ^= key;
			memcpy(out, &word, 4);
		}
	}
}

#ifdef __x86_64__
__attribute__((target("avx2"), noinline)) static void run_avx2(const uint32_t *state, uint8_t *out, const uint8_t *in)
{
	run(state, out, in);
}

__attribute__((target("sse2"), noinline)) static void run_sse2(const uint32_t *state, uint8_t *out, const uint8_t *in)
{
	run(state, out, in);
}

/* The registers of AVX must be known to the processor and saved by the kernel (XCR0). In a virtual machine CPUID
 * takes microseconds, so the answer is kept: whichever thread is first writes the same. */
static bool has_avx2(void)
{
	static uint8_t known; /* 1: no; 2: yes */
	uint8_t answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
	if (!answer) {
		uint32_t a = 1, b, c = 0, d;
		answer = 1;
		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		if (c >> 27 & 1) { /* OSXSAVE */
			__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
			bool saved = (a & 6) == 6;
			a = 0, c = 0;
			__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
			if (saved && a >= 7) {
				a = 7, c = 0;
				__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
				answer += b >> 5 & 1;
			}
		}
		__atomic_store_n(&known, answer, __ATOMIC_RELAXED);
	}
	return answer == 2;
}
#endif

void chacha20_run(uint32_t *state, uint8_t *out, const uint8_t *in)
{
#ifdef __x86_64__
	(has_avx2() ? run_avx2 : run_sse2)(state, out, in);
#else
	run(state, out, in);
#endif
	state[12] += LANES;
}
