/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The port to the disk. Each file is three: what its readers see (the page cache),
 * what it will be when the writes under way are taken away (stable: what a sync that
 * begins now has to cover), and what is on the platter.
 *
 * A transfer happens when chance says so, a write perhaps in two parts. A crash
 * leaves any sectors of it; a power cut leaves of every sector what is in the cache
 * or what is on the platter.
 */
#include "core/state.h"
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, PENDING_MAX = 256 };

static const char *const file_names[FILES] = { "image", "bitmap", "commit file" };
static const char *const op_names[OPS] = { "read", "write", "zero", "trim", "sync", "extents" };

struct file {
	uint8_t *cache, *stable, *platter;
	uint64_t bytes; /* a multiple of SECTOR */
	uint64_t room;  /* of what is allocated, kept from run to run */
	uint64_t size, size_platter; /* as the file system tells it */
	uint64_t birth, changed, changed_platter;
	uint64_t stamp, stamp_platter; /* an extended attribute */
	uint8_t *gone;  /* by sector: see sync_fails() */
};

struct pending {
	struct io *io;
	uint8_t *snapshot; /* IO_SYNC: what it must bring to the platter */
	uint8_t *cover;    /* ... of the commit file, too, which has a part of the image; NULL: not */
	uint64_t have;     /* IO_READ: bytes that were read earlier than the rest. IO_EXTENTS: it has looked */
};

static struct file files[SLOTS];
static uint64_t births;
static struct pending pending[PENDING_MAX];
static unsigned pending_count;
static bool failed;

static void file_begin(struct file *f, uint64_t bytes)
{
	f->bytes = (bytes + SECTOR - 1) / SECTOR * SECTOR;
	if (3 * f->bytes > f->room) {
		f->room = 3 * f->bytes;
		free(f->cache);
		f->cache = malloc(f->room);
		free(f->gone);
		f->gone = malloc(f->room / SECTOR);
	}
	memset(f->gone, 0, f->bytes / SECTOR);
	memset(f->cache, 0, 3 * f->bytes);
	f->stable = f->cache + f->bytes;
	f->platter = f->stable + f->bytes;
	f->size = f->size_platter = f->stamp = f->stamp_platter = f->changed = f->changed_platter = 0;
	f->birth = ++births;
}

static void all_alike(struct file *f)
{
	memcpy(f->stable, f->cache, f->bytes);
	memcpy(f->platter, f->cache, f->bytes);
}

/* Another program has filled some blocks, and the gaps: they are not on the platter. */
static void adopted(void)
{
	uint64_t *words = (uint64_t *)(void *)files[FILE_BITMAP].cache;
	uint64_t b;

	for (b = 0; b < map_blocks(plan.size_bytes); b++) {
		uint64_t start = b * BLOCK_BYTES, n = plan.size_bytes - start;

		if (gap_end(start)) {
			words[b / MAP_WORD_BLOCKS] = ~0ULL;
			b += MAP_WORD_BLOCKS - 1;
		} else if (chance(40)) {
			words[b / MAP_WORD_BLOCKS] |= 1ULL << (b % MAP_WORD_BLOCKS);
			model_bytes(0, start, n < BLOCK_BYTES ? n : BLOCK_BYTES, disk_image(start));
		}
	}
	memcpy(files[FILE_IMAGE].stable, files[FILE_IMAGE].cache, files[FILE_IMAGE].bytes);
	all_alike(&files[FILE_BITMAP]);
	files[FILE_IMAGE].size = files[FILE_IMAGE].size_platter = plan.size_bytes;
	files[FILE_BITMAP].size = files[FILE_BITMAP].size_platter = map_bytes(plan.size_bytes);
}

/* What another move has left on the device of the commit file: all blocks are here, it says, of another origin. */
static void old_commit(void)
{
	uint64_t half = plan.size_bytes / 2 / SECTOR * SECTOR;
	struct state_header h = { .counter = OLD_COUNTER, .size_bytes = half && chance(50) ? half : plan.size_bytes, .fingerprint.sample = { 1 } };
	uint8_t *commit = files[FILE_COMMIT].cache;

	state_header_encode(commit, &h);
	memset(commit + COMMIT_HEADER_BYTES, 0xff, map_bytes(h.size_bytes));
	all_alike(&files[FILE_COMMIT]);
}

void disk_begin(void)
{
	uint64_t bits = map_bytes(plan.size_bytes), at;

	/* What an image held before is of no interest to a proxy that was told to overwrite it; so it holds something. */
	file_begin(&files[FILE_IMAGE], plan.modelled_bytes);
	memset(files[FILE_IMAGE].cache, plan.overwrite || plan.adopt ? 0xaa : 0, files[FILE_IMAGE].bytes);
	for (at = 0; plan.target && at < plan.modelled_bytes; at += GRAIN_MAX)
		model_bytes(0, unplace(at), plan.modelled_bytes - at < GRAIN_MAX ? plan.modelled_bytes - at : GRAIN_MAX,
			    files[FILE_IMAGE].cache + at);
	all_alike(&files[FILE_IMAGE]);
	file_begin(&files[FILE_BITMAP], bits);
	file_begin(&files[FILE_COMMIT], commit_file_bytes(plan.size_bytes, true));
	if (plan.old_commit)
		old_commit();
	file_begin(&files[SLOT_NEW], commit_file_bytes(plan.size_bytes, true));
	if (plan.target)
		files[FILE_IMAGE].size = files[FILE_IMAGE].size_platter = plan.size_bytes;
	if (plan.adopt)
		adopted();
	pending_count = 0;
	failed = false;
}

unsigned disk_pending(void)
{
	return pending_count;
}

bool disk_has(const struct io *io)
{
	unsigned i;

	for (i = 0; i < pending_count && pending[i].io != io; i++)
		;
	return i < pending_count;
}

bool disk_has_failed(void)
{
	return failed;
}

uint8_t *disk_bytes(enum io_file file)
{
	return files[file].cache;
}

const uint8_t *disk_platter(enum io_file file)
{
	return files[file].platter;
}

/* Bytes of a file of the core that lie in one piece: the ends of an image that is covered are in another. */
struct part {
	struct file *file;
	uint64_t n;          /* bytes of the disk, gaps among them */
	uint64_t first, end; /* in the file */
};

static struct part part_of(uint8_t file, uint64_t offset, uint64_t n)
{
	struct part p = { .file = &files[file], .n = n };
	uint64_t at = file == FILE_IMAGE ? start_cover_place(offset, &p.n) : UINT64_MAX;

	if (at != UINT64_MAX) {
		p.file = &files[FILE_COMMIT];
		p.first = at;
		p.end = at + p.n;
	} else {
		p.first = file == FILE_IMAGE ? place(offset) : offset;
		p.end = file == FILE_IMAGE ? place(offset + p.n) : offset + p.n;
	}
	return p;
}

uint8_t *disk_image(uint64_t offset)
{
	struct part p = part_of(FILE_IMAGE, offset, 1);

	return p.file->cache + p.first;
}

void disk_image_read(void *to, uint64_t offset, uint64_t n)
{
	uint64_t done;
	struct part p;

	for (done = 0; done < n; done += p.n) {
		p = part_of(FILE_IMAGE, offset + done, n - done);
		memcpy((uint8_t *)to + done, p.file->cache + p.first, p.n);
	}
}

/* But for the mark. */
static void audit_zeroes(uint64_t first, uint64_t end)
{
	const struct file *f = &files[FILE_IMAGE];

	for (; first < end; first++)
		if (f->cache[place(first)] || f->platter[place(first)])
			broken("rule 13: the image shows its byte %llu", (unsigned long long)first);
}

void disk_audit_cover(void)
{
	uint64_t head = cover_head(plan.size_bytes), mark = head < SECTOR ? 0 : SECTOR;

	/* After a sync that failed, nobody can tell what is on the platter. */
	if (!start_has_hidden() || plan.fault_mille[FILE_IMAGE][IO_SYNC])
		return;
	audit_zeroes(mark, head);
	audit_zeroes(cover_tail(plan.size_bytes), plan.size_bytes);
}

bool disk_is_busy(uint64_t block)
{
	unsigned i;

	for (i = 0; i < pending_count; i++) {
		const struct io *io = pending[i].io;

		if (io->file == FILE_IMAGE && io->op != IO_READ && io->op != IO_SYNC && io->op != IO_EXTENTS &&
		    io->offset < (block + 1) * BLOCK_BYTES && block * BLOCK_BYTES < io->offset + io->length)
			return true;
	}
	return false;
}

/* ---- one transfer ----------------------------------------------------------------------- */

static bool changes(const struct io *io)
{
	return io->op == IO_WRITE || io->op == IO_ZERO || io->op == IO_TRIM;
}

/* Puts some (percent) of the sectors that io changes into one part. from: its bytes; NULL: zeroes. */
static void apply_part(const struct part *p, const uint8_t *from, bool stable, unsigned percent)
{
	uint8_t *to = stable ? p->file->stable : p->file->cache;
	uint64_t at, stop;

	p->file->changed++;
	for (at = p->first; at < p->end; at = stop) {
		stop = (at / SECTOR + 1) * SECTOR < p->end ? (at / SECTOR + 1) * SECTOR : p->end;
		if (percent < 100 && !chance(percent))
			continue;
		p->file->gone[at / SECTOR] = 0;
		if (from)
			memcpy(to + at, from + (at - p->first), stop - at);
		else
			memset(to + at, 0, stop - at);
	}
}

/* stable: there, and not in the cache. */
static void apply(const struct io *io, bool stable, unsigned percent)
{
	uint64_t done;
	struct part p;

	for (done = 0; done < io->length; done += p.n) {
		p = part_of(io->file, io->offset + done, io->length - done);
		apply_part(&p, io->op == IO_WRITE ? (uint8_t *)io->buf + done : NULL, stable, percent);
	}
}

/* Why not: it has no way to punch holes, or not these: a device whose sectors are larger than blocks. 0: it can. */
static int cannot(const struct io *io)
{
	if (plan.no_punch && (io->op == IO_TRIM || (io->op == IO_ZERO && (io->flags & IO_FAST))))
		return EOPNOTSUPP;
	return io->op == IO_TRIM && (io->offset / BLOCK_BYTES + plan.size_bytes) % 3 == 0 ? EINVAL : 0;
}

static void write_now(struct io *io)
{
	io->error = cannot(io);
	if (io->error)
		return;
	apply(io, false, 100);
	apply(io, true, 100);
}

static bool is_zero(const uint8_t *p, uint64_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

/* Runs of blocks that are zero or not; zeroes may also be called data. */
static void extents_now(struct io *io)
{
	struct extents *out = io->buf;
	uint64_t at = io->offset, end = io->offset + io->length;

	out->count = 0;
	while (at < end && out->count < EXTENTS_MAX) {
		uint64_t stop = gap_end(at);
		bool zero = !stop;

		stop = stop ? stop : (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
		stop = stop < end ? stop : end;
		zero = zero && is_zero(disk_image(at), stop - at) && chance(80);
		out->extent[out->count].length = (uint32_t)(stop - at);
		out->extent[out->count++].flags = zero ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
		at = stop;
	}
}

static bool differs(const uint8_t *a, const uint8_t *b)
{
	uint64_t x, y, or = 0;
	unsigned i;

	for (i = 0; i < SECTOR; i += 8) {
		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		or |= x ^ y;
	}
	return or;
}

/* all: fsync(2), which brings its times to the platter too. */
static void sync_now(struct file *f, const uint8_t *snapshot, bool all)
{
	uint64_t at;

	for (at = 0; at < f->bytes; at += SECTOR)
		if (!f->gone[at / SECTOR] && differs(f->platter + at, f->cache + at))
			memcpy(f->platter + at, chance(50) ? f->cache + at : snapshot + at, SECTOR);
	f->size_platter = f->size;
	if (chance(50))
		f->stamp_platter = f->stamp;
	if (all || chance(50))
		f->changed_platter = f->changed;
}

/* The kernel writes back some sectors. */
static void write_back(struct file *f, unsigned percent)
{
	uint64_t at;

	for (at = 0; at < f->bytes; at += SECTOR)
		if (!f->gone[at / SECTOR] && differs(f->platter + at, f->cache + at) && chance(percent))
			memcpy(f->platter + at, f->cache + at, SECTOR);
}

/* The kernel forgets that its pages are dirty: what they hold is read, but never comes to
 * the platter, whoever syncs; until somebody writes it again. */
static void sync_fails(struct file *f)
{
	uint64_t at;

	for (at = 0; at < f->bytes; at += SECTOR)
		f->gone[at / SECTOR] |= differs(f->platter + at, f->cache + at);
}

static void fail_now(const struct pending *pending_io)
{
	struct io *io = pending_io->io;
	struct file *f = &files[io->file];
	uint64_t done;
	struct part p;

	failed = true;
	count(io->op == IO_SYNC ? COUNT_SYNC_FAULTS : COUNT_DISK_FAULTS);
	io->error = chance(50) ? EIO : ENOSPC;
	if (changes(io)) {
		/* What came of it is there for good. */
		apply(io, false, 50);
		for (done = 0; done < io->length; done += p.n) {
			p = part_of(io->file, io->offset + done, io->length - done);
			memcpy(p.file->stable + p.first, p.file->cache + p.first, p.end - p.first);
		}
	}
	if (io->op == IO_SYNC && pending_io->cover && chance(50)) {
		sync_now(f, pending_io->snapshot, false);
		f = &files[FILE_COMMIT];
	}
	if (io->op == IO_SYNC)
		sync_fails(f);
}

static void read_now(struct io *io, uint64_t from, uint64_t to)
{
	struct part p;

	for (; from < to; from += p.n) {
		p = part_of(io->file, io->offset + from, to - from);
		memcpy((uint8_t *)io->buf + from, p.file->cache + p.first, p.n);
	}
}

static void check_io(const struct io *io)
{
	uint64_t end = files[io->file].size;

	if (io->op == IO_SYNC)
		return;
	if (!io->length)
		broken("a transfer of nothing");
	if (io->offset > end || io->length > end - io->offset)
		broken("a transfer beyond the end of the %s", file_names[io->file]);
	if ((io->op == IO_READ || io->op == IO_WRITE) && io->file == FILE_IMAGE &&
	    place(io->offset + io->length) - place(io->offset) != io->length)
		broken("bytes of a gap are wanted, at %llu", (unsigned long long)io->offset);
}

static void happen(const struct pending *p)
{
	struct io *io = p->io;
	struct file *f = &files[io->file];

	count(COUNT_TRANSFERS);
	if (faults_on && chance_mille(plan.fault_mille[io->file][io->op])) {
		fail_now(p);
		return;
	}
	switch (io->op) {
	case IO_READ:
		read_now(io, p->have, io->length);
		break;
	case IO_SYNC:
		sync_now(f, p->snapshot, false);
		if (p->cover)
			sync_now(&files[FILE_COMMIT], p->cover, false);
		break;
	case IO_EXTENTS:
		if (!p->have)
			extents_now(io);
		break;
	default:
		write_now(io);
		if (io->file == FILE_BITMAP)
			compare_bits(io->offset * 8, (io->offset + io->length) * 8);
		if (io->file == FILE_COMMIT && io->offset + io->length <= commit_written_offset(plan.size_bytes))
			compare_bits((io->offset - COMMIT_HEADER_BYTES) * 8, (io->offset + io->length - COMMIT_HEADER_BYTES) * 8);
	}
}

/* "write of the image at 0+4096", in words of which the caller makes a line. */
static const char *io_words(const struct io *io)
{
	static char words[100];

	if (io->op == IO_SYNC)
		snprintf(words, sizeof(words), "sync of the %s", file_names[io->file]);
	else
		snprintf(words, sizeof(words), "%s of the %s at %llu+%llu", op_names[io->op], file_names[io->file],
			 (unsigned long long)io->offset, (unsigned long long)io->length);
	return words;
}

static const char *error_words(int error)
{
	return !error ? "" : error == ENOSPC ? ": ENOSPC" : error == EOPNOTSUPP ? ": EOPNOTSUPP" : error == EINVAL ? ": EINVAL" : ": EIO";
}

static void check_overlap(const struct io *io)
{
	unsigned i;

	for (i = 0; changes(io) && i < pending_count; i++) {
		const struct io *other = pending[i].io;

		if (changes(other) && other->file == io->file && other->offset < io->offset + io->length &&
		    io->offset < other->offset + other->length)
			broken("two writes of the same bytes at the same time");
	}
}

bool port_io(struct core *c, struct io *io)
{
	struct file *f = &files[io->file], *commit = &files[FILE_COMMIT];
	bool cover = io->op == IO_SYNC && io->file == FILE_IMAGE && start_is_covered();
	struct pending *p;

	(void)c;
	check_io(io);
	check_overlap(io);
	if (chance(plan.sync_percent)) {
		struct pending now = { .io = io, .snapshot = f->stable, .cover = cover ? commit->stable : NULL };

		happen(&now);
		trace("%s, done%s", io_words(io), error_words(io->error));
		return true;
	}
	trace("%s, begun", io_words(io));
	if (pending_count == PENDING_MAX)
		broken("more than %u transfers at a time", PENDING_MAX);
	p = &pending[pending_count++];
	*p = (struct pending){ .io = io };
	if (io->op == IO_SYNC) {
		p->snapshot = malloc(f->bytes + 1);
		memcpy(p->snapshot, f->stable, f->bytes);
	}
	if (cover) {
		p->cover = malloc(commit->bytes + 1);
		memcpy(p->cover, commit->stable, commit->bytes);
	}
	return false;
}

/* Part of a write, in any sectors, or the beginning of a read, up to any byte: for
 * nobody else may write there. Or a look for data, of which the answer comes later. False: not
 * this time. */
static bool step_in_part(struct pending *p)
{
	struct io *io = p->io;

	if (changes(io) && !cannot(io) && !(io->flags & IO_FAST) && chance(20)) {
		apply(io, false, 50);
	} else if (io->op == IO_READ && !p->have && chance(30)) {
		p->have = chance_of(io->length);
		read_now(io, 0, p->have);
	} else if (io->op == IO_EXTENTS && !p->have && chance(30)) {
		p->have = 1;
		extents_now(io);
	} else {
		return false;
	}
	count(COUNT_TRANSFERS);
	event("disk: %s, a part of it", io_words(io));
	return true;
}

bool disk_step(void)
{
	struct pending p;
	unsigned i;

	if (!pending_count)
		return false;
	i = (unsigned)chance_of(pending_count);
	if (step_in_part(&pending[i]))
		return true;
	p = pending[i];
	pending[i] = pending[--pending_count];
	happen(&p);
	event("disk: %s, done%s", io_words(p.io), error_words(p.io->error));
	free(p.snapshot);
	free(p.cover);
	p.io->done(p.io);
	return true;
}

void disk_end_syncs(bool told)
{
	struct io *under_way[PENDING_MAX];
	unsigned n = 0, i, at;

	for (i = 0; i < pending_count; i++)
		if (pending[i].io->op == IO_SYNC)
			under_way[n++] = pending[i].io;
	for (i = 0; i < n; i++) {
		struct pending p;

		for (at = 0; pending[at].io != under_way[i]; at++)
			;
		p = pending[at];
		if (faults_on && plan.fault_mille[p.io->file][IO_SYNC] && chance(30))
			fail_now(&p);
		else
			happen(&p);
		trace("disk: %s, done%s", io_words(p.io), error_words(p.io->error));
		if (!told)
			continue;
		pending[at] = pending[--pending_count];
		free(p.snapshot);
		free(p.cover);
		p.io->done(p.io);
	}
}

void disk_write_back(void)
{
	unsigned file = (unsigned)chance_of(FILES);

	event("the kernel writes back a part of the %s", file_names[file]);
	write_back(&files[file], 20);
	count(COUNT_TRANSFERS);
}

/* What lies behind the end of the file. Of an image it does not matter. */
static void forget_behind(struct file *f)
{
	if (f == &files[FILE_IMAGE] || f->size >= f->bytes)
		return;
	memset(f->cache + f->size, 0, f->bytes - f->size);
	memset(f->stable + f->size, 0, f->bytes - f->size);
}

void disk_crash(bool power)
{
	struct file *f;

	while (pending_count) {
		struct pending *p = &pending[--pending_count];

		if (changes(p->io) && !cannot(p->io))
			apply(p->io, false, (unsigned)chance_of(3) * 50);
		free(p->snapshot);
		free(p->cover);
	}
	for (f = files; f < files + SLOTS; f++) {
		if (power) {
			write_back(f, 50);
			memcpy(f->cache, f->platter, f->bytes);
			f->size = f->size_platter = chance(50) ? f->size : f->size_platter;
			f->stamp = f->stamp_platter = chance(50) ? f->stamp : f->stamp_platter;
			f->changed = f->changed_platter = chance(50) ? f->changed : f->changed_platter;
			forget_behind(f);
		}
		if (power)
			memset(f->gone, 0, f->bytes / SECTOR);
		memcpy(f->stable, f->cache, f->bytes);
	}
	failed = false;
}

/* ---- what a start does with them --------------------------------------------------------- */

void disk_new_file(unsigned slot)
{
	struct file *f = &files[slot];

	f->size = f->size_platter = f->stamp = f->stamp_platter = 0;
	f->birth = ++births;
	if (slot != FILE_IMAGE)
		memset(f->cache, 0, 3 * f->bytes);
}

uint64_t disk_size(unsigned slot)
{
	return files[slot].size;
}

void disk_resize(unsigned slot, uint64_t n)
{
	struct file *f = &files[slot];

	if (slot == FILE_IMAGE ? n != plan.size_bytes : n > f->bytes)
		broken("start: a file of %llu bytes", (unsigned long long)n);
	f->changed += n != f->size;
	f->size = n;
	if (!n) /* those pages are no more */
		memset(f->gone, 0, f->bytes / SECTOR);
	forget_behind(f);
}

uint64_t disk_birth(unsigned slot)
{
	return files[slot].birth;
}

uint64_t disk_changed(unsigned slot)
{
	return files[slot].changed;
}

uint64_t *disk_stamp(unsigned slot)
{
	return &files[slot].stamp;
}

uint64_t disk_pread(unsigned slot, void *to, uint64_t n, uint64_t offset)
{
	const struct file *f = &files[slot];

	if (offset >= f->size)
		return 0;
	n = n < f->size - offset ? n : f->size - offset;
	if (slot == FILE_IMAGE && gap_end(offset))
		model_bytes(0, offset, n, to);
	else
		memcpy(to, f->cache + (slot == FILE_IMAGE ? place(offset) : offset), n);
	return n;
}

void disk_pwrite(unsigned slot, const void *from, uint64_t n, uint64_t offset)
{
	struct file *f = &files[slot];

	if (slot == FILE_IMAGE)
		offset = place(offset);
	if (offset + n > f->bytes)
		broken("start: a write beyond what there is");
	f->changed++;
	memcpy(f->cache + offset, from, n);
	memcpy(f->stable + offset, from, n);
	memset(f->gone + offset / SECTOR, 0, (offset + n - 1) / SECTOR - offset / SECTOR + 1);
	if (slot != FILE_IMAGE && offset + n > f->size)
		f->size = offset + n;
}

void disk_tear(unsigned slot, const uint8_t *from, uint64_t n, uint64_t offset)
{
	uint64_t at;

	for (at = 0; at < n; at += SECTOR)
		if (chance(50))
			disk_pwrite(slot, from + at, n - at < SECTOR ? n - at : SECTOR, offset + at);
}

void disk_sync(unsigned slot, bool all)
{
	sync_now(&files[slot], files[slot].stable, all);
}

void disk_drop_pages(unsigned slot, uint64_t from, uint64_t end)
{
	struct file *f = &files[slot];

	for (from /= SECTOR; from < end / SECTOR && from < f->bytes / SECTOR; from++) {
		if (f->gone[from])
			memcpy(f->cache + from * SECTOR, f->platter + from * SECTOR, SECTOR);
		f->gone[from] = 0;
	}
}

void disk_sync_fails(unsigned slot)
{
	sync_fails(&files[slot]);
}

uint64_t disk_next_data(unsigned slot, uint64_t offset)
{
	const struct file *f = &files[slot];

	while (offset < f->size && !f->platter[offset] && !f->gone[offset / SECTOR])
		offset++;
	return offset;
}

void disk_exchange(unsigned a, unsigned b)
{
	struct file f = files[a];

	files[a] = files[b];
	files[b] = f;
}
