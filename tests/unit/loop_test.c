/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The loop: what time it is after a wait, and how long the processor is kept. */
#include "libbb.h"
#include "reactor/loop.h"
#include "test.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/timerfd.h>

enum { PAUSE_MS = 30, WAITS = 20 };

static uint64_t fired_ms, heard_ms;
static unsigned fired, yields;
static int others_ms; /* so long the processor is another's once it was given away */

void bb_show_usage(void)
{
	abort(); /* no test asks for it */
}

static void fire(struct timer *t)
{
	(void)t;
	fired_ms = loop_now_ms();
	fired++;
}

static void hear(struct event *e, uint32_t events)
{
	uint64_t count;

	(void)events;
	heard_ms = loop_now_ms();
	CHECK(read(e->fd, &count, sizeof(count)) == sizeof(count));
}

/* In the place of libc's. */
int sched_yield(void)
{
	yields++;
	if (others_ms)
		(void)poll(NULL, 0, others_ms);
	return 0;
}

/* What is due is called at the end of the wait for it, and whoever is called knows how late
 * it is. */
static void test_clock(bool spin)
{
	static const struct itimerspec in_a_while = { .it_value.tv_nsec = PAUSE_MS * 1000000L };
	struct timer t = { .fire = fire };
	struct event e = { .ready = hear };
	uint64_t begin;

	loop_init(LOOP_CORE, spin);
	e.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	CHECK(event_add(&e, EPOLLIN));
	begin = loop_now_ms();
	CHECK(timerfd_settime(e.fd, 0, &in_a_while, NULL) == 0);
	loop_once(UINT64_MAX);
	CHECK(heard_ms >= begin + PAUSE_MS);
	event_remove(&e);
	close(e.fd);

	begin = loop_now_ms();
	loop_once(begin + PAUSE_MS);
	CHECK(loop_now_ms() >= begin + PAUSE_MS);

	begin = loop_now_ms();
	fired = 0;
	timer_set(&t, begin + PAUSE_MS);
	loop_once(UINT64_MAX);
	CHECK(fired == 1 && fired_ms >= begin + PAUSE_MS);
	timer_clear(&t);
}

/* Waits of a millisecond, each after one that was short. */
static void wait_often(void)
{
	unsigned i;

	yields = 0;
	for (i = 0; i < WAITS; i++) {
		loop_once(loop_now_ms()); /* does not wait */
		loop_once(loop_now_ms() + 1);
	}
}

/* The processor is kept when nobody else wants it. On a busy machine somebody mostly does: tried
 * until a moment comes when nobody does, a minute at most. */
static bool is_kept(void)
{
	unsigned tries;

	for (tries = 0; tries < 100; tries++) {
		wait_often();
		if (yields)
			return true;
		(void)poll(NULL, 0, 600); /* the others are forgotten by then */
	}
	return false;
}

/* Nobody else wants it: it is kept for a while each time. Somebody does: it is not. */
static void test_spin(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return;
	loop_init(LOOP_CORE, true);
	CHECK(is_kept());
	others_ms = 3;
	wait_often();
	CHECK(yields <= 2);
	others_ms = 0;
	CHECK(is_kept());
	loop_init(LOOP_CORE, false);
	wait_often();
	CHECK(yields == 0);
}

int main(void)
{
	test_clock(false);
	test_clock(true);
	test_spin();
	return test_end();
}
