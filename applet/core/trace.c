/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The boot trace: how it is recorded, and its text. Pure. */
//config:config FEATURE_XNBD_SERVER_TRACE
//config:	bool "--record-trace and --prefetch (4.1 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	Which blocks a boot asks for, written to a small file; and what such a file
//config:	names fetched before it is asked for.
#include "core/trace.h"

#include <stdlib.h>
#include <string.h>

/* ---- recording -------------------------------------------------------------------- */

bool trace_begin(struct trace *t, uint64_t size_bytes)
{
	uint64_t *words = calloc(map_bytes(size_bytes) / sizeof(*words) + 1, sizeof(*words));
	bool ready;

	t->run = malloc(TRACE_RUNS_MAX * sizeof(*t->run));
	ready = t->run && words && map_init(&t->seen, size_bytes, words, false);

	t->seen.words = words;
	__atomic_store_n(&t->recording, ready, __ATOMIC_RELAXED);
	if (!t->recording)
		trace_free(t);
	return t->recording;
}

void trace_resume(struct trace *t, const struct trace_run *run, unsigned runs)
{
	for (; t->runs < runs; t->runs++) {
		t->run[t->runs] = run[t->runs];
		map_set(&t->seen, run[t->runs].first, run[t->runs].end);
		t->changed = true;
	}
}

void trace_stop(struct trace *t)
{
	__atomic_store_n(&t->recording, false, __ATOMIC_RELAXED);
	free(t->seen.words);
	t->seen.words = NULL;
	map_free(&t->seen);
	memset(&t->seen, 0, sizeof(t->seen));
}

void trace_free(struct trace *t)
{
	trace_stop(t);
	free(t->run);
	t->run = NULL;
	t->runs = 0;
	t->changed = false;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Extends r to [first, end), if that is near. False: it is not, or r would be too long. */
static bool run_grow(struct trace *t, struct trace_run *r, uint64_t first, uint64_t end)
{
	if (first > r->end + TRACE_GAP_BLOCKS || r->first > end + TRACE_GAP_BLOCKS)
		return false;
	first = lower(first, r->first);
	end = higher(end, r->end);
	if (end - first > TRACE_RUN_BLOCKS_MAX)
		return false;
	r->first = first;
	r->end = end;
	map_set(&t->seen, first, end); /* the gap too */
	return true;
}

/* Blocks that are in no run yet: into one of the last, or into one of their own. */
static void run_add(struct trace *t, uint64_t first, uint64_t end)
{
	unsigned i;

	for (i = 1; i <= TRACE_NEAR_RUNS && i <= t->runs; i++)
		if (run_grow(t, &t->run[t->runs - i], first, end))
			return;
	t->run[t->runs++] = (struct trace_run){ first, end };
	map_set(&t->seen, first, end);
}

void trace_add(struct trace *t, uint64_t first, uint64_t end)
{
	while (t->recording && (first = map_next_missing(&t->seen, first, end)) < end) {
		uint64_t stop = map_next_local(&t->seen, first, lower(end, first + TRACE_RUN_BLOCKS_MAX));

		run_add(t, first, stop);
		t->changed = true;
		if (t->runs == TRACE_RUNS_MAX)
			trace_stop(t); /* longer than any boot */
		first = stop;
	}
}

void trace_forget(struct trace *t, uint64_t first, uint64_t end)
{
	if (first < end)
		map_set(&t->seen, first, end);
}

/* ---- strangers' -------------------------------------------------------------------- */

static bool run_fits(const struct trace_run *r, uint64_t blocks)
{
	return r->first < r->end && r->end <= blocks && r->end - r->first <= TRACE_RUN_BLOCKS_MAX;
}

bool trace_fits(const struct trace_run *run, size_t runs, uint64_t size_bytes)
{
	size_t i;

	for (i = 0; i < runs; i++)
		if (!run_fits(&run[i], map_blocks(size_bytes)))
			return false;
	return runs <= TRACE_RUNS_MAX;
}

/* ---- text ------------------------------------------------------------------------- */

static const char magic[] = "xnbd-trace 1 ";

/* Writes n in decimal, then `end`. Returns the byte after that. */
static char *put_number(char *p, uint64_t n, char end)
{
	char digits[20];
	unsigned i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while (n /= 10);
	while (i)
		*p++ = digits[--i];
	*p++ = end;
	return p;
}

size_t trace_encode(const struct trace *t, uint64_t size_bytes, char *to)
{
	char *p = to;
	unsigned i;

	memcpy(p, magic, sizeof(magic) - 1);
	p = put_number(p + sizeof(magic) - 1, size_bytes, '\n');
	for (i = 0; i < t->runs; i++) {
		p = put_number(p, t->run[i].first, ' ');
		p = put_number(p, t->run[i].end - t->run[i].first, '\n');
	}
	return (size_t)(p - to);
}

/* A number and what ends it, at *p. False: it is not there. */
static bool parse_number(const char **p, const char *stop, uint64_t *n, char end)
{
	const char *at = *p;

	*n = 0;
	while (at < stop && *at >= '0' && *at <= '9' && *n <= (UINT64_MAX - 9) / 10)
		*n = *n * 10 + (uint64_t)(*at++ - '0');
	if (at == *p || at == stop || *at != end)
		return false;
	*p = at + 1;
	return true;
}

const char *trace_decode(const char *text, size_t n, uint64_t size_bytes, struct trace_run *run, unsigned *runs)
{
	const char *p = text + sizeof(magic) - 1, *stop = text + n;
	uint64_t blocks = map_blocks(size_bytes);
	uint64_t size, first, count;

	*runs = 0;
	if (n < sizeof(magic) || memcmp(text, magic, sizeof(magic) - 1) != 0 || !parse_number(&p, stop, &size, '\n'))
		return "not a boot trace";
	if (size != size_bytes)
		return "it is of a disk of another size";
	while (p < stop) {
		if (*runs == TRACE_RUNS_MAX)
			return "it is too long";
		if (!parse_number(&p, stop, &first, ' ') || !parse_number(&p, stop, &count, '\n'))
			return "a line is damaged";
		run[*runs] = (struct trace_run){ first, first + count };
		if (!run_fits(&run[(*runs)++], blocks))
			return "it names blocks that are not on the disk";
	}
	return NULL;
}
