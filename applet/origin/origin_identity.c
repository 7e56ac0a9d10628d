/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Whether an origin serves our disk: its size and fingerprint against what is known. By force another fingerprint is
 * accepted; the header of the commit file has it before the connection is used.
 */
#include "libbb.h"
#include "origin/internal.h"
#include "storage/header.h"

uint64_t origin_size_bytes(const struct origin *o)
{
	return o->size_bytes;
}

const struct fingerprint *origin_fingerprint(const struct origin *o)
{
	return &o->fingerprint;
}

/* Only now may bytes of other content come in, and the caller of the reconnect get its answer: from
 * now on a start would recognise the new origin. */
void origin_header_saved(struct disk *d, int error)
{
	struct origin *o = d->origin;

	if (!o->header_busy)
		return;
	o->header_busy = false;
	origin_conn_use(o, error ? "the new origin is in use, but the commit file cannot be written: do not restart this server" : NULL);
}

/* fp is our origin's fingerprint from now on; the header is saved before the connection is used. */
static void fingerprint_accept(struct origin *o, const struct fingerprint *fp)
{
	o->fingerprint = o->disk->header.fingerprint = *fp;
	o->header_busy = true;
	header_save(o->disk);
}

/* NULL: this is our disk. */
static const char *identify(struct origin *o, const struct conn *l)
{
	bool force = o->candidate.at.host && o->force;

	if (l->differs && !force)
		return o->known ? "it serves a disk of other content" : "it is not the one that this cache was filled from";
	if (!o->known)
		return NULL;
	return fingerprint_refuse(o->size_bytes, &o->fingerprint, l->handshake.size_bytes, &l->fingerprint, force);
}

void origin_conn_ready(struct origin *o, unsigned slot)
{
	struct conn *l = &o->conn[slot];
	const char *why = identify(o, l);
	struct fingerprint known = o->fingerprint;
	bool other;

	if (why) {
		conn_close(l);
		if (o->known)
			origin_conn_failed(o, slot, why);
		else
			origin_report(o, why, false); /* the start ends */
		return;
	}
	if (slot == CONN_COPIER) {
		origin_tell_core(o, slot);
		return;
	}
	/* By force: nothing that is known of the old content is of the new one. */
	other = l->differs || !fingerprint_match(&l->fingerprint, &known);
	if (other) {
		memset(&known, 0, sizeof(known));
		o->disk->header.mixed = 1;
	}
	fingerprint_add(&known, &l->fingerprint);
	if (!o->known)
		o->fingerprint = known;
	o->known = true;
	o->size_bytes = l->handshake.size_bytes;
	if (o->candidate.at.host) {
		address_clear(&o->address);
		o->address = o->candidate;
		memset(&o->candidate, 0, sizeof(o->candidate));
	}
	o->address.plain = l->handshake.plain;
	l->handshake.export_name = o->address.at.name;
	if (o->header_busy)
		return; /* origin_header_saved() goes on */
	/* Without a descriptor there is nothing to be changed (--check). */
	if ((other || memcmp(&known, &o->fingerprint, sizeof(known)) != 0) && o->disk->header_fd >= 0)
		fingerprint_accept(o, &known);
	else
		origin_conn_use(o, NULL);
}

void origin_restore_identity(struct origin *o)
{
	if (o->known)
		return;
	o->size_bytes = core_size_bytes(o->disk->core);
	o->fingerprint = o->disk->header.fingerprint;
	o->known = true;
	o->closed = false;
}
