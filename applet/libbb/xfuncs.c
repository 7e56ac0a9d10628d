/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Memory, whole reads and writes, numbers. */
#include "libbb.h"

#include <limits.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

void *xmalloc(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);

	if (!p)
		bb_simple_error_msg_and_die("out of memory");
	return p;
}

void *xzalloc(size_t bytes)
{
	void *p = xmalloc(bytes);

	memset(p, 0, bytes);
	return p;
}

void *bb_grow(void *old, size_t used, size_t bytes)
{
	void *p = malloc(bytes);

	if (p && used)
		memcpy(p, old, used);
	if (p)
		free(old);
	return p;
}

pid_t bb_fork(void)
{
#ifdef __GLIBC__ /* uClibc says so, too; older ones have no other, and the size does not matter */
	return fork();
#else
	return _Fork();
#endif
}

pid_t xfork(void)
{
	pid_t pid = bb_fork();

	if (pid < 0)
		bb_simple_perror_msg_and_die("fork");
	return pid;
}

unsigned get_cpu_count(void)
{
	cpu_set_t set;

	/* EINVAL: there are more than fit. */
	return sched_getaffinity(0, sizeof(set), &set) < 0 ? CPU_SETSIZE : (unsigned)CPU_COUNT(&set);
}

char *xstrdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(xmalloc(n), s, n);
}

ssize_t safe_read(int fd, void *to, size_t bytes)
{
	ssize_t n;

	do
		n = read(fd, to, bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

ssize_t safe_write(int fd, const void *from, size_t bytes)
{
	ssize_t n;

	do
		n = write(fd, from, bytes);
	while (n < 0 && errno == EINTR);
	return n;
}

ssize_t full_read(int fd, void *to, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = safe_read(fd, (char *)to + done, bytes - done);

		if (n < 0 && !done)
			return n;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t full_write(int fd, const void *from, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = safe_write(fd, (const char *)from + done, bytes - done);

		if (n < 0 && !done)
			return n;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

void bb_sanitize_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

void null_fd(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, fd);
	close(null);
}

int get_terminal_width(int fd)
{
	struct winsize w;

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

const struct suffix_mult kMG_suffixes[] = {
	{ "k", 1 << 10 }, { "kB", 1000 },
	{ "K", 1 << 10 }, { "KB", 1000 },
	{ "M", 1 << 20 }, { "MB", 1000000 },
	{ "G", 1 << 30 }, { "GB", 1000000000 },
	{ "T", 1ULL << 40 }, { "TB", 1000000000000 },
	{ "", 0 },
};

static void NORETURN die_number(const char *s, const char *what)
{
	bb_error_msg_and_die("%s: '%s' is %s", bb_option_of(s), s, what);
}

static void NORETURN die_invalid(const char *s, bool has_suffixes)
{
	die_number(s, has_suffixes ? "invalid: it may end in K, M, G, T, kB, MB, GB or TB" : "invalid");
}

static const char too_large[] = "too large";

/* n times the number that the suffix p of s stands for. */
static unsigned long long multiply(unsigned long long n, const char *p, const char *s, const struct suffix_mult *suffixes)
{
	while (suffixes->mult && strcmp(suffixes->suffix, p) != 0)
		suffixes++;
	if (!suffixes->mult)
		die_invalid(s, true);
	if (n > ULLONG_MAX / suffixes->mult)
		die_number(s, too_large);
	return n * suffixes->mult;
}

unsigned long long xatoull_range_sfx(const char *s, unsigned long long lower, unsigned long long upper,
				     const struct suffix_mult *suffixes)
{
	const char *p = s;
	unsigned long long n = 0;

	do {
		unsigned d = (unsigned)(*p - '0');

		if (d > 9 && suffixes && p != s)
			break;
		if (d > 9)
			die_invalid(s, suffixes);
		if (n > (ULLONG_MAX - d) / 10)
			die_number(s, too_large);
		n = n * 10 + d;
	} while (*++p);
	if (suffixes && *p)
		n = multiply(n, p, s, suffixes);
	if (n < lower || n > upper)
		bb_error_msg_and_die("%s: '%s' is not in %llu..%llu", bb_option_of(s), s, lower, upper); /* xasprintf() is 4 KB of malloc(3) */
	return n;
}

unsigned long long xatoull_sfx(const char *s, const struct suffix_mult *suffixes)
{
	return xatoull_range_sfx(s, 0, ULLONG_MAX, suffixes);
}

unsigned xatou_range(const char *s, unsigned lower, unsigned upper)
{
	return (unsigned)xatoull_range_sfx(s, lower, upper, NULL);
}

unsigned xatou(const char *s)
{
	return xatou_range(s, 0, UINT_MAX);
}

unsigned long long monotonic_ms(void)
{
	struct timespec t;

	/* The kernel itself: libc's way by the vdso is 0.8 KB, which only a server has anyway. 32 bits have two kinds of this call. */
	if (ENABLE_XNBD_SERVER || sizeof(long) < 8)
		clock_gettime(CLOCK_MONOTONIC, &t);
	else
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000 + (unsigned long long)t.tv_nsec / 1000000;
}

void llist_add_to_end(llist_t **list_head, void *data)
{
	llist_t *l = xzalloc(sizeof(*l));

	l->data = data;
	while (*list_head)
		list_head = &(*list_head)->link;
	*list_head = l;
}
