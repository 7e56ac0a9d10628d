/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The port to the origin: two links, each of which comes and goes. Requests are
 * answered in any order; the buffer of one that is lost may be half filled. Some are
 * never answered: then the link is dropped after a while, as the server does it. And
 * what --reconnect finds out about another origin.
 */
#include "core/fetch.h"
#include "core/state.h"
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ASKED_MAX = 1024, OWED_MS = 30000 /* as in origin/conn.c */ };

struct asked {
	unsigned link;
	bool status, silent, verify;
	uint64_t cookie, offset, since_ms;
	uint32_t length;
};

bool origin_copy_wanted, origin_closed;
uint64_t origin_answered_ms;
enum loss origin_loss;
static uint64_t up_ms[CONNS];

static struct asked asked[ASKED_MAX];
static unsigned asked_count;
static uint64_t bad_seed;
static bool *is_wanted; /* by block */
static bool all_wanted;
static uint64_t last_cookie; /* that was answered */
static struct fingerprint known;
static uint64_t buffers, buffer_bytes; /* handed out by port_alloc() */
static uint64_t most_bytes;            /* that could be, since there was none */
uint64_t origin_share;

void origin_begin(void)
{
	asked_count = 0;
	origin_copy_wanted = origin_closed = false;
	bad_seed = chance_of(UINT64_MAX);
	buffers = buffer_bytes = 0;
	is_wanted = calloc(map_blocks(plan.size_bytes), sizeof(*is_wanted));
	all_wanted = false;
	last_cookie = 0;
	memset(&known, 0, sizeof(known));
}

void origin_want(uint64_t first, uint64_t end)
{
	all_wanted |= end - first == map_blocks(plan.size_bytes);
	for (; !all_wanted && first < end; first++)
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
	uint64_t most = origin_share / CONNS * (CLIENT_WINDOW_GROWTH + COPY_WINDOW_GROWTH);
	void *p = sim_malloc(n);

	(void)c;
	if (!p)
		return NULL;
	if (!buffers++)
		most_bytes = 0;
	if (most_bytes < most)
		most_bytes = most;
	/* What is in flight when the share shrinks may come; after that, one fetch of each kind may always be sent. */
	if (buffer_bytes + n > most_bytes || (buffer_bytes > most && core.fetch_bytes[CONN_CLIENT] && core.fetch_bytes[CONN_COPIER]))
		broken("%llu bytes of the origin in memory", (unsigned long long)(buffer_bytes + n));
	buffer_bytes += n;
	return p;
}

void port_free(struct core *c, void *p, uint32_t n)
{
	(void)c;
	sim_free(p);
	buffers--;
	buffer_bytes -= n;
}

static void count_if(bool it_is_so, enum count what)
{
	if (it_is_so)
		count(what);
}

static void ask(unsigned link, bool status, uint64_t cookie, uint64_t offset, uint32_t length)
{
	const struct conn_state *l = &core.conn[link];
	struct asked *a;

	if (!l->up || origin_closed)
		broken("link %u is down, and is asked", link);
	if (!length || offset >= plan.size_bytes || length > plan.size_bytes - offset)
		broken("rule 11: the origin is asked for %llu+%u", (unsigned long long)offset, length);
	if (offset % (l->unit_blocks * BLOCK_BYTES) ||
	    (length % (l->unit_blocks * BLOCK_BYTES) && offset + length != plan.size_bytes))
		broken("not in the origin's blocks: %llu+%u", (unsigned long long)offset, length);
	if (asked_count == ASKED_MAX)
		broken("the origin is asked for more than %u things at a time", ASKED_MAX);
	a = &asked[asked_count++];
	*a = (struct asked){ .link = link, .status = status, .cookie = cookie, .offset = offset, .length = length,
			     .since_ms = now_ms };
	a->silent = faults_on && chance_mille(plan.silent_mille);
	count_if(a->silent, COUNT_SILENT);
	trace("the origin is asked over link %u for %s at %llu+%u, cookie %llu%s", link, status ? "extents" : "bytes",
	      (unsigned long long)offset, length, (unsigned long long)cookie, a->silent ? ": it will not answer" : "");
}

static const struct fetch *sent_fetch(unsigned link, uint64_t cookie)
{
	const struct fetch *f;

	for (f = core.sent[link]; f && f->cookie != cookie; f = f->next)
		;
	if (!f)
		broken("cookie %llu is of no fetch", (unsigned long long)cookie);
	return f;
}

void port_conn_read(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	bool verify = sent_fetch(link, cookie)->verify;
	unsigned i;

	(void)c;
	turns_sent(sent_fetch(link, cookie));
	if (length > core.conn[link].max_blocks * BLOCK_BYTES)
		broken("a longer request than the origin takes");
	/* Where the origin has larger blocks, what lies around a miss may come twice. And what a
	 * client misses may become local while it is asked for, by an extent of zeroes that the copy
	 * has found; the comparison asks for what is local. */
	for (i = 0; plan.unit_blocks == 1 && i < asked_count; i++)
		if (!asked[i].status && asked[i].verify == verify && asked[i].offset < offset + length &&
		    offset < asked[i].offset + asked[i].length)
			broken("rule 5: asked twice for %llu", (unsigned long long)offset);
	for (i = 0; plan.unit_blocks == 1 && !all_wanted && i < map_blocks(length); i++)
		if (!is_wanted[offset / BLOCK_BYTES + i])
			broken("rule 6: nobody wants block %llu", (unsigned long long)offset / BLOCK_BYTES + i);
	ask(link, false, cookie, offset, length);
	asked[asked_count - 1].verify = verify;
}

void port_conn_status(struct core *c, unsigned link, uint64_t cookie, uint64_t offset, uint32_t length)
{
	(void)c;
	if (!core.conn[link].can_status)
		broken("an origin without base:allocation is asked for it");
	ask(link, true, cookie, offset, length);
}

void port_copy_conn(struct core *c, bool wanted)
{
	(void)c;
	origin_copy_wanted = wanted;
}

void port_conns_close(struct core *c)
{
	(void)c;
	origin_closed = true;
	asked_count = 0;
}

void port_job_changed(struct core *c)
{
	if (c->copier.status.state == JOB_FAILED && !c->copier.status.error)
		broken("the copy has failed, and nothing tells why");
	compare_changed();
}

/* ---- answers ---------------------------------------------------------------------------- */

static void answered(void)
{
	origin_answered_ms = now_ms;
	origin_loss = NOT_LOST;
}

static void answer_status(const struct asked *a)
{
	struct extent e[64];
	uint64_t at = a->offset, end = a->offset + a->length;
	unsigned n = 0, most = 1 + (unsigned)chance_of(64);
	int error = faults_on && plan.gap != GAP_ZERO && chance(5) ? EIO : 0; /* there it would have to do without */

	while (at < end && n < most) {
		uint64_t step = chance(70) ? BLOCK_BYTES : 512 * (1 + chance_of(40));
		uint64_t gap = gap_end(at);
		uint64_t stop = gap ? gap : at + step;

		if (stop > plan.size_bytes)
			stop = plan.size_bytes;
		/* The last one may go on beyond what was asked ("BLOCK_STATUS"). */
		if (stop > end && (gap || chance(50)))
			stop = end;
		e[n].length = (uint32_t)(stop - at);
		if (stop == plan.size_bytes && chance(20))
			e[n].length += (uint32_t)chance_of(1u << 20); /* nonsense, but of zeroes beyond the end */
		e[n++].flags = model_origin_is_zero(at, stop) && (gap || chance(90))
				       ? NBD_STATE_ZERO | (chance(50) ? NBD_STATE_HOLE : 0)
				       : 0;
		at = stop;
	}
	event("the origin answers the question for extents at %llu%s", (unsigned long long)a->offset, error ? ": EIO" : "");
	count_if(error, COUNT_ORIGIN_FAULTS);
	if (a->cookie == core.copier.status_cookie)
		answered(); /* a client's does not prolong --hold */
	if (!core_conn_status(&core, a->cookie, error, e, n))
		broken("a status request is not known any more");
}

static void answer_read(const struct asked *a)
{
	uint64_t offset;
	uint32_t length;
	uint8_t *buf = core_conn_buffer(&core, a->link, a->cookie, &offset, &length);

	if (!buf || offset != a->offset || length != a->length)
		broken("no buffer for what was asked at %llu", (unsigned long long)a->offset);
	model_bytes(0, a->offset, chance(90) ? a->length : chance_of(a->length), buf);
	if (is_bad(a)) {
		event("the origin answers the read at %llu+%u: EIO", (unsigned long long)a->offset, a->length);
		count(COUNT_ORIGIN_FAULTS);
		answered();
		core_conn_data(&core, a->link, a->cookie, EIO);
	} else if (faults_on && chance(1)) {
		event("the origin answers half of the read at %llu+%u", (unsigned long long)a->offset, a->length);
		origin_down(a->link);
	} else {
		event("the origin answers the read at %llu+%u", (unsigned long long)a->offset, a->length);
		answered();
		model_bytes(0, a->offset, a->length, buf);
		if (a->verify)
			compare_spoil(a->offset, a->length, buf);
		core_conn_data(&core, a->link, a->cookie, 0);
	}
}

/* An answer that nobody waits for: a second one, one for the other link, one for
 * nothing. The server asks the core for its buffer, and drops the link. */
static void answer_nobody(void)
{
	const struct asked *a = asked_count ? &asked[chance_of(asked_count)] : NULL;
	unsigned link = core.conn[CONN_COPIER].up && chance(50) ? CONN_COPIER : CONN_CLIENT;
	bool of_other = a && a->link != link && chance(50);
	uint64_t cookie = of_other ? a->cookie : chance(70) ? last_cookie : chance_of(UINT64_MAX);
	uint64_t offset;
	uint32_t length;

	if (!core.conn[link].up)
		return;
	event("the origin answers over link %u what nobody asked there: cookie %llu", link, (unsigned long long)cookie);
	count(COUNT_STRAY);
	if (core_conn_buffer(&core, link, cookie, &offset, &length))
		broken("a buffer for what was not asked");
	core_conn_data(&core, link, cookie, 0);
	if ((!of_other || !a->status) && core_conn_status(&core, cookie, 0, NULL, 0))
		broken("extents for what was not asked");
	origin_down(link);
}

/* One of those that will be answered, -1: there is none. */
static int draw_asked(void)
{
	unsigned i, n = 0, k;

	for (i = 0; i < asked_count; i++)
		n += !asked[i].silent;
	if (!n)
		return -1;
	k = (unsigned)chance_of(n);
	for (i = 0; asked[i].silent || k--; i++)
		;
	return (int)i;
}

bool origin_step(void)
{
	struct asked a;
	int i;

	if (faults_on && chance_mille(plan.stray_mille)) {
		answer_nobody();
		return true;
	}
	i = draw_asked();
	if (i < 0)
		return false;
	a = asked[i];
	asked[i] = asked[--asked_count];
	count(COUNT_ANSWERS);
	last_cookie = a.cookie;
	if (a.status)
		answer_status(&a);
	else
		answer_read(&a);
	return true;
}

/* ---- links -------------------------------------------------------------------------------- */

static bool is_ours(void);

void origin_up(unsigned link)
{
	static const uint32_t max_blocks[] = { 64, 64, 16, 4 };
	struct conn_state l = { .unit_blocks = 1, .max_blocks = 64, .can_status = plan.can_status };

	if (origin_closed || core.conn[link].up || !is_ours())
		return;
	if (faults_on) {
		l.unit_blocks = chance(50) ? plan.unit_blocks : 1;
		l.max_blocks = max_blocks[chance_of(4)];
		if (l.max_blocks < l.unit_blocks)
			l.max_blocks = l.unit_blocks;
	}
	event("link %u up: blocks of %u, at most %u", link, l.unit_blocks, l.max_blocks);
	up_ms[link] = now_ms;
	count(COUNT_LINKS_UP);
	core_conn_up(&core, link, &l);
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
	count_if(core.conn[link].up, COUNT_LINK_LOSSES);
	if (core.conn[link].up && now_ms - up_ms[link] >= plan.hold_ms)
		origin_loss = NOT_LOST;
	event("link %u down", link);
	forget(link);
	core_conn_down(&core, link);
	run_check_lost();
}

uint64_t origin_deadline(void)
{
	uint64_t at = UINT64_MAX;
	unsigned i;

	for (i = 0; i < asked_count; i++)
		if (asked[i].since_ms + OWED_MS + 1 < at)
			at = asked[i].since_ms + OWED_MS + 1;
	return at;
}

void origin_tick(void)
{
	unsigned i;

	for (i = 0; i < asked_count; i++)
		if (now_ms > asked[i].since_ms + OWED_MS) {
			origin_down(asked[i].link);
			i = UINT32_MAX; /* others may go with it */
		}
}

/* ---- another origin -------------------------------------------------------------------------- */

/* What its sampled blocks tell; those that cannot be read are not known. */
static void take_fingerprint(struct fingerprint *fp)
{
	uint8_t bytes[BLOCK_BYTES];
	unsigned i;

	for (i = 0; i < STATE_SAMPLES; i++) {
		uint64_t b = fingerprint_block(plan.size_bytes, i);
		uint64_t n = plan.size_bytes - b * BLOCK_BYTES;

		n = n < BLOCK_BYTES ? n : BLOCK_BYTES;
		model_bytes(0, b * BLOCK_BYTES, n, bytes);
		fp->sample[i] = origin_is_bad(b) ? 0 : fingerprint_sample(bytes, n);
	}
}

/* Another disk: one sampled block of it differs, or all that are not zero. */
static void spoil(struct fingerprint *fp)
{
	unsigned i, which = (unsigned)chance_of(STATE_SAMPLES), done = 0;
	bool all = chance(50);

	for (i = 0; i < STATE_SAMPLES; i++) {
		unsigned k = (which + i) % STATE_SAMPLES;

		if (!fp->sample[k] || (done && !all))
			continue;
		fp->sample[k] = fp->sample[k] == 1 ? 2 : fp->sample[k] - 1;
		done++;
	}
	if (!done || chance(10)) /* one that cannot be read is not known either */
		memset(fp, 0, sizeof(*fp));
}

static bool knows_any(const struct fingerprint *fp)
{
	unsigned i;

	for (i = 0; i < STATE_SAMPLES; i++)
		if (fp->sample[i])
			return true;
	return false;
}

void origin_samples(struct fingerprint *fp)
{
	if (!knows_any(&known))
		take_fingerprint(&known);
	*fp = known;
}

/* Whoever comes is looked at: perhaps another one than ours, which has to be refused. */
static bool is_ours(void)
{
	const struct state_header *h = start_header();
	uint64_t size = plan.size_bytes;
	struct fingerprint fp;

	origin_samples(&fp);
	if (fingerprint_refuse(h->size_bytes, &h->fingerprint, size, &fp, false))
		broken("rule 12: our origin is refused");
	if (!faults_on || chance(80))
		return true;
	if (chance(50))
		size += chance(50) ? 1 + chance_of(2 * BLOCK_BYTES) : (uint64_t)-1;
	else if (knows_any(&fp) && !plan.blind)
		spoil(&fp);
	else
		return true;
	event("another disk comes: of %llu bytes", (unsigned long long)size);
	count(COUNT_WRONG_ORIGIN);
	if (!fingerprint_refuse(h->size_bytes, &h->fingerprint, size, &fp, false))
		broken("rule 12: another disk is taken for ours");
	if (!fingerprint_refuse(h->size_bytes, &h->fingerprint, size, &fp, true) != (size == plan.size_bytes))
		broken("rule 12: force is for another content, not for another size");
	return false;
}

void origin_reconnect(void)
{
	struct fingerprint fp;
	bool wrong = chance(50);

	if (origin_closed)
		return;
	origin_samples(&fp);
	if (wrong && knows_any(&known)) {
		spoil(&fp);
		event("reconnect to another disk");
		count(COUNT_WRONG_ORIGIN);
		if (fingerprint_match(&fp, &known))
			broken("rule 12: another disk is taken for ours");
		return;
	}
	fp.sample[chance_of(STATE_SAMPLES - 1)] = 0; /* this one it cannot read */
	event("reconnect to the same disk elsewhere");
	count(COUNT_RIGHT_ORIGIN);
	if (knows_any(&fp) && !fingerprint_match(&fp, &known))
		broken("rule 12: the same disk is taken for another");
	origin_down(CONN_CLIENT);
	origin_down(CONN_COPIER);
	origin_up(CONN_CLIENT);
}

void origin_crash(void)
{
	asked_count = 0;
	last_cookie = 0; /* the next process counts from the beginning */
	origin_copy_wanted = origin_closed = false;
	/* Buffers went with the process. */
	buffers = buffer_bytes = 0;
}
