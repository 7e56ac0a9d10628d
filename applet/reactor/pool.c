/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Worker threads, and the leader/follower handoff of the loop. */
#include "libbb.h"
#include "reactor/lock.h"
#include "reactor/loop.h"
#include "reactor/pool.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

enum {
	/* Beside what libc itself needs of a stack. */
	WORKER_STACK_BYTES = 64 << 10,
	LONG_PART = 8, /* long jobs keep a disk busy: workers for this part of the number of short ones */
	CALLS_MAX = 2, /* threads on their way at a time, see call_more() */
	TICK_MS = 1,
	DISTRUST_MS = 100, /* how long nothing is quick, after the loop was taken over */
};

static struct mutex lock;

struct job_list {
	struct job *first, **tail;
};

/* Under the lock. */
static struct crew {
	struct job *todo; /* a queue */
	unsigned threads, max;
	unsigned idle;  /* threads that wait and were not called yet */
	unsigned calls; /* threads that were called or started, and have not come yet */
	struct condition wake;
} crews[JOB_CLASSES];
static struct job_list todo_quick, finished;
static struct job_list ran; /* quick jobs that this pool_flush() has run; done() is still to be called */
static unsigned quick_steps; /* one for each quick job that begins and for each that ends: odd while one runs */
static bool has_follower;  /* a thread is there that would become the leader: have the loop */
static bool follower_idle; /* it waits for the next quick job */
static struct condition follower_wake;

/* Of the thread that has the loop. */
static struct job_list submitted;
static struct event done_event;
static uint64_t quick_from_ms;

static void (*lead)(void);

/* A thread in its job. Under the lock. */
struct stint {
	struct stint *next;
	const struct job *job;
	uint64_t since_us;
};
static struct stint *stints;

static void list_init(struct job_list *l)
{
	l->first = NULL;
	l->tail = &l->first;
}

static void list_append(struct job_list *l, struct job *j)
{
	j->next = NULL;
	*l->tail = j;
	l->tail = &j->next;
}

static struct job *list_pop(struct job_list *l)
{
	struct job *j = l->first;

	if (j) {
		l->first = j->next;
		if (!l->first)
			l->tail = &l->first;
	}
	return j;
}

/* ---- workers ----------------------------------------------------------------------------- */

bool thread_start(void *(*run)(void *), void *arg, size_t stack_bytes)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED); /* one that ends leaves nothing behind */
	errno = pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN + stack_bytes);
	if (!errno)
		errno = pthread_create(&thread, &attr, run, arg);
	return !errno;
}

static void *worker(void *arg);

/* Wakes an idle thread, or starts a new one if there may be more. */
static void call_worker(struct crew *c)
{
	if (c->idle) {
		c->idle--;
		c->calls++;
		condition_signal(&c->wake);
	} else if (c->threads < c->max && thread_start(worker, c, WORKER_STACK_BYTES)) {
		c->threads++;
		c->calls++;
	}
}

/* For a job that waits: by who has queued it, and by each thread that comes and takes another one. So if
 * jobs wait for a disk, as many threads come as there are jobs. Jobs that take less time than a thread
 * needs to come are done by the first few. */
static void call_more(struct crew *c)
{
	if (c->todo && c->calls < CALLS_MAX)
		call_worker(c);
}

static void give_worker(struct job *j)
{
	struct crew *c = &crews[j->class];

	queue_put(&c->todo, j);
	call_more(c);
}

/* Lets j run, or queues it in its serial queue. here: the core's thread runs it, if it is
 * quick. Under the lock. */
static void enqueue(struct job *j, bool here)
{
	struct serial_queue *t = j->queue;

	here = here && j->quick;
	if (t && t->running && t->running >= t->most && !(here && t->most)) {
		queue_put(&t->waiting, j);
		return;
	}
	if (t)
		t->running++;
	if (here)
		list_append(&todo_quick, j);
	else
		give_worker(j);
}

/* j has been run: the next of its serial queue may run now. Returns that one, or NULL. */
static struct job *pop_waiting(struct job *j)
{
	struct serial_queue *t = j->queue;
	/* A quick job may have run in excess of `most`: then nobody inherits its place. */
	struct job *next = t && (!t->most || t->running <= t->most) ? queue_pop(&t->waiting) : NULL;

	if (t && !next)
		t->running--;
	return next;
}

/* Gives these jobs back to the loop. Under the lock, which is released for the system call. */
static void finish(struct job *first)
{
	static const uint64_t one = 1;
	bool tell = !finished.first;

	while (first) {
		struct job *next = first->next;

		list_append(&finished, first);
		first = next;
	}
	if (tell) {
		mutex_unlock(&lock);
		safe_write(done_event.fd, &one, sizeof(one));
		mutex_lock(&lock);
	}
}

/* Under the lock, which is released meanwhile. */
static void run(struct job *j)
{
	struct stint s = { .next = stints, .job = j }, **at = &stints;

	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE) {
		s.since_us = loop_clock_us();
		stints = &s;
	}
	mutex_unlock(&lock);
	j->run(j);
	mutex_lock(&lock);
	if (!ENABLE_FEATURE_XNBD_SERVER_UPGRADE)
		return;
	while (*at != &s)
		at = &(*at)->next;
	*at = s.next;
}

bool pool_hangs(unsigned ms)
{
	uint64_t since_us = loop_clock_us() - ms * 1000ULL;
	const struct stint *s;

	mutex_lock(&lock);
	for (s = stints; s && (s->job->killable || s->since_us > since_us); s = s->next)
		;
	mutex_unlock(&lock);
	return s;
}

/* Until no job waits. Under the lock, which is released meanwhile. */
static void work(struct crew *c)
{
	struct job *j, *next;

	while ((j = queue_pop(&c->todo)) != NULL) {
		call_more(c);
		run(j);
		next = pop_waiting(j);
		if (next) /* behind those of other serial queues, who could wait forever else */
			queue_put(&c->todo, next);
		j->next = NULL;
		finish(j);
	}
}

static void *worker(void *arg)
{
	struct crew *c = arg;

	mutex_lock(&lock);
	for (;;) {
		while (!c->calls)
			condition_wait(&c->wake, &lock);
		c->calls--;
		work(c);
		c->idle++;
	}
	return arg;
}

/* ---- quick jobs ------------------------------------------------------------------------- */

/* Checks every millisecond whether the core's thread is still in the same quick job; is idle while
 * there is none. Under the lock; returns with it held when this thread has become the leader. */
static void watch_loop(void)
{
	unsigned seen;

	has_follower = true;
	for (;;) {
		seen = quick_steps;
		mutex_unlock(&lock);
		(void)poll(NULL, 0, TICK_MS); /* no longer than that */
		mutex_lock(&lock);
		if (quick_steps != seen)
			continue;
		if (seen % 2)
			break;
		follower_idle = true;
		while (follower_idle)
			condition_wait(&follower_wake, &lock);
	}
	has_follower = false;
	quick_steps++;
}

static struct job *pop_ran(void)
{
	struct job *j = ran.first;

	list_init(&ran);
	return j;
}

/* Returns, with the lock, when the loop is this thread's. */
static void wait_to_lead(void)
{
	struct job *j;

	watch_loop();
	quick_from_ms = loop_now_ms() + DISTRUST_MS;
	/* What the previous owner has left: jobs to run, and jobs whose done() is to be called. */
	while ((j = list_pop(&todo_quick)) != NULL) {
		if (j->queue) /* no longer quick: no more of them than of others */
			j->queue->running--;
		enqueue(j, false);
	}
	finish(pop_ran());
}

static void *standby(void *arg)
{
	this_loop = arg;
	mutex_lock(&lock);
	wait_to_lead();
	mutex_unlock(&lock);
	lead();
	return arg;
}

/* Runs j. Under the lock, which is released meanwhile. False: another thread owns the loop now. */
static bool run_here(struct job *j)
{
	unsigned step = ++quick_steps;
	struct job *next;

	if (follower_idle) {
		follower_idle = false;
		condition_signal(&follower_wake);
	}
	run(j);
	next = pop_waiting(j);
	if (next && next->quick && quick_steps == step) {
		list_append(&todo_quick, next);
	} else if (next) {
		give_worker(next);
	}
	if (quick_steps != step)
		return false;
	quick_steps++;
	return true;
}

/* Runs the quick jobs. Under the lock. If this thread loses the loop meanwhile, returns only when
 * it owns it again: so a thread that loses it often needs no more stack than others. */
static void run_quick(void)
{
	struct job *j;

	while ((j = list_pop(&todo_quick)) != NULL) {
		if (run_here(j)) {
			list_append(&ran, j);
			continue;
		}
		j->next = NULL;
		finish(j);
		wait_to_lead();
		return;
	}
}

/* ---- the loop's side --------------------------------------------------------------------- */

static void all_done(struct job *j)
{
	while (j) {
		struct job *next = j->next;

		j->done(j);
		j = next;
	}
}

static void jobs_done(struct event *e UNUSED_PARAM, uint32_t events UNUSED_PARAM)
{
	struct job *j;

	mutex_lock(&lock);
	j = finished.first;
	list_init(&finished);
	mutex_unlock(&lock);
	all_done(j);
}

void pool_start(unsigned workers, bool at_once, void (*loop)(void))
{
	const unsigned max[JOB_CLASSES] = { workers, (workers + LONG_PART - 1) / LONG_PART,
					    at_once ? SLOW_WORKERS_AT_ONCE : SLOW_WORKERS };
	struct crew *c;

	list_init(&todo_quick);
	list_init(&finished);
	list_init(&ran);
	list_init(&submitted);
	done_event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	done_event.ready = jobs_done;
	/* EPOLLET: each write is an event, so that nobody has to read it. */
	if (done_event.fd < 0 || !event_add(&done_event, EPOLLIN | EPOLLET))
		bb_simple_perror_msg_and_die("eventfd");
	mutex_lock(&lock);
	for (c = crews; c < crews + JOB_CLASSES; c++) {
		c->max = max[c - crews];
		do
			call_worker(c);
		while (at_once && c->threads && c->threads < c->max);
		if (!c->threads)
			break;
	}
	mutex_unlock(&lock);
	lead = loop;
	if (c != crews + JOB_CLASSES || (loop && !thread_start(standby, this_loop, LOOP_STACK_BYTES)))
		bb_simple_perror_msg_and_die("cannot start a thread");
}

void pool_submit(struct job *j)
{
	list_append(&submitted, j);
}

bool pool_flush(bool at_once)
{
	struct job *j, *next;

	if (!submitted.first)
		return false;
	mutex_lock(&lock);
	at_once = at_once && has_follower && loop_now_ms() >= quick_from_ms;
	for (j = submitted.first; j; j = next) {
		next = j->next;
		enqueue(j, at_once);
	}
	list_init(&submitted);
	if (at_once)
		run_quick();
	j = pop_ran();
	mutex_unlock(&lock);
	all_done(j);
	return j != NULL;
}
