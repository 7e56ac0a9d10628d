/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The few helpers that the applets use, with the names and the meaning they have
 * in BusyBox: an applet file that includes only this header builds in both.
 *
 * Nothing here uses stdio. Functions beginning with x end the program with one
 * line on stderr when they fail. All may be called from any thread, except
 * getopt32long() and bb_show_usage().
 */
#ifndef LIBBB_H
#define LIBBB_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* NOLINT(bugprone-reserved-identifier): libc asks for it */
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h> /* of it, rename(2) only */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "container_of.h"
#include "autoconf.h" /* CONFIG_x, ENABLE_x, IF_x(), IF_NOT_x(): made from .config */

#define FAST_FUNC
#define NORETURN                __attribute__((noreturn))
#define UNUSED_PARAM            __attribute__((unused))
#define ALIGN1                  __attribute__((aligned(1)))
#define ALWAYS_INLINE           __attribute__((always_inline)) inline
#define MAIN_EXTERNALLY_VISIBLE __attribute__((visibility("default")))
#define PACKED                  __attribute__((packed))
#define ARRAY_SIZE(x)           (sizeof(x) / sizeof((x)[0]))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

/* Declares a buffer of n bytes (a constant) that is too large for the stack. All calls of the function
 * share it, so they must be of one thread. In BusyBox the configuration decides where it is. */
#define RESERVE_CONFIG_BUFFER(buffer, n) static char buffer[n]

/* Between big endian and the machine's own order, either way. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define SWAP_BE16(x) (x)
#define SWAP_BE32(x) (x)
#define SWAP_BE64(x) (x)
#else
#define SWAP_BE16(x) __builtin_bswap16(x)
#define SWAP_BE32(x) __builtin_bswap32(x)
#define SWAP_BE64(x) __builtin_bswap64(x)
#endif

/* ---- printf.c ----------------------------------------------------------------------- */

/*
 * Of printf(3), as much as is used here: %% %c %s %d %u %x %X; modifiers l, ll and
 * z; flags - and 0; width; precision of strings; * for both. Return what the real ones do.
 */
int bb_vsnprintf(char *to, size_t size, const char *format, va_list args) PRINTF_LIKE(3, 0);
int bb_snprintf(char *to, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);
#define vsnprintf bb_vsnprintf
#define snprintf  bb_snprintf

/* The caller frees. bb_: NULL when there is no memory. */
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);
char *bb_asprintf(const char *format, ...) PRINTF_LIKE(1, 2);

/* ---- messages.c ---------------------------------------------------------------------- */

/* Of the applet that runs. */
extern const char *applet_name;
/* The exit status of what dies; 1 from the start. */
extern uint8_t xfunc_error_retval;

/* Where messages go: each a line with its end, n bytes, from any thread. NULL, as it is from
 * the start: to stderr, however long that takes. */
extern void (*bb_message_out)(const char *line, size_t n);

/* n bytes, of which those that a terminal might obey become '?': of UTF-8, characters below U+0020, U+007F, and U+0080 to U+009F.
 * What comes later may begin in the middle of one. */
void bb_make_printable(char *p, size_t n);

/* "APPLET: TEXT", in one write(2). bb_perror_: ": " and strerror(errno)
 * behind it. errno is kept. */
void bb_error_msg(const char *format, ...) PRINTF_LIKE(1, 2);
void bb_perror_msg(const char *format, ...) PRINTF_LIKE(1, 2);
void bb_error_msg_and_die(const char *format, ...) PRINTF_LIKE(1, 2) NORETURN;
void bb_perror_msg_and_die(const char *format, ...) PRINTF_LIKE(1, 2) NORETURN;
void bb_simple_error_msg(const char *text);
void bb_simple_perror_msg(const char *text);
void bb_simple_error_msg_and_die(const char *text) NORETURN;
void bb_simple_perror_msg_and_die(const char *text) NORETURN;

/* exit(3) with xfunc_error_retval; die_func, unless NULL, is called before. */
extern void (*die_func)(void);
void xfunc_die(void) NORETURN;
/* f(arg), of which only this call dies, not the process: then text gets its one line, and the result is false. What f owns
 * at that moment has to be known to others, or is lost. Any thread; not inside another one. */
bool bb_survives(void (*f)(void *arg), void *arg, char *text, size_t room);

/* ---- xfuncs.c ------------------------------------------------------------------------- */

/* Memory is the caller's to free(3). */
void *xmalloc(size_t bytes);
void *xzalloc(size_t bytes);
char *xstrdup(const char *s);
/* old, of which used bytes are kept, with room for bytes of them; frees old. NULL when there
 * is no memory: then old stays. What realloc(3) does, at an eighth of its size. */
void *bb_grow(void *old, size_t used, size_t bytes);

/* fork(2) of a process with one thread: no handlers of pthread_atfork(3) run. */
pid_t xfork(void);
pid_t bb_fork(void); /* -1 with errno. With other threads, the child may only make system calls */

/* The processors that this process may use, 1 or more. */
unsigned get_cpu_count(void);

/* read(2) and write(2), begun again when a signal came. */
ssize_t safe_read(int fd, void *to, size_t bytes);
ssize_t safe_write(int fd, const void *from, size_t bytes);
/* Read or write until everything is done, or the end, or an error. Return the bytes done, or
 * -1 when the first of them failed. */
ssize_t full_read(int fd, void *to, size_t bytes);
ssize_t full_write(int fd, const void *from, size_t bytes);

/* Milliseconds of a clock that nobody sets. */
unsigned long long monotonic_ms(void);

/* A connection to a host, a name or a number; dies when there is none. */
int create_and_connect_stream_or_die(const char *peer, int port);

/* Descriptors 0 to 2 are open from now on, if only for /dev/null: else the next thing
 * that is opened would be taken for one of them. */
void bb_sanitize_stdio(void);

/* fd is /dev/null from now on; if that cannot be opened, it stays as it was. */
void null_fd(int fd);

/* Two names or descriptors of one file. */
static inline bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Columns of the terminal fd, 80 when it cannot be asked. */
int get_terminal_width(int fd);

/* Decimal numbers, the whole string; die when it is none or outside of the range, with the option that has it. */
unsigned xatou(const char *s);
unsigned xatou_range(const char *s, unsigned lower, unsigned upper);

/* The same for more bits; and a suffix behind the number may multiply it. suffixes ends with a mult of 0; NULL: there
 * are none. */
struct suffix_mult {
	char suffix[4];
	unsigned long long mult;
};
extern const struct suffix_mult kMG_suffixes[]; /* k, K, M, G, T: powers of 1024; with a B behind them, of 1000 */
unsigned long long xatoull_sfx(const char *s, const struct suffix_mult *suffixes);
unsigned long long xatoull_range_sfx(const char *s, unsigned long long lower, unsigned long long upper,
				     const struct suffix_mult *suffixes);

/* A list of texts, in order. */
typedef struct llist_t {
	struct llist_t *link;
	char *data;
} llist_t;
/* data stays the caller's. */
void llist_add_to_end(llist_t **list_head, void *data);

/* ---- storage_process.c: that the root file system or swap space depends on ------------------------ */

enum { X_PR_SET_IO_FLUSHER = 57 }; /* linux/prctl.h, of Linux 5.6 */

/* All memory of this process, also what comes, is locked. Dies if that is not allowed. */
void xlock_memory(void);
/* "-1000": the OOM killer leaves this process alone; "0": it does not. False: not set. */
bool set_oom_score(const char *text);
/* systemd leaves a process alone whose name begins so, also when it is about to unmount everything ("Storage Daemons for
 * the Root File System"). */
void name_storage_daemon(void);

/* ---- getopt32.c -------------------------------------------------------------------------- */

#define No_argument       "\0"
#define Required_argument "\001"

/*
 * Takes the options of argv (NULL-terminated; argv[0] is not looked at). options:
 * a letter each, ':' behind those with an argument. long_options: "name\0"
 * No_argument "x" and so on, one after the other. For each letter with ':', in
 * order, a const char ** or char ** follows, which gets the argument; for one with
 * ":*", which may be given many times, an llist_t **.
 *
 * Returns bit i for the i-th letter; those behind the 32nd must have an argument, and have no bit. Arguments may stand
 * between options: they are moved behind them, in their order; argv[optind] is the first. A long option may be cut
 * short as far as it stays unique. Dies with one line on what is unknown.
 */
#if ENABLE_LONG_OPTS
uint32_t getopt32long(char **argv, const char *options, const char *long_options, ...);
#else
uint32_t getopt32(char **argv, const char *options, ...);
#define getopt32long(argv, options, long_options, ...) getopt32(argv, options, ##__VA_ARGS__)
#endif
extern int optind;
/* The word of the command line that argument is behind, or a part of: its option. There is none: "number". */
const char *bb_option_of(const char *argument);

/* ---- main.c ---------------------------------------------------------------------------- */

/* The usage of the applet that runs, on stdout if xfunc_error_retval is 0, else on
 * stderr; exits with it. */
void bb_show_usage(void) NORETURN;

#endif
