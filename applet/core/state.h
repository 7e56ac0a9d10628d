/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files on disk at a start: the header of the commit file, the fingerprint of
 * an origin, and what a start makes of what it finds. Pure functions.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STATE_HEADER_BYTES = 512, /* one sector: written whole or not at all */
	STATE_SAMPLES = 32,       /* blocks of the origin that are remembered */
	STATE_BOOT_ID_BYTES = 40, /* /proc/sys/kernel/random/boot_id, NUL-padded */
};

/*
 * The sampled blocks of an origin. 0 = not known (it could not be read); two
 * fingerprints differ only where both know a block.
 */
struct fingerprint {
	uint64_t sample[STATE_SAMPLES];
};

/* The block of the i-th sample of a disk: the first, the last and some between. */
uint64_t fingerprint_block(uint64_t size_bytes, unsigned i);
/* The sample of a block's n bytes; never 0. */
uint64_t fingerprint_sample(const uint8_t *p, size_t n);
/* Whether both can be of the same disk, b's being the one we know: where it has samples,
 * a must have one of them too. */
bool fingerprint_match(const struct fingerprint *a, const struct fingerprint *b);
/* What is known of a is known of both; the rest of b stays. */
void fingerprint_add(struct fingerprint *b, const struct fingerprint *a);

struct state_header {
	uint64_t size_bytes;
	char boot_id[STATE_BOOT_ID_BYTES]; /* "" = not known */
	struct fingerprint fingerprint;
};

/* p: STATE_HEADER_BYTES. */
void state_header_encode(uint8_t *p, const struct state_header *h);
/* NULL, or what is wrong with the n bytes at p: a few words. */
const char *state_header_decode(const uint8_t *p, size_t n, struct state_header *h);

/* The header of the record of what clients have written: what it belongs to. */
struct written_header {
	uint64_t size_bytes; /* of the disk */
	uint64_t image_ns, commit_ns; /* when the cache image and the commit file were last changed */
	uint64_t sum; /* fingerprint_sample() of the bits behind it */
};

/* p: STATE_HEADER_BYTES. */
void written_encode(uint8_t *p, const struct written_header *h);
/* NULL, or what is wrong with the n bytes at p: a few words. */
const char *written_decode(const uint8_t *p, size_t n, struct written_header *h);

enum state_commit { COMMIT_ABSENT, COMMIT_GOOD, COMMIT_DAMAGED };

/* What a start finds. */
struct state_found {
	bool clear;            /* --clear-bitmap */
	uint64_t size_bytes;   /* of the disk */
	uint64_t bitmap_bytes; /* of the bitmap file, 0 = absent or empty */
	enum state_commit commit;
	uint64_t commit_size_bytes; /* the disk that the commit file speaks of */
	bool same_boot;             /* the machine has not gone down since */
	bool same_origin;           /* fingerprints match, or none is known */
};

enum state_start {
	START_NEW,    /* write both files anew, nothing is local */
	START_ADOPT,  /* trust the bitmap; it is xNBD's: its bits were never committed */
	START_BOTH,   /* a bit set in either file is good: same boot, the page cache is intact */
	START_COMMIT, /* trust the commit file only; rewrite the bitmap from it */
	START_REFUSE,
};

/* *why: for START_REFUSE, what is wrong: a few words. */
enum state_start state_decide(const struct state_found *f, const char **why);

#endif
