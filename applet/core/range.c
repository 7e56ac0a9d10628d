/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Ranges in flight. Pure. */
#include "core/range.h"

#include <assert.h>
#include <stddef.h>

static bool excludes(const struct range *a, uint64_t first, uint64_t end, bool exclusive)
{
	return (a->exclusive || exclusive) && a->first < end && first < a->end;
}

bool range_is_busy(const struct range_locks *t, uint64_t first, uint64_t end, bool exclusive)
{
	const struct range *a;

	for (a = t->oldest; a; a = a->next)
		if (excludes(a, first, end, exclusive))
			return true;
	return false;
}

bool range_lock(struct range_locks *t, struct range *r)
{
	struct range *a;

	r->blockers = 0;
	for (a = t->oldest; a; a = a->next)
		r->blockers += excludes(a, r->first, r->end, r->exclusive);
	r->next = NULL;
	r->prev = t->newest;
	if (t->newest)
		t->newest->next = r;
	else
		t->oldest = r;
	t->newest = r;
	return !r->blockers;
}

struct range **range_unlock(struct range_locks *t, struct range *r, struct range **tail)
{
	struct range *a;

	assert(!r->blockers);
	for (a = r->next; a; a = a->next) {
		if (!excludes(r, a->first, a->end, a->exclusive) || --a->blockers)
			continue;
		a->next_granted = NULL;
		*tail = a;
		tail = &a->next_granted;
	}
	if (r->prev)
		r->prev->next = r->next;
	else
		t->oldest = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		t->newest = r->prev;
	return tail;
}
