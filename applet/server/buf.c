/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for data in flight. */
#include "libbb.h"
#include "server/buf.h"

#include <sys/mman.h>

enum {
	SMALLEST_SHIFT = 12,
	CLASSES = 14,           /* 4 KiB .. 32 MiB */
	KEPT_BYTES_MAX = 4 << 20, /* unused, for the next requests */
};

struct unused {
	struct unused *next;
};

static struct unused *unused[CLASSES];
static uint64_t limit, used, kept; /* bytes */
static uint64_t taken; /* of what is used: the rest is booked */

/* ---- a reserve: one piece of memory, cut into halves and put together again ----------- */

enum { IN_USE = 0xff };

struct half {
	struct half *next, **link;
};

static struct half *halves[CLASSES]; /* what is free */
static uint8_t *reserve;
static uint64_t reserve_bytes;
static uint8_t *class_of; /* of the free piece that begins at this page, or IN_USE */

static void half_add(uint64_t at, unsigned i)
{
	struct half *h = (struct half *)(void *)(reserve + at);

	h->next = halves[i];
	h->link = &halves[i];
	if (h->next)
		h->next->link = &h->next;
	halves[i] = h;
	class_of[at >> SMALLEST_SHIFT] = (uint8_t)i;
}

static uint64_t half_take(struct half *h)
{
	uint64_t at = (uint64_t)((uint8_t *)h - reserve);

	*h->link = h->next;
	if (h->next)
		h->next->link = h->link;
	class_of[at >> SMALLEST_SHIFT] = IN_USE;
	return at;
}

static void *reserve_get(unsigned i)
{
	unsigned from = i;
	uint64_t at;

	while (from < CLASSES && !halves[from])
		from++;
	if (from == CLASSES)
		return NULL;
	at = half_take(halves[from]);
	while (from > i) {
		from--;
		half_add(at + ((uint64_t)1 << (SMALLEST_SHIFT + from)), from);
	}
	return reserve + at;
}

static void reserve_put(uint64_t at, unsigned i)
{
	for (; i < CLASSES - 1; i++) {
		uint64_t size = (uint64_t)1 << (SMALLEST_SHIFT + i);
		uint64_t other = at ^ size;

		if (other + size > reserve_bytes || class_of[other >> SMALLEST_SHIFT] != i)
			break;
		half_take((struct half *)(void *)(reserve + other));
		at &= ~size;
	}
	half_add(at, i);
}

void buf_reserve(void)
{
	uint64_t pages = limit >> SMALLEST_SHIFT, i;

	if (limit >= SIZE_MAX / 2) /* none is as large */
		bb_simple_error_msg_and_die("--root-storage needs a limit of memory: --max-buf-size");
	/* cppcheck-suppress invalidFunctionArg ; it does not know that -1 goes with MAP_ANONYMOUS */
	reserve = mmap(NULL, (size_t)(pages << SMALLEST_SHIFT), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	class_of = malloc((size_t)pages);
	if (reserve == MAP_FAILED || !class_of)
		bb_simple_error_msg_and_die("out of memory");
	reserve_bytes = pages << SMALLEST_SHIFT;
	memset(class_of, IN_USE, (size_t)pages);
	for (i = 0; i < pages; i++)
		reserve_put(i << SMALLEST_SHIFT, 0);
}

/* ---- */

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

void buf_book(uint32_t n)
{
	used += buf_size(n);
}

void *buf_take(uint32_t n)
{
	unsigned i = size_class(n);
	uint32_t size = buf_size(n);
	void *p = NULL;

	if (ENABLE_FEATURE_XNBD_SERVER_INIT && reserve)
		p = reserve_get(i);
	if (!p && unused[i]) {
		p = unused[i];
		unused[i] = unused[i]->next;
		kept -= size;
	} else if (!p) {
		p = malloc(size);
	}
	if (p)
		taken += size;
	return p;
}

void *buf_get(uint32_t n)
{
	void *p = buf_take(n);

	if (p)
		buf_book(n);
	return p;
}

void buf_put(void *p, uint32_t n)
{
	unsigned i = size_class(n);
	uint32_t size = (uint32_t)1 << (SMALLEST_SHIFT + i);
	struct unused *u = p;

	used -= size;
	if (!p)
		return;
	taken -= size;
	if (ENABLE_FEATURE_XNBD_SERVER_INIT && reserve && (uintptr_t)p - (uintptr_t)reserve < reserve_bytes) {
		reserve_put((uint64_t)((uint8_t *)p - reserve), i);
		return;
	}
	if (kept + size > KEPT_BYTES_MAX || taken + kept + size > limit) {
		free(p);
		return;
	}
	u->next = unused[i];
	unused[i] = u;
	kept += size;
}
