/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Event loops and their clocks. The first one is the core's; fronts have one each (client/front.c).
 * Each function here works on the loop of the thread that calls it, and belongs to that thread.
 */
#ifndef REACTOR_LOOP_H
#define REACTOR_LOOP_H

#include "autoconf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

enum {
	LOOP_EVENTS_MAX = 16, /* of a turn: with more, received data would leave the cache before a quick job writes it */
};

/* A descriptor that is watched. Embedded in what owns it. */
struct event {
	int fd;
	void (*ready)(struct event *e, uint32_t events); /* EPOLLIN, EPOLLOUT, ... */
};

struct timer {
	void (*fire)(struct timer *t);
	uint64_t at_ms;
	struct timer *next;
	bool set;
};

enum {
	LOOP_CORE, /* index of the loop whose thread owns the core */
	LOOPS_MAX = ENABLE_FEATURE_XNBD_SERVER_THREADS ? 8 : 1,
};

struct loop {
	uint64_t now_ms; /* CLOCK_MONOTONIC, read once a turn */
	uint64_t now_us; /* the same, in microseconds */
	unsigned index;
	void *owner; /* whatever its user wants */
	int epoll_fd;
	struct epoll_event batch[LOOP_EVENTS_MAX]; /* of this turn */
	int batch_next, batch_count;
	struct timer *timers;
	uint64_t timers_next_ms; /* not later than the first of them */
	bool may_spin, was_short; /* the last wait */
	uint64_t spin_from_ns;
};

/* The loop of this thread; NULL: it has none. A thread that takes over a loop sets it. */
#if ENABLE_FEATURE_XNBD_SERVER_THREADS
extern _Thread_local struct loop *this_loop;
#else
extern struct loop *this_loop; /* there is only one */
#endif

/* Milliseconds, as of the begin of this turn. */
static inline uint64_t loop_now_ms(void)
{
	return this_loop->now_ms;
}

/* The same, in microseconds. */
static inline uint64_t loop_now_us(void)
{
	return this_loop->now_us;
}
/* Microseconds of the same clock, as of now; loop_now_ms() stays. */
uint64_t loop_clock_us(void);

/* Creates the loop of this thread, with a unique index (0..LOOPS_MAX-1). spin: on more than one processor, it polls for
 * up to 50 us before it sleeps, as long as events arrive that fast. Dies when the kernel gives no epoll. */
void loop_init(unsigned index, bool spin);

/* events: 0 still reports EPOLLHUP and EPOLLERR. False with errno: no memory. */
bool event_add(struct event *e, uint32_t events);
void event_set(struct event *e, uint32_t events);
/* Stops watching e, and drops the events for it that this turn has not delivered yet. Does not
 * close fd. */
void event_remove(struct event *e);

/* Fires once, at at_ms or soon after. Setting it again moves it. */
void timer_set(struct timer *t, uint64_t at_ms);
void timer_clear(struct timer *t);

/* A turn: waits for events until deadline_ms (UINT64_MAX: forever) at the latest, then
 * calls those that are ready and the timers that are due. */
void loop_once(uint64_t deadline_ms);
/* Its two halves, for a caller that needs the new loop_now_ms() before any callback runs. */
void loop_wait(uint64_t deadline_ms);
void loop_call(void);

#endif
