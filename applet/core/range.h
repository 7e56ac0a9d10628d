/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Ranges in flight: who may touch which blocks of the image right now.
 *
 * A range is shared (reads) or exclusive (writes, and the storing of what came
 * from the origin). It is granted when no earlier range that overlaps it excludes
 * it; so they are served in the order they came, nobody starves, and since each
 * owner holds one range at a time there is no deadlock.
 *
 * The table is a list: its length is what is in flight on the disk at one moment,
 * bounded by the requests in flight. Reads that the page cache answers enter it only
 * when they have to wait.
 */
#ifndef CORE_RANGE_H
#define CORE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct range {
	uint64_t first, end; /* blocks */
	bool exclusive;
	unsigned blockers;                   /* earlier ranges that exclude this one */
	void (*granted)(struct range *r);    /* called when the last of them has gone */
	struct range *prev, *next;           /* by age */
	struct range *next_granted;
};

struct range_locks {
	struct range *oldest, *newest;
};

/* Whether a range taken now would have to wait. */
bool range_is_busy(const struct range_locks *t, uint64_t first, uint64_t end, bool exclusive);

/* Enters r (first, end, exclusive and granted are set). True: granted at once;
 * granted() will not be called. */
bool range_lock(struct range_locks *t, struct range *r);

/* Removes r, which was granted. Ranges that were blocked by r alone are appended, through
 * next_granted, to the list whose end is *tail; returns the new tail. */
struct range **range_unlock(struct range_locks *t, struct range *r, struct range **tail);

#endif
