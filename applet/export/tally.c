/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What the clients of exports have done: one sum for each export, and one for all. */
#include "libbb.h"
#include "export/tally.h"

struct tally tally_apart;
static uint64_t errors_apart[IO_OPS]; /* of the files of exports that are closed */

static unsigned loops(void)
{
	return ENABLE_FEATURE_XNBD_SERVER_THREADS && export_config.loops ? export_config.loops : 1;
}

struct tally *export_tally(struct export *e)
{
	struct tally *t;

	if (e->base)
		e = e->base;
	t = e->tally;
	if (!t) { /* who never has a client needs none */
		t = calloc(loops(), sizeof(*t));
		e->tally = t;
	}
	return t;
}

static uint64_t number(const uint64_t *n)
{
	return TALLY_STOPS ? *n : __atomic_load_n(n, __ATOMIC_RELAXED);
}

static void add(struct tally *sum, const struct tally *t)
{
	const uint64_t *from = (const void *)t;
	uint64_t *to = (void *)sum;
	unsigned i;

	_Static_assert(sizeof(*t) % sizeof(*to) == 0, "a tally has nothing but numbers");
	for (i = 0; i < sizeof(*t) / sizeof(*to); i++)
		to[i] += number(&from[i]);
}

static void add_loops(const struct export *e, struct tally *sum)
{
	unsigned i;

	for (i = 0; e->tally && i < loops(); i++)
		add(sum, &e->tally[i]);
}

void tally_sum(const struct export *e, struct tally *sum)
{
	if (e) {
		add_loops(e, sum);
		return;
	}
	add(sum, &tally_apart);
	for (e = exports; e; e = e->next)
		add_loops(e, sum);
}

uint64_t tally_some(const struct export *e, struct tally_part part)
{
	const uint64_t *from = (const void *)e->tally;
	uint64_t sum = 0;
	unsigned i, k;

	for (i = 0; from && i < loops(); i++, from += sizeof(struct tally) / sizeof(*from))
		for (k = 0; k < part.count; k++)
			sum += number(&from[part.first + k * part.step]);
	return sum;
}

uint64_t tally_disk_errors(const struct export *e, enum io_op op)
{
	uint64_t sum = errors_apart[op];

	if (e)
		return e->disk.errors[op];
	for (e = exports; e; e = e->next)
		sum += e->disk.errors[op];
	return sum;
}

void tally_end(struct export *e)
{
	unsigned i;

	add_loops(e, &tally_apart);
	free(e->tally);
	for (i = 0; i < IO_OPS; i++)
		errors_apart[i] += e->disk.errors[i];
}
