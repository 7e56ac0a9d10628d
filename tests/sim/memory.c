/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The core's allocations, in a list: a crash frees them all, and a clean end has none.
 * Some are refused. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* Address sanitizer keeps what was freed out of use, for some time. A run allocates much
 * and is short: less of that is enough, and memory that is used again is faster. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=4";
}

struct block {
	struct block *prev, *next;
	max_align_t bytes[];
};

static struct block *blocks;
static unsigned held;
static bool failed;

void *sim_malloc(size_t n)
{
	struct block *b;

	if (faults_on && chance_mille(plan.memory_mille)) {
		trace("an allocation of %zu bytes is refused", n);
		count(COUNT_MEMORY_FAULTS);
		failed = true;
		return NULL;
	}
	b = malloc(sizeof(*b) + n);
	if (!b)
		abort();
	b->prev = NULL;
	b->next = blocks;
	if (blocks)
		blocks->prev = b;
	blocks = b;
	held++;
	return b->bytes;
}

void *sim_calloc(size_t n, size_t m)
{
	void *p = sim_malloc(n * m);

	return p ? memset(p, 0, n * m) : NULL;
}

void sim_free(void *p)
{
	struct block *b;

	if (!p)
		return;
	b = (struct block *)(void *)((char *)p - offsetof(struct block, bytes));
	if (b->prev)
		b->prev->next = b->next;
	else
		blocks = b->next;
	if (b->next)
		b->next->prev = b->prev;
	held--;
	free(b);
}

unsigned memory_count(void)
{
	return held;
}

bool memory_has_failed(void)
{
	return failed;
}

void memory_crash(void)
{
	failed = false;
	while (blocks)
		sim_free(blocks->bytes);
}
