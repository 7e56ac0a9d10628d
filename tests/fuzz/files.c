/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A proxy, and the files beside the image that it finds at its start: bitmap, and commit file
 * with the record of what clients have written.
 *
 * The input: three bytes for server and origin (script.h); one of the bits below; the
 * length of the bitmap, 15 bits; the bitmap; the commit file. With the 16th bit, there is a
 * record: its length stands before the bitmap, 16 bits, and it itself behind that.
 *
 * The image has the right bytes as far as it goes. So whatever the bits say, no start may
 * end in a wrong byte; and one that is refused may change nothing.
 */
#include "client_check.h"
#include "script.h"
#include "core/map.h"
#include "core/state.h"
#include "nbd/nbd.h"
#include "origin_peer.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

enum files_how {
	FILES_CHECKSUM = 1 << 0, /* of the commit file is made right */
	FILES_BOOT_ID = 1 << 1,  /* ... as its boot id, */
	FILES_SAMPLES = 1 << 2,  /* ... and its samples */
	FILES_BITS = 1 << 3,     /* behind the header come the bits at once, not the rest of its page */
	FILES_NO_BITMAP = 1 << 4,
	FILES_NO_COMMIT = 1 << 5,
	FILES_NO_IMAGE = 1 << 6,
	FILES_SHORT_IMAGE = 1 << 7,
};

enum { BLOCK = 4096, AT_BOOT_ID = 16, AT_SIZE = 64, AT_SAMPLES = 136, AT_SUM = STATE_HEADER_BYTES - 8, HEAD = SCRIPT_HEAD + 3, FILE_BYTES_MAX = 4 << 20 };

static const uint8_t *bitmap, *commit, *record;
static size_t bitmap_bytes, commit_bytes, record_bytes;
static uint8_t how;

static const char *const files[] = { "image", "bitmap", "bitmap.commit" };
enum { FILES = 3, RECORD = 0x8000 };
static uint8_t *before[FILES];
static size_t before_bytes[FILES];

static void put_boot_id(uint8_t *header)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);

	memset(header + AT_BOOT_ID, 0, STATE_BOOT_ID_BYTES);
	if (fd < 0 || read(fd, header + AT_BOOT_ID, 36) != 36)
		finding("the fuzzer finds no boot id");
	close(fd);
}

static void put_samples(uint8_t *header, uint64_t size)
{
	unsigned i;

	for (i = 0; size && i < STATE_SAMPLES; i++) {
		uint64_t start = fingerprint_block(size, i) * BLOCK;
		size_t n = size - start < BLOCK ? (size_t)(size - start) : BLOCK;

		nbd_put64(header + AT_SAMPLES + 8 * i, fingerprint_sample(origin_bytes() + start, n));
	}
}

static void put_commit(uint64_t size)
{
	uint8_t header[STATE_HEADER_BYTES] = { 0 };
	size_t n = commit_bytes < sizeof(header) ? commit_bytes : sizeof(header);

	if (!commit_bytes)
		return;
	memcpy(header, commit, n);
	/* A cache that has all of that other disk needs no origin. */
	if (nbd_get64(header + AT_SIZE) != size)
		client_disk.unknown = true;
	if (how & FILES_BOOT_ID)
		put_boot_id(header);
	if (how & FILES_SAMPLES)
		put_samples(header, size);
	if (how & FILES_CHECKSUM)
		nbd_put64(header + AT_SUM, fingerprint_sample(header, AT_SUM));
	if (how & (FILES_CHECKSUM | FILES_BITS))
		n = sizeof(header);
	script_put_file("bitmap.commit", header, n, 0);
	if (commit_bytes > sizeof(header))
		script_put_file("bitmap.commit", commit + sizeof(header), commit_bytes - sizeof(header),
				how & FILES_BITS ? COMMIT_HEADER_BYTES : sizeof(header));
}

/* It lies behind the committed bits; then the file is as long as it has to be. */
static void put_record(uint64_t size)
{
	script_put_file("bitmap.commit", record, record_bytes, commit_written_offset(size));
	script_put_file("bitmap.commit", "", 1, commit_file_bytes(size, false) - 1);
}

static void put_files(uint64_t size)
{
	unsigned i;

	if (!(how & FILES_NO_IMAGE))
		script_put_file("image", origin_bytes(), how & FILES_SHORT_IMAGE ? size / 2 : size, 0);
	if (!(how & FILES_NO_BITMAP))
		script_put_file("bitmap", bitmap, bitmap_bytes, 0);
	if (!(how & FILES_NO_COMMIT))
		put_commit(size);
	if (record)
		put_record(size);
	for (i = 0; i < FILES; i++)
		before_bytes[i] = script_read_file(files[i], before[i], FILE_BYTES_MAX);
}

static void check_unchanged(void)
{
	static uint8_t now[FILE_BYTES_MAX];
	unsigned i;

	for (i = 0; i < FILES; i++)
		if (script_read_file(files[i], now, sizeof(now)) != before_bytes[i] ||
		    memcmp(now, before[i], before_bytes[i]) != 0)
			finding("a start was refused, and has changed a file");
}

static size_t at_most(size_t n, size_t left)
{
	return n < left ? n : left;
}

static void take_files(const uint8_t *p, size_t left, unsigned lengths)
{
	record = NULL;
	record_bytes = 0;
	if ((lengths & RECORD) && left >= 2) {
		record_bytes = nbd_get16(p);
		p += 2;
		left -= 2;
	}
	bitmap = p;
	bitmap_bytes = at_most(lengths & ~RECORD, left);
	p += bitmap_bytes;
	left -= bitmap_bytes;
	if (lengths & RECORD)
		record = p;
	record_bytes = at_most(record_bytes, left);
	commit = p + record_bytes;
	commit_bytes = left - record_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* A client reads 8 KiB, then 64 KiB. */
	static const char client[] = "\0\0\0\1IHAVEOPT\0\0\0\1\0\0\0\0"
		"\x25\x60\x95\x13\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\x20\0"
		"\x25\x60\x95\x13\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\x20\0\0\1\0\0";
	uint8_t script[SCRIPT_HEAD + sizeof(client) - 1];
	unsigned i;

	if (n < HEAD)
		return 0;
	for (i = 0; i < FILES; i++)
		if (!before[i])
			before[i] = malloc(FILE_BYTES_MAX);
	memcpy(script, data, SCRIPT_HEAD);
	memcpy(script + SCRIPT_HEAD, client, sizeof(client) - 1);
	script[SCRIPT_SERVER] = (uint8_t)((script[SCRIPT_SERVER] & ~(SERVER_OLDSTYLE | SERVER_CACHE)) | SERVER_PROXY |
					  SERVER_READONLY);
	script[SCRIPT_MORE] &= MORE_SMALL;
	how = data[SCRIPT_HEAD];
	take_files(data + HEAD, n - HEAD, nbd_get16(data + SCRIPT_HEAD + 1));
	script_files = put_files;
	if (script_run(script, sizeof(script), 'a') == 1)
		check_unchanged();
	return 0;
}
