/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The pool: its classes, how it is fair, and what becomes of the loop, and of jobs, when a quick
 * job is not quick. */
#include "libbb.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { TAKEN_OVER = 25, LATE_MS = 60000 };

struct test_job {
	struct job job;
	struct serial_queue queue;
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

/* ---- classes, and owners in turns ------------------------------------------------------------- */

enum { JOBS = 8 };

struct simple_job {
	struct job job;
	char name;
};

static atomic_bool gate;
static atomic_uint met;
static char order[JOBS + 1];
static unsigned ended;

static void wait_until(atomic_uint *n, unsigned enough)
{
	unsigned ms;

	for (ms = 0; *n < enough && ms < LATE_MS; ms++)
		poll(NULL, 0, 1);
	late += ms == LATE_MS;
}

static void run_gate(struct job *j UNUSED_PARAM)
{
	unsigned ms;

	for (ms = 0; !gate && ms < LATE_MS; ms++)
		poll(NULL, 0, 1);
	late += ms == LATE_MS;
}

/* Of these one runs at a time. */
static void run_noted(struct job *j)
{
	order[strlen(order)] = ((struct simple_job *)(void *)j)->name;
}

/* Ends when all of them run. */
static void run_meets(struct job *j UNUSED_PARAM)
{
	met++;
	wait_until(&met, JOBS);
}

static void simple_done(struct job *j UNUSED_PARAM)
{
	ended++;
}

static void hand_over(struct simple_job *t, char name, enum job_class class, struct serial_queue *in_turn, void (*run)(struct job *j))
{
	*t = (struct simple_job){ .job = { .run = run, .done = simple_done, .queue = in_turn, .class = (unsigned char)class }, .name = name };
	t->job.owner = name == 'A' ? "A" : name == 'B' ? "B" : NULL;
	pool_submit(&t->job);
}

static void wait_ended(unsigned n)
{
	while (ended < n)
		loop_once(loop_now_ms() + 1);
}

/* Behind one that keeps class, or turn, busy: six of A, then two of B. */
static void test_owners(enum job_class class, struct serial_queue *in_turn)
{
	static struct simple_job busy, job[JOBS];
	unsigned i;

	gate = false;
	ended = 0;
	memset(order, 0, sizeof(order));
	hand_over(&busy, 'g', class, in_turn, run_gate);
	pool_flush(false);
	for (i = 0; i < JOBS; i++)
		hand_over(&job[i], i < JOBS - 2 ? 'A' : 'B', class, in_turn, run_noted);
	pool_flush(false);
	gate = true;
	wait_ended(JOBS + 1);
	CHECK(strcmp(order, "ABABAAAA") == 0);
}

static void test_classes(void)
{
	static struct simple_job busy[JOBS], job[JOBS];
	unsigned i;

	gate = false;
	ended = 0;
	for (i = 0; i < JOBS; i++)
		hand_over(&busy[i], 'g', JOB_LONG, NULL, run_gate);
	for (i = 0; i < JOBS; i++)
		hand_over(&job[i], 'm', i ? JOB_SLOW : JOB_SHORT, NULL, run_meets);
	pool_flush(false);
	wait_ended(JOBS);
	gate = true;
	wait_ended(2 * JOBS);
}

/* ---- turns ---------------------------------------------------------------------------------- */

enum { CROWD = 16, AGAIN_MAX = 2000 };

static unsigned again;

static void run_millisecond(struct job *j UNUSED_PARAM)
{
	met++;
	poll(NULL, 0, 1);
}

static void done_again(struct job *j)
{
	if (again == AGAIN_MAX || ended) {
		ended++;
		return;
	}
	again++;
	pool_submit(j);
}

/* A turn that has all workers, and always somebody who waits, leaves one to others. */
static void test_crowd(void)
{
	static struct serial_queue crowded = { .most = 2 };
	static struct simple_job crowd[CROWD], other;
	unsigned i;

	ended = met = 0;
	for (i = 0; i < CROWD; i++) {
		hand_over(&crowd[i], 'A', JOB_SHORT, &crowded, run_millisecond);
		crowd[i].job.done = done_again;
	}
	pool_flush(false);
	wait_until(&met, 2);
	hand_over(&other, 'B', JOB_SHORT, NULL, run_well);
	while (ended < CROWD + 1) {
		pool_flush(false);
		loop_once(loop_now_ms() + 1);
	}
	CHECK(again < AGAIN_MAX);
}

static void run_met_gate(struct job *j)
{
	met++;
	run_gate(j);
}

/* A quick one that comes on top of a turn leaves its place to nobody. */
static void test_quick_on_top(void)
{
	static struct serial_queue full = { .most = 1 };
	static struct simple_job slow[2], quick;
	unsigned i;

	gate = false;
	ended = met = 0;
	for (i = 0; i < ARRAY_SIZE(slow); i++)
		hand_over(&slow[i], 's', JOB_SHORT, &full, run_met_gate);
	pool_flush(false);
	wait_until(&met, 1);
	hand_over(&quick, 'q', JOB_SHORT, &full, run_well);
	quick.job.quick = true;
	while (pool_flush(true) || !ended)
		loop_once(loop_now_ms() + 1);
	poll(NULL, 0, 100);
	CHECK(met == 1);
	gate = true;
	wait_ended(3);
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
	t->job.queue = &t->queue;
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
	loop_once(loop_now_ms() + 1);
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
	static struct serial_queue own_turn;

	loop_init(LOOP_CORE, true);
	pool_start(2, false, loop);
	test_owners(JOB_LONG, NULL);
	test_owners(JOB_SHORT, &own_turn);
	test_classes();
	test_crowd();
	test_quick_on_top();
	loop();
}
