/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* An origin, for origin.c, origin_identity.c, origin_key.c and address.c. Core's thread; nothing here blocks. */
#ifndef ORIGIN_INTERNAL_H
#define ORIGIN_INTERNAL_H

#include "origin/conn.h"

/* A file of keys that a worker reads again. */
struct key_file {
	struct job job;
	struct origin *origin; /* which uses a key from there; NULL: no more */
	const struct psk *psk; /* what was found */
	bool well;
	char why[PSK_ERROR_BYTES + 32];
	char name[TLS_NAME_MAX + 1];
	char path[];
};

struct address {
	struct origin_address at; /* ours; host NULL: none */
	struct key_file *key_file; /* which is being read; NULL: none is */
	bool plain; /* its server takes no option but EXPORT_NAME */
};

struct origin {
	struct disk *disk;
	struct address address;   /* of the origin we trust */
	struct address candidate; /* of the one we try, if any */
	bool force;               /* the candidate may have another fingerprint */
	origin_callback *done;    /* tells how the candidate, or the first attempt, fared */
	void *done_ctx;
	bool known;   /* size and fingerprint are those of our disk */
	bool started; /* the core exists */
	bool closed;  /* no longer needed */
	bool copy_wanted;
	bool header_busy; /* the commit file does not know this origin yet: it is not used */
	uint64_t size_bytes;
	struct fingerprint fingerprint;
	struct conn conn[CONNS];
	struct timer retry[CONNS];
	unsigned pause_ms[CONNS];
	uint64_t up_ms; /* when it was last seen connected; before: the begin */
	char last_error[CONN_ERROR_BYTES]; /* logged once */
};

/* ---- address.c ------------------------------------------------------------------------------ */

/* a holds nothing from now on. */
void address_clear(struct address *a);
/* a, which holds nothing, gets copies. False: out of memory, and it still does. A path is made absolute: a daemon leaves
 * its directory. */
bool address_set(struct address *a, const struct origin_address *from);

/* ---- origin_identity.c, which also has origin_conn_ready() ------------------------------------ */

/* Takes size and fingerprint of the origin from the header of the commit file, unless they are known: a complete cache
 * needs no origin until somebody asks for one; an incomplete one can wait for it. */
void origin_restore_identity(struct origin *o);
/* The header_saved of a disk. */
void origin_header_saved(struct disk *d, int error);

/* ---- origin.c --------------------------------------------------------------------------------- */

/* The core may use this connection, which is UP. */
void origin_tell_core(struct origin *o, unsigned slot);
/* The client connection is to our disk: it may be used. error, or NULL: for whoever waits for the attempt. */
void origin_conn_use(struct origin *o, const char *error);
/* Tells whoever waits for the attempt, if anybody does, how it has ended; as origin_callback. */
void origin_report(struct origin *o, const char *error, bool refused);

#endif
