/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What the clients of an export have done: counted once, by export and loop, and summed up for whoever asks, also for
 * the whole process. What closed exports have counted is in tally_apart.
 *
 * A struct tally is written by the sessions of one loop, with tally_count(); the core's thread reads it when it likes.
 * All else is the core's thread; nothing here blocks.
 */
#ifndef EXPORT_TALLY_H
#define EXPORT_TALLY_H

#include "core/ports.h"
#include "export/export.h"

enum {
	COUNTED_TYPES = 8,    /* NBD_CMD_x, and what is none of them as the last one */
	COUNTED_ERRORS = 9,   /* of error_words[]; the last one: any other */
	LATENCY_BUCKETS = 27, /* the i-th: below 2^i microseconds, and not below half of that; the last one: all others */
};

/* Why a session has ended: the first reason that was found. */
enum session_end {
	END_LOST,       /* an error of the socket */
	END_DISCONNECT, /* NBD_CMD_DISC */
	END_ABORT,      /* NBD_OPT_ABORT */
	END_HANG_UP,    /* end of input without either */
	END_PROTOCOL,   /* the client broke it */
	END_SILENT,     /* its machine does not answer any more */
	END_LATE,       /* it made no progress, and another one needed its place */
	END_STUCK,      /* it took no replies for DRAIN_MS */
	END_BROKEN,     /* a reply that had begun met an error of the disk */
	END_MEMORY,     /* there was none */
	ENDS
};

/* Nothing but numbers. Since the program began, or the export; another program (--upgrade) counts from 0. */
struct tally {
	struct tally_type {
		uint64_t requests, bytes; /* that were done well */
		uint64_t us;              /* microseconds from a request's arrival until its reply was sent; errors, too */
		uint64_t latency[LATENCY_BUCKETS];
	} of[COUNTED_TYPES];
	uint64_t errors[COUNTED_ERRORS];
	uint64_t waits, wait_us; /* READs that waited for the origin, and how long those took that have been answered */
	uint64_t clients;        /* that have begun to use an export */
	uint64_t ended[ENDS];    /* ... and others, in tally_apart */
};

/* Some of its numbers: every step-th from `first` on. */
struct tally_part {
	uint16_t first, step, count;
};

/* Half of a number could be new, and half old: the fronts must stand still for who reads them. */
enum { TALLY_STOPS = sizeof(long) < sizeof(uint64_t) };

/* Of no export: clients that had none, and what was counted for exports that are closed. */
extern struct tally tally_apart;

/* Adds to a number of a tally: nobody else writes it. The thread of its loop. */
static inline void tally_count(uint64_t *n, uint64_t more)
{
	if (TALLY_STOPS)
		*n += more;
	else
		__atomic_store_n(n, *n + more, __ATOMIC_RELAXED);
}

/* Those of e, one for each loop with sessions; of a copy, those of its base. NULL: out of memory, nothing is counted. */
struct tally *export_tally(struct export *e);
/* Adds what the loops have counted for e. NULL: for all exports, and tally_apart. See TALLY_STOPS. */
void tally_sum(const struct export *e, struct tally *sum);
/* The sum of these numbers of e alone: of ten thousand exports, whole tallies are many MiB. See TALLY_STOPS. */
uint64_t tally_some(const struct export *e, struct tally_part part);
/* Errors that these files have had. NULL: of all exports, also of those that are closed. */
uint64_t tally_disk_errors(const struct export *e, enum io_op op);
/* e ends: what was counted for it is tally_apart's. */
void tally_end(struct export *e);

#endif
