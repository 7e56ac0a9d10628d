/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What is left to chance: numbers that a seed decides (splitmix64). Each step of a run
 * draws from a stream of its own, so that steps can be left out and the rest stays
 * what it was.
 */
#include "sim.h"

static uint64_t base, state;

uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void chance_begin(uint64_t seed)
{
	base = mix(seed * 0x9e3779b97f4a7c15ULL + 1);
	chance_step(0);
}

void chance_step(uint64_t step)
{
	state = mix(base + step * 0x9e3779b97f4a7c15ULL);
}

static uint64_t next(void)
{
	return mix(state += 0x9e3779b97f4a7c15ULL);
}

uint64_t chance_of(uint64_t n)
{
	return next() % n;
}

bool chance(unsigned percent)
{
	return next() % 100 < percent;
}

bool chance_mille(unsigned mille)
{
	return mille && next() % 1000 < mille;
}
