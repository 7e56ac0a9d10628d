/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * slow MOUNTPOINT BYTES US: a disk with a delay. A file system with one file, "disk", of BYTES zeroes;
 * each read of it is answered after US microseconds, and any number of them at a time.
 *
 * The kernel's protocol by hand (linux/fuse.h): nbdfuse, on nbdkit's filter "delay", has ten threads,
 * and so at most ten reads at a time. A loop device with direct I/O on the file is what the servers
 * serve: the kernel keeps a page cache of it, which RWF_NOWAIT knows as with any disk. Writes are refused. Ends
 * when it is unmounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	ROOT = FUSE_ROOT_ID,
	DISK,
	IN_FLIGHT_MAX = 1024, /* more than the kernel sends: FUSE_BACKGROUND, and one of each thread */
	FUSE_BACKGROUND = 256,
	READ_MAX = 1 << 20,
};

struct late {
	uint64_t due_ns, unique;
	uint32_t bytes;
};

static struct late late[IN_FLIGHT_MAX]; /* a ring: all have the same delay, so the first is due first */
static unsigned first, count;
static uint64_t disk_bytes, delay_ns;
static char zeroes[READ_MAX];
static int fuse;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "slow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void reply(uint64_t unique, int error, const void *p, size_t n)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + n), .error = -error, .unique = unique };
	struct iovec v[] = { { &out, sizeof(out) }, { (void *)(uintptr_t)p, n } };

	if (writev(fuse, v, 2) < 0 && errno != ENOENT) /* interrupted: nobody waits for it */
		die("reply");
}

static struct fuse_attr attr_of(uint64_t node)
{
	return (struct fuse_attr){
		.ino = node,
		.size = node == DISK ? disk_bytes : 0,
		.mode = node == DISK ? S_IFREG | 0600 : S_IFDIR | 0700,
		.nlink = 1,
		.blksize = 4096,
	};
}

static void look_up(uint64_t unique, const char *name)
{
	struct fuse_entry_out out = { .nodeid = DISK, .entry_valid = 1 << 20, .attr_valid = 1 << 20, .attr = attr_of(DISK) };

	if (strcmp(name, "disk") == 0)
		reply(unique, 0, &out, sizeof(out));
	else
		reply(unique, ENOENT, NULL, 0);
}

static void take_read(uint64_t unique, const struct fuse_read_in *in)
{
	uint64_t left = in->offset < disk_bytes ? disk_bytes - in->offset : 0;
	uint32_t n = in->size < READ_MAX ? in->size : READ_MAX;

	if (count == IN_FLIGHT_MAX)
		die("more reads than the kernel was to send");
	late[(first + count++) % IN_FLIGHT_MAX] = (struct late){ now_ns() + delay_ns, unique, left < n ? (uint32_t)left : n };
}

static void answer(const struct fuse_in_header *in, const void *data)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_readahead = 1 << 17,
		.flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS,
		.max_background = FUSE_BACKGROUND,
		.congestion_threshold = FUSE_BACKGROUND,
		.max_write = 4096,
		.time_gran = 1,
	};
	struct fuse_attr_out attr = { .attr_valid = 1 << 20, .attr = attr_of(in->nodeid) };
	struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE };
	struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .namelen = 255, .frsize = 4096 } };

	switch (in->opcode) {
	case FUSE_INIT: reply(in->unique, 0, &init, sizeof(init)); break;
	case FUSE_LOOKUP: look_up(in->unique, data); break;
	case FUSE_SETATTR: /* times of access */
	case FUSE_GETATTR: reply(in->unique, 0, &attr, sizeof(attr)); break;
	case FUSE_OPEN:
	case FUSE_OPENDIR: reply(in->unique, 0, &opened, sizeof(opened)); break;
	case FUSE_READ: take_read(in->unique, data); break;
	case FUSE_STATFS: reply(in->unique, 0, &statfs, sizeof(statfs)); break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
	case FUSE_FSYNC: reply(in->unique, 0, NULL, 0); break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: break; /* no reply */
	case FUSE_WRITE: reply(in->unique, EROFS, NULL, 0); break;
	default: reply(in->unique, ENOSYS, NULL, 0);
	}
}

/* Answers those that are due. Nanoseconds until the next one is, or -1. */
static int64_t reply_late(void)
{
	for (; count; first = (first + 1) % IN_FLIGHT_MAX, count--) {
		const struct late *l = &late[first];
		int64_t left = (int64_t)(l->due_ns - now_ns());

		if (left > 0)
			return left;
		reply(l->unique, 0, zeroes, l->bytes);
	}
	return -1;
}

/* False: it was unmounted. */
static int take(void)
{
	static _Alignas(8) char in[FUSE_MIN_READ_BUFFER + READ_MAX];
	ssize_t n = read(fuse, in, sizeof(in));

	if (n < 0 && errno == ENODEV)
		return 0;
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOENT)
		die("/dev/fuse");
	if (n >= (ssize_t)sizeof(struct fuse_in_header))
		answer((void *)in, in + sizeof(struct fuse_in_header));
	return 1;
}

int main(int argc, char **argv)
{
	struct pollfd p = { .events = POLLIN };
	char options[128];

	if (argc != 4) {
		fputs("usage: slow MOUNTPOINT BYTES US\n", stderr);
		return 1;
	}
	disk_bytes = strtoull(argv[2], NULL, 10);
	delay_ns = strtoull(argv[3], NULL, 10) * 1000;
	p.fd = fuse = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0,max_read=%d", fuse, S_IFDIR, READ_MAX);
	if (fuse < 0 || mount("slow", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		die(argv[1]);
	prctl(PR_SET_TIMERSLACK, 1000); /* ns: a delay of 1 ms is no longer than that */
	for (;;) {
		int64_t left = reply_late();
		struct timespec t = { left / 1000000000, left % 1000000000 };

		if (ppoll(&p, 1, left < 0 ? NULL : &t, NULL) > 0 && !take())
			return 0;
	}
}
