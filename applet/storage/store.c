/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The files at a start: image, bitmap and commit file. */
#include "libbb.h"
#include "storage/cover.h"
#include "storage/files.h"
#include "storage/holes.h"
#include "storage/identity.h"
#include "storage/header.h"
#include "storage/own_paths.h"
#include "storage/paths.h"
#include "storage/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
	LOAD_BYTES = 64 << 10,
	BLANK_BYTES = 1 << 20, /* of a device: file systems, RAID, LVM have something in there */
};

/* A start that something may be done about: told with the file. */
NORETURN static void refuse(const struct disk *d, enum io_file file, const char *why, bool acceptable)
{
	if (d->commit_found == COMMIT_GOOD && d->header.switched)
		bb_error_msg_and_die("'%s': %s; it was switched, so '%s' is the only copy: serve that by --target%s", d->path[file], why,
				     d->path[FILE_IMAGE], acceptable ? "; --accept-image would take the files as they are" : "");
	bb_error_msg_and_die("'%s': %s%s; --clear-bitmap would forget all that is cached and start anew", d->path[file], why,
			     acceptable ? "; --accept-image would take the files as they are" : "");
}

/* ---- bits --------------------------------------------------------------------- */

/* Adds the bits of a file to words in memory. Holes, which are most of a large disk's bitmap, are
 * not read: that would take seconds. Words that are zero are not touched, so that they cost no
 * memory. */
static void load_bits(struct disk *d, uint64_t *to, enum io_file file, uint64_t offset, uint64_t n)
{
	uint64_t *part = xmalloc(LOAD_BYTES);
	bool known = fdatasync(d->fd[file]) == 0 && holes_known(d->fd[file]);
	uint64_t end = offset + n, first = offset;

	while ((offset = holes_data(d->fd[file], known, offset) & ~7ULL) < end) {
		size_t step = end - offset < LOAD_BYTES ? (size_t)(end - offset) : LOAD_BYTES;
		ssize_t got = pread(d->fd[file], part, step, (off_t)offset);
		uint64_t *words = to + (offset - first) / 8;
		size_t i;

		if (got < 0)
			bb_perror_msg_and_die("cannot read '%s'", d->path[file]);
		if (!got)
			break;
		for (i = 0; i < (size_t)got / 8; i++)
			if (part[i])
				words[i] |= part[i];
		if (got % 8)
			refuse(d, file, "truncated", false);
		offset += (uint64_t)got;
	}
	free(part);
}

/* Room for words: zero pages, which cost memory only once they are written. */
static uint64_t *alloc_words(uint64_t *old, uint64_t n)
{
	free(old);
	old = n >= SIZE_MAX - 8 ? NULL : calloc(1, (size_t)n + 8); /* a size_t may have 32 bits */
	if (!old)
		bb_error_msg_and_die("out of memory: the bitmap takes %llu bytes", (unsigned long long)n);
	return old;
}

void store_load(struct disk *d, enum state_start how, uint64_t size_bytes)
{
	d->words = alloc_words(d->words, map_bytes(size_bytes));
	if (how == START_ADOPT || how == START_BOTH)
		load_bits(d, d->words, FILE_BITMAP, 0, map_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(d, d->words, FILE_COMMIT, COMMIT_HEADER_BYTES, map_bytes(size_bytes));
}

bool store_load_written(struct disk *d, enum state_start how, uint64_t size_bytes)
{
	d->written = alloc_words(d->written, written_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(d, d->written, FILE_COMMIT, commit_written_offset(size_bytes), written_bytes(size_bytes));
	/* Other programs do not note what they write; nor do we without FEATURE_XNBD_SERVER_VERIFY. */
	if (how == START_ADOPT || (d->accept && how != START_NEW) || !ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		written_forget(d->written, size_bytes);
	return ENABLE_FEATURE_XNBD_SERVER_VERIFY && written_from_local(d->written, d->words, size_bytes);
}

static bool is_complete(const struct disk *d, uint64_t size_bytes)
{
	struct map m;
	bool complete;

	if (!map_init(&m, size_bytes, d->words, false))
		bb_simple_error_msg_and_die("out of memory"); /* not known: a start must not guess */
	complete = map_is_complete(&m);
	map_free(&m);
	return complete;
}

/* ---- deciding ------------------------------------------------------------------- */

/* Whether a block device that is to be the commit file is a new one. What is neither new nor ours, a file
 * system for example, is nothing that may be written over, whatever the options. */
static bool is_blank(struct disk *d)
{
	uint8_t *begin = xmalloc(BLANK_BYTES);
	ssize_t n = pread(d->fd[FILE_COMMIT], begin, BLANK_BYTES, 0);
	bool blank, ours;

	if (n < STATE_COPY_BYTES)
		bb_perror_msg_and_die("cannot read '%s'", d->path[FILE_COMMIT]);
	ours = state_is_commit(begin);
	memset(begin + SECTOR_BYTES, 0, STATE_HEADER_BYTES - SECTOR_BYTES); /* see header_announce() */
	blank = !begin[0] && memcmp(begin, begin + 1, (size_t)n - 1) == 0;
	free(begin);
	if (!blank && !ours)
		bb_error_msg_and_die("'%s' has something else on it; if nobody needs that: dd if=/dev/zero of='%s' bs=1M count=1",
				     d->path[FILE_COMMIT], d->path[FILE_COMMIT]);
	return blank;
}

static void read_header(struct disk *d)
{
	const char *why;

	d->commit_is_device = ENABLE_FEATURE_XNBD_SERVER_INIT && !file_is_regular(d, FILE_COMMIT);
	if (d->commit_is_device && is_blank(d))
		return;
	why = header_read(d->fd[FILE_COMMIT], &d->header);
	if (!why && file_bytes(d, FILE_COMMIT) < commit_file_bytes(d->header.size_bytes, d->header.cover))
		why = "cut short"; /* bits that are not there are not zero */
	d->covered = !why && d->header.cover;
	d->commit_found = !why ? COMMIT_GOOD : why == state_old_version ? COMMIT_OLD_VERSION : COMMIT_DAMAGED;
	d->commit_trouble = why;
}

enum state_start store_decide(struct disk *d, uint64_t size_bytes, const struct fingerprint *fp, bool clear)
{
	/* Its clients may write whatever they like, also what looks like a mark. */
	bool is_uncovered = d->commit_found == COMMIT_GOOD && !d->header.cover;
	struct state_found f = {
		.clear = clear,
		.adopt = d->adopt,
		.accept = d->accept,
		.size_bytes = size_bytes,
		.bitmap_bytes = file_bytes(d, FILE_BITMAP),
		.commit = d->commit_found,
		.commit_size_bytes = d->header.size_bytes,
		.same_boot = identity_same_boot(d),
		.clean = d->header.clean,
		.cover = d->header.cover,
		.mark = ENABLE_FEATURE_XNBD_SERVER_COVER && !is_uncovered ? cover_mark(d) : 0,
		.same_origin = !fp || (d->header.switched && !d->adopt) || fingerprint_match(fp, &d->header.fingerprint),
	};
	const char *why = NULL;
	enum state_start how;

	if (f.commit == COMMIT_ABSENT && f.bitmap_bytes && f.bitmap_bytes == map_bytes(size_bytes)) {
		store_load(d, START_ADOPT, size_bytes);
		f.bitmap_set = bits_next(d->words, 0, map_blocks(size_bytes), 0) < map_blocks(size_bytes);
	}
	identity_check(d, &f);
	how = state_decide(&f, &why);
	if (how == START_REFUSE)
		refuse(d, FILE_BITMAP, why, why == f.other || why == f.changed || why == state_no_bitmap);
	return how;
}

/* Two of the files are one: writing one would destroy the other. */
static void check_distinct(struct disk *d)
{
	struct stat st[3];
	int i, k;

	for (i = 0; i < 3; i++) {
		if (stat(d->path[i], &st[i]) < 0)
			st[i].st_ino = 0;
		for (k = 0; k < i; k++)
			if (strcmp(d->path[i], d->path[k]) == 0 ||
			    (st[i].st_ino && is_same_file(&st[i], &st[k])))
				bb_error_msg_and_die("'%s' and '%s' are the same file", d->path[k], d->path[i]);
	}
}

/* What exists of them. flags: of open(2); how: of lock(). */
static void open_files(struct disk *d, const char *image, const char *bitmap, const char *commit, int flags, int how)
{
	d->path[FILE_IMAGE] = xpath_absolute(image);
	d->path[FILE_BITMAP] = xpath_absolute(bitmap);
	d->path[FILE_COMMIT] = commit ? xpath_absolute(commit) : xasprintf("%s.commit", d->path[FILE_BITMAP]);
	check_distinct(d);
	if (file_open(d, FILE_IMAGE, flags) && !d->in_use)
		file_lock(d, FILE_IMAGE, how);
	if (file_open(d, FILE_BITMAP, flags))
		file_lock(d, FILE_BITMAP, how);
	if (file_open(d, FILE_COMMIT, flags))
		read_header(d);
	if (d->in_use && (d->commit_found != COMMIT_GOOD || !d->header.switched))
		file_die_in_use(d, FILE_IMAGE);
}

void store_peek(struct disk *d, const char *image, const char *bitmap, const char *commit)
{
	open_files(d, image, bitmap, commit, O_RDONLY, LOCK_SH);
	if (d->fd[FILE_COMMIT] >= 0)
		file_is_regular(d, FILE_COMMIT); /* others cannot be opened for writing, or hold nothing */
}

/* What is local, and what clients have written. */
static void load(struct disk *d, enum state_start how, uint64_t size_bytes)
{
	store_load(d, how, size_bytes);
	store_load_written(d, how, size_bytes);
}

/* An image that is too short for the bits that speak of it has lost blocks. */
static void check_image(struct disk *d, uint64_t size_bytes, uint64_t have_bytes)
{
	struct map m;
	uint64_t first;

	if (have_bytes >= size_bytes)
		return;
	if (!map_init(&m, size_bytes, d->words, false))
		bb_simple_error_msg_and_die("out of memory");
	first = map_next_local(&m, have_bytes / BLOCK_BYTES, m.blocks);
	map_free(&m);
	if (first < m.blocks)
		refuse(d, FILE_IMAGE, "shorter than its bitmap says: it is not the image of this bitmap", false);
}

void store_check_content(struct disk *d, enum state_start how)
{
	const char *why = NULL;

	if ((how == START_BOTH || how == START_COMMIT) && !d->accept)
		why = identity_content(d, how == START_BOTH);
	if (why)
		refuse(d, FILE_IMAGE, why, true);
}

void store_check_room(struct disk *d, uint64_t size_bytes, uint64_t have_bytes)
{
	if (d->fd[FILE_IMAGE] >= 0 && !file_is_regular(d, FILE_IMAGE) && have_bytes < size_bytes)
		bb_error_msg_and_die("'%s' is too small: it has %llu bytes, the disk %llu", d->path[FILE_IMAGE],
				     (unsigned long long)have_bytes, (unsigned long long)size_bytes);
	check_image(d, size_bytes, have_bytes);
}

bool store_was_switched(const struct disk *d, enum state_start how, uint64_t size_bytes)
{
	if (!d->header.switched || how == START_NEW)
		return false;
	if (is_complete(d, size_bytes))
		return true;
	if (how != START_ADOPT) /* else xNBD has used it as a cache since */
		bb_error_msg_and_die("'%s' says that its proxy was switched, but not that all blocks are local: it is damaged; if '%s' is whole, serve that as a target",
				     d->path[FILE_COMMIT], d->path[FILE_IMAGE]);
	return false;
}

void store_die_in_use(const struct disk *d)
{
	bb_error_msg_and_die("'%s' is in use, as it may be: it was switched, and is no cache any more", d->path[FILE_IMAGE]);
}

bool store_inspect(struct disk *d, const char *image, const char *bitmap, const char *commit, bool clear)
{
	enum state_start how;

	open_files(d, image, bitmap, commit, O_RDWR, LOCK_EX);
	if (clear && d->in_use)
		file_die_in_use(d, FILE_IMAGE);
	if (clear || d->commit_found != COMMIT_GOOD || d->fd[FILE_IMAGE] < 0)
		return false;
	how = store_decide(d, d->header.size_bytes, NULL, false);
	load(d, how, d->header.size_bytes);
	store_check_room(d, d->header.size_bytes, file_bytes(d, FILE_IMAGE));
	store_check_content(d, how); /* before an origin that was compared with it is blamed */
	d->switched = store_was_switched(d, how, d->header.size_bytes);
	return is_complete(d, d->header.size_bytes);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void store_resume(struct disk *d)
{
	uint64_t size_bytes = d->header.size_bytes;

	fcntl(d->fd[FILE_COMMIT], F_SETFL, 0); /* a device: read by the page cache; see resident.c */
	read_header(d);
	if (d->commit_found != COMMIT_GOOD || d->header.size_bytes != size_bytes)
		bb_error_msg_and_die("'%s' is not what was handed over", d->path[FILE_COMMIT]);
	/* Writing back may have failed, and only who syncs first is told. */
	d->save.error = fdatasync(d->fd[FILE_COMMIT]) < 0 ? errno : 0;
	load(d, START_BOTH, size_bytes);
}
#endif

/* ---- creating --------------------------------------------------------------------- */

/* A file's name survives a power cut only with this (fsync(2)). */
static void sync_directory(const char *path)
{
	char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	int fd;

	slash[slash == dir] = '\0';
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) /* that: the file system has no such thing */
		bb_perror_msg_and_die("cannot sync '%s'", dir);
	close(fd);
	free(dir);
}

/* A file that was not there: it goes again if the start fails. */
static void create_file(struct disk *d, enum io_file file)
{
	d->fd[file] = open(d->path[file], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (d->fd[file] < 0 && errno == EEXIST) /* not when we looked: it is somebody else's */
		bb_error_msg_and_die("'%s' has just been created by another: is a second server starting?", d->path[file]);
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

	for (i = 0; i < n; i += LOAD_BYTES) {
		size_t step = n - i < LOAD_BYTES ? (size_t)(n - i) : LOAD_BYTES;

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

static void sync_commit(struct disk *d)
{
	if (fdatasync(d->fd[FILE_COMMIT]) < 0)
		bb_perror_msg_and_die("cannot write '%s'", d->path[FILE_COMMIT]);
}

static void check_commit_device(struct disk *d, uint64_t size_bytes, bool covered)
{
	uint64_t have = file_bytes(d, FILE_COMMIT), needed = commit_file_bytes(size_bytes, covered);

	if (have < needed)
		bb_error_msg_and_die("'%s' is too small: it has %llu bytes, and %llu are needed", d->path[FILE_COMMIT],
				     (unsigned long long)have, (unsigned long long)needed);
}

/* No bit of a disk of so many bytes is set in a commit file that is a device. */
static void zero_plane(struct disk *d, uint64_t size_bytes)
{
	uint64_t *none = alloc_words(NULL, map_bytes(size_bytes));

	write_bits(d, FILE_COMMIT, COMMIT_HEADER_BYTES, none, map_bytes(size_bytes));
	free(none);
	sync_commit(d);
}

/* The same in place, on a device, without bits: until the new header is there, an old one speaks of bits that
 * are not set any more. had_bytes: of the disk of the old one, 0 = there was none. */
static void prepare_commit_device(struct disk *d, uint64_t size_bytes, uint64_t had_bytes)
{
	if (had_bytes && had_bytes != size_bytes)
		zero_plane(d, had_bytes);
	zero_plane(d, size_bytes);
	write_written(d, size_bytes);
	sync_commit(d);
}

/* Creates a new commit file under a temporary name, with its space allocated: everything but the
 * header. with_bits: with the bits in memory, whose blocks must be on the disk; else without any.
 * Returns the name, which the caller frees. */
static char *prepare_commit(struct disk *d, uint64_t size_bytes, bool with_bits, bool covered)
{
	char *name = xasprintf("%s.new", d->path[FILE_COMMIT]);

	if (d->fd[FILE_COMMIT] >= 0)
		close(d->fd[FILE_COMMIT]);
	d->fd[FILE_COMMIT] = open(name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d->fd[FILE_COMMIT] < 0)
		bb_perror_msg_and_die("cannot create '%s'", name);
	path_own(d, name, true);
	allocate(d, FILE_COMMIT, commit_file_bytes(size_bytes, covered));
	if (with_bits)
		write_bits(d, FILE_COMMIT, COMMIT_HEADER_BYTES, d->words, map_bytes(size_bytes));
	write_written(d, size_bytes);
	return name;
}

static void place_commit(struct disk *d, char *name)
{
	if (rename(name, d->path[FILE_COMMIT]) < 0)
		bb_perror_msg_and_die("cannot rename '%s'", name);
	if (d->commit_found == COMMIT_ABSENT)
		path_own(d, d->path[FILE_COMMIT], true);
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
	if (!ENABLE_FEATURE_XNBD_SERVER_COVER)
		return false;
	return (how != START_NEW && d->header.cover) || (d->wants_cover && !is_complete(d, size_bytes));
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

static void cover_end(struct disk *d)
{
	d->cover_fd = open(d->path[FILE_COMMIT], O_RDWR | O_CLOEXEC);
	if (d->cover_fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", d->path[FILE_COMMIT]);
	if (!cover_reserve(d))
		bb_simple_error_msg_and_die("out of memory");
	paths_disown(d, false); /* soon these files alone have the bytes: a start that fails leaves them to the next one */
	errno = cover_hide(d);
	if (errno)
		bb_perror_msg_and_die("cannot cover '%s'", d->path[FILE_IMAGE]);
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

	errno = in_place ? header_announce(fd, &d->header) : 0;
	if (!errno)
		errno = header_write(fd, &d->header);
	if (!errno && both) {
		d->header.counter++;
		errno = header_write(fd, &d->header);
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
	char *new_commit = NULL;
	bool covered, was_covered = d->header.cover;

	if (!d->written) /* else store_inspect() has read all; nobody else writes these files */
		load(d, how, size_bytes);
	store_check_room(d, size_bytes, image_bytes);
	covered = is_to_be_covered(d, how, size_bytes);
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
		allocate(d, FILE_BITMAP, map_bytes(size_bytes));
		write_bits(d, FILE_BITMAP, 0, d->words, map_bytes(size_bytes));
	}
	/* Only now may the header say that the bitmap belongs to this boot. */
	if (!fresh)
		write_written(d, size_bytes);
	/* A header on a device may be there after a power cut, and the file that it names not. In any case: the
	 * server that created it, or the commit file below, may have died before it came here. */
	sync_directory(d->path[FILE_IMAGE]);
	if (ENABLE_FEATURE_XNBD_SERVER_COVER && how == START_NEW) {
		errno = cover_unmark(d);
		if (errno)
			bb_perror_msg_and_die("cannot write '%s'", d->path[FILE_IMAGE]);
	}
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
	if (covered) /* the header is there, whatever happens */
		cover_end(d);
	*all_dirty = how == START_BOTH || how == START_COMMIT; /* they may have been written, but not synced */
}
