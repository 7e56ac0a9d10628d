/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The pure pieces of the core: block map, ranges, what a start makes of its files; and how
 * the copy follows the link and its clients. How all of it plays together is for the simulator. */
#include "core/fetch.h"
#include "core/internal.h"
#include "core/map.h"
#include "core/range.h"
#include "core/state.h"
#include "core/trace.h"
#include "nbd/nbd.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- map ------------------------------------------------------------------------ */

static void test_map_sizes(void)
{
	CHECK(map_blocks(0) == 0 && map_bytes(0) == 0);
	CHECK(map_blocks(1) == 1 && map_bytes(1) == 8);
	CHECK(map_blocks(4096) == 1);
	CHECK(map_blocks(4097) == 2);
	CHECK(map_bytes(64 * 4096) == 8 && map_bytes(64 * 4096 + 1) == 16);
	CHECK(map_blocks(INT64_MAX) == 1ULL << 51);
	CHECK(map_bytes(INT64_MAX) == 1ULL << 48);
}

/* Against an array of bools, on random ranges; sizes around a word and a chunk. */
static void test_map_model(uint64_t size_bytes, unsigned seed)
{
	uint64_t blocks = map_blocks(size_bytes);
	uint64_t *words = calloc(1, map_bytes(size_bytes));
	bool *model = calloc(blocks, sizeof(bool));
	uint64_t local = 0;
	struct map m;
	int round;

	srand(seed);
	CHECK(map_init(&m, size_bytes, words, false));
	for (round = 0; round < 200; round++) {
		uint64_t first = (uint64_t)rand() % blocks;
		uint64_t end = first + 1 + (uint64_t)rand() % (blocks - first);
		uint64_t added = 0, missing = end, at_local = end, i;

		if (round % 2) /* short ones, so that holes remain */
			end = first + 1 + (uint64_t)rand() % 3 < end ? first + 1 : end;
		missing = at_local = end;
		for (i = end; i-- > first;) {
			if (model[i])
				at_local = i;
			else
				missing = i;
		}
		if (map_next_missing(&m, first, end) != missing || map_next_local(&m, first, end) != at_local)
			break;
		if (round % 2 == 0 && round < 150)
			continue;
		for (i = first; i < end; i++) {
			added += !model[i];
			model[i] = true;
		}
		local += added;
		if (map_set(&m, first, end) != added || m.local != local || map_is_complete(&m) != (local == blocks))
			break;
	}
	CHECK(round == 200);
	map_free(&m);
	free(model);
	free(words);
}

static void test_map_init(void)
{
	uint64_t words[2] = { ~0ULL, ~0ULL };
	struct map m;

	/* bits past the end are nobody's */
	CHECK(map_init(&m, 65 * 4096, words, true));
	CHECK(m.local == 65 && words[1] == 1 && map_is_complete(&m));
	CHECK(m.dirty_chunks == 1 && map_next_dirty(&m, 0) == 0);
	map_free(&m);
	CHECK(map_init(&m, 65 * 4096, words, false));
	CHECK(m.dirty_chunks == 0 && map_next_dirty(&m, 0) == m.chunks);
	map_free(&m);
	/* a target: everything is local */
	CHECK(map_init(&m, 100 * 4096, NULL, false));
	CHECK(map_next_local(&m, 5, 10) == 5); /* a target: all are */
	CHECK(map_is_complete(&m) && map_is_local(&m, 99) && map_next_missing(&m, 3, 50) == 50);
	CHECK(map_set(&m, 0, 100) == 0);
	map_free(&m);
}

static void test_map_chunks(void)
{
	uint64_t size = (2ULL * (MAP_CHUNK_BYTES * 8) + 70) * BLOCK_BYTES; /* two chunks and two words */
	uint64_t *words = calloc(1, map_bytes(size));
	uint64_t copy[MAP_CHUNK_BYTES / 8]; /* in the machine's own order, as in the files */
	struct map m;

	CHECK(map_init(&m, size, words, false));
	CHECK(m.chunks == 3 && map_chunk_bytes(&m, 0) == 4096 && map_chunk_bytes(&m, 2) == 16);
	map_set(&m, (MAP_CHUNK_BYTES * 8) - 1, (MAP_CHUNK_BYTES * 8) + 1); /* over the border */
	map_set(&m, 2 * (MAP_CHUNK_BYTES * 8) + 69, 2 * (MAP_CHUNK_BYTES * 8) + 70);
	CHECK(m.dirty_chunks == 3);
	map_pop_chunk(&m, 0, (uint8_t *)copy);
	CHECK(copy[511] == 1ULL << 63 && copy[0] == 0);
	map_pop_chunk(&m, 2, (uint8_t *)copy);
	CHECK(copy[0] == 0 && copy[1] == 1 << 5 && copy[2] == 0 && copy[511] == 0);
	CHECK(m.dirty_chunks == 1 && map_next_dirty(&m, 0) == 1 && map_next_dirty(&m, 2) == 3);
	map_set(&m, 0, 1);
	CHECK(map_next_dirty(&m, 0) == 0);
	map_set(&m, 1, 1);
	map_pop_chunk(&m, 0, (uint8_t *)copy);
	map_set(&m, 0, 1); /* nothing new: stays clean */
	CHECK(map_next_dirty(&m, 0) == 1);
	map_free(&m);
	free(words);
}

/* ---- ranges ------------------------------------------------------------------------ */

static void test_range(void)
{
	struct range_locks t = { 0 };
	struct range a = { .first = 0, .end = 10 };
	struct range b = { .first = 5, .end = 6 };
	struct range w = { .first = 9, .end = 12, .exclusive = true };
	struct range r = { .first = 11, .end = 20 };
	struct range far = { .first = 100, .end = 101, .exclusive = true };
	struct range *granted = NULL, **tail = &granted;

	CHECK(range_lock(&t, &a));
	CHECK(range_lock(&t, &b)); /* readers share */
	CHECK(range_is_busy(&t, 9, 10, true) && !range_is_busy(&t, 9, 10, false) && !range_is_busy(&t, 10, 11, true));
	CHECK(!range_lock(&t, &w)); /* waits for a */
	CHECK(!range_lock(&t, &r)); /* waits for w, though nobody holds its blocks: first come */
	CHECK(range_lock(&t, &far));
	tail = range_unlock(&t, &b, tail);
	CHECK(granted == NULL);
	tail = range_unlock(&t, &a, tail);
	CHECK(granted == &w && w.next_granted == NULL);
	granted = NULL;
	tail = range_unlock(&t, &w, &granted);
	CHECK(granted == &r && tail == &r.next_granted);
	range_unlock(&t, &far, &granted);
	range_unlock(&t, &r, &granted);
	CHECK(t.oldest == NULL && t.newest == NULL);
}

/* ---- state ------------------------------------------------------------------------- */

static void test_header(void)
{
	struct state_header h = { .size_bytes = 0x123456789abcULL, .boot_id = "0123-4567" };
	struct state_header back;
	uint8_t raw[STATE_HEADER_BYTES];
	unsigned i;

	for (i = 0; i < STATE_SAMPLES; i++)
		h.fingerprint.sample[i] = i * 0x0101010101010101ULL;
	h.counter = 77;
	h.recent[STATE_RECENT - 1].sample = 5;
	state_header_encode(raw, &h);
	CHECK(state_header_decode(raw, sizeof(raw), &back) == NULL);
	CHECK(back.size_bytes == h.size_bytes && strcmp(back.boot_id, h.boot_id) == 0);
	CHECK(memcmp(&back.fingerprint, &h.fingerprint, sizeof(h.fingerprint)) == 0);
	CHECK(back.counter == 77 && back.recent[STATE_RECENT - 1].sample == 5);
	CHECK(state_header_decode(raw, sizeof(raw) - 1, &back) != NULL);
	CHECK(state_header_decode(raw, 0, &back) != NULL);
	for (i = 0; i < sizeof(raw); i++) { /* no byte of it can change unseen */
		raw[i] ^= 0x10;
		if (!state_header_decode(raw, sizeof(raw), &back))
			break;
		raw[i] ^= 0x10;
	}
	CHECK(i == sizeof(raw));
}

/* One that is whole, but not of this machine or this program. */
static void test_header_foreign(void)
{
	static const unsigned at[] = { 0, 8, 12 }; /* magic, byte order, block size */
	struct state_header h = { .size_bytes = 4096 };
	uint8_t raw[STATE_HEADER_BYTES];
	unsigned i;

	for (i = 0; i < 3; i++) {
		const char *why;

		state_header_encode(raw, &h);
		raw[at[i]] ^= 1;
		nbd_put64(raw + 1016, fingerprint_sample(raw, 1016)); /* the same sum */
		why = state_header_decode(raw, sizeof(raw), &h);
		CHECK(why != NULL && strcmp(why, "checksum wrong") != 0);
	}
}

static void test_layout(void)
{
	/* The smallest, one that fills a page of bits, and one bit more. */
	CHECK(commit_written_offset(1) == 8192 + 4096 && commit_file_bytes(1, false) == 8192 + 2 * 4096);
	CHECK(commit_written_offset(128 << 20) == 8192 + 4096 && commit_written_offset((128 << 20) + 1) == 8192 + 8192);
	/* One bit of the second plane is of no block. */
	CHECK(commit_file_bytes((2048ULL << 20) - (64 << 10), false) == 8192 + 16 * 4096 + 4096);
	CHECK(commit_file_bytes(2048ULL << 20, false) == 8192 + 16 * 4096 + 8192);
	CHECK(commit_file_bytes(0, false) == 8192 + 4096);
	CHECK(written_bytes(0) == 8 && written_bytes((4 << 20) - (64 << 10)) == 8 && written_bytes(4 << 20) == 16);
}

static void test_cover(void)
{
	static const uint64_t mib = 1 << 20, sizes[] = { 0, 1, 4096, 8 << 20, (8 << 20) + 1, (10 << 20) + 513, (64 << 20) + 512, (1ULL << 44) + 1 };
	uint64_t size = 64 * mib + 512, n, at, planes = commit_cover_offset(size);
	unsigned i;

	/* Every byte is in one place, and the parts follow each other without a gap. */
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t offset, next = commit_cover_offset(sizes[i]), none = 0;

		CHECK(cover_head(sizes[i]) <= cover_tail(sizes[i]) && cover_tail(sizes[i]) <= sizes[i]);
		for (offset = 0; offset < sizes[i]; offset += n) {
			n = sizes[i] - offset;
			at = cover_place(sizes[i], offset, &n);
			CHECK(n && (at == UINT64_MAX || at == next));
			if (at == UINT64_MAX)
				none += n;
			else
				next = (at + n + 4095) & ~4095ULL;
		}
		CHECK(next == commit_file_bytes(sizes[i], true) && (cover_tail(sizes[i]) > cover_head(sizes[i])) == (none > 0));
	}
	n = 2;
	CHECK(cover_place(size, 8 * mib - 1, &n) == planes + 8 * mib - 1 && n == 1);
	n = size;
	CHECK(cover_place(size, 8 * mib, &n) == UINT64_MAX && n == 54 * mib);
	n = 1000;
	CHECK(cover_place(size, 62 * mib, &n) == planes + 8 * mib && n == 1000);
	CHECK(commit_file_bytes(size, true) == planes + 10 * mib + 4096);
}

/* Whatever the device, there is room for the commit file of the largest disk that fits, and a MiB behind it. */
static void test_behind(void)
{
	static const uint64_t mib = 1 << 20;
	uint64_t sizes[] = { mib, mib + 1, 8 * mib, 32 * mib, 32 * mib + 512, 1ULL << 40, (1ULL << 44) + 513, 1ULL << 62 };
	unsigned i, k;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t device = commit_behind_device(sizes[i]);

		for (k = 0; k < 3; k++, device += 511 * mib + 512) {
			uint64_t at = commit_behind_offset(device);

			CHECK(at >= sizes[i] && at % mib == 0 && (sizes[i] <= mib || at + commit_file_bytes(at, true) + mib <= device));
		}
		CHECK(sizes[i] <= 10 * mib || commit_behind_device(sizes[i]) < sizes[i] + sizes[i] / 29000 + 14 * mib);
	}
	CHECK(commit_behind_offset(0) == mib && commit_behind_offset(44 * mib) == 32 * mib && commit_behind_offset(43 * mib) == 31 * mib);
}

static void test_fingerprint(void)
{
	struct fingerprint a = { { 0 } }, b = { { 0 } };
	unsigned i;

	CHECK(fingerprint_match(&a, &b));
	a.sample[3] = 5;
	CHECK(fingerprint_match(&a, &b)); /* b does not know */
	b.sample[3] = 6;
	CHECK(!fingerprint_match(&a, &b));
	b.sample[3] = 5;
	CHECK(fingerprint_match(&a, &b));
	CHECK(fingerprint_sample((const uint8_t *)"a", 1) != fingerprint_sample((const uint8_t *)"b", 1));
	CHECK(fingerprint_sample((const uint8_t *)"", 0) != 0);
	CHECK(fingerprint_block(1, 0) == 0 && fingerprint_block(1, STATE_SAMPLES - 1) == 0);
	CHECK(fingerprint_block(0, STATE_SAMPLES - 1) == 0);
	CHECK(fingerprint_block(100 * 4096, 0) == 0 && fingerprint_block(100 * 4096 + 1, STATE_SAMPLES - 1) == 100);
	for (i = 0; i < STATE_SAMPLES; i++)
		CHECK(fingerprint_block(INT64_MAX, i) < map_blocks(INT64_MAX));
}

static enum state_start decide(struct state_found f)
{
	const char *why = NULL;
	enum state_start s = state_decide(&f, &why);

	CHECK(s != START_REFUSE || (why && *why));
	return s;
}

static void test_decide(void)
{
	struct state_found good = { .size_bytes = 8 << 20, .bitmap_bytes = map_bytes(8 << 20), .commit = COMMIT_GOOD,
				    .commit_size_bytes = 8 << 20, .same_boot = true, .same_origin = true };
	struct state_found f = good;

	CHECK(decide(good) == START_BOTH);
	f.same_boot = false; /* the page cache is gone */
	CHECK(decide(f) == START_COMMIT);
	f.bitmap_bytes = 0;
	CHECK(decide(f) == START_COMMIT);
	f = good;
	f.bitmap_bytes = 0;
	CHECK(decide(f) == START_REFUSE);
	f.accept = true;
	CHECK(decide(f) == START_COMMIT);
	f.accept = false;
	f.clean = true; /* all that was written is committed */
	CHECK(decide(f) == START_COMMIT);
	f = good;
	f.same_origin = false;
	CHECK(decide(f) == START_REFUSE);
	f = good;
	f.bitmap_bytes += 8;
	CHECK(decide(f) == START_REFUSE);
	f.clear = true;
	CHECK(decide(f) == START_NEW);
	f = good;
	f.commit_size_bytes++;
	CHECK(decide(f) == START_REFUSE);
	f = good;
	f.commit = COMMIT_OLD_VERSION;
	CHECK(decide(f) == START_REFUSE);
	f.commit = COMMIT_DAMAGED;
	CHECK(decide(f) == START_REFUSE);
	f.clear = true;
	CHECK(decide(f) == START_NEW);
	f = good;
	f.commit = COMMIT_ABSENT; /* xNBD's own */
	f.same_boot = false;
	CHECK(decide(f) == START_NEW); /* a start was killed */
	f.bitmap_set = true;
	CHECK(decide(f) == START_REFUSE);
	f.adopt = true;
	CHECK(decide(f) == START_ADOPT);
	f.bitmap_set = false;
	f.bitmap_bytes = 0;
	CHECK(decide(f) == START_NEW);
	f = good;
	f.other = "exchanged";
	CHECK(decide(f) == START_REFUSE);
	f.adopt = true; /* that is for what xNBD has changed */
	CHECK(decide(f) == START_REFUSE);
	f.accept = true;
	CHECK(decide(f) == START_BOTH);
	f = good;
	f.changed = "written to";
	CHECK(decide(f) == START_REFUSE);
	f.accept = true;
	CHECK(decide(f) == START_BOTH);
	f.adopt = true;
	CHECK(decide(f) == START_ADOPT);
	f.same_origin = false; /* not by these options */
	CHECK(decide(f) == START_REFUSE);
}

static void test_unknown_origin(void)
{
	struct fingerprint known = { .sample = { 1, 2, 3 } }, part = { .sample = { [2] = 3 } }, none = { .sample = { 0 } };

	CHECK(fingerprint_match(&known, &none)); /* nothing to compare with yet */
	CHECK(fingerprint_match(&part, &known));
	CHECK(!fingerprint_match(&none, &known)); /* it can read none of what we know */
	fingerprint_add(&part, &known);
	CHECK(memcmp(&part, &known, sizeof(part)) == 0);
	fingerprint_add(&part, &none); /* what it cannot read stays known */
	CHECK(memcmp(&part, &known, sizeof(part)) == 0);
}

/* ---- boot trace -------------------------------------------------------------------- */

enum { TRACE_BLOCKS = 1000, TRACE_SIZE = TRACE_BLOCKS * BLOCK_BYTES - 5 };

static void test_trace_runs(void)
{
	struct trace t = { 0 };
	uint64_t i;

	CHECK(trace_begin(&t, TRACE_SIZE));
	CHECK(t.recording && !t.changed && !t.runs);
	trace_add(&t, 500, 510);
	trace_add(&t, 100, 101);
	trace_add(&t, 510, 512); /* beside the last but one */
	trace_add(&t, 520, 521); /* near it: the gap belongs to it */
	CHECK(t.runs == 2 && t.run[0].first == 500 && t.run[0].end == 521);
	t.changed = false;
	trace_add(&t, 515, 521); /* known */
	CHECK(t.runs == 2 && !t.changed);
	trace_add(&t, 90, 95); /* near it, before it */
	CHECK(t.changed && t.runs == 2 && t.run[1].first == 90 && t.run[1].end == 101);
	trace_add(&t, 530, 531); /* 9 blocks away */
	CHECK(t.runs == 3 && t.run[2].first == 530);
	trace_forget(&t, 700, 800);
	trace_add(&t, 690, 810);
	CHECK(t.runs == 5 && t.run[3].first == 690 && t.run[3].end == 700);
	CHECK(t.run[4].first == 800 && t.run[4].end == 810);
	trace_add(&t, TRACE_BLOCKS - 1, TRACE_BLOCKS);
	for (i = 0; i < 10; i++) /* so long ago that the order counts */
		trace_add(&t, 200 + 20 * i, 201 + 20 * i);
	trace_add(&t, 101, 102);
	CHECK(t.runs == 17 && t.run[16].first == 101);
	trace_add(&t, 200, 201); /* known, however long ago */
	CHECK(t.runs == 17);
	trace_stop(&t);
	trace_add(&t, 0, 1);
	CHECK(t.runs == 17);
	t.changed = true;
	trace_free(&t);
	CHECK(!t.run && !t.runs);
	CHECK(!t.changed); /* else an empty trace would take the place of the last one that could be written */
}

/* Another program goes on with what this one has recorded. */
static void test_trace_resumed(void)
{
	const struct trace_run run[] = { { 500, 510 }, { 100, 101 }, { TRACE_BLOCKS - 1, TRACE_BLOCKS } };
	struct trace t = { 0 };

	CHECK(trace_begin(&t, TRACE_SIZE));
	trace_resume(&t, run, 0);
	CHECK(t.recording && !t.changed && !t.runs);
	trace_resume(&t, run, 3);
	CHECK(t.recording && t.changed && t.runs == 3 && memcmp(t.run, run, sizeof(run)) == 0);
	t.changed = false;
	trace_add(&t, 505, 510); /* known */
	CHECK(!t.changed && t.runs == 3);
	trace_add(&t, 512, 513); /* near the first */
	CHECK(t.changed && t.runs == 3 && t.run[0].end == 513);
	trace_add(&t, 300, 301);
	CHECK(t.runs == 4 && t.run[3].first == 300);
	trace_free(&t);
}

static bool fits(uint64_t first, uint64_t end)
{
	const struct trace_run run[] = { { 0, TRACE_BLOCKS }, { first, end } };

	return trace_fits(run, 2, TRACE_SIZE);
}

static void test_trace_fits(void)
{
	CHECK(fits(5, 6) && fits(TRACE_BLOCKS - 1, TRACE_BLOCKS));
	CHECK(!fits(5, 5) && !fits(6, 5) && !fits(TRACE_BLOCKS, TRACE_BLOCKS + 1) && !fits(0, TRACE_BLOCKS + 1) && !fits(UINT64_MAX, 5));
	CHECK(!fits(UINT64_MAX - 1, UINT64_MAX));
}

/* One that is full stops by itself, and its text is not longer than may be read. */
static void test_trace_full(void)
{
	uint64_t size = (uint64_t)INT32_MAX * BLOCK_BYTES; /* numbers as long as memory for a test allows */
	struct trace t = { 0 };
	struct trace_run *run = calloc(TRACE_RUNS_MAX + 1, sizeof(*run));
	char *text = malloc(TRACE_BYTES_MAX);
	unsigned runs, i;
	size_t n;

	CHECK(trace_begin(&t, size));
	for (i = 0; i < TRACE_RUNS_MAX + 1; i++)
		trace_add(&t, INT32_MAX - 10 - 100000ULL * i, INT32_MAX - 10 - 100000ULL * i + (i ? 70000 : 3));
	CHECK(t.runs == TRACE_RUNS_MAX && !t.recording && t.changed);
	n = trace_encode(&t, size, text);
	CHECK(n < TRACE_BYTES_MAX);
	CHECK(!trace_decode(text, n, size, run, &runs));
	CHECK(runs == TRACE_RUNS_MAX && memcmp(run, t.run, runs * sizeof(*run)) == 0);
	CHECK(trace_decode(text, n - 1, size, run, &runs)); /* cut short */
	text[n] = '0';
	memcpy(text + n, "0 1\n", 4);
	CHECK(trace_decode(text, n + 4, size, run, &runs)); /* one too many */
	trace_free(&t);
	CHECK(trace_begin(&t, size));
	trace_resume(&t, run, TRACE_RUNS_MAX);
	CHECK(t.runs == TRACE_RUNS_MAX && t.changed);
	trace_free(&t);
	run[TRACE_RUNS_MAX] = run[0];
	CHECK(trace_fits(run, TRACE_RUNS_MAX, size) && !trace_fits(run, TRACE_RUNS_MAX + 1, size));
	free(text);
	free(run);
}

/* What is wrong with a text; from memory that ends where the text does. */
static const char *decode(const char *text, uint64_t size_bytes)
{
	struct trace_run run[4];
	unsigned runs;
	size_t n = strlen(text);
	char *p = malloc(n ? n : 1);
	const char *why;

	memcpy(p, text, n);
	why = trace_decode(p, n, size_bytes, run, &runs);
	free(p);
	return why ? why : "";
}

static void test_trace_strangers(void)
{
	static const char none[] = "not a boot trace", damaged[] = "a line is damaged",
			  outside[] = "it names blocks that are not on the disk";
	struct trace_run run;
	unsigned runs;

	CHECK(!trace_decode("xnbd-trace 1 4095995\n7 3\n", 25, TRACE_SIZE, &run, &runs));
	CHECK(runs == 1 && run.first == 7 && run.end == 10);
	CHECK(!*decode("xnbd-trace 1 4095995\n", TRACE_SIZE));
	CHECK(!*decode("xnbd-trace 1 4095995\n999 1\n0 1000\n", TRACE_SIZE));
	CHECK(strcmp(decode("", TRACE_SIZE), none) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 ", TRACE_SIZE), none) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995", TRACE_SIZE), none) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 -1\n", TRACE_SIZE), none) == 0);
	CHECK(strcmp(decode("xnbd-trace 2 4095995\n7 3\n", TRACE_SIZE), none) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095996\n7 3\n", TRACE_SIZE), "it is of a disk of another size") == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n7 3", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n7\n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n7 3 \n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n 3\n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n\n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n18446744073709551616 1\n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n18446744073709551615 1\n", TRACE_SIZE), damaged) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n18446744073709551600 1\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n18446744073709551600 100\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n1 18446744073709551600\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n1000 1\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n999 2\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4095995\n9 0\n", TRACE_SIZE), outside) == 0);
	CHECK(strcmp(decode("xnbd-trace 1 4503599627370496\n0 65537\n", 1ULL << 52), outside) == 0);
}

/* ---- the copy's window and its politeness ---------------------------------------------------- */

enum { KIB = 1024, STEP = 256 * KIB, WINDOW = 5120 * KIB, ASKED_MAX = 2048 };

/* What the origin was asked, by age; the disk does all at once, but for what is held. */
static struct {
	struct core core;
	uint64_t now_ms;
	struct {
		uint64_t cookie, offset, at_ms;
		uint32_t length;
		unsigned link;
	} asked[ASKED_MAX];
	unsigned asked_count, replies;
	bool hold; /* writes to the image stay under way */
	bool hold_syncs; /* ... and syncs of it */
	bool hold_bits, no_bits; /* writes to the bitmap stay under way, or fail */
	bool no_commit_file; /* it cannot be written */
	bool no_trims; /* the disk cannot */
	bool odd_trims; /* ... with these borders */
	unsigned trims, zeroes; /* that it was asked for */
	unsigned commit_syncs; /* of that file */
	struct io *held[ASKED_MAX];
	unsigned held_count;
	struct request client;
	uint8_t client_buf[8192];
	struct extents told;
	uint64_t status_cookie, status_offset;
	uint32_t status_length;
	unsigned status_count, status_conn;
} w;

bool port_io(struct core *c, struct io *io)
{
	(void)c;
	if (io->file == FILE_IMAGE && ((w.hold && (io->op == IO_WRITE || io->op == IO_EXTENTS)) || (w.hold_syncs && io->op == IO_SYNC))) {
		w.held[w.held_count++] = io;
		return false;
	}
	if (w.hold_bits && io->file == FILE_BITMAP) {
		w.held[w.held_count++] = io;
		return false;
	}
	w.commit_syncs += io->op == IO_SYNC && io->file == FILE_COMMIT;
	if (io->op == IO_READ)
		memset(io->buf, 1, io->length);
	w.trims += io->op == IO_TRIM;
	w.zeroes += io->op == IO_ZERO;
	io->error = w.no_bits && io->file == FILE_BITMAP				       ? 5
		    : w.no_commit_file && io->file == FILE_COMMIT && io->op == IO_WRITE ? 5
		    : w.no_trims && io->op == IO_TRIM					       ? EOPNOTSUPP
		    : w.odd_trims && io->op == IO_TRIM					       ? EINVAL
											       : 0;
	if (io->op == IO_EXTENTS) /* no holes in the image */
		*(struct extents *)io->buf = (struct extents){ .count = 1, .extent = { { .length = (uint32_t)io->length } } };
	return true;
}

void *port_alloc(struct core *c, uint32_t n)
{
	(void)c;
	return malloc(n);
}

void port_free(struct core *c, void *p, uint32_t n)
{
	(void)c;
	(void)n;
	free(p);
}

void port_reply(struct core *c, struct request *r)
{
	(void)c;
	w.replies += !r->error;
}

void port_conn_read(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	(void)c;
	w.asked[w.asked_count].length = length;
	w.asked[w.asked_count].cookie = cookie;
	w.asked[w.asked_count].offset = offset;
	w.asked[w.asked_count].link = link;
	w.asked[w.asked_count++].at_ms = w.now_ms;
}

void port_conn_status(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	(void)c;
	w.status_conn = link;
	w.status_cookie = cookie;
	w.status_offset = offset;
	w.status_length = length;
	w.status_count++;
}

void port_copy_conn(struct core *c, bool wanted)
{
	(void)c;
	(void)wanted;
}

void port_conns_close(struct core *c)
{
	(void)c;
}

static bool records_switch;

void port_switch(struct core *c, bool complete)
{
	(void)c;
	CHECK(complete);
	records_switch = true;
}

void port_job_changed(struct core *c)
{
	(void)c;
}

static void links_up(void)
{
	struct conn_state link = { .unit_blocks = 1, .max_blocks = FETCH_BLOCKS_MAX };

	core_conn_up(&w.core, CONN_CLIENT, &link);
	core_conn_up(&w.core, CONN_COPIER, &link);
}

static void links_down(void)
{
	core_conn_down(&w.core, CONN_COPIER);
	core_conn_down(&w.core, CONN_CLIENT);
}

/* A disk of 64 GiB, all missing, and the copy begun. */
static void copy_begin(uint64_t window, bool fixed)
{
	struct core_config config = { .size_bytes = 64ULL << 30, .proxy = true, .fetch_window = window, .fixed_window = fixed };

	memset(&w, 0, sizeof(w));
	w.now_ms = config.now_ms = 1000000;
	config.words = calloc(1, map_bytes(config.size_bytes));
	config.written = calloc(1, written_bytes(config.size_bytes));
	config.published = calloc(1, map_bytes(config.size_bytes));
	CHECK(core_init(&w.core, &config));
	links_up();
	CHECK(core_job_start(&w.core, 0, 0) == 0);
}

static void copy_end(void)
{
	core_job_cancel(&w.core);
	core_verify_cancel(&w.core);
	while (w.asked_count) {
		w.asked_count--;
		core_conn_data(&w.core, w.asked[w.asked_count].link, w.asked[w.asked_count].cookie, 5);
	}
	CHECK(!w.core.fetch_count && !w.core.fetch_bytes[CONN_COPIER]);
	free(w.core.map.words);
	free(w.core.written.map.words);
	free(w.core.published);
	core_free(&w.core);
}

static void at(uint64_t ms)
{
	w.now_ms = ms > w.now_ms ? ms : w.now_ms;
	core_tick(&w.core, w.now_ms);
}

/* The oldest question over this link is answered so long after it was asked. */
static void answer(unsigned link, uint64_t ms)
{
	uint64_t offset, cookie;
	uint32_t n;
	unsigned i;
	void *p;

	for (i = 0; i < w.asked_count && w.asked[i].link != link; i++)
		;
	if (!CHECK(i < w.asked_count))
		return;
	cookie = w.asked[i].cookie;
	at(w.asked[i].at_ms + ms);
	w.asked_count--;
	memmove(&w.asked[i], &w.asked[i + 1], (w.asked_count - i) * sizeof(w.asked[0]));
	p = core_conn_buffer(&w.core, link, cookie, &offset, &n);
	if (CHECK(p))
		memset(p, 1, n);
	core_conn_data(&w.core, link, cookie, 0);
}

/* So many of the copy's. */
static void answers(unsigned n, uint64_t ms)
{
	while (n--)
		answer(CONN_COPIER, ms);
}

static uint64_t window(void)
{
	return w.core.fetch_window[CONN_COPIER];
}

static void client_reads(void)
{
	memset(&w.client, 0, sizeof(w.client));
	w.client.offset = (63ULL << 30) + w.replies * 1048576ULL;
	w.client.length = 4096;
	w.client.buf = w.client_buf;
	CHECK(!core_check(&w.core, &w.client));
	core_submit(&w.core, &w.client);
}

static void test_window(void)
{
	unsigned i;

	/* near: as it is, however long its own queue is */
	copy_begin(0, false);
	CHECK(window() == WINDOW && w.asked_count == 20);
	answers(1, 1);
	answers(1000, 40);
	CHECK(window() == WINDOW && w.asked_count == 20);
	copy_end();

	/* far: what it has room for, and no more */
	copy_begin(0, false);
	answers(1000, 50);
	CHECK(window() == 4 * WINDOW && w.asked_count == 80);
	answers(1, 51);
	answers(1000, 74); /* some have to wait */
	CHECK(window() == 4 * WINDOW);
	/* what waits for others makes it smaller, as far as two fetches */
	answers(1, 101);
	CHECK(window() == 4 * WINDOW - STEP);
	for (i = 0; i < 12; i++) {
		answers(10, 150);
		CHECK(window() >= 2 * STEP);
	}
	CHECK(window() == 2 * STEP);
	answers(100, 50);
	CHECK(window() == 4 * WINDOW);
	/* all is new with another link */
	core_conn_down(&w.core, CONN_COPIER);
	CHECK(window() == WINDOW && w.core.rtt[CONN_COPIER].min_rtt_ms == UINT64_MAX);
	copy_end();

	/* not beyond what is fixed; and not below two fetches, whatever it began with */
	copy_begin(4 * STEP + 5000, true);
	answers(100, 50);
	CHECK(window() == 2 * STEP + 2500);
	answers(100, 150);
	CHECK(window() == 2 * STEP + 2500);
	copy_end();
	copy_begin(1, true);
	answers(10, 50);
	answers(100, 150);
	CHECK(window() == STEP && w.asked_count == 1);
	copy_end();
}

/* The first answers of a near origin were slow. */
static void test_window_found_near(void)
{
	copy_begin(0, false);
	answers(100, 50);
	CHECK(window() == 4 * WINDOW);
	answers(200, 1);
	CHECK(window() == WINDOW && w.asked_count == 20);
	copy_end();

	copy_begin(0, false);
	answers(1, 5);
	answers(60, 20);
	CHECK(window() == 2 * STEP);
	answers(10, 3);
	CHECK(window() == WINDOW && w.asked_count == 20);
	copy_end();
}

/* What came over a link that is lost says nothing of the next one. */
static void test_window_of_lost_link(void)
{
	unsigned i;

	copy_begin(0, false);
	w.hold = true;
	answers(1, 1);
	links_down();
	w.asked_count = 0;
	w.hold = false;
	CHECK(w.held_count == 1);
	links_up();
	for (i = 0; i < w.held_count; i++)
		w.held[i]->done(w.held[i]);
	answers(300, 50);
	CHECK(window() == 4 * WINDOW);
	copy_end();
}

/* The way becomes longer, and the link stays. */
static void test_window_longer_way(void)
{
	unsigned i;

	copy_begin(0, false);
	answers(100, 10);
	answers(200, 50);
	CHECK(w.core.rtt[CONN_COPIER].min_rtt_ms == 50 || window() == 2 * STEP);
	answers(400, 50);
	CHECK(window() == 4 * WINDOW);
	/* not for one that has bad luck now and then */
	answers(80, 110);
	CHECK(w.core.rtt[CONN_COPIER].min_rtt_ms == 50);
	for (i = 0; i < 20; i++) {
		answers(40, 150);
		answers(4, 50);
	}
	CHECK(w.core.rtt[CONN_COPIER].min_rtt_ms == 50);
	/* and not while a client's fetch is in the way */
	answers(60, 150);
	client_reads();
	answers(100, 150);
	CHECK(w.core.rtt[CONN_COPIER].min_rtt_ms == 50 && window() == 2 * STEP);
	answer(CONN_CLIENT, 50);
	copy_end();

	/* many small ones are not little */
	copy_begin(0, false);
	core_job_cancel(&w.core);
	answers(20, 1);
	CHECK(!w.asked_count && core_job_start(&w.core, 1, 0) == 0);
	CHECK(w.asked_count == COPIER_IN_FLIGHT_MAX);
	answers(1000, 6);
	CHECK(w.core.rtt[CONN_COPIER].min_rtt_ms == 1);
	copy_end();
}

/* What the copy has lost with the link does not come before what a client has asked since. */
static void test_lost_link_and_client(void)
{
	copy_begin(0, false);
	answers(1000, 50);
	CHECK(w.asked_count == 80);
	links_down();
	w.asked_count = 0;
	client_reads();
	links_up();
	CHECK(w.asked_count == 21 && w.asked[0].offset == w.client.offset);
	answer(CONN_CLIENT, 50);
	CHECK(w.replies == 1);
	copy_end();
}

static void test_politeness(void)
{
	copy_begin(0, false);
	answers(30, 1);
	CHECK(w.asked_count == 20);
	client_reads();
	CHECK(w.asked_count == 21 && w.core.waiting == 1);
	answers(20, 1); /* of the copy only one is under way, */
	CHECK(w.asked_count == 2);
	answers(5, 1);
	CHECK(w.asked_count == 2 && w.asked[1].length == COPY_POLITE_BLOCKS * 4096); /* and that is short */
	answer(CONN_CLIENT, 1);
	CHECK(w.replies == 1 && !w.core.waiting && w.asked_count == 1);
	at(w.now_ms + COPY_POLITE_MS - 1); /* and for some time nothing else, since the client may be back; */
	answers(1, 0);
	CHECK(w.asked_count == 1);
	at(w.core.waited_ms + COPY_POLITE_MS);
	answers(1, 0);
	CHECK(w.asked_count == 20 && w.asked[19].length == STEP); /* then it goes on */
	copy_end();

	copy_begin(0, false);
	answers(1000, 50);
	client_reads();
	answer(CONN_CLIENT, 50);
	answers(10, 50);
	CHECK(w.replies == 1 && w.asked_count == 80); /* but not over a link with a delay */
	copy_end();
}

/* The comparison is as polite, and does not keep the copy from going on. */
static void test_politeness_of_verify(void)
{
	uint64_t local;

	copy_begin(0, false);
	answers(1000, 1);
	core_job_pause(&w.core);
	answers(w.asked_count, 1);
	CHECK(!w.asked_count && !core_verify(&w.core, 0));
	CHECK(w.asked_count == 20);
	client_reads();
	answer(CONN_CLIENT, 1);
	answers(19, 0);
	CHECK(w.asked_count == 1);
	CHECK(core_job_resume(&w.core));
	answers(1, 0);
	CHECK(w.asked_count == 2);
	local = w.core.map.local;
	answers(10, 0); /* in turns */
	CHECK(w.asked_count == 2 && w.core.map.local > local);
	at(w.core.waited_ms + COPY_POLITE_MS);
	answers(2, 0);
	CHECK(w.asked_count == 20);
	copy_end();

	/* it has the window that the copy has begun with, however that has ended */
	copy_begin(0, false);
	answers(1, 50);
	answers(60, 150);
	core_job_pause(&w.core);
	answers(w.asked_count, 50);
	CHECK(window() == 2 * STEP && !core_verify(&w.core, 0));
	CHECK(window() == WINDOW && w.asked_count == 20);
	copy_end();
}

static void no_copy_begin(void)
{
	copy_begin(0, false);
	core_job_cancel(&w.core);
	answers(w.asked_count, 0);
}

/* A READ without memory waits for its blocks; then it is read, in pieces or not. */
static void test_read_memory(void)
{
	no_copy_begin();
	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_READ;
	w.client.offset = 63ULL << 30;
	w.client.length = 8192;
	CHECK(core_misses(&w.core, &w.client));
	core_submit(&w.core, &w.client);
	CHECK(!w.replies && w.asked_count == 1);
	answer(CONN_CLIENT, 0);
	CHECK(w.replies == 1 && !w.core.in_flight && !core_misses(&w.core, &w.client));
	w.client.length = 4096;
	w.client.buf = w.client_buf;
	core_read(&w.core, &w.client);
	CHECK(w.replies == 2 && w.client_buf[0] == 1 && !w.client_buf[4096] && !w.core.in_flight);
	w.client.length = 8192;
	w.client.buf = NULL;
	core_submit(&w.core, &w.client);
	CHECK(w.replies == 3 && !w.core.in_flight);

	w.client.offset = 62ULL << 30;
	core_submit(&w.core, &w.client);
	CHECK(w.replies == 3 && w.core.in_flight == 1);
	core_abandon(&w.core, &w.client);
	CHECK(w.client.error == NBD_ESHUTDOWN && !w.core.in_flight);
	copy_end();

	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_BLOCK_STATUS;
	w.client.length = 8192;
	copy_begin(0, false);
	CHECK(!core_misses(&w.core, &w.client));
	copy_end();
}

static uint8_t read_buf[256 * KIB];

/* 40 MiB asked at once: how much of it is under way. */
static struct request crowd[160];

static void crowd_reads(uint64_t first)
{
	unsigned i;

	for (i = 0; i < 160; i++, first += FETCH_BLOCKS_MAX) {
		memset(&crowd[i], 0, sizeof(crowd[i]));
		crowd[i].offset = first * BLOCK_BYTES;
		crowd[i].length = FETCH_BLOCKS_MAX * BLOCK_BYTES;
		crowd[i].buf = read_buf;
		crowd[i].owner = crowd;
		core_submit(&w.core, &crowd[i]);
	}
}

static void test_client_window(void)
{
	static const struct {
		uint64_t ms, window;
		bool fixed;
	} links[] = {
		{ 1, WINDOW, false }, { 4, WINDOW, false }, { 5, 2 * WINDOW, false }, { 50, 2 * WINDOW, false }, { 50, WINDOW, true },
	};
	unsigned i;

	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		copy_begin(0, links[i].fixed);
		core_job_cancel(&w.core);
		answers(w.asked_count, 0);
		crowd_reads(10000);
		CHECK(w.core.fetch_bytes[CONN_CLIENT] == WINDOW); /* nothing is known yet */
		while (w.replies < 60)
			answer(CONN_CLIENT, links[i].ms);
		CHECK(w.core.fetch_bytes[CONN_CLIENT] == links[i].window);
		/* another link has to show it again */
		links_down();
		w.asked_count = 0;
		links_up();
		CHECK(w.core.fetch_bytes[CONN_CLIENT] == WINDOW);
		while (w.replies < 160)
			answer(CONN_CLIENT, 0);
		CHECK(!w.core.fetch_bytes[CONN_CLIENT]);
		copy_end();
	}
}

/* ---- turns of clients ------------------------------------------------------------------------- */

/* This client reads this block. */
static struct request *client_read(const void *client, uint64_t block)
{
	static struct request requests[256];
	static unsigned turn;
	struct request *r = &requests[turn++ % 256];

	memset(r, 0, sizeof(*r));
	r->offset = block * BLOCK_BYTES;
	r->length = BLOCK_BYTES;
	r->buf = read_buf;
	r->owner = client;
	core_submit(&w.core, r);
	return r;
}

/* How many answers come until this block is asked for. */
static unsigned answers_until(uint64_t block)
{
	unsigned n, i;

	for (n = 0; n < 200; n++) {
		for (i = 0; i < w.asked_count; i++)
			if (w.asked[i].offset == block * BLOCK_BYTES)
				return n;
		answer(CONN_CLIENT, 0);
	}
	return n;
}

/* One client asks for 40 MiB, of which 35 have to wait: nobody else has to wait for these. */
static void test_turns(void)
{
	static const char a = 1, b = 2;
	const uint64_t from = 64 * 200, far = 64 * 10000; /* blocks */
	struct request *r, *shared, *again;

	copy_begin(0, false);
	core_job_cancel(&w.core);
	answers(w.asked_count, 0);
	crowd_reads(from);
	CHECK(w.asked_count == 20);
	r = client_read(&a, far);
	again = client_read(&a, far + 1024);
	CHECK(answers_until(far) == 2);
	CHECK(answers_until(far + 1024) <= 3);
	/* Both wait for the last one of the crowd: it has its turn among those of the one who has fewer. */
	shared = client_read(&b, from + 159 * 64);
	CHECK(answers_until(from + 159 * 64) <= 2);
	/* The connection is lost: who waits for one of the crowd's waits no longer for that. */
	client_read(&b, w.asked[w.asked_count - 2].offset / BLOCK_BYTES);
	w.asked_count = 0;
	links_down();
	links_up();
	CHECK(w.core.fetch_bytes[CONN_CLIENT] <= WINDOW && shared->fetch->state == FETCH_SENT);
	while (w.core.waiting)
		answer(CONN_CLIENT, 0);
	CHECK(!r->error && !again->error && !shared->error && !w.core.queue[CONN_CLIENT]);
	copy_end();
}

/* The crowd leaves, while another client waits for the same: whoever comes next, and may look like the crowd, does not
 * wait for that. */
static void test_turns_left(void)
{
	static const char b = 2;
	const uint64_t from = 64 * 200, far = 64 * 10000;
	unsigned i;

	copy_begin(0, false);
	core_job_cancel(&w.core);
	answers(w.asked_count, 0);
	crowd_reads(from);
	for (i = 160; i-- > 0;)
		client_read(&b, from + i * 64);
	for (i = 0; i < 160; i++)
		core_abandon(&w.core, &crowd[i]);
	CHECK(w.core.waiting == 160);
	client_read(crowd, far);
	CHECK(answers_until(far) <= 2);
	while (w.core.waiting)
		answer(CONN_CLIENT, 0);
	copy_end();
}

/* As long as clients have more in the queue than may be under way, the copy has one short fetch at a time, and is not
 * held up; the comparison likewise. */
static void test_copy_share(void)
{
	static const unsigned delays[] = { 0, 50 };
	unsigned i, n;

	for (i = 0; i < 2; i++) {
		copy_begin(0, false);
		answers(200, delays[i]);
		crowd_reads(64 * 10000);
		CHECK(w.core.queue[CONN_CLIENT]);
		answers(w.core.copier.in_flight, delays[i]);
		for (n = 0; n < 50; n++) {
			CHECK(w.core.copier.in_flight == 1 && w.core.fetch_bytes[CONN_COPIER] == 64 * KIB);
			answers(1, delays[i]);
		}
		CHECK(w.core.queue[CONN_CLIENT] && core_verify(&w.core, 0) == 0);
		core_job_cancel(&w.core);
		answers(1, delays[i]);
		for (n = 0; n < 50; n++) {
			CHECK(w.core.verify.in_flight == 1);
			answers(1, delays[i]);
		}
		core_verify_cancel(&w.core);
		answers(1, delays[i]);
		CHECK(w.core.queue[CONN_CLIENT]);
		while (w.core.waiting)
			answer(CONN_CLIENT, 0);
		copy_end();
	}
}

/* ---- read-ahead ------------------------------------------------------------------------------ */

/* One of so many clients reads these blocks. */
static struct request *read_blocks(uint64_t first, uint64_t end)
{
	static struct request clients[64];
	static unsigned turn;
	struct request *r = &clients[turn++ % 64];

	memset(r, 0, sizeof(*r));
	r->offset = first * 4096;
	r->length = (uint32_t)(end - first) * 4096;
	r->buf = read_buf;
	r->owner = r;
	core_submit(&w.core, r);
	return r;
}

static void answer_all(uint64_t ms)
{
	uint64_t since = w.now_ms;

	while (w.asked_count)
		answer(CONN_CLIENT, since + ms > w.asked[0].at_ms ? since + ms - w.asked[0].at_ms : 0);
}

/* Whether all that is under way is [first, end), in order. */
static bool asked_is(uint64_t first, uint64_t end)
{
	unsigned i;

	for (i = 0; i < w.asked_count && w.asked[i].offset == first * 4096; i++)
		first += w.asked[i].length / 4096;
	return i == w.asked_count && first == end;
}

static uint64_t asked_bytes(void)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < w.asked_count; i++)
		n += w.asked[i].length;
	return n;
}

enum { HERE = 1 << 20, FAR = 1 << 21 }; /* blocks of which nothing is local */

/* The answer for a single block, far from the others, takes so long. */
static void sample_one(uint64_t ms)
{
	read_blocks(FAR + w.replies * 1000, FAR + w.replies * 1000 + 1);
	CHECK(w.asked_count == 1);
	answer_all(ms);
}

static void sample(uint64_t ms)
{
	unsigned i;

	for (i = 0; i < READAHEAD_SAMPLE; i++) {
		if (i == READAHEAD_SAMPLE - 1)
			at(w.core.readahead.begun_ms + READAHEAD_SAMPLE);
		sample_one(ms);
	}
}

/* One that has begun comes to its end. */
static void sample_finish(void)
{
	at(w.core.readahead.begun_ms + READAHEAD_SAMPLE);
	while (w.core.readahead.answers)
		sample_one(1);
}

static void test_readahead(void)
{
	uint64_t at;
	unsigned i;

	/* near: from the second READ in order on, twice as much each time, as far as 256 KiB */
	no_copy_begin();
	read_blocks(HERE, HERE + 2);
	CHECK(asked_is(HERE, HERE + 2));
	answer_all(0);
	read_blocks(HERE + 2, HERE + 4);
	CHECK(asked_is(HERE + 2, HERE + 8));
	answer_all(0);
	read_blocks(HERE + 4, HERE + 6); /* which is here; so is what follows it, and no more */
	CHECK(asked_is(HERE + 8, HERE + 14) && w.replies == 3);
	answer_all(0);
	read_blocks(HERE + 6, HERE + 8); /* there is enough ahead */
	CHECK(!w.asked_count);
	for (at = HERE + 8; at < HERE + 400; at += 2) {
		read_blocks(at, at + 2);
		CHECK(asked_bytes() <= 256 * KIB && w.core.readahead.stream[0].blocks <= 64);
		answer_all(0);
	}
	CHECK(w.core.readahead.stream[0].blocks == 64);
	/* a bit out of order, and of parts of blocks: still in order */
	read_blocks(at + 8, at + 10);
	read_blocks(at + 9, at + 11);
	CHECK(w.core.readahead.stream[0].next == at + 11);
	/* far from it: somebody else, as is who reads backwards; nothing is asked for him */
	answer_all(0);
	read_blocks(FAR, FAR + 1);
	CHECK(asked_is(FAR, FAR + 1));
	read_blocks(FAR - 1, FAR);
	CHECK(w.asked_count == 2 && w.asked[1].length == 4096);
	read_blocks(FAR - 3, FAR - 1);
	CHECK(w.asked_count == 3 && w.asked[2].length == 8192);
	/* and many others do not make forget the one who reads in order */
	for (at = 2; at < 50; at++)
		read_blocks(FAR + at * 1000, FAR + at * 1000 + 1);
	CHECK(w.core.readahead.stream[0].next >= HERE + 400 && w.core.readahead.stream[0].blocks == 64);
	answer_all(0);
	copy_end();

	/* far: more, but a quarter of the window stays free */
	no_copy_begin();
	sample(9);
	CHECK(w.core.rtt[CONN_CLIENT].min_rtt_ms == 9);
	for (at = HERE; at < HERE + 8000; at += 32) {
		read_blocks(at, at + 32);
		CHECK(asked_bytes() <= WINDOW / 4 * 3);
		answer_all(9);
	}
	CHECK(w.core.readahead.stream[0].blocks == 640);
	sample(90); /* what waits in a queue makes no link longer */
	CHECK(w.core.rtt[CONN_CLIENT].min_rtt_ms == 9);
	core_conn_down(&w.core, CONN_CLIENT);
	links_up();
	sample(90);
	CHECK(w.core.rtt[CONN_CLIENT].min_rtt_ms == 90);
	for (at = HERE + 8000; at < HERE + 24000; at += 32) {
		read_blocks(at, at + 32);
		CHECK(asked_bytes() <= 2 * WINDOW / 4 * 3);
		answer_all(90);
	}
	CHECK(w.core.readahead.stream[0].blocks * 4096 >= 2 * WINDOW / 4 * 3);
	/* nobody's own miss has to wait for its turn because of it: one who has what follows reads on,
	 * beside one who begins */
	for (at = HERE + 24000; w.core.readahead.stream[0].end < at + 30 * 32; at += 32) {
		read_blocks(at, at + 32);
		answer_all(90);
	}
	for (i = 0; i < 30; i++, at += 32) {
		read_blocks(at, at + 32);
		read_blocks(HERE + 300000 + i * 32, HERE + 300000 + i * 32 + 32);
	}
	CHECK(!w.core.queue[CONN_CLIENT] && asked_bytes() > WINDOW / 2);
	answer_all(90);
	/* two who are read ahead of share that part, however far each could go */
	for (i = 0; i < 20; i++, at += 32) {
		read_blocks(at, at + 32);
		read_blocks(HERE + 300960 + i * 32, HERE + 300960 + i * 32 + 32);
		CHECK(asked_bytes() <= 2 * WINDOW / 4 * 3);
	}
	CHECK(asked_bytes() > 2 * WINDOW / 4 * 3 - 256 * KIB);
	answer_all(90);
	copy_end();

	/* who has read in order long ago makes room for who does now */
	no_copy_begin();
	for (at = 0; at < READAHEAD_STREAMS; at++) {
		read_blocks(FAR + at * 10000, FAR + at * 10000 + 1);
		read_blocks(FAR + at * 10000 + 1, FAR + at * 10000 + 2);
		answer_all(0);
	}
	CHECK(w.core.readahead.stream[READAHEAD_STREAMS - 1].blocks == 2);
	for (at = 0; at < READAHEAD_STREAM_READS; at++)
		read_blocks(FAR, FAR + 1); /* which is here */
	for (at = 0; at < 4; at++) { /* and somebody at random between */
		read_blocks(FAR + 200000 + at * 1000, FAR + 200000 + at * 1000 + 1);
		read_blocks(HERE + 2 * at, HERE + 2 * at + 2);
		answer_all(0);
	}
	for (at = 0; at < READAHEAD_STREAMS && w.core.readahead.stream[at].next != HERE + 8; at++)
		;
	CHECK(at < READAHEAD_STREAMS && w.core.readahead.stream[at].blocks > 2);
	copy_end();

	/* not while a boot trace is fetched ahead */
	no_copy_begin();
	{
		struct trace_run run = { FAR, FAR + 100000 };

		CHECK(core_prefetch(&w.core, &run, 1));
	}
	read_blocks(HERE, HERE + 2);
	read_blocks(HERE + 2, HERE + 4);
	CHECK(w.asked[w.asked_count - 1].offset == (HERE + 2) * 4096ULL && w.asked[w.asked_count - 1].length == 8192);
	copy_end();
}

/* Reads on from *at, 128 KiB at a time, over a link that brings a block in so many ms. Returns
 * the most bytes that were under way in the second half of these reads. */
static uint64_t read_on(uint64_t *at, unsigned reads, uint64_t delay_ms, uint64_t block_ms)
{
	uint64_t free_ms = w.now_ms, most = 0;
	unsigned i;

	for (i = 0; i < reads; i++, *at += 32) {
		unsigned replies = w.replies;

		read_blocks(*at, *at + 32);
		while (w.replies == replies && CHECK(w.asked_count)) {
			uint64_t begin = w.asked[0].at_ms + delay_ms > free_ms ? w.asked[0].at_ms + delay_ms : free_ms;

			if (i > reads / 2 && asked_bytes() > most)
				most = asked_bytes();
			free_ms = begin + w.asked[0].length / 4096 * block_ms;
			answer(CONN_CLIENT, free_ms - w.asked[0].at_ms);
		}
	}
	return most;
}

/* It goes as far as the link needs it, so that what others miss does not wait behind it. */
static void test_readahead_follows(void)
{
	uint64_t at = HERE;
	unsigned i;

	no_copy_begin();
	sample(50);
	CHECK(read_on(&at, 200, 50, 4) <= 512 * KIB); /* thin: 1 MiB/s */
	CHECK(w.core.rtt[CONN_CLIENT].min_rtt_ms == 50);
	CHECK(read_on(&at, 200, 50, 0) > WINDOW / 2); /* not thin any more */
	CHECK(w.core.readahead.most == READAHEAD_BLOCKS_MAX && w.asked_count > 4);
	answer_all(120); /* all of them have met one queue */
	CHECK(w.core.readahead.most == READAHEAD_BLOCKS_MAX / 2);
	read_on(&at, 130, 50, 4); /* what it was ahead by then is used up */
	CHECK(read_on(&at, 10, 50, 4) <= 512 * KIB); /* it is again */
	CHECK(read_on(&at, 200, 200, 0) <= 512 * KIB);
	answer_all(200);
	for (i = 0; i < RTT_SLOW_MAX; i++)
		sample_one(200);
	CHECK(read_on(&at, 200, 200, 0) > WINDOW / 2); /* a longer way is no queue */
	CHECK(w.core.rtt[CONN_CLIENT].min_rtt_ms > 100);
	answer_all(200);
	copy_end();

	/* nor does it go further than one needs who reads little */
	no_copy_begin();
	sample(50);
	for (i = 0; i < 200; i++)
		sample_one(50);
	CHECK(w.core.readahead.most == READAHEAD_MS_BLOCKS);
	copy_end();
}

static void test_wide(void)
{
	const struct conn_state large = { .unit_blocks = 4, .max_blocks = FETCH_BLOCKS_MAX };
	struct request *r;
	unsigned i;

	/* near: also what is so fast that no clock sees it, but a millisecond is enough then */
	no_copy_begin();
	sample(0);
	CHECK(readahead_is_wide(&w.core));
	sample(1);
	CHECK(readahead_is_wide(&w.core));
	sample(2);
	CHECK(!readahead_is_wide(&w.core));
	copy_end();

	/* those of one moment tell of that moment only */
	no_copy_begin();
	for (i = 0; i < 2 * READAHEAD_SAMPLE; i++)
		read_blocks(HERE + i * 1000, HERE + i * 1000 + 1);
	answer_all(1);
	CHECK(!readahead_is_wide(&w.core));
	copy_end();

	no_copy_begin();
	sample(1);
	read_blocks(HERE + 30, HERE + 31);
	CHECK(asked_is(HERE + 16, HERE + 32));
	read_blocks(HERE + 21, HERE + 22); /* waits for the same */
	CHECK(w.asked_count == 1);
	answer_all(1);
	CHECK(w.replies == READAHEAD_SAMPLE + 2);
	/* what is here, or under way, is not asked for again */
	r = read_blocks(HERE + 14, HERE + 18); /* some of that is here */
	CHECK(asked_is(HERE, HERE + 16));
	core_abandon(&w.core, r); /* who has gone does not take it with him */
	CHECK(w.asked_count == 1);
	answer_all(1);
	/* only what is missing: of 16 blocks two are here */
	w.core.map.words[(HERE + 512) / 64] |= 1ULL << 3 | 1ULL << 9;
	read_blocks(HERE + 512 + 6, HERE + 512 + 7);
	CHECK(asked_is(HERE + 512 + 4, HERE + 512 + 9));
	answer_all(1);
	/* a bad block beside costs him nothing but the way */
	read_blocks(HERE + 104, HERE + 105);
	CHECK(asked_is(HERE + 96, HERE + 112));
	w.asked_count = 0;
	at(w.now_ms + 1);
	core_conn_data(&w.core, CONN_CLIENT, w.asked[0].cookie, 5);
	CHECK(asked_is(HERE + 104, HERE + 105));
	i = w.replies;
	answer_all(1);
	CHECK(w.replies == i + 1);
	CHECK(!readahead_is_wide(&w.core)); /* his neighbours do not go that way */
	for (i = 0; i < READAHEAD_REST; i++)
		sample(1);
	CHECK(readahead_is_wide(&w.core));
	/* who writes a part of a block gets that block */
	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_WRITE;
	w.client.offset = (HERE + 200) * 4096ULL;
	w.client.length = 512;
	w.client.buf = w.client_buf;
	core_submit(&w.core, &w.client);
	CHECK(asked_is(HERE + 200, HERE + 201));
	answer_all(1);

	/* too much for this link: not for a while */
	sample_finish();
	sample(READAHEAD_WORTH);
	CHECK(readahead_is_wide(&w.core));
	sample(READAHEAD_WORTH + 1);
	CHECK(!readahead_is_wide(&w.core));
	read_blocks(HERE + 305, HERE + 306);
	CHECK(asked_is(HERE + 305, HERE + 306));
	answer_all(1);
	sample_finish();
	for (i = 0; i < READAHEAD_REST - 2; i++)
		sample(1);
	CHECK(!readahead_is_wide(&w.core));
	sample(1);
	CHECK(readahead_is_wide(&w.core));
	/* another link, another distance */
	core_conn_down(&w.core, CONN_CLIENT);
	links_up();
	CHECK(!readahead_is_wide(&w.core));
	/* one with larger blocks: none is asked for twice, whatever is here between them */
	links_down();
	core_conn_up(&w.core, CONN_CLIENT, &large);
	sample(1);
	CHECK(readahead_is_wide(&w.core));
	w.core.map.words[(HERE + 1024) / 64] |= 1ULL << 10 | 1ULL << 13;
	read_blocks(HERE + 1024 + 4, HERE + 1024 + 15);
	CHECK(asked_is(HERE + 1024 + 4, HERE + 1024 + 16));
	answer_all(1);
	copy_end();
}

static void switched(struct commit_waiter *own, int error)
{
	(void)own;
	CHECK(!error);
}

/* What a READ still misses when one of its parts is being stored at a forced switch: nobody
 * will bring it. */
static void test_forced_switch(void)
{
	struct commit_waiter waiter = { .done = switched };
	struct request *r;

	no_copy_begin();
	w.hold = true;
	r = read_blocks(HERE + 63, HERE + 65);
	CHECK(w.asked_count == 2);
	answer(CONN_CLIENT, 1);
	CHECK(w.held_count == 1);
	CHECK(!core_switch(&w.core, true, &waiter) && w.core.mode == MODE_TARGET);
	w.asked_count = 0;
	CHECK(w.core.in_flight == 1);
	w.held[0]->done(w.held[0]);
	CHECK(w.core.in_flight == 0 && r->error == NBD_EIO && !w.asked_count);
	copy_end();
}

/* All of a large disk was written by clients: a comparison passes over it in many turns. */
static void test_verify_rests(void)
{
	uint64_t last = 0;
	unsigned turns = 0;

	no_copy_begin();
	memset(w.core.map.words, 0xff, map_bytes(w.core.size_bytes));
	memset(w.core.written.map.words, 0xff, written_bytes(w.core.size_bytes));
	w.core.map.local = w.core.map.blocks;
	CHECK(!core_verify(&w.core, 0));
	while (w.core.verify.status.state == JOB_RUNNING && turns < 1000) {
		CHECK(w.core.verify.cursor <= last + VERIFY_WORDS * 64 && core_deadline(&w.core) <= w.core.now_ms);
		last = w.core.verify.cursor;
		turns++;
		at(w.now_ms);
	}
	CHECK(turns == (w.core.map.blocks / 64 - 1) / VERIFY_WORDS && !w.asked_count);
	CHECK(w.core.verify.status.state == JOB_DONE && w.core.verify.status.written == w.core.map.blocks);
	copy_end();
}

/* A comparison that left out what clients had written is whole, also when a switch has forgotten
 * who wrote what. */
static void test_verify_then_switch(void)
{
	struct commit_waiter waiter = { .done = switched };
	struct core_status s;

	no_copy_begin();
	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_WRITE;
	w.client.length = BLOCK_BYTES;
	w.client.buf = w.client_buf;
	core_submit(&w.core, &w.client);
	CHECK(w.replies == 1 && !core_verify(&w.core, 0));
	while (w.asked_count)
		answers(1, 0);
	core_status(&w.core, &s);
	CHECK(s.verify.state == JOB_DONE && s.verify.written && s.writers_known && !s.partial);
	CHECK(!core_switch(&w.core, true, &waiter) && w.core.mode == MODE_TARGET);
	core_status(&w.core, &s);
	CHECK(s.writers_known && s.comparable == s.verify.compared && !s.partial);
	copy_end();
}

/* With --hold, who reads on while nothing comes from the origin, whether the link is down or
 * silent, leaves nothing behind; what somebody waits for is kept. */
static void test_hold(void)
{
	unsigned i, down;

	for (down = 0; down < 2; down++) {
		no_copy_begin();
		w.core.hold_ms = 100;
		if (down)
			links_down();
		for (i = 0; i < 2000; i++) {
			struct request *r;

			core_hold(&w.core, 100);
			r = read_blocks(HERE + i * 1000, HERE + i * 1000 + 1);
			at(w.now_ms + 50);
			CHECK(w.core.waiting);
			read_blocks(FAR + i * 1000, FAR + i * 1000 + 1);
			at(w.now_ms + 50);
			CHECK(r->error == NBD_EIO && (down || w.core.waiting));
			at(w.now_ms + 50);
			CHECK(!w.core.waiting);
		}
		CHECK(!w.core.in_flight && !w.replies);
		CHECK(w.core.fetch_bytes[CONN_CLIENT] <= WINDOW && w.core.fetch_count <= WINDOW / 4096);
		CHECK(!w.core.queue[CONN_CLIENT]);
		core_hold(&w.core, 100);
		read_blocks(HERE + 2000000, HERE + 2000001);
		CHECK(w.core.fetch_count == w.core.fetch_bytes[CONN_CLIENT] / 4096 + 1);
		at(w.now_ms + 100);
		copy_end();
	}
}

/* The origin is lost. When one has waited for --hold, nobody else does, but for the image; until a link is up,
 * the copy's too, or --hold is set. */
static void test_hold_once(void)
{
	struct conn_state link = { .unit_blocks = 1, .max_blocks = FETCH_BLOCKS_MAX };
	struct request *r, *stored;
	unsigned how;

	for (how = 0; how <= CONNS; how++) {
		no_copy_begin();
		w.core.hold_ms = 100;
		w.hold = true;
		read_blocks(HERE, HERE + 1);
		answer(CONN_CLIENT, 0);
		links_down();
		read_blocks(FAR, FAR + 1);
		at(w.now_ms + 50);
		r = read_blocks(FAR + 1000, FAR + 1001);
		at(w.now_ms + 50);
		at(w.now_ms);
		CHECK(w.core.waiting == 1 && r->error == NBD_EIO);
		r = read_blocks(FAR + 2000, FAR + 2001);
		stored = read_blocks(HERE, HERE + 1);
		CHECK(w.core.waiting == 2 && r->error == NBD_EIO && !w.core.queue[CONN_CLIENT]);
		w.held[0]->done(w.held[0]);
		CHECK(!w.core.in_flight && !stored->error);
		if (how < CONNS)
			core_conn_up(&w.core, how, &link);
		else
			core_hold(&w.core, 100);
		r = read_blocks(FAR + 3000, FAR + 3001);
		at(w.now_ms + 99);
		CHECK(w.core.waiting == 1);
		at(w.now_ms + 1);
		CHECK(!w.core.in_flight && r->error == NBD_EIO);
		copy_end();
	}
}

/* The origin is lost, comes and goes. Requests wait while a link is up; while none is, only once it has
 * answered one. */
static void test_hold_flapping(void)
{
	struct conn_state link = { .unit_blocks = 1, .max_blocks = FETCH_BLOCKS_MAX };
	struct request *r;
	unsigned times;

	no_copy_begin();
	w.core.hold_ms = 100;
	links_down();
	read_blocks(FAR, FAR + 1);
	at(w.now_ms + 100);
	CHECK(!w.core.waiting);
	for (times = 0; times < 3; times++) {
		core_conn_up(&w.core, CONN_CLIENT, &link);
		r = read_blocks(FAR + 1000, FAR + 1001);
		at(w.now_ms + 50);
		CHECK(w.core.waiting == 1);
		core_conn_down(&w.core, CONN_CLIENT);
		CHECK(!w.core.waiting && r->error == NBD_EIO);
		r = read_blocks(FAR + 2000, FAR + 2001);
		CHECK(!w.core.waiting && r->error == NBD_EIO);
	}
	w.asked_count = 0;
	core_conn_up(&w.core, CONN_CLIENT, &link);
	r = read_blocks(FAR + 3000, FAR + 3001);
	answer(CONN_CLIENT, 0);
	CHECK(!w.core.waiting && !r->error);
	core_conn_down(&w.core, CONN_CLIENT);
	r = read_blocks(FAR + 4000, FAR + 4001);
	at(w.now_ms + 99);
	CHECK(w.core.waiting == 1);
	at(w.now_ms + 1);
	CHECK(!w.core.in_flight && r->error == NBD_EIO);
	/* Nobody had a request for it, but it has lasted. */
	core_conn_up(&w.core, CONN_CLIENT, &link);
	at(w.now_ms + 100);
	core_conn_down(&w.core, CONN_CLIENT);
	read_blocks(FAR + 5000, FAR + 5001);
	at(w.now_ms + 99);
	CHECK(w.core.waiting == 1);
	at(w.now_ms + 1);
	CHECK(!w.core.in_flight);
	copy_end();
}

/* Of those who go, also the last one leaves nothing, whoever had asked first. */
static void test_abandon(void)
{
	struct request *a, *b;

	no_copy_begin();
	links_down();
	a = read_blocks(HERE, HERE + 64);
	b = read_blocks(HERE, HERE + 1);
	CHECK(w.core.fetch_count == 1);
	core_abandon(&w.core, a);
	CHECK(w.core.fetch_count == 1);
	core_abandon(&w.core, b);
	CHECK(!w.core.fetch_count && !w.core.waiting && !w.core.in_flight);
	/* somebody may have waited for its end */
	CHECK(core_deadline(&w.core) == w.now_ms);
	at(w.now_ms);
	CHECK(core_deadline(&w.core) > w.now_ms);
	copy_end();
}

/* A READ waits for the last missing block, which somebody writes meanwhile: with --hold it is
 * answered in the end, and the copy has come to its end too. */
static void test_hold_and_write(void)
{
	struct request *r;

	no_copy_begin();
	w.core.hold_ms = 100;
	map_set(&w.core.map, 0, HERE);
	map_set(&w.core.map, HERE + 1, w.core.map.blocks);
	links_down();
	r = read_blocks(HERE, HERE + 1);
	CHECK(core_job_start(&w.core, 0, 0) == 0);
	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_WRITE;
	w.client.offset = HERE * 4096ULL;
	w.client.length = 4096;
	w.client.buf = w.client_buf;
	core_submit(&w.core, &w.client);
	CHECK(w.replies == 1 && w.core.waiting == 1 && w.core.copier.status.state == JOB_RUNNING);
	at(w.now_ms + 100);
	CHECK(w.replies == 2 && !r->error && !w.core.fetch_count && w.core.copier.status.state == JOB_DONE);
	copy_end();
}

static struct request *write_block(uint64_t block)
{
	struct request *r = calloc(1, sizeof(*r));

	r->type = NBD_CMD_WRITE;
	r->offset = block * 4096;
	r->length = 4096;
	r->buf = w.client_buf;
	core_submit(&w.core, r);
	return r;
}

static void ignore_commit(struct commit_waiter *waiter, int error)
{
	(void)waiter;
	CHECK(!error);
}

/* What could not be noted once is not noted later either: no write goes on without its note. */
static void test_note_fails(void)
{
	struct request *a, *b;

	no_copy_begin();
	w.no_commit_file = true;
	a = write_block(HERE);
	b = write_block(HERE + 1); /* the same bit */
	CHECK(w.core.in_flight == 2); /* what failed may have been lost: the next start has to know first */
	core_sync_told(&w.core);
	CHECK(a->error == NBD_EIO && b->error == NBD_EIO && !w.replies && !w.core.in_flight);
	CHECK(!map_is_local(&w.core.map, HERE) && !map_is_local(&w.core.map, HERE + 1));
	free(a);
	free(b);
	copy_end();
}

/* Notes that may not be on the disk, as after --upgrade: who writes there again waits for a sync of them, and a commit syncs them. */
static void notes_of_before(bool unsafe, unsigned syncs)
{
	struct core_config config = { .size_bytes = 1 << 20, .proxy = true, .notes_unsafe = unsafe };
	struct commit_waiter waiter = { .done = ignore_commit };
	struct request *r;

	memset(&w, 0, sizeof(w));
	config.words = calloc(1, map_bytes(config.size_bytes));
	config.written = calloc(1, written_bytes(config.size_bytes));
	config.words[0] = config.written[0] = 1;
	CHECK(core_init(&w.core, &config));
	r = write_block(0);
	CHECK(r->error == NBD_SUCCESS && !w.core.in_flight && w.commit_syncs == syncs);
	free(r);
	r = write_block(0);
	CHECK(w.commit_syncs == syncs);
	free(r);
	core_commit(&w.core, &waiter);
	core_tick(&w.core, 0);
	CHECK(w.commit_syncs == syncs); /* the bit of the block is committed, and all notes are on the disk */
	copy_end();
}

static void test_notes_of_before(void)
{
	notes_of_before(false, 0);
	notes_of_before(true, 1);
}

/* The origin cannot read what this link was asked for first. */
static void refuse(unsigned link)
{
	uint64_t cookie;
	unsigned i;

	for (i = 0; i < w.asked_count && w.asked[i].link != link; i++)
		;
	if (!CHECK(i < w.asked_count))
		return;
	cookie = w.asked[i].cookie;
	w.asked[i] = w.asked[--w.asked_count]; /* not in order any more */
	core_conn_data(&w.core, link, cookie, 5);
}

/* The pass that goes block by block is at the end of its walk, and waits. What a client had asked
 * for by then and the origin cannot read, the copy asks for itself, in the same pass; not what he
 * asks for only now. */
static void test_client_at_the_end(bool late)
{
	no_copy_begin();
	map_set(&w.core.map, 0, HERE);
	map_set(&w.core.map, HERE + 1, HERE + 64);
	map_set(&w.core.map, HERE + 65, w.core.map.blocks);
	if (!late)
		read_blocks(HERE, HERE + 1);
	CHECK(core_job_start(&w.core, 1, 0) == 0);
	CHECK(w.asked_count == 2 && w.core.copier.at_end == late);
	if (late) {
		refuse(CONN_COPIER);
		read_blocks(HERE, HERE + 1);
		refuse(CONN_CLIENT);
		CHECK(w.asked_count == 1 && w.core.copier.at_end);
		answer(CONN_COPIER, 1);
	} else {
		answer(CONN_COPIER, 1);
		CHECK(w.core.copier.at_end);
		refuse(CONN_CLIENT);
		CHECK(w.asked_count == 1 && w.asked[0].link == CONN_COPIER && w.core.copier.at_end);
		refuse(CONN_COPIER);
	}
	CHECK(w.core.map.local == w.core.map.blocks - 1 && w.core.copier.status.state == JOB_FAILED);
	copy_end();
}

/* The same, but what the client had asked for was not sent yet, and he goes. */
static void test_client_goes_at_the_end(void)
{
	struct request *r;

	no_copy_begin();
	map_set(&w.core.map, 0, HERE);
	map_set(&w.core.map, HERE + 1, HERE + 64);
	map_set(&w.core.map, HERE + 65, HERE + 128);
	map_set(&w.core.map, HERE + 129, w.core.map.blocks);
	w.core.fetch_window[CONN_CLIENT] = 4096;
	read_blocks(HERE + 128, HERE + 129);
	r = read_blocks(HERE, HERE + 1);
	CHECK(w.asked_count == 1 && w.core.fetch_count == 2);
	CHECK(core_job_start(&w.core, 1, 0) == 0);
	CHECK(w.asked_count == 2);
	refuse(CONN_COPIER);
	CHECK(w.asked_count == 1 && w.core.copier.at_end);
	core_abandon(&w.core, r);
	at(w.now_ms);
	CHECK(w.asked_count == 2 && w.asked[1].link == CONN_COPIER && w.asked[1].offset == HERE * 4096ULL);
	answer(CONN_COPIER, 1);
	answer(CONN_CLIENT, 1);
	CHECK(w.core.map.local == w.core.map.blocks - 1 && w.core.copier.status.state == JOB_FAILED);
	copy_end();
}

static void trim(uint64_t first, uint64_t blocks)
{
	memset(&w.client, 0, sizeof(w.client));
	w.client.type = NBD_CMD_TRIM;
	w.client.offset = first * 4096;
	w.client.length = (uint32_t)(blocks * 4096 - 1); /* not the whole last one */
	core_submit(&w.core, &w.client);
	at(w.now_ms + 1);
}

/* A trim of 4 GiB that the disk cannot do costs next to nothing where all is local: no I/O for each 256 KiB. */
static void test_trim_of_local(void)
{
	struct request *r;

	no_copy_begin();
	map_set(&w.core.map, 0, HERE);
	map_set(&w.core.map, HERE + 1, w.core.map.blocks);
	w.no_trims = true;
	trim(HERE + 1, 1 << 20);
	CHECK(w.replies == 1 && w.trims == 1 && !w.zeroes && !map_is_local(&w.core.map, HERE));
	trim(HERE + 1, 1 << 20);
	CHECK(w.replies == 2 && w.trims == 1 && !w.zeroes && !w.core.in_flight);
	trim(HERE - 1000, 1 << 20); /* what is missing becomes local, and zero */
	CHECK(w.replies == 3 && w.trims == 2 && w.zeroes == 1 && map_is_complete(&w.core.map));
	/* Who has one of the blocks is waited for. */
	w.hold = true;
	r = write_block(HERE + 500000);
	trim(HERE + 1, 1 << 20);
	CHECK(w.replies == 3 && w.held_count == 1);
	w.hold = false;
	w.held[0]->error = 0;
	w.held[0]->done(w.held[0]);
	CHECK(w.replies == 5 && w.trims == 2 && !w.core.in_flight);
	free(r);
	copy_end();
}

/* One that the disk cannot do with these borders, and would do with others: that says nothing of the next one. */
static void test_trim_of_parts(void)
{
	no_copy_begin();
	map_set(&w.core.map, HERE, w.core.map.blocks);
	w.odd_trims = true;
	trim(HERE + 1, 10);
	trim(HERE - 5, 10);
	CHECK(w.replies == 2 && w.trims == 2 && w.zeroes == 1 && map_is_local(&w.core.map, HERE - 1));
	w.odd_trims = false;
	trim(HERE + 1, 10);
	CHECK(w.replies == 3 && w.trims == 3 && w.zeroes == 1 && !w.core.in_flight);
	copy_end();
}

/* A queue that the copy has made does not hold up who reads in order. */
static void test_readahead_beside_copy(void)
{
	uint64_t first;

	copy_begin(0, false);
	answers(1000, 50);
	for (first = HERE; first < HERE + 16000; first += 32) {
		unsigned replies = w.replies;

		read_blocks(first, first + 32);
		while (w.replies == replies)
			answer(CONN_CLIENT, first < HERE + 8000 ? 50 : 120);
		CHECK(first < HERE + 8000 - 32 || w.core.readahead.most == READAHEAD_BLOCKS_MAX);
	}
	copy_end();
}

/* When the last client has gone, the copy takes all at once. */
static void test_alone(void)
{
	copy_begin(0, false);
	answers(30, 1);
	client_reads();
	answers(20, 1);
	answer(CONN_CLIENT, 1);
	answers(1, 0);
	CHECK(w.asked_count == 1);
	core_alone(&w.core);
	CHECK(w.asked_count == 21);
	copy_end();
}

/* ---- BLOCK_STATUS of what is missing -------------------------------------------------- */

enum { HOLE = NBD_STATE_HOLE | NBD_STATE_ZERO };

static void status_begin_test(uint32_t unit_blocks)
{
	struct conn_state link = { .unit_blocks = unit_blocks, .max_blocks = FETCH_BLOCKS_MAX, .can_status = true };

	no_copy_begin();
	links_down();
	core_conn_up(&w.core, CONN_CLIENT, &link);
}

static void client_asks(struct request *r, uint64_t offset, uint32_t length)
{
	memset(r, 0, sizeof(*r));
	r->type = NBD_CMD_BLOCK_STATUS;
	r->offset = offset;
	r->length = length;
	r->buf = &w.told;
	w.told.count = 0;
	CHECK(!core_check(&w.core, r));
	core_submit(&w.core, r);
}

static void write_missing(uint64_t block)
{
	struct request r = { .type = NBD_CMD_WRITE, .offset = block * BLOCK_BYTES, .length = BLOCK_BYTES, .buf = w.client_buf };

	core_submit(&w.core, &r);
	CHECK(map_is_local(&w.core.map, block));
}

static bool told(unsigned i, uint32_t length, uint32_t flags)
{
	return w.told.extent[i].length == length && w.told.extent[i].flags == flags;
}

static void test_status(void)
{
	static const struct extent one = { .length = 1 << 30, .flags = HOLE | 1 << 7 };
	static const struct extent three[] = { { 10000, HOLE }, { 512, 0 }, { 1 << 20, NBD_STATE_ZERO } };
	uint64_t at_byte = (uint64_t)HERE * BLOCK_BYTES;
	struct request r;

	status_begin_test(1);
	/* what goes on beyond what was asked for is cut, and so are flags that nobody knows */
	client_asks(&r, at_byte + 5, 100000);
	CHECK(w.status_count == 1 && w.status_offset == at_byte && w.status_length >= 100005 && w.status_length <= 1 << 20);
	CHECK(w.core.in_flight == 1 && !core_conn_status(&w.core, w.status_cookie + 1, 0, &one, 1));
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, &one, 1) && !w.core.in_flight);
	CHECK(w.told.count == 1 && told(0, 100000, HOLE));
	CHECK(!core_conn_status(&w.core, w.status_cookie, 0, &one, 1));
	client_asks(&r, at_byte + 10001, 100000);
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, three, 3));
	/* the question was about the whole blocks: what lies before is left out */
	CHECK(w.status_offset == at_byte + 8192 && w.told.count == 3 && told(0, 8191, HOLE) && told(1, 512, 0) &&
	      told(2, 100000 - 8191 - 512, NBD_STATE_ZERO));
	/* only as far as blocks are missing, when it is asked and when it is answered */
	write_missing(HERE + 10);
	client_asks(&r, at_byte, 1 << 20);
	CHECK(w.status_length == 10 * BLOCK_BYTES);
	write_missing(HERE + 4);
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, &one, 1));
	CHECK(w.told.count == 1 && told(0, 4 * BLOCK_BYTES, HOLE));
	/* what was written since, or is here, is the image's to tell */
	client_asks(&r, at_byte, 1 << 20);
	write_missing(HERE);
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, &one, 1) && !w.core.in_flight);
	CHECK(w.told.count == 1 && told(0, BLOCK_BYTES, 0));
	w.status_count = 0;
	client_asks(&r, at_byte, 1 << 20);
	CHECK(!w.status_count && w.told.count == 1 && told(0, BLOCK_BYTES, 0));
	copy_end();
}

/* A look for data may take long: a write of the same blocks goes to the disk beside it. */
static void test_status_slow(void)
{
	struct request look, write = { .type = NBD_CMD_WRITE, .length = BLOCK_BYTES, .buf = w.client_buf };

	status_begin_test(1);
	write_missing(HERE);
	write.offset = (uint64_t)HERE * BLOCK_BYTES;
	w.held_count = 0;
	w.hold = true;
	client_asks(&look, write.offset, BLOCK_BYTES);
	core_submit(&w.core, &write);
	CHECK(w.held_count == 2 && w.held[0]->op == IO_EXTENTS && w.held[1]->op == IO_WRITE);
	w.hold = false;
	w.held[0]->done(w.held[0]);
	w.held[1]->done(w.held[1]);
	CHECK(!w.core.in_flight);
	copy_end();
}

/* Where the origin has no answer all is data, and nobody waits long for it. */
static void test_status_data(void)
{
	static const struct extent one = { .length = 1 << 30, .flags = HOLE };
	uint64_t here = (uint64_t)HERE * BLOCK_BYTES, at_byte = here + 3 * BLOCK_BYTES;
	struct request r[QUERIES_MAX + 1];
	unsigned i;

	status_begin_test(16);
	client_asks(&r[0], at_byte, 5);
	CHECK(w.status_offset == here && w.status_length == 16 * BLOCK_BYTES);
	CHECK(core_conn_status(&w.core, w.status_cookie, 5, &one, 1));
	CHECK(w.told.count == 1 && told(0, 5, 0));
	client_asks(&r[0], at_byte, 5);
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, (struct extent[]){ { 100, HOLE } }, 1)); /* of before */
	CHECK(w.told.count == 1 && told(0, 5, 0));
	/* silent */
	client_asks(&r[0], at_byte, 5);
	CHECK(w.core.in_flight == 1 && core_deadline(&w.core) <= w.now_ms + 100);
	at(w.now_ms + STATUS_WAIT_MS - 1);
	CHECK(w.core.in_flight == 1);
	at(w.now_ms + 1);
	CHECK(!w.core.in_flight && told(0, 5, 0));
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, &one, 1));
	w.core.hold_ms = 100;
	client_asks(&r[0], at_byte, 5);
	at(w.now_ms + 100);
	CHECK(!w.core.in_flight && told(0, 5, 0));
	/* who goes is not answered when the origin does */
	client_asks(&r[0], at_byte, 5);
	core_abandon(&w.core, &r[0]);
	CHECK(!w.core.in_flight && !r[0].error && w.told.count == 1);
	CHECK(core_conn_status(&w.core, w.status_cookie, 0, &one, 1) && w.told.count == 1);
	/* too many: also those who have gone count */
	w.status_count = 0;
	for (i = 0; i < QUERIES_MAX; i++) {
		client_asks(&r[i], at_byte, 5);
		core_abandon(&w.core, &r[i]);
	}
	client_asks(&r[i], at_byte, 5);
	CHECK(w.status_count < QUERIES_MAX && !w.core.in_flight && told(0, 5, 0));
	/* lost */
	links_down();
	CHECK(!w.core.queries);
	client_asks(&r[0], at_byte, 5);
	CHECK(!w.core.in_flight && told(0, 5, 0));
	core_conn_up(&w.core, CONN_CLIENT, &(struct conn_state){ .unit_blocks = 1, .max_blocks = 1, .can_status = true });
	client_asks(&r[0], at_byte, 5);
	CHECK(w.core.in_flight == 1);
	core_conn_down(&w.core, CONN_COPIER);
	CHECK(w.core.in_flight == 1);
	core_conn_down(&w.core, CONN_CLIENT);
	CHECK(!w.core.in_flight && told(0, 5, 0) && !core_conn_status(&w.core, w.status_cookie, 0, &one, 1));
	core_conn_up(&w.core, CONN_CLIENT, &(struct conn_state){ .unit_blocks = 1, .max_blocks = 1 });
	client_asks(&r[0], at_byte, 5);
	CHECK(!w.core.in_flight && told(0, 5, 0));
	copy_end();
}

/* ---- what is published --------------------------------------------------------------------- */

/* A proxy of so many blocks, the last one short, with the blocks of these words. */
static void published_begin(uint64_t blocks, const uint64_t *words)
{
	struct core_config config = { .size_bytes = blocks * 4096 - 100, .proxy = true };
	uint64_t bytes = map_bytes(config.size_bytes);

	memset(&w, 0, sizeof(w));
	config.words = calloc(1, bytes);
	config.published = calloc(1, bytes);
	if (words)
		memcpy(config.words, words, bytes);
	CHECK(core_init(&w.core, &config));
}

/* Writes these blocks, all of them whole. */
static void write_blocks(uint64_t first, uint64_t end)
{
	static struct request r;
	uint64_t stop = end * 4096 < w.core.size_bytes ? end * 4096 : w.core.size_bytes;

	r = (struct request){ .type = NBD_CMD_WRITE_ZEROES, .offset = first * 4096, .length = (uint32_t)(stop - first * 4096) };
	core_submit(&w.core, &r);
}

/* What is covered, and whole, is recorded as that, although another commit begins before writes stand still. */
static void test_switch_is_whole(void)
{
	struct commit_waiter waiter = { .done = switched };
	struct request flush = { .type = NBD_CMD_FLUSH };
	const uint64_t words = 0xf;
	struct request *r;

	published_begin(4, &words);
	w.core.covered = w.hold = w.hold_syncs = true;
	records_switch = false;
	r = write_block(0);
	CHECK(!core_switch(&w.core, false, &waiter) && w.held_count == 2);
	core_submit(&w.core, &flush);
	w.core.commit.image_dirty = true;
	w.held[1]->done(w.held[1]);
	CHECK(w.held_count == 3 && !records_switch);
	w.held[0]->done(w.held[0]);
	CHECK(records_switch);
	core_switched(&w.core, 0);
	w.held[2]->done(w.held[2]);
	CHECK(!w.core.in_flight && w.core.mode == MODE_TARGET);
	free(r);
	copy_end();
}

/* Every run of blocks, from its first to its last byte, and without some bytes of both ends. */
static bool published_is(const bool *model, uint64_t blocks)
{
	uint64_t first, end;

	for (first = 0; first < blocks; first++) {
		bool all = true;

		for (end = first + 1; end <= blocks; end++) {
			uint64_t start = first * 4096, stop = end == blocks ? w.core.size_bytes : end * 4096;

			all &= model[end - 1];
			if (core_is_published(&w.core, start, (uint32_t)(stop - start)) != all ||
			    core_is_published(&w.core, start + 7, (uint32_t)(stop - start - 14)) != all)
				return false;
		}
	}
	return true;
}

/* Against an array of bools, around the borders of words. */
static void test_published_model(uint64_t blocks)
{
	bool *model = calloc(blocks, sizeof(*model));
	unsigned i;

	srand((unsigned)blocks);
	published_begin(blocks, NULL);
	CHECK(published_is(model, blocks));
	for (i = 0; i < 12 || !map_is_complete(&w.core.map); i++) {
		uint64_t first = i < 2 * blocks / 32 ? (i + 1) / 2 * 32 - i % 2 : (uint64_t)rand() % blocks;
		uint64_t end = first + 1 + (i % 4 ? 0 : (uint64_t)rand() % (blocks - first));

		write_blocks(first, end);
		memset(model + first, true, end - first);
		if (i < 12 && !CHECK(published_is(model, blocks)))
			break;
	}
	CHECK(w.core.all_published && published_is(model, blocks));
	copy_end();
	free(model);
}

static void test_published_start(void)
{
	static const uint64_t words[] = { 1ULL << 63 | 0x1ffffffff, 0, ~0ULL };
	static const uint64_t all[] = { ~0ULL, ~0ULL, ~0ULL };
	struct core_config config = { .size_bytes = 5000 };
	bool model[132];
	unsigned i;

	for (i = 0; i < 132; i++)
		model[i] = words[i / 64] >> (i % 64) & 1;
	published_begin(132, words);
	CHECK(published_is(model, 132) && !w.core.all_published);
	copy_end();
	published_begin(132, all);
	CHECK(w.core.all_published && core_is_published(&w.core, 0, 132 * 4096 - 100));
	copy_end();
	/* a target, and a proxy without fronts */
	memset(&w.core, 0, sizeof(w.core));
	CHECK(core_init(&w.core, &config) && core_is_published(&w.core, 4999, 1) && !core_wants_to_see(&w.core, 0, 1));
	core_free(&w.core);
	published_begin(2, NULL);
	free(w.core.published);
	w.core.published = NULL;
	write_blocks(0, 1);
	CHECK(!core_is_published(&w.core, 0, 1));
	write_blocks(1, 2);
	CHECK(core_is_published(&w.core, 0, 2 * 4096 - 100));
	copy_end();
}

/* Local in memory is not enough. */
static void test_published_late(void)
{
	published_begin(3, NULL);
	w.hold_bits = true;
	write_blocks(0, 1);
	CHECK(map_is_local(&w.core.map, 0) && !w.replies && !core_is_published(&w.core, 0, 1));
	w.held[0]->done(w.held[0]);
	CHECK(w.replies == 1 && core_is_published(&w.core, 0, 4096) && !core_is_published(&w.core, 1, 4096));
	w.hold_bits = false;
	w.no_bits = true;
	write_blocks(1, 3);
	CHECK(w.replies == 1 && map_is_complete(&w.core.map) && w.core.bitmap_error);
	CHECK(!core_is_published(&w.core, 4096, 1) && !core_is_published(&w.core, 8192, 1) && core_is_published(&w.core, 0, 4096));
	copy_end();
}

/* The bit of the first block is in the file; what waited for that makes the map complete at once. */
static void test_published_next(void)
{
	struct request r = { .type = NBD_CMD_WRITE, .offset = 100, .length = 8000, .buf = w.client_buf };

	published_begin(2, NULL);
	links_up();
	w.hold_bits = true;
	r.length = (uint32_t)(w.core.size_bytes - r.offset);
	core_submit(&w.core, &r);
	answer(CONN_CLIENT, 0);
	CHECK(w.held_count == 1 && !map_is_complete(&w.core.map));
	w.held[0]->done(w.held[0]);
	CHECK(w.held_count == 2 && map_is_complete(&w.core.map));
	CHECK(core_is_published(&w.core, 0, 4096) && !core_is_published(&w.core, 4096, 1));
	w.held[1]->done(w.held[1]);
	CHECK(w.replies == 1 && w.core.all_published);
	copy_end();
}

static bool wants(uint64_t block)
{
	return core_wants_to_see(&w.core, block * 4096, 4096);
}

static void test_wants_to_see(void)
{
	struct commit_waiter waiter = { .done = switched };
	uint64_t last = (64ULL << 30) / 4096 - 1;

	no_copy_begin();
	CHECK(wants(0) && wants(last - 1) && !wants(last));
	write_blocks(0, 5000);
	CHECK(core_is_published(&w.core, 0, 5000 * 4096) && !core_is_published(&w.core, 1, 5000 * 4096));
	CHECK(!wants(0) && !wants(5000 - READAHEAD_BLOCKS_MAX - 1) && wants(5000 - READAHEAD_BLOCKS_MAX) && wants(4999));
	CHECK(!core_wants_to_see(&w.core, 2, (5000 - READAHEAD_BLOCKS_MAX) * 4096 - 2));
	CHECK(core_wants_to_see(&w.core, 2, (5000 - READAHEAD_BLOCKS_MAX) * 4096 - 1));
	CHECK(core_record(&w.core, NULL, 0) && wants(0) && wants(last));
	core_has_read(&w.core, 70 * 4096 + 5, 4096);
	CHECK(w.core.trace.runs == 1 && w.core.trace.run[0].first == 70 && w.core.trace.run[0].end == 72);
	core_record_end(&w.core);
	CHECK(!wants(0) && wants(4999));
	/* there is nothing to read ahead from */
	CHECK(!core_switch(&w.core, true, &waiter) && !wants(4999) && !core_is_published(&w.core, 5000 * 4096ULL, 1));
	core_has_read(&w.core, 0, 4096);
	copy_end();
}

/* Who reads in order is read ahead of, although a front answers. */
static void test_readahead_behind_front(void)
{
	uint64_t at;

	no_copy_begin();
	read_blocks(HERE, HERE + 2);
	answer_all(0);
	for (at = HERE + 2; at < HERE + 400; at += 2) {
		if (at == HERE + 2)
			read_blocks(at, at + 2);
		else if (CHECK(core_is_published(&w.core, at * 4096, 8192) && core_wants_to_see(&w.core, at * 4096, 8192)))
			core_has_read(&w.core, at * 4096, 8192);
		answer_all(0);
	}
	CHECK(w.core.readahead.stream[0].next == HERE + 400 && w.core.waited == 2);
	copy_end();
}

/* Another thread tests the bits and reads, without a lock: tests/threads.sh runs this with ThreadSanitizer. */
enum { FRONT_BLOCKS = 2000 };
static char image[FRONT_BLOCKS];
static bool front_runs, front_stop;

static void *front(void *wrong)
{
	struct request r = { .type = NBD_CMD_READ, .length = 1 };
	uint64_t block = 0;

	while (!__atomic_load_n(&front_stop, __ATOMIC_RELAXED)) {
		block = (block + 7919) % FRONT_BLOCKS;
		r.offset = block * 4096;
		if (core_check(&w.core, &r) || core_is_outside(&w.core, &r) || core_size_bytes(&w.core) < r.offset)
			*(unsigned *)wrong += 1;
		if (core_wants_to_see(&w.core, r.offset, 1))
			__atomic_store_n(&front_runs, true, __ATOMIC_RELAXED);
		if (core_is_published(&w.core, r.offset, 1) && !image[block])
			*(unsigned *)wrong += 1;
	}
	return NULL;
}

static void test_published_thread(void)
{
	struct commit_waiter waiter = { .done = switched };
	unsigned wrong = 0;
	uint64_t i, block = 0;
	pthread_t thread;

	published_begin(FRONT_BLOCKS, NULL);
	CHECK(pthread_create(&thread, NULL, front, &wrong) == 0);
	while (!__atomic_load_n(&front_runs, __ATOMIC_RELAXED))
		sched_yield();
	for (i = 0; i < FRONT_BLOCKS; i++) {
		block = (block + 1013) % FRONT_BLOCKS;
		image[block] = 1;
		write_blocks(block, block + 1);
		if (i == 500)
			CHECK(core_record(&w.core, NULL, 0));
		if (i == 1000)
			CHECK(!core_switch(&w.core, true, &waiter));
		if (i % 50 == 0)
			sched_yield();
	}
	CHECK(core_is_published(&w.core, 0, FRONT_BLOCKS * 4096 - 100));
	__atomic_store_n(&front_stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	CHECK(!wrong);
	core_record_end(&w.core);
	copy_end();
}

/* With an argument: only what has threads. */
int main(int argc, char **argv)
{
	unsigned seed;

	(void)argv;
	test_published_thread();
	if (argc > 1)
		return test_end();
	test_map_sizes();
	for (seed = 1; seed <= 20; seed++) {
		test_map_model(1, seed);
		test_map_model(63 * 4096, seed);
		test_map_model(64 * 4096, seed);
		test_map_model(65 * 4096 - 1, seed);
		test_map_model(1000 * 4096 + 17, seed);
	}
	test_map_init();
	test_map_chunks();
	test_range();
	test_header();
	test_layout();
	test_header_foreign();
	test_cover();
	test_behind();
	test_fingerprint();
	test_decide();
	test_unknown_origin();
	test_trace_runs();
	test_trace_resumed();
	test_trace_fits();
	test_trace_full();
	test_trace_strangers();
	test_window();
	test_window_found_near();
	test_window_of_lost_link();
	test_window_longer_way();
	test_lost_link_and_client();
	test_politeness();
	test_politeness_of_verify();
	test_read_memory();
	test_client_window();
	test_turns();
	test_turns_left();
	test_copy_share();
	test_readahead();
	test_readahead_follows();
	test_wide();
	test_forced_switch();
	test_switch_is_whole();
	test_verify_rests();
	test_verify_then_switch();
	test_hold();
	test_hold_once();
	test_hold_flapping();
	test_abandon();
	test_hold_and_write();
	test_note_fails();
	test_notes_of_before();
	test_client_at_the_end(false);
	test_client_at_the_end(true);
	test_client_goes_at_the_end();
	test_trim_of_local();
	test_trim_of_parts();
	test_readahead_beside_copy();
	test_alone();
	test_status();
	test_status_slow();
	test_status_data();
	test_published_model(1);
	test_published_model(31);
	test_published_model(32);
	test_published_model(33);
	test_published_model(130);
	test_published_start();
	test_published_late();
	test_published_next();
	test_wants_to_see();
	test_readahead_behind_front();
	return test_end();
}
