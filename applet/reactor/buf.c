/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Memory for data in flight.
 *
 * One piece of address space as large as the budget is mapped at the start, and cut into
 * chunks. A chunk is empty, or cut into buffers of one size. What was used last is used next;
 * pages that were never used cost nothing. So no request maps memory, however many there are.
 */
#include "libbb.h"
#include "reactor/buf.h"
#include "reactor/lock.h"
#include "reactor/loop.h"

#include <sys/mman.h>

enum {
	SMALLEST_SHIFT = 12,
	CLASSES = 7, /* 4 KiB .. 256 KiB */
	SMALL_CLASSES = 3, /* 4 KiB .. 16 KiB: one such buffer in use ties up a chunk at least 16 times its size, */
			   /* so they get half of the chunks at most, then malloc(), which maps nothing for them */
	CHUNK_BYTES = BUF_BYTES_MAX,
	ARENA_BYTES_MAX = 1 << 30, /* of a budget without a limit */
	TRIM_MS = 5000, /* how often to check whether any buffer is in use */
};

_Static_assert(1 << (SMALLEST_SHIFT + CLASSES - 1) == BUF_BYTES_MAX, "CLASSES");

struct chunk {
	struct chunk *next, **link; /* in the list of empty chunks, or of those of one class with room */
	void *unused;               /* buffers that were given back: each begins with a pointer to the next */
	uint32_t fresh, used;       /* buffers cut off so far; buffers handed out now */
};

static uint64_t limit; /* bytes */
static _Atomic uint32_t used; /* in units of the smallest buffer; 64 bits are not atomic on every machine. Changed under the lock */
static struct mutex lock; /* all that follows */
static bool is_shared; /* by several loops: there is something to lock */
static uint8_t *arena;
static unsigned arena_chunks, fresh_chunks; /* how many there are; how many were ever taken */
static unsigned small_chunks; /* taken for SMALL_CLASSES */
static struct chunk *chunks, *empty, *partial[CLASSES];
static bool keeps;
static struct timer trim_timers[LOOPS_MAX];

/* So many buffers make a chunk. */
static uint32_t chunk_buffers(unsigned i)
{
	return CHUNK_BYTES >> (SMALLEST_SHIFT + i);
}

static void chunk_link(struct chunk *c, struct chunk **list)
{
	c->next = *list;
	c->link = list;
	if (c->next)
		c->next->link = &c->next;
	*list = c;
}

static void chunk_unlink(struct chunk *c)
{
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
}

/* NULL: none is left. */
static struct chunk *chunk_get(void)
{
	struct chunk *c = empty;

	if (c)
		chunk_unlink(c);
	else if (fresh_chunks < arena_chunks)
		c = &chunks[fresh_chunks++];
	if (c) {
		c->unused = NULL;
		c->fresh = c->used = 0;
	}
	return c;
}

static void *arena_get(unsigned i)
{
	struct chunk *c = partial[i];
	void *p;

	if (!c) {
		if (i < SMALL_CLASSES && small_chunks >= arena_chunks / 2 && !keeps)
			return NULL;
		c = chunk_get();
		if (!c)
			return NULL;
		small_chunks += i < SMALL_CLASSES;
		chunk_link(c, &partial[i]);
	}
	p = c->unused;
	if (p)
		memcpy(&c->unused, p, sizeof(c->unused));
	else
		p = arena + (size_t)(c - chunks) * CHUNK_BYTES + ((size_t)c->fresh++ << (SMALLEST_SHIFT + i));
	if (++c->used == chunk_buffers(i))
		chunk_unlink(c);
	return p;
}

static void arena_put(void *p, size_t at, unsigned i)
{
	struct chunk *c = &chunks[at / CHUNK_BYTES];

	memcpy(p, &c->unused, sizeof(c->unused));
	c->unused = p;
	if (c->used-- == chunk_buffers(i))
		chunk_link(c, &partial[i]);
	if (!c->used) {
		chunk_unlink(c);
		chunk_link(c, &empty);
		small_chunks -= i < SMALL_CLASSES;
	}
}

static void buf_lock(void)
{
	if (is_shared)
		mutex_lock(&lock);
}

static void buf_unlock(void)
{
	if (is_shared)
		mutex_unlock(&lock);
}

/* Gives all memory back to the system if no buffer is in use; else tries again later. */
static void trim(struct timer *t)
{
	bool again;

	buf_lock();
	again = used;
	if (!again)
		madvise(arena, (size_t)fresh_chunks * CHUNK_BYTES, MADV_DONTNEED);
	buf_unlock();
	if (again)
		timer_set(t, loop_now_ms() + TRIM_MS);
}

void buf_share(void)
{
	is_shared = ENABLE_FEATURE_XNBD_SERVER_THREADS;
}

void buf_init(uint64_t limit_bytes)
{
	uint64_t n = limit_bytes && limit_bytes < ARENA_BYTES_MAX ? limit_bytes : ARENA_BYTES_MAX;

	limit = limit_bytes ? limit_bytes : UINT64_MAX / 2;
	arena_chunks = (unsigned)((n + CHUNK_BYTES - 1) / CHUNK_BYTES);
	chunks = calloc(arena_chunks, sizeof(*chunks));
	/* cppcheck-suppress invalidFunctionArg ; it does not know that -1 goes with MAP_ANONYMOUS */
	arena = mmap(NULL, (size_t)arena_chunks * CHUNK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!chunks || arena == MAP_FAILED)
		arena_chunks = 0;
}

void buf_reserve(void)
{
	if (limit > ARENA_BYTES_MAX) /* none is as large */
		bb_simple_error_msg_and_die("--root-storage needs a limit of memory: --max-buf-size");
	if (!arena_chunks)
		bb_simple_error_msg_and_die("out of memory");
	keeps = true;
}

uint64_t buf_limit(void)
{
	return limit;
}

uint64_t buf_used(void)
{
	return (uint64_t)used << SMALLEST_SHIFT;
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
	struct timer *t = &trim_timers[this_loop->index];
	unsigned i = size_class(n);
	void *p;

	buf_lock();
	p = arena_get(i);
	if (!p)
		p = malloc((size_t)1 << (SMALLEST_SHIFT + i));
	if (p)
		used += 1U << i;
	buf_unlock();
	if (!t->set && !keeps) {
		t->fire = trim;
		timer_set(t, loop_now_ms() + TRIM_MS);
	}
	return p;
}

void buf_put(void *p, uint32_t n)
{
	size_t at = (uintptr_t)p - (uintptr_t)arena;

	buf_lock();
	used -= buf_size(n) >> SMALLEST_SHIFT;
	if (at < (size_t)arena_chunks * CHUNK_BYTES)
		arena_put(p, at, size_class(n));
	else
		free(p);
	buf_unlock();
}
