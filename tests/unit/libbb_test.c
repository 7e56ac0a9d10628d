/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* libbb: what is printed and parsed, against what the C library does. */
#include "libbb.h"
#include "test.h"

#include <sys/resource.h>
#include <sys/wait.h>

#undef snprintf /* here: the real one, to compare with */
int snprintf(char *to, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);

#define SAME(...)                                                   \
	do {                                                        \
		char ours[64], theirs[64];                          \
		int a = bb_snprintf(ours, sizeof(ours), __VA_ARGS__); \
		int b = snprintf(theirs, sizeof(theirs), __VA_ARGS__); \
		CHECK(a == b);                                      \
		CHECK(strcmp(ours, theirs) == 0);                   \
	} while (0)

void bb_show_usage(void)
{
	abort(); /* no test asks for it */
}

static void test_printf(void)
{
	char small[4];

	SAME("plain %% text");
	SAME("%s|%10s|%-10s|%.2s|%.*s|", "abc", "abc", "abc", "abc", 1, "abc");
	SAME("%d %d %d %5d %-5d| %05d", 0, -1, INT32_MIN, 42, 42, 42);
	SAME("%u %x %X %02x %08X", 4000000000U, 0xbeefU, 0xbeefU, 7U, 0xabcU);
	SAME("%llu %lld %lu %ld %zu", UINT64_MAX + 0ULL, -5LL, 7UL, -7L, (size_t)9);
	SAME("%c%c", 'x', 'y');
	CHECK(bb_snprintf(small, sizeof(small), "%s", "abcdef") == 6);
	CHECK(strcmp(small, "abc") == 0);
	CHECK(bb_snprintf(NULL, 0, "%u", 12345U) == 5);
}

/* A command line; good until the next one. */
static char **words(char *first, ...)
{
	static char text[16][32];
	static char *argv[17];
	va_list args;
	unsigned n = 1;

	argv[0] = (char *)"test";
	va_start(args, first);
	for (; first; first = va_arg(args, char *)) {
		argv[n] = strcpy(text[n], first);
		n++;
	}
	va_end(args);
	argv[n] = NULL;
	return argv;
}

static const char longs[] = "alpha\0" No_argument "a"
			    "beta\0" Required_argument "b"
			    "betamax\0" No_argument "m"
			    "another\0" No_argument "a";

static void test_getopt(void)
{
	const char *b = NULL;
	char **argv = words((char *)"x", "-ab", "1", "y", "--betamax", "--", "-z", NULL);

	CHECK(getopt32long(argv, "ab:m", longs, &b) == 7);
	CHECK(b && strcmp(b, "1") == 0);
	CHECK(strcmp(argv[optind], "x") == 0 && strcmp(argv[optind + 1], "y") == 0);
	CHECK(strcmp(argv[optind + 2], "-z") == 0 && !argv[optind + 3]);

	argv = words((char *)"--beta=2", "--al", "-", NULL);
	CHECK(getopt32long(argv, "ab:m", longs, &b) == 3);
	CHECK(strcmp(b, "2") == 0 && strcmp(argv[optind], "-") == 0 && !argv[optind + 1]);

	argv = words((char *)"--betam", "-b3", NULL);
	CHECK(getopt32long(argv, "ab:m", longs, &b) == 6);
	CHECK(strcmp(b, "3") == 0 && !argv[optind]);

	argv = words((char *)"--a", NULL); /* two names, one option */
	CHECK(getopt32long(argv, "ab:m", longs, &b) == 1);
}

static void test_numbers(void)
{
	static const struct {
		const char *text;
		unsigned long long n;
	} sizes[] = {
		{ "0", 0 }, { "0T", 0 }, { "512", 512 }, { "1k", 1024 }, { "1K", 1024 }, { "1kB", 1000 }, { "1KB", 1000 },
		{ "3M", 3 << 20 }, { "3MB", 3000000 }, { "5G", 5ULL << 30 }, { "5GB", 5000000000 },
		{ "16777215T", 16777215ULL << 40 }, { "18446744TB", 18446744000000000000ULL },
		{ "18014398509481983K", 18014398509481983ULL << 10 }, { "18446744073709551615", UINT64_MAX },
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		CHECK(xatoull_sfx(sizes[i].text, kMG_suffixes) == sizes[i].n);
	CHECK(xatoull_sfx("18446744073709551615", NULL) == UINT64_MAX);
	CHECK(xatou("4294967295") == UINT32_MAX);
	CHECK(xatou_range("65535", 0, 65535) == 65535);
}

/* Why there is no connection is told, also when there is not even a socket. */
static void test_connect(void)
{
	char told[257] = "";
	int out[2];
	pid_t pid;

	CHECK(pipe(out) == 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 3, 3 };

		dup2(out[1], STDERR_FILENO);
		setrlimit(RLIMIT_NOFILE, &none);
		create_and_connect_stream_or_die("127.0.0.1", 1);
		_exit(0);
	}
	close(out[1]);
	CHECK(safe_read(out[0], told, sizeof(told) - 2) > 0);
	told[strcspn(told, "\n") + 1] = '\0'; /* what a sanitizer may add is not ours */
	close(out[0]);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK_STR(told, "xnbdbox: can't connect to 127.0.0.1 port 1: Too many open files\n");
}

int main(void)
{
	test_printf();
	test_getopt();
	test_numbers();
	test_connect();
	return test_end();
}
