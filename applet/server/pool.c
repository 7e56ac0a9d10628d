/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worker threads. */
#include "libbb.h"
#include "server/loop.h"
#include "server/pool.h"

#include <pthread.h>
#include <sys/eventfd.h>

enum { WORKER_STACK_BYTES = 64 << 10 };

struct job_list {
	struct job *first, **tail;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
/* Under the lock. */
static struct job_list todo, todo_in_turn, finished;
static bool turn_taken;
static unsigned idle;

static struct job_list submitted; /* loop's thread only */
static unsigned submitted_count;
static struct event done_event;

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

/* The next job that may run now, or NULL. */
static struct job *take_job(void)
{
	struct job *j = turn_taken ? NULL : list_take(&todo_in_turn);

	if (!j)
		return list_take(&todo);
	turn_taken = true;
	return j;
}

static void *worker(void *arg)
{
	static const uint64_t one = 1;

	pthread_mutex_lock(&lock);
	for (;;) {
		struct job *j = take_job();
		bool tell;

		if (!j) {
			idle++;
			pthread_cond_wait(&wake, &lock);
			idle--;
			continue;
		}
		pthread_mutex_unlock(&lock);
		j->run(j);
		pthread_mutex_lock(&lock);
		if (j->in_turn)
			turn_taken = false; /* this worker will find the next one */
		tell = !finished.first;
		list_append(&finished, j);
		if (tell) {
			pthread_mutex_unlock(&lock);
			safe_write(done_event.fd, &one, sizeof(one));
			pthread_mutex_lock(&lock);
		}
	}
	return arg;
}

static void jobs_done(struct event *e UNUSED_PARAM, uint32_t events UNUSED_PARAM)
{
	struct job *j;

	pthread_mutex_lock(&lock);
	j = finished.first;
	list_init(&finished);
	pthread_mutex_unlock(&lock);
	while (j) {
		struct job *next = j->next;

		j->done(j);
		j = next;
	}
}

void pool_start(unsigned workers)
{
	pthread_attr_t attr;
	pthread_t thread;

	list_init(&todo);
	list_init(&todo_in_turn);
	list_init(&finished);
	list_init(&submitted);
	done_event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	done_event.ready = jobs_done;
	/* EPOLLET: each write is an event, so that nobody has to read it. */
	if (done_event.fd < 0 || !event_add(&done_event, EPOLLIN | EPOLLET))
		bb_simple_perror_msg_and_die("eventfd");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
	while (workers--) {
		errno = pthread_create(&thread, &attr, worker, NULL);
		if (errno)
			bb_simple_perror_msg_and_die("cannot start a thread");
	}
}

void pool_submit(struct job *j)
{
	list_append(&submitted, j);
	submitted_count++;
}

void pool_flush(void)
{
	struct job *j, *next;
	unsigned n;

	if (!submitted.first)
		return;
	pthread_mutex_lock(&lock);
	for (j = submitted.first; j; j = next) {
		next = j->next;
		list_append(j->in_turn ? &todo_in_turn : &todo, j);
	}
	n = submitted_count < idle ? submitted_count : idle;
	pthread_mutex_unlock(&lock);
	while (n--)
		pthread_cond_signal(&wake);
	list_init(&submitted);
	submitted_count = 0;
}
