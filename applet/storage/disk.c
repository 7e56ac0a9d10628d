/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The port to the disk: reads that the page cache can answer are done at once,
 * everything else is a job for reactor/pool.c.
 */
#include "libbb.h"
#include "nbd/nbd.h"
#include "reactor/buf.h"
#include "reactor/pool.h"
#include "reactor/verbose.h"
#include "storage/cover.h"
#include "storage/cow.h"
#include "storage/holes.h"

#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* linux/fs.h, linux/falloc.h: kernel headers are not needed for three numbers. */
enum {
	X_RWF_NOWAIT = 0x8,
	X_FALLOC_KEEP_SIZE = 0x1,
	X_FALLOC_PUNCH_HOLE = 0x2,
	X_FALLOC_ZERO_RANGE = 0x10,
};

enum {
	QUICK_BYTES = 256 << 10, /* a write of so many is copied in less time than another thread needs
				    to take it, and to have it in its processor's cache */
	SHORT_ZEROES_BYTES = 64 << 10,
	SEEN_BYTES = 32 << 10,  /* on the stack */
	UNSEEN_BYTES = 1 << 20,
};

static struct io *io_of(struct job *j)
{
	return container_of(j, struct io, job);
}

int disk_transfer(int fd, bool write, uint8_t *p, uint64_t n, uint64_t offset)
{
	while (n) {
		size_t step = n < 0x40000000 ? (size_t)n : 0x40000000;
		ssize_t got = write ? pwrite(fd, p, step, (off_t)offset) : pread(fd, p, step, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		if (!got)
			return EIO; /* the file is shorter than the disk */
		p += got;
		n -= (uint64_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

static int punch(int fd, int mode, uint64_t offset, uint64_t n)
{
	while (fallocate(fd, mode | X_FALLOC_KEEP_SIZE, (off_t)offset, (off_t)n) < 0) {
		if (errno == ENOSYS || errno == ENODEV)
			return EOPNOTSUPP;
		if (errno != EINTR)
			return errno;
	}
	return 0;
}

static int write_zeroes(int fd, uint64_t offset, uint64_t n)
{
	/* not const: that would put them into the program file */
	static uint8_t zeroes[64 << 10] __attribute__((aligned(BLOCK_BYTES)));

	while (n) {
		uint64_t step = n < sizeof(zeroes) ? n : sizeof(zeroes);
		int error = disk_transfer(fd, true, zeroes, step, offset);

		if (error)
			return error;
		offset += step;
		n -= step;
	}
	return 0;
}

/* Whether no hole may be left. */
static bool wants_space(const struct disk *d, const struct io *io)
{
	return io->flags & IO_NO_HOLE || (ENABLE_FEATURE_XNBD_SERVER_DISCARD && d->keeps_space);
}

/* Writes zeroes only where something else is: on a thin volume a write takes space. Behind that, the rest of a MiB is not
 * looked at: a disk that was in use is rarely zero. */
static int write_missing_zeroes(int fd, uint64_t offset, uint64_t n)
{
	uint8_t seen[SEEN_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	uint64_t step;
	int error = 0;

	for (; n && !error; offset += step, n -= step) {
		step = n < sizeof(seen) ? n : sizeof(seen);
		/* What cannot be read may be written all the same. */
		if (!disk_transfer(fd, false, seen, step, offset) && nbd_zeroes(seen, (uint32_t)step) == step)
			continue;
		step = n < UNSEEN_BYTES ? n : UNSEEN_BYTES;
		error = write_zeroes(fd, offset, step);
	}
	return error;
}

/* Zeroes written as bytes are on the disk before the next piece: else a FLUSH would have to wait for
 * all that the page cache has taken. This sync may be the one that reports an error of others' writes.
 * all: without a look at what is there. */
static int write_through(struct io *io, int fd, bool all)
{
	int error = (all ? write_zeroes : write_missing_zeroes)(fd, io->offset, io->length);

	if (error || io->length <= SHORT_ZEROES_BYTES ||
	    sync_file_range(fd, (off_t)io->offset, (off_t)io->length,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0 ||
	    (errno != EIO && errno != ENOSPC && errno != EDQUOT))
		return error;
	io->sync_failed = true;
	return errno;
}

/* A block device that makes no holes says so after it has dropped its pages, also those that were not on the disk yet
 * (block/fops.c in the kernel). So the first of these is done with bytes, whatever was asked, and no other is tried. */
static int hole(struct disk *d, struct io *io, int fd)
{
	int error;

	if (d->no_holes)
		return EOPNOTSUPP;
	error = punch(fd, X_FALLOC_PUNCH_HOLE, io->offset, io->length);
	if (error != EOPNOTSUPP)
		return error;
	/* After a sync that failed, perhaps of the server before, a page may be zero in memory only: from now on zeroes are written
	 * only where something else is read, so what is read must be what the disk has. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	d->no_holes = true;
	return d->is_device ? write_through(io, fd, true) : error;
}

static int zero(struct disk *d, struct io *io, int fd)
{
	bool all = wants_space(d, io);
	int error = all ? punch(fd, X_FALLOC_ZERO_RANGE, io->offset, io->length) : hole(d, io, fd);

	/* EINVAL: a block device wants whole sectors. */
	if ((error == EOPNOTSUPP || error == EINVAL) && !(io->flags & IO_FAST))
		error = write_through(io, fd, all || !d->no_holes);
	return error == EINVAL ? EOPNOTSUPP : error;
}

static int trim(struct disk *d, struct io *io, int fd)
{
	uint64_t rest = io->length % BLOCK_BYTES;
	int error = wants_space(d, io) ? EOPNOTSUPP : hole(d, io, fd);

	if (error != EINVAL || !rest)
		return error;
	/* The disk ends within a sector of its device. */
	io->length -= rest;
	error = io->length ? hole(d, io, fd) : 0;
	if (!error)
		error = write_zeroes(fd, io->offset + io->length, rest);
	io->length += rest;
	return error;
}

static int extents(const struct disk *d, struct extents *out, uint64_t offset, uint64_t n)
{
	uint64_t end = offset + n;

	out->count = 0;
	while (offset < end && out->count < EXTENTS_MAX) {
		if (out->count % 32 == 31)
			sched_yield();
		uint64_t part = end - offset, data, stop;
		bool hole;

		if (cover_part(d, offset, &part) == UINT64_MAX) {
			data = holes_data(d->fd[FILE_IMAGE], d->holes_known, offset);
			hole = data > offset;
			stop = hole ? data : holes_data_end(d->fd[FILE_IMAGE], d->holes_known, offset);
			stop = stop < offset + part ? stop : offset + part;
		} else {
			hole = false;
			stop = offset + part;
		}
		out->extent[out->count].length = (uint32_t)(stop - offset);
		out->extent[out->count++].flags = hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
		offset = stop;
	}
	return 0;
}

static void disk_do(struct disk *d, struct io *io, int fd)
{
	switch (io->op) {
	case IO_READ:
	case IO_WRITE:
		io->error = disk_transfer(fd, io->op == IO_WRITE, io->buf, io->length,
					  io->offset + (io->file == FILE_COMMIT ? d->commit_base : 0));
		break;
	case IO_ZERO:
		io->error = zero(d, io, fd);
		break;
	case IO_TRIM:
		io->error = trim(d, io, fd);
		break;
	case IO_SYNC:
		io->error = fdatasync(fd) < 0 ? errno : 0;
		break;
	default:
		io->error = extents(d, io->buf, io->offset, io->length);
	}
}

/* As disk_do(), with a base behind the file: copy on write. */
static void cow_do(struct disk *d, struct io *io)
{
	switch (io->op) {
	case IO_READ:
		io->error = cow_read(d, io->buf, io->length, io->offset);
		break;
	case IO_SYNC: /* it is not to last */
		io->error = 0;
		break;
	case IO_EXTENTS: /* all is data: that is never wrong */
		*(struct extents *)io->buf = (struct extents){ .count = 1, .extent = { { .length = (uint32_t)io->length } } };
		break;
	default:
		io->error = cow_prepare(d, io->length, io->offset);
		if (!io->error)
			disk_do(d, io, d->fd[FILE_IMAGE]);
		cow_written(d, io->length, io->offset, io->error);
	}
}

static bool is_for_direct(const struct disk *d, const void *buf, uint64_t n, uint64_t offset)
{
	return ENABLE_FEATURE_XNBD_SERVER_INIT && d->direct_fd >= 0 && ((uintptr_t)buf | n | offset) % d->direct_unit == 0;
}

/* Whether it may use direct I/O. */
static bool is_direct(const struct disk *d, const struct io *io)
{
	return io->file == FILE_IMAGE && (io->op == IO_READ || io->op == IO_WRITE || io->op == IO_ZERO || io->op == IO_TRIM) &&
	       is_for_direct(d, io->buf, io->length, io->offset);
}

/* Zeroes are written as bytes, and nothing is discarded: the kernel's own ways of doing either take
 * memory that others, who wait for us, may hold. */
static void direct_do(struct disk *d, struct io *io, int fd)
{
	if (io->op == IO_TRIM || (io->op == IO_ZERO && io->flags & IO_FAST))
		io->error = EOPNOTSUPP;
	else if (io->op == IO_ZERO)
		io->error = (wants_space(d, io) ? write_zeroes : write_missing_zeroes)(fd, io->offset, io->length);
	else
		disk_do(d, io, fd);
}

/* Something that holds the inode's lock for long. */
static bool is_zeroing(const struct io *io)
{
	return io->op == IO_ZERO || io->op == IO_TRIM;
}

static void disk_own(struct disk *d, struct io *io)
{
	if (is_direct(d, io))
		direct_do(d, io, d->direct_fd);
	else
		disk_do(d, io, d->fd[io->file]);
}

/* A hole in the cover would be one in the commit file, whose space is reserved. */
static void cover_do(struct disk *d, struct io *io)
{
	int fd = cover_fd(d, io->buf, io->length, io->offset);

	if (is_zeroing(io))
		io->error = write_zeroes(fd, io->offset, io->length);
	else
		disk_do(d, io, fd);
}

/* Some of it is covered, and stays so for a READ that a switch overtakes: until it has ended, nobody writes what it reads.
 * The image's own part of it comes first: it may say EOPNOTSUPP. */
static void parts_do(struct disk *d, struct io *io)
{
	bool covered = false;

	if (io->op == IO_ZERO && io->flags & IO_FAST) { /* there are no holes in the cover */
		io->error = EOPNOTSUPP;
		return;
	}
	do {
		uint64_t offset = io->offset, end = offset + io->length;

		while (!io->error && offset < end) {
			struct io part = *io;
			uint64_t at;

			part.offset = offset;
			part.length = end - offset;
			at = cover_place(d->header.size_bytes, offset, &part.length);
			offset += part.length;
			if (covered != (at != UINT64_MAX))
				continue;
			if (io->buf)
				part.buf = (uint8_t *)io->buf + (part.offset - io->offset);
			if (covered) {
				part.offset = d->commit_base + at;
				cover_do(d, &part);
			} else {
				disk_own(d, &part);
			}
			io->error = part.error;
			io->sync_failed |= part.sync_failed;
		}
		covered = !covered;
	} while (covered);
}

static void disk_run(struct job *j)
{
	struct io *io = io_of(j);
	struct disk *d = disk_of(io->core);
	bool covered = io->file == FILE_IMAGE && cover_touches(d, io->offset, io->length);

	io->error = 0;
	if (ENABLE_FEATURE_XNBD_SERVER_COW && d->base_fd >= 0)
		cow_do(d, io);
	else if (covered && io->op != IO_SYNC && io->op != IO_EXTENTS)
		parts_do(d, io);
	else
		disk_own(d, io);
	if (io->op == IO_SYNC && io->file == FILE_IMAGE && !io->error && cover_is_on(d) && d->cover_fd >= 0)
		io->error = fdatasync(d->cover_fd) < 0 ? errno : 0;
}

const char *io_word(enum io_op op)
{
	static const char *const words[IO_OPS] = { [IO_READ] = "read", [IO_WRITE] = "write", [IO_ZERO] = "zeroes",
						   [IO_TRIM] = "trim", [IO_SYNC] = "sync", [IO_EXTENTS] = "extents" };

	return words[op];
}

/* "Not supported" is not an error: it is then done in another way. EINVAL is that of a trim. What is beyond a copy's limit is the
 * client's. */
static void note_failure(struct disk *d, const struct io *io)
{
	struct disk *shared = ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && d->cow_of ? d->cow_of : d;
	uint8_t *told = &shared->told_errors;
	const char *path = d->path[io->file], *word = io_word(io->op);
	char file[VERBOSE_WORD];

	if (io->error == EOPNOTSUPP || (io->op == IO_TRIM && io->error == EINVAL) || (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && d->cow_of && io->error == EFBIG))
		return;
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		shared->errors[io->op]++;
	if (!is_verbose() && !(*told >> io->op & 1)) /* who asks for no details has to know that the disk is bad */
		bb_error_msg("'%s': %s: %s", path, word, strerror(io->error));
	*told |= (uint8_t)(1 << io->op);
	if (!is_verbose())
		return;
	verbose_word(file, sizeof(file), path, strlen(path));
	verbose_line(VERBOSE_DISK, "'%s': %s of %llu bytes at %llu: %s event=disk-error file=%s op=%s offset=%llu bytes=%llu errno=%d",
		     file, word, (unsigned long long)io->length, (unsigned long long)io->offset, strerror(io->error),
		     file, word, (unsigned long long)io->offset, (unsigned long long)io->length, io->error);
}

void disk_error_msg(const struct disk *d, const char *format, ...)
{
	char line[800];
	size_t n = 0;
	va_list args;

	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && d->name)
		n = (size_t)snprintf(line, sizeof(line), "proxy '%.100s': ", d->name);
	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - n, format, args);
	va_end(args);
	bb_simple_error_msg(line);
}

void disk_sync_failed(struct disk *d, int error)
{
	struct disk *twin = d;

	do {
		core_sync_failed(twin->core, error);
		twin = twin->twin;
	} while (twin && twin != d);
}

/* ---- what the kernel tells once -------------------------------------------------------------- */

static unsigned syncs; /* submitted, and not done */
static bool syncs_wait;
static struct job *waiting_syncs;

/* Zeroes: see write_through(). */
static bool is_sync(const struct io *io)
{
	return ENABLE_FEATURE_XNBD_SERVER_UPGRADE && (io->op == IO_SYNC || is_zeroing(io));
}

static bool is_image_sync(const struct io *io)
{
	return io->op == IO_SYNC && io->file == FILE_IMAGE;
}

void disk_sync_begin(struct disk *d, struct job *j)
{
	const struct disk *other = d;

	while (!other->syncing && other->twin && other->twin != d)
		other = other->twin;
	if (other->syncing) {
		queue_put(&d->waiting_syncs, j);
		return;
	}
	d->syncing = true;
	pool_submit(j);
}

void disk_sync_end(struct disk *d)
{
	struct disk *next = d;
	struct job *j;

	d->syncing = false;
	do { /* its own turn comes last */
		next = next->twin ? next->twin : next;
		j = queue_pop(&next->waiting_syncs);
	} while (!j && next != d);
	if (j)
		disk_sync_begin(next, j);
}

static void submit(struct job *j)
{
	if (is_sync(io_of(j)) && syncs_wait) {
		j->next = waiting_syncs;
		waiting_syncs = j;
		return;
	}
	syncs += is_sync(io_of(j));
	if (is_image_sync(io_of(j)))
		disk_sync_begin(disk_of(io_of(j)->core), j);
	else
		pool_submit(j);
}

void disks_hold_syncs(bool hold)
{
	struct job *j = hold ? NULL : waiting_syncs, *next;

	syncs_wait = hold;
	if (!hold)
		waiting_syncs = NULL;
	for (; j; j = next) {
		next = j->next;
		submit(j);
	}
}

bool disks_are_syncing(void)
{
	return syncs;
}

/* ---- the port ---------------------------------------------------------------------------------- */

static void disk_job_done(struct job *j)
{
	struct io *io = io_of(j);
	struct disk *d = disk_of(io->core);

	syncs -= is_sync(io);
	if (is_zeroing(io))
		d->zeroing--;
	if ((ENABLE_FEATURE_XNBD_SERVER_COUNTERS || ENABLE_FEATURE_XNBD_SERVER_VERBOSE) && io->error)
		note_failure(d, io);
	if (io->sync_failed || (io->op == IO_SYNC && io->error && d->twin))
		disk_sync_failed(d, io->error);
	if (is_image_sync(io))
		disk_sync_end(d);
	io->done(io);
}

bool disk_read_now(struct disk *d, void *buf, uint32_t n, uint64_t offset)
{
	struct iovec v = { .iov_base = buf, .iov_len = n };
	unsigned long lo = (unsigned long)offset;
	unsigned long hi = sizeof(long) < 8 ? (unsigned long)(offset >> 32) : 0;
	int fd = ENABLE_FEATURE_XNBD_SERVER_COW && d->base_fd >= 0 ? cow_base_fd(d, n, offset) : d->fd[FILE_IMAGE];
	long got;

	if (fd < 0 || d->no_nowait || is_for_direct(d, buf, n, offset) || cover_touches(d, offset, n))
		return false;
	/* The system call itself, since libc may be older. */
	got = syscall(SYS_preadv2, fd, &v, 1, lo, hi, X_RWF_NOWAIT);
	if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		d->no_nowait = true;
	return got == (long)n;
}

bool port_io(struct core *c, struct io *io)
{
	struct disk *d = disk_of(c);
	struct job *j = &io->job;
	bool is_image_write = io->op == IO_WRITE && io->file == FILE_IMAGE;
	bool is_bits = io->op == IO_WRITE && io->file == FILE_BITMAP;

	if (is_image_write && cover_touches(d, io->offset, io->length))
		is_image_write = false; /* it is a write to the commit file */
	if (io->op == IO_READ && io->file == FILE_IMAGE && disk_read_now(d, io->buf, (uint32_t)io->length, io->offset))
		return true;
	io->core = c;
	io->sync_failed = false;
	if (is_zeroing(io))
		d->zeroing++;
	j->run = disk_run;
	j->done = disk_job_done;
	j->owner = io->owner;
	j->killable = false;
	j->class = io->op == IO_EXTENTS || (is_zeroing(io) && io->length > SHORT_ZEROES_BYTES) ? JOB_LONG : JOB_SHORT;
	/* Not writes to the commit file: a sync follows those at once. */
	j->quick = ((is_image_write && !d->zeroing) || is_bits) && io->length <= QUICK_BYTES && !is_direct(d, io) &&
		   __atomic_load_n(&d->fd[io->file], __ATOMIC_RELAXED) >= 0; /* --cow-client: a worker makes the file */
	/* A file system lets one writer at a time into a file. Others that wait for it spin, and would
	 * take the processor from those who have work, as would looks for data, which wait for nothing. */
	j->queue = &d->queues[j->class][!d->is_device && (is_image_write || j->class == JOB_LONG)];
	submit(j);
	return false;
}

void *port_alloc(struct core *c UNUSED_PARAM, uint32_t n)
{
	return buf_get(n);
}

void port_free(struct core *c UNUSED_PARAM, void *p, uint32_t n)
{
	buf_put(p, n);
}
