/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A job: work for another thread. What the port to the disk keeps in each struct io;
 * reactor/pool.h tells what becomes of it. The core only gives it room.
 */
#ifndef CORE_JOB_H
#define CORE_JOB_H

#include <stdbool.h>

enum job_class {
	JOB_SHORT, /* one transfer, or one sync */
	JOB_LONG,  /* a piece of what may be 4 GiB long: zeroes, a trim, a look for data */
	JOB_SLOW,  /* may take minutes, or for ever: names, files opened and closed, a snapshot */
	JOB_CLASSES,
};

/* Of the jobs of one turn, all of one class, `most` are run beside each other; 0: one. All else zero at
 * the start; it stays until the last of them is done. */
struct turn {
	unsigned most, running;
	struct job *waiting; /* a queue */
};

struct job {
	void (*run)(struct job *j);  /* on any thread: touches nothing but the job */
	void (*done)(struct job *j); /* on the loop's thread */
	struct turn *turn;           /* or NULL */
	const void *owner;           /* owners are served in turns; only compared */
	unsigned char class;         /* enum job_class */
	bool quick;                  /* seldom blocks */
	struct job *next;            /* of its list; in a queue: the owner's next */
	struct job *next_owner;      /* in a queue, of an owner's first job: the first of the next owner */
	struct job *last;            /* ... and the last of this one */
};

#endif
