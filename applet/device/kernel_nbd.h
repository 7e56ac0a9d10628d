/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The kernel's client of NBD, /dev/nbdN: connects devices to sockets whose handshake is done.
 *
 * Generic netlink, as linux/nbd-netlink.h has it (kernel 4.12; backend identifiers 5.14), without a library. Each call
 * sends one request and waits for the reply, perhaps also for the requests of others: the kernel serves one at a time.
 * Any thread; no state but the descriptor and what kernel_nbd_open() has found out, which is the caller's.
 *
 * Errors are errnos: EPERM (not root), EBUSY (the device is connected), EINVAL (no such device, not connected,
 * another identifier).
 */
#ifndef DEVICE_KERNEL_NBD_H
#define DEVICE_KERNEL_NBD_H

#include <stdbool.h>
#include <stdint.h>

/* A socket to the kernel. */
struct kernel_nbd {
	int fd;
	uint16_t family; /* the number that the kernel has given to "nbd" */
	uint32_t group;  /* of its multicasts; 0: none */
};

/* What a device is. */
struct kernel_nbd_device {
	uint32_t index;             /* of /dev/nbdN */
	uint64_t size_bytes;        /* what is beyond the last multiple of 512 is not there */
	uint32_t block_bytes;       /* logical blocks: a power of 2, 512..page size */
	uint16_t transmission_flags;
	uint32_t timeout_s;         /* a request that is not answered for so long: another connection is tried, or an error. 0 = never */
	bool keeps_timer;           /* with timeout_s 0: queue/io_timeout is left as it is */
	uint32_t dead_s;            /* requests wait so long for a new connection when all are lost; 0 = not at all */
	const char *identifier;     /* of what is served: only the same may be connected again; at most 127 bytes; NULL = none */
	bool ends_on_close;         /* as by kernel_nbd_disconnect(), when nobody has it open any more */
};

enum {
	KERNEL_NBD_CONNECTIONS_MAX = 16,
	KERNEL_NBD_FOREVER_S = 2000000, /* 23 days: what the kernel can count in 32 bits of its clock's ticks */
};

/* The number of a device by its path ("/dev/nbd3", or whatever else is that device): 0 or more; -1: it is
 * no device of this kind, with errno. Partitions are none. */
int kernel_nbd_index(const char *path);

/* Whether the kernel is of this version or a later one. What has changed since netlink came:
 * 5.4: a timeout_s of 0 is never, and no longer at once;
 * 5.7: a device with one connection resends what was in flight when that was lost. */
bool kernel_nbd_is_since(unsigned major, unsigned minor);

/* 0, or an errno. ENOENT: this kernel has no nbd, or its module is not loaded. The caller closes k->fd. */
int kernel_nbd_open(struct kernel_nbd *k);

/* The device begins, on count sockets (1..KERNEL_NBD_CONNECTIONS_MAX), which the kernel keeps: the caller
 * may close its descriptors. 0, or an errno. */
int kernel_nbd_connect(const struct kernel_nbd *k, const struct kernel_nbd_device *d, const int *fds, unsigned count);

/* New sockets for lost ones (count: 0.. too), new times and ends_on_close for a device that is connected. d->size_bytes,
 * block_bytes and flags stay as they are. ENOSPC: no connection is lost. EINVAL: another identifier, or not connected. */
int kernel_nbd_reconfigure(const struct kernel_nbd *k, const struct kernel_nbd_device *d, const int *fds, unsigned count);

/* The device ends: every connection gets an NBD_CMD_DISC, and what is in flight fails. */
int kernel_nbd_disconnect(const struct kernel_nbd *k, uint32_t index);

/* k->fd, which must not be used for anything else, is told from now on when a connection is lost: it
 * becomes readable. 0, or an errno. */
int kernel_nbd_subscribe(const struct kernel_nbd *k);
/* Waits for the next one. Returns which device has lost a connection (0 or more), or KERNEL_NBD_SOME: it
 * may be any, as the kernel had no room to tell. -1 with errno: it could not be read. */
enum { KERNEL_NBD_SOME = INT32_MAX };
int kernel_nbd_lost(const struct kernel_nbd *k);

/* The process that has connected the device, which may have ended, by sysfs; 0: it is not connected. */
unsigned kernel_nbd_pid(uint32_t index);
/* What was given as identifier, by sysfs; to has room for `bytes`. False: none, or a kernel without. */
bool kernel_nbd_identifier(uint32_t index, char *to, unsigned bytes);
/* Whether kernel_nbd_pid() is still pid: false when the device has ended, or is another one's by now. True as well where
 * nobody can tell: sysfs has been mounted elsewhere since, as by switch_root(8). */
bool kernel_nbd_has_stayed(uint32_t index, unsigned pid);
/* An attribute of the device in sysfs, as "queue/io_timeout": 0: this kernel has none. */
unsigned kernel_nbd_get(uint32_t index, const char *attribute);
/* False: this kernel has none, or not this value. */
bool kernel_nbd_set(uint32_t index, const char *attribute, unsigned value);

/*
 * By ioctl(2), for kernels without netlink: a process opens the device, gives it sockets, and then is the device's:
 * kernel_nbd_ioctl_run() returns when the device has ended, which it does with its first lost connection; 0 does not
 * mean that it was disconnected. fd: the device. 0, or an errno; EBUSY: it is connected; EFBIG: too many blocks. d:
 * without dead_s and identifier.
 */
int kernel_nbd_ioctl_connect(int fd, const struct kernel_nbd_device *d, const int *fds, unsigned count);
int kernel_nbd_ioctl_run(int fd);
int kernel_nbd_ioctl_disconnect(int fd);

#endif
