/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Reports the state of the core: core_status(). Pure, except core_record_text(). */
#include "core/internal.h"

#include <string.h>

void *core_owner(const struct core *c)
{
	return c->owner;
}

uint64_t core_size_bytes(const struct core *c)
{
	return c->size_bytes;
}

bool core_is_proxy(const struct core *c)
{
	return __atomic_load_n(&c->mode, __ATOMIC_RELAXED) == MODE_PROXY;
}

uint64_t core_hold_ms(const struct core *c)
{
	return c->hold_ms;
}

const struct map *core_map(const struct core *c)
{
	return &c->map;
}

bool core_verify_is_running(const struct core *c)
{
	return c->verify.status.state == JOB_RUNNING;
}

bool core_sync_has_failed(const struct core *c)
{
	return c->commit.error;
}

bool core_has_failed(const struct core *c)
{
	return c->commit.error || c->bitmap_error;
}

bool core_is_quiet(const struct core *c)
{
	return !c->ranges.oldest && !c->persist_now && !c->persist_next && c->commit.state == COMMIT_IDLE;
}

unsigned core_recent(const struct core *c, struct state_recent *recent)
{
	if (recent)
		memcpy(recent, c->recent, sizeof(c->recent));
	return c->recents;
}

void core_status(const struct core *c, struct core_status *s)
{
	s->in_flight = c->in_flight;
	s->waiting = c->waiting;
	s->waited = c->waited;
	s->commits = c->commit.count;
	s->committed_ms = c->commit.last_ms;
	s->first_error_what = c->first_error_what;
	s->first_error = c->first_error;
	s->copy = c->copier.status;
	s->copy_eta_s = copier_eta_s(c);
	if (!ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		return;
	s->verify = c->verify.status;
	s->verify_eta_s = verify_eta_s(c);
	s->looked_at = c->verify.cursor;
	s->comparable = verify_comparable(c);
	s->partial = verify_is_partial(&s->verify, s->comparable);
	s->writers_known = c->verify.writers_known;
}

/* ---- the boot trace ------------------------------------------------------------------ */

bool core_record(struct core *c, const struct trace_run *run, unsigned runs)
{
	if (!trace_begin(&c->trace, c->size_bytes))
		return false;
	trace_resume(&c->trace, run, runs);
	if (c->mode == MODE_TARGET || runs == TRACE_RUNS_MAX)
		trace_stop(&c->trace);
	return true;
}

const struct trace_run *core_recorded(const struct core *c, unsigned *runs)
{
	*runs = c->trace.runs;
	return core_is_recording(c) ? c->trace.run : NULL;
}

const struct trace_run *core_prefetched(const struct core *c, unsigned *runs)
{
	*runs = c->prefetch.runs;
	return c->prefetch.run;
}

size_t core_record_text(struct core *c, char *to)
{
	if (!c->trace.changed)
		return 0;
	c->trace.changed = false;
	return trace_encode(&c->trace, c->size_bytes, to);
}

bool core_is_recording(const struct core *c)
{
	return c->trace.recording || c->trace.changed;
}

void core_record_end(struct core *c)
{
	trace_free(&c->trace);
}
