/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A mutex and a condition on futex(2): what the threads of this program need of
 * pthread_mutex_lock(3) and pthread_cond_wait(3), which musl has in 4 KB. All zero is a
 * mutex that nobody holds, and a condition. errno is kept. The mutex: "Futexes Are Tricky"
 * (U. Drepper), its third.
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

/* Gives the mutex, which the caller holds, away until a signal, and has it again. May return
 * without one, so what is waited for is looked at again. */
void condition_wait(struct condition *c, struct mutex *m);
/* Wakes one who waits. The caller holds the mutex. */
void condition_signal(struct condition *c);

#endif
