/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop: what time it is after a wait. */
#include "libbb.h"
#include "server/loop.h"
#include "test.h"

#include <stdlib.h>
#include <sys/timerfd.h>

enum { PAUSE_MS = 30 };

static uint64_t fired_ms, heard_ms;

void bb_show_usage(void)
{
	abort(); /* no test asks for it */
}

static void fire(struct timer *t)
{
	(void)t;
	fired_ms = loop_now_ms;
}

static void hear(struct event *e, uint32_t events)
{
	uint64_t count;

	(void)events;
	heard_ms = loop_now_ms;
	CHECK(read(e->fd, &count, sizeof(count)) == sizeof(count));
}

/* What is due is called at the end of the wait for it, and whoever is called knows how late
 * it is. */
static void test_clock(bool spin)
{
	static const struct itimerspec in_a_while = { .it_value.tv_nsec = PAUSE_MS * 1000000L };
	struct timer t = { .fire = fire };
	struct event e = { .ready = hear };
	uint64_t begin;

	loop_init(spin);
	e.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	CHECK(event_add(&e, EPOLLIN));
	begin = loop_now_ms;
	CHECK(timerfd_settime(e.fd, 0, &in_a_while, NULL) == 0);
	loop_once(UINT64_MAX);
	CHECK(heard_ms >= begin + PAUSE_MS);
	event_remove(&e);
	close(e.fd);

	begin = loop_now_ms;
	loop_once(begin + PAUSE_MS);
	CHECK(loop_now_ms >= begin + PAUSE_MS);

	begin = loop_now_ms;
	timer_set(&t, begin + PAUSE_MS);
	loop_once(UINT64_MAX);
	CHECK(fired_ms >= begin + PAUSE_MS);
	timer_clear(&t);
}

int main(void)
{
	test_clock(false);
	test_clock(true);
	return test_end();
}
