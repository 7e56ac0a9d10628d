/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The lines of --verbose, about clients and errors: a sentence, followed by "key=value" words. They are rate-limited:
 * at most VERBOSE_LINES of each kind per second, then one line with the number of those left out.
 *
 * The thread of any loop. Nothing blocks.
 */
#ifndef REACTOR_VERBOSE_H
#define REACTOR_VERBOSE_H

#include "autoconf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum verbose_kind {
	VERBOSE_CLIENTS,  /* come and go */
	VERBOSE_REFUSALS, /* of clients */
	VERBOSE_ERRORS,   /* replies that are errors */
	VERBOSE_DISK,     /* errors of files, and of the origin */
	VERBOSE_KINDS
};

enum {
	VERBOSE_LINES = 4,   /* of a kind, in a second: more tell nobody more */
	VERBOSE_MS = 1000,   /* the length of that second */
	VERBOSE_WORD = 160,  /* room for a name in a line; what is longer is cut */
};

/* Set before the first loop. */
extern bool verbose_is_on;

static inline bool is_verbose(void)
{
	return ENABLE_FEATURE_XNBD_SERVER_VERBOSE && verbose_is_on;
}

/* Writes a line of this kind, or counts it. */
void verbose_line(enum verbose_kind kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* At the end: writes now how many were left out. */
void verbose_end(void);
/* How many were left out so far. */
uint64_t verbose_left_out(void);

/* n bytes of a name as a word of `room` bytes at most, with a NUL; what would end the word or the line, or write to a
 * terminal, is %XX. What does not fit is cut, and ends with "...". Returns `to`. Any thread. */
char *verbose_word(char *to, size_t room, const char *name, size_t n);

#endif
