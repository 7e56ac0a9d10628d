/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads for what may block. A job is run on one of them and comes back to
 * the loop's thread as done(). Order between jobs is not kept.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdbool.h>

struct job {
	void (*run)(struct job *j);  /* on a worker: touches nothing but the job */
	void (*done)(struct job *j); /* on the loop's thread */
	bool in_turn;                /* not beside another one of these */
	struct job *next;
};

/* Dies when threads cannot be had. */
void pool_start(unsigned workers);
/* Loop's thread only. The job starts with the next pool_flush(). */
void pool_submit(struct job *j);
/* Hands over what was submitted, at once: one lock and few wake-ups for many jobs. */
void pool_flush(void);

#endif
