/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Fronts: threads that serve sessions, each with a loop of its own.
 *
 * A session begins on the core's loop. When its handshake is done, the loop with the fewest sessions gets it, and gives
 * it back when it is closed. At shutdown, all loops give their sessions back, so that only the core's thread is
 * involved from then on.
 */
//config:config FEATURE_XNBD_SERVER_THREADS
//config:	bool "Threads: several processors serve clients (12 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Clients are served by several threads. Without this, one serves all of
//config:	them, and others only do what has to wait for the disk.
#include "client/session.h"
#include "reactor/descriptors.h"
#include "reactor/lock.h"
#include "reactor/pool.h"

#include <sched.h>

enum {
	THROTTLED_MS = 10, /* memory may come from another loop, which does not tell */
	PLACE_MS = 100,    /* how long a new client waits for fronts to look for a place */
};

unsigned fronts_used = 1;
static bool leaving;
/* Core's thread: fronts that were asked for a place, or to leave, and have not answered. */
static unsigned places_pending, leaves_pending;
static void (*place_answered)(bool made);
static _Atomic bool place_made; /* by a front */

uint64_t sessions_deadline(void)
{
	return front_count() > 1 && front_here()->throttled ? loop_now_ms() + THROTTLED_MS : UINT64_MAX;
}

static void *run(void *arg)
{
	this_loop = arg;
	for (;;) {
		loop_once(sessions_deadline());
		do
			sessions_turn();
		while (sessions_dirty());
		message_flush();
	}
	return arg;
}

void fronts_begin(unsigned threads, bool spin)
{
	struct loop *core = this_loop;
	unsigned i;

	core->owner = fronts;
	if (!ENABLE_FEATURE_XNBD_SERVER_THREADS || threads < 2)
		return;
	fronts_used = threads; /* the same forever, before the others are born */
	buf_share();
	message_init();
	for (i = LOOP_CORE + 1; i < threads; i++) {
		struct loop *l;

		loop_init(i, spin);
		message_init();
		l = this_loop;
		l->owner = &fronts[i];
		this_loop = core;
		if (!thread_start(run, l, LOOP_STACK_BYTES))
			bb_simple_perror_msg_and_die("cannot start a thread");
	}
}

unsigned front_choose(unsigned first)
{
	unsigned i, best = first;

	for (i = first; i < front_count() && !leaving; i++)
		if (fronts[i].load < fronts[best].load)
			best = i;
	return best;
}

/* ---- a place for one more ----------------------------------------------------------------- */

static void place_end(struct timer *t)
{
	timer_clear(t);
	place_answered(place_made);
}

static struct timer place_timer = { .fire = place_end };

static void place_answer(struct message *m UNUSED_PARAM)
{
	if (!--places_pending && place_timer.set)
		place_end(&place_timer);
}

/* On a front. */
static void place_wanted(struct message *m)
{
	if (session_close_late())
		place_made = true;
	m->deliver = place_answer;
	message_post(LOOP_CORE, m);
}

bool session_make_place(int fd)
{
	bool is_full = client_limits.sessions && session_count >= client_limits.sessions;

	return (!is_full && !fd_is_kept(fd, FD_CLIENTS)) || session_close_late();
}

bool session_place_request(void (*answered)(bool made))
{
	unsigned i;

	if (place_timer.set)
		return true;
	for (i = LOOP_CORE + 1; i < front_count() && !places_pending && !leaving; i++) {
		fronts[i].place.deliver = place_wanted;
		message_post(i, &fronts[i].place);
	}
	if (i == LOOP_CORE + 1)
		return false;
	places_pending = i - 1;
	place_made = false;
	place_answered = answered;
	timer_set(&place_timer, loop_now_ms() + PLACE_MS);
	return true;
}

/* ---- a stop ------------------------------------------------------------------------------ */

static struct {
	struct mutex lock; /* the core's thread has it, and each front wants it */
	_Atomic unsigned stopped;
	struct message message[LOOPS_MAX];
} stop;

/* On a front. */
static void stop_here(struct message *m UNUSED_PARAM)
{
	stop.stopped++;
	mutex_lock(&stop.lock);
	mutex_unlock(&stop.lock);
	stop.stopped--;
}

void fronts_stop(void)
{
	unsigned i;

	if (front_count() < 2)
		return;
	/* A front that had not left the last stop yet would be waiting for the end of this one, and never answer. */
	while (stop.stopped)
		sched_yield();
	mutex_lock(&stop.lock);
	for (i = LOOP_CORE + 1; i < front_count(); i++) {
		stop.message[i].deliver = stop_here;
		message_post(i, &stop.message[i]);
	}
	message_flush();
	while (stop.stopped < front_count() - 1)
		sched_yield();
}

void fronts_go_on(void)
{
	if (front_count() > 1)
		mutex_unlock(&stop.lock);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void leave(struct message *m);

/* The first answer comes behind all sessions, the second one behind all answers of the core that
 * were on their way to them. */
static void leave_answer(struct message *m)
{
	struct front *f = container_of(m, struct front, leave);

	if (!f->left) {
		f->left = true;
		m->deliver = leave;
		message_post((unsigned)(f - fronts), m);
	} else {
		leaves_pending--;
	}
}

/* On a front. */
static void leave(struct message *m)
{
	struct session *s;

	while ((s = front_here()->sessions) != NULL) {
		s->wanted = LOOP_CORE;
		session_move(s);
	}
	m->deliver = leave_answer;
	message_post(LOOP_CORE, m);
}

void fronts_leave(void)
{
	unsigned i;

	leaving = true;
	for (i = LOOP_CORE + 1; i < front_count(); i++) {
		fronts[i].leave.deliver = leave;
		message_post(i, &fronts[i].leave);
		leaves_pending++;
	}
}

bool fronts_have_left(void)
{
	return !leaves_pending;
}
