/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * io_uring(7), as far as ublk needs it: commands to a device (IORING_OP_URING_CMD) and their results.
 *
 * One thread at a time, and its owner's memory. The kernel may tie what is submitted to the thread that has done
 * that: ublk does. Errors are errnos; ENOSYS and EPERM: this kernel has no io_uring, or it is switched off.
 */
#ifndef DEVICE_URING_H
#define DEVICE_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A command of 64 bytes, or of 128. */
struct uring_sqe {
	uint8_t opcode, flags;
	uint16_t ioprio;
	int32_t fd;
	uint32_t command, pad;
	uint64_t addr;
	uint32_t len, op_flags;
	uint64_t cookie;
	uint32_t unused[2];
	uint8_t data[]; /* of the command: 16 bytes, or 80 */
};

struct uring_cqe {
	uint64_t cookie;
	int32_t result;
	uint32_t flags;
};

struct uring {
	int fd; /* poll(2) says POLLIN when there is a result, and POLLOUT while there is room for commands */
	unsigned pending; /* commands that are not submitted yet */
	unsigned entries, *sq_tail, *cq_head, *cq_tail;
	struct uring_cqe *cqes;
	uint8_t *sqes, *rings;
	size_t sqe_bytes, rings_bytes;
	unsigned cq_mask;
};

/* entries: commands at a time, a power of 2. long_commands: each may have 80 bytes of data. 0, or an errno. */
int uring_open(struct uring *u, unsigned entries, bool long_commands);
/* What is under way is cancelled, later. */
void uring_close(struct uring *u);

/* The next command, to the device behind fd, with its data all zeroes, which the caller sets. There is room for it:
 * the caller counts. */
struct uring_sqe *uring_command(struct uring *u, int fd, uint32_t command, uint64_t cookie);
/* Gives the kernel what is pending, and waits for so many results. 0, or an errno: some or all of it is still
 * pending (EAGAIN, ENOMEM: later). */
int uring_submit(struct uring *u, unsigned results);
/* The first result that is there, until uring_next(); or NULL. */
const struct uring_cqe *uring_result(const struct uring *u);
void uring_next(struct uring *u);

#endif
