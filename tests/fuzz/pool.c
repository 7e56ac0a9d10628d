/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The workers of reactor/pool.h, without threads: jobs run when they are handed over or,
 * on a slow disk, when the world says so. And reactor/log.h: messages are written at once. */
#include "libbb.h"
#include "reactor/log.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "world.h"

#include <sys/eventfd.h>

bool pool_slow;

static struct job_list {
	struct job *first, **tail;
} submitted, todo, finished;
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

static void list_remove(struct job_list *l, struct job *j)
{
	struct job **p = &l->first;

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	if (!*p)
		l->tail = p;
}

static void jobs_done(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct job *j = finished.first;
	uint64_t n;

	safe_read(e->fd, &n, sizeof(n));
	list_init(&finished);
	while (j) {
		struct job *next = j->next;

		j->done(j);
		j = next;
	}
}

/* There is one processor, so nobody asks for one. */
bool thread_start(void *(*run)(void *) UNUSED_PARAM, void *arg UNUSED_PARAM, size_t stack_bytes UNUSED_PARAM)
{
	abort();
}

void pool_start(unsigned workers UNUSED_PARAM, bool at_once UNUSED_PARAM, void (*loop)(void) UNUSED_PARAM)
{
	list_init(&submitted);
	list_init(&todo);
	list_init(&finished);
	done_event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	done_event.ready = jobs_done;
	if (done_event.fd < 0 || !event_add(&done_event, EPOLLIN))
		bb_simple_perror_msg_and_die("eventfd");
}

void pool_submit(struct job *j)
{
	list_append(&submitted, j);
}

bool pool_step(bool newest)
{
	static const uint64_t one = 1;
	struct job *j = todo.first, *in_turn = NULL, *i;

	for (i = todo.first; i && newest; i = i->next) {
		if (i->queue && !i->queue->most && in_turn)
			continue; /* not before the one in front of it */
		in_turn = i->queue && !i->queue->most ? i : in_turn;
		j = i;
	}
	if (!j)
		return false;
	list_remove(&todo, j);
	j->run(j);
	list_append(&finished, j);
	safe_write(done_event.fd, &one, sizeof(one));
	return true;
}

/* Nothing is quick here. */
bool pool_hangs(unsigned ms UNUSED_PARAM)
{
	return false;
}

bool pool_flush(bool at_once UNUSED_PARAM)
{
	struct job *j;

	while ((j = submitted.first)) {
		list_remove(&submitted, j);
		list_append(&todo, j);
	}
	while (!pool_slow && pool_step(false))
		;
	return false;
}

void log_begin(bool syslog UNUSED_PARAM, bool file UNUSED_PARAM)
{
}

void log_end(void)
{
}

void log_notify(const char *state UNUSED_PARAM)
{
}

uint64_t log_lost(void)
{
	return 0;
}

void log_handover(void)
{
}
