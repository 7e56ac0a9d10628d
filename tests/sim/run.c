/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A run: steps drawn by chance, while things go wrong; then nothing goes wrong any
 * more, everything has to be answered, the copy to be completed, the switch to be
 * made, and every byte is read.
 */
#include "sim.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_MAX = 400000 };

/* A client's request. */
struct slot {
	struct request req;
	bool live, abandoned;
	uint64_t queued; /* it is to be handed over to the core as the n-th; 0: it has it */
	bool ready; /* a READ without a buffer, whose blocks are local: its client takes data, or not yet */
	uint64_t sent, sent_ms;
	uint64_t offset; /* as it was asked */
	uint32_t length;
	uint32_t read; /* bytes of it that its client has */
	unsigned write; /* of the model; 0 = none */
	uint8_t *buf;
};

struct core core;
uint64_t sim_time;
uint64_t now_ms;
bool faults_on;

static struct slot slots[DEPTH_MAX];

/* A few clients, with several requests each. */
static const void *owner_of(const struct slot *s)
{
	enum { CLIENTS = 3 };

	return &slots[(s - slots) % CLIENTS];
}

static uint64_t range_end; /* of the last request */
static uint64_t handed; /* requests that had to be handed over */
static bool adopted; /* nothing of another program is left that is not ours */
static struct commit_waiter switch_waiter;
static bool switch_running, switch_forced, forced_target;

static const char *type_name(const struct request *r)
{
	static const char *const names[] = {
		[NBD_CMD_READ] = "READ", [NBD_CMD_WRITE] = "WRITE", [NBD_CMD_FLUSH] = "FLUSH",
		[NBD_CMD_TRIM] = "TRIM", [NBD_CMD_CACHE] = "CACHE", [NBD_CMD_WRITE_ZEROES] = "WRITE_ZEROES",
		[NBD_CMD_BLOCK_STATUS] = "BLOCK_STATUS",
	};

	return names[r->type];
}

uint64_t oldest_request(void)
{
	uint64_t oldest = fronts_oldest();
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

/* ---- what is checked of an answer --------------------------------------------------------- */

/* Whether a bad sector of the origin lies where this request has to look. */
static bool meets_bad(const struct slot *s)
{
	uint64_t unit = plan.unit_blocks;
	uint64_t first = s->offset / BLOCK_BYTES / unit * unit;
	uint64_t end = (map_blocks(s->offset + s->length) + unit - 1) / unit * unit;
	uint64_t b;

	if (plan.target || !plan.bad_percent)
		return false;
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

static bool no_conn(void)
{
	return !core.conn[CONN_CLIENT].up && !core.conn[CONN_COPIER].up;
}

static void note_loss(enum loss loss)
{
	if (loss > origin_loss && no_conn())
		origin_loss = loss;
}

/* For the origin, or what it waited for has become local meanwhile. */
static void note_waiting(void)
{
	unsigned i;

	for (i = 0; plan.hold_ms && i < DEPTH_MAX; i++)
		if (slots[i].live && !slots[i].queued && waited_ms(&slots[i]) >= plan.hold_ms)
			note_loss(MAYBE_LOST);
}

/* By --hold; the core tells why. */
static bool is_held_out(const struct request *r)
{
	return r->error == NBD_EIO && r->why && strcmp(r->why, "the origin is away") == 0;
}

static bool may_fail(const struct slot *s, uint32_t error)
{
	if (error == NBD_ENOTSUP)
		return s->req.type == NBD_CMD_WRITE_ZEROES && (s->req.flags & NBD_CMD_FLAG_FAST_ZERO);
	if (error == NBD_ESHUTDOWN)
		return s->abandoned;
	if (error == NBD_ENOMEM)
		return memory_has_failed();
	if (error != NBD_EIO && error != NBD_ENOSPC)
		return false;
	if (is_held_out(&s->req))
		return plan.hold_ms && (waited_ms(s) >= plan.hold_ms || (origin_loss && no_conn()));
	return disk_has_failed() || core.commit.error || core.bitmap_error || meets_bad(s) || forced_target ||
	       (switch_running && switch_forced);
}

/* Who hears of a sync that has failed may kill the server for it. */
static void check_told(void)
{
	if (!plan.target && !start_distrusts())
		broken("a sync has failed, which is answered before the next start knows");
}

static void check_extents(const struct slot *s)
{
	const struct extents *e = s->req.buf;
	bool looked = s->req.io.op == IO_EXTENTS; /* else the origin has told, or nobody */
	uint64_t at = s->offset;
	unsigned i;

	if (!e->count)
		broken("BLOCK_STATUS without an extent");
	for (i = 0; i < e->count; i++) {
		uint64_t n = e->extent[i].length;

		if (!n || at + n > s->offset + s->length)
			broken("BLOCK_STATUS tells of %llu bytes too far", (unsigned long long)n);
		/* As the look has found it: writes do not wait for it. Else as it is now: a block that
		 * is still missing was not written. */
		if ((e->extent[i].flags & NBD_STATE_ZERO) && !model_may_be_zero(at, n, looked ? s->sent : sim_time))
			broken("BLOCK_STATUS calls %llu zero, which it is not", (unsigned long long)at);
		at += n;
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
	uint64_t b = s->offset / BLOCK_BYTES, end = map_blocks(s->offset + s->length);

	if (s->req.type == NBD_CMD_TRIM) { /* whole blocks (rule 6) */
		b = map_blocks(s->offset);
		end = s->offset + s->length == plan.size_bytes ? end : (s->offset + s->length) / BLOCK_BYTES;
	}
	for (; !plan.target && b < end; b++)
		if (!((file[b / 64] | committed_bits()[b / 64]) >> (b % 64) & 1))
			broken("a write is answered, the bit of block %llu is in no file", (unsigned long long)b);
}

static void check_answer(const struct slot *s)
{
	uint64_t b;

	switch (s->req.type) {
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
	case NBD_CMD_TRIM:
		check_bits(s);
		break;
	case NBD_CMD_READ:
		model_read(s->req.offset, s->req.length, s->req.buf, s->sent);
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

/* The blocks of a READ without a buffer are local, or a piece of it was read. True: there is
 * more of it to be read. */
static bool is_in_pieces(struct slot *s)
{
	uint64_t b;

	if (s->req.type != NBD_CMD_READ || s->req.error || s->abandoned)
		return false;
	if (!s->req.buf)
		for (b = s->offset / BLOCK_BYTES; b < map_blocks(s->offset + s->length); b++)
			if (!map_is_local(&core.map, b))
				broken("a READ goes on, block %llu is missing", (unsigned long long)b);
	if (s->req.buf) {
		check_answer(s);
		s->read += s->req.length;
	}
	s->ready = s->read < s->length;
	return s->ready;
}

void port_reply(struct core *c, struct request *r)
{
	struct slot *s = (struct slot *)r;

	(void)c;
	if (!s->live)
		broken("rule 9: a request is answered twice");
	if (s->ready)
		broken("a READ is answered whose client takes no data yet");
	if (is_in_pieces(s))
		return;
	trace("%s at %llu+%u is answered: %u", type_name(r), (unsigned long long)s->offset, s->length, r->error);
	if (r->error && !may_fail(s, r->error))
		broken("rule 9: error %u for %s at %llu+%u", r->error, type_name(r), (unsigned long long)s->offset,
		       s->length);
	if (is_held_out(r))
		note_loss(LOST);
	if (r->error && (s->write || r->type == NBD_CMD_FLUSH) && core.commit.error && !s->abandoned)
		check_told();
	if (!r->error && r->type != NBD_CMD_READ)
		check_answer(s);
	if (s->write)
		model_written(s->write, r->error != 0, r->flags & NBD_CMD_FLAG_FUA);
	s->live = false;
	free(s->buf);
	s->buf = NULL;
}

/* Rules 1 and 4: what the map calls local is there, and nothing older. Rule 2 by the same, behind a
 * power cut: the map is then what was committed. */
static void audit_window(const struct window *w)
{
	uint64_t b;

	for (b = w->first / BLOCK_BYTES; b < map_blocks(w->end); b++) {
		uint64_t start = b * BLOCK_BYTES;
		uint64_t n = plan.size_bytes - start < BLOCK_BYTES ? plan.size_bytes - start : BLOCK_BYTES;

		if (map_is_local(&core.map, b) && !disk_is_busy(b) && !model_allows(start, n, disk_image(start)))
			broken("rule 1: block %llu is called local, and is wrong in the image", (unsigned long long)b);
	}
}

/* Rule 1, and that the files say no more than the map: any time. */
static void audit(void)
{
	const uint64_t *file = (const uint64_t *)(const void *)disk_bytes(FILE_BITMAP);
	uint64_t w;
	unsigned i;

	for (w = 0; core.map.words && w < map_bytes(plan.size_bytes) / 8; w++)
		if (file[w] & ~core.map.words[w])
			broken("the bitmap file has bits that the map has not");
	for (i = 0; core.map.words && i < STATE_RECENT; i++)
		if (core.recent[i].sample && !(file[core.recent[i].block / 64] >> core.recent[i].block % 64 & 1))
			broken("block %llu is to be remembered, and its bit is not in the bitmap file", (unsigned long long)core.recent[i].block);
	for (i = 0; i < plan.windows; i++)
		audit_window(&plan.window[i]);
	disk_audit_cover();
	compare_audit();
	fronts_audit();
	if (core.client_window_max != origin_share / CONNS * CLIENT_WINDOW_GROWTH || core.fetch_window[CONN_COPIER] > core.copy_window_max ||
	    core.copy_window_max != origin_share / CONNS * COPY_WINDOW_GROWTH)
		broken("more than its share of %llu bytes", (unsigned long long)origin_share);
}

/* ---- steps ----------------------------------------------------------------------------------- */

void draw_range(uint64_t *offset, uint32_t *length)
{
	const struct window *w = &plan.window[chance_of(plan.windows)];
	uint64_t cells = (w->end - w->first + plan.grain - 1) / plan.grain;
	uint64_t first = chance_of(cells);
	uint64_t most = chance(70) ? 3 * BLOCK_BYTES / plan.grain : cells;
	uint64_t n = 1 + chance_of(most);
	uint64_t end;

	if (range_end >= w->first && range_end < w->end && chance(plan.order_percent)) {
		first = (range_end - w->first) / plan.grain;
	} else if (chance(30)) { /* in whole blocks */
		first -= first % (BLOCK_BYTES / plan.grain);
		n = (n + BLOCK_BYTES / plan.grain - 1) / (BLOCK_BYTES / plan.grain) * (BLOCK_BYTES / plan.grain);
	}
	end = w->first + (first + n) * plan.grain;
	*offset = w->first + first * plan.grain;
	*length = (uint32_t)((end < w->end ? end : w->end) - *offset);
	range_end = *offset + *length;
}

/* A request without data may be longer than any memory: up to 4 GiB - 1. */
static void draw_long(struct slot *s)
{
	uint64_t most = plan.size_bytes - s->offset < UINT32_MAX ? plan.size_bytes - s->offset : UINT32_MAX;
	uint64_t n = chance(50) ? most : 1 + chance_of(most);

	if (s->req.type == NBD_CMD_READ || s->req.type == NBD_CMD_WRITE || s->req.type == NBD_CMD_FLUSH)
		return;
	if (s->req.type == NBD_CMD_CACHE && plan.gap == GAP_ZERO)
		return; /* that would be asked from the origin, byte by byte */
	if (s->offset + n != plan.size_bytes)
		n -= (s->offset + n) % plan.grain;
	if (n)
		s->length = (uint32_t)n;
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

static bool is_write(const struct slot *s)
{
	return s->req.type == NBD_CMD_WRITE || s->req.type == NBD_CMD_WRITE_ZEROES || s->req.type == NBD_CMD_TRIM;
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
	r = s->req;
	r.flags |= 1 << 15;
	if (!core_check(&core, &r))
		broken("a flag of no command is taken");
	r = s->req;
	r.type = chance(50) ? NBD_CMD_DISC : (uint16_t)(NBD_CMD_BLOCK_STATUS + 1 + chance_of(100));
	if (!core_check(&core, &r))
		broken("command %u is taken", r.type);
}

/* What a READ brings of itself, what may come around it, and ahead of it. */
static void want_more(uint64_t first, uint64_t end)
{
	uint64_t wide = READAHEAD_WIDE_BLOCKS;
	uint64_t around = (end + wide - 1) / wide * wide;
	uint64_t ahead = end + READAHEAD_BLOCKS_MAX;
	uint64_t stop = around > ahead ? around : ahead;

	origin_want(first / wide * wide, stop < core.map.blocks ? stop : core.map.blocks);
}

/* Which blocks somebody may want from the origin (rule 6). */
static void note_wanted(const struct slot *s)
{
	uint64_t first = s->offset / BLOCK_BYTES;
	uint64_t end = s->offset + s->length;

	switch (s->req.type) {
	case NBD_CMD_READ:
		want_more(first, map_blocks(end));
		break;
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

void note_read(uint64_t offset, uint32_t length)
{
	struct request r = { .type = NBD_CMD_READ, .offset = offset, .length = length };

	want_more(offset / BLOCK_BYTES, map_blocks(offset + length));
	traces_note(&r);
}

static size_t buffer_bytes(const struct slot *s)
{
	switch (s->req.type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return s->length;
	case NBD_CMD_BLOCK_STATUS:
		return sizeof(struct extents);
	default:
		return 0;
	}
}

/* The core gets it, perhaps some time after a front has sent it. */
static void hand_over(struct slot *s)
{
	unsigned waiting = core.waiting;

	s->queued = 0;
	s->sent_ms = now_ms;
	if (is_write(s))
		compare_touch(s->offset / BLOCK_BYTES, map_blocks(s->offset + s->length));
	note_wanted(s);
	traces_note(&s->req);
	event("a client sends %s%s%s%s at %llu+%u", type_name(&s->req), s->req.flags & NBD_CMD_FLAG_FUA ? " FUA" : "",
	      s->req.flags & NBD_CMD_FLAG_FAST_ZERO ? " FAST_ZERO" : "",
	      s->req.flags & NBD_CMD_FLAG_NO_HOLE ? " NO_HOLE" : "", (unsigned long long)s->offset, s->length);
	count(COUNT_REQUESTS);
	core_submit(&core, &s->req);
	if (origin_loss == LOST && no_conn() && core.waiting > waiting && !disk_pending())
		broken("a request waits for an origin that is lost for longer than --hold");
}

/* A front's requests, in order. */
static bool hand_over_one(void)
{
	struct slot *next = NULL;
	unsigned i;

	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].queued && (!next || slots[i].queued < next->queued))
			next = &slots[i];
	if (next)
		hand_over(next);
	return next;
}

/* Every second one is sent through a front, which decides by what is published. */
static bool is_of_front(const struct slot *s)
{
	return plan.rings && (s - slots) % 2;
}

static bool has_to_wait(struct slot *s)
{
	return is_of_front(s) ? !core_is_published(&core, s->offset, s->length) : core_misses(&core, &s->req);
}

static void submit(struct slot *s)
{
	memset(s, 0, sizeof(*s));
	draw_range(&s->offset, &s->length);
	s->req.type = draw_type();
	if (is_write(s) && plan.calm && !chance(3))
		s->req.type = NBD_CMD_READ;
	if (plan.gap != GAP_NONE && chance(20))
		draw_long(s);
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
	s->req.owner = owner_of(s);
	s->buf = malloc(buffer_bytes(s));
	s->req.buf = s->buf;
	s->sent = sim_time;
	check_refusals(s);
	if (core_check(&core, &s->req)) {
		free(s->buf);
		s->buf = NULL;
		if (!core.readonly)
			broken("a good request is refused");
		return;
	}
	if (is_write(s)) {
		if (plan.readonly)
			broken("%s is taken by a target that is read only", type_name(&s->req));
		fill(s);
	}
	if (s->req.type == NBD_CMD_READ && (has_to_wait(s) || chance(10)))
		s->req.buf = NULL;
	s->live = true;
	if (is_of_front(s))
		s->queued = ++handed;
	else
		hand_over(s);
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

/* A piece, which ends between two sectors. */
static void read_piece(struct slot *s)
{
	uint32_t rest = s->length - s->read;
	uint32_t n = chance(50) ? rest : (uint32_t)chance_of(rest) + 1;

	s->req.offset = s->offset + s->read;
	if (n < rest)
		n += (uint32_t)(-(s->req.offset + n) % 512);
	s->req.length = n < rest ? n : rest;
	s->req.buf = s->buf + s->read;
	s->ready = false;
	event("the client of READ at %llu+%u takes data: %llu+%u", (unsigned long long)s->offset, s->length,
	      (unsigned long long)s->req.offset, s->req.length);
	count(COUNT_PIECES);
	if (is_of_front(s) && core_is_published(&core, s->req.offset, s->req.length)) {
		disk_image_read(s->req.buf, s->req.offset, s->req.length);
		port_reply(&core, &s->req);
		return;
	}
	core_read(&core, &s->req);
}

static bool read_one(void)
{
	unsigned i;

	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].ready) {
			read_piece(&slots[i]);
			return true;
		}
	return false;
}

static void abandon(struct slot *s)
{
	while (s->queued && hand_over_one())
		;
	if (!s->live)
		return;
	event("the client of %s at %llu+%u has gone", type_name(&s->req), (unsigned long long)s->offset, s->length);
	count(COUNT_ABANDONED);
	s->abandoned = true;
	if (s->ready)
		port_reply(&core, (s->ready = false, &s->req));
	else
		core_abandon(&core, &s->req);
}

/* With all of its requests. */
static void client_leaves(void)
{
	const void *owner = owner_of(&slots[chance_of(DEPTH_MAX)]);
	struct slot *s;

	for (s = slots; s < slots + DEPTH_MAX; s++)
		if (owner_of(s) == owner)
			abandon(s);
}

void run_check_lost(void)
{
	if (origin_loss == LOST && no_conn() && core.waiting && core.waiting == live_count() && !disk_pending())
		broken("a request still waits for an origin that is lost for longer than --hold");
}

static void check_hold(void)
{
	unsigned i;

	for (i = 0; plan.hold_ms && i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].req.fetch && core.waiting == live_count() &&
		    waited_ms(&slots[i]) > plan.hold_ms && !disk_pending())
			broken("a request waits for %llu ms", (unsigned long long)waited_ms(&slots[i]));
}

/* Whoever asks about holes waits so long for an origin that is silent, and no longer. */
static void check_status(void)
{
	uint64_t most = plan.hold_ms && plan.hold_ms < STATUS_WAIT_MS ? plan.hold_ms : STATUS_WAIT_MS;
	unsigned i;

	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live && !slots[i].queued && slots[i].req.type == NBD_CMD_BLOCK_STATUS && core.queries && !core.ranges.oldest &&
		    !disk_has(&slots[i].req.io) && (now_ms - slots[i].sent_ms >= most || core_deadline(&core) > now_ms + 100))
			broken("BLOCK_STATUS waits for the origin for %llu ms", (unsigned long long)(now_ms - slots[i].sent_ms));
}

/* The core has to ask for the time of what it does by itself: nobody else wakes it. */
static void check_deadline(void)
{
	uint64_t at = core_deadline(&core);
	bool dirty = core.map.dirty_chunks || core.commit.image_dirty;
	unsigned i;

	if (core.mode == MODE_PROXY && dirty && !core.commit.error && !core.commit.timer.done &&
	    at > core.commit.last_ms + COMMIT_INTERVAL_MS)
		broken("nobody is woken for the next commit");
	for (i = 0; plan.hold_ms && i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].req.fetch && core.waiting == live_count() && !disk_pending() &&
		    at > now_ms + plan.hold_ms)
			broken("nobody is woken for --hold");
}

/* --hold while it runs. */
static void hold_step(void)
{
	plan.hold_ms = chance(50) ? 0 : chance(50) ? 3000 : 100 + chance_of(500);
	event("--hold is %llu ms", (unsigned long long)plan.hold_ms);
	origin_loss = NOT_LOST;
	note_waiting();
	core_hold(&core, plan.hold_ms);
	check_hold();
}

/* Another proxy comes or goes: the memory is shared anew. */
static void share_step(void)
{
	uint64_t bytes = FETCH_WINDOW_BYTES_MIN * chance_of(5);

	event("its share is %llu bytes", (unsigned long long)bytes);
	origin_share = bytes < FETCH_WINDOW_BYTES_MIN ? FETCH_WINDOW_BYTES_MIN : bytes;
	core_share(&core, bytes);
}

static void advance(uint64_t ms)
{
	enum loss was;

	if (map_is_complete(&core.map) != !copier_eta_s(&core))
		broken("the copy has %llu s to go", (unsigned long long)copier_eta_s(&core));
	now_ms += ms;
	event("%llu ms go by", (unsigned long long)ms);
	count(COUNT_TICKS);
	note_waiting();
	was = origin_loss;
	core_tick(&core, now_ms);
	if (was == LOST)
		run_check_lost();
	origin_tick();
	check_hold();
	check_status();
	check_deadline();
}

/* To the moment for which the core asks, as the server does, or to any other. */
static void tick_step(void)
{
	uint64_t at = core_deadline(&core);

	if (at != UINT64_MAX && chance(50))
		advance(at > now_ms ? at - now_ms : 0);
	else
		advance(chance(80) ? chance_of(300) : chance_of(10000));
}

/* The header of the commit file, which the server writes, could not be synced. */
static void foreign_sync_fails(void)
{
	event("a sync outside of the core fails");
	count(COUNT_SYNC_FAULTS);
	core_sync_failed(&core, EIO);
}

static const char *job_words(unsigned what)
{
	static const char *const words[] = { "pause", "resume", "cancel", "start", "start", "start",
					     "cancel and start", "cancel and start" };

	return words[what];
}

static void job_step(void)
{
	unsigned what = (unsigned)chance_of(9);

	if (what == 8) {
		traces_prefetch();
		return;
	}
	event("the copy: %s", job_words(what));
	count(COUNT_JOB_VERBS);
	switch (what) {
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
	bool was_on;

	(void)w;
	switch_running = false;
	trace("switched: %d", error);
	if (error) {
		if (!core.commit.error && !(plan.cover && plan.start_mille))
			broken("the switch failed, and nothing is wrong");
		if (core.commit.error)
			check_told();
		return;
	}
	if (!plan.target)
		count(switch_forced ? COUNT_SWITCHED_BY_FORCE : COUNT_SWITCHED);
	forced_target = !map_is_complete(&core.map);
	if (forced_target && !switch_forced)
		broken("rule 10: switched with blocks missing");
	if (core.mode != MODE_TARGET || !origin_closed)
		broken("switched, but not a target");
	if (prefetch_is_on(&core))
		broken("switched, and a trace is still to be fetched");
	if (plan.target)
		return;
	copy = malloc(map_bytes(plan.size_bytes));
	memcpy(copy, bits, map_bytes(plan.size_bytes));
	memset(&m, 0, sizeof(m));
	was_on = faults_on;
	faults_on = false;
	map_init(&m, plan.size_bytes, copy, false);
	faults_on = was_on;
	if (!switch_forced && !map_is_complete(&m))
		broken("rule 10: switched with blocks not committed");
	map_free(&m);
	free(copy);
}

static void switch_step(bool force)
{
	const char *why;

	if (switch_running || (core.mode == MODE_TARGET && !plan.target))
		return;
	event("switch%s", force ? " by force" : "");
	count(COUNT_SWITCH_VERBS);
	switch_running = true;
	switch_forced = force;
	if (!map_is_complete(&core.map))
		compare_lose();
	switch_waiter.done = switched;
	why = core_switch(&core, force, &switch_waiter);
	if (!why)
		return;
	switch_running = false;
	if (!core.commit.error && !core.bitmap_error && (force || map_is_complete(&core.map)))
		broken("the switch is refused, and nothing is wrong: %s", why);
}

/* ---- the files of a switch ---------------------------------------------------------------------- */

static bool switching, switches_complete; /* the core waits for it */
static bool was_switched; /* the switch was answered, and no block was missing */

void port_switch(struct core *c, bool complete)
{
	if (complete && !map_is_complete(&c->map))
		broken("a switch with blocks missing is recorded as complete");
	if (!complete && !start_is_covered())
		broken("there is nothing to record");
	if (!complete && !switch_forced)
		broken("a switch without missing blocks is not recorded as complete");
	switching = true;
	switches_complete = complete;
}

static void crash(bool power);

static bool switch_files_step(void)
{
	bool was_covered = start_is_covered();
	int error;
	uint64_t b;

	if (!switching)
		return false;
	for (b = 0; was_covered && b < map_blocks(plan.size_bytes) && b < 256; b++)
		if (disk_is_busy(b))
			broken("block %llu is written while the cover goes", (unsigned long long)b);
	switching = false;
	event("the switch is recorded%s", was_covered ? ", and the image gets its ends" : "");
	if (start_switch(switches_complete, &error) != START_GOOD) {
		count(COUNT_SWITCH_CRASHES);
		crash(chance(50));
		return true;
	}
	count(error ? COUNT_SWITCH_FAULTS : was_covered ? COUNT_UNCOVERED : COUNT_RECORDED);
	if (start_is_covered() != (was_covered && error))
		broken("covered or not: %d", error);
	was_switched = !error && switches_complete;
	core_switched(&core, error);
	return true;
}

/* ---- start and crash --------------------------------------------------------------------------- */

static bool start_crashed; /* the last one has died at least once before it worked */

/* The bitmap; the server dies, and is started again, until all of it works. */
static uint64_t *start_store(bool *all_dirty, bool switched)
{
	uint64_t *words = NULL;
	enum start_end how;
	bool power;

	for (;; start_crashed = true) {
		count(COUNT_STARTS);
		how = start_files(&words, all_dirty, switched);
		if (how != START_DIED || !memory_has_failed()) /* of that */
			compare_begun(start_words(), start_written());
		if (start_missed_header()) {
			event("a start could not read all of the header");
			model_crash(false, true);
			fronts_crash(true);
		}
		switch (how) {
		case START_GOOD:
			return words;
		case START_DIED:
			memory_crash();
			if (start_trusts_committed()) {
				event("a start has died of a sync, and said so");
				model_crash(false, true);
				fronts_crash(true);
			}
			break;
		case START_CRASHED:
			/* What another program has left is not safe before it is adopted. */
			power = adopted && chance(50);
			event("%s in the middle of a start", power ? "power cut" : "kill -9");
			count(power ? COUNT_POWER_CUTS : COUNT_KILLS);
			memory_crash();
			disk_crash(power);
			if (power)
				start_power_cut();
			model_crash(power, power);
			fronts_crash(power);
		}
	}
}

/* known: the program before it has done that, and this one is told. Else the files tell it, whatever has happened since. */
static bool is_switched(bool known)
{
	if (was_switched && !start_is_switched())
		broken("it was switched, and a start takes it for a cache");
	was_switched |= start_is_switched();
	return known || start_is_switched();
}

/* switched: as `known`. */
static void start(bool switched)
{
	struct core_config config = { .size_bytes = plan.size_bytes, .proxy = !plan.target, .readonly = plan.readonly,
				      .hold_ms = plan.hold_ms, .fetch_window = 1, .now_ms = now_ms };
	unsigned had;

	origin_share = FETCH_WINDOW_BYTES_MIN;
	start_crashed = false;
	for (;; start_crashed = true) {
		if (!plan.target) {
			config.words = start_store(&config.all_dirty, switched);
			config.covered = start_is_covered();
			config.written = start_written();
			config.switched = switched = is_switched(switched);
		}
		config.published = fronts_bits();
		memset(&core, 0, sizeof(core));
		had = memory_count();
		if (core_init(&core, &config))
			break;
		if (!memory_has_failed())
			broken("a start fails, and nothing is wrong");
		core_free(&core);
		if (memory_count() != had)
			broken("allocations are left of a start that failed");
		memory_crash();
	}
	traces_start(!config.switched, start_crashed);
	adopted = true;
	switch_running = switching = false;
	forced_target = switched && !map_is_complete(&core.map);
	if (forced_target && start_is_switched())
		broken("the commit file says that it was switched, and blocks are missing");
	if (start_is_switched())
		count(COUNT_STARTS_SWITCHED);
	origin_closed = plan.target || switched;
	origin_answered_ms = now_ms;
	origin_loss = NOT_LOST;
	compare_started();
	fronts_started();
	audit();
}

static void slot_free(struct slot *s)
{
	free(s->buf);
	s->buf = NULL;
	s->live = false;
}

static void crash(bool power)
{
	/* After a sync that failed, one of the end among them, the next start trusts what was committed, as after a
	 * power cut (store_distrust()). */
	bool committed_only = power || core.commit.error || (!plan.target && start_distrusts());
	unsigned i;

	traces_check();
	fronts_audit();
	event("%s", power ? "power cut" : "kill -9");
	count(power ? COUNT_POWER_CUTS : COUNT_KILLS);
	disk_crash(power);
	if (power)
		start_power_cut();
	origin_crash();
	memory_crash();
	model_crash(power, committed_only);
	fronts_crash(committed_only);
	for (i = 0; i < DEPTH_MAX; i++)
		slot_free(&slots[i]);
	start(false);
}

/* The oldest of those that are not answered, of those sent after `sent`. NULL: there is none. */
static struct slot *slot_after(uint64_t sent)
{
	struct slot *next = NULL;
	unsigned i;

	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live && slots[i].sent > sent && (!next || slots[i].sent < next->sent))
			next = &slots[i];
	return next;
}

/* A READ whose client has taken data goes on with the rest: its blocks are local. All else is done from the
 * beginning, but for what nobody waits for. */
static void do_again(struct slot *s)
{
	struct request r = { .type = s->req.type, .flags = s->req.flags, .owner = s->req.owner, .buf = s->buf,
			     .offset = s->offset, .length = s->length };

	if (s->queued)
		return; /* the core never had it */
	if (s->abandoned) {
		if (s->write)
			model_forget(s->write);
		slot_free(s);
		return;
	}
	s->req = r;
	s->ready = s->read;
	if (s->read)
		return;
	if (r.type == NBD_CMD_READ && has_to_wait(s))
		s->req.buf = NULL;
	hand_over(s);
}

/* Another program takes the place of the server's: kill -9 for the core and the files, but the requests
 * that are not answered come again, in their order; and the errors of syncs are waited for, which the kernel tells once. */
static void exchange(void)
{
	bool switched = core.mode == MODE_TARGET;
	uint64_t sent = 0;
	struct slot *s;

	if (plan.target)
		return;
	disk_end_syncs(true);
	if (switch_running || core.commit.error || core.bitmap_error)
		return;
	traces_check();
	fronts_audit();
	event("the program is exchanged");
	count(COUNT_EXCHANGES);
	traces_exchange();
	disk_crash(false);
	origin_crash();
	memory_crash();
	fronts_crash(false);
	start(switched);
	if (start_crashed) { /* the new program has died: then its clients are gone, too */
		model_crash(false, false);
		for (s = slots; s < slots + DEPTH_MAX; s++)
			slot_free(s);
		return;
	}
	while ((s = slot_after(sent))) {
		sent = s->sent;
		do_again(s);
	}
}

static struct commit_waiter last_commit;

static void last_commit_done(struct commit_waiter *w, int error)
{
	if (!error)
		model_flushed(sim_time);
	w->done = NULL;
}

static bool is_quiet(void)
{
	return !core.ranges.oldest && !core.persist_now && !core.persist_next && core.commit.state == COMMIT_IDLE &&
	       !last_commit.done && !disk_pending();
}

/* As the server does it: what waits for the origin is given up, the rest is finished, and
 * committed. What is on its way from the origin may still be stored. */
static void finish(void)
{
	unsigned i;

	while (hand_over_one() || fronts_step())
		;
	core_job_cancel(&core);
	core_verify_cancel(&core);
	for (i = 0; i < DEPTH_MAX; i++)
		if (slots[i].live) {
			slots[i].abandoned = true;
			if (!slots[i].ready)
				core_abandon(&core, &slots[i].req);
		}
	while (live_count() && (read_one() || disk_step() || origin_step()))
		;
	last_commit.done = last_commit_done;
	core_commit(&core, &last_commit);
	core_tick(&core, now_ms);
	while (!is_quiet() && disk_step())
		;
}

/* True: the server has died of it, and is started again. */
static bool tick_header(void)
{
	enum start_end end = start_tick();

	if (end != START_GOOD)
		crash(end == START_DIED || chance(50));
	return end != START_GOOD;
}

/* Ends the server in good order and starts it again; the machine may go down between. */
static void restart(void)
{
	bool power = chance(30);

	if (plan.target || switch_running)
		return;
	event("the server ends%s", power ? ", and then the machine goes down" : "");
	count(COUNT_GOOD_ENDS);
	finish();
	if (tick_header())
		return;
	if (!live_count() && is_quiet() && !core.commit.error && !core.bitmap_error)
		start_save();
	crash(power);
}

/* ---- a run ---------------------------------------------------------------------------------------- */

static void link_step(void)
{
	unsigned link = (unsigned)chance_of(CONNS);

	if (chance(3))
		origin_reconnect();
	else if (core.conn[link].up && chance(10))
		origin_down(link);
	else if (!core.conn[link].up && (link == CONN_CLIENT || origin_copy_wanted) && chance(30))
		origin_up(link);
}

/* What is on its way to the commit file may be there or not. */
static bool is_delicate(void)
{
	return core.commit.state > COMMIT_SYNC_IMAGE || core.written.now[NOTE_WRITE] || core.written.now[NOTE_SYNC];
}

static void step(void)
{
	unsigned what = (unsigned)chance_of(1000);

	if (plan.storm && chance_mille(is_delicate() ? 60 : 15))
		crash(chance(60));
	else if (what < 300)
		submit_one();
	else if (what < 600)
		disk_step();
	else if (what < 800)
		origin_step();
	else if (what < 880)
		link_step();
	else if (what < 920)
		tick_step();
	else if (what < 940)
		job_step();
	else if (what < 950)
		disk_write_back();
	else if (what < 960)
		client_leaves();
	else if (what < 970)
		audit();
	else if (what < 974)
		switch_step(false);
	else if (what < 975 && chance(50))
		switch_step(true);
	else if (what < 979 && plan.crashes)
		crash(chance(50));
	else if (what < 982)
		restart();
	else if (what < 985 && plan.crashes)
		exchange();
	else if (what < 988 && !plan.target)
		compare_step();
	else if (what < 989 && plan.fault_mille[FILE_COMMIT][IO_SYNC])
		foreign_sync_fails();
	else if (what < 991 && !live_count())
		core_alone(&core);
	else if (what < 993 && !plan.target)
		hold_step();
	else if (what < 995 && !plan.target)
		share_step();
	else
		read_one();
	if (!chance(plan.slow_percent))
		read_one();
	if (chance(50))
		hand_over_one();
	if (chance(30))
		switch_files_step();
	if (plan.fronts && chance(25))
		fronts_read();
	if (chance(40))
		fronts_step();
}

/* The next moment at which something can happen: what the core asks for, or the end of
 * the origin's time for an answer. */
static uint64_t next_ms(void)
{
	uint64_t at = core_deadline(&core), owed = origin_deadline();

	at = at < owed ? at : owed;
	if (at == UINT64_MAX)
		broken("liveness: %u requests, %u of them waiting, job %u, switch %u: nothing will ever happen",
		       live_count(), core.waiting, core.copier.status.state, switch_running);
	return at > now_ms ? at : now_ms + 1;
}

/* Clients who ask again and again for what the origin cannot read, as long as the copy runs: by
 * then always one of them has something under way. */
static uint64_t stubborn[2]; /* blocks */
static bool stubborn_on;

static void read_begin(struct slot *s, uint64_t first, uint64_t end);

static void ask_again(void)
{
	unsigned i;

	stubborn_on &= core.copier.status.state == JOB_RUNNING;
	for (i = 0; stubborn_on && i < 2; i++)
		if (!slots[i].live) {
			uint64_t end = (stubborn[i] + 1) * BLOCK_BYTES;

			read_begin(&slots[i], stubborn[i] * BLOCK_BYTES, end < plan.size_bytes ? end : plan.size_bytes);
		}
}

/* Nothing goes wrong any more: everything comes to its end. */
static void drain(void)
{
	unsigned n;

	for (n = 0; n < DRAIN_MAX; n++) {
		sim_time++;
		turns_look();
		ask_again();
		if (!origin_closed) {
			origin_up(CONN_CLIENT);
			if (origin_copy_wanted)
				origin_up(CONN_COPIER);
		}
		if (read_one() || hand_over_one() || fronts_step() || switch_files_step())
			continue;
		if (chance(50) ? disk_step() || origin_step() : origin_step() || disk_step())
			continue;
		start_tick();
		if (!live_count() && core.copier.status.state != JOB_RUNNING && core.verify.status.state != JOB_RUNNING && !prefetch_is_on(&core) && !switch_running && !core.commit.timer.done)
			return;
		advance(next_ms() - now_ms);
	}
	broken("liveness: %u requests, %u of them waiting, job %u, switch %u: no end of it", live_count(),
	       core.waiting, core.copier.status.state, switch_running);
}

static void read_begin(struct slot *s, uint64_t first, uint64_t end)
{
	memset(s, 0, sizeof(*s));
	s->offset = s->req.offset = first;
	s->length = s->req.length = (uint32_t)(end - first);
	s->req.buf = s->buf = malloc(s->length);
	s->req.owner = owner_of(s);
	s->sent = sim_time;
	s->sent_ms = now_ms;
	s->live = true;
	origin_want(first / BLOCK_BYTES, map_blocks(end));
	core_submit(&core, &s->req);
}

static void read_window(const struct window *w)
{
	read_begin(&slots[0], w->first, w->end);
	drain();
}

/* Two missing blocks that the origin cannot read, where there are two. */
static void find_stubborn(void)
{
	unsigned i, n = 0;
	uint64_t b;

	for (i = 0; i < plan.windows; i++)
		for (b = plan.window[i].first / BLOCK_BYTES; n < 2 && b < plan.window[i].end / BLOCK_BYTES; b++)
			if (core.mode == MODE_PROXY && origin_is_bad(b) && !map_is_local(&core.map, b))
				stubborn[n++] = b;
	stubborn_on = n == 2;
}

static void read_all(void)
{
	unsigned i;

	for (i = 0; i < plan.windows; i++)
		read_window(&plan.window[i]);
}

/* The copy brings all but what the origin cannot read and nobody has written. */
static void finish_copy(void)
{
	uint64_t b;

	core_job_cancel(&core);
	origin_want(0, core.map.blocks);
	find_stubborn();
	core_job_start(&core, 0, 0);
	drain();
	if (core.mode == MODE_TARGET || disk_has_failed() || core.commit.error || core.bitmap_error)
		return;
	for (b = 0; (b = map_next_missing(&core.map, b, core.map.blocks)) < core.map.blocks; b++)
		if (!origin_is_bad(b) || core.copier.status.state != JOB_FAILED)
			broken("the copy has ended (%u), block %llu is missing", core.copier.status.state, (unsigned long long)b);
}

static void begin(void)
{
	chance_step(0);
	sim_time = 0;
	faults_on = true;
	now_ms = chance_of(1 << 30);
	range_end = 0;
	draw_plan();
	memory_crash(); /* nothing has failed yet */
	model_begin();
	disk_begin();
	compare_begin();
	origin_begin();
	traces_begin();
	fronts_begin();
	turns_begin();
	event("%s of %llu bytes%s, requests in units of %u", plan.target ? "a target" : "a proxy",
	      (unsigned long long)plan.size_bytes,
	      plan.gap == GAP_NONE ? "" : plan.gap == GAP_ZERO ? ", zero between the windows" : ", local between the windows",
	      plan.grain);
	adopted = !plan.adopt;
	was_switched = false;
	start_begin(plan.adopt);
	start(false);
	origin_up(CONN_CLIENT);
}

/* What everything has to come to. */
static void end(void)
{
	sim_time = STEPS_MAX;
	chance_step(sim_time);
	traces_check();
	event("from here on nothing goes wrong: all is answered, copied, switched and read");
	origin_down(CONN_CLIENT);
	origin_down(CONN_COPIER);
	faults_on = false;
	drain();
	finish_copy();
	read_all();
	if (!plan.target) {
		core_verify_cancel(&core);
		compare_order();
		drain();
	}
	switch_step(false);
	drain();
	read_all();
	if (was_switched && plan.crashes) { /* which asks nobody any more */
		core_record_end(&core); /* it was looked at */
		crash(chance(50));
		read_all();
	}
	audit();
	core_free(&core);
	start_free();
	if (memory_count())
		broken("%u allocations of the core are left", memory_count());
	compare_end();
	origin_end();
	traces_end();
	fronts_end();
	model_end();
}

void run(uint64_t seed, const uint8_t *keep)
{
	uint64_t steps, i;
	bool crash_last;

	chance_begin(seed);
	steps = 100 + chance_of(1500);
	crash_last = chance(30);
	begin();
	for (i = 1; i <= steps + 1; i++) {
		sim_time = i;
		if (keep && !keep[i])
			continue;
		chance_step(i);
		if (i <= steps)
			step();
		else if (crash_last && plan.crashes)
			crash(chance(50));
		tick_header();
		turns_look();
	}
	end();
}
