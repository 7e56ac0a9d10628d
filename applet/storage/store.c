/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The files at a start: inspects image, bitmap and commit file. */
//config:config FEATURE_XNBD_SERVER_BEHIND
//config:	bool "--commit-file on the cache's own device (500 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_COVER && FEATURE_XNBD_SERVER_INIT
//config:	help
//config:	The commit file may lie behind the end of the disk, on a device that is
//config:	larger: a move then needs no second one.
#include "libbb.h"
#include "storage/cover.h"
#include "storage/files.h"
#include "storage/holes.h"
#include "storage/identity.h"
#include "storage/header.h"
#include "storage/paths.h"
#include "storage/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	LOAD_BYTES = 64 << 10,
	INSPECT_BYTES = 1 << 30, /* of an image that may be new; a second or two */
	BLANK_BYTES = 1 << 20, /* of a device: file systems, RAID, LVM have something in there */
};

/* A start that something may be done about: told with the file. */
NORETURN static void refuse(const struct disk *d, enum io_file file, const char *why, bool acceptable)
{
	if (d->commit_found == COMMIT_GOOD && d->header.switched)
		bb_error_msg_and_die("'%s': %s; it was switched, so '%s' is the only copy: serve that by --target%s", d->path[file], why,
				     d->path[FILE_IMAGE], acceptable ? "; --accept-image would take the files as they are" : "");
	bb_error_msg_and_die("'%s': %s%s; --clear-bitmap would discard the cache, including client writes, and start over", d->path[file], why,
			     acceptable ? "; --accept-image would take the files as they are" : "");
}

/* ---- bits --------------------------------------------------------------------- */

/* Adds the bits of a file to words in memory. Holes, which are most of a large disk's bitmap, are
 * not read: that would take seconds. Words that are zero are not touched, so that they cost no
 * memory. */
static void load_bits(struct disk *d, uint64_t *to, enum io_file file, uint64_t offset, uint64_t n)
{
	uint64_t *part = xmalloc(LOAD_BYTES);
	bool known = (d->resumed || fdatasync(d->fd[file]) == 0) && holes_known(d->fd[file]);
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

uint64_t *store_alloc_words(uint64_t *old, uint64_t n)
{
	free(old);
	old = n >= SIZE_MAX - 8 ? NULL : calloc(1, (size_t)n + 8); /* a size_t may have 32 bits */
	if (!old)
		bb_error_msg_and_die("out of memory: the bitmap takes %llu bytes", (unsigned long long)n);
	return old;
}

void store_load(struct disk *d, enum state_start how, uint64_t size_bytes)
{
	d->words = store_alloc_words(d->words, map_bytes(size_bytes));
	if (how == START_ADOPT || how == START_BOTH)
		load_bits(d, d->words, FILE_BITMAP, 0, map_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(d, d->words, FILE_COMMIT, d->commit_base + COMMIT_HEADER_BYTES, map_bytes(size_bytes));
}

bool store_load_written(struct disk *d, enum state_start how, uint64_t size_bytes)
{
	d->written = store_alloc_words(d->written, written_bytes(size_bytes));
	if (how == START_COMMIT || how == START_BOTH)
		load_bits(d, d->written, FILE_COMMIT, d->commit_base + commit_written_offset(size_bytes), written_bytes(size_bytes));
	/* Other programs do not note what they write; nor do targets, nor do we without FEATURE_XNBD_SERVER_VERIFY. */
	if (how == START_ADOPT || d->header.switched || (d->accept && how != START_NEW) || !ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		written_forget(d->written, size_bytes);
	return ENABLE_FEATURE_XNBD_SERVER_VERIFY && written_from_local(d->written, d->words, size_bytes);
}

bool store_is_complete(const struct disk *d, uint64_t size_bytes)
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

/* Whether what is to be the commit file is a new block device, or a file that was one, in its first bytes. What is neither new nor
 * ours, a file system for example, is nothing that may be written over, whatever the options. On the cache's device all is
 * overwritten that is not ours. */
static bool is_blank(struct disk *d)
{
	uint8_t *begin = xmalloc(BLANK_BYTES);
	size_t n = d->commit_is_device ? BLANK_BYTES : COMMIT_HEADER_BYTES;
	bool blank, ours;

	memset(begin, 0, n);
	if (pread(d->fd[FILE_COMMIT], begin, n, (off_t)d->commit_base) < 0)
		bb_perror_msg_and_die("cannot read '%s'", d->path[FILE_COMMIT]);
	ours = state_is_commit(begin) || state_is_commit(begin + STATE_COPY_BYTES);
	memset(begin + SECTOR_BYTES, 0, STATE_HEADER_BYTES - SECTOR_BYTES); /* see header_announce() */
	blank = commit_is_behind(d) ? !ours : !begin[0] && memcmp(begin, begin + 1, n - 1) == 0;
	free(begin);
	if (!blank && !ours && !d->commit_is_device)
		bb_error_msg_and_die("'%s' is not a commit file: is the name right?", d->path[FILE_COMMIT]);
	if (!blank && !ours)
		bb_error_msg_and_die("'%s' has other data on it; if it is not needed: dd if=/dev/zero of='%s' bs=1M count=1",
				     d->path[FILE_COMMIT], d->path[FILE_COMMIT]);
	return blank;
}

static void read_header(struct disk *d)
{
	const char *why;

	d->commit_is_device = ENABLE_FEATURE_XNBD_SERVER_INIT && !file_is_regular(d, FILE_COMMIT);
	why = header_read(d->fd[FILE_COMMIT], d->commit_base, &d->header); /* one good copy is enough, also beside a sector that cannot be read */
	if (why && is_blank(d) && d->commit_is_device)
		return;
	if (!why && file_bytes(d, FILE_COMMIT) < d->commit_base + commit_file_bytes(d->header.size_bytes, d->header.cover))
		why = "cut short"; /* bits that are not there are not zero */
	d->covered = !why && d->header.cover;
	d->commit_found = !why ? COMMIT_GOOD : why == state_old_version ? COMMIT_OLD_VERSION : COMMIT_DAMAGED;
	d->commit_trouble = why;
}

/* A new cache does not begin on what may be somebody's only copy: the bitmap's name, or the image's, may be mistyped.
 * The bytes count, since unwritten space that was read is not a hole for ext4. What has nothing in its first GiB of
 * them is long: hardly a disk, which has its table or its file system there.
 * Devices are not looked at: hardly one is zeroes. But where the commit file is behind the disk's end, it may be gone because the
 * disk was switched, and its owner has taken that space: then there is something at the beginning. */
static bool image_has_data(struct disk *d, bool when_long)
{
	int fd = d->fd[FILE_IMAGE];
	bool known, found = false;
	uint64_t at = 0, end, looked, most = commit_is_behind(d) ? BLANK_BYTES : INSPECT_BYTES;
	uint8_t *part;

	if (fd < 0 || (!file_is_regular(d, FILE_IMAGE) && !commit_is_behind(d)))
		return false;
	/* Of an image that is taken as it is, the first commit has to hear of a sync that fails, which the kernel tells once. */
	known = !when_long && fdatasync(fd) == 0 && holes_known(fd);
	end = file_bytes(d, FILE_IMAGE);
	part = xmalloc(LOAD_BYTES);
	for (looked = 0; !found && looked < most && (at = holes_data(fd, known, at)) < end; looked += LOAD_BYTES) {
		ssize_t n = pread(fd, part, LOAD_BYTES, (off_t)at);

		if (n < 0 && !when_long) /* --accept-image takes it as it is */
			bb_perror_msg_and_die("cannot read '%s'", d->path[FILE_IMAGE]);
		found = n <= 0 || part[0] || memcmp(part, part + 1, (size_t)n - 1) != 0;
		at += (uint64_t)n;
	}
	free(part);
	return found || (when_long && looked >= INSPECT_BYTES);
}

void store_check_new(struct disk *d)
{
	if (image_has_data(d, false))
		bb_error_msg_and_die("'%s' has data of which '%s' knows nothing: are both names right? --clear-bitmap would overwrite it",
				     d->path[FILE_IMAGE], d->path[FILE_BITMAP]);
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
		.clean = d->header.clean || d->header.switched,
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
	if (how == START_NEW && !clear && (d->fd[FILE_BITMAP] < 0 || commit_is_behind(d)))
		store_check_new(d);
	/* No advice to forget what is here: the address may be mistyped. */
	if (how == START_REFUSE && fp && why == state_other_size)
		bb_error_msg_and_die("the origin's disk has %llu bytes, the one of this cache %llu: is it the right origin?",
				     (unsigned long long)size_bytes, (unsigned long long)d->header.size_bytes);
	if (how == START_REFUSE && why == state_other_origin)
		bb_error_msg_and_die("'%s': %s: is it the right one?", d->path[FILE_BITMAP], why);
	if (how == START_REFUSE)
		refuse(d, FILE_BITMAP, why, why == f.other || why == f.changed || why == state_no_bitmap);
	return how;
}

/* Two of the files are one: writing one would destroy the other. True: image and commit file are, and a device, which may have space
 * for both. */
static bool check_distinct(struct disk *d)
{
	struct stat st[3];
	bool behind = false;
	int i, k;

	for (i = 0; i < 3; i++) {
		if (stat(d->path[i], &st[i]) < 0)
			st[i].st_ino = 0;
		for (k = 0; k < i; k++) {
			bool same = st[i].st_ino && is_same_file(&st[i], &st[k]);

			if (same && i == FILE_COMMIT && k == FILE_IMAGE && S_ISBLK(st[i].st_mode) && ENABLE_FEATURE_XNBD_SERVER_BEHIND)
				behind = true;
			else if (same || strcmp(d->path[i], d->path[k]) == 0)
				bb_error_msg_and_die("'%s' and '%s' are the same file", d->path[k], d->path[i]);
		}
	}
	return behind;
}

/* Opens and locks those of the three files that exist, and reads the header. flags: of open(2); how: of file_lock(). */
static void open_files(struct disk *d, const char *image, const char *bitmap, const char *commit, int flags, int how)
{
	bool behind;

	d->path[FILE_IMAGE] = xpath_absolute(image);
	d->path[FILE_BITMAP] = xpath_absolute(bitmap);
	d->path[FILE_COMMIT] = commit ? xpath_absolute(commit) : xasprintf("%s.commit", d->path[FILE_BITMAP]);
	behind = check_distinct(d);
	if (file_open(d, FILE_IMAGE, flags) && !d->in_use)
		file_lock(d, FILE_IMAGE, how);
	if (file_open(d, FILE_BITMAP, flags))
		file_lock(d, FILE_BITMAP, how);
	if (ENABLE_FEATURE_XNBD_SERVER_BEHIND && behind)
		d->commit_base = commit_behind_offset(file_bytes(d, FILE_IMAGE));
	if (file_open(d, FILE_COMMIT, d->in_use ? O_RDONLY : flags)) {
		if (!commit_is_behind(d)) /* else it is the image that is locked */
			file_lock(d, FILE_COMMIT, how);
		/* The last server may have died while it wrote the header; see header_read(). An error of the image, on one device with it,
		 * is not lost: the kernel tells it to the image's descriptor, too, which is open. */
		(void)fdatasync(d->fd[FILE_COMMIT]);
		read_header(d);
	}
	if (d->in_use && (d->commit_found != COMMIT_GOOD || !d->header.switched))
		file_die_in_use(d, FILE_IMAGE);
}

void store_peek(struct disk *d, const char *image, const char *bitmap, const char *commit)
{
	open_files(d, image, bitmap, commit, O_RDONLY, LOCK_SH);
	if (d->fd[FILE_COMMIT] >= 0)
		file_is_regular(d, FILE_COMMIT); /* others cannot be opened for writing, or hold nothing */
}

void store_load_all(struct disk *d, enum state_start how, uint64_t size_bytes)
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
	/* An image that others have changed has other bytes, but it has some. */
	if (d->accept && how != START_NEW && file_is_regular(d, FILE_IMAGE) && !image_has_data(d, true) &&
	    bits_next(d->words, 0, map_blocks(d->header.size_bytes), 0) < map_blocks(d->header.size_bytes))
		bb_error_msg_and_die("'%s' contains only zeroes: is it the right image? If so, --clear-bitmap starts over", d->path[FILE_IMAGE]);
}

void store_check_room(struct disk *d, uint64_t size_bytes, uint64_t have_bytes)
{
	if (d->fd[FILE_IMAGE] >= 0 && !file_is_regular(d, FILE_IMAGE) && have_bytes < size_bytes)
		bb_error_msg_and_die("'%s' is too small: it has %llu bytes, the disk %llu", d->path[FILE_IMAGE],
				     (unsigned long long)have_bytes, (unsigned long long)size_bytes);
	if (commit_is_behind(d) && d->commit_base < size_bytes)
		bb_error_msg_and_die("'%s' has no room for the commit file behind the disk's end: %llu bytes more are needed", d->path[FILE_IMAGE],
				     (unsigned long long)(commit_behind_device(size_bytes) - have_bytes));
	check_image(d, size_bytes, have_bytes);
}

bool store_was_switched(const struct disk *d, enum state_start how, uint64_t size_bytes)
{
	if (!d->header.switched || how == START_NEW)
		return false;
	if (store_is_complete(d, size_bytes))
		return true;
	if (how != START_ADOPT) /* else xNBD has used it as a cache since */
		bb_error_msg_and_die("'%s' records a switch, but not all blocks as local: it is damaged; if '%s' is complete, serve that as a target",
				     d->path[FILE_COMMIT], d->path[FILE_IMAGE]);
	return false;
}

void store_die_in_use(const struct disk *d)
{
	bb_error_msg_and_die("'%s' was switched: it is an ordinary disk now, and in use", d->path[FILE_IMAGE]);
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
	store_load_all(d, how, d->header.size_bytes);
	store_check_room(d, d->header.size_bytes, file_bytes(d, FILE_IMAGE));
	store_check_content(d, how); /* before an origin that was compared with it is blamed */
	d->switched = store_was_switched(d, how, d->header.size_bytes);
	return store_is_complete(d, d->header.size_bytes);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void store_resume(struct disk *d)
{
	uint64_t size_bytes = d->header.size_bytes;

	fcntl(d->fd[FILE_COMMIT], F_SETFL, 0); /* a device: read by the page cache; see resident.c */
	read_header(d);
	if (d->commit_found != COMMIT_GOOD || d->header.size_bytes != size_bytes)
		bb_error_msg_and_die("'%s' does not match the handed-over state", d->path[FILE_COMMIT]);
	d->resumed = true; /* nothing is synced: that may take any time, and clients wait */
	store_load_all(d, START_BOTH, size_bytes);
}

/* By mapping: read(2) would pass by the page cache where resident.c has made a device direct. */
void store_warm(const struct disk *d)
{
	unsigned i;

	for (i = FILE_BITMAP; i <= FILE_COMMIT; i++) {
		uint64_t base = i == FILE_COMMIT ? d->commit_base : 0, at = base;
		uint64_t end = base + (i == FILE_BITMAP ? map_bytes(d->header.size_bytes) : commit_cover_offset(d->header.size_bytes));

		for (; (at = holes_data(d->fd[i], true, at) & ~(LOAD_BYTES - 1ULL)) < end; at += LOAD_BYTES) {
			void *p = mmap(NULL, LOAD_BYTES, PROT_READ, MAP_SHARED | MAP_POPULATE, d->fd[i], (off_t)at);

			if (p != MAP_FAILED)
				munmap(p, LOAD_BYTES);
		}
	}
}
#endif
