/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What happens: told line by line, counted, and the end when a rule is broken. */
#include "sim.h"

#include <stdarg.h>
#include <stdlib.h>

static struct report own;
struct report *report = &own;
enum tell tell;

static const char *const names[COUNTS] = {
	[COUNT_REQUESTS] = "requests of clients",
	[COUNT_ABANDONED] = "clients gone",
	[COUNT_PIECES] = "pieces of READs",
	[COUNT_FRONT_READS] = "READs of fronts",
	[COUNT_FRONT_READS_TOLD] = "of which the core is told",
	[COUNT_TRANSFERS] = "steps of the disk",
	[COUNT_ANSWERS] = "answers of the origin",
	[COUNT_TICKS] = "ticks",
	[COUNT_JOB_VERBS] = "orders to the copier",
	[COUNT_PREFETCHES] = "traces to fetch",
	[COUNT_LINKS_UP] = "links up",
	[COUNT_LINK_LOSSES] = "link losses",
	[COUNT_RIGHT_ORIGIN] = "reconnects to the right origin",
	[COUNT_WRONG_ORIGIN] = "wrong origins",
	[COUNT_SWITCH_VERBS] = "orders to switch",
	[COUNT_COMPARE_VERBS] = "orders to compare",
	[COUNT_GOOD_ENDS] = "good ends",
	[COUNT_EXCHANGES] = "exchanges",
	[COUNT_STARTS] = "starts",
	[COUNT_KILLS] = "crashes",
	[COUNT_POWER_CUTS] = "power losses",
	[COUNT_SWITCHED] = "switches",
	[COUNT_OVERTAKINGS] = "fetches of others that a request has waited for",
	[COUNT_STARTS_WITHOUT] = "starts without the origin",
	[COUNT_SWITCHED_BY_FORCE] = "switches by force",
	[COUNT_UNCOVERED] = "covers that came to their end",
	[COUNT_RECORDED] = "switches recorded without a cover",
	[COUNT_STARTS_SWITCHED] = "starts of what was switched",
	[COUNT_SWITCH_CRASHES] = "crashes while a switch is recorded",
	[COUNT_SWITCH_FAULTS] = "switches that failed, by a fault",
	[COUNT_DISK_FAULTS] = "faults of the disk",
	[COUNT_SYNC_FAULTS] = "faults of a sync",
	[COUNT_ORIGIN_FAULTS] = "faults of the origin",
	[COUNT_SILENT] = "answers that never come",
	[COUNT_STRAY] = "answers never asked for",
	[COUNT_MEMORY_FAULTS] = "allocations refused",
	[COUNT_COMPARED] = "comparisons that came to their end",
	[COUNT_LIES_FOUND] = "origins found to lie",
};

static void tell_line(enum tell least, const char *indent, const char *format, va_list args)
{
	if (tell < least)
		return;
	printf("%6llu %s", (unsigned long long)sim_time, indent);
	vprintf(format, args);
	printf("\n");
}

void event(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell_line(TELL_EVENTS, "", format, args);
	va_end(args);
}

void trace(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	tell_line(TELL_ALL, "  ", format, args);
	va_end(args);
}

void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(report->message, sizeof(report->message), format, args);
	va_end(args);
	report->why = format;
	report->step = sim_time;
	if (tell)
		printf("%6llu broken: %s\n", (unsigned long long)sim_time, report->message);
	fflush(stdout);
	_Exit(3);
}

uint64_t report_events(const struct report *r)
{
	uint64_t events = 0;
	unsigned i;

	for (i = 0; i < EVENTS_END; i++)
		events += r->count[i];
	return events;
}

void report_print(const struct report *r, double seconds, double cpu_seconds)
{
	uint64_t events = report_events(r);
	unsigned i;

	for (i = 0; i < COUNTS; i++)
		printf("%12llu %s\n", (unsigned long long)r->count[i], names[i]);
	printf("%12llu events in %.0f s, %.1f million a minute (%.0f s of processors, %.1f million a minute of one)\n",
	       (unsigned long long)events, seconds, (double)events * 60 / 1e6 / (seconds > 0.1 ? seconds : 0.1),
	       cpu_seconds, (double)events * 60 / 1e6 / (cpu_seconds > 0.1 ? cpu_seconds : 0.1));
}
