/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Targets whose image has another size, or whose path leads to another file: a new export of the same name replaces the
 * old one. Sessions that use the old one keep it, with its size and file.
 */
//config:config FEATURE_XNBD_SERVER_RENEW
//config:	bool "Images that grow or are replaced (1.6 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	A target tells each new client the size that its image has then, and
//config:	SIGHUP opens what has replaced a file.
#include "libbb.h"
#include "export/export.h"
#include "reactor/descriptors.h"
#include "storage/snapshot.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>

/* linux/fs.h, linux/stat.h: kernel headers are not needed for a few numbers. */
#define X_BLKGETSIZE64 _IOR(0x12, 114, size_t)
enum {
	X_STATX_SIZE = 0x200,
	X_STATX_DONT_SYNC = 0x4000, /* no server of a network file system is asked: this is the core's thread */
	X_STATX_BYTES = 256,
	X_STATX_SIZE_AT = 40,
};

void (*export_replaced)(struct export *old, struct export *new);

/* A target whose image may be opened again. */
static bool is_plain(const struct disk *d)
{
	return !d->words && d->direct_fd < 0 && d->header_fd < 0;
}

/* Only of a target that does not keep what is written elsewhere. */
static bool can_grow(const struct disk *d)
{
	return is_plain(d) && d->base_fd < 0;
}

/* What the image has now, as far as this machine knows without waiting. */
static uint64_t image_bytes(const struct disk *d)
{
	uint8_t st[X_STATX_BYTES] __attribute__((aligned(8)));
	uint64_t n = d->header.size_bytes;

	if (d->is_device) {
		if (ioctl(d->fd[FILE_IMAGE], X_BLKGETSIZE64, &n) < 0)
			n = d->header.size_bytes;
	} else if (syscall(SYS_statx, d->fd[FILE_IMAGE], "", AT_EMPTY_PATH | X_STATX_DONT_SYNC, X_STATX_SIZE, st) == 0) {
		memcpy(&n, st + X_STATX_SIZE_AT, sizeof(n));
	}
	return n;
}

static void replace(struct export *old, struct export *new)
{
	export_enlist(new);
	old->replaced = true;
	export_replaced(old, new);
	export_remove(old);
}

/* The same open file with another size. NULL: out of memory or descriptors. */
static struct export *resized(const struct export *old, uint64_t size_bytes)
{
	struct export *e = export_new(old->nbd.name);

	if (!e)
		return NULL;
	e->disk.fd[FILE_IMAGE] = fd_within(fcntl(old->disk.fd[FILE_IMAGE], F_DUPFD_CLOEXEC, 0), FD_CLIENTS);
	e->disk.path[FILE_IMAGE] = strdup(old->disk.path[FILE_IMAGE]);
	e->disk.is_device = old->disk.is_device;
	e->disk.holes_known = old->disk.holes_known;
	e->disk.header.size_bytes = size_bytes;
	if (e->disk.fd[FILE_IMAGE] >= 0 && e->disk.path[FILE_IMAGE] && export_begin(e, size_bytes, false))
		return e;
	export_drop(e);
	return NULL;
}

static bool is_being_copied(void)
{
	return ENABLE_FEATURE_XNBD_SERVER_SNAPSHOT && snapshot_is_busy();
}

struct export *export_current(struct export *e)
{
	struct export *new = NULL;
	uint64_t n;

	if (!can_grow(&e->disk) || is_being_copied())
		return e;
	n = image_bytes(&e->disk);
	n -= n % e->nbd.min_block; /* what grows may have a part of its next sector */
	if (n == e->disk.header.size_bytes || n > INT64_MAX)
		return e;
	new = resized(e, n);
	if (!new)
		return e;
	new->disk.twin = e->disk.twin ? e->disk.twin : &e->disk;
	e->disk.twin = &new->disk;
	if (core_sync_has_failed(e->disk.core)) /* latched: the kernel tells once */
		core_sync_failed(new->disk.core, EIO);
	replace(e, new);
	return new;
}

/* ---- another file ------------------------------------------------------------------------------ */

struct reopening {
	struct job job;
	struct reopening *next;
	struct export *old, *new;
	const char *why; /* NULL: it is open */
	bool same;       /* there is nothing to do */
	bool again;      /* it has been asked for once more */
};

static struct reopening *reopenings;

/* On a worker. */
static void reopen_run(struct job *j)
{
	struct reopening *r = (struct reopening *)j;
	const struct disk *d = &r->old->disk;
	struct stat now, then;

	r->same = stat(d->path[FILE_IMAGE], &now) == 0 &&
		  fstat(d->base_fd < 0 ? d->fd[FILE_IMAGE] : d->base_fd, &then) == 0 && is_same_file(&now, &then);
	if (!r->same)
		r->why = export_open(r->new, d->path[FILE_IMAGE]);
}

static void reopen(struct export *e);

/* What is served of this path by this name now: e, or what has replaced it. NULL: nothing. */
static struct export *successor(const struct export *e)
{
	struct export *now = export_named(e->nbd.name);

	return now && is_plain(&now->disk) && strcmp(now->disk.path[FILE_IMAGE], e->disk.path[FILE_IMAGE]) == 0 ? now : NULL;
}

static void reopen_done(struct job *j)
{
	struct reopening *r = (struct reopening *)j, **at = &reopenings;
	struct export *now;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	if (!r->same && !r->why && is_being_copied())
		r->why = "a snapshot is being made";
	if (!r->same && !r->why && !export_begin(r->new, r->new->disk.header.size_bytes, false))
		r->why = "out of memory";
	if (r->why)
		bb_error_msg("%s; the old image stays in use", r->why);
	now = r->old->replaced ? successor(r->old) : r->old; /* it may have grown meanwhile */
	if (r->same || r->why || !now || now->removed)
		export_drop(r->new);
	else
		replace(now, r->new);
	now = r->again ? successor(r->old) : NULL;
	if (now)
		reopen(now);
	export_drop(r->old);
	free(r);
}

static void reopen(struct export *e)
{
	struct reopening *r = reopenings;

	while (r && r->old != e)
		r = r->next;
	if (r) { /* on a disk that hangs, one takes a worker, not one for each signal */
		r->again = true;
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r)
		r->new = export_new(e->nbd.name);
	if (!r || !r->new) {
		free(r);
		bb_error_msg("'%s' cannot be reopened: out of memory", e->disk.path[FILE_IMAGE]);
		return;
	}
	export_hold(e);
	r->old = e;
	r->next = reopenings;
	reopenings = r;
	r->job.run = reopen_run;
	r->job.done = reopen_done;
	export_submit_files(&r->job, true);
}

void exports_reopen(void)
{
	struct export *e;

	for (e = exports; e; e = e->next)
		if (!e->removed && is_plain(&e->disk))
			reopen(e);
}
