/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What clients ask: one request from core_submit() to port_reply().
 *
 *   FETCH   waits for blocks from the origin (holds no range)
 *   RANGE   waits for its range in flight
 *   NOTE    a write: waits until it is noted that clients have written there
 *   DISK    waits for the image
 *   BITMAP  its blocks became local: waits for their bits to be in the bitmap file
 *   COMMIT  FUA or FLUSH: waits for a commit; a write, when a sync has failed: until the next start knows
 *
 * A request may skip any of these states but never goes back to an earlier one,
 * except that the end of a fetch makes it look at the map again.
 */
#include "core/checked.h"
#include "core/request.h"
#include "nbd/nbd.h"

#include <errno.h>

enum { REQ_NEW, REQ_FETCH, REQ_RANGE, REQ_NOTE, REQ_DISK, REQ_BITMAP, REQ_COMMIT };

/* Fetches everything that r needs in parallel; of a long CACHE (up to 4 GiB) only the next
 * part, so that memory stays bounded. */
static void fetch_needed(struct core *c, const struct request *r, bool wide)
{
	uint64_t first = touched_first(r);
	uint64_t end = touched_end(r);

	if (!is_write(r)) {
		fetch_missing(c, r->owner, r->scan, end - r->scan < FETCH_AHEAD_BLOCKS ? end : r->scan + FETCH_AHEAD_BLOCKS, wide);
		return;
	}
	if (first < whole_first(r))
		fetch_missing(c, r->owner, first, first + 1, false);
	if (end > whole_end(c, r))
		fetch_missing(c, r->owner, end - 1, end, false);
}

/* For the boot trace: what r would have to fetch if nothing were local yet. A trace does not
 * depend on what the copy has already brought. */
static void request_note(struct core *c, const struct request *r)
{
	struct trace *t = &c->trace;
	uint64_t first = touched_first(r), end = touched_end(r);

	if (r->type == NBD_CMD_READ)
		trace_add(t, first, end);
	if (!is_write(r))
		return;
	if (first < whole_first(r) && r->type != NBD_CMD_TRIM)
		trace_add(t, first, first + 1);
	if (end > whole_end(c, r) && r->type != NBD_CMD_TRIM)
		trace_add(t, end - 1, end);
	if (t->recording)
		trace_forget(t, whole_first(r), whole_end(c, r));
}

/* ---- the end -------------------------------------------------------------- */

void request_reply(struct core *c, struct request *r, uint32_t error)
{
	assert(c->in_flight);
	r->error = error;
	c->in_flight--;
	port_reply(c, r);
}

/* Switched by force: nobody will bring what r needs. */
static void request_lacks(struct core *c, struct request *r)
{
	r->why = "missing since a forced switch";
	request_reply(c, r, NBD_EIO);
}

static void release_range(struct core *c, struct request *r)
{
	c->granted_tail = range_unlock(&c->ranges, &r->range, c->granted_tail);
}

static void commit_done(struct commit_waiter *w, int error)
{
	struct request *r = container_of(w, struct request, commit);

	/* Whatever went wrong, what the client must know is that nothing is safe. */
	request_reply(r->core, r, error ? NBD_EIO : NBD_SUCCESS);
}

static void wait_for_commit(struct core *c, struct request *r)
{
	r->state = REQ_COMMIT;
	r->commit.done = commit_done;
	core_commit(c, &r->commit);
}

static void request_end_write(struct core *c, struct request *r, int error)
{
	release_range(c, r);
	if (!error && r->rest)
		piece_next(c, r);
	else if (error ? sync_is_untold(c) : r->flags & NBD_CMD_FLAG_FUA)
		wait_for_commit(c, r);
	else
		request_reply(c, r, nbd_error_from_errno(error));
}

/* ---- disk and bitmap ------------------------------------------------------ */

static void bits_are_in_file(struct persist *p, int error)
{
	struct request *r = container_of(p, struct request, persist);

	request_end_write(r->core, r, error);
}

/* The disk cannot forget what a trim covers. */
static bool trim_is_refused(const struct io *io)
{
	return io->op == IO_TRIM && (io->error == EOPNOTSUPP || io->error == EINVAL);
}

/*
 * Of a trim that was refused: what is local of it stays as it is. What is missing becomes
 * local, so that nobody fetches it; and zero, since what the disk has there may be somebody else's.
 * Its runs of missing blocks, one by one. False: the disk is at one of them.
 */
static bool trim_missing(struct core *c, struct request *r)
{
	uint64_t first = r->io.op == IO_TRIM ? r->range.first : map_blocks(r->io.offset + r->io.length);

	while ((first = map_next_missing(&c->map, first, r->range.end)) < r->range.end) {
		uint64_t stop = map_next_local(&c->map, first, r->range.end);

		r->io.op = IO_ZERO;
		r->io.error = 0;
		r->io.offset = first * BLOCK_BYTES;
		r->io.length = (stop < r->range.end ? stop * BLOCK_BYTES : request_end(r)) - r->io.offset;
		if (!port_io(c, &r->io))
			return false;
		if (r->io.error)
			break;
		first = stop;
	}
	return true;
}

static void write_done(struct core *c, struct request *r)
{
	int error;

	assert(r->range.exclusive && !r->range.blockers);
	c->commit.image_dirty = true;
	c->no_trims |= r->io.op == IO_TRIM && r->io.error == EOPNOTSUPP;
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && r->type == NBD_CMD_TRIM &&
	    (trim_is_refused(&r->io) || (r->io.op == IO_ZERO && !r->io.error)) && !trim_missing(c, r))
		return;
	error = r->io.error;
	if (trim_is_refused(&r->io))
		error = 0; /* a hint, and all of it is local */
	else if (r->type != NBD_CMD_WRITE)
		zero_measure(c, r->range.end - r->range.first, c->now_ms - r->begun_ms);
	if (error && error != EOPNOTSUPP) /* that is FAST_ZERO's: not fast */
		core_note_error(c, "write to the image", error);
	else if (ENABLE_FEATURE_XNBD_SERVER_PROXY && !error &&
		 map_set(&c->map, whole_first(r), whole_end(c, r))) {
		r->state = REQ_BITMAP;
		r->persist.first = whole_first(r);
		r->persist.end = whole_end(c, r);
		r->persist.done = bits_are_in_file;
		persist_add(c, &r->persist);
		return;
	}
	/* A block that was local already may be so in memory only: its bit could not be
	 * written since r came. */
	request_end_write(c, r, error ? error : c->bitmap_error);
}

static void read_done(struct core *c, struct request *r)
{
	if (r->io.error)
		core_note_error(c, "read of the image", r->io.error);
	request_reply(c, r, nbd_error_from_errno(r->io.error));
}

static void disk_done(struct core *c, struct request *r)
{
	if (is_write(r)) {
		write_done(c, r);
		return;
	}
	if (r->type == NBD_CMD_READ)
		release_range(c, r);
	read_done(c, r);
}

static void disk_event(struct io *io)
{
	struct request *r = container_of(io, struct request, io);
	struct core *c = r->core;

	disk_done(c, r);
	core_run(c);
}

static void prepare_io(struct request *r)
{
	static const uint8_t ops[] = {
		[NBD_CMD_READ] = IO_READ,
		[NBD_CMD_WRITE] = IO_WRITE,
		[NBD_CMD_TRIM] = IO_TRIM,
		[NBD_CMD_WRITE_ZEROES] = IO_ZERO,
		[NBD_CMD_BLOCK_STATUS] = IO_EXTENTS,
	};

	r->io.op = ops[r->type];
	r->io.file = FILE_IMAGE;
	r->io.flags = 0;
	if (r->flags & NBD_CMD_FLAG_NO_HOLE)
		r->io.flags |= IO_NO_HOLE;
	if (r->flags & NBD_CMD_FLAG_FAST_ZERO)
		r->io.flags |= IO_FAST;
	r->io.offset = r->offset;
	r->io.length = r->length;
	r->io.buf = r->buf;
	r->io.error = 0;
	r->io.owner = r->owner;
	r->io.done = disk_event;
	r->why = NULL;
}

static void disk_begin(struct core *c, struct request *r)
{
	r->state = REQ_DISK;
	prepare_io(r);
	if (port_io(c, &r->io))
		disk_done(c, r);
}

static void noted(struct persist *p, int error)
{
	struct request *r = container_of(p, struct request, persist);

	if (error)
		request_end_write(r->core, r, error);
	else
		disk_begin(r->core, r);
}

static void range_granted(struct range *range)
{
	struct request *r = container_of(range, struct request, range);

	if (piece_idle_end(r->core, r, range->first, range->end) == range->end) {
		request_end_write(r->core, r, r->core->bitmap_error);
		return;
	}
	r->state = REQ_NOTE;
	r->persist.done = noted;
	/* Under the range: a comparison of these blocks is over, or will leave them out. */
	if (!ENABLE_FEATURE_XNBD_SERVER_VERIFY || !range->exclusive ||
	    written_note(r->core, &r->persist, range->first, range->end))
		disk_begin(r->core, r);
}

bool request_lock(struct core *c, struct request *r, uint64_t first, uint64_t end)
{
	r->state = REQ_RANGE;
	r->range.first = first;
	r->range.end = end;
	r->range.exclusive = is_write(r);
	r->range.granted = range_granted;
	return range_lock(&c->ranges, &r->range);
}

void request_lock_and_go(struct core *c, struct request *r, uint64_t first, uint64_t end)
{
	if (request_lock(c, r, first, end))
		range_granted(&r->range);
}

/*
 * A read that needs nothing but the image: most of them, so they take no range
 * when the page cache answers at once.
 */
static void request_read(struct core *c, struct request *r)
{
	uint64_t first = touched_first(r);
	uint64_t end = touched_end(r);

	if (range_is_busy(&c->ranges, first, end, false)) {
		request_lock_and_go(c, r, first, end);
		return;
	}
	r->state = REQ_DISK;
	prepare_io(r);
	if (port_io(c, &r->io)) {
		read_done(c, r);
		return;
	}
	r->range.first = first;
	r->range.end = end;
	r->range.exclusive = false;
	range_lock(&c->ranges, &r->range); /* granted: it was not busy */
}

/*
 * BLOCK_STATUS of local blocks takes no range: what is written meanwhile may be reported as it was
 * or as it is, and no write has to wait for a search of the whole disk, which may take long.
 */
void request_find_data(struct core *c, struct request *r)
{
	r->state = REQ_DISK;
	prepare_io(r);
	if (port_io(c, &r->io))
		read_done(c, r);
}

/* Nothing that r needs is missing. */
static void request_go(struct core *c, struct request *r)
{
	switch (r->type) {
	case NBD_CMD_READ:
		if (r->buf) {
			request_read(c, r);
			break;
		}
		/* fall through */
	case NBD_CMD_CACHE:
		request_reply(c, r, NBD_SUCCESS);
		break;
	case NBD_CMD_BLOCK_STATUS:
		status_begin(c, r);
		break;
	case NBD_CMD_TRIM:
		piece_trim(c, r);
		break;
	case NBD_CMD_WRITE_ZEROES:
		piece_begin(c, r);
		break;
	default:
		request_lock_and_go(c, r, touched_first(r), touched_end(r));
	}
}

/* ---- the origin ----------------------------------------------------------- */

/* Asks for what r needs, of which `block` is the first, and waits for that one. wide: what
 * lies around it may come too. */
static void request_fetch(struct core *c, struct request *r, uint64_t block, bool wide)
{
	struct fetch *f;

	fetch_needed(c, r, wide);
	f = fetch_find(c, block);
	if (!f) {
		request_reply(c, r, NBD_ENOMEM);
		return;
	}
	r->state = REQ_FETCH;
	c->waiting++;
	fetch_wait(f, r);
	if (c->lost)
		fetch_expire(c);
}

/*
 * Called when the fetch that r waited for has ended, or r has waited for it too long. error (r->why
 * may say more) is 0 also if the fetch failed, but was for more than r (rule 9): then r asks again,
 * for its own part.
 */
void request_resume(struct core *c, struct request *r, int error)
{
	uint64_t block = request_first_needed(c, r);

	c->waiting--;
	c->waited_ms = c->now_ms;
	r->state = REQ_NEW;
	if (block == UINT64_MAX)
		request_go(c, r);
	else if (c->mode == MODE_TARGET)
		request_lacks(c, r);
	else if (error)
		request_reply(c, r, nbd_error_from_errno(error));
	else
		request_fetch(c, r, block, false);
}

static void request_start(struct core *c, struct request *r)
{
	uint64_t block;

	if (c->bitmap_error && is_write(r)) {
		request_reply(c, r, nbd_error_from_errno(c->bitmap_error));
		return;
	}
	if (r->type == NBD_CMD_FLUSH) {
		wait_for_commit(c, r);
		return;
	}
	block = request_first_awaited(c, r);
	if (block == UINT64_MAX) {
		request_go(c, r);
	} else if (c->mode == MODE_TARGET) {
		request_lacks(c, r);
	} else if (r->flags & NBD_CMD_FLAG_FAST_ZERO) {
		request_reply(c, r, NBD_ENOTSUP); /* a fetch is slower than a write */
	} else {
		c->waited++;
		request_fetch(c, r, block, ENABLE_FEATURE_XNBD_SERVER_READAHEAD && r->type == NBD_CMD_READ && readahead_is_wide(c));
	}
}

void core_submit(struct core *c, struct request *r)
{
	assert(!c->in_port && core_check(c, r) == NBD_SUCCESS);
	r->core = c;
	r->state = REQ_NEW;
	r->fetch = NULL;
	r->scan = 0;
	r->begun_ms = c->now_ms;
	r->rest = 0;
	c->in_flight++;
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE && c->trace.recording)
		request_note(c, r);
	if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD && r->type == NBD_CMD_READ && c->mode == MODE_PROXY) {
		uint64_t first = touched_first(r), end = touched_end(r), waited = c->waited;

		request_start(c, r); /* it may be answered, and gone */
		readahead_read(c, first, end, c->waited != waited);
	} else {
		request_start(c, r);
	}
	core_run(c);
}

void core_has_read(struct core *c, uint64_t offset, uint32_t length)
{
	uint64_t first = offset / BLOCK_BYTES, end = map_blocks(offset + length);

	assert(!c->in_port);
	if (ENABLE_FEATURE_XNBD_SERVER_TRACE)
		trace_add(&c->trace, first, end);
	if (ENABLE_FEATURE_XNBD_SERVER_READAHEAD && c->mode == MODE_PROXY)
		readahead_read(c, first, end, false);
	core_run(c);
}

void core_read(struct core *c, struct request *r)
{
	r->core = c;
	c->in_flight++;
	request_read(c, r);
	core_run(c);
}

uint32_t core_rest(const struct request *r)
{
	return r->state == REQ_COMMIT ? 0 : r->length + r->rest;
}

void core_curtail(struct request *r)
{
	r->rest = 0;
}

void core_abandon(struct core *c, struct request *r)
{
	assert(!c->in_port);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && r->state == REQ_FETCH) {
		fetch_unwait(r->fetch, r);
		fetch_forget(c);
		c->waiting--;
		request_reply(c, r, NBD_ESHUTDOWN);
	} else if (ENABLE_FEATURE_XNBD_SERVER_ORIGIN_HOLES) {
		status_abandon(c, r);
	}
}
