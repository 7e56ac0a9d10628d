/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Worker threads for what may block. A job (core/job.h) is run on one of them and comes back
 * to the loop's thread as done(). Order between jobs is not kept.
 *
 * Each class of jobs has workers of its own, so what takes long never takes all of them. Inside
 * a class, and among those of one turn, the owners of jobs are served in turns, one job each:
 * nobody waits for more than one job of each other owner, however many those have submitted.
 * Work that is long goes in pieces, each a job that is submitted when the one before is done.
 *
 * To wake a worker and to be woken costs more than a write to the page cache. So a job
 * that is quick is run by the loop's thread itself; should it block nevertheless, another
 * thread takes the loop over after a millisecond or two, and this one goes its way.
 */
#ifndef REACTOR_POOL_H
#define REACTOR_POOL_H

#include "core/job.h"

#include <stddef.h>

/* A thread, which nobody waits for; stack_bytes: beside what libc needs. False with errno. */
bool thread_start(void *(*run)(void *), void *arg, size_t stack_bytes);

/*
 * workers: most of JOB_SHORT; half of them of JOB_LONG, and 8 of JOB_SLOW. Each class begins
 * with one, more are started as jobs wait; at_once: all are there from the beginning, so that
 * no memory is taken later. loop: what a thread does that takes the loop over, until the
 * process ends; NULL: none ever does, and no job is quick. Dies when threads cannot be had.
 */
void pool_start(unsigned workers, bool at_once, void (*loop)(void));
/* Loop's thread only. The job starts with the next pool_flush(). */
void pool_submit(struct job *j);
/* Hands over what was submitted, at once: one lock and few wake-ups for many jobs.
 * at_once: what is quick is run here. Other threads may have had the loop before this
 * returns: then the caller must hold nothing on its stack that the loop still needs.
 * True: jobs are done, and may have submitted others. */
bool pool_flush(bool at_once);

#endif
