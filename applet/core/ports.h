/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Ports: all that the core asks of the world outside.
 *
 * The core has no clock, no thread and makes no system call. It reaches disks, connections and sessions only through
 * the functions declared here. They have three implementations: the rooms above (the real world: storage/disk.c and
 * disk_switch.c, origin/origin.c, client/session_core.c, control/control_text.c), tests/sim/ (a simulated one), and
 * tests/unit/core_test.c. Everything runs on the thread that owns the core.
 */
#ifndef CORE_PORTS_H
#define CORE_PORTS_H

#include "core/job.h"

#include <stdbool.h>
#include <stdint.h>

struct core;
struct request;

enum io_op {
	IO_READ,
	IO_WRITE,
	IO_ZERO,    /* make the range read as zeroes; punches a hole unless IO_NO_HOLE */
	IO_TRIM,    /* punch a hole, or change nothing: EOPNOTSUPP: there are none, wherever; EINVAL: not with these borders. Never
		       writes zeroes, but for a part of a block */
	IO_SYNC,    /* fdatasync */
	IO_EXTENTS, /* buf is a struct extents: data and holes of the range */
	IO_OPS
};

enum io_file {
	FILE_IMAGE,  /* the disk image or cache image */
	FILE_BITMAP, /* CACHE_BITMAP_IMAGE */
	FILE_COMMIT, /* CACHE_BITMAP_IMAGE.commit */
};

enum io_flags {
	IO_NO_HOLE = 1 << 0, /* IO_ZERO: keep the space allocated */
	IO_FAST = 1 << 1,    /* IO_ZERO: fail with EOPNOTSUPP where data would be written */
};

/* One transfer between memory and a file. Owned by the core until done. */
struct io {
	void (*done)(struct io *io); /* called once, when port_io() returned false */
	struct job job;              /* for the port alone, and the two below */
	struct core *core;
	bool sync_failed;
	const void *owner;           /* the port is fair between owners: a client, what serves clients, the copy */
	uint64_t offset;             /* bytes */
	uint64_t length;             /* bytes, > 0 except for IO_SYNC */
	void *buf;
	int error; /* result: 0 or an errno. A short transfer is an error */
	uint8_t op, file, flags;
};

/* A run of bytes of one kind. flags: NBD_STATE_HOLE, NBD_STATE_ZERO. */
struct extent {
	uint32_t length; /* bytes, > 0 */
	uint32_t flags;
};

enum { EXTENTS_MAX = 511 }; /* so that a struct extents fits into a page */

struct extents {
	unsigned count;
	struct extent extent[EXTENTS_MAX]; /* consecutive, from the offset asked for */
};

/*
 * Starts io. True: it is complete already, io->error is valid and io->done will
 * not be called. False: io->done is called later, never from inside port_io().
 * A write has completed when a read (by anybody, also after `kill -9`) sees it;
 * it is durable only after an IO_SYNC that was started later.
 */
bool port_io(struct core *c, struct io *io);

/* Memory for n bytes of data; NULL when there is none. Freed with port_free(). */
void *port_alloc(struct core *c, uint32_t n);
void port_free(struct core *c, void *p, uint32_t n);

/* Request `r` is answered: r->error is an NBD error, READ data is in r->buf. `r`
 * belongs to its owner again. Must not call into the core. */
void port_reply(struct core *c, struct request *r);

/*
 * Asks the origin for [offset, offset + length) over connection i, which is up. The
 * answer is core_conn_data() with the same cookie, or core_conn_down().
 */
void port_conn_read(struct core *c, unsigned conn, uint64_t cookie, uint64_t offset, uint32_t length);
/* Asks the origin for its base:allocation; the answer is core_conn_status(). */
void port_conn_status(struct core *c, unsigned conn, uint64_t cookie, uint64_t offset, uint32_t length);

/* The copier's own connection is wanted (true) or no longer needed. */
void port_copy_conn(struct core *c, bool wanted);
/* The origin is no longer needed, ever: close all connections without telling the core. */
void port_conns_close(struct core *c);
/* Once all is committed: moves the ends of a covered disk (storage/cover.h) into the image, and records the switch in
 * the commit file. complete: it says, too, that no block is missing: no later start asks the origin. Of a core that is
 * covered, nobody writes to the image before core_switched(), which is called later, never from inside. */
void port_switch(struct core *c, bool complete);
/* The copy or the comparison has a new state or rate. */
void port_job_changed(struct core *c);

#endif
