/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket: status and progress, in lines of "KEY VALUE". */
#include "libbb.h"
#include "client/client.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/log.h"
#include "storage/cover.h"

static const char *job_name(enum job_state state)
{
	static const char *const names[] = { "idle", "running", "paused", "done", "failed" };

	return names[state];
}

/* Rounded down, so that 100.0% means every block. */
static void emit_percent(struct control *k, uint64_t done, uint64_t blocks)
{
	/* Blocks are below 2^52: the product fits. */
	unsigned permille = blocks ? (unsigned)(done * 1000 / blocks) : 1000;

	control_print(k, "percent %u.%u%%\n", permille / 10, permille % 10);
}

static void emit_pace(struct control *k, uint64_t rate, uint64_t eta)
{
	control_emit_number(k, "job_rate", rate);
	if (eta == UINT64_MAX)
		control_print(k, "job_eta -\n");
	else
		control_emit_number(k, "job_eta", eta);
}

/* local: how many blocks are. */
static void emit_job(struct control *k, const struct core_status *s, uint64_t local)
{
	control_emit_string(k, "job", job_name(s->copy.state));
	control_emit_number(k, "job_found", s->copy.found);
	control_emit_number(k, "job_fetched", s->copy.state == JOB_IDLE ? 0 : local - s->copy.found);
	emit_pace(k, s->copy.rate, s->copy_eta_s);
}

void control_emit_verify(struct control *k, const struct core_status *s)
{
	control_emit_string(k, "verify", s->partial ? "partial" : job_name(s->verify.state));
	control_emit_number(k, "verify_compared", s->verify.compared);
	control_emit_number(k, "verify_comparable", s->comparable);
	control_emit_number(k, "verify_different", s->verify.different);
	control_emit_number(k, "verify_unreadable", s->verify.unreadable);
	if (s->verify.different)
		control_emit_number(k, "verify_first", s->verify.first);
}

static void emit_origin(struct control *k, const struct origin *o)
{
	control_emit_string(k, "origin_host", origin_address(o)->host);
	control_emit_string(k, "origin_port", origin_address(o)->port);
	control_emit_string(k, "origin_exportname", origin_address(o)->name);
	control_emit_string(k, "origin_state", origin_state(o));
	control_emit_string(k, "origin_error", origin_error(o));
	control_emit_number(k, "origin_lost", origin_lost_ms(o) / 1000);
}

static void emit_key(void *ctx, const char *name, unsigned sessions)
{
	struct control *k = ctx;

	if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return; /* hundreds of keys */
	control_print(k, " ");
	control_emit_escaped(k, name, " =");
	control_print(k, "=%u", sessions);
}

void control_emit_clients(struct control *k)
{
	const struct export *e = control_subject(k);

	control_emit_number(k, "sessions", e ? e->sessions : sessions_count());
	if (!ENABLE_FEATURE_XNBD_TLS)
		return;
	control_print(k, "tls_keys");
	control_print(k, clients_keys(e, emit_key, k) ? "\n" : " none\n");
}

static void emit_process(struct control *k)
{
	control_emit_number(k, "buffer_used", buf_used());
	control_emit_number(k, "buffer_limit", control_config.max_buf_bytes);
	control_emit_number(k, "messages_lost", log_lost());
}

static void emit_errors(struct control *k, const struct core_status *s)
{
	if (s->commits)
		control_emit_number(k, "last_commit", (loop_now_ms() - s->committed_ms) / 1000);
	else
		control_print(k, "last_commit never\n");
	if (s->first_error_what)
		control_print(k, "first_error %s: %s\n", s->first_error_what, strerror(s->first_error));
	else
		control_print(k, "first_error none\n");
}

void control_emit_commit_base(struct control *k, const struct disk *d)
{
	if (commit_is_behind(d))
		control_emit_number(k, "commit_file_at", d->commit_base);
}

void control_emit_cache(struct control *k, const struct disk *d, uint64_t size_bytes, const struct map *m)
{
	control_emit_string(k, "cache_image", d->path[FILE_IMAGE]);
	control_emit_string(k, "bitmap", d->path[FILE_BITMAP]);
	control_emit_number(k, "disk_size", size_bytes);
	control_emit_number(k, "block_size", BLOCK_BYTES);
	control_emit_number(k, "blocks", m->blocks);
	control_emit_number(k, "cached", m->local);
	emit_percent(k, m->local, m->blocks);
	control_print(k, "state %s\n", map_is_complete(m) ? "complete" : "incomplete");
	if (cover_is_on(d))
		control_print(k, "covered yes\n");
}

void control_emit_status(struct control *k)
{
	const struct disk *d = &k->export->disk;
	const struct map *m = core_map(d->core);
	struct core_status s;

	core_status(d->core, &s);
	control_print(k, "mode %s\npid %u\n", core_is_proxy(d->core) ? "proxy" : "target", (unsigned)getpid());
	control_emit_cache(k, d, k->export->nbd.size_bytes, m);
	control_emit_commit_base(k, d);
	emit_origin(k, d->origin);
	emit_job(k, &s, m->local);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		control_emit_verify(k, &s);
	control_emit_clients(k);
	control_emit_number(k, "in_flight", s.in_flight);
	control_emit_number(k, "waiting", s.waiting);
	control_emit_number(k, "waited", s.waited);
	control_emit_number(k, "hold", core_hold_ms(d->core) / 1000);
	emit_process(k);
	emit_errors(k, &s);
}

void control_emit_target(struct control *k)
{
	control_print(k, "mode %s\npid %u\n", k->export ? "target" : "wrapper", (unsigned)getpid());
	if (k->export) {
		control_emit_string(k, "image", k->export->disk.path[FILE_IMAGE]);
		control_emit_number(k, "disk_size", k->export->nbd.size_bytes);
	}
	control_emit_clients(k);
	control_emit_number(k, "in_flight", sessions_in_flight());
	emit_process(k);
}

void control_emit_progress(struct control *k)
{
	const struct map *m = core_map(k->export->disk.core);
	struct core_status s;

	if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return; /* does not read: keep room for the answer */
	core_status(k->export->disk.core, &s);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies) {
		control_emit_verify(k, &s);
		control_emit_number(k, "looked_at", s.looked_at);
		emit_pace(k, s.verify.rate, s.verify_eta_s);
	} else {
		emit_job(k, &s, m->local);
		control_emit_number(k, "cached", m->local);
	}
	control_emit_number(k, "blocks", m->blocks);
	control_emit_string(k, "origin_state", origin_state(k->export->disk.origin));
	emit_percent(k, k->verifies ? s.looked_at : m->local, m->blocks);
	control_flush(k);
}

bool control_verify_result(const struct core_status *s, const char **text)
{
	static char line[256];
	size_t n = (size_t)snprintf(line, sizeof(line), "compared %llu of %llu blocks", (unsigned long long)s->verify.compared,
				    (unsigned long long)s->comparable);
	size_t room = sizeof(line) - n;

	*text = line;
	if (s->verify.state == JOB_IDLE)
		*text = "the comparison with the origin was cancelled";
	else if (s->verify.different)
		snprintf(line + n, room, ": %llu differ from the origin, the first at byte %llu: keep the origin",
			 (unsigned long long)s->verify.different, (unsigned long long)s->verify.first);
	else if (s->verify.unreadable)
		snprintf(line + n, room, ": the origin cannot read %llu (%s)", (unsigned long long)s->verify.unreadable, strerror(s->verify.error));
	else if (s->verify.state != JOB_DONE)
		snprintf(line + n, room, ": the comparison failed: %s", strerror(s->verify.error));
	else if (!s->writers_known)
		snprintf(line + n, room, ": who has written the others is not known");
	else if (s->verify.written)
		snprintf(line + n, room, ", %llu were written by clients", (unsigned long long)s->verify.written);
	return s->verify.state == JOB_DONE && !s->partial;
}
