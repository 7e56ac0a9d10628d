/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Sessions: what passes between them and the core.
 *
 * The core belongs to one thread. A session of that thread calls it. One of a front sends its requests as messages, and
 * gets them back as messages; between the two, they are the core's thread's. Messages stay in order: when a later
 * message of a session arrives, the core has its earlier requests already, or has answered them.
 *
 * What a front may do by itself: READs of published blocks (core_is_published()), as far as the page cache has them.
 * Nothing else may: it would need the core's ranges. A published bit is never cleared; a READ may or may not see what
 * others write to such blocks at the same time.
 */
#include "client/session.h"

/* The next of a walk over what the core has of a session: core_abandon() may answer any. */
static struct command *walk;

static struct core *core_of(const struct session *s)
{
	return s->export->disk.core;
}

/* ---- the core's thread ---------------------------------------------------------------- */

static void core_list_add(struct command *x)
{
	struct session *s = x->session;

	x->core_prev = NULL;
	x->core_next = s->at_core;
	if (x->core_next)
		x->core_next->core_prev = x;
	s->at_core = x;
	x->submitted = true;
}

static void core_list_remove(struct command *x)
{
	x->submitted = false;
	if (x == walk)
		walk = x->core_next;
	if (x->core_prev)
		x->core_prev->core_next = x->core_next;
	else
		x->session->at_core = x->core_next;
	if (x->core_next)
		x->core_next->core_prev = x->core_prev;
}

static void command_begin(struct command *x)
{
	struct session *s = x->session;

	core_list_add(x);
	x->req.error = 0;
	/* A READ with a buffer was found to be local before. */
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && ENABLE_FEATURE_XNBD_SERVER_PROXY && x->req.type == NBD_CMD_READ && !x->req.buf &&
	    core_misses(core_of(s), &x->req))
		__atomic_store_n(&x->awaits, true, __ATOMIC_RELAXED);
	if (x->local)
		core_read(core_of(s), &x->req);
	else if (x->req.type != NBD_CMD_BLOCK_STATUS || s->handshake.allocation)
		core_submit(core_of(s), &x->req);
	else
		port_reply(core_of(s), &x->req); /* the map knows what is local */
}

static struct command *command_of(struct message *m)
{
	return container_of(m, struct command, message);
}

static void command_begin_message(struct message *m)
{
	command_begin(command_of(m));
}

/* On the loop that had the session when the core has answered; if it has moved since, behind it. */
static void done_message(struct message *m)
{
	struct command *x = command_of(m);

	if (x->session->loop == this_loop->index)
		command_done(x);
	else
		message_post(x->session->loop, m);
}

void port_reply(struct core *c, struct request *r)
{
	struct command *x = container_of(r, struct command, req);
	struct session *s = x->session;

	core_list_remove(x);
	if (ENABLE_FEATURE_XNBD_SERVER_STRUCTURED && r->type == NBD_CMD_BLOCK_STATUS && !r->error)
		x->data_bytes = status_encode(&s->handshake, core_map(c), r, s->export->nbd.min_block, x->cookie, x->header);
	if (s->front == LOOP_CORE) {
		command_done(x);
	} else {
		x->message.deliver = done_message;
		message_post(s->front, &x->message);
	}
}

/* curtail: see core_curtail(). */
static void abandon_all(struct session *s, bool curtail)
{
	struct command *x;

	for (x = s->at_core; x; x = walk) {
		walk = x->core_next;
		if (curtail)
			core_curtail(&x->req);
		if (!x->local)
			core_abandon(core_of(s), &x->req);
	}
}

static void abandon_message(struct message *m)
{
	abandon_all(container_of(m, struct session, abandon), false);
}

static void leave_message(struct message *m)
{
	abandon_all(container_of(m, struct session, leave), true);
}

static void seen_message(struct message *m)
{
	struct session *s = container_of(m, struct session, seen);

	core_has_read(core_of(s), s->seen.offset, s->seen.length);
	s->seen.busy = false;
}

/* ---- the session's thread --------------------------------------------------------------- */

void command_submit(struct command *x, bool local)
{
	x->local = local;
	if (is_core_here()) {
		command_begin(x);
	} else {
		x->message.deliver = command_begin_message;
		message_post(LOOP_CORE, &x->message);
	}
}

/* --root-storage reads and writes with direct I/O: there, only the core's ranges keep reads and writes apart. */
static bool may_read_here(void)
{
	return !is_core_here() && !(ENABLE_FEATURE_XNBD_SERVER_INIT && export_config.root_storage);
}

/* Whether a front has read x. What the core has called local need not be published yet. */
static bool read_here(struct command *x)
{
	struct disk *d = &x->session->export->disk;
	struct request *r = &x->req;

	r->error = 0;
	return may_read_here() && core_is_published(d->core, r->offset, r->length) && disk_read_now(d, x->buf, r->length, r->offset);
}

void command_read(struct command *x)
{
	if (read_here(x))
		command_done(x);
	else
		command_submit(x, true);
}

/* Tells the core of x, for read-ahead and the boot trace. False: it has not taken the last one yet. */
static bool tell_seen(struct command *x)
{
	struct session *s = x->session;

	if (s->seen.busy)
		return false;
	s->seen.busy = true;
	s->seen.offset = x->req.offset;
	s->seen.length = x->req.length;
	s->seen.message.deliver = seen_message;
	message_post(LOOP_CORE, &s->seen.message);
	return true;
}

bool command_try_read(struct command *x)
{
	const struct request *r = &x->req;
	const struct core *c = core_of(x->session);

	if (!may_read_here() || r->type != NBD_CMD_READ || !r->length || !core_is_published(c, r->offset, r->length))
		return false;
	return !core_wants_to_see(c, r->offset, r->length) || tell_seen(x);
}

void session_abandon(struct session *s)
{
	if (is_core_here()) {
		abandon_all(s, false);
	} else if (!s->abandoned) {
		s->abandoned = true; /* and no request comes after that */
		s->abandon.deliver = abandon_message;
		message_post(LOOP_CORE, &s->abandon);
	}
}

void session_leave(struct session *s)
{
	if (is_core_here()) {
		abandon_all(s, true);
	} else {
		s->leave.deliver = leave_message;
		message_post(LOOP_CORE, &s->leave);
	}
}
