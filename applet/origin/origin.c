/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * An origin: its connections, and the core's ports to them.
 *
 * The client connection is kept up as long as the origin is needed: lost, it is tried
 * again with a growing pause; the copier's connection exists while the copy runs, when
 * the origin says that it takes several connections ("NBD_FLAG_CAN_MULTI_CONN").
 */
#include "libbb.h"
#include "origin/internal.h"

enum {
	PAUSE_MIN_MS = 100,
	PAUSE_MAX_MS = 5000,
	PAUSE_HOLD_MAX_MS = 1000, /* with --hold, requests fail while the origin is back and we do not know it */
};

void (*origin_closed)(const struct disk *d);

struct core *origin_core(struct origin *o)
{
	return o->disk->core;
}

struct disk *origin_disk(struct origin *o)
{
	return o->disk;
}

/* ---- attempts ---------------------------------------------------------------------- */

/* The address that is tried. */
static struct address *address_of(struct origin *o)
{
	return o->candidate.at.host ? &o->candidate : &o->address;
}

static void attempt(struct origin *o, unsigned slot)
{
	const struct address *a = address_of(o);

	timer_clear(&o->retry[slot]);
	if (o->closed || o->conn[slot].phase != CONN_DOWN)
		return;
	o->conn[slot].psk = a->at.psk;
	conn_connect(&o->conn[slot], a->at.host, a->at.port, a->at.name, a->plain);
}

static void retry_client(struct timer *t)
{
	attempt(container_of(t, struct origin, retry[CONN_CLIENT]), CONN_CLIENT);
}

static void copy_conn_begin(struct origin *o)
{
	if (o->copy_wanted && !o->header_busy && o->conn[CONN_CLIENT].phase == CONN_UP && !o->candidate.at.host &&
	    (o->conn[CONN_CLIENT].handshake.transmission_flags & NBD_FLAG_CAN_MULTI_CONN))
		attempt(o, CONN_COPIER);
}

static void retry_copier(struct timer *t)
{
	copy_conn_begin(container_of(t, struct origin, retry[CONN_COPIER]));
}

/* Half of the pause is by chance, so that many proxies do not come back at once. */
static void retry_later(struct origin *o, unsigned slot)
{
	static uint32_t chance;
	unsigned pause = o->pause_ms[slot], max = o->disk->core && core_hold_ms(o->disk->core) ? PAUSE_HOLD_MAX_MS : PAUSE_MAX_MS;

	chance = chance * 1103515245 + (uint32_t)loop_now_ms() + 12345;
	pause = pause < PAUSE_MIN_MS ? PAUSE_MIN_MS : pause * 2;
	pause = pause < max ? pause : max;
	o->pause_ms[slot] = pause;
	timer_set(&o->retry[slot], loop_now_ms() + pause / 2 + chance % (pause / 2));
}

void origin_report(struct origin *o, const char *error, bool refused)
{
	origin_callback *done = o->done;

	o->done = NULL;
	if (done)
		done(o->done_ctx, error, refused);
}

/* ---- what a connection tells -------------------------------------------------------------- */

/* An attempt has failed before its handshake was done. True: tries again at once, with a plain
 * handshake (see nbd.h). The kind that works is kept until it fails or the address changes. */
static bool try_plain(struct origin *o, unsigned slot)
{
	struct address *a = address_of(o);

	a->plain = !a->plain && o->conn[slot].tripped;
	if (a->plain)
		attempt(o, slot);
	return a->plain;
}

void origin_conn_failed(struct origin *o, unsigned slot, const char *why)
{
	bool first = !o->known;

	o->disk->origin_failures += slot == CONN_CLIENT;
	if (o->started)
		core_conn_down(o->disk->core, slot);
	if (!o->conn[slot].shaken && try_plain(o, slot))
		return;
	if (slot == CONN_COPIER) {
		retry_later(o, slot);
		return;
	}
	if (o->candidate.at.host) {
		/* The old one stays; it is tried at once. */
		address_clear(&o->candidate);
		origin_report(o, why, true);
		if (!first)
			attempt(o, slot);
		return;
	}
	if (first || strcmp(o->last_error, why) != 0) {
		snprintf(o->last_error, sizeof(o->last_error), "%s", why);
		if (first) {
			origin_report(o, why, true);
			return;
		}
		disk_error_msg(o->disk, "origin %s:%s: %s; trying again", o->address.at.host, o->address.at.port, why);
	}
	retry_later(o, slot);
}

void origin_tell_core(struct origin *o, unsigned slot)
{
	const struct nbd_client_handshake *h = &o->conn[slot].handshake;
	uint32_t unit = h->min_block > BLOCK_BYTES ? h->min_block / BLOCK_BYTES : 1;
	uint32_t max = h->max_payload / BLOCK_BYTES / unit * unit;
	struct conn_state state = {
		.unit_blocks = unit,
		.max_blocks = max < FETCH_BLOCKS_MAX ? max : FETCH_BLOCKS_MAX,
		.can_status = h->allocation,
	};

	core_conn_up(o->disk->core, slot, &state);
}

void origin_conn_use(struct origin *o, const char *error)
{
	if (o->started && o->conn[CONN_CLIENT].phase == CONN_UP)
		origin_tell_core(o, CONN_CLIENT);
	origin_report(o, error, false);
	copy_conn_begin(o);
}

/* One that comes up only to go down again is not back. */
void origin_conn_steady(struct origin *o, unsigned slot)
{
	o->pause_ms[slot] = 0;
	if (slot == CONN_CLIENT)
		o->up_ms = loop_now_ms();
	if (slot != CONN_CLIENT || !o->last_error[0])
		return;
	disk_error_msg(o->disk, "origin %s:%s: is back", o->address.at.host, o->address.at.port);
	o->last_error[0] = '\0';
}

/* ---- for the server -------------------------------------------------------------------- */

struct origin *origin_new(struct disk *d, const struct origin_address *a, origin_callback *first, void *ctx)
{
	struct origin *o = xzalloc(sizeof(*o));
	unsigned i;

	o->disk = d;
	o->up_ms = loop_now_ms();
	d->header_saved = origin_header_saved;
	if (!address_set(&o->address, a))
		bb_simple_error_msg_and_die("out of memory");
	for (i = 0; i < CONNS; i++)
		conn_init(&o->conn[i], o, i);
	o->retry[CONN_CLIENT].fire = retry_client;
	o->retry[CONN_COPIER].fire = retry_copier;
	o->done = first;
	o->done_ctx = ctx;
	if (first)
		attempt(o, CONN_CLIENT);
	else
		o->closed = true;
	return o;
}

/* The start no longer waits for the first attempt: it goes on, or is repeated as after a loss. */
static void start_without(struct origin *o)
{
	if (!o->last_error[0])
		strcpy(o->last_error, "no answer yet");
	disk_error_msg(o->disk, "origin %s:%s: %s; continuing with local blocks", o->address.at.host, o->address.at.port, o->last_error);
	o->done = NULL;
	origin_restore_identity(o);
}

void origin_start(struct origin *o)
{
	o->started = true;
	/* An earlier start may have known more of our disk than this one could read. */
	if (o->known)
		o->fingerprint = o->disk->header.fingerprint;
	else if (!o->closed)
		start_without(o);
	if (o->conn[CONN_CLIENT].phase == CONN_UP)
		origin_tell_core(o, CONN_CLIENT);
	else if (!o->closed)
		attempt(o, CONN_CLIENT);
}

void origin_resume(struct origin *o)
{
	origin_restore_identity(o);
	origin_start(o);
}

static void conns_close(struct origin *o)
{
	unsigned i;

	for (i = 0; i < CONNS; i++) {
		timer_clear(&o->retry[i]);
		conn_close(&o->conn[i]);
	}
}

/* What was asked over them is asked again, over whatever comes up. */
static void conns_drop(struct origin *o)
{
	unsigned i;

	for (i = 0; i < CONNS; i++) {
		timer_clear(&o->retry[i]);
		conn_close(&o->conn[i]);
		core_conn_down(o->disk->core, i);
	}
}

bool origin_is_busy(const struct origin *o)
{
	return o->done || o->header_busy;
}

/* NULL, or why not: then all is as it was. */
static const char *reconnect_begin(struct origin *o, const struct origin_address *a)
{
	if (origin_is_busy(o))
		return "another reconnect is under way";
	if (!address_set(&o->candidate, a))
		return "out of memory";
	origin_restore_identity(o);
	/* The old connections first: one that is half open would else block what comes. */
	conns_drop(o);
	return NULL;
}

const char *origin_reconnect(struct origin *o, const struct origin_address *a, bool force, origin_callback *done, void *ctx)
{
	const char *why = reconnect_begin(o, a);

	if (why)
		return why;
	o->force = force;
	o->done = done;
	o->done_ctx = ctx;
	attempt(o, CONN_CLIENT);
	return NULL;
}

const char *origin_adopt(struct origin *o, int fd, origin_callback *done)
{
	struct endpoint peer = { .bytes = sizeof(peer.address) };
	char host[ENDPOINT_TEXT_BYTES], port[8];
	/* Where it will be looked for when this connection is lost. */
	struct origin_address a = o->address.at;
	const char *why;

	if (getpeername(fd, &peer.address.any, &peer.bytes) == 0 && endpoint_text(&peer, host, port)) {
		a.host = host;
		a.port = port;
	}
	why = reconnect_begin(o, &a);
	if (why)
		return why;
	o->force = false;
	o->done = done;
	o->done_ctx = o->disk;
	conn_adopt(&o->conn[CONN_CLIENT], fd, o->size_bytes);
	return NULL;
}

void origin_hurry(struct origin *o)
{
	struct conn *l = &o->conn[CONN_CLIENT];

	if (!o->started)
		return;
	if (l->phase < CONN_HANDSHAKE)
		conn_close(l);
	o->pause_ms[CONN_CLIENT] = o->pause_ms[CONN_COPIER] = 0;
	attempt(o, CONN_CLIENT);
	copy_conn_begin(o);
}

const struct origin_address *origin_address(const struct origin *o)
{
	return &o->address.at;
}

const char *origin_error(const struct origin *o)
{
	return o->last_error[0] && o->conn[CONN_CLIENT].phase != CONN_UP ? o->last_error : "none";
}

const char *origin_state(const struct origin *o)
{
	static const char *const names[] = { "down", "connecting", "connecting", "handshake", "handshake", "up" };

	return o->closed ? "none" : names[o->conn[CONN_CLIENT].phase];
}

uint64_t origin_lost_ms(const struct origin *o)
{
	return o->closed || o->conn[CONN_CLIENT].phase == CONN_UP ? 0 : (loop_now_ms() - o->up_ms) | 1;
}

void origin_turn(struct origin *o)
{
	struct conn *copier = &o->conn[CONN_COPIER];

	if (!o->copy_wanted && copier->phase != CONN_DOWN && conn_is_idle(copier)) {
		conn_close(copier);
		core_conn_down(o->disk->core, CONN_COPIER);
	}
	conn_turn(&o->conn[CONN_CLIENT]);
	conn_turn(copier);
}

/* ---- ports ---------------------------------------------------------------------------- */

void port_conn_read(struct core *c, unsigned slot, uint64_t cookie, uint64_t offset, uint32_t length)
{
	uint64_t start;
	uint32_t n;
	uint8_t *buf = core_conn_buffer(c, slot, cookie, &start, &n);

	conn_send_read(&disk_of(c)->origin->conn[slot], cookie, offset, length, buf);
}

void port_conn_status(struct core *c, unsigned slot, uint64_t cookie, uint64_t offset, uint32_t length)
{
	conn_send_status(&disk_of(c)->origin->conn[slot], cookie, offset, length);
}

/* Attempts are left to the timers: one that fails at once tells the core. */
void port_copy_conn(struct core *c, bool wanted)
{
	struct origin *o = disk_of(c)->origin;

	o->copy_wanted = wanted;
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && o->started && !o->known && core_verify_is_running(c)) {
		origin_restore_identity(o);
		timer_set(&o->retry[CONN_CLIENT], loop_now_ms());
	}
	if (wanted)
		timer_set(&o->retry[CONN_COPIER], loop_now_ms());
	else
		timer_clear(&o->retry[CONN_COPIER]);
}

void port_conns_close(struct core *c)
{
	struct origin *o = disk_of(c)->origin;

	o->closed = true;
	conns_close(o);
	address_clear(&o->candidate);
	if (origin_closed)
		origin_closed(o->disk);
	origin_report(o, "the proxy was switched meanwhile and needs no origin", true);
}

#if ENABLE_FEATURE_XNBD_WRAPPER_PROXY
void origin_delete(struct origin *o)
{
	unsigned i;

	conns_close(o);
	for (i = 0; i < CONNS; i++) {
		free(o->conn[i].in);
		free(o->conn[i].out);
	}
	origin_report(o, "the proxy has ended", true);
	o->disk->origin = NULL;
	o->disk->header_saved = NULL;
	address_clear(&o->candidate);
	address_clear(&o->address);
	free(o);
}
#endif

void origin_end(struct origin *o)
{
	o->closed = true;
	conns_drop(o);
}
