/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The event loop and its clock. All of it belongs to the one thread that runs
 * loop_once(), the thread that owns the core.
 */
#ifndef REACTOR_LOOP_H
#define REACTOR_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

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

extern uint64_t loop_now_ms; /* CLOCK_MONOTONIC, read once a turn of the loop */

/* spin: with more than one processor, polls for up to 50 us before it sleeps, as long as events
 * follow each other that fast. Dies when the kernel gives no epoll. */
void loop_init(bool spin);

/* events: 0 still reports EPOLLHUP and EPOLLERR. False with errno: no memory. */
bool event_add(struct event *e, uint32_t events);
void event_set(struct event *e, uint32_t events);
/* Stops watching e, and drops the events for it that this turn has not delivered yet. Does not
 * close fd. */
void event_remove(struct event *e);

/* Fires once, at at_ms or soon after. Setting it again moves it. */
void timer_set(struct timer *t, uint64_t at_ms);
void timer_clear(struct timer *t);

/* A turn: waits for events until deadline_ms (UINT64_MAX: for ever) at the latest, then
 * calls those that are ready and the timers that are due. */
void loop_once(uint64_t deadline_ms);
/* Its two halves, for a caller that needs the new loop_now_ms before any callback runs. */
void loop_wait(uint64_t deadline_ms);
void loop_call(void);

#endif
