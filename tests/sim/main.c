/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * sim SEEDS [first=N] [jobs=N] [shrink=no]   runs so many seeds, from 1 on, and counts;
 *                                            one that fails is made small and told
 * sim seed=N [keep=LIST]                     runs one, and tells every line; with a
 *                                            list, only these of its steps
 */
#include "sim.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 64 };

struct options {
	uint64_t seeds, first, seed;
	unsigned jobs;
	bool one, no_shrink, keep_given;
	uint8_t keep[STEPS_MAX];
};

static struct report *reports; /* one of each job, shared */
static pid_t pids[JOBS_MAX];

static void usage(void)
{
	fprintf(stderr, "usage: sim SEEDS [first=N] [jobs=N] [shrink=no]\n       sim seed=N [keep=LIST]\n");
	exit(2);
}

static bool number(const char *arg, const char *name, uint64_t *to)
{
	size_t n = strlen(name);
	char *end;

	if (strncmp(arg, name, n) != 0)
		return false;
	*to = strtoull(arg + n, &end, 10);
	if (*end || !arg[n])
		usage();
	return true;
}

static void parse(struct options *o, int argc, char **argv)
{
	uint64_t jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	int i;

	o->seeds = o->first = 1;
	for (i = 1; i < argc; i++) {
		if (number(argv[i], "seed=", &o->seed))
			o->one = true;
		else if (strncmp(argv[i], "keep=", 5) == 0)
			o->keep_given = keep_parse(o->keep, argv[i] + 5) || (usage(), false);
		else if (strcmp(argv[i], "shrink=no") == 0)
			o->no_shrink = true;
		else if (!number(argv[i], "first=", &o->first) && !number(argv[i], "jobs=", &jobs))
			number(argv[i], "", &o->seeds);
	}
	o->jobs = jobs < 1 ? 1 : jobs < JOBS_MAX ? (unsigned)jobs : JOBS_MAX;
}

/* ---- many seeds ------------------------------------------------------------------------- */

static void job(const struct options *o, unsigned which)
{
	uint64_t seed;

	report = &reports[which];
	for (seed = o->first + which; seed < o->first + o->seeds; seed += o->jobs) {
		report->seed = seed;
		run(seed, NULL);
		report->passed++;
	}
	exit(0); /* what sanitizers have to say at the end belongs to it */
}

static void begin(const struct options *o)
{
	unsigned i;

	for (i = 0; i < o->jobs; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			perror("fork");
			exit(1);
		}
		if (!pids[i])
			job(o, i);
	}
}

/* Waits for all; the first that fails ends the others. Which, or -1. */
static int wait_for_all(unsigned jobs)
{
	int failed = -1, status;
	unsigned i;
	pid_t pid;

	while ((pid = wait(&status)) > 0) {
		for (i = 0; i < jobs && pids[i] != pid; i++)
			;
		if (i == jobs)
			continue;
		pids[i] = 0;
		if (!status || failed >= 0)
			continue;
		failed = (int)i;
		for (i = 0; i < jobs; i++)
			if (pids[i])
				kill(pids[i], SIGKILL);
	}
	return failed;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Of the jobs that have ended. */
static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void sum(struct report *all, unsigned jobs)
{
	unsigned i, k;

	memset(all, 0, sizeof(*all));
	for (i = 0; i < jobs; i++) {
		all->passed += reports[i].passed;
		for (k = 0; k < COUNTS; k++)
			all->count[k] += reports[i].count[k];
	}
}

static int many(const struct options *o)
{
	double begun = seconds();
	struct report all;
	int failed;

	reports = mmap(NULL, (o->jobs + 1) * sizeof(*reports), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reports == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	begin(o);
	failed = wait_for_all(o->jobs);
	sum(&all, o->jobs);
	if (failed < 0) {
		report_print(&all, seconds() - begun, cpu_seconds());
	} else {
		report = &reports[failed];
		printf("seed %llu, step %llu: %s\n", (unsigned long long)report->seed, (unsigned long long)report->step,
		       report->why ? report->message : "the process has died");
		report = &reports[o->jobs];
		if (!o->no_shrink)
			shrink(reports[failed].seed);
	}
	printf("%llu passed, %d failed\n", (unsigned long long)all.passed, failed >= 0);
	return failed >= 0;
}

int main(int argc, char **argv)
{
	static struct options o;

	parse(&o, argc, argv);
	if (!o.one)
		return many(&o);
	tell = TELL_ALL;
	run(o.seed, o.keep_given ? o.keep : NULL);
	printf("1 passed, 0 failed\n");
	return 0;
}
