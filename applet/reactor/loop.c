/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The event loop: epoll(7), level-triggered. */
#include "libbb.h"
#include "reactor/loop.h"

#include <sched.h>
#include <time.h>

enum {
	SPIN_NS = 50000,  /* a client that sends one request at a time comes back sooner */
	SPIN_PAUSE = 100, /* after a spin that others delayed, none for so many times its length */
};

static struct loop loops[LOOPS_MAX];
#if ENABLE_FEATURE_XNBD_SERVER_THREADS
_Thread_local
#endif
struct loop *this_loop;

/* Returns nanoseconds. */
static uint64_t read_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	this_loop->now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	this_loop->now_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t loop_clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void loop_init(unsigned index, bool spin)
{
	struct loop *l = &loops[index];

	this_loop = l;
	l->index = index;
	l->timers_next_ms = UINT64_MAX;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		bb_simple_perror_msg_and_die("epoll_create");
	/* With one processor, whoever we wait for could not run while we spin. */
	l->may_spin = spin && get_cpu_count() > 1;
	read_clock();
}

static int control(int op, struct event *e, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = e };

	return epoll_ctl(this_loop->epoll_fd, op, e->fd, &ev);
}

bool event_add(struct event *e, uint32_t events)
{
	return control(EPOLL_CTL_ADD, e, events) == 0;
}

void event_set(struct event *e, uint32_t events)
{
	control(EPOLL_CTL_MOD, e, events);
}

void event_remove(struct event *e)
{
	struct loop *l = this_loop;
	int i;

	control(EPOLL_CTL_DEL, e, 0);
	for (i = l->batch_next; i < l->batch_count; i++)
		if (l->batch[i].data.ptr == e)
			l->batch[i].data.ptr = NULL;
}

void timer_clear(struct timer *t)
{
	struct timer **p = &this_loop->timers;

	if (!t->set)
		return;
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	t->set = false;
}

void timer_set(struct timer *t, uint64_t at_ms)
{
	struct loop *l = this_loop;

	timer_clear(t);
	t->at_ms = at_ms;
	t->set = true;
	t->next = l->timers;
	l->timers = t;
	if (at_ms < l->timers_next_ms)
		l->timers_next_ms = at_ms;
}

/* Fires what is due. A timer may set or clear any other, so each look begins at
 * the front again. */
static void timers_run(struct loop *l)
{
	struct timer *t;

again:
	if (l->now_ms < l->timers_next_ms)
		return;
	l->timers_next_ms = UINT64_MAX;
	for (t = l->timers; t; t = t->next) {
		if (t->at_ms <= l->now_ms) {
			l->timers_next_ms = 0;
			timer_clear(t);
			t->fire(t);
			goto again;
		}
		if (t->at_ms < l->timers_next_ms)
			l->timers_next_ms = t->at_ms;
	}
}

static int wait_ms(const struct loop *l, uint64_t deadline_ms)
{
	uint64_t at = deadline_ms < l->timers_next_ms ? deadline_ms : l->timers_next_ms;

	if (at == UINT64_MAX)
		return -1;
	if (at <= l->now_ms)
		return 0;
	return at - l->now_ms < 60000 ? (int)(at - l->now_ms) : 60000;
}

/*
 * Sleeping and being woken costs both sides more time than most clients need to send the next
 * request. So after a short wait the next one is expected to be short, too: the thread spins for up
 * to SPIN_NS, and yields to whoever else has use for the processor.
 *
 * A thread that yields without having slept does not get the processor back when an event comes,
 * but when the other thread has used up its time slice. So next to a thread that computes, spinning
 * costs milliseconds: SPIN_PAUSE limits that loss to a hundredth of the time.
 */
static int wait_for_events(struct loop *l, int timeout_ms)
{
	uint64_t since = read_clock();
	uint64_t now = since;
	int n = 0;

	while (l->was_short && timeout_ms && !n && now - since < SPIN_NS) {
		n = epoll_wait(l->epoll_fd, l->batch, LOOP_EVENTS_MAX, 0);
		if (!n)
			sched_yield();
		now = read_clock();
	}
	if ((now - since) / 2 > SPIN_NS)
		l->spin_from_ns = now + SPIN_PAUSE * (now - since);
	if (!n)
		n = epoll_wait(l->epoll_fd, l->batch, LOOP_EVENTS_MAX, timeout_ms);
	now = read_clock(); /* in any case: what has come has come now */
	l->was_short = l->may_spin && now - since < SPIN_NS && now >= l->spin_from_ns;
	return n;
}

void loop_wait(uint64_t deadline_ms)
{
	struct loop *l = this_loop;

	l->batch_next = 0;
	l->batch_count = wait_for_events(l, wait_ms(l, deadline_ms));
}

void loop_call(void)
{
	struct loop *l = this_loop;

	while (l->batch_next < l->batch_count) {
		struct epoll_event *ev = &l->batch[l->batch_next++];
		struct event *e = ev->data.ptr;

		if (e)
			e->ready(e, ev->events);
	}
	timers_run(l);
}

void loop_once(uint64_t deadline_ms)
{
	loop_wait(deadline_ms);
	loop_call();
}
