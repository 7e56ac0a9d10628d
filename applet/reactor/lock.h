/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A mutex and a condition variable on futex(2): all that this program needs of
 * pthread_mutex_lock(3) and pthread_cond_wait(3), which take 4 KB in musl. All zeroes is a free
 * mutex, and an initialised condition. errno is preserved. The mutex is the third one of "Futexes
 * Are Tricky" (U. Drepper).
 */
#ifndef REACTOR_LOCK_H
#define REACTOR_LOCK_H

struct mutex {
	unsigned state; /* 0: free; 1: held; 2: held, and somebody may wait */
};

struct condition {
	unsigned signals;
};

/* Not by the thread that holds it. */
void mutex_lock(struct mutex *m);
/* By the thread that holds it. */
void mutex_unlock(struct mutex *m);

/* Releases m, which the caller holds, waits for a signal, and locks m again. May return without a
 * signal, so the caller must check again what it waits for. */
void condition_wait(struct condition *c, struct mutex *m);
/* Wakes one who waits. The caller holds the mutex. */
void condition_signal(struct condition *c);

#endif
