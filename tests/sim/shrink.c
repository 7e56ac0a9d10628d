/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A seed that fails, with as few of its steps as still fail in the same way: parts of
 * the list are left out, half of it first, then smaller and smaller ones, as long as
 * that helps. Each try is a process of its own.
 */
#include "sim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRY_SECONDS = 60 }; /* one that has not failed by then counts as one that does not */

static unsigned tries;

bool keep_parse(uint8_t *keep, const char *list)
{
	while (*list) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (end != list && *end == '-')
			last = strtoul(end + 1, &end, 10);
		if (end == list || (*end && *end != ',') || last >= STEPS_MAX)
			return false;
		for (; first <= last; first++)
			keep[first] = 1;
		list = *end ? end + 1 : end;
	}
	return true;
}

static void keep_print(const uint8_t *keep)
{
	const char *comma = "";
	unsigned i, last;

	for (i = 1; i < STEPS_MAX; i = last + 1) {
		last = i;
		if (!keep[i])
			continue;
		while (last + 1 < STEPS_MAX && keep[last + 1])
			last++;
		printf(last > i ? "%s%u-%u" : "%s%u", comma, i, last);
		comma = ",";
	}
}

/* How a run of these steps ends: the status of its process; what it tells is in *report. */
static int attempt(uint64_t seed, const uint8_t *keep, enum tell telling)
{
	int status, null;
	pid_t child;

	tries++;
	report->why = NULL;
	fflush(stdout);
	child = fork();
	if (child < 0) {
		perror("fork");
		exit(1);
	}
	if (!child) {
		tell = telling;
		null = open("/dev/null", O_WRONLY);
		if (null >= 0)
			dup2(null, 2);
		if (null >= 0 && !telling)
			dup2(null, 1);
		alarm(TRY_SECONDS);
		run(seed, keep);
		fflush(stdout);
		_Exit(0);
	}
	waitpid(child, &status, 0);
	return status;
}

struct failure {
	int status;
	const char *why;
};

static bool fails_so(uint64_t seed, const uint8_t *keep, const struct failure *f)
{
	return attempt(seed, keep, TELL_NOTHING) == f->status && report->why == f->why;
}

static unsigned keep_count(const uint8_t *keep)
{
	unsigned i, n = 0;

	for (i = 1; i < STEPS_MAX; i++)
		n += keep[i];
	return n;
}

/* Leaves out runs of n kept steps where that changes nothing. True: some are gone. */
static bool leave_out(uint64_t seed, uint8_t *keep, unsigned n, const struct failure *f)
{
	uint8_t less[STEPS_MAX];
	unsigned i = STEPS_MAX, gone;
	bool some = false;

	while (i > 1) {
		memcpy(less, keep, sizeof(less));
		for (gone = 0; i > 1 && gone < n; i--) {
			gone += less[i - 1];
			less[i - 1] = 0;
		}
		if (!gone || !fails_so(seed, less, f))
			continue;
		memcpy(keep, less, sizeof(less));
		some = true;
	}
	return some;
}

void shrink(uint64_t seed)
{
	uint8_t keep[STEPS_MAX];
	struct failure f;
	unsigned n, all;

	memset(keep, 1, sizeof(keep));
	f.status = attempt(seed, keep, TELL_NOTHING);
	f.why = report->why;
	if (!f.status) {
		printf("seed %llu fails no more when it is run again\n", (unsigned long long)seed);
		return;
	}
	if (f.why && report->step < STEPS_MAX)
		memset(keep + report->step + 1, 0, STEPS_MAX - 1 - report->step);
	all = keep_count(keep);
	for (n = all / 2 + 1; n > 3; n = (n + 1) / 2)
		leave_out(seed, keep, n, &f);
	while (leave_out(seed, keep, 3, &f) || leave_out(seed, keep, 2, &f) || leave_out(seed, keep, 1, &f))
		;
	printf("%u of %u steps are left after %u tries:\n", keep_count(keep), all, tries);
	attempt(seed, keep, TELL_EVENTS);
	printf("replay, every line of it: make sim SEED=%llu KEEP=", (unsigned long long)seed);
	keep_print(keep);
	printf("%s\n", keep_count(keep) ? "" : "0");
}
