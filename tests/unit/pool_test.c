/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pool: what becomes of the loop, and of jobs, when a quick job is not quick. */
#include "libbb.h"
#include "server/loop.h"
#include "server/pool.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { TAKEN_OVER = 25, LATE_MS = 60000 };

struct test_job {
	struct job job;
	struct turn turn;
	bool under_way;
};

static struct test_job well, hangs;
static atomic_uint loops; /* turns of the loop, of all threads */
static atomic_bool well_is_done;
static _Thread_local bool has_loop;
static _Thread_local uintptr_t top;
static uintptr_t deepest; /* stack that a turn of the loop begins with, more than at its thread's first */
static atomic_uint taken_over, late;

void bb_show_usage(void)
{
	abort(); /* no test asks for it */
}

static void run_well(struct job *j UNUSED_PARAM)
{
}

/* Ends when another thread has gone on with the loop, and has told what was done before. */
static void run_hangs(struct job *j UNUSED_PARAM)
{
	unsigned before = loops, ms;

	for (ms = 0; has_loop && loops == before && ms < LATE_MS; ms++)
		poll(NULL, 0, 1);
	taken_over += has_loop && loops != before;
	for (; !well_is_done && ms < LATE_MS; ms++)
		poll(NULL, 0, 1);
	late += ms == LATE_MS;
}

static void done(struct job *j)
{
	struct test_job *t = (struct test_job *)(void *)j;

	t->under_way = false;
	if (t == &well)
		well_is_done = true;
}

static void submit(struct test_job *t, void (*run)(struct job *j))
{
	t->job.run = run;
	t->job.done = done;
	t->job.turn = &t->turn;
	t->job.quick = true;
	t->under_way = true;
	pool_submit(&t->job);
}

static void NORETURN end(void)
{
	CHECK(deepest < 1024);
	CHECK(!late);
	exit(test_end());
}

/* One that is quick beside one that hangs, again and again. */
static void turn(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	top = top ? top : here;
	deepest = top - here > deepest ? top - here : deepest;
	has_loop = true;
	loops++;
	loop_once(loop_now_ms + 1);
	if (well.under_way || hangs.under_way)
		return;
	if (taken_over >= TAKEN_OVER || late)
		end();
	well_is_done = false;
	submit(&well, run_well);
	submit(&hangs, run_hangs);
	pool_flush(true);
}

static void NORETURN loop(void)
{
	for (;;)
		turn();
}

int main(void)
{
	loop_init(true);
	pool_start(2, loop);
	loop();
}
