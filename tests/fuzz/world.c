/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Lives, and what libc is to the program under test. Built without sanitizers, since it
 * copies what is between the globals too. */
#include "world.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

enum {
	MEMORY_MAX = 256 << 20, /* the machine has no more */
	FILE_MAX = 8 << 20,     /* nor has the disk for one file: hostile sizes cost nothing */
	TURNS_MAX = 20000,      /* of the loop, while nothing happens */
};

uint64_t world_ms, world_told_ms, world_pass_until_ms;
bool world_disk_full, world_sync_fails, world_terminal, world_prints_lines;
unsigned short world_columns;
struct world_peers world_peers;

void finding(const char *why)
{
	fprintf(stderr, "FINDING: %s\n", why);
	abort();
}

/* ---- files ---------------------------------------------------------------------------- */

static char directory[128];
static bool verbose; /* FUZZ_VERBOSE=1: what the program says is shown */
static const char *const names[] = { "image", "bitmap", "bitmap.commit", "bitmap.commit.new", "clients", "control",
				     "origin", "trace", "trace.new" };
enum { NAMES = sizeof(names) / sizeof(names[0]) };
static char paths[NAMES][160];

const char *world_path(const char *name)
{
	unsigned i;

	for (i = 0; i < NAMES; i++)
		if (strcmp(names[i], name) == 0)
			return paths[i];
	finding("the fuzzer knows no such file");
}

void world_sweep(void)
{
	unsigned i;

	for (i = 0; i < NAMES; i++)
		unlink(paths[i]);
}

static void world_end(void)
{
	world_sweep();
	rmdir(directory);
}

static void world_begin(void)
{
	const struct rlimit files = { FILE_MAX, FILE_MAX };
	const char *parent = getenv("FUZZ_TMP");
	unsigned i;

	if (!parent) /* fast, where there is one */
		parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(directory, sizeof(directory), "%s/xnbd-fuzz.XXXXXX", parent);
	if (!mkdtemp(directory))
		finding("the fuzzer cannot make a directory in FUZZ_TMP");
	for (i = 0; i < NAMES; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", directory, names[i]);
	atexit(world_end);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG instead */
	setrlimit(RLIMIT_FSIZE, &files);
}

/* ---- memory ------------------------------------------------------------------------------ */

/* In front of each piece, so that what is left at the end of a life can be freed. Poisoned
 * for the program. */
struct piece {
	struct piece *prev, *next;
	size_t bytes, unused;
};

static struct piece *pieces;
static size_t memory_used;

void *fuzz_malloc(size_t n);
void *fuzz_calloc(size_t n, size_t each);
void *fuzz_aligned_alloc(size_t unit, size_t n);
char *fuzz_strdup(const char *s);
void fuzz_free(void *p);
void __asan_poison_memory_region(void const volatile *p, size_t n);

static void *get(size_t n, bool zero)
{
	struct piece *p;

	if (n > MEMORY_MAX || memory_used + n > MEMORY_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	p = zero ? calloc(1, sizeof(*p) + n) : malloc(sizeof(*p) + n);
	if (!p)
		return NULL;
	p->bytes = n;
	p->prev = NULL;
	p->next = pieces;
	if (pieces)
		pieces->prev = p;
	pieces = p;
	memory_used += n;
	__asan_poison_memory_region(p, sizeof(*p));
	return p + 1;
}

void *fuzz_malloc(size_t n)
{
	return get(n, false);
}

void *fuzz_calloc(size_t n, size_t each)
{
	return n && each > SIZE_MAX / n ? NULL : get(n * each, true);
}

/* Nothing here needs it aligned: no file is opened with O_DIRECT. */
void *fuzz_aligned_alloc(size_t unit, size_t n)
{
	(void)unit;
	return get(n, false);
}

char *fuzz_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = get(n, false);

	return p ? memcpy(p, s, n) : NULL;
}

void fuzz_free(void *v)
{
	struct piece *p = (struct piece *)v - 1;

	if (!v)
		return;
	memory_used -= p->bytes;
	if (p->prev)
		p->prev->next = p->next;
	else
		pieces = p->next;
	if (p->next)
		p->next->prev = p->prev;
	free(p);
}

/* No arena: each buffer is to be a piece of its own, which sanitizers watch. So are secrets, and what another program hands
 * over. */
void *fuzz_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
int fuzz_munmap(void *p, size_t n);

void *fuzz_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	void *p;

	if (fd < 0 && flags & MAP_NORESERVE)
		return MAP_FAILED;
	if (protection == PROT_READ)
		return mmap(at, n, protection, flags, fd, offset);
	p = get(n, true);
	return p && (fd < 0 || pread(fd, p, n, 0) == (ssize_t)n) ? p : MAP_FAILED;
}

int fuzz_munmap(void *v, size_t n)
{
	const struct piece *p = pieces;

	while (p && p + 1 != v)
		p = p->next;
	if (!p)
		return munmap(v, n);
	fuzz_free(v);
	return 0;
}

/* ---- the clock, and waiting ------------------------------------------------------------ */

static bool told_to_end;
static unsigned turns;

int fuzz_clock_gettime(clockid_t clock, struct timespec *t);
int fuzz_clock_gettime(clockid_t clock, struct timespec *t)
{
	(void)clock;
	t->tv_sec = (time_t)(world_ms / 1000);
	t->tv_nsec = (long)(world_ms % 1000) * 1000000;
	return 0;
}

/* Time passes: as far as it is to, but not beyond the program's own wish. */
static bool pass(int timeout_ms)
{
	uint64_t left;

	if (world_ms >= world_pass_until_ms)
		return false;
	left = world_pass_until_ms - world_ms;
	world_ms += timeout_ms >= 0 && (uint64_t)timeout_ms < left ? (uint64_t)timeout_ms : left;
	return true;
}

int fuzz_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms);
int fuzz_epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	for (;;) {
		int n = epoll_wait(fd, events, max, 0);

		if (++turns > TURNS_MAX)
			finding("the loop spins");
		if (n || !timeout_ms)
			return n;
		if (pass(timeout_ms))
			return 0;
		if (world_peers.step()) {
			turns = 0;
		} else if (!told_to_end) {
			told_to_end = true;
			world_told_ms = world_ms;
			raise(SIGTERM);
		} else if (timeout_ms < 0) {
			finding("told to end, it waits for ever");
		} else {
			world_ms += (uint64_t)timeout_ms;
			return 0;
		}
	}
}

/* No program is run, whatever a state says. */
pid_t fuzz_vfork(void);
pid_t fuzz_vfork(void)
{
	errno = EAGAIN;
	return -1;
}

/* ---- sockets, files, terminal ---------------------------------------------------------- */

int fuzz_connect(int fd, const struct sockaddr *a, socklen_t n);
/* No input reaches out of here. But the origin is also at "unix:/origin", and at 127.0.0.1,
 * whose socket is made one of the other kind. */
static bool is_origin(const struct sockaddr *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)a;

	if (a->sa_family == AF_UNIX)
		return strcmp(((const struct sockaddr_un *)(const void *)a)->sun_path, "/origin") == 0;
	return a->sa_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

static int connect_origin(int fd)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int local = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, world_path("origin"));
	dup2(local, fd);
	close(local);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

int fuzz_connect(int fd, const struct sockaddr *a, socklen_t n)
{
	const char *path = ((const struct sockaddr_un *)(const void *)a)->sun_path;

	if (is_origin(a))
		return connect_origin(fd);
	if (a->sa_family != AF_UNIX || strncmp(path, directory, strlen(directory)) != 0) {
		errno = a->sa_family == AF_UNIX ? ECONNREFUSED : ENETUNREACH;
		return -1;
	}
	if (connect(fd, a, n) < 0)
		return -1;
	return world_peers.connected && !world_peers.connected(fd, path) ? -1 : 0;
}

int fuzz_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found);
int fuzz_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found)
{
	struct addrinfo numbers = *hints;

	numbers.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
	return getaddrinfo(host, port, &numbers, found);
}

ssize_t fuzz_read(int fd, void *to, size_t n);
ssize_t fuzz_read(int fd, void *to, size_t n)
{
	if (world_peers.before_read)
		world_peers.before_read(fd);
	return read(fd, to, n);
}

static void check_lines(const uint8_t *text, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if ((text[i] < ' ' && text[i] != '\n') || text[i] == 0x7f || (text[i] == 0xc2 && i + 1 < n && text[i + 1] >> 5 == 4))
			finding("a terminal would obey what is printed");
}

/* What is told to people goes nowhere, unless they want to see it. */
ssize_t fuzz_write(int fd, const void *from, size_t n);
ssize_t fuzz_write(int fd, const void *from, size_t n)
{
	if (world_prints_lines && (fd == STDOUT_FILENO || (fd == STDERR_FILENO && !world_terminal)))
		check_lines(from, n);
	if (!verbose && (fd == STDOUT_FILENO || fd == STDERR_FILENO))
		return (ssize_t)n;
	return write(fd, from, n);
}

ssize_t fuzz_pwrite(int fd, const void *from, size_t n, off_t offset);
ssize_t fuzz_pwrite(int fd, const void *from, size_t n, off_t offset)
{
	if (world_disk_full) {
		errno = ENOSPC;
		return -1;
	}
	return pwrite(fd, from, n, offset);
}

int fuzz_fdatasync(int fd);
int fuzz_fdatasync(int fd)
{
	if (world_sync_fails) {
		errno = EIO;
		return -1;
	}
	if (world_peers.synced)
		world_peers.synced(fd);
	return 0;
}

char *fuzz_getcwd(char *to, size_t n);
char *fuzz_getcwd(char *to, size_t n)
{
	size_t have = strlen(directory) + 1;

	if (to && n < have) {
		errno = ERANGE;
		return NULL;
	}
	if (!to)
		to = fuzz_malloc(have);
	return to ? memcpy(to, directory, have) : NULL;
}

/* One processor: nothing passes while the program spins. */
int fuzz_sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set);
int fuzz_sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
	(void)pid;
	memset(set, 0, bytes);
	CPU_SET(0, set);
	return 0;
}

int fuzz_isatty(int fd);
int fuzz_isatty(int fd)
{
	(void)fd;
	return world_terminal;
}

int fuzz_ioctl(int fd, unsigned long request, struct winsize *w);
int fuzz_ioctl(int fd, unsigned long request, struct winsize *w)
{
	if (request == FIOCLEX)
		return world_peers.handed && world_peers.handed(fd) ? 0 : -1;
	w->ws_col = world_columns;
	return world_terminal && world_columns ? 0 : -1;
}

/* ---- globals ------------------------------------------------------------------------------ */

extern uint8_t __start_fuzz_bss[], __stop_fuzz_bss[], __start_fuzz_data[], __stop_fuzz_data[];
static uint8_t *first_data, *first_bss;

/* By hand: memcpy(3) would stumble over the poison between the globals. */
static void copy(uint8_t *to, const uint8_t *from, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		to[i] = from[i];
}

static void globals_keep(void)
{
	size_t data = (size_t)(__stop_fuzz_data - __start_fuzz_data);
	size_t bss = (size_t)(__stop_fuzz_bss - __start_fuzz_bss);

	first_data = malloc(data);
	first_bss = malloc(bss);
	copy(first_data, __start_fuzz_data, data);
	copy(first_bss, __start_fuzz_bss, bss);
}

static void globals_restore(void)
{
	copy(__start_fuzz_data, first_data, (size_t)(__stop_fuzz_data - __start_fuzz_data));
	copy(__start_fuzz_bss, first_bss, (size_t)(__stop_fuzz_bss - __start_fuzz_bss));
}

/* ---- a life --------------------------------------------------------------------------------- */

static jmp_buf death;

void fuzz_exit(int status) __attribute__((noreturn));
void fuzz_exit(int status)
{
	longjmp(death, status + 1);
}

void world_kill(void)
{
	longjmp(death, LIFE_KILLED + 1);
}

/* Everything it has left goes. */
static void bury(int first_fd, const sigset_t *mask)
{
	const struct timespec now = { 0, 0 };
	sigset_t sent;

	sigemptyset(&sent);
	sigaddset(&sent, SIGTERM);
	sigaddset(&sent, SIGUSR2);
	while (sigtimedwait(&sent, NULL, &now) > 0)
		;
	sigprocmask(SIG_SETMASK, mask, NULL);
	close_range((unsigned)first_fd, ~0U, 0);
	umask(022);
	while (pieces)
		fuzz_free(pieces + 1);
	globals_restore();
	memset(&world_peers, 0, sizeof(world_peers));
	world_disk_full = world_sync_fails = pool_slow = false;
}

int life(int (*main)(void *arg), void *arg)
{
	/* Not changed between setjmp() and longjmp(). */
	int first_fd = open("/dev/null", O_RDONLY);
	sigset_t mask;
	int status;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	turns = 0;
	told_to_end = false;
	world_ms = 1000000;
	world_pass_until_ms = 0;
	status = setjmp(death);
	if (!status)
		fuzz_exit(main(arg));
	bury(first_fd, &mask);
	return status - 1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	verbose = getenv("FUZZ_VERBOSE") != NULL;
	world_begin();
	globals_keep();
	return 0;
}

/* main.c's, which is not here. */
void bb_show_usage(void);
void xfunc_die(void) __attribute__((noreturn));
void bb_show_usage(void)
{
	xfunc_die();
}
