/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left to chance: numbers that a seed decides (splitmix64). */
#include "sim.h"

static uint64_t state;

void chance_begin(uint64_t seed)
{
	state = seed * 0x9e3779b97f4a7c15ULL + 1;
}

static uint64_t next(void)
{
	uint64_t x = state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

uint64_t chance_of(uint64_t n)
{
	return next() % n;
}

bool chance(unsigned percent)
{
	return next() % 100 < percent;
}
