/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The kernel's block devices in user space, /dev/ublkbN (linux/ublk_cmd.h; Linux 6.5): their control, and
 * the requests of one.
 *
 * Control: each call sends one command and waits for its end. Any thread; no state. Errors are errnos.
 *
 * A device has one queue of `depth` requests at a time, each with a tag, 0..depth-1. One command per tag is pending in
 * the kernel; its completion means that there is a request with this tag, described by io[tag]. ublk_commit() answers
 * that and is the next command for the tag. All of it is for one thread: the kernel takes commands from no other than
 * the one that has sent the first. The data of requests is read and written by ublk_copy(), by any thread, between the
 * result and ublk_commit().
 *
 * When the process dies, the kernel keeps the device, and all requests that were not answered: UBLK_QUIESCED.
 */
#ifndef DEVICE_UBLK_H
#define DEVICE_UBLK_H

#include "device/uring.h"

enum {
	UBLK_DEPTH = 128,
	UBLK_MAX_BYTES = 256 << 10, /* of a READ or WRITE */
};

enum ublk_state {
	UBLK_NONE,     /* there is no such device */
	UBLK_DEAD,     /* begun, but never started; or stopped */
	UBLK_LIVE,     /* somebody serves it */
	UBLK_QUIESCED, /* requests wait for the next server */
};

/* What the kernel knows of a device. */
struct ublk_info {
	enum ublk_state state;
	int pid;           /* of the server that has started it, or taken it over; 0 or less: none has */
	uint64_t identity; /* as its first server has given it */
	bool fits;         /* it has what ublk_add() gives to a device */
};

/* The number of a path that is /dev/ublkbN, whether or not it is there; -1: it is not of this kind. */
int ublk_index(const char *path);
/* Whether the kernel has such devices. 0; ENOENT: none, or the module is not loaded; EOPNOTSUPP: it lacks what is needed
 * here; or another errno. */
int ublk_probe(void);
int ublk_inspect(unsigned index, struct ublk_info *info);
/* A new device. block_bytes: of its logical blocks, a power of 2 from 512 to 4096. transmission_flags: NBD's. EEXIST:
 * it is there. */
int ublk_add(unsigned index, uint64_t identity, uint64_t size_bytes, uint32_t block_bytes, uint16_t transmission_flags);
/* Whether somebody has the device's queue open, perhaps before it is live. */
bool ublk_is_open(unsigned index);
/* To take over a device that is quiesced. EBUSY: its last server has not ended yet. */
int ublk_recover(unsigned index);
/* After ublk_fetch(): the device is there, or, recovered, goes on. The first also waits until the kernel has
 * read its partition table, and so for requests. */
int ublk_start(unsigned index, bool recovered);
/* Waits for the requests that are under way; later ones fail. Then the commands of all tags end. */
int ublk_stop(unsigned index);
/* Waits until nobody has the queue open. */
int ublk_delete(unsigned index);

/* ---- requests ---------------------------------------------------------------------------- */

enum ublk_op {
	UBLK_READ = 0,
	UBLK_WRITE = 1,
	UBLK_FLUSH = 2,
	UBLK_DISCARD = 3,
	UBLK_WRITE_ZEROES = 5,

	UBLK_OP_MASK = 0xff, /* the rest are flags: */
	UBLK_FUA = 1 << 13,
	UBLK_NO_UNMAP = 1 << 15,
};

enum { UBLK_SECTOR_BYTES = 512 };

/* Written by the kernel. */
struct ublk_io {
	uint32_t op_flags;
	uint32_t sectors;
	uint64_t first_sector;
	uint64_t unused;
};

struct ublk_queue {
	struct uring ring; /* cookies are tags; a result of 0: a request; others: there is no more for this tag */
	int fd;
	const struct ublk_io *io; /* of each tag */
};

/* 0, or an errno. */
int ublk_queue_open(struct ublk_queue *q, unsigned index);
/* Nothing may be under way, or the process is about to end. */
void ublk_queue_close(struct ublk_queue *q);
/* The first commands of all tags, to be submitted. From here on, this thread. 0, or an errno. */
int ublk_fetch(struct ublk_queue *q);
/* The next command of a tag, to be submitted, with the result of its request: the bytes of a READ or WRITE, 0 for
 * others, or a negative errno. */
void ublk_commit(struct ublk_queue *q, unsigned tag, int result);
/* Copies n bytes at this offset of the data of a request: to buf those of a WRITE, from buf those of a READ.
 * False: it cannot be done. */
bool ublk_copy(const struct ublk_queue *q, unsigned tag, void *buf, uint32_t n, uint32_t offset);

#endif
