/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Checks whether these are the files that the last server left.
 *
 * The commit file's header knows which files they were (inode and birth time; a device by its serial number or what
 * else it has), how a server that ended well has left them (their mtime and ctime), and the bytes of some blocks. A
 * stamp detects an older copy that was written over the commit file: the counter of the newest header in an extended
 * attribute, which writing such a copy does not change.
 *
 * What the kernel or the file system cannot tell is 0, and not compared.
 */
#include "libbb.h"
#include "storage/cover.h"
#include "storage/identity.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

/* linux/stat.h, linux/loop.h, linux/magic.h: kernel headers are not needed for some numbers. */
enum {
	X_STATX_BTIME = 0x800,
	X_STATX_MNT_ID_UNIQUE = 0x4000, /* Linux 6.8 */
	X_STATX_WORDS = 256 / 8, /* struct statx; the words of it that are wanted: */
	X_BTIME_S = 0x50 / 8,
	X_BTIME_NS,
	X_MNT_ID = 0x90 / 8,
	X_LOOP_GET_STATUS64 = 0x4C05,
	X_LOOP_WORDS = 232 / 8,
	X_LOOP_INODE = 1, /* words of struct loop_info64 */
	X_LOOP_OFFSET = 3,
};

#define STAMP "user.xnbd"

/* ---- devices ---------------------------------------------------------------------------- */

/* Reads an attribute of a block device from its directory in sysfs, or from the one above, which for
 * a partition is its disk's. Returns its length without trailing space, 0 = there is none. */
static size_t sysfs_read(dev_t dev, const char *name, char *to, size_t size)
{
	char path[80];
	ssize_t n = 0;
	int fd = -1;
	unsigned up;

	for (up = 0; fd < 0 && up < 2; up++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s%s", major(dev), minor(dev), up ? "../" : "", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd >= 0) {
		n = full_read(fd, to, size);
		close(fd);
	}
	while (n > 0 && to[n - 1] <= ' ')
		n--;
	return n > 0 ? (size_t)n : 0;
}

/* A partition is its number and what its disk is. */
static uint64_t device_identity(int fd, dev_t dev)
{
	static const char names[] = "wwid\0device/wwid\0serial\0device/serial\0dm/uuid\0";
	uint64_t loop[X_LOOP_WORDS];
	char text[256];
	const char *name;
	size_t n = 0;

	if (ioctl(fd, X_LOOP_GET_STATUS64, loop) == 0) {
		loop[0] = loop[X_LOOP_OFFSET];
		return fingerprint_sample((uint8_t *)loop, 2 * sizeof(loop[0]));
	}
	for (name = names; *name && !n; name += strlen(name) + 1)
		n = sysfs_read(dev, name, text, sizeof(text) - 16);
	if (!n)
		return 0;
	n += sysfs_read(dev, "partition", text + n, 16);
	return fingerprint_sample((uint8_t *)text, n);
}

/* ---- files ------------------------------------------------------------------------------ */

/* What stat(2) does not tell. The system call itself, since libc may be older. False: the kernel
 * or the file system does not know. */
static bool extended_stat(int fd, unsigned what, uint64_t *to)
{
	uint32_t known;

	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, what, to) != 0)
		return false;
	memcpy(&known, to, sizeof(known)); /* stx_mask */
	return known & what;
}

/* FAT, exFAT, FUSE and 9P make inode numbers up. */
static bool inodes_last(int fd)
{
	static const uint32_t others[] = { 0x4d44, 0x2011bab2, 0x65735546, 0x01021997 };
	struct statfs s;
	unsigned i;

	if (fstatfs(fd, &s) < 0)
		return false;
	for (i = 0; i < ARRAY_SIZE(others); i++)
		if ((uint32_t)s.f_type == others[i])
			return false;
	return true;
}

/* The file system is left out: its id changes with the name of its device (XFS), and a copy of
 * a file system has the same. */
static uint64_t identity_of(int fd)
{
	uint64_t id[3] = { 0 }, more[X_STATX_WORDS];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if (S_ISBLK(st.st_mode))
		return device_identity(fd, st.st_rdev);
	if (extended_stat(fd, X_STATX_BTIME, more)) {
		id[0] = more[X_BTIME_S];
		id[1] = more[X_BTIME_NS]; /* and four bytes that are zero */
	}
	if (inodes_last(fd))
		id[2] = st.st_ino;
	return id[0] | id[2] ? fingerprint_sample((uint8_t *)id, sizeof(id)) : 0;
}

/* When it was changed last; 0: a device does not tell. */
static uint64_t changed_ns(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
}

static uint64_t stamp_of(int fd)
{
	uint64_t stamp;

	return fgetxattr(fd, STAMP, &stamp, sizeof(stamp)) == sizeof(stamp) ? stamp : 0;
}

void identity_stamp(int fd, uint64_t counter)
{
	fsetxattr(fd, STAMP, &counter, sizeof(counter), 0); /* not everywhere */
}

/* ---- the same boot ------------------------------------------------------------------------ */

static void read_boot_id(char *id)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(id, 0, STATE_BOOT_ID_BYTES);
	if (fd < 0)
		return; /* unknown: counts as another boot, which is safe */
	if (full_read(fd, id, STATE_BOOT_ID_BYTES - 1) < 0)
		id[0] = '\0';
	*strchrnul(id, '\n') = '\0';
	close(fd);
}

/* The mounts and disks of image and bitmap: of these the kernel never uses a number twice. A
 * mount's is another one in each mount namespace. */
static void read_mounts(const struct disk *d, struct state_header *h)
{
	uint64_t mounts[2] = { 0 }, more[X_STATX_WORDS];
	char disks[2 * 20];
	struct stat st;
	size_t n = 0;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		dev_t dev;

		if (d->fd[i] < 0 || fstat(d->fd[i], &st) < 0)
			continue;
		dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
		if (!S_ISBLK(st.st_mode) && extended_stat(d->fd[i], X_STATX_MNT_ID_UNIQUE, more))
			mounts[i] = more[X_MNT_ID];
		n += sysfs_read(dev, "diskseq", disks + n, 20);
	}
	h->disks = n ? fingerprint_sample((uint8_t *)disks, n) : 0;
	h->mounts = mounts[0] | mounts[1] ? fingerprint_sample((uint8_t *)mounts, sizeof(mounts)) : 0;
	h->mount_space = stat("/proc/self/ns/mnt", &st) == 0 ? st.st_ino : 0;
}

static bool differ(uint64_t a, uint64_t b)
{
	return a && b && a != b;
}

bool identity_same_boot(const struct disk *d)
{
	const struct state_header *h = &d->header;
	struct state_header now;

	read_boot_id(now.boot_id);
	read_mounts(d, &now);
	if (!now.boot_id[0] || strcmp(now.boot_id, h->boot_id) != 0)
		return false;
	if (d->fd[FILE_BITMAP] < 0) /* then mounts and disks are those of the image alone */
		return true;
	return !differ(now.disks, h->disks) && (now.mount_space != h->mount_space || !differ(now.mounts, h->mounts)) &&
	       !differ(identity_of(d->fd[FILE_BITMAP]), h->bitmap);
}

uint64_t identity_now(int fd)
{
	struct { /* no padding */
		uint64_t dev, identity;
		char disk[24];
	} id = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	id.dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	id.identity = identity_of(fd);
	sysfs_read((dev_t)id.dev, "diskseq", id.disk, sizeof(id.disk));
	return fingerprint_sample((uint8_t *)&id, sizeof(id));
}

/* ---- at a start ---------------------------------------------------------------------------- */

void identity_check(const struct disk *d, struct state_found *f)
{
	const struct state_header *h = &d->header;

	if (f->commit != COMMIT_GOOD)
		return;
	if (stamp_of(d->fd[FILE_COMMIT]) > h->counter || differ(identity_of(d->fd[FILE_COMMIT]), h->commit))
		f->other = "the commit file is an older copy, or of another cache";
	else if (differ(identity_of(d->fd[FILE_IMAGE]), h->image))
		f->other = "the image is not the one that belongs to it";
	else if (h->clean && (differ(changed_ns(d->fd[FILE_IMAGE]), h->image_ns) ||
			      (f->same_boot && differ(changed_ns(d->fd[FILE_BITMAP]), h->bitmap_ns))))
		f->changed = "image or bitmap were changed after the last server had ended";
}

static bool has_bit(const uint64_t *words, uint64_t i)
{
	return words[i / 64] >> i % 64 & 1;
}

bool identity_is_origins(const struct disk *d, uint64_t block)
{
	return has_bit(d->words, block) && !has_bit(d->written, block / WRITTEN_BLOCKS);
}

uint64_t identity_sample(const struct disk *d, uint64_t block, uint8_t *buf)
{
	uint64_t start = block * BLOCK_BYTES, rest = d->header.size_bytes - start;
	size_t n = rest < BLOCK_BYTES ? (size_t)rest : BLOCK_BYTES;

	uint64_t part = n, at = cover_part(d, start, &part); /* whose borders are those of blocks */
	int fd = at == UINT64_MAX ? d->fd[FILE_IMAGE] : cover_fd(d, buf, n, at);

	return pread(fd, buf, n, (off_t)(at == UINT64_MAX ? start : at)) == (ssize_t)n ? fingerprint_sample(buf, n) : 0;
}

/* NULL, or why the block is not as the sample says: `differs`, unless it cannot be read. */
static const char *block_error(struct disk *d, uint64_t block, uint64_t sample, const char *differs)
{
	uint64_t here;

	if (!sample || !identity_is_origins(d, block))
		return NULL;
	here = identity_sample(d, block, d->save.block);
	if (here)
		return here == sample ? NULL : differs;
	return "a block of it cannot be read (see dmesg): copy the image to a good disk";
}

const char *identity_content(struct disk *d, bool both)
{
	const struct state_header *h = &d->header;
	static const char older[] = "image or bitmap are not as the last server has left them, but older";
	const struct state_recent *r;
	const char *why = NULL;
	unsigned i;

	if (!ENABLE_FEATURE_XNBD_SERVER_VERIFY) /* nobody knows what is the origin's */
		return NULL;
	for (r = h->recent; !why && r < h->recent + STATE_RECENT; r++)
		if (r->sample && r->block < map_blocks(h->size_bytes))
			why = both && !has_bit(d->words, r->block) ? older : block_error(d, r->block, r->sample, older);
	for (i = 0; !why && !h->mixed && i < STATE_SAMPLES; i++)
		why = block_error(d, fingerprint_block(h->size_bytes, i), h->fingerprint.sample[i],
				  "the image is not of this origin, or not the one of this bitmap");
	return why;
}

void identity_remember(struct disk *d, struct state_header *h)
{
	struct state_recent *r;

	for (r = h->recent; r < h->recent + STATE_RECENT; r++)
		if (r->sample)
			r->sample = identity_sample(d, r->block, d->save.block);
}

/* What is not known now stays as it was: /sys may come later. */
static void learn(uint64_t *known, uint64_t id)
{
	if (id)
		*known = id;
}

void identity_set(struct disk *d)
{
	struct state_header *h = &d->header;

	read_boot_id(h->boot_id);
	read_mounts(d, h);
	learn(&h->image, identity_of(d->fd[FILE_IMAGE]));
	h->bitmap = identity_of(d->fd[FILE_BITMAP]);
	h->commit = identity_of(d->fd[FILE_COMMIT]);
	h->clean = h->image_ns = h->bitmap_ns = 0;
}

int identity_leave(const struct disk *d, struct state_header *h)
{
	if (fsync(d->fd[FILE_IMAGE]) < 0 || fsync(d->fd[FILE_BITMAP]) < 0)
		return errno;
	h->image_ns = changed_ns(d->fd[FILE_IMAGE]);
	h->bitmap_ns = changed_ns(d->fd[FILE_BITMAP]);
	return 0;
}
