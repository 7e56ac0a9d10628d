/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
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
	STATE_HEADER_BYTES = 1024, /* of a copy of the header that are used */
	STATE_COPY_BYTES = 4096,   /* a copy begins at a multiple of this */
	STATE_COPIES = 2,
	SECTOR_BYTES = 512,        /* a power cut never divides one */
	STATE_SAMPLES = 32,        /* blocks of the origin that are remembered */
	STATE_RECENT = 16,         /* blocks of the image: those that have come last */
	STATE_BOOT_ID_BYTES = 40,  /* /proc/sys/kernel/random/boot_id, NUL-padded */
};

/*
 * The commit file: two copies of its header (COMMIT_HEADER_BYTES), then two planes of bits,
 * each a whole number of pages: which blocks are committed, and where clients have written
 * (a bit for WRITTEN_BLOCKS, and one behind them: see core/written.c). Then the cover, if there is one.
 */
uint64_t commit_written_offset(uint64_t size_bytes); /* where the second plane begins */
uint64_t written_runs(uint64_t blocks); /* how many bits of it speak of so many blocks */
uint64_t written_bytes(uint64_t size_bytes); /* of the second plane: whole words */
uint64_t commit_cover_offset(uint64_t size_bytes); /* behind that one */
uint64_t commit_file_bytes(uint64_t size_bytes, bool covered);
/* Where the commit file lies behind the end of a disk on a device of so many bytes, > 0: known without the size of the disk, which
 * must not be larger. It has room for every such disk, with its cover. The last MiB is left to the partition tables that have a copy
 * there. */
uint64_t commit_behind_offset(uint64_t device_bytes);
/* How large a device has to be at least, for a disk of size_bytes. */
uint64_t commit_behind_device(uint64_t size_bytes);

/*
 * The cover of a disk: the bytes of its ends. They are in the commit file behind the planes, in whole pages: those before
 * cover_head(), then those from cover_tail() on. Between the two the image has its own.
 */
uint64_t cover_head(uint64_t size_bytes);
uint64_t cover_tail(uint64_t size_bytes); /* a multiple of BLOCK_BYTES, or the size; >= cover_head() */
/* Where the byte at `offset` of the disk is in the commit file; UINT64_MAX: it is in the image. *n, > 0: how many bytes
 * from there on; shortened to those that lie behind it in the same place. */
uint64_t cover_place(uint64_t size_bytes, uint64_t offset, uint64_t *n);

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
/* Whether both can be of the same disk, ours being b: no sample that both know differs and,
 * unless b knows none, there is at least one that both know. */
bool fingerprint_match(const struct fingerprint *a, const struct fingerprint *b);
/* Rule 12. Whether an origin of size_bytes with the samples `seen` has our disk, of known_bytes
 * with the samples `known`. force: other content is accepted. NULL, or why not: one line. */
const char *fingerprint_refuse(uint64_t known_bytes, const struct fingerprint *known, uint64_t size_bytes,
			       const struct fingerprint *seen, bool force);
/* Copies the known samples of a to b; the others of b stay. */
void fingerprint_add(struct fingerprint *b, const struct fingerprint *a);

/*
 * A block fetched from the origin, whose bit was in the bitmap file before this entry was made. The
 * entry need not be removed when a client writes there: the record of client writes has the block
 * before that (written.c), and what is in the record is not compared.
 */
struct state_recent {
	uint64_t block, sample; /* sample: 0 = none */
};

/*
 * The header of the commit file. It is in the file twice. A copy is never written over
 * while it is the newest: the next one goes to the other place, so that a torn write leaves
 * one that is whole. The copy with the larger counter counts.
 */
struct state_header {
	char boot_id[STATE_BOOT_ID_BYTES]; /* "" = not known */
	/* From here on: 64-bit numbers only. 0 = not known, where nothing else is said. */
	uint64_t counter;    /* the copy's place is this, less 1, modulo STATE_COPIES */
	uint64_t size_bytes; /* of the disk */
	uint64_t image, bitmap, commit; /* identities of the files, or of the device */
	uint64_t mounts, mount_space, disks; /* do not change unless machine, file system or disk go down */
	uint64_t clean;      /* 1: the last server ended well, and left the files as follows */
	uint64_t image_ns, bitmap_ns; /* when they were changed last */
	uint64_t mixed;      /* 1: an origin of other content was accepted: blocks are local of several */
	struct fingerprint fingerprint;
	struct state_recent recent[STATE_RECENT]; /* of this server */
	uint64_t cover;      /* the number of the cover, which the mark on the image has, too. 0: the image is not covered */
	uint64_t switched;   /* 1: no block was missing at the switch. The image is the disk, whoever has written there since,
				and never a cache again: no start asks the origin. Then it is not covered */
};

/* p: STATE_HEADER_BYTES. */
void state_header_encode(uint8_t *p, const struct state_header *h);
/* NULL, or what is wrong with the n bytes at p, one copy: a few words. */
const char *state_header_decode(const uint8_t *p, size_t n, struct state_header *h);
/* Whether the first STATE_COPY_BYTES of a file are of a commit file of any version. */
bool state_is_commit(const uint8_t *p);
/* The text for a commit file whose version this program does not know. */
extern const char state_old_version[];
/* The text for a start in the same boot that does not find the bitmap. */
extern const char state_no_bitmap[];
/* The text for an origin that serves another disk (size or content): the local files are not at fault. */
extern const char state_other_size[], state_other_origin[];

enum state_commit { COMMIT_ABSENT, COMMIT_GOOD, COMMIT_DAMAGED, COMMIT_OLD_VERSION };

/* What a start finds. */
struct state_found {
	bool clear, adopt, accept; /* --clear-bitmap, --adopt-bitmap, --accept-image */
	uint64_t size_bytes;   /* of the disk */
	uint64_t bitmap_bytes; /* of the bitmap file, 0 = absent or empty */
	bool bitmap_set;       /* without a commit file: a bit is set in the bitmap; if none is, a
				  start that was killed has left it */
	enum state_commit commit;
	uint64_t commit_size_bytes; /* the disk that the commit file speaks of */
	bool same_boot;             /* the machine has not gone down since */
	bool clean;                 /* all is committed: the last server ended well, or the disk was switched */
	bool same_origin;           /* fingerprints match, or none is known */
	uint64_t cover, mark;       /* of the header, and of the image; 0: none */
	const char *other;          /* why these are not the files of the last server; NULL: they are */
	const char *changed;        /* what shows that somebody has written to them since that ended; NULL: nothing */
};

enum state_start {
	START_NEW,    /* write both files anew, nothing is local */
	START_ADOPT,  /* trust the bitmap; it is xNBD's: what it says was never committed */
	START_BOTH,   /* a bit set in either file is good: same boot, the page cache is intact */
	START_COMMIT, /* trust the commit file only; rewrite the bitmap from it */
	START_REFUSE,
};

/* *why: for START_REFUSE, what is wrong: a few words. */
enum state_start state_decide(const struct state_found *f, const char **why);

#endif
