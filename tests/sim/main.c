/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim SEEDS [FIRST]   runs so many seeds, from FIRST (1) on
 * sim seed=N          runs one, and tells what happens
 *
 * A run: steps drawn by chance, while things go wrong; then nothing goes wrong any
 * more, everything has to be answered, the copy to be completed, the switch to be
 * made, and every byte is read.
 */
#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 12, BLOCKS_MAX = 260, DRAIN_MAX = 400000 };

/* A client's request. */
struct slot {
	struct request req;
	bool live, abandoned;
	uint64_t sent, sent_ms;
	uint64_t offset; /* as it was asked */
	uint32_t length;
	unsigned write; /* of the model; 0 = none */
	uint8_t *buf;
};

struct plan plan;
struct core core;
uint64_t sim_time;

uint64_t now_ms;

static uint64_t seed;
static bool tracing;
static struct slot slots[DEPTH_MAX];
static uint64_t *words;
static struct commit_waiter switch_waiter;
static bool switch_running, switch_forced, forced_target;
static uint64_t answered;

void trace(const char *format, ...)
{
	va_list args;

	if (!tracing)
		return;
	printf("%8llu ", (unsigned long long)sim_time);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void broken(const char *format, ...)
{
	va_list args;

	printf("seed %llu, event %llu: ", (unsigned long long)seed, (unsigned long long)sim_time);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\nreplay: build/unit/sim seed=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	_Exit(1);
}

uint64_t oldest_request(void)
{
	uint64_t oldest = sim_time;
	unsigned i;

	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].sent < oldest)
			oldest = slots[i].sent;
	return oldest;
}

static unsigned live_count(void)
{
	unsigned i, n = 0;

	for (i = 0; i < DEPTH_MAX; i++)
		n += slots[i].live;
	return n;
}

/* ---- the plan ------------------------------------------------------------------------- */

static void draw_plan(void)
{
	static const uint32_t units[] = { 1, 1, 1, 2, 16 };
	static const unsigned syncs[] = { 0, 10, 50, 95 };

	memset(&plan, 0, sizeof(plan));
	plan.grain = chance(70) ? GRAIN_MAX : 1;
	plan.size_bytes = 1 + chance_of(plan.grain == 1 ? 5 * BLOCK_BYTES : (chance(50) ? 20 : BLOCKS_MAX) * BLOCK_BYTES);
	if (chance(50)) /* most disks are whole */
		plan.size_bytes = (plan.size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	plan.unit_blocks = units[chance_of(5)];
	plan.sync_percent = syncs[chance_of(4)];
	plan.depth = 1 + (unsigned)chance_of(DEPTH_MAX);
	plan.bad_percent = chance(15) ? 8 : 0;
	plan.zero_percent = chance(50) ? 40 : 0;
	plan.hold_ms = chance(10) ? 3000 : 0;
	plan.disk_faults = chance(15);
	plan.sync_faults = chance(7);
	plan.no_punch = chance(30);
	plan.can_status = chance(60);
	plan.crashes = chance(60);
}

/* ---- what is checked of an answer --------------------------------------------------------- */

/* Whether a bad sector of the origin lies where this request has to look. */
static bool meets_bad(const struct slot *s)
{
	uint64_t unit = plan.unit_blocks;
	uint64_t first = s->offset / BLOCK_BYTES / unit * unit;
	uint64_t end = (map_blocks(s->offset + s->length) + unit - 1) / unit * unit;
	uint64_t b;

	for (b = first; b < end && b < map_blocks(plan.size_bytes); b++)
		if (origin_is_bad(b))
			return true;
	return false;
}

/* How long it has waited since the origin was last heard. */
static uint64_t waited_ms(const struct slot *s)
{
	return now_ms - (s->sent_ms > origin_answered_ms ? s->sent_ms : origin_answered_ms);
}

static bool may_fail(const struct slot *s, uint32_t error)
{
	if (error == NBD_ENOTSUP)
		return s->req.type == NBD_CMD_WRITE_ZEROES && (s->req.flags & NBD_CMD_FLAG_FAST_ZERO);
	if (error == NBD_ESHUTDOWN)
		return s->abandoned;
	if (error != NBD_EIO && error != NBD_ENOSPC)
		return false;
	return disk_has_failed() || core.commit.error || core.bitmap_error || meets_bad(s) || forced_target ||
	       (switch_running && switch_forced) || (plan.hold_ms && waited_ms(s) >= plan.hold_ms);
}

static void check_extents(const struct slot *s)
{
	const struct extents *e = s->req.buf;
	uint64_t at = s->offset;
	unsigned i;

	if (!e->count)
		broken("BLOCK_STATUS without an extent");
	for (i = 0; i < e->count; i++) {
		uint64_t n = e->extent[i].length;

		if (!n || at + n > s->offset + s->length)
			broken("BLOCK_STATUS tells of %llu bytes too far", (unsigned long long)n);
		for (; n; at += plan.grain < n ? plan.grain : n, n -= plan.grain < n ? plan.grain : n)
			if ((e->extent[i].flags & NBD_STATE_ZERO) &&
			    !model_may_be_zero(at, plan.grain < n ? plan.grain : n, s->sent))
				broken("BLOCK_STATUS calls %llu zero, which it is not", (unsigned long long)at);
	}
}

static const uint64_t *committed_bits(void)
{
	return (const uint64_t *)(const void *)(disk_bytes(FILE_COMMIT) + COMMIT_HEADER_BYTES);
}

/* What makes an answered write survive the death of the process: a start takes the
 * bits of both files. */
static void check_bits(const struct slot *s)
{
	const uint64_t *file = (const uint64_t *)(const void *)disk_bytes(FILE_BITMAP);
	uint64_t b;

	for (b = s->offset / BLOCK_BYTES; b < map_blocks(s->offset + s->length); b++)
		if (!((file[b / 64] | committed_bits()[b / 64]) >> (b % 64) & 1))
			broken("a write is answered, the bit of block %llu is in no file", (unsigned long long)b);
}

static void check_answer(const struct slot *s)
{
	uint64_t b;

	switch (s->req.type) {
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
		check_bits(s);
		break;
	case NBD_CMD_READ:
		model_read(s->offset, s->length, s->buf, s->sent);
		break;
	case NBD_CMD_FLUSH:
		if (core.commit.error)
			broken("rule 7: FLUSH is answered well after a sync failed");
		model_flushed(s->sent);
		break;
	case NBD_CMD_BLOCK_STATUS:
		check_extents(s);
		break;
	case NBD_CMD_CACHE:
		for (b = s->offset / BLOCK_BYTES; b < map_blocks(s->offset + s->length); b++)
			if (!map_is_local(&core.map, b))
				broken("CACHE is answered, block %llu is missing", (unsigned long long)b);
		break;
	}
}

void port_reply(struct core *c, struct request *r)
{
	struct slot *s = (struct slot *)r;

	(void)c;
	if (!s->live)
		broken("rule 9: a request is answered twice");
	trace("reply type %u at %llu+%u error %u", r->type, (unsigned long long)s->offset, s->length, r->error);
	if (r->error && !may_fail(s, r->error))
		broken("rule 9: error %u for type %u at %llu+%u", r->error, r->type, (unsigned long long)s->offset,
		       s->length);
	if (!r->error)
		check_answer(s);
	if (s->write)
		model_written(s->write, r->error != 0, r->flags & NBD_CMD_FLAG_FUA);
	s->live = false;
	free(s->buf);
	s->buf = NULL;
	answered++;
}

/* Rule 1, and that the files say no more than the map: any time. */
static void audit(void)
{
	const uint64_t *file = (const uint64_t *)(const void *)disk_bytes(FILE_BITMAP);
	const uint8_t *image = disk_bytes(FILE_IMAGE);
	uint64_t b, w;

	if (!core.map.words)
		return;
	for (w = 0; w < map_bytes(plan.size_bytes) / 8; w++)
		if (file[w] & ~core.map.words[w])
			broken("the bitmap file has bits that the map has not");
	for (b = 0; b < core.map.blocks; b++) {
		uint64_t start = b * BLOCK_BYTES;
		uint64_t n = plan.size_bytes - start < BLOCK_BYTES ? plan.size_bytes - start : BLOCK_BYTES;

		if (map_is_local(&core.map, b) && !disk_is_busy(b) && !model_allows(start, n, image + start))
			broken("rule 1: block %llu is called local, and is wrong in the image", (unsigned long long)b);
	}
}

/* ---- steps ----------------------------------------------------------------------------------- */

static uint64_t cells(void)
{
	return (plan.size_bytes + plan.grain - 1) / plan.grain;
}

static void draw_range(struct slot *s)
{
	uint64_t first = chance_of(cells());
	uint64_t most = chance(70) ? 3 * BLOCK_BYTES / plan.grain : cells();
	uint64_t n = 1 + chance_of(most);
	uint64_t end;

	if (chance(30)) { /* in whole blocks */
		first -= first % (BLOCK_BYTES / plan.grain);
		n = (n + BLOCK_BYTES / plan.grain - 1) / (BLOCK_BYTES / plan.grain) * (BLOCK_BYTES / plan.grain);
	}
	end = (first + n) * plan.grain;
	s->offset = first * plan.grain;
	s->length = (uint32_t)((end < plan.size_bytes ? end : plan.size_bytes) - s->offset);
}

static uint16_t draw_type(void)
{
	static const uint16_t types[] = { NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_READ, NBD_CMD_WRITE,
					  NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM,
					  NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS };

	return types[chance_of(sizeof(types) / sizeof(types[0]))];
}

static void fill(struct slot *s)
{
	enum content content = s->req.type == NBD_CMD_WRITE ? CONTENT_DATA
			       : s->req.type == NBD_CMD_TRIM ? CONTENT_TRIM
							    : CONTENT_ZERO;

	s->write = model_write(s->offset, s->length, content);
	if (content == CONTENT_DATA)
		model_bytes(s->write, s->offset, s->length, s->buf);
}

/* What the core must refuse is never given to it. */
static void check_refusals(const struct slot *s)
{
	struct request r = s->req;

	if (r.type == NBD_CMD_FLUSH)
		return;
	r.offset = UINT64_MAX - chance_of(BLOCK_BYTES);
	if (!core_check(&core, &r))
		broken("rule 11: offset %llu is taken", (unsigned long long)r.offset);
	r.offset = plan.size_bytes - s->length + 1 + chance_of(BLOCK_BYTES);
	if (!core_check(&core, &r))
		broken("rule 11: %llu+%u is taken", (unsigned long long)r.offset, r.length);
}

/* Which blocks somebody may want from the origin (rule 6). */
static void note_wanted(const struct slot *s)
{
	uint64_t first = s->offset / BLOCK_BYTES;
	uint64_t end = s->offset + s->length;

	switch (s->req.type) {
	case NBD_CMD_READ:
	case NBD_CMD_CACHE:
		origin_want(first, map_blocks(end));
		break;
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
		if (s->offset % BLOCK_BYTES)
			origin_want(first, first + 1);
		if (end % BLOCK_BYTES && end != plan.size_bytes)
			origin_want(end / BLOCK_BYTES, end / BLOCK_BYTES + 1);
		break;
	}
}

static void submit(struct slot *s)
{
	memset(s, 0, sizeof(*s));
	draw_range(s);
	s->req.type = draw_type();
	if (s->req.type == NBD_CMD_FLUSH)
		s->offset = s->length = 0;
	if (chance(15))
		s->req.flags |= NBD_CMD_FLAG_FUA;
	if (s->req.type == NBD_CMD_WRITE_ZEROES && chance(20))
		s->req.flags |= NBD_CMD_FLAG_FAST_ZERO;
	if (s->req.type == NBD_CMD_WRITE_ZEROES && chance(20))
		s->req.flags |= NBD_CMD_FLAG_NO_HOLE;
	s->req.offset = s->offset;
	s->req.length = s->length;
	s->buf = malloc(s->req.type == NBD_CMD_BLOCK_STATUS ? sizeof(struct extents) : s->length + 1);
	s->req.buf = s->buf;
	s->sent = sim_time;
	s->sent_ms = now_ms;
	check_refusals(s);
	if (core_check(&core, &s->req)) {
		free(s->buf);
		if (!core.readonly)
			broken("a good request is refused");
		return;
	}
	if (s->req.type == NBD_CMD_WRITE || s->req.type == NBD_CMD_WRITE_ZEROES || s->req.type == NBD_CMD_TRIM)
		fill(s);
	note_wanted(s);
	s->live = true;
	trace("submit type %u flags %x at %llu+%u", s->req.type, s->req.flags, (unsigned long long)s->offset, s->length);
	core_submit(&core, &s->req);
}

static void submit_one(void)
{
	unsigned i;

	for (i = 0; i < plan.depth; i++)
		if (!slots[i].live) {
			submit(&slots[i]);
			return;
		}
}

static void abandon_one(void)
{
	struct slot *s = &slots[chance_of(DEPTH_MAX)];

	if (!s->live)
		return;
	s->abandoned = true;
	core_abandon(&core, &s->req);
}

static void check_hold(void)
{
	unsigned i;

	for (i = 0; plan.hold_ms && i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].req.fetch && core.waiting == live_count() &&
		    waited_ms(&slots[i]) > plan.hold_ms && !disk_pending())
			broken("a request waits for %llu ms", (unsigned long long)waited_ms(&slots[i]));
}

static void advance(uint64_t ms)
{
	now_ms += ms;
	core_tick(&core, now_ms);
	check_hold();
}

static void job_step(void)
{
	switch (chance_of(8)) {
	case 6: /* stopped and begun again: what was asked before is still on its way */
	case 7:
		core_job_cancel(&core);
		origin_want(0, core.map.blocks);
		core_job_start(&core, 0, 0);
		break;
	case 0:
		core_job_pause(&core);
		break;
	case 1:
		core_job_resume(&core);
		break;
	case 2:
		core_job_cancel(&core);
		break;
	default:
		origin_want(0, core.map.blocks);
		core_job_start(&core, (uint32_t)chance_of(70), chance(50) ? 0 : 1 + chance_of(1 << 20));
	}
}

static void switched(struct commit_waiter *w, int error)
{
	const uint64_t *bits = (const uint64_t *)(const void *)(disk_platter(FILE_COMMIT) + COMMIT_HEADER_BYTES);
	struct map m;
	uint64_t *copy;

	(void)w;
	switch_running = false;
	trace("switched, error %d", error);
	if (error) {
		if (!core.commit.error)
			broken("the switch failed, and nothing is wrong");
		return;
	}
	forced_target = !map_is_complete(&core.map);
	if (forced_target && !switch_forced)
		broken("rule 10: switched with blocks missing");
	if (core.mode != MODE_TARGET || !origin_closed)
		broken("switched, but not a target");
	copy = malloc(map_bytes(plan.size_bytes));
	memcpy(copy, bits, map_bytes(plan.size_bytes));
	map_init(&m, plan.size_bytes, copy, false);
	if (!switch_forced && !map_is_complete(&m))
		broken("rule 10: switched with blocks not committed");
	map_free(&m);
	free(copy);
}

static void switch_step(bool force)
{
	const char *why;

	if (switch_running || core.mode == MODE_TARGET)
		return;
	switch_running = true;
	switch_forced = force;
	switch_waiter.done = switched;
	trace("switch%s", force ? " by force" : "");
	why = core_switch(&core, force, &switch_waiter);
	if (!why)
		return;
	switch_running = false;
	if (!core.commit.error && !core.bitmap_error && (force || map_is_complete(&core.map)))
		broken("the switch is refused, and nothing is wrong: %s", why);
}

/* ---- start and crash --------------------------------------------------------------------------- */

/* committed_only: the machine went down; else the process died, or this is the first start. */
static void start(bool committed_only)
{
	struct core_config config = { .size_bytes = plan.size_bytes, .proxy = true, .hold_ms = plan.hold_ms,
				      .fetch_window = 1, .now_ms = now_ms, .all_dirty = true };
	uint64_t i;

	free(words);
	words = calloc(1, map_bytes(plan.size_bytes) + 8);
	memcpy(words, committed_bits(), map_bytes(plan.size_bytes));
	for (i = 0; !committed_only && i < map_bytes(plan.size_bytes) / 8; i++)
		words[i] |= ((uint64_t *)(void *)disk_bytes(FILE_BITMAP))[i];
	config.words = words;
	memset(&core, 0, sizeof(core));
	if (!core_init(&core, &config))
		broken("out of memory");
	if (committed_only)
		disk_set_bitmap(words);
	switch_running = forced_target = false;
	origin_answered_ms = now_ms;
	audit();
}

static void crash(bool power)
{
	/* After a sync that failed the next start trusts what was committed, as after a
	 * power cut (store_distrust()). */
	bool committed_only = power || core.commit.error;
	unsigned i;

	trace("%s", power ? "power cut" : "kill -9");
	disk_crash(power);
	origin_crash();
	memory_crash();
	model_crash(power, committed_only);
	for (i = 0; i < DEPTH_MAX; i++) {
		free(slots[i].buf);
		slots[i].buf = NULL;
		slots[i].live = false;
	}
	start(committed_only);
}

/* ---- a run ---------------------------------------------------------------------------------------- */

static void link_step(void)
{
	unsigned link = (unsigned)chance_of(LINKS);

	if (core.link[link].up && chance(10))
		origin_down(link);
	else if (!core.link[link].up && (link == LINK_CLIENT || origin_copy_wanted) && chance(30))
		origin_up(link, true);
}

static void step(void)
{
	unsigned what = (unsigned)chance_of(1000);

	sim_time++;
	if (what < 300)
		submit_one();
	else if (what < 600)
		disk_step(true);
	else if (what < 800)
		origin_step(true);
	else if (what < 880)
		link_step();
	else if (what < 920)
		advance(chance(80) ? chance_of(300) : chance_of(10000));
	else if (what < 940)
		job_step();
	else if (what < 950)
		disk_write_back();
	else if (what < 960)
		abandon_one();
	else if (what < 970)
		audit();
	else if (what < 974)
		switch_step(false);
	else if (what < 975 && chance(10))
		switch_step(true);
	else if (what < 979 && plan.crashes)
		crash(chance(50));
}

/* Nothing goes wrong any more: everything comes to its end. */
static void drain(void)
{
	unsigned n;

	for (n = 0; n < DRAIN_MAX; n++) {
		sim_time++;
		if (!origin_closed) {
			origin_up(LINK_CLIENT, false);
			if (origin_copy_wanted)
				origin_up(LINK_COPIER, false);
		}
		if (chance(50) ? disk_step(false) || origin_step(false) : origin_step(false) || disk_step(false))
			continue;
		if (!live_count() && core.copier.state != JOB_RUNNING && !switch_running && !core.commit.timer.done)
			return;
		advance(core_deadline(&core) > now_ms ? 50 : 1);
	}
	broken("liveness: %u requests, %u of them waiting, job %u, switch %u: nothing comes to its end", live_count(),
	       core.waiting, core.copier.state, switch_running);
}

static void read_all(void)
{
	struct slot *s = &slots[0];

	memset(s, 0, sizeof(*s));
	s->length = (uint32_t)plan.size_bytes;
	s->req.length = s->length;
	s->req.buf = s->buf = malloc(s->length);
	s->sent = sim_time;
	s->sent_ms = now_ms;
	s->live = true;
	origin_want(0, core.map.blocks);
	core_submit(&core, &s->req);
	drain();
}

/* The copy brings all but what the origin cannot read and nobody has written. */
static void finish_copy(void)
{
	uint64_t b;

	core_job_cancel(&core);
	origin_want(0, core.map.blocks);
	core_job_start(&core, 0, 0);
	drain();
	if (core.mode == MODE_TARGET || disk_has_failed() || core.commit.error || core.bitmap_error)
		return;
	for (b = 0; b < core.map.blocks; b++)
		if (!map_is_local(&core.map, b) && (!origin_is_bad(b) || core.copier.state != JOB_FAILED))
			broken("the copy has ended (%u), block %llu is missing", core.copier.state, (unsigned long long)b);
}

static void run(void)
{
	unsigned steps;

	chance_begin(seed);
	sim_time = 1000;
	now_ms = chance_of(1 << 30);
	answered = 0;
	draw_plan();
	model_begin();
	disk_begin();
	origin_begin();
	trace("disk of %llu bytes, grain %u", (unsigned long long)plan.size_bytes, plan.grain);
	start(false);
	origin_up(LINK_CLIENT, true);
	for (steps = 100 + (unsigned)chance_of(1500); steps; steps--)
		step();
	if (chance(30) && plan.crashes)
		crash(chance(50));
	origin_down(LINK_CLIENT);
	origin_down(LINK_COPIER);
	plan.disk_faults = plan.sync_faults = false;
	drain();
	finish_copy();
	read_all();
	switch_step(false);
	drain();
	read_all();
	audit();
	core_free(&core);
	if (memory_count())
		broken("%u allocations of the core are left", memory_count());
	origin_end();
	disk_end();
	model_end();
}

int main(int argc, char **argv)
{
	uint64_t first = 1, count = 1;

	if (argc > 1 && strncmp(argv[1], "seed=", 5) == 0) {
		first = strtoull(argv[1] + 5, NULL, 10);
		tracing = true;
	} else if (argc > 1) {
		count = strtoull(argv[1], NULL, 10);
		if (argc > 2)
			first = strtoull(argv[2], NULL, 10);
	}
	for (seed = first; seed < first + count; seed++)
		run();
	free(words);
	printf("%llu passed, 0 failed\n", (unsigned long long)count);
	return 0;
}
