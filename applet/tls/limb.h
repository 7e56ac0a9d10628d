/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Long numbers: the widest limb whose products the compiler has a type for; bytes to words and back. A test
 * defines TLS_LIMB_BITS to have the limbs of 32-bit machines.
 */
#ifndef TLS_LIMB_H
#define TLS_LIMB_H

#include <stdint.h>

#if !defined(TLS_LIMB_BITS) && defined(__SIZEOF_INT128__)
#define TLS_LIMB_BITS 64
#elif !defined(TLS_LIMB_BITS)
#define TLS_LIMB_BITS 32
#endif

#if TLS_LIMB_BITS == 64
typedef uint64_t limb;
typedef unsigned __int128 limb2; /* a product of two, and two more limbs, fit */
#else
typedef uint32_t limb;
typedef uint64_t limb2;
#endif

enum { LIMB_BYTES = sizeof(limb) };

/* Little endian */
static inline limb limb_get(const uint8_t *p)
{
	limb value = 0;
	for (int i = 0; i < LIMB_BYTES; i++)
		value |= (limb)p[i] << (8 * i);
	return value;
}

static inline void limb_put(uint8_t *p, limb value)
{
	for (int i = 0; i < LIMB_BYTES; i++)
		p[i] = value >> (8 * i);
}

#endif
