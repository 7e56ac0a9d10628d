// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (C) 2026 the xnbdbox authors
/* fsload DIRECTORY SEED: changes some files there at random, writes them, cuts them, grows,
 * renames, removes, syncs, and compares what it reads with what it knows. On SIGTERM it
 * compares all once more and says how much it did; at a wrong byte it ends at once. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FILES = 12, BYTES_MAX = 300 << 10, PIECE_MAX = 40 << 10 };

static struct {
	int fd;
	uint32_t size;
	uint8_t bytes[BYTES_MAX];
} file[FILES];
static volatile sig_atomic_t enough;
static uint64_t state;

static void end(int signal)
{
	(void)signal;
	enough = 1;
}

static uint32_t chance(uint32_t below)
{
	state = state * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(((state >> 32) * below) >> 32);
}

static void must(int well, const char *what)
{
	if (well)
		return;
	perror(what);
	exit(1);
}

static const char *name(int i, int variant)
{
	static char text[2][32];

	sprintf(text[variant], variant ? "work%d.new" : "work%d", i);
	return text[variant];
}

static void create(int i)
{
	file[i].fd = open(name(i, 0), O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(file[i].fd >= 0, "open");
	file[i].size = 0;
}

static void write_piece(int i)
{
	uint32_t at = chance(BYTES_MAX - PIECE_MAX), n = 1 + chance(PIECE_MAX), k;

	for (k = 0; k < n; k++)
		file[i].bytes[at + k] = (uint8_t)chance(256);
	if (at > file[i].size)
		memset(file[i].bytes + file[i].size, 0, at - file[i].size);
	must(pwrite(file[i].fd, file[i].bytes + at, n, at) == (ssize_t)n, "write");
	if (at + n > file[i].size)
		file[i].size = at + n;
}

/* The same through a mapping: inside the file. */
static void store_piece(int i)
{
	uint32_t n = file[i].size, at = n ? chance(n) : 0, k;
	uint8_t *p = n ? mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, file[i].fd, 0) : NULL;

	if (!p)
		return;
	must(p != MAP_FAILED, "mmap");
	for (k = at; k < n && k < at + 3000; k++)
		p[k] = file[i].bytes[k] = (uint8_t)chance(256);
	munmap(p, n);
}

static void cut(int i)
{
	uint32_t n = chance(BYTES_MAX);

	if (n > file[i].size)
		memset(file[i].bytes + file[i].size, 0, n - file[i].size);
	must(ftruncate(file[i].fd, n) == 0, "ftruncate");
	file[i].size = n;
}

static void compare(int i)
{
	static uint8_t found[BYTES_MAX + 1];
	ssize_t n = pread(file[i].fd, found, sizeof(found), 0);

	must(n >= 0, "read");
	if ((uint32_t)n != file[i].size || memcmp(found, file[i].bytes, (size_t)n) != 0) {
		printf("%s is wrong: %zd bytes of %u\n", name(i, 0), n, file[i].size);
		exit(1);
	}
}

static void step(int i)
{
	switch (chance(16)) {
	case 0:
		must(fsync(file[i].fd) == 0, "fsync");
		break;
	case 1:
		cut(i);
		break;
	case 2:
		must(rename(name(i, 0), name(i, 1)) == 0 && rename(name(i, 1), name(i, 0)) == 0, "rename");
		break;
	case 3:
		close(file[i].fd);
		must(unlink(name(i, 0)) == 0, "unlink");
		create(i);
		break;
	case 4:
		store_piece(i);
		break;
	case 5: /* from the disk, if it has gone there */
		fdatasync(file[i].fd);
		posix_fadvise(file[i].fd, 0, 0, POSIX_FADV_DONTNEED);
		compare(i);
		break;
	case 6:
	case 7:
		compare(i);
		break;
	default:
		write_piece(i);
	}
}

int main(int argc, char **argv)
{
	unsigned long steps = 0;
	int i;

	must(argc == 3 && chdir(argv[1]) == 0, "fsload");
	state = strtoul(argv[2], NULL, 10);
	signal(SIGTERM, end);
	for (i = 0; i < FILES; i++)
		create(i);
	for (; !enough; steps++)
		step((int)chance(FILES));
	for (i = 0; i < FILES; i++) {
		must(fsync(file[i].fd) == 0, "fsync");
		posix_fadvise(file[i].fd, 0, 0, POSIX_FADV_DONTNEED);
		compare(i);
	}
	printf("right after %lu steps\n", steps);
	return 0;
}
