/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The event loop: epoll(7), level-triggered. */
#include "libbb.h"
#include "reactor/loop.h"

#include <sched.h>
#include <time.h>

enum {
	EVENTS_MAX = 16, /* of a turn: what more clients would send meanwhile leaves the processor's
			    cache before a quick job writes it */
	SPIN_NS = 50000,  /* a client that sends one request at a time comes back sooner */
	SPIN_PAUSE = 100, /* after a spin that others delayed, none for so many times its length */
};

static int epoll_fd;
static struct epoll_event batch[EVENTS_MAX];
static int batch_next, batch_count;
static struct timer *timers;
static uint64_t timers_next_ms = UINT64_MAX; /* not later than the first of them */
static bool may_spin, was_short; /* the last wait */
static uint64_t spin_from_ns;

uint64_t loop_now_ms;

/* Returns nanoseconds. */
static uint64_t read_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	loop_now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void loop_init(bool spin)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		bb_simple_perror_msg_and_die("epoll_create");
	/* With one processor, whoever we wait for could not run while we spin. */
	may_spin = spin && get_cpu_count() > 1;
	read_clock();
}

static int control(int op, struct event *e, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = e };

	return epoll_ctl(epoll_fd, op, e->fd, &ev);
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
	int i;

	control(EPOLL_CTL_DEL, e, 0);
	for (i = batch_next; i < batch_count; i++)
		if (batch[i].data.ptr == e)
			batch[i].data.ptr = NULL;
}

void timer_clear(struct timer *t)
{
	struct timer **p = &timers;

	if (!t->set)
		return;
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	t->set = false;
}

void timer_set(struct timer *t, uint64_t at_ms)
{
	timer_clear(t);
	t->at_ms = at_ms;
	t->set = true;
	t->next = timers;
	timers = t;
	if (at_ms < timers_next_ms)
		timers_next_ms = at_ms;
}

/* Fires what is due. A timer may set or clear any other, so each look begins at
 * the front again. */
static void timers_run(void)
{
	struct timer *t;

again:
	if (loop_now_ms < timers_next_ms)
		return;
	timers_next_ms = UINT64_MAX;
	for (t = timers; t; t = t->next) {
		if (t->at_ms <= loop_now_ms) {
			timers_next_ms = 0;
			timer_clear(t);
			t->fire(t);
			goto again;
		}
		if (t->at_ms < timers_next_ms)
			timers_next_ms = t->at_ms;
	}
}

static int wait_ms(uint64_t deadline_ms)
{
	uint64_t at = deadline_ms < timers_next_ms ? deadline_ms : timers_next_ms;

	if (at == UINT64_MAX)
		return -1;
	if (at <= loop_now_ms)
		return 0;
	return at - loop_now_ms < 60000 ? (int)(at - loop_now_ms) : 60000;
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
static int wait_for_events(int timeout_ms)
{
	uint64_t since = read_clock();
	uint64_t now = since;
	int n = 0;

	while (was_short && timeout_ms && !n && now - since < SPIN_NS) {
		n = epoll_wait(epoll_fd, batch, EVENTS_MAX, 0);
		if (!n)
			sched_yield();
		now = read_clock();
	}
	if ((now - since) / 2 > SPIN_NS)
		spin_from_ns = now + SPIN_PAUSE * (now - since);
	if (!n)
		n = epoll_wait(epoll_fd, batch, EVENTS_MAX, timeout_ms);
	now = read_clock(); /* in any case: what has come has come now */
	was_short = may_spin && now - since < SPIN_NS && now >= spin_from_ns;
	return n;
}

void loop_wait(uint64_t deadline_ms)
{
	batch_next = 0;
	batch_count = wait_for_events(wait_ms(deadline_ms));
}

void loop_call(void)
{
	while (batch_next < batch_count) {
		struct epoll_event *ev = &batch[batch_next++];
		struct event *e = ev->data.ptr;

		if (e)
			e->ready(e, ev->events);
	}
	timers_run();
}

void loop_once(uint64_t deadline_ms)
{
	loop_wait(deadline_ms);
	loop_call();
}
