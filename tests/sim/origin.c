/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The port to the origin: two links, each of which comes and goes. Requests are
 * answered in any order; the buffer of one that is lost may be half filled.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ASKED_MAX = 512 };

struct asked {
	unsigned link;
	bool status;
	uint64_t cookie, offset;
	uint32_t length;
};

bool origin_copy_wanted, origin_closed;
uint64_t origin_answered_ms;

static struct asked asked[ASKED_MAX];
static unsigned asked_count;
static uint64_t bad_seed;
static bool *is_wanted; /* by block */
static uint64_t buffers, buffer_bytes; /* handed out by port_alloc() */

void origin_begin(void)
{
	asked_count = 0;
	origin_copy_wanted = origin_closed = false;
	bad_seed = chance_of(UINT64_MAX);
	buffers = buffer_bytes = 0;
	is_wanted = calloc(map_blocks(plan.size_bytes), sizeof(*is_wanted));
}

void origin_want(uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		is_wanted[first] = true;
}

void origin_end(void)
{
	free(is_wanted);
	if (buffers)
		broken("%llu buffers were not given back", (unsigned long long)buffers);
}

unsigned origin_pending(void)
{
	return asked_count;
}

bool origin_is_bad(uint64_t block)
{
	uint64_t x = (block + bad_seed) * 0x9e3779b97f4a7c15ULL;

	return (x >> 32) % 100 < plan.bad_percent;
}

static bool is_bad(const struct asked *a)
{
	uint64_t b;

	for (b = a->offset / BLOCK_BYTES; b * BLOCK_BYTES < a->offset + a->length; b++)
		if (origin_is_bad(b))
			return true;
	return false;
}

/* ---- ports ---------------------------------------------------------------------------- */

void *port_alloc(struct core *c, uint32_t n)
{
	void *p = sim_malloc(n);

	(void)c;
	buffers++;
	buffer_bytes += n;
	if (buffer_bytes > core.fetch_window[0] + core.fetch_window[1])
		broken("%llu bytes of the origin in memory", (unsigned long long)buffer_bytes);
	return p;
}

void port_free(struct core *c, void *p, uint32_t n)
{
	(void)c;
	sim_free(p);
	buffers--;
	buffer_bytes -= n;
}

static void ask(unsigned link, bool status, uint64_t cookie, uint64_t offset, uint32_t length)
{
	const struct link_state *l = &core.link[link];

	if (!l->up || origin_closed)
		broken("link %u is down, and is asked", link);
	if (!length || offset >= plan.size_bytes || length > plan.size_bytes - offset)
		broken("rule 11: the origin is asked for %llu+%u", (unsigned long long)offset, length);
	if (offset % (l->unit_blocks * BLOCK_BYTES) ||
	    (length % (l->unit_blocks * BLOCK_BYTES) && offset + length != plan.size_bytes))
		broken("not in the origin's blocks: %llu+%u", (unsigned long long)offset, length);
	if (asked_count == ASKED_MAX)
		broken("the origin is asked for more than %u things at a time", ASKED_MAX);
	asked[asked_count++] = (struct asked){ link, status, cookie, offset, length };
	trace("  origin %s link %u cookie %llu at %llu+%u", status ? "status" : "read", link,
	      (unsigned long long)cookie, (unsigned long long)offset, length);
}

void port_link_read(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	unsigned i;

	(void)c;
	if (length > core.link[link].max_blocks * BLOCK_BYTES)
		broken("a longer request than the origin takes");
	/* Where the origin has larger blocks, what lies around a miss may come twice. */
	for (i = 0; plan.unit_blocks == 1 && i < asked_count; i++)
		if (!asked[i].status && asked[i].offset < offset + length && offset < asked[i].offset + asked[i].length)
			broken("rule 5: asked twice for %llu", (unsigned long long)offset);
	for (i = 0; plan.unit_blocks == 1 && i < map_blocks(length); i++)
		if (!is_wanted[offset / BLOCK_BYTES + i])
			broken("rule 6: nobody wants block %llu", (unsigned long long)offset / BLOCK_BYTES + i);
	ask(link, false, cookie, offset, length);
}

void port_link_status(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	(void)c;
	if (!core.link[link].can_status)
		broken("an origin without base:allocation is asked for it");
	ask(link, true, cookie, offset, length);
}

void port_copy_link(struct core *c, bool wanted)
{
	(void)c;
	origin_copy_wanted = wanted;
}

void port_links_close(struct core *c)
{
	(void)c;
	origin_closed = true;
	asked_count = 0;
}

void port_job_changed(struct core *c)
{
	(void)c;
}

/* ---- answers ---------------------------------------------------------------------------- */

static bool is_zero(uint64_t first, uint64_t end)
{
	uint8_t byte = 0;

	for (; first < end && !byte; first++)
		model_bytes(0, first, 1, &byte);
	return !byte;
}

static void answer_status(const struct asked *a, bool faults)
{
	struct extent e[64];
	uint64_t at = a->offset, end = a->offset + a->length;
	unsigned n = 0, most = 1 + (unsigned)chance_of(64);

	while (at < end && n < most) {
		uint64_t step = chance(70) ? BLOCK_BYTES : 512 * (1 + chance_of(40));
		uint64_t stop = at + step < plan.size_bytes ? at + step : plan.size_bytes;

		/* The last one may go on beyond what was asked ("BLOCK_STATUS"). */
		if (stop > end && chance(50))
			stop = end;
		e[n].length = (uint32_t)(stop - at);
		e[n++].flags = is_zero(at, stop) && chance(90) ? NBD_STATE_ZERO | (chance(50) ? NBD_STATE_HOLE : 0) : 0;
		at = stop;
	}
	origin_answered_ms = now_ms;
	if (!core_link_status(&core, a->cookie, faults && chance(5) ? EIO : 0, e, n))
		broken("a status request is not known any more");
}

static void answer_read(const struct asked *a, bool faults)
{
	uint64_t offset;
	uint32_t length;
	uint8_t *buf = core_link_buffer(&core, a->link, a->cookie, &offset, &length);

	if (!buf || offset != a->offset || length != a->length)
		broken("no buffer for what was asked at %llu", (unsigned long long)a->offset);
	if (core_link_buffer(&core, a->link, a->cookie + 1000000, &offset, &length))
		broken("a buffer for what was never asked");
	model_bytes(0, a->offset, chance(90) ? a->length : chance_of(a->length), buf);
	if (is_bad(a)) {
		origin_answered_ms = now_ms;
		core_link_data(&core, a->link, a->cookie, EIO);
	} else if (faults && chance(1)) {
		origin_down(a->link); /* with half of it read */
	} else {
		origin_answered_ms = now_ms;
		model_bytes(0, a->offset, a->length, buf);
		core_link_data(&core, a->link, a->cookie, 0);
	}
}

bool origin_step(bool faults)
{
	struct asked a;
	unsigned i;

	if (!asked_count)
		return false;
	i = (unsigned)chance_of(asked_count);
	a = asked[i];
	asked[i] = asked[--asked_count];
	trace("origin answers cookie %llu", (unsigned long long)a.cookie);
	if (a.status)
		answer_status(&a, faults);
	else
		answer_read(&a, faults);
	return true;
}

/* ---- links -------------------------------------------------------------------------------- */

void origin_up(unsigned link, bool faults)
{
	static const uint32_t limits[] = { 64, 64, 16, 4 };
	struct link_state l = { .unit_blocks = 1, .max_blocks = 64, .can_status = plan.can_status };

	if (origin_closed || core.link[link].up)
		return;
	if (faults) {
		l.unit_blocks = chance(50) ? plan.unit_blocks : 1;
		l.max_blocks = limits[chance_of(4)];
		if (l.max_blocks < l.unit_blocks)
			l.max_blocks = l.unit_blocks;
	}
	trace("link %u up, unit %u, max %u", link, l.unit_blocks, l.max_blocks);
	core_link_up(&core, link, &l);
}

static void forget(unsigned link)
{
	unsigned i, kept = 0;

	for (i = 0; i < asked_count; i++)
		if (asked[i].link != link)
			asked[kept++] = asked[i];
	asked_count = kept;
}

void origin_down(unsigned link)
{
	trace("link %u down", link);
	forget(link);
	core_link_down(&core, link);
}

void origin_crash(void)
{
	asked_count = 0;
	origin_copy_wanted = origin_closed = false;
	/* Buffers went with the process. */
	buffers = buffer_bytes = 0;
}
