/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A mutex and a condition on futex(2). */
#include "libbb.h"
#include "reactor/lock.h"

#include <sys/syscall.h>

#ifndef SYS_futex
#define SYS_futex SYS_futex_time64 /* 32-bit machines that never had the other */
#endif

enum { /* linux/futex.h */
	X_FUTEX_WAIT = 0,
	X_FUTEX_WAKE = 1,
	X_FUTEX_PRIVATE_FLAG = 128,
};

static void futex(unsigned *word, int op, unsigned value)
{
	int error = errno;

	syscall(SYS_futex, word, op | X_FUTEX_PRIVATE_FLAG, value, NULL);
	errno = error;
}

void mutex_lock(struct mutex *m)
{
	unsigned was = 0;

	if (__atomic_compare_exchange_n(&m->state, &was, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&m->state, 2, __ATOMIC_ACQUIRE) != 0)
		futex(&m->state, X_FUTEX_WAIT, 2);
}

void mutex_unlock(struct mutex *m)
{
	if (__atomic_exchange_n(&m->state, 0, __ATOMIC_RELEASE) == 2)
		futex(&m->state, X_FUTEX_WAKE, 1);
}

void condition_wait(struct condition *c, struct mutex *m)
{
	unsigned signals = __atomic_load_n(&c->signals, __ATOMIC_RELAXED);

	mutex_unlock(m);
	futex(&c->signals, X_FUTEX_WAIT, signals);
	mutex_lock(m);
}

void condition_signal(struct condition *c)
{
	__atomic_fetch_add(&c->signals, 1, __ATOMIC_RELAXED);
	futex(&c->signals, X_FUTEX_WAKE, 1);
}
