/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * costs FILE: processor time, in microseconds, of what bounds a server with many threads. FILE is in
 * the page cache, and is overwritten.
 *
 * Handing over: two threads, each with a list under a mutex and an eventfd; one gives the other so many
 * messages at a time and gets them back. For each message, both ways.
 * Reading, writing: so many threads read or write 4 KiB at random of one file. For each of these, and how many
 * there are in a second.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, THREADS_MAX = 64, BATCH_MAX = 64 };
static const double SECONDS = 0.3;

struct message {
	struct message *next;
	int ends;
};

static struct side {
	pthread_mutex_t lock;
	struct message *list;
	int event;
} sides[2];

static int file;
static uint64_t blocks;
static volatile int stops;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "costs: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double clock_s(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- handing over -------------------------------------------------------------------------- */

static void give(struct side *to, struct message *list, struct message *last)
{
	static const uint64_t one = 1;
	int tell;

	pthread_mutex_lock(&to->lock);
	tell = !to->list;
	last->next = to->list;
	to->list = list;
	pthread_mutex_unlock(&to->lock);
	if (tell && write(to->event, &one, sizeof(one)) != sizeof(one))
		die("eventfd");
}

static struct message *take(struct side *from)
{
	struct message *list;
	uint64_t events;

	if (read(from->event, &events, sizeof(events)) != sizeof(events))
		die("eventfd");
	pthread_mutex_lock(&from->lock);
	list = from->list;
	from->list = NULL;
	pthread_mutex_unlock(&from->lock);
	return list;
}

/* Gives all of them back. */
static void *core(void *arg)
{
	for (;;) {
		struct message *list = take(&sides[1]);
		struct message *last = list;
		int ends = list->ends;

		while (last->next)
			last = last->next;
		give(&sides[0], list, last);
		if (ends)
			return arg;
	}
}

static void hand_over(unsigned batch)
{
	static struct message all[BATCH_MAX];
	double cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID), end = clock_s(CLOCK_MONOTONIC) + SECONDS;
	uint64_t rounds = 0;
	pthread_t thread;
	unsigned i;

	all[0].ends = 0;
	pthread_create(&thread, NULL, core, NULL);
	while (!all[0].ends) {
		unsigned back = 0;

		all[0].ends = clock_s(CLOCK_MONOTONIC) >= end;
		for (i = 0; i + 1 < batch; i++)
			all[i].next = &all[i + 1];
		give(&sides[1], &all[0], &all[batch - 1]);
		while (back < batch) {
			struct message *m = take(&sides[0]);

			for (; m; m = m->next)
				back++;
		}
		rounds++;
	}
	pthread_join(thread, NULL);
	cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu_s;
	printf("hand over, %u at a time: %.2f us\n", batch, cpu_s * 1e6 / (double)(rounds * batch));
}

/* ---- side by side ---------------------------------------------------------------------------- */

struct worker {
	pthread_t thread;
	int writes;
	uint64_t x, done;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	char buf[BLOCK];
	struct iovec v = { buf, BLOCK };

	memset(buf, 0x5a, sizeof(buf));
	while (!stops) {
		off_t at;

		w->x ^= w->x << 13;
		w->x ^= w->x >> 7;
		w->x ^= w->x << 17;
		at = (off_t)(w->x % blocks * BLOCK);
		if ((w->writes ? pwrite(file, buf, BLOCK, at) : preadv2(file, &v, 1, at, RWF_NOWAIT)) != BLOCK)
			die("the file is not in the page cache");
		w->done++;
	}
	return arg;
}

static void side_by_side(int writes, unsigned threads)
{
	static struct worker all[THREADS_MAX];
	double cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID), begun = clock_s(CLOCK_MONOTONIC), taken;
	uint64_t done = 0;
	unsigned i;

	stops = 0;
	for (i = 0; i < threads; i++) {
		all[i] = (struct worker){ .writes = writes, .x = 88172645463325252ULL * (i + 1) };
		pthread_create(&all[i].thread, NULL, work, &all[i]);
	}
	usleep((useconds_t)(SECONDS * 1e6));
	stops = 1;
	for (i = 0; i < threads; i++) {
		pthread_join(all[i].thread, NULL);
		done += all[i].done;
	}
	taken = clock_s(CLOCK_MONOTONIC) - begun;
	cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu_s;
	printf("%s, %u threads: %.2f us, %.0f k/s\n", writes ? "write" : "read", threads, cpu_s * 1e6 / (double)done, (double)done / taken / 1000);
}

int main(int argc, char **argv)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	char buf[BLOCK];
	uint64_t i;
	unsigned n;

	if (argc != 2) {
		fputs("usage: costs FILE\n", stderr);
		return 1;
	}
	file = open(argv[1], O_RDWR | O_CLOEXEC);
	if (file < 0)
		die(argv[1]);
	blocks = (uint64_t)lseek(file, 0, SEEK_END) / BLOCK;
	for (i = 0; i < blocks; i++)
		if (pread(file, buf, BLOCK, (off_t)(i * BLOCK)) != BLOCK)
			die(argv[1]);
	for (i = 0; i < 2; i++) {
		pthread_mutex_init(&sides[i].lock, NULL);
		sides[i].event = eventfd(0, EFD_CLOEXEC);
	}
	for (n = 1; n <= BATCH_MAX; n *= 8)
		hand_over(n);
	for (i = 0; i < 2; i++)
		for (n = 1; n <= THREADS_MAX && n <= 2 * processors; n *= 2)
			side_by_side((int)i, n);
	return 0;
}
