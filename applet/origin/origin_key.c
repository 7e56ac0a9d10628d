/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The key of an origin with TLS, which is read again while the server runs. */
#include "libbb.h"
#include "origin/internal.h"

/* Dies of what is wrong. */
static void find_key(void *p)
{
	struct key_file *k = p;

	k->psk = psk_one(k->path, k->name);
}

static void key_run(struct job *j)
{
	struct key_file *k = (struct key_file *)j;

	k->well = bb_survives(find_key, k, k->why, sizeof(k->why));
}

static void key_done(struct job *j)
{
	struct key_file *k = (struct key_file *)j;
	struct origin *o = k->origin;

	if (o) {
		o->address.key_file = NULL;
		if (k->well)
			*(struct psk *)o->address.at.psk = *k->psk; /* connections point to it */
		else
			disk_error_msg(o->disk, PSK_STAYS, k->why);
	}
	if (k->psk)
		secret_free((struct psk *)k->psk, sizeof(*k->psk));
	free(k);
}

void origin_read_key(struct origin *o)
{
	static struct serial_queue queue = { .most = SLOW_KEYS }; /* files that hang leave workers to others */
	struct address *a = &o->address;
	struct key_file *k;

	if (!a->at.psk_file || !core_is_proxy(o->disk->core))
		return;
	if (a->key_file) /* it may have been read before it was changed */
		a->key_file->origin = NULL;
	k = calloc(1, sizeof(*k) + strlen(a->at.psk_file) + 1);
	a->key_file = k;
	if (!k) {
		disk_error_msg(o->disk, PSK_STAYS, "out of memory");
		return;
	}
	strcpy(k->path, a->at.psk_file);
	memcpy(k->name, a->at.psk->name, a->at.psk->name_bytes);
	k->origin = o;
	k->job.run = key_run;
	k->job.done = key_done;
	k->job.class = JOB_SLOW;
	k->job.queue = &queue;
	k->job.owner = o;
	pool_submit(&k->job);
}
