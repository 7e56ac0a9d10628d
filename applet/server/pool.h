/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads for what may block. A job is run on one of them and comes back to
 * the loop's thread as done(). Order between jobs is not kept.
 *
 * To wake a worker and to be woken costs more than a write to the page cache. So a job
 * that is quick is run by the loop's thread itself; should it block nevertheless, another
 * thread takes the loop over after a millisecond or two, and this one goes its way.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdbool.h>
#include <stddef.h>

/* Jobs of one turn are not run beside each other. All zero at the start; it stays until
 * the last of them is done. */
struct turn {
	bool taken;
	struct job_list {
		struct job *first, **tail;
	} waiting;
};

struct job {
	void (*run)(struct job *j);  /* on any thread: touches nothing but the job */
	void (*done)(struct job *j); /* on the loop's thread */
	struct turn *turn;           /* or NULL */
	bool quick;                  /* seldom blocks */
	struct job *next;
};

/* A thread, which nobody waits for. Dies when it cannot be had. */
void thread_start(void *(*run)(void *), size_t stack_bytes);

/* loop: what a thread does that takes the loop over, until the process ends; NULL: none
 * ever does, and no job is quick. Dies when threads cannot be had. */
void pool_start(unsigned workers, void (*loop)(void));
/* Loop's thread only. The job starts with the next pool_flush(). */
void pool_submit(struct job *j);
/* Hands over what was submitted, at once: one lock and few wake-ups for many jobs.
 * at_once: what is quick is run here. Other threads may have had the loop before this
 * returns: then the caller must hold nothing on its stack that the loop still needs.
 * True: jobs are done, and may have submitted others. */
bool pool_flush(bool at_once);

#endif
