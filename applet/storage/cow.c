/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Copy on write: a base image that is only read, and a file without a name for what is
 * written. That file vanishes with the server.
 *
 * All of this runs on workers, or as a quick write on the core's thread. The core lets nobody else
 * touch the blocks of a write (core/range.h), so the words of the bits are all that they share.
 */
//config:config FEATURE_XNBD_SERVER_COW
//config:	bool "--cow-target (2.6 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Serves an image that is only read; what clients write goes to a file
//config:	that vanishes at the end.
//config:
//config:config FEATURE_XNBD_SERVER_COW_CLIENT
//config:	bool "--cow-client (1.4 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_COW
//config:	help
//config:	The same with a file for each client, which vanishes with it.
#include "libbb.h"
#include "reactor/descriptors.h"
#include "reactor/lock.h"
#include "storage/cow.h"

uint64_t cow_limit_bytes;

/* Where there is room for what may become large: TMPDIR, or /var/tmp. */
static int open_nameless(void)
{
	const char *dir = getenv("TMPDIR");

	return open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static bool words_new(struct disk *d)
{
	uint64_t n = map_bytes(d->header.size_bytes) + 8;

	d->cow_words = n > SIZE_MAX ? NULL : calloc(1, (size_t)n);
	return d->cow_words;
}

bool cow_share(struct disk *d, struct disk *base)
{
	d->cow_of = base;
	d->base_fd = base->fd[FILE_IMAGE];
	d->header.size_bytes = base->header.size_bytes;
	d->path[FILE_IMAGE] = strdup(base->path[FILE_IMAGE]);
	return d->path[FILE_IMAGE] && words_new(d);
}

/* The file of a disk that shares its base, when there is something to write. 0 or errno. */
static int file_begin(struct disk *d)
{
	static struct mutex lock; /* of all disks: it happens once in the life of each */
	int error = 0, fd;

	mutex_lock(&lock);
	if (d->fd[FILE_IMAGE] < 0) {
		fd = fd_within(open_nameless(), FD_CLIENTS);
		if (fd >= 0 && ftruncate(fd, (off_t)d->header.size_bytes) == 0) {
			__atomic_store_n(&d->fd[FILE_IMAGE], fd, __ATOMIC_RELEASE);
		} else {
			error = errno == EFBIG ? ENOSPC : errno;
			if (fd >= 0)
				close(fd);
		}
	}
	mutex_unlock(&lock);
	return error;
}

const char *cow_begin(struct disk *d)
{
	d->base_fd = d->fd[FILE_IMAGE];
	d->fd[FILE_IMAGE] = open_nameless();
	if (d->fd[FILE_IMAGE] < 0 || ftruncate(d->fd[FILE_IMAGE], (off_t)d->header.size_bytes) < 0)
		return "cannot create a temporary file: set another TMPDIR";
	return words_new(d) ? NULL : "out of memory";
}

static bool is_own(const struct disk *d, uint64_t block)
{
	return __atomic_load_n(&d->cow_words[block / 32], __ATOMIC_ACQUIRE) >> (block % 32) & 1;
}

static void set_own(struct disk *d, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		__atomic_fetch_or(&d->cow_words[first / 32], (uint32_t)1 << (first % 32), __ATOMIC_RELEASE);
}

/* The end of the run of blocks that begins with first and is all own, or all not. */
static uint64_t run_end(const struct disk *d, uint64_t first, uint64_t end, bool *own)
{
	*own = is_own(d, first);
	do
		first++;
	while (first < end && is_own(d, first) == *own);
	return first;
}

int cow_base_fd(const struct disk *d, uint64_t n, uint64_t offset)
{
	uint64_t end = map_blocks(offset + n);
	bool own;

	return run_end(d, offset / BLOCK_BYTES, end, &own) < end || own ? -1 : d->base_fd;
}

int cow_read(struct disk *d, uint8_t *p, uint64_t n, uint64_t offset)
{
	uint64_t end = map_blocks(offset + n);

	while (n) {
		bool own;
		uint64_t stop = run_end(d, offset / BLOCK_BYTES, end, &own) * BLOCK_BYTES;
		uint64_t step = stop - offset < n ? stop - offset : n;
		int error = disk_transfer(own ? d->fd[FILE_IMAGE] : d->base_fd, false, p, step, offset);

		if (error)
			return error;
		p += step;
		offset += step;
		n -= step;
	}
	return 0;
}

/* Makes a block our own that is going to be written in part. */
static int copy_block(struct disk *d, uint64_t block)
{
	uint8_t bytes[BLOCK_BYTES];
	uint64_t offset = block * BLOCK_BYTES;
	uint64_t rest = d->header.size_bytes - offset;
	uint64_t n = rest < BLOCK_BYTES ? rest : BLOCK_BYTES;
	int error;

	if (is_own(d, block))
		return 0;
	error = disk_transfer(d->base_fd, false, bytes, n, offset);
	if (!error)
		error = disk_transfer(d->fd[FILE_IMAGE], true, bytes, n, offset);
	if (!error)
		set_own(d, block, block + 1);
	return error;
}

/* How many of these blocks are not our own yet. */
static uint64_t foreign(const struct disk *d, uint64_t first, uint64_t end)
{
	uint64_t n = 0;

	for (; first < end; first++)
		n += !is_own(d, first);
	return n;
}

/* Takes room for what is going to be written, up to the limit, beyond which it is EFBIG. Whoever fails then gives it back: cow_written(). */
static int own_begin(struct disk *d, uint64_t n, uint64_t offset)
{
	unsigned long more = (unsigned long)foreign(d, offset / BLOCK_BYTES, map_blocks(offset + n));
	uint64_t all = __atomic_add_fetch(&d->cow_blocks, more, __ATOMIC_RELAXED);

	if (cow_limit_bytes && more && all > cow_limit_bytes / BLOCK_BYTES)
		return EFBIG;
	return __atomic_load_n(&d->fd[FILE_IMAGE], __ATOMIC_ACQUIRE) < 0 ? file_begin(d) : 0;
}

int cow_prepare(struct disk *d, uint64_t n, uint64_t offset)
{
	uint64_t end = offset + n;
	int error = ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && d->cow_of ? own_begin(d, n, offset) : 0;

	if (!error && offset % BLOCK_BYTES)
		error = copy_block(d, offset / BLOCK_BYTES);
	if (!error && end % BLOCK_BYTES && end != d->header.size_bytes)
		error = copy_block(d, end / BLOCK_BYTES);
	return error;
}

void cow_written(struct disk *d, uint64_t n, uint64_t offset, int error)
{
	uint64_t first = offset / BLOCK_BYTES, end = map_blocks(offset + n);

	if (!error)
		set_own(d, first, end);
	else if (ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && d->cow_of)
		__atomic_fetch_sub(&d->cow_blocks, (unsigned long)foreign(d, first, end), __ATOMIC_RELAXED);
}
