/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Holes of files, by lseek(2). */
#include "libbb.h"
#include "storage/holes.h"

#include <sys/vfs.h>

bool holes_known(int fd)
{
	/* ZFS was wrong before 2.2.2 and 2.1.14; of the others it is not known what is behind them. */
	enum { ZFS = 0x2fc12fc1, FUSE = 0x65735546, NFS = 0x6969 }; /* of statfs(2) */
	struct statfs s;

	return fstatfs(fd, &s) == 0 && (uint32_t)s.f_type != ZFS && (uint32_t)s.f_type != FUSE && (uint32_t)s.f_type != NFS;
}

uint64_t holes_data(int fd, bool known, uint64_t offset)
{
	off_t at = known ? lseek(fd, (off_t)offset, SEEK_DATA) : (off_t)offset;

	if (at < 0 && errno == ENXIO)
		return UINT64_MAX;
	return at > (off_t)offset ? (uint64_t)at : offset;
}

uint64_t holes_data_end(int fd, bool known, uint64_t offset)
{
	off_t at = known ? lseek(fd, (off_t)offset, SEEK_HOLE) : -1;

	return at > (off_t)offset ? (uint64_t)at : UINT64_MAX;
}
