/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A job: work for another thread, see reactor/pool.h. Each struct io has one, for the port
 * to the disk; the core only provides the space. And queues of jobs, whose owners take turns: also the fetches that
 * wait to be sent are in one (core/fetch.c), by the job that stores them later.
 */
#ifndef CORE_JOB_H
#define CORE_JOB_H

#include <stdbool.h>

enum job_class {
	JOB_SHORT, /* one transfer, or one sync */
	JOB_LONG,  /* a piece of what may be 4 GiB long: zeroes, a trim, a look for data */
	JOB_SLOW,  /* may take minutes, or forever: names, files opened and closed, a snapshot */
	JOB_CLASSES,
};

/* Jobs of one class, of which at most `most` run at a time; 0: one. All else is
 * zero at first. It must exist until the last of them is done. */
struct serial_queue {
	unsigned most, running;
	struct job *waiting; /* a queue */
};

struct job {
	void (*run)(struct job *j);  /* on any thread: touches the job, and what its owner's header allows a worker */
	void (*done)(struct job *j); /* on the core's thread */
	struct serial_queue *queue;  /* or NULL */
	const void *owner;           /* owners are served in turns; only compared */
	unsigned char class;         /* enum job_class */
	bool killable;               /* it waits for no disk: a thread in it can be ended */
	bool quick;                  /* seldom blocks: the core's thread may run it */
	struct job *next;            /* in a list; in a queue: the same owner's next job */
	struct job *next_owner;      /* in a queue, in an owner's first job: the next owner's first job */
	struct job *last;            /* in a queue, in an owner's first job: this owner's last job */
};

/* A queue is NULL at first. Any thread, one at a time. */
/* The last job of its owner, which, if it has no other, is the last owner. */
void queue_put(struct job **queue, struct job *j);
/* The first owner's first job, *queue; this owner is the last now. NULL: there is none. */
struct job *queue_pop(struct job **queue);
/* j is in the queue. Takes as long as its owner has jobs before it. */
void queue_remove(struct job **queue, struct job *j);
/* j, which is in the queue, becomes the last job of this owner. */
void queue_move(struct job **queue, struct job *j, const void *owner);
/* The same if it comes sooner by that, in turns; it does not if the owner is its own. */
void queue_hurry(struct job **queue, struct job *j, const void *owner);

#endif
