/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Without liburing: three system calls, and two rings in memory that the kernel shares. */
#include "libbb.h"
#include "device/uring.h"

#include <sys/mman.h>
#include <sys/syscall.h>

enum {
	/* linux/io_uring.h */
	OP_URING_CMD = 46,
	SETUP_SQE128 = 1 << 10,
	ENTER_GETEVENTS = 1,
	FEATURE_SINGLE_MMAP = 1,
	OFFSET_RINGS = 0,
	OFFSET_SQES = 0x10000000,
};

struct sq_offsets {
	uint32_t head, tail, mask, entries, flags, dropped, array, reserved;
	uint64_t user_addr;
};

struct cq_offsets {
	uint32_t head, tail, mask, entries, overflow, cqes, flags, reserved;
	uint64_t user_addr;
};

struct uring_params {
	uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
	struct sq_offsets sq;
	struct cq_offsets cq;
};

static size_t sqes_bytes(const struct uring *u)
{
	return u->entries * u->sqe_bytes;
}

/* The rings, and the commands. 0, or an errno. */
static int map(struct uring *u, const struct uring_params *p)
{
	size_t sq_end = p->sq.array + p->sq_entries * sizeof(uint32_t);
	size_t cq_end = p->cq.cqes + p->cq_entries * sizeof(struct uring_cqe);

	u->rings_bytes = sq_end > cq_end ? sq_end : cq_end;
	u->rings = mmap(NULL, u->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, OFFSET_RINGS);
	if (u->rings == MAP_FAILED)
		return errno;
	u->sqes = mmap(NULL, sqes_bytes(u), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, OFFSET_SQES);
	if (u->sqes == MAP_FAILED) {
		int error = errno;

		munmap(u->rings, u->rings_bytes);
		return error;
	}
	/* A child that cannot be killed would keep the ring. */
	madvise(u->rings, u->rings_bytes, MADV_DONTFORK);
	madvise(u->sqes, sqes_bytes(u), MADV_DONTFORK);
	return 0;
}

int uring_open(struct uring *u, unsigned entries, bool long_commands)
{
	struct uring_params p = { .flags = long_commands ? SETUP_SQE128 : 0 };
	uint32_t *array;
	unsigned i;
	int error;

	memset(u, 0, sizeof(*u));
	u->fd = (int)syscall(SYS_io_uring_setup, entries, &p);
	if (u->fd < 0)
		return errno;
	u->entries = p.sq_entries;
	u->sqe_bytes = long_commands ? 128 : 64;
	error = p.features & FEATURE_SINGLE_MMAP ? map(u, &p) : ENOSYS;
	if (error) {
		close(u->fd);
		return error;
	}
	u->sq_tail = (void *)(u->rings + p.sq.tail);
	u->cq_head = (void *)(u->rings + p.cq.head);
	u->cq_tail = (void *)(u->rings + p.cq.tail);
	u->cqes = (void *)(u->rings + p.cq.cqes);
	u->cq_mask = p.cq_entries - 1;
	array = (void *)(u->rings + p.sq.array);
	for (i = 0; i < u->entries; i++)
		array[i] = i; /* commands are submitted in the order of their places */
	return 0;
}

void uring_close(struct uring *u)
{
	munmap(u->sqes, sqes_bytes(u));
	munmap(u->rings, u->rings_bytes);
	close(u->fd);
}

struct uring_sqe *uring_command(struct uring *u, int fd, uint32_t command, uint64_t cookie)
{
	unsigned tail = *u->sq_tail; /* we alone write it */
	struct uring_sqe *s = (void *)(u->sqes + (tail & (u->entries - 1)) * u->sqe_bytes);

	memset(s, 0, u->sqe_bytes);
	s->opcode = OP_URING_CMD;
	s->fd = fd;
	s->command = command;
	s->cookie = cookie;
	/* The kernel looks at it no earlier than in uring_submit(). */
	__atomic_store_n(u->sq_tail, tail + 1, __ATOMIC_RELEASE);
	u->pending++;
	return s;
}

int uring_submit(struct uring *u, unsigned results)
{
	while (u->pending || results) {
		long n = syscall(SYS_io_uring_enter, u->fd, u->pending, results, results ? ENTER_GETEVENTS : 0, NULL, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		u->pending -= (unsigned)n;
		if (results && uring_result(u))
			results = 0;
	}
	return 0;
}

const struct uring_cqe *uring_result(const struct uring *u)
{
	unsigned head = *u->cq_head; /* we alone write it */

	return head == __atomic_load_n(u->cq_tail, __ATOMIC_ACQUIRE) ? NULL : &u->cqes[head & u->cq_mask];
}

void uring_next(struct uring *u)
{
	__atomic_store_n(u->cq_head, *u->cq_head + 1, __ATOMIC_RELEASE);
}
