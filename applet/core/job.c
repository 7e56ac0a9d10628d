/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Queues whose owners take turns: a list of owners, each with the list of its jobs. An owner is in it by its first job. */
#include "core/job.h"

#include <stddef.h>

/* Where the first job of this owner is, or else the end. */
static struct job **find_owner(struct job **queue, const void *owner)
{
	while (*queue && (*queue)->owner != owner)
		queue = &(*queue)->next_owner;
	return queue;
}

void queue_put(struct job **queue, struct job *j)
{
	queue = find_owner(queue, j->owner);
	j->next = j->next_owner = NULL;
	j->last = j;
	if (*queue) {
		(*queue)->last->next = j;
		(*queue)->last = j;
	} else {
		*queue = j;
	}
}

struct job *queue_pop(struct job **queue)
{
	struct job *j = *queue;
	struct job *rest = j ? j->next : NULL;

	if (j)
		*queue = j->next_owner;
	if (rest) {
		rest->last = j->last;
		rest->next_owner = NULL;
		*find_owner(queue, rest->owner) = rest;
	}
	return j;
}

void queue_remove(struct job **queue, struct job *j)
{
	struct job *first, *before, *rest = j->next;

	queue = find_owner(queue, j->owner);
	first = before = *queue;
	if (first != j) {
		while (before->next != j)
			before = before->next;
		before->next = rest;
		if (!rest)
			first->last = before;
	} else if (rest) {
		rest->last = j->last;
		rest->next_owner = j->next_owner;
		*queue = rest;
	} else {
		*queue = j->next_owner;
	}
}

void queue_move(struct job **queue, struct job *j, const void *owner)
{
	queue_remove(queue, j);
	j->owner = owner;
	queue_put(queue, j);
}

void queue_hurry(struct job **queue, struct job *j, const void *owner)
{
	const struct job *before = *find_owner(queue, j->owner);
	const struct job *other = *find_owner(queue, owner);

	while (before != j && other) {
		before = before->next;
		other = other->next;
	}
	if (before != j)
		queue_move(queue, j, owner);
}
