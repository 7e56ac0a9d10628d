/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Worker threads for work that may block. A job (core/job.h) is run on one of them and comes back to the core's thread
 * as done(). Jobs may run in any order.
 *
 * Each class of jobs has its own workers, so long jobs never occupy all of them. Within a class, and within a struct
 * serial_queue, the owners of jobs are served round-robin, one job each: no owner waits for more than one job of each
 * other owner, however many jobs those have submitted. Long work is cut into pieces, each a job that is submitted when
 * the previous one is done.
 *
 * Jobs with the same struct serial_queue share a limit: `most` of them run at a time, or one if `most` is 0; the
 * others wait, and occupy no worker. So a disk that hangs leaves workers for others. A quick job does
 * not wait if `most` is not 0: it runs in addition to the `most` others.
 *
 * Waking a worker and being woken costs more than a write to the page cache. So the core's thread runs a quick job
 * itself. If that blocks for more than a millisecond or two, the follower (a standby thread) takes over the loop and
 * becomes the leader; when the job returns, its thread becomes the follower.
 */
#ifndef REACTOR_POOL_H
#define REACTOR_POOL_H

#include "core/job.h"

#include <stddef.h>

enum { LOOP_STACK_BYTES = 128 << 10 }; /* of a thread with a loop: a reader of control lines needs 17 KiB */

/* Enough that some jobs may hang forever. Of each kind only so many run at a time: lookups of names (three queues, of so many
 * each), keys of a new origin and keys that are read again, hooks; and one job each for the log, keys of clients, devices, the
 * database, a trace, a snapshot and an upgrade. Exports that are opened or closed leave so many workers to all of these. */
enum {
	SLOW_WORKERS = 64,
	SLOW_WORKERS_AT_ONCE = 8,
	SLOW_LOOKUPS = 2,
	SLOW_KEYS = 2,
	SLOW_HOOKS = 2,
	SLOW_OTHERS = 3 * SLOW_LOOKUPS + 2 * SLOW_KEYS + SLOW_HOOKS + 7,
	SLOW_OTHERS_AT_ONCE = 6, /* of one disk */
};

/* Starts a thread that nobody joins. stack_bytes: on top of what libc needs. False with errno. */
bool thread_start(void *(*run)(void *), void *arg, size_t stack_bytes);

/*
 * workers: the most threads for JOB_SHORT; JOB_LONG has an eighth of that, JOB_SLOW SLOW_WORKERS. Each class begins
 * with one and adds more, one after the other, while jobs wait; none ends. at_once: all are started now, so that none
 * takes memory later, and JOB_SLOW has SLOW_WORKERS_AT_ONCE. loop: called by a thread that takes the loop over, never
 * returns; NULL: no thread ever does, and no job is quick. Dies when threads cannot be started.
 */
void pool_start(unsigned workers, bool at_once, void (*loop)(void));
/* Core's thread only. The job starts with the next pool_flush(). */
void pool_submit(struct job *j);
/* Hands all submitted jobs over in one go: one lock and few wake-ups. Core's thread only. at_once:
 * runs quick jobs right here. Other threads may have had the loop before this returns: so the
 * caller must hold nothing on its stack that the loop still needs. True: some jobs were done here,
 * and may have submitted others. */
bool pool_flush(bool at_once);

/* Whether a thread has been in a job for so long that no signal may end: it waits for a disk. Any thread. */
bool pool_hangs(unsigned ms);

/* A job that may be requested again while it is running, because its input has changed: then it runs once more. Loop's
 * thread only. */
struct repeated_job {
	struct job job;
	bool busy, again;
};

/* Whether it may be submitted now; else it will be asked for again. */
static inline bool repeated_begin(struct repeated_job *r)
{
	r->again = r->busy;
	r->busy = true;
	return !r->again;
}

static inline void repeated_submit(struct repeated_job *r, enum job_class class, void (*on_worker)(struct job *),
				   void (*done)(struct job *))
{
	r->job.run = on_worker;
	r->job.done = done;
	r->job.class = class;
	pool_submit(&r->job);
}

/* To be called in its done(): true if it was requested meanwhile, so the caller must submit it again. */
static inline bool repeated_end(struct repeated_job *r)
{
	r->busy = false;
	return r->again;
}

#endif
