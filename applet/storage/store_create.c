/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The files at a start: creates and repairs them, and writes the new header. */
#include "libbb.h"
#include "storage/cover.h"
#include "storage/files.h"
#include "storage/header.h"
#include "storage/identity.h"
#include "storage/own_paths.h"
#include "storage/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum {
	PART_BYTES = 64 << 10, /* of bits: so many are written at a time */
	X_RENAME_NOREPLACE = 1, /* linux/fs.h */
};

/* The caller frees it. */
static char *directory_of(const char *path)
{
	char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');

	slash[slash == dir] = '\0';
	return dir;
}

/* A file's name survives a power cut only with this (fsync(2)). */
static void sync_directory(const char *path)
{
	char *dir = directory_of(path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* that: the file system has no such thing */
		bb_perror_msg_and_die("cannot sync '%s'", dir);
	close(fd);
	free(dir);
}

/* What is missing in /dev is a device that has not come yet, or a name that is mistyped: a file in its place would be in memory,
 * and gone with it. /dev/shm is another file system. */
static void check_place(const char *path)
{
	char *dir = directory_of(path);
	struct stat there, dev;

	if (strncmp(path, "/dev/", 5) == 0 && stat(dir, &there) == 0 && stat("/dev", &dev) == 0 && there.st_dev == dev.st_dev)
		bb_error_msg_and_die("there is no device '%s'", path);
	free(dir);
}

/* A file that was not there when we looked is somebody else's. */
NORETURN static void die_too_late(const struct disk *d, enum io_file file)
{
	bb_error_msg_and_die("'%s' has just been created by another: is a second server starting?", d->path[file]);
}

/* A file that was not there: it goes again if the start fails. */
static void create_file(struct disk *d, enum io_file file)
{
	check_place(d->path[file]);
	d->fd[file] = open(d->path[file], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d->fd[file] < 0 && errno == EEXIST)
		die_too_late(d, file);
	if (d->fd[file] < 0)
		bb_perror_msg_and_die("cannot create '%s'", d->path[file]);
	file_lock(d, file, LOCK_EX); /* else another was quicker, and it is his */
	path_own(d, d->path[file], true);
}

/* Gives the file its space now: a full file system shows at the start, not later
 * in the middle of a write. */
static void reserve(struct disk *d, enum io_file file, uint64_t n, int mode)
{
	if (n && fallocate(d->fd[file], mode, 0, (off_t)n) < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		bb_perror_msg_and_die("no room for '%s' (%llu bytes)", d->path[file], (unsigned long long)n);
}

static void allocate(struct disk *d, enum io_file file, uint64_t n)
{
	if (ftruncate(d->fd[file], (off_t)n) < 0)
		bb_perror_msg_and_die("no room for '%s' (%llu bytes)", d->path[file], (unsigned long long)n);
	reserve(d, file, n, 0);
}

/* The bits in memory, n bytes, into this file. */
static void write_bits(struct disk *d, enum io_file file, uint64_t offset, const uint64_t *words, uint64_t n)
{
	uint64_t i;

	offset += file == FILE_COMMIT ? d->commit_base : 0;
	for (i = 0; i < n; i += PART_BYTES) {
		size_t step = n - i < PART_BYTES ? (size_t)(n - i) : PART_BYTES;

		if (pwrite(d->fd[file], (const uint8_t *)words + i, step, (off_t)(offset + i)) != (ssize_t)step)
			bb_perror_msg_and_die("cannot write '%s'", d->path[file]);
	}
}

/* Writes the whole record of client writes, even what is in the file already: after a failed sync, that
 * may not be on the disk, and never would be. It is synced with the header. */
static void write_written(struct disk *d, uint64_t size_bytes)
{
	write_bits(d, FILE_COMMIT, commit_written_offset(size_bytes), d->written, written_bytes(size_bytes));
}

static void check_commit_device(struct disk *d, uint64_t size_bytes, bool covered)
{
	uint64_t have = file_bytes(d, FILE_COMMIT), needed = d->commit_base + commit_file_bytes(size_bytes, covered);

	if (have < needed)
		bb_error_msg_and_die("'%s' is too small: it has %llu bytes, and %llu are needed", d->path[FILE_COMMIT],
				     (unsigned long long)have, (unsigned long long)needed);
}

/* No bit of a disk of so many bytes is set in a commit file that is a device. */
static void zero_plane(struct disk *d, uint64_t size_bytes)
{
	uint64_t *none = store_alloc_words(NULL, map_bytes(size_bytes));

	write_bits(d, FILE_COMMIT, COMMIT_HEADER_BYTES, none, map_bytes(size_bytes));
	free(none);
}

/* The same in place, on a device, without bits: until the new header is there, an old one speaks of bits that
 * are not set any more. It is synced with what announces that one. had_bytes: of the disk of the old one, 0 = there was none. */
static void prepare_commit_device(struct disk *d, uint64_t size_bytes, uint64_t had_bytes)
{
	if (had_bytes && had_bytes != size_bytes)
		zero_plane(d, had_bytes);
	zero_plane(d, size_bytes);
	write_written(d, size_bytes);
}

/* Creates a new commit file under a temporary name, with its space allocated: everything but the
 * header. with_bits: with the bits in memory, whose blocks must be on the disk; else without any.
 * Returns the name, which the caller frees. Both it and the one that it replaces are locked until it has its place; the
 * old one's descriptor is d->header_fd until then. */
static char *prepare_commit(struct disk *d, uint64_t size_bytes, bool with_bits, bool covered)
{
	char *name = xasprintf("%s.new", d->path[FILE_COMMIT]);

	d->header_fd = d->fd[FILE_COMMIT];
	check_place(name);
	d->fd[FILE_COMMIT] = open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d->fd[FILE_COMMIT] < 0)
		bb_perror_msg_and_die("cannot create '%s'", name);
	file_lock(d, FILE_COMMIT, LOCK_EX); /* else it is that of another start */
	path_own(d, name, true);
	if (ftruncate(d->fd[FILE_COMMIT], 0) < 0)
		bb_perror_msg_and_die("cannot empty '%s'", name);
	allocate(d, FILE_COMMIT, commit_file_bytes(size_bytes, covered));
	if (with_bits)
		write_bits(d, FILE_COMMIT, COMMIT_HEADER_BYTES, d->words, map_bytes(size_bytes));
	write_written(d, size_bytes);
	return name;
}

static void place_commit(struct disk *d, char *name)
{
	bool is_first = d->commit_found == COMMIT_ABSENT; /* and so nothing is locked that another start could have found */
	long placed = is_first ? syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, d->path[FILE_COMMIT], X_RENAME_NOREPLACE) : -1;

	if (is_first && placed < 0 && errno == EEXIST)
		die_too_late(d, FILE_COMMIT);
	if (placed < 0 && rename(name, d->path[FILE_COMMIT]) < 0) /* not all file systems know the other one */
		bb_perror_msg_and_die("cannot rename '%s'", name);
	if (is_first)
		path_own(d, d->path[FILE_COMMIT], true);
	if (d->header_fd >= 0)
		close(d->header_fd);
	free(name);
}

static void create_bitmap(struct disk *d, uint64_t size_bytes)
{
	if (d->fd[FILE_BITMAP] < 0) {
		create_file(d, FILE_BITMAP);
	} else if (file_is_regular(d, FILE_BITMAP)) {
		/* What it says is lost only when there is room for what takes its place. */
		reserve(d, FILE_BITMAP, map_bytes(size_bytes), FALLOC_FL_KEEP_SIZE);
		if (ftruncate(d->fd[FILE_BITMAP], 0) < 0)
			bb_perror_msg_and_die("cannot empty '%s'", d->path[FILE_BITMAP]);
	}
	allocate(d, FILE_BITMAP, map_bytes(size_bytes));
}

static void grow_image(struct disk *d, uint64_t size_bytes, uint64_t have_bytes)
{
	if (have_bytes < size_bytes && ftruncate(d->fd[FILE_IMAGE], (off_t)size_bytes) < 0)
		bb_perror_msg_and_die("cannot grow '%s' to %llu bytes", d->path[FILE_IMAGE],
				      (unsigned long long)size_bytes);
}

/* --cover is for what is not complete: nobody wants a disk hidden again that has been switched. */
static bool is_to_be_covered(const struct disk *d, enum state_start how, uint64_t size_bytes)
{
	bool wants = d->wants_cover || (commit_is_behind(d) && !d->switched);

	if (!ENABLE_FEATURE_XNBD_SERVER_COVER)
		return false;
	return (how != START_NEW && d->header.cover) || (wants && !store_is_complete(d, size_bytes));
}

/* Room for the cover of an image that has none yet, and, unless nothing is local, what it covers. */
static void cover_begin(struct disk *d, enum state_start how, uint64_t size_bytes, uint64_t image_bytes)
{
	if (how == START_NEW)
		return;
	if (d->commit_is_device)
		check_commit_device(d, size_bytes, true);
	else if (how != START_ADOPT)
		allocate(d, FILE_COMMIT, commit_file_bytes(size_bytes, true));
	errno = cover_copy(d, size_bytes, image_bytes);
	if (errno)
		bb_perror_msg_and_die("cannot cover '%s'", d->path[FILE_IMAGE]);
}

static void cover_end(struct disk *d, bool known)
{
	int error;

	d->cover_fd = open(d->path[FILE_COMMIT], O_RDWR | O_CLOEXEC);
	if (d->cover_fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", d->path[FILE_COMMIT]);
	if (!cover_reserve(d))
		bb_simple_error_msg_and_die("out of memory");
	paths_disown(d, false); /* soon these files alone have the bytes: a start that fails leaves them to the next one */
	error = cover_hide(d, known);
	if (d->switching.sync_failed && header_tell(d, false))
		header_untold(d);
	errno = error;
	if (errno)
		bb_perror_msg_and_die("cannot cover '%s'", d->path[FILE_IMAGE]);
}

/* The same of an image that the header of before calls covered. Only what comes behind says that its bits are of this boot: a sync
 * that fails here is told to nobody again. */
static void cover_go_on(struct disk *d, enum state_start how, uint64_t size_bytes, uint64_t image_bytes)
{
	errno = cover_rewrite(d);
	if (!errno)
		errno = header_tell(d, how == START_BOTH);
	if (errno)
		bb_perror_msg_and_die("cannot write '%s'", d->path[FILE_COMMIT]);
	grow_image(d, size_bytes, image_bytes);
	cover_end(d, how == START_BOTH);
}

/* What the header says from now on. */
static void set_header(struct disk *d, enum state_start how, uint64_t size_bytes, const struct fingerprint *fp)
{
	struct state_header *h = &d->header;
	uint64_t counter = h->counter;

	if (how == START_NEW)
		memset(h, 0, sizeof(*h));
	memset(h->recent, 0, sizeof(h->recent)); /* what is not committed may have been lost */
	h->counter = counter + 1;
	h->size_bytes = size_bytes;
	h->switched = h->switched && d->switched; /* a start does not record what only a database says: its bits may not be committed */
	if (fp)
		fingerprint_add(&h->fingerprint, fp);
	identity_set(d);
	if (d->covered && !h->cover) /* a number that no other disk has */
		h->cover = fingerprint_sample((uint8_t *)h, sizeof(*h));
}

/* path: what the commit file is named now. both: no copy is left of what the header said before. */
static void write_header(struct disk *d, const char *path, bool in_place, bool both)
{
	int fd = d->fd[FILE_COMMIT];

	errno = in_place ? header_announce(fd, d->commit_base, &d->header) : 0;
	if (!errno)
		errno = header_write(fd, d->commit_base, &d->header);
	if (!errno && both) {
		d->header.counter++;
		errno = header_write(fd, d->commit_base, &d->header);
	}
	if (errno)
		bb_perror_msg_and_die("cannot write '%s'", path);
}

void store_open(struct disk *d, uint64_t size_bytes, const struct fingerprint *fp, bool clear, bool *all_dirty)
{
	enum state_start how = store_decide(d, size_bytes, fp, clear);
	uint64_t image_bytes = file_bytes(d, FILE_IMAGE);
	bool fresh = how == START_NEW || how == START_ADOPT;
	bool in_place = fresh && d->commit_is_device;
	/* The space behind the disk's end is not ours any more. */
	bool is_left = commit_is_behind(d) && d->switched && how != START_NEW;
	char *new_commit = NULL;
	bool covered, was_covered = d->header.cover, covered_before;

	if (!d->written) /* else store_inspect() has read all; nobody else writes these files */
		store_load_all(d, how, size_bytes);
	store_check_room(d, size_bytes, image_bytes);
	covered = is_to_be_covered(d, how, size_bytes);
	covered_before = covered && was_covered && !fresh;
	if (d->fd[FILE_IMAGE] < 0)
		create_file(d, FILE_IMAGE);
	/* From now on only what is committed survives a power cut: so what xNBD has left, clients' writes
	 * among it, must be on the disk first. */
	if (how == START_ADOPT && fdatasync(d->fd[FILE_IMAGE]) < 0)
		bb_perror_msg_and_die("cannot sync '%s'", d->path[FILE_IMAGE]);
	/* Whatever may fail for lack of room comes before anything is forgotten. */
	if (how == START_ADOPT && d->commit_is_device) /* what xNBD has left may exist nowhere else: nothing half written */
		bb_error_msg_and_die("'%s' is a device: --adopt-bitmap needs a commit file that is a file", d->path[FILE_COMMIT]);
	if (in_place)
		check_commit_device(d, size_bytes, covered);
	else if (fresh)
		new_commit = prepare_commit(d, size_bytes, how == START_ADOPT, covered);
	if (covered && !d->header.cover)
		cover_begin(d, how, size_bytes, image_bytes);
	if (how == START_NEW || d->fd[FILE_BITMAP] < 0)
		create_bitmap(d, size_bytes);
	if (in_place)
		prepare_commit_device(d, size_bytes, d->commit_found == COMMIT_GOOD ? d->header.size_bytes : 0);
	if (how == START_COMMIT) {
		/* Another start may read what this one could not: it must not trust the fewer bits that are written here. */
		errno = is_left ? 0 : header_tell(d, false);
		if (errno)
			bb_perror_msg_and_die("cannot write '%s'", d->path[FILE_COMMIT]);
		allocate(d, FILE_BITMAP, map_bytes(size_bytes));
		write_bits(d, FILE_BITMAP, 0, d->words, map_bytes(size_bytes));
	}
	*all_dirty = false;
	if (is_left)
		return; /* nor is there anything to be written */
	/* Only now may the header say that the bitmap belongs to this boot. */
	if (!fresh)
		write_written(d, size_bytes);
	if (ENABLE_FEATURE_XNBD_SERVER_COVER && covered_before)
		cover_go_on(d, how, size_bytes, image_bytes);
	/* A header on a device may be there after a power cut, and the file that it names not. In any case: the
	 * server that created it, or the commit file below, may have died before it came here. */
	sync_directory(d->path[FILE_IMAGE]);
	if (ENABLE_FEATURE_XNBD_SERVER_COVER && how == START_NEW) {
		errno = cover_unmark(d);
		if (errno)
			bb_perror_msg_and_die("cannot write '%s'", d->path[FILE_IMAGE]);
	}
	if (clear && d->commit_found == COMMIT_GOOD)
		bb_error_msg("'%s': the cache was discarded, %s", d->path[FILE_IMAGE],
			     d->header.switched ? "and it was switched: this was the only copy" : "client writes too");
	d->covered = covered;
	set_header(d, how, size_bytes, fp);
	write_header(d, new_commit ? new_commit : d->path[FILE_COMMIT], in_place, covered && !was_covered && !new_commit);
	if (new_commit)
		place_commit(d, new_commit);
	if (how == START_ADOPT)
		bb_error_msg("'%s' has no commit file: its bits were never safe against power loss", d->path[FILE_BITMAP]);
	d->header_fd = open(d->path[FILE_COMMIT], O_WRONLY | O_CLOEXEC);
	if (d->header_fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", d->path[FILE_COMMIT]);
	grow_image(d, size_bytes, image_bytes);
	sync_directory(d->path[FILE_COMMIT]);
	if (covered && !covered_before) /* the header is there, whatever happens */
		cover_end(d, true);
	*all_dirty = how == START_BOTH || how == START_COMMIT; /* they may have been written, but not synced */
}
