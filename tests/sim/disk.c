/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The port to the disk. Each file is three: what its readers see (the page cache),
 * what it will be when the writes under way are taken away (stable: what a sync that
 * begins now has to cover), and what is on the platter.
 *
 * A transfer happens when chance says so, a write perhaps in two parts. A crash
 * leaves any sectors of it; a power cut leaves of every sector what is in the cache
 * or what is on the platter.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, PENDING_MAX = 256, FILES = 3 };

struct file {
	uint8_t *cache, *stable, *platter;
	uint64_t bytes; /* a multiple of SECTOR */
	bool sync_failed;
};

struct pending {
	struct io *io;
	uint8_t *snapshot; /* IO_SYNC: what it must bring to the platter */
	uint64_t have;     /* IO_READ: bytes that were read earlier than the rest */
};

static struct file files[FILES];
static struct pending pending[PENDING_MAX];
static unsigned pending_count;
static bool failed;

static void file_begin(struct file *f, uint64_t bytes)
{
	f->bytes = (bytes + SECTOR - 1) / SECTOR * SECTOR;
	f->cache = calloc(3, f->bytes + SECTOR);
	f->stable = f->cache + f->bytes;
	f->platter = f->stable + f->bytes;
	f->sync_failed = false;
}

void disk_begin(void)
{
	uint64_t i;

	/* What an image held before is of no interest; so it holds something. */
	file_begin(&files[FILE_IMAGE], plan.size_bytes);
	for (i = 0; i < files[FILE_IMAGE].bytes; i++)
		files[FILE_IMAGE].cache[i] = 0xaa;
	memcpy(files[FILE_IMAGE].stable, files[FILE_IMAGE].cache, files[FILE_IMAGE].bytes);
	memcpy(files[FILE_IMAGE].platter, files[FILE_IMAGE].cache, files[FILE_IMAGE].bytes);
	file_begin(&files[FILE_BITMAP], map_bytes(plan.size_bytes));
	file_begin(&files[FILE_COMMIT], COMMIT_HEADER_BYTES + map_bytes(plan.size_bytes));
	failed = false;
}

void disk_end(void)
{
	unsigned i;

	for (i = 0; i < FILES; i++)
		free(files[i].cache);
}

unsigned disk_pending(void)
{
	return pending_count;
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

void disk_set_bitmap(const uint64_t *words)
{
	memcpy(files[FILE_BITMAP].cache, words, map_bytes(plan.size_bytes));
	memcpy(files[FILE_BITMAP].stable, words, map_bytes(plan.size_bytes));
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

/* Puts some (percent) of the sectors that io changes into `to`. */
static void apply(const struct io *io, uint8_t *to, unsigned percent)
{
	uint64_t at = io->offset, end = io->offset + io->length;

	while (at < end) {
		uint64_t stop = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;

		if (chance(percent)) {
			if (io->op == IO_WRITE)
				memcpy(to + at, (uint8_t *)io->buf + (at - io->offset), stop - at);
			else
				memset(to + at, 0, stop - at);
		}
		at = stop;
	}
}

static void write_now(struct io *io)
{
	struct file *f = &files[io->file];

	if ((io->op == IO_TRIM && plan.no_punch) || (io->op == IO_ZERO && (io->flags & IO_FAST) && plan.no_punch)) {
		io->error = EOPNOTSUPP;
		return;
	}
	apply(io, f->cache, 100);
	apply(io, f->stable, 100);
}

static bool is_zero(const uint8_t *p, uint64_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

/* Runs of sectors that are zero or not; zeroes may also be called data. */
static void extents_now(struct io *io)
{
	struct extents *out = io->buf;
	uint64_t at = io->offset, end = io->offset + io->length;
	const uint8_t *image = files[FILE_IMAGE].cache;

	out->count = 0;
	while (at < end && out->count < EXTENTS_MAX) {
		uint64_t stop = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
		bool zero;

		stop = stop < end ? stop : end;
		zero = is_zero(image + at, stop - at) && chance(80);
		out->extent[out->count].length = (uint32_t)(stop - at);
		out->extent[out->count++].flags = zero ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
		at = stop;
	}
}

static void sync_now(struct file *f, const uint8_t *snapshot)
{
	uint64_t at;

	for (at = 0; at < f->bytes; at += SECTOR)
		if (memcmp(f->platter + at, f->cache + at, SECTOR) != 0)
			memcpy(f->platter + at, chance(50) ? f->cache + at : snapshot + at, SECTOR);
}

static void fail_now(struct io *io)
{
	struct file *f = &files[io->file];

	failed = true;
	io->error = chance(50) ? EIO : ENOSPC;
	if (changes(io)) {
		/* What came of it is there for good. */
		apply(io, f->cache, 50);
		memcpy(f->stable + io->offset, f->cache + io->offset, io->length);
	}
	if (io->op == IO_SYNC)
		f->sync_failed = true; /* the kernel has forgotten that its pages are dirty */
}

static void happen(const struct pending *p, bool faults)
{
	struct io *io = p->io;
	struct file *f = &files[io->file];

	if (io->op == IO_SYNC ? f->bytes > UINT32_MAX : io->offset + io->length > f->bytes)
		broken("a transfer beyond the end of file %u", io->file);
	if (faults && chance(3) && (io->op == IO_SYNC ? plan.sync_faults : plan.disk_faults)) {
		fail_now(io);
		return;
	}
	switch (io->op) {
	case IO_READ:
		memcpy((uint8_t *)io->buf + p->have, f->cache + io->offset + p->have, io->length - p->have);
		break;
	case IO_SYNC:
		if (!f->sync_failed)
			sync_now(f, p->snapshot);
		break;
	case IO_EXTENTS:
		extents_now(io);
		break;
	default:
		write_now(io);
	}
}

bool port_io(struct core *c, struct io *io)
{
	struct file *f = &files[io->file];
	struct pending *p;
	unsigned i;

	(void)c;
	if (io->op != IO_SYNC && !io->length)
		broken("a transfer of nothing");
	for (i = 0; changes(io) && i < pending_count; i++) {
		const struct io *other = pending[i].io;

		if (changes(other) && other->file == io->file && other->offset < io->offset + io->length &&
		    io->offset < other->offset + other->length)
			broken("two writes of the same bytes at the same time");
	}
	trace("  io op %u file %u at %llu+%llu", io->op, io->file, (unsigned long long)io->offset,
	      (unsigned long long)io->length);
	if (chance(plan.sync_percent)) {
		struct pending now = { .io = io, .snapshot = f->stable };

		happen(&now, true);
		return true;
	}
	if (pending_count == PENDING_MAX)
		broken("more than %u transfers at a time", PENDING_MAX);
	p = &pending[pending_count++];
	*p = (struct pending){ .io = io };
	if (io->op == IO_SYNC) {
		p->snapshot = malloc(f->bytes + 1);
		memcpy(p->snapshot, f->stable, f->bytes);
	}
	return false;
}

bool disk_step(bool faults)
{
	struct pending p;
	unsigned i;

	if (!pending_count)
		return false;
	i = (unsigned)chance_of(pending_count);
	p = pending[i];
	if (changes(p.io) && !(p.io->op == IO_TRIM && plan.no_punch) && !(p.io->flags & IO_FAST) && chance(20)) {
		apply(p.io, files[p.io->file].cache, 50); /* it is under way */
		return true;
	}
	if (p.io->op == IO_READ && !p.have && chance(30)) {
		/* So is this: up to any byte, for nobody else may write there. */
		pending[i].have = chance_of(p.io->length);
		memcpy(p.io->buf, files[p.io->file].cache + p.io->offset, pending[i].have);
		return true;
	}
	pending[i] = pending[--pending_count];
	happen(&p, faults);
	trace("  io done op %u file %u at %llu error %d", p.io->op, p.io->file, (unsigned long long)p.io->offset,
	      p.io->error);
	free(p.snapshot);
	p.io->done(p.io);
	return true;
}

void disk_write_back(void)
{
	struct file *f = &files[chance_of(FILES)];
	uint64_t at;

	for (at = 0; at < f->bytes && !f->sync_failed; at += SECTOR)
		if (chance(20))
			memcpy(f->platter + at, f->cache + at, SECTOR);
}

void disk_crash(bool power)
{
	struct file *f;
	uint64_t at;

	while (pending_count) {
		struct pending *p = &pending[--pending_count];

		if (changes(p->io) && !(p->io->op == IO_TRIM && plan.no_punch))
			apply(p->io, files[p->io->file].cache, (unsigned)chance_of(3) * 50);
		free(p->snapshot);
	}
	for (f = files; f < files + FILES; f++) {
		for (at = 0; power && at < f->bytes; at += SECTOR)
			if (!f->sync_failed && chance(50))
				memcpy(f->platter + at, f->cache + at, SECTOR);
		if (power)
			memcpy(f->cache, f->platter, f->bytes);
		f->sync_failed = false; /* nobody is left who knows of it */
		memcpy(f->stable, f->cache, f->bytes);
	}
	failed = false;
}
