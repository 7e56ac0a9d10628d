/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Numbers and structs as in linux/ublk_cmd.h, which may be newer than the installed headers; for their semantics see
 * drivers/block/ublk_drv.c. */
#include "libbb.h"
#include "device/ublk.h"
#include "nbd/nbd.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

enum {
	INDEX_MAX = (1 << 20) - 1,

	/* features and flags of a device */
	USER_RECOVERY = 1 << 3,
	USER_RECOVERY_REISSUE = 1 << 4,
	CMD_IOCTL_ENCODE = 1 << 6,
	USER_COPY = 1 << 7, /* the youngest: Linux 6.5 */
	NEEDED = USER_RECOVERY | USER_RECOVERY_REISSUE | CMD_IOCTL_ENCODE | USER_COPY,

	/* parameters of a device */
	BASIC = 1 << 0,
	DISCARD = 1 << 1,
	READ_ONLY = 1 << 0,
	VOLATILE_CACHE = 1 << 2,
	FUA = 1 << 3,
	LOGICAL_SHIFT = 9,
	PHYSICAL_SHIFT = 12, /* a block of ours */

	/* where the data of a request is in the file of its queue */
	DATA_TAG_SHIFT = 25,
};

#define DATA_OFFSET 0x80000000ULL
/* Whole blocks of ours, as many as fit into the 32 bits of a request's bytes. */
#define LONG_SECTORS ((UINT32_MAX >> PHYSICAL_SHIFT) << (PHYSICAL_SHIFT - LOGICAL_SHIFT))

struct control {
	uint32_t index;
	uint16_t queue, length;
	uint64_t addr;
	uint64_t value[1];
	uint16_t path_length, pad;
	uint32_t reserved;
};

struct io_control {
	uint16_t queue, tag;
	int32_t result;
	uint64_t addr;
};

struct device_info {
	uint16_t queues, depth, state, pad0;
	uint32_t io_bytes, index;
	int32_t pid, pad1;
	uint64_t flags;
	uint64_t identity; /* ublksrv_flags: the kernel keeps it, and has no use for it */
	uint32_t owner_uid, owner_gid;
	uint64_t reserved[2];
};

struct parameters {
	uint32_t length, types;
	struct {
		uint32_t attributes;
		uint8_t logical_shift, physical_shift, opt_shift, min_shift;
		uint32_t max_sectors, chunk_sectors;
		uint64_t sectors, boundary_mask;
	} basic;
	struct {
		uint32_t alignment, granularity, max_sectors, max_zero_sectors;
		uint16_t segments, reserved;
	} discard;
};

#define GET_DEV_INFO  _IOR('u', 0x02, struct control)
#define ADD_DEV       _IOWR('u', 0x04, struct control)
#define DEL_DEV       _IOWR('u', 0x05, struct control)
#define START_DEV     _IOWR('u', 0x06, struct control)
#define STOP_DEV      _IOWR('u', 0x07, struct control)
#define SET_PARAMS    _IOWR('u', 0x08, struct control)
#define START_RECOVERY _IOWR('u', 0x10, struct control)
#define END_RECOVERY  _IOWR('u', 0x11, struct control)
#define GET_FEATURES  _IOR('u', 0x13, struct control)
#define FETCH_REQ     _IOWR('u', 0x20, struct io_control)
#define COMMIT_AND_FETCH_REQ _IOWR('u', 0x21, struct io_control)

/* ---- control --------------------------------------------------------------------------------- */

/* One command, with `length` bytes at buf to read or to fill. 0, or an errno. */
static int control(unsigned long command, unsigned index, void *buf, size_t length, uint64_t value)
{
	struct control c = { .index = index, .queue = UINT16_MAX, .length = (uint16_t)length, .addr = (uintptr_t)buf, .value = { value } };
	struct uring ring;
	int fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	int error = fd < 0 ? errno : uring_open(&ring, 1, true);

	if (!error) {
		memcpy(uring_command(&ring, fd, (uint32_t)command, 0)->data, &c, sizeof(c));
		error = uring_submit(&ring, 1);
		if (!error)
			error = -uring_result(&ring)->result;
		uring_close(&ring);
	}
	if (fd >= 0)
		close(fd);
	return error;
}

int ublk_index(const char *path)
{
	static const char prefix[] = "/dev/ublkb";
	const char *digits = path + sizeof(prefix) - 1;
	unsigned long index;
	char *end;

	if (strncmp(path, prefix, sizeof(prefix) - 1) != 0 || *digits < '0' || *digits > '9')
		return -1;
	errno = 0;
	index = strtoul(digits, &end, 10);
	return errno || *end || index > INDEX_MAX ? -1 : (int)index;
}

int ublk_probe(void)
{
	uint64_t features = 0;
	int error = control(GET_FEATURES, 0, &features, sizeof(features), 0);

	/* A kernel that does not know this command says so, or that there is no device 0. */
	if (error == ENODEV || (!error && (features & NEEDED) != NEEDED))
		return EOPNOTSUPP;
	return error;
}

int ublk_inspect(unsigned index, struct ublk_info *info)
{
	struct device_info d = { .pid = 0 };
	int error = control(GET_DEV_INFO, index, &d, sizeof(d), 0);

	info->state = error ? UBLK_NONE : d.state + UBLK_DEAD;
	info->pid = d.pid;
	info->identity = d.identity;
	info->fits = d.queues == 1 && d.depth == UBLK_DEPTH && (d.flags & NEEDED) == NEEDED;
	return error == ENODEV ? 0 : error;
}

static int set_parameters(unsigned index, uint64_t size_bytes, uint32_t block_bytes, uint16_t flags)
{
	struct parameters p = { .length = sizeof(p), .types = BASIC | DISCARD };

	p.basic.attributes = (flags & NBD_FLAG_READ_ONLY ? READ_ONLY : 0) | (flags & NBD_FLAG_SEND_FLUSH ? VOLATILE_CACHE : 0) |
			     (flags & NBD_FLAG_SEND_FUA ? FUA : 0);
	p.basic.logical_shift = (uint8_t)__builtin_ctz(block_bytes);
	p.basic.physical_shift = p.basic.opt_shift = p.basic.min_shift = PHYSICAL_SHIFT;
	p.basic.max_sectors = UBLK_MAX_BYTES / UBLK_SECTOR_BYTES;
	p.basic.sectors = size_bytes / UBLK_SECTOR_BYTES;
	p.discard.granularity = 1 << PHYSICAL_SHIFT;
	p.discard.max_sectors = flags & NBD_FLAG_SEND_TRIM ? LONG_SECTORS : 0;
	p.discard.max_zero_sectors = flags & NBD_FLAG_SEND_WRITE_ZEROES ? LONG_SECTORS : 0;
	p.discard.segments = 1;
	return control(SET_PARAMS, index, &p, sizeof(p), 0);
}

int ublk_add(unsigned index, uint64_t identity, uint64_t size_bytes, uint32_t block_bytes, uint16_t transmission_flags)
{
	struct device_info d = { .queues = 1, .depth = UBLK_DEPTH, .io_bytes = UBLK_MAX_BYTES, .index = index, .flags = NEEDED, .identity = identity };
	int error = control(ADD_DEV, index, &d, sizeof(d), 0);

	if (error)
		return error;
	error = set_parameters(index, size_bytes, block_bytes, transmission_flags);
	if (error)
		ublk_delete(index);
	return error;
}

int ublk_recover(unsigned index)
{
	int error = control(START_RECOVERY, index, NULL, 0, 0);

	/* A server has died after this command and before its first others: what it does is done. */
	return error == EINVAL ? 0 : error;
}

int ublk_start(unsigned index, bool recovered)
{
	return control(recovered ? END_RECOVERY : START_DEV, index, NULL, 0, (uint64_t)getpid());
}

int ublk_stop(unsigned index)
{
	return control(STOP_DEV, index, NULL, 0, 0);
}

int ublk_delete(unsigned index)
{
	return control(DEL_DEV, index, NULL, 0, 0);
}

/* ---- requests --------------------------------------------------------------------------------- */

static int open_queue(unsigned index)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/ublkc%u", index);
	return open(path, O_RDWR | O_CLOEXEC);
}

bool ublk_is_open(unsigned index)
{
	int fd = open_queue(index);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EBUSY;
}

int ublk_queue_open(struct ublk_queue *q, unsigned index)
{
	int error;

	q->io = NULL;
	q->fd = open_queue(index);
	if (q->fd < 0)
		return errno;
	/* Twice as many as there can be: a ring that is full cannot be waited for. */
	error = uring_open(&q->ring, 2 * UBLK_DEPTH, false);
	if (error)
		close(q->fd);
	return error;
}

static size_t io_bytes(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (UBLK_DEPTH * sizeof(struct ublk_io) + page - 1) / page * page;
}

void ublk_queue_close(struct ublk_queue *q)
{
	uring_close(&q->ring);
	if (q->io)
		munmap((void *)q->io, io_bytes());
	close(q->fd);
}

static void io_command(struct ublk_queue *q, unsigned long command, unsigned tag, int result)
{
	struct io_control c = { .tag = (uint16_t)tag, .result = result };

	memcpy(uring_command(&q->ring, q->fd, (uint32_t)command, tag)->data, &c, sizeof(c));
}

/* Maps the descriptions here and not earlier: a server that dies between the two leaves a device that nobody can
 * take over, as the kernel then lets no other process map them (ublk_ch_mmap()). */
int ublk_fetch(struct ublk_queue *q)
{
	void *io = mmap(NULL, io_bytes(), PROT_READ, MAP_SHARED | MAP_POPULATE, q->fd, 0);
	unsigned tag;

	if (io == MAP_FAILED)
		return errno;
	madvise(io, io_bytes(), MADV_DONTFORK); /* a child, which may wait for this very queue, would keep it open */
	q->io = io;
	for (tag = 0; tag < UBLK_DEPTH; tag++)
		io_command(q, FETCH_REQ, tag, 0);
	return 0;
}

void ublk_commit(struct ublk_queue *q, unsigned tag, int result)
{
	io_command(q, COMMIT_AND_FETCH_REQ, tag, result);
}

bool ublk_copy(const struct ublk_queue *q, unsigned tag, void *buf, uint32_t n, uint32_t offset)
{
	off_t at = (off_t)(DATA_OFFSET + ((uint64_t)tag << DATA_TAG_SHIFT) + offset);
	bool is_read = (q->io[tag].op_flags & UBLK_OP_MASK) == UBLK_READ;
	ssize_t done;

	do
		done = is_read ? pwrite(q->fd, buf, n, at) : pread(q->fd, buf, n, at);
	while (done < 0 && errno == EINTR);
	return done == (ssize_t)n;
}
