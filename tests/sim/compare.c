/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The comparison with the origin: what it has to find, and what it must not.
 *
 * An origin lies when one byte of one block is not what it was; but only to the
 * comparison, for else it would be another disk. It has to be found when that block was
 * local as the comparison began and no client has written near it since it came, as far
 * as the server can know. Without a lie, nothing may differ.
 */
#include "core/state.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static bool lost;            /* it is known that the record cannot know all, from some start on */
static bool *touched;        /* by block: a client may have written there */
static bool *due;            /* by block: was local when the comparison began */
static bool running;         /* as the core has told last */
static uint64_t lie;         /* this block, UINT64_MAX: none */
static bool lied;

static uint64_t blocks(void)
{
	return map_blocks(plan.size_bytes);
}

void compare_begin(void)
{
	lost = plan.adopt;
	touched = calloc(blocks() + 1, sizeof(*touched));
	due = calloc(blocks() + 1, sizeof(*due));
	running = lied = false;
}

void compare_end(void)
{
	free(touched);
	free(due);
}

void compare_touch(uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		touched[first] = true;
}

/* What lies between the windows is not modelled: it is not to be read. */
static void spare_gaps(void)
{
	uint64_t run;

	for (run = 0; run * WRITTEN_BLOCKS < blocks(); run++)
		if (gap_end(run * WRITTEN_BLOCKS * BLOCK_BYTES))
			map_set(&core.written.map, run, run + 1);
}

void compare_lose(void)
{
	lost = true;
}

static bool is_noted(uint64_t block)
{
	uint64_t run = block / WRITTEN_BLOCKS;

	return core.written.map.words[run / 64] >> (run % 64) & 1;
}

/* Whether the image has what the origin has. */
static bool is_origins(uint64_t block)
{
	uint8_t theirs[BLOCK_BYTES];
	uint64_t start = block * BLOCK_BYTES;
	uint64_t n = plan.size_bytes - start < BLOCK_BYTES ? plan.size_bytes - start : BLOCK_BYTES;

	model_bytes(0, start, n, theirs);
	return memcmp(theirs, disk_image(start), n) == 0;
}

/* Nobody has touched what is noted together with this block. */
static bool is_pristine(uint64_t block)
{
	uint64_t b = block / WRITTEN_BLOCKS * WRITTEN_BLOCKS, end = b + WRITTEN_BLOCKS;

	for (; b < end && b < blocks(); b++)
		if (touched[b])
			return false;
	return !gap_end(block * BLOCK_BYTES);
}

static bool bit_of(const uint8_t *file, uint64_t plane, uint64_t bit)
{
	const uint64_t *words = (const uint64_t *)(const void *)(file + plane);

	return words[bit / 64] >> (bit % 64) & 1;
}

static bool is_noted_in(const uint8_t *commit, uint64_t block)
{
	uint64_t notes = commit_written_offset(plan.size_bytes);

	return bit_of(commit, notes, block / WRITTEN_BLOCKS) || bit_of(commit, notes, written_runs(blocks()));
}

/* A block that has what a client wrote is noted for the next start, if that takes it for local: after a death of the process by
 * the bitmap, after a power cut by what is committed on the disk, perhaps, which is what the kernel may write now. */
static void audit_files(uint64_t block)
{
	const uint8_t *commit = disk_bytes(FILE_COMMIT), *platter = disk_platter(FILE_COMMIT);
	bool committed = bit_of(platter, COMMIT_HEADER_BYTES, block) || bit_of(commit, COMMIT_HEADER_BYTES, block);

	if (bit_of(disk_bytes(FILE_BITMAP), 0, block) && !is_noted_in(commit, block) && !is_origins(block))
		broken("block %llu was written by a client, and its note is not in the file", (unsigned long long)block);
	if (committed && !is_noted_in(platter, block) && !is_origins(block))
		broken("block %llu was written by a client, and its note is not on the disk", (unsigned long long)block);
}

void compare_bits(uint64_t first, uint64_t end)
{
	if (plan.target || core.mode == MODE_TARGET)
		return;
	for (; first < end && first < blocks(); first++)
		if (!gap_end(first * BLOCK_BYTES))
			audit_files(first);
}

/* A block that is local and not as the origin has it was written by a client: then it is noted.
 * A block near which no client has ever written is not. */
void compare_audit(void)
{
	uint64_t b;

	if (plan.target || core.mode == MODE_TARGET)
		return;
	if (!written_is_known(&core) && !lost)
		broken("the record says that it does not know, and has no reason");
	for (b = 0; b < blocks(); b++) {
		if (gap_end(b * BLOCK_BYTES)) {
			b = gap_end(b * BLOCK_BYTES) / BLOCK_BYTES - 1;
			continue;
		}
		if (!is_noted(b) && map_is_local(&core.map, b) && !is_origins(b))
			broken("block %llu was written by a client, and is not noted", (unsigned long long)b);
		if (is_noted(b) && is_pristine(b) && written_is_known(&core))
			broken("block %llu is noted, and no client has written near it", (unsigned long long)b);
		audit_files(b);
	}
}

void compare_begun(const uint64_t *words, const uint64_t *written)
{
	uint64_t b, unknown = written_runs(blocks());

	if (!words || !written || !(written[unknown / 64] >> (unknown % 64) & 1))
		return;
	for (b = 0; b < blocks(); b++)
		touched[b] |= words[b / 64] >> (b % 64) & 1;
}

void compare_started(void)
{
	running = false;
	if (plan.target)
		return;
	compare_begun(core.map.words, core.written.map.words);
	if (plan.gap == GAP_ZERO)
		spare_gaps();
}

void compare_order(void)
{
	uint64_t b, rate = faults_on && chance(30) ? 1 + chance_of(1 << 20) : 0;
	bool was = running;

	origin_want(0, blocks());
	if (!was) {
		lied = false;
		lie = plan.lies ? unplace(chance_of(plan.modelled_bytes)) / BLOCK_BYTES : UINT64_MAX;
		for (b = 0; b < blocks(); b++)
			due[b] = map_is_local(&core.map, b);
		running = true;
	}
	count(COUNT_COMPARE_VERBS);
	event("compare with the origin%s", lie == UINT64_MAX ? "" : ", which lies");
	if (core_verify(&core, rate)) {
		running = was;
		if (core.mode == MODE_PROXY && !memory_has_failed())
			broken("nothing can be compared, and nothing is wrong");
	}
}

void compare_step(void)
{
	bool stop = chance(50), start = !stop || chance(50); /* what was asked before is still on its way */

	if (stop) {
		event("compare no more");
		count(COUNT_COMPARE_VERBS);
		core_verify_cancel(&core);
	}
	if (start)
		compare_order();
}

void compare_spoil(uint64_t offset, uint64_t length, uint8_t *p)
{
	uint64_t start = lie * BLOCK_BYTES;

	if (lie == UINT64_MAX || start < offset || start >= offset + length)
		return;
	p[start - offset + chance_of(plan.size_bytes - start < BLOCK_BYTES ? plan.size_bytes - start : BLOCK_BYTES)] ^= 1;
	lied = true;
}

static void check_findings(void)
{
	const struct verify *v = &core.verify;

	if (v->status.different && !lied)
		broken("%llu blocks are said to differ, the first byte at %llu", (unsigned long long)v->status.different,
		       (unsigned long long)v->status.first);
	if (v->status.different > 1 || (v->status.different && v->status.first / BLOCK_BYTES != lie))
		broken("one block differs, %llu: %llu are found, the first byte at %llu", (unsigned long long)lie,
		       (unsigned long long)v->status.different, (unsigned long long)v->status.first);
	if (v->status.different)
		count(COUNT_LIES_FOUND);
}

static void check_end(void)
{
	const struct verify *v = &core.verify;
	uint64_t b, least = 0;

	if (v->status.state == JOB_FAILED && !v->status.different && !v->status.unreadable && !v->status.error)
		broken("the comparison has failed, and nothing tells why");
	if (v->status.state == JOB_DONE && (v->status.different || v->status.unreadable || v->status.error))
		broken("the comparison has ended well, and was not");
	check_findings();
	/* It may have come to no end: because of an error of ours, also after the origin could
	 * not read some block. */
	if (v->status.state == JOB_FAILED && v->status.error && (!v->status.unreadable || disk_has_failed() || memory_has_failed()))
		return;
	count(COUNT_COMPARED);
	for (b = 0; b < blocks(); b++)
		least += due[b] && is_pristine(b);
	if (v->status.compared + v->status.unreadable < least)
		broken("%llu blocks were to be compared, %llu were", (unsigned long long)least,
		       (unsigned long long)v->status.compared);
	if (v->status.state == JOB_DONE && verify_is_partial(&v->status, verify_comparable(&core)) != (!v->status.compared || (v->status.written && !written_is_known(&core))))
		broken("%llu of %llu blocks were compared, %llu left out: is that all?", (unsigned long long)v->status.compared,
		       (unsigned long long)verify_comparable(&core), (unsigned long long)v->status.written);
	if (v->status.compared + v->status.unreadable + v->status.written > core.map.local)
		broken("%llu blocks were compared, more than there are", (unsigned long long)v->status.compared);
	if (lie != UINT64_MAX && due[lie] && is_pristine(lie) && !origin_is_bad(lie) && !v->status.unreadable && !v->status.different)
		broken("the origin lies about block %llu: that is not found", (unsigned long long)lie);
}

void compare_changed(void)
{
	enum job_state state = core.verify.status.state;

	if (!running || state == JOB_RUNNING)
		return;
	running = false;
	if (state == JOB_IDLE)
		check_findings();
	else
		check_end();
}
