/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worker threads, and the passing on of the loop. */
#include "libbb.h"
#include "server/loop.h"
#include "server/pool.h"

#include <pthread.h>
#include <poll.h>
#include <sys/eventfd.h>

enum {
	WORKER_STACK_BYTES = 64 << 10,
	LOOP_STACK_BYTES = 128 << 10, /* a reader of control lines needs 17 KiB */
	TICK_MS = 1,
	DISTRUST_MS = 100, /* so long nothing is quick, after the loop was taken over */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
/* Under the lock. */
static struct job_list todo, todo_quick, finished;
static struct job_list ran; /* quick ones that the loop's thread has run since it came to pool_flush() */
static unsigned idle;
static unsigned quick_steps; /* one for each quick job that begins and for each that ends: odd while one runs */
static bool standing_by;     /* a thread is there that would take the loop over */
static bool dozing;          /* it waits for the next quick job */
static pthread_cond_t doze = PTHREAD_COND_INITIALIZER;

/* Of the thread that has the loop. */
static struct job_list submitted;
static struct event done_event;
static uint64_t quick_from_ms;

static void (*take_over)(void);

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

static struct job *list_take(struct job_list *l)
{
	struct job *j = l->first;

	if (j) {
		l->first = j->next;
		if (!l->first)
			l->tail = &l->first;
	}
	return j;
}

/* j may run now, or has its place behind others of its turn. True: a worker is needed. */
static bool enqueue(struct job *j, bool here)
{
	bool worker = false;

	if (j->turn && j->turn->taken) {
		list_append(&j->turn->waiting, j);
	} else {
		if (j->turn) {
			j->turn->taken = true;
			list_init(&j->turn->waiting);
		}
		worker = !here || !j->quick;
		list_append(worker ? &todo : &todo_quick, j);
	}
	return worker;
}

/* j has been run: who waited for its turn may run now. Returns that one, or NULL. */
static struct job *pass_turn(struct job *j)
{
	struct job *next = j->turn ? list_take(&j->turn->waiting) : NULL;

	if (j->turn && !next)
		j->turn->taken = false;
	return next;
}

/* They go back to the loop. Under the lock, which is let go for the system call. */
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
		pthread_mutex_unlock(&lock);
		safe_write(done_event.fd, &one, sizeof(one));
		pthread_mutex_lock(&lock);
	}
}

static void *worker(void *arg)
{
	struct job *next = NULL;

	pthread_mutex_lock(&lock);
	for (;;) {
		struct job *j = next ? next : list_take(&todo);

		if (!j)
			j = list_take(&todo_quick);
		if (!j) {
			idle++;
			pthread_cond_wait(&wake, &lock);
			idle--;
			continue;
		}
		pthread_mutex_unlock(&lock);
		j->run(j);
		pthread_mutex_lock(&lock);
		next = pass_turn(j);
		j->next = NULL;
		finish(j);
	}
	return arg;
}

/* ---- quick jobs ------------------------------------------------------------------------- */

/* Looks each millisecond whether the loop's thread is still in the same job, and dozes
 * when there are none. Under the lock; returns with it when the loop is this thread's. */
static void watch_loop(void)
{
	unsigned seen;

	standing_by = true;
	for (;;) {
		seen = quick_steps;
		pthread_mutex_unlock(&lock);
		(void)poll(NULL, 0, TICK_MS); /* no longer than that */
		pthread_mutex_lock(&lock);
		if (quick_steps != seen)
			continue;
		if (seen % 2)
			break;
		dozing = true;
		while (dozing)
			pthread_cond_wait(&doze, &lock);
	}
	standing_by = false;
	quick_steps++;
}

static struct job *take_ran(void)
{
	struct job *j = ran.first;

	list_init(&ran);
	return j;
}

/* Returns, with the lock, when the loop is this thread's. */
static void stand_by(void)
{
	watch_loop();
	quick_from_ms = loop_now_ms + DISTRUST_MS;
	/* For what the other one has left: to be run, and to be told. */
	pthread_cond_broadcast(&wake);
	finish(take_ran());
}

static void *standby(void *arg)
{
	pthread_mutex_lock(&lock);
	stand_by();
	pthread_mutex_unlock(&lock);
	take_over();
	return arg;
}

/* Under the lock, which is let go meanwhile. False: the loop is another's now. */
static bool run_here(struct job *j)
{
	unsigned step = ++quick_steps;
	struct job *next;

	if (dozing) {
		dozing = false;
		pthread_cond_signal(&doze);
	}
	pthread_mutex_unlock(&lock);
	j->run(j);
	pthread_mutex_lock(&lock);
	next = pass_turn(j);
	if (next && next->quick && quick_steps == step) {
		list_append(&todo_quick, next);
	} else if (next) {
		list_append(&todo, next);
		pthread_cond_signal(&wake);
	}
	if (quick_steps != step)
		return false;
	quick_steps++;
	return true;
}

/* Under the lock. When the loop is lost meanwhile, this returns when it is this thread's
 * again: so a thread that loses it often needs no more stack than others. */
static void run_quick(void)
{
	struct job *j;

	while ((j = list_take(&todo_quick)) != NULL) {
		if (run_here(j)) {
			list_append(&ran, j);
			continue;
		}
		j->next = NULL;
		finish(j);
		stand_by();
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

	pthread_mutex_lock(&lock);
	j = finished.first;
	list_init(&finished);
	pthread_mutex_unlock(&lock);
	all_done(j);
}

void thread_start(void *(*run)(void *), size_t stack_bytes)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_bytes);
	errno = pthread_create(&thread, &attr, run, NULL);
	if (errno)
		bb_simple_perror_msg_and_die("cannot start a thread");
}

void pool_start(unsigned workers, void (*loop)(void))
{
	list_init(&todo);
	list_init(&todo_quick);
	list_init(&finished);
	list_init(&ran);
	list_init(&submitted);
	done_event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	done_event.ready = jobs_done;
	/* EPOLLET: each write is an event, so that nobody has to read it. */
	if (done_event.fd < 0 || !event_add(&done_event, EPOLLIN | EPOLLET))
		bb_simple_perror_msg_and_die("eventfd");
	while (workers--)
		thread_start(worker, WORKER_STACK_BYTES);
	take_over = loop;
	if (loop)
		thread_start(standby, LOOP_STACK_BYTES);
}

void pool_submit(struct job *j)
{
	list_append(&submitted, j);
}

bool pool_flush(bool at_once)
{
	struct job *j, *next;
	unsigned n = 0;

	if (!submitted.first)
		return false;
	pthread_mutex_lock(&lock);
	at_once = at_once && standing_by && loop_now_ms >= quick_from_ms;
	for (j = submitted.first; j; j = next) {
		next = j->next;
		n += enqueue(j, at_once);
	}
	list_init(&submitted);
	for (n = n < idle ? n : idle; n; n--)
		pthread_cond_signal(&wake);
	if (at_once)
		run_quick();
	j = take_ran();
	pthread_mutex_unlock(&lock);
	all_done(j);
	return j != NULL;
}
