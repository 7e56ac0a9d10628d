/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The core's allocations, in a list: a crash frees them all, and a clean end has none. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct block {
	struct block *prev, *next;
	max_align_t bytes[];
};

static struct block *blocks;
static unsigned count;

void *sim_malloc(size_t n)
{
	struct block *b = malloc(sizeof(*b) + n);

	if (!b)
		abort();
	b->prev = NULL;
	b->next = blocks;
	if (blocks)
		blocks->prev = b;
	blocks = b;
	count++;
	return b->bytes;
}

void *sim_calloc(size_t n, size_t m)
{
	return memset(sim_malloc(n * m), 0, n * m);
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
	count--;
	free(b);
}

unsigned memory_count(void)
{
	return count;
}

void memory_crash(void)
{
	while (blocks)
		sim_free(blocks->bytes);
}
