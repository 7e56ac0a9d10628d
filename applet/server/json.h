/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A reader of JSON (RFC 8259), strict: the caller takes the values that it needs in place, and skips the rest.
 *
 * Pure functions, any thread; a reader is for one thread at a time. They allocate nothing: the text is the caller's,
 * and strings point into it. The reader keeps the first error; everything read after it is meaningless. So it is enough
 * to check for an error at the end.
 */
#ifndef SERVER_JSON_H
#define SERVER_JSON_H

#include <stdbool.h>

enum {
	JSON_DEPTH_MAX = 16, /* levels: of what is skipped */
};

/* All zero at first, but for p, end and line (1). The text is UTF-8, without a zero byte, and with one behind it. */
struct json {
	char *p;         /* the next byte; a 0 ends the text */
	const char *end;
	unsigned line;
	const char *wrong; /* the first error, one line; NULL: none */
	const char *wrong_at;
};

/* Notes an error, unless there is one already. at: where in the text; what: one line, which has to outlive the reader.
 * False, always. */
bool json_wrong(struct json *r, const char *at, const char *what);

/* A string, in its place in the text, which is changed: no escape is shorter than what it means. NULL: it is none. */
char *json_string(struct json *r);
/* An object: each member's value is read by member(), which gets ctx, the key, and where that is. Up to the end of the
 * object, or the first error. */
void json_object(struct json *r, void (*member)(struct json *r, void *ctx, const char *key, const char *key_at), void *ctx);

/* Skips space. */
void json_skip_space(struct json *r);
/* Skips a number, as JSON has them; the value of none is needed. */
void json_skip_number(struct json *r);
/* Skips this word, if it comes next, without space before it. False: it does not, which is not an error. */
bool json_skip_word(struct json *r, const char *word);
/* Skips a value of any kind. depth: the levels around it, less than JSON_DEPTH_MAX; so many with those inside it are
 * an error. */
void json_skip_value(struct json *r, unsigned depth);

#endif
