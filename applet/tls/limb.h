/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Long numbers: the widest limb whose products the compiler has a type for; bytes to words and back. A test
 * defines TLS_LIMB_BITS to have the limbs of 32-bit machines.
 */
#ifndef TLS_LIMB_H
#define TLS_LIMB_H

#include <stdint.h>
#include <string.h>

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

/* What is little endian in memory is in the order of the processor then, and the other way round. */
static inline uint32_t little32(uint32_t value)
{
	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(value) : value;
}

static inline uint64_t little64(uint64_t value)
{
	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(value) : value;
}

static inline limb limb_get(const uint8_t *p)
{
	limb value;
	memcpy(&value, p, sizeof(value));
	return LIMB_BYTES == 8 ? little64(value) : little32(value);
}

static inline void limb_put(uint8_t *p, limb value)
{
	value = LIMB_BYTES == 8 ? little64(value) : little32(value);
	memcpy(p, &value, sizeof(value));
}

#endif
