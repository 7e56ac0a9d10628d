/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The kernel's NBD client by ioctl(2): numbers as in linux/nbd.h. */
#include "libbb.h"
#include "device/kernel_nbd.h"

#include <sys/ioctl.h>

enum {
	SET_SOCK = 0xab00,
	SET_BLKSIZE = 0xab01,
	DO_IT = 0xab03,
	CLEAR_SOCK = 0xab04,
	CLEAR_QUE = 0xab05,
	SET_SIZE_BLOCKS = 0xab07,
	DISCONNECT = 0xab08,
	SET_TIMEOUT = 0xab09,
	SET_FLAGS = 0xab0a,
};

int kernel_nbd_ioctl_connect(int fd, const struct kernel_nbd_device *d, const int *fds, unsigned count)
{
	unsigned long blocks = (unsigned long)(d->size_bytes / d->block_bytes);
	unsigned i;

	if (blocks != d->size_bytes / d->block_bytes)
		return EFBIG; /* on a machine of 32 bits */
	/* The first socket makes the device ours, or tells that it is another's. */
	for (i = 0; i < count; i++)
		if (ioctl(fd, SET_SOCK, fds[i]) < 0)
			return errno;
	if (ioctl(fd, SET_BLKSIZE, (unsigned long)d->block_bytes) < 0 ||
	    ioctl(fd, SET_SIZE_BLOCKS, blocks) < 0 ||
	    ioctl(fd, SET_TIMEOUT, (unsigned long)d->timeout_s) < 0 ||
	    ioctl(fd, SET_FLAGS, (unsigned long)d->transmission_flags) < 0) {
		int error = errno;

		(void)ioctl(fd, CLEAR_SOCK);
		return error;
	}
	return 0;
}

int kernel_nbd_ioctl_run(int fd)
{
	int error = ioctl(fd, DO_IT) < 0 ? errno : 0;

	(void)ioctl(fd, CLEAR_QUE);
	(void)ioctl(fd, CLEAR_SOCK);
	return error;
}

int kernel_nbd_ioctl_disconnect(int fd)
{
	return ioctl(fd, DISCONNECT) < 0 ? errno : 0;
}
