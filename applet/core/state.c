/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A copy of the commit file's header:
 *
 *   0  8  "XNBDCMT2"; "XNBDCMT3" if the image is covered, so that a program that knows of no cover refuses it
 *   8  4  byte order mark: the bits that follow the headers are native words
 *  12  4  block size
 *  16 40  boot id of the kernel that ran when it was written
 *  56     the numbers of struct state_header, 8 bytes each, in its order; then zeroes
 * 1016 8  checksum of all before it
 *
 * Its integers are big endian, but for the byte order mark.
 */
#include "core/state.h"
#include "autoconf.h"
#include "core/map.h"
#include "nbd/nbd.h"

#include <string.h>

enum {
	AT_ORDER = 8,
	AT_BLOCK = 12,
	AT_BOOT_ID = 16,
	AT_NUMBERS = AT_BOOT_ID + STATE_BOOT_ID_BYTES,
	AT_SUM = STATE_HEADER_BYTES - 8,
	NUMBERS = (sizeof(struct state_header) - STATE_BOOT_ID_BYTES) / sizeof(uint64_t),
};

_Static_assert(AT_NUMBERS + 8 * NUMBERS <= AT_SUM, "state_header");

const char state_old_version[] = "of another version";
const char state_no_bitmap[] = "the bitmap is gone, and with it what was written last";
const char state_other_size[] = "the commit file is of a disk of another size";
const char state_other_origin[] = "the origin is not the one that this cache was filled from";

static const char magic[7] = { 'X', 'N', 'B', 'D', 'C', 'M', 'T' };
static const uint32_t order_mark = 0x01020304;

/* FNV-1a, 64 bits: against accidents, not against an enemy. */
static uint64_t checksum(const uint8_t *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (n--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

uint64_t fingerprint_block(uint64_t size_bytes, unsigned i)
{
	uint64_t last = map_blocks(size_bytes);

	last -= last != 0;
	/* last * i without overflow: blocks are below 2^52, i below 2^5. */
	return last * i / (STATE_SAMPLES - 1);
}

uint64_t fingerprint_sample(const uint8_t *p, size_t n)
{
	uint64_t h = checksum(p, n);

	return h ? h : 1;
}

bool fingerprint_match(const struct fingerprint *a, const struct fingerprint *b)
{
	unsigned i, known = 0, common = 0;

	for (i = 0; i < STATE_SAMPLES; i++) {
		known += b->sample[i] != 0;
		common += a->sample[i] && b->sample[i];
		if (a->sample[i] && b->sample[i] && a->sample[i] != b->sample[i])
			return false;
	}
	return common || !known; /* one that can read none of them says nothing */
}

const char *fingerprint_refuse(uint64_t known_bytes, const struct fingerprint *known, uint64_t size_bytes,
			       const struct fingerprint *seen, bool force)
{
	if (size_bytes != known_bytes)
		return "it serves a disk of another size";
	if (!force && !fingerprint_match(seen, known))
		return "it serves a disk of other content";
	return NULL;
}

void fingerprint_add(struct fingerprint *b, const struct fingerprint *a)
{
	unsigned i;

	for (i = 0; i < STATE_SAMPLES; i++)
		if (a->sample[i])
			b->sample[i] = a->sample[i];
}

static uint64_t pages(uint64_t n)
{
	return (n + 4095) & ~4095ULL;
}

uint64_t commit_written_offset(uint64_t size_bytes)
{
	return COMMIT_HEADER_BYTES + pages(map_bytes(size_bytes));
}

uint64_t written_runs(uint64_t blocks)
{
	return (blocks + WRITTEN_BLOCKS - 1) / WRITTEN_BLOCKS;
}

uint64_t written_bytes(uint64_t size_bytes)
{
	return (written_runs(map_blocks(size_bytes)) / 64 + 1) * 8;
}

uint64_t commit_cover_offset(uint64_t size_bytes)
{
	return commit_written_offset(size_bytes) + pages(written_bytes(size_bytes));
}

uint64_t commit_file_bytes(uint64_t size_bytes, bool covered)
{
	uint64_t ends = pages(cover_head(size_bytes)) + pages(size_bytes - cover_tail(size_bytes));

	return commit_cover_offset(size_bytes) + (ENABLE_FEATURE_XNBD_SERVER_COVER && covered ? ends : 0);
}

#if ENABLE_FEATURE_XNBD_SERVER_BEHIND
uint64_t commit_behind_offset(uint64_t device_bytes)
{
	const uint64_t mib = 1 << 20;
	uint64_t needed = commit_file_bytes(device_bytes, true) + 2 * mib;

	return device_bytes < needed ? mib : (device_bytes - needed + mib) & ~(mib - 1);
}

uint64_t commit_behind_device(uint64_t size_bytes)
{
	uint64_t bytes = size_bytes, at;

	while ((at = commit_behind_offset(bytes)) < size_bytes)
		bytes += size_bytes - at;
	return bytes;
}
#endif

uint64_t cover_head(uint64_t size_bytes)
{
	uint64_t head = (uint64_t)COVER_BLOCKS_HEAD * BLOCK_BYTES;

	return size_bytes < head ? size_bytes : head;
}

uint64_t cover_tail(uint64_t size_bytes)
{
	uint64_t tail = (uint64_t)COVER_BLOCKS_TAIL * BLOCK_BYTES, head = cover_head(size_bytes);

	return size_bytes > head + tail ? (size_bytes - tail) & ~(uint64_t)(BLOCK_BYTES - 1) : head;
}

uint64_t cover_place(uint64_t size_bytes, uint64_t offset, uint64_t *n)
{
	uint64_t head = cover_head(size_bytes), tail = cover_tail(size_bytes), at = UINT64_MAX, end = size_bytes;

	if (offset < head) {
		at = commit_cover_offset(size_bytes) + offset;
		end = head;
	} else if (offset >= tail) {
		at = commit_cover_offset(size_bytes) + pages(head) + (offset - tail);
	} else {
		end = tail;
	}
	if (*n > end - offset)
		*n = end - offset;
	return at;
}

void state_header_encode(uint8_t *p, const struct state_header *h)
{
	const uint64_t *number = &h->counter;
	size_t i;

	memset(p, 0, STATE_HEADER_BYTES);
	memcpy(p, magic, sizeof(magic));
	p[sizeof(magic)] = h->cover ? '3' : '2';
	memcpy(p + AT_ORDER, &order_mark, sizeof(order_mark));
	nbd_put32(p + AT_BLOCK, BLOCK_BYTES);
	memcpy(p + AT_BOOT_ID, h->boot_id, STATE_BOOT_ID_BYTES);
	for (i = 0; i < NUMBERS; i++)
		nbd_put64(p + AT_NUMBERS + 8 * i, number[i]);
	nbd_put64(p + AT_SUM, checksum(p, AT_SUM));
}

bool state_is_commit(const uint8_t *p)
{
	return memcmp(p, magic, sizeof(magic)) == 0;
}

const char *state_header_decode(const uint8_t *p, size_t n, struct state_header *h)
{
	uint64_t *number = &h->counter;
	size_t i;

	if (n < STATE_HEADER_BYTES)
		return "too short";
	if (!state_is_commit(p))
		return "no commit file";
	if (p[sizeof(magic)] != '2' && (!ENABLE_FEATURE_XNBD_SERVER_COVER || p[sizeof(magic)] != '3'))
		return state_old_version;
	if (nbd_get64(p + AT_SUM) != checksum(p, AT_SUM))
		return "checksum wrong";
	if (memcmp(p + AT_ORDER, &order_mark, sizeof(order_mark)) != 0)
		return "written on a machine of another byte order";
	if (nbd_get32(p + AT_BLOCK) != BLOCK_BYTES)
		return "of another block size";
	memcpy(h->boot_id, p + AT_BOOT_ID, STATE_BOOT_ID_BYTES);
	h->boot_id[STATE_BOOT_ID_BYTES - 1] = '\0';
	for (i = 0; i < NUMBERS; i++)
		number[i] = nbd_get64(p + AT_NUMBERS + 8 * i);
	if (h->switched && h->cover)
		return "it says that the image is covered, and that it was switched";
	return NULL;
}

enum state_start state_decide(const struct state_found *f, const char **why)
{
	bool right_size = f->bitmap_bytes == map_bytes(f->size_bytes);

	if (f->clear)
		return START_NEW;
	*why = "the commit file is damaged";
	if (f->commit == COMMIT_DAMAGED)
		return START_REFUSE;
	*why = "the commit file is of another version, which this program cannot read";
	if (f->commit == COMMIT_OLD_VERSION)
		return START_REFUSE;
	*why = state_other_size;
	if (f->commit == COMMIT_GOOD && f->commit_size_bytes != f->size_bytes)
		return START_REFUSE;
	*why = "the bitmap is of a disk of another size";
	if (f->bitmap_bytes && !right_size)
		return START_REFUSE;
	*why = state_other_origin;
	if (f->commit == COMMIT_GOOD && !f->same_origin)
		return START_REFUSE;
	*why = "the image is covered: its first and last bytes are in a commit file that is not here";
	if (f->mark && f->mark != f->cover)
		return START_REFUSE;
	*why = "there is no commit file; --adopt-bitmap would take it over from xNBD";
	if (f->commit == COMMIT_ABSENT)
		return !f->bitmap_set ? START_NEW : f->adopt ? START_ADOPT : START_REFUSE;
	*why = f->other ? f->other : f->changed;
	if (!*why && f->same_boot && !f->clean && !right_size)
		*why = state_no_bitmap;
	if (f->changed && f->adopt && f->bitmap_bytes && !f->cover)
		return START_ADOPT;
	if (*why && !f->accept)
		return START_REFUSE;
	return f->same_boot && f->bitmap_bytes ? START_BOTH : START_COMMIT;
}
