// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright (C) 2026 the xnbdbox authors
/* hog MIB SEED: wants more memory than there is. Changes pages at random places, and looks at
 * each before. On SIGTERM it looks at all of them once more, says how often it found a page
 * right, and ends; at a wrong one it ends at once. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE_BYTES = 4096, WORDS = PAGE_BYTES / 8 };

static volatile sig_atomic_t enough;

static void end(int signal)
{
	(void)signal;
	enough = 1;
}

/* splitmix64: no two pages, and no two contents of a page, are alike. */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void fill(uint64_t *page, uint64_t what)
{
	for (int i = 0; i < WORDS; i++)
		page[i] = next(&what);
}

static void check(const uint64_t *page, uint64_t what, size_t n)
{
	for (int i = 0; i < WORDS; i++)
		if (page[i] != next(&what)) {
			printf("page %zu is wrong at byte %d\n", n, i * 8);
			exit(1);
		}
}

static void *map(size_t bytes, int more)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | more, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

int main(int argc, char **argv)
{
	size_t pages = argc == 3 ? strtoul(argv[1], NULL, 10) * 256 : 0, right = 0;
	uint64_t chance = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	uint64_t (*memory)[WORDS];
	uint64_t *what;

	if (!pages)
		return 1;
	memory = map(pages * PAGE_BYTES, 0);
	what = map(pages * sizeof(*what), MAP_LOCKED); /* what is known of them is never on the disk */
	signal(SIGTERM, end);
	for (size_t i = 0; i < pages; i++)
		fill(memory[i], what[i] = next(&chance));
	while (!enough) {
		size_t i = next(&chance) % pages;

		check(memory[i], what[i], i);
		fill(memory[i], what[i] = next(&chance));
		right++;
	}
	for (size_t i = 0; i < pages; i++, right++)
		check(memory[i], what[i], i);
	printf("%zu pages right\n", right);
	return 0;
}
