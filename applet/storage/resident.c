/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Files that need no memory while they are used. */
#include "libbb.h"
#include "storage/resident.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { X_BLKSSZGET = 0x1268 }; /* linux/fs.h: the sector's bytes */

/* If the page cache could get memory only by swapping, and swap is on our disk, all would be
 * deadlocked: our reads and writes, and the kernel's that wait for them. So we bypass it. Both
 * descriptors see the same bytes: a page is no larger than a block, so no two accesses to it
 * are in flight at once. */
static void open_direct(struct disk *d)
{
	int unit;

	if (d->direct_fd >= 0 || !d->is_device || getpagesize() > BLOCK_BYTES || ioctl(d->fd[FILE_IMAGE], X_BLKSSZGET, &unit) < 0)
		return;
	d->direct_unit = (uint32_t)unit;
	d->direct_fd = open(d->path[FILE_IMAGE], O_RDWR | O_DIRECT | O_CLOEXEC);
}

/* Its pages are there already when bits are written to them. */
static void pin(struct disk *d, enum io_file file)
{
	off_t n = lseek(d->fd[file], 0, SEEK_END);
	void *at = n > 0 ? mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, d->fd[file], 0) : NULL;

	if (at == MAP_FAILED) {
		bb_simple_perror_msg("cannot lock the bitmap in memory");
		return;
	}
	d->pinned[file].at = at;
	d->pinned[file].bytes = (size_t)n;
}

void resident_end(struct disk *d)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(d->pinned); i++)
		if (d->pinned[i].at)
			munmap(d->pinned[i].at, d->pinned[i].bytes);
}

void resident_files(struct disk *d)
{
	struct stat st;

	open_direct(d);
	pin(d, FILE_BITMAP);
	if (d->header_fd < 0 || fstat(d->header_fd, &st) < 0) /* a target */
		return;
	if (!S_ISBLK(st.st_mode))
		pin(d, FILE_COMMIT);
	else if (fcntl(d->fd[FILE_COMMIT], F_SETFL, O_DIRECT) < 0 || fcntl(d->header_fd, F_SETFL, O_DIRECT) < 0)
		bb_perror_msg("'%s' is written through the page cache", d->path[FILE_COMMIT]);
}
