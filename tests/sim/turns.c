/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Clients take turns at the origin: while a request waits for a fetch in the queue, fetches of any other client are
 * sent at most as often as the queue had of its own client's before it, and once more.
 */
#include "sim.h"
#include "core/fetch.h"

#include <string.h>

enum { WAITING_MAX = 64, OWNERS_MAX = 8 };

static struct waiting {
	const struct request *r;
	const struct fetch *f;
	const void *owner; /* ... of f */
	unsigned before;
	unsigned overtaken[OWNERS_MAX]; /* by owner */
	bool seen;
} waiting[WAITING_MAX];
static unsigned waiting_count;
static const void *owners[OWNERS_MAX];

void turns_begin(void)
{
	waiting_count = 0;
	memset(owners, 0, sizeof(owners));
}

static unsigned owner_number(const void *owner)
{
	unsigned i;

	for (i = 0; owners[i] && owners[i] != owner; i++)
		if (i == OWNERS_MAX - 1)
			broken("more than %u owners", OWNERS_MAX);
	owners[i] = owner;
	return i;
}

/* How many of this owner were in the queue until now, with the one that is sent. */
static unsigned queued_of(const void *owner, const struct fetch *sent)
{
	const struct job *first = core.queue[CONN_CLIENT], *j;
	unsigned n = sent && sent->io.job.owner == owner;

	while (first && first->owner != owner)
		first = first->next_owner;
	for (j = first; j; j = j->next)
		n++;
	return n;
}

/* Nothing leaves the queue without being sent, since it is too long for another origin. */
static bool takes_all(const struct conn_state *conn)
{
	return !conn->up || conn->max_blocks == FETCH_BLOCKS_MAX;
}

/* r waits for f, which is behind so many others of the owner in whose turns it is sent. */
static void note(const struct request *r, const struct fetch *f, const struct fetch *sent, unsigned before)
{
	unsigned i, own = queued_of(r->owner, sent);

	for (i = 0; i < waiting_count; i++)
		if (waiting[i].r == r && waiting[i].f == f && waiting[i].owner == f->io.job.owner) {
			waiting[i].seen = true;
			return;
		}
	if (r->owner != f->io.job.owner && own < before && takes_all(&core.conn[CONN_CLIENT]) && takes_all(&core.conn[CONN_COPIER]))
		before = own; /* it would come sooner as its own client's */
	if (waiting_count < WAITING_MAX)
		waiting[waiting_count++] = (struct waiting){ .r = r, .f = f, .owner = f->io.job.owner, .before = before, .seen = true };
}

static void look(const struct fetch *sent)
{
	const struct job *first, *j;
	const struct request *r;
	unsigned i, kept = 0, before;

	for (i = 0; i < waiting_count; i++)
		waiting[i].seen = false;
	for (first = core.queue[CONN_CLIENT]; first; first = first->next_owner)
		for (j = first, before = sent && sent->io.job.owner == first->owner; j; j = j->next, before++) {
			const struct fetch *f = container_of(j, struct fetch, io.job);

			for (r = f->waiters; r; r = r->next)
				note(r, f, sent, before);
		}
	for (i = 0; i < waiting_count; i++)
		if (waiting[i].seen)
			waiting[kept++] = waiting[i];
	waiting_count = kept;
}

void turns_look(void)
{
	const struct job *j;

	look(NULL);
	for (j = core.queue[CONN_CLIENT]; j; j = j->next_owner)
		if (!j->owner)
			broken("what is read ahead waits in the queue of clients");
}

void turns_sent(const struct fetch *f)
{
	const void *owner = f->io.job.owner;
	unsigned i;

	look(f);
	for (i = 0; f->kind == CONN_CLIENT && owner && i < waiting_count; i++) {
		struct waiting *w = &waiting[i];

		if (w->r->owner == owner)
			continue;
		count(COUNT_OVERTAKINGS);
		if (++w->overtaken[owner_number(owner)] > w->before + 1)
			broken("a client's fetch waits for %u of another client, and had %u of its own before it",
			       w->before + 2, w->before);
	}
}
