/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The switch from a proxy to a target: a commit, the record of it in the header, then no origin any more. And the
 * freeze, in which clients' writes wait: for a switch that has to move bytes, and for a snapshot.
 */
#include "core/checked.h"

#include <errno.h>

/* Everything is committed: the origin is no longer needed. */
static void become_target(struct core *c)
{
	__atomic_store_n(&c->mode, MODE_TARGET, __ATOMIC_RELAXED);
	prefetch_stop(c);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE)
		trace_stop(&c->trace); /* there is no origin to spare any more */
	copier_stop(c, map_is_complete(&c->map) ? JOB_DONE : JOB_IDLE);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		core_verify_cancel(c);
	port_conns_close(c);
	fetch_conn_lost(c, CONN_CLIENT);
	fetch_conn_lost(c, CONN_COPIER);
	fetch_fail_queued(c, EIO);
}

static void switch_end(struct core *c, int error)
{
	struct commit_waiter *w = c->switch_waiters;

	c->switch_waiters = NULL;
	if (!error && c->mode == MODE_PROXY)
		become_target(c);
	while (w) {
		struct commit_waiter *next = w->next;

		w->done(w, error);
		w = next;
	}
}

/* No block is missing, and all bits are in the commit file. Not all that are set may be: blocks come also while it is
 * written. */
static bool is_whole(const struct core *c)
{
	return map_is_complete(&c->map) && !c->map.dirty_chunks && c->commit.state == COMMIT_IDLE;
}

/* Writes wait from now on: each would have to go to both places. */
static void switch_frozen(struct freeze *f)
{
	struct core *c = container_of(f, struct core, switch_freeze);

	port_switch(c, c->switch_whole);
}

/* The next start knows of it. */
static void switch_failed(struct commit_waiter *own, int error)
{
	switch_end(container_of(own, struct core, switch_commit), error);
}

void core_switched(struct core *c, int error)
{
	bool was_covered = c->covered;

	assert(c->switch_waiters && !c->in_port);
	if (error && was_covered)
		core_note_error(c, "uncover", error);
	c->covered = was_covered && error;
	if (error && sync_is_untold(c)) {
		c->switch_commit.done = switch_failed;
		core_commit(c, &c->switch_commit);
	} else {
		switch_end(c, error);
	}
	if (was_covered)
		core_thaw(c, &c->switch_freeze);
	else
		core_run(c);
}

static void switch_committed(struct commit_waiter *own, int error)
{
	struct core *c = container_of(own, struct core, switch_commit);

	c->switch_whole = is_whole(c); /* and so it stays: bits are never cleared. Another commit may begin before the freeze is granted */
	if (error || (!c->covered && !c->switch_whole)) {
		switch_end(c, error);
	} else if (!ENABLE_FEATURE_XNBD_SERVER_COVER || !c->covered) {
		port_switch(c, true);
	} else {
		c->switch_freeze.frozen = switch_frozen;
		core_freeze(c, &c->switch_freeze);
	}
}

/* The record of client writes is marked, on the disk, as incomplete: the commit may follow. */
static void switch_noted(struct persist *p, int error)
{
	struct core *c = container_of(p, struct core, switch_note);

	(void)error; /* latched */
	core_commit(c, &c->switch_commit);
}

const char *core_switch(struct core *c, bool force, struct commit_waiter *w)
{
	if (c->mode == MODE_TARGET) {
		w->done(w, 0);
		return NULL;
	}
	if (core_has_failed(c))
		return "an earlier write or sync of the cache failed: the cache cannot be trusted";
	if (!force && !map_is_complete(&c->map))
		return "blocks are missing";
	w->next = c->switch_waiters;
	c->switch_waiters = w;
	if (!w->next) {
		c->switch_commit.done = switch_committed;
		c->switch_note.done = switch_noted;
		/* A switch without missing blocks is recorded; until it is, clients' writes are noted. */
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && c->written.map.words && !map_is_complete(&c->map))
			written_lose(c, &c->switch_note);
		else
			core_commit(c, &c->switch_commit);
	}
	core_run(c);
	return NULL;
}

bool core_is_switching(const struct core *c)
{
	return c->switch_waiters;
}

/* ---- freeze ----------------------------------------------------------------- */

static void freeze_granted(struct range *r)
{
	struct freeze *f = container_of(r, struct freeze, range);

	f->frozen(f);
}

/* A shared range of the whole disk: as a read of all of it. */
void core_freeze(struct core *c, struct freeze *f)
{
	assert(!c->in_port);
	f->range.first = 0;
	f->range.end = c->map.blocks;
	f->range.exclusive = false;
	f->range.granted = freeze_granted;
	if (range_lock(&c->ranges, &f->range))
		f->frozen(f);
}

void core_thaw(struct core *c, struct freeze *f)
{
	c->granted_tail = range_unlock(&c->ranges, &f->range, c->granted_tail);
	core_run(c);
}
