/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket: status and news, in lines of "KEY VALUE". */
#include "libbb.h"
#include "client/client.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/log.h"

static const char *job_name(enum job_state state)
{
	static const char *const names[] = { "idle", "running", "paused", "done", "failed" };

	return names[state];
}

/* Rounded down, so that 100.0% means every block. */
static void say_percent(struct control *k, uint64_t done, uint64_t blocks)
{
	/* Blocks are below 2^52: the product fits. */
	unsigned permille = blocks ? (unsigned)(done * 1000 / blocks) : 1000;

	control_print(k, "percent %u.%u%%\n", permille / 10, permille % 10);
}

static void say_pace(struct control *k, uint64_t rate, uint64_t eta)
{
	control_say_number(k, "job_rate", rate);
	if (eta == UINT64_MAX)
		control_print(k, "job_eta -\n");
	else
		control_say_number(k, "job_eta", eta);
}

static void say_job(struct control *k, const struct core *c)
{
	uint64_t fetched = c->copier.state == JOB_IDLE ? 0 : c->map.local - c->copier.found;

	control_say_string(k, "job", job_name(c->copier.state));
	control_say_number(k, "job_found", c->copier.found);
	control_say_number(k, "job_fetched", fetched);
	say_pace(k, c->copier.rate, core_job_eta_s(c));
}

void control_say_verify(struct control *k, const struct core *c)
{
	const struct verify *v = &c->verify;

	control_say_string(k, "verify", core_verify_is_partial(c) ? "partial" : job_name(v->state));
	control_say_number(k, "verify_compared", v->compared);
	control_say_number(k, "verify_comparable", core_verify_comparable(c));
	control_say_number(k, "verify_different", v->different);
	control_say_number(k, "verify_unreadable", v->unreadable);
	if (v->different)
		control_say_number(k, "verify_first", v->first);
}

static void say_origin(struct control *k, const struct origin *o)
{
	control_say_string(k, "origin_host", origin_host(o));
	control_say_string(k, "origin_port", origin_port(o));
	control_say_string(k, "origin_exportname", origin_export(o));
	control_say_string(k, "origin_state", origin_state(o));
	control_say_string(k, "origin_error", origin_error(o));
}

static void say_errors(struct control *k, const struct core *c)
{
	if (c->commit.count)
		control_say_number(k, "last_commit", (loop_now_ms - c->commit.last_ms) / 1000);
	else
		control_print(k, "last_commit never\n");
	if (c->first_error_what)
		control_print(k, "first_error %s: %s\n", c->first_error_what, strerror(c->first_error));
	else
		control_print(k, "first_error none\n");
}

void control_say_cache(struct control *k, const struct disk *d, uint64_t size_bytes, const struct map *m)
{
	control_say_string(k, "cache_image", d->path[FILE_IMAGE]);
	control_say_string(k, "bitmap", d->path[FILE_BITMAP]);
	control_say_number(k, "disk_size", size_bytes);
	control_say_number(k, "block_size", BLOCK_BYTES);
	control_say_number(k, "blocks", m->blocks);
	control_say_number(k, "cached", m->local);
	say_percent(k, m->local, m->blocks);
	control_print(k, "state %s\n", map_is_complete(m) ? "complete" : "incomplete");
}

void control_say_status(struct control *k)
{
	const struct disk *d = &exported->disk;
	const struct core *c = &d->core;

	control_print(k, "mode %s\npid %u\n", c->mode == MODE_PROXY ? "proxy" : "target", (unsigned)getpid());
	control_say_cache(k, d, c->size_bytes, &c->map);
	say_origin(k, d->origin);
	say_job(k, c);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		control_say_verify(k, c);
	control_say_number(k, "sessions", sessions_count());
	control_say_number(k, "in_flight", c->in_flight);
	control_say_number(k, "waiting", c->waiting);
	control_say_number(k, "waited", c->waited);
	control_say_number(k, "hold", c->hold_ms / 1000);
	control_say_number(k, "buffer_used", buf_used());
	control_say_number(k, "buffer_limit", control_config.max_buf_bytes);
	control_say_number(k, "messages_lost", log_lost());
	say_errors(k, c);
}

void control_say_news(struct control *k)
{
	const struct core *c = &exported->disk.core;

	if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return; /* does not read: keep room for the answer */
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies) {
		control_say_verify(k, c);
		control_say_number(k, "looked_at", c->verify.cursor);
		say_pace(k, c->verify.rate, core_verify_eta_s(c));
	} else {
		say_job(k, c);
		control_say_number(k, "cached", c->map.local);
	}
	control_say_number(k, "blocks", c->map.blocks);
	control_say_string(k, "origin_state", origin_state(exported->disk.origin));
	say_percent(k, k->verifies ? c->verify.cursor : c->map.local, c->map.blocks);
	control_flush(k);
}

bool control_verdict(const struct core *c, const char **text)
{
	static char line[256];
	const struct verify *v = &c->verify;
	size_t n = (size_t)snprintf(line, sizeof(line), "compared %llu of %llu blocks", (unsigned long long)v->compared,
				    (unsigned long long)core_verify_comparable(c));
	size_t room = sizeof(line) - n;

	*text = line;
	if (v->state == JOB_IDLE)
		*text = "the comparison with the origin was cancelled";
	else if (v->different)
		snprintf(line + n, room, ": %llu differ from the origin, the first at byte %llu: keep the origin",
			 (unsigned long long)v->different, (unsigned long long)v->first);
	else if (v->unreadable)
		snprintf(line + n, room, ": the origin cannot read %llu (%s)", (unsigned long long)v->unreadable, strerror(v->error));
	else if (v->state != JOB_DONE)
		snprintf(line + n, room, ": the comparison failed: %s", strerror(v->error));
	else if (!written_is_known(c))
		snprintf(line + n, room, ": who has written the others is not known");
	else if (v->written)
		snprintf(line + n, room, ", %llu were written by clients", (unsigned long long)v->written);
	return v->state == JOB_DONE && !core_verify_is_partial(c);
}
