/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for data in flight. */
#include "libbb.h"
#include "server/buf.h"

enum {
	SMALLEST_SHIFT = 12,
	CLASSES = 14,           /* 4 KiB .. 32 MiB */
	KEPT_BYTES_MAX = 8 << 20, /* unused, for the next requests */
};

struct unused {
	struct unused *next;
};

static struct unused *unused[CLASSES];
static uint64_t limit, used, kept; /* bytes */

void buf_init(uint64_t limit_bytes)
{
	limit = limit_bytes ? limit_bytes : UINT64_MAX / 2;
}

uint64_t buf_limit(void)
{
	return limit;
}

uint64_t buf_used(void)
{
	return used;
}

static unsigned size_class(uint32_t n)
{
	unsigned i = 0;

	while (((uint32_t)1 << (SMALLEST_SHIFT + i)) < n)
		i++;
	return i;
}

uint32_t buf_size(uint32_t n)
{
	return (uint32_t)1 << (SMALLEST_SHIFT + size_class(n));
}

void *buf_get(uint32_t n)
{
	unsigned i = size_class(n);
	uint32_t size = (uint32_t)1 << (SMALLEST_SHIFT + i);
	struct unused *p = unused[i];

	if (p) {
		unused[i] = p->next;
		kept -= size;
	} else {
		p = malloc(size);
	}
	if (p)
		used += size;
	return p;
}

void buf_put(void *p, uint32_t n)
{
	unsigned i = size_class(n);
	uint32_t size = (uint32_t)1 << (SMALLEST_SHIFT + i);
	struct unused *u = p;

	if (!p)
		return;
	used -= size;
	if (kept + size > KEPT_BYTES_MAX || used + kept + size > limit) {
		free(p);
		return;
	}
	u->next = unused[i];
	unused[i] = u;
	kept += size;
}
