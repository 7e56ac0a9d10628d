/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Opens, locks and measures a single file of a disk. */
#include "libbb.h"
#include "reactor/descriptors.h"
#include "storage/cover.h"
#include "storage/files.h"
#include "storage/paths.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define IN_USE "'%s' is in use: mounted, swap, RAID, LVM (see lsblk)"

enum {
	MOUNTS_BYTES = 256 << 10, /* of mountinfo: some thousand mounts */
	BUSY_TRIES = 40, /* to open a block device; two seconds */
	BUSY_WAIT_MS = 50,
};

void file_die_in_use(const struct disk *d, enum io_file file)
{
	bb_error_msg_and_die(IN_USE " or another server", d->path[file]);
}

/* O_EXCL: of a block device the kernel has one exclusive user at a
 * time. Mounts, swap, RAID, LVM and the mkfs programs are such users, and a proxy is one too.
 * Programs that udev runs after a write to the device are, for a moment. */
bool file_open(struct disk *d, enum io_file file, int flags)
{
	int exclusive = file == FILE_COMMIT && commit_is_behind(d) ? 0 : O_EXCL; /* that one is the image, which we have */
	unsigned tries = BUSY_TRIES;

	do /* O_NONBLOCK: a FIFO is refused, not waited for. */
		d->fd[file] = fd_within(open(d->path[file], flags | exclusive | O_CLOEXEC | O_NONBLOCK), FD_IMAGES);
	while (d->fd[file] < 0 && errno == EBUSY && --tries && poll(NULL, 0, BUSY_WAIT_MS) == 0);
	if (d->fd[file] < 0 && errno == EBUSY && file == FILE_IMAGE) { /* to be looked at: it may be no cache any more */
		d->in_use = true;
		d->fd[file] = open(d->path[file], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (d->fd[file] >= 0)
		return true;
	if (errno == EBUSY)
		file_die_in_use(d, file);
	if (errno != ENOENT)
		bb_perror_msg_and_die("cannot open '%s'", d->path[file]);
	return false;
}

/* What is wrong with a file: one line, in d->wrong, valid until the next. A server that starts with
 * this file dies of it; a file that is added later is refused. */
static const char *perror_of(struct disk *d, const char *what, const char *path)
{
	snprintf(d->wrong, sizeof(d->wrong), "%s '%s': %s", what, path, strerror(errno));
	return d->wrong;
}

#ifndef SYS_fcntl64 /* where a long has 64 bits there is only one */
# define SYS_fcntl64 SYS_fcntl
#endif

static const char *kind_error(struct disk *d, enum io_file file, bool *regular)
{
	struct stat st;

	if (fstat(d->fd[file], &st) < 0)
		return perror_of(d, "cannot stat", d->path[file]);
	*regular = S_ISREG(st.st_mode);
	if (file == FILE_IMAGE)
		d->is_device = S_ISBLK(st.st_mode);
	if (*regular || S_ISBLK(st.st_mode))
		return NULL;
	snprintf(d->wrong, sizeof(d->wrong), "'%s' is neither a regular file nor a block device", d->path[file]);
	return d->wrong;
}

/* 0, or -1 and errno. how: LOCK_SH or LOCK_EX. Not flock(2) for block devices: udev takes that
 * for each of its events, and puts them off while another has it. */
static int lock(int fd, bool regular, int how)
{
	struct flock l = { .l_type = how == LOCK_SH ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };

	if (regular)
		return flock(fd, how | LOCK_NB);
	return syscall(SYS_fcntl64, fd, F_OFD_SETLK, &l) < 0 && errno != EINVAL ? -1 : 0; /* that: Linux before 3.15 */
}

/* A target may share its image with other targets, a proxy with nobody. */
static const char *lock_error(struct disk *d, enum io_file file, int how)
{
	bool regular;
	const char *error = kind_error(d, file, &regular);

	if (error || lock(d->fd[file], regular, how) == 0)
		return error;
	if (errno != EWOULDBLOCK)
		return perror_of(d, "cannot lock", d->path[file]);
	snprintf(d->wrong, sizeof(d->wrong), "'%s' is in use by another server: stop that one first", d->path[file]);
	return d->wrong;
}

static const char *size_error(struct disk *d, enum io_file file, uint64_t *bytes)
{
	off_t n = d->fd[file] < 0 ? 0 : lseek(d->fd[file], 0, SEEK_END);

	*bytes = (uint64_t)n;
	return n < 0 ? perror_of(d, "cannot measure", d->path[file]) : NULL;
}

static void die_of(const char *error)
{
	if (error)
		bb_simple_error_msg_and_die(error);
}

void file_lock(struct disk *d, enum io_file file, int how)
{
	die_of(lock_error(d, file, how));
}

uint64_t file_bytes(struct disk *d, enum io_file file)
{
	uint64_t bytes;

	die_of(size_error(d, file, &bytes));
	return bytes;
}

bool file_is_regular(struct disk *d, enum io_file file)
{
	bool regular;

	die_of(kind_error(d, file, &regular));
	return regular;
}

/* Warns if others may write to a device: a copy made meanwhile would not be of any one moment. A file
 * system that is mounted read-only writes nothing. */
static void warn_of_writers(const struct disk *d)
{
	int fd = open(d->path[FILE_IMAGE], O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	bool in_use = fd < 0 && errno == EBUSY;
	char *text, *line, *end;
	char key[32];
	struct stat st;

	close(fd);
	if (!in_use)
		return;
	fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	text = calloc(1, MOUNTS_BYTES + 1);
	if (text && fstat(d->fd[FILE_IMAGE], &st) == 0 && full_read(fd, text, MOUNTS_BYTES) > 0) {
		int n = snprintf(key, sizeof(key), " %u:%u ", major(st.st_rdev), minor(st.st_rdev));

		for (line = text; *line && strncmp(line, key, (size_t)n) != 0; line++)
			;
		end = strchrnul(line, '\n');
		*end = '\0';
		while (end > line && *end != ' ') /* the last field is of the file system, an earlier one of this mount */
			end--;
		in_use = strncmp(end, " ro", 3) != 0;
	}
	if (in_use)
		bb_error_msg(IN_USE ": no copy of it is good; unmount it, or mount it read-only", d->path[FILE_IMAGE]);
	close(fd);
	free(text);
}

const char *file_open_target(struct disk *d, const char *image, bool readonly)
{
	const char *error;

	d->path[FILE_IMAGE] = path_absolute(image);
	if (!d->path[FILE_IMAGE])
		return perror_of(d, "cannot open", image);
	/* O_NONBLOCK: a FIFO is refused, not waited for. */
	d->fd[FILE_IMAGE] = fd_within(open(image, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK), FD_IMAGES);
	if (d->fd[FILE_IMAGE] < 0)
		return perror_of(d, "cannot open", image);
	error = lock_error(d, FILE_IMAGE, LOCK_SH);
	if (!error)
		error = size_error(d, FILE_IMAGE, &d->header.size_bytes);
	/* Not refused: its clients may have written this. */
	if (!error && ENABLE_FEATURE_XNBD_SERVER_COVER && cover_mark(d))
		bb_error_msg("'%s' seems to be covered: then its first and last bytes are in a commit file until the switch of its proxy", image);
	if (!error && d->is_device)
		warn_of_writers(d);
	return error;
}
