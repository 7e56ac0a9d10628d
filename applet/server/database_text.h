/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The text of xnbd-wrapper's database: JSON, version 2 of xNBD.
 *
 *   {"version": 2, "images": {NAME: {...}, ...}}
 *
 * An image has the keys of enum database_field, all strings; which of them it needs, `mode` says. Other keys are
 * skipped. The parser is strict, since others may have written the file: RFC 8259, valid UTF-8, and no string that
 * contains a zero byte.
 *
 * Pure functions, any thread; but for the last two, which read a file.
 */
#ifndef SERVER_DATABASE_TEXT_H
#define SERVER_DATABASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DATABASE_BYTES_MAX = 16 << 20, /* of the text: it is read into memory, and no real one is longer */
	DATABASE_IMAGES_MAX = 10000,   /* each name is compared with all others */
};

/* xNBD's; the last three are ours, and only of a proxy that needs them. */
enum database_field {
	DATABASE_MODE, /* "target" or "proxy" */
	DATABASE_IMAGE,
	DATABASE_BITMAP, /* this and the following: of a proxy */
	DATABASE_CONTROL,
	DATABASE_HOST, /* as xnbd-server takes it: "unix:PATH" is a Unix socket */
	DATABASE_PORT,
	DATABASE_EXPORT, /* NULL: the default export */
	DATABASE_URI,    /* of an origin with TLS; the three above tell the same, without the key */
	DATABASE_WORDS,  /* further words of add-proxy, with spaces between them */
	DATABASE_KEPT,   /* why it is not served; for xnbd-bgctl --all, a start passes it over */
	DATABASE_FIELDS,
};

/* An image. All texts are the owner's of the list. */
struct database_image {
	const char *name;
	const char *field[DATABASE_FIELDS]; /* NULL: it is not there, or null */
	struct database_image *next;
};

/* What is wrong in a text, and where it was found. */
struct database_error {
	const char *what;       /* one line */
	unsigned line;          /* from 1 */
	size_t at;              /* byte, from 0 */
};

/* Parses n bytes (at most DATABASE_BYTES_MAX) of text, which is modified; text[n] must be 0. Returns the images in
 * order, with strings that point into text; the caller frees the list with database_free(). NULL with error->what: it
 * is refused. NULL without: there are none. */
struct database_image *database_parse(char *text, size_t n, struct database_error *error);
void database_free(struct database_image *list);

/* A text that grows: all zero at first. */
struct database_text {
	char *text; /* the caller's to free(3) */
	size_t bytes, room;
	unsigned images;
	bool lacks; /* out of memory: the rest is missing */
};
/* In this order: begin, one put for each image, end. */
void database_begin_text(struct database_text *t);
void database_put(struct database_text *t, const struct database_image *i);
void database_end_text(struct database_text *t);

/* Other texts: s as it is; s with %XX instead of all bytes but letters, digits, "-._~" and those of kept. */
void database_put_text(struct database_text *t, const char *s);
void database_put_encoded(struct database_text *t, const char *s, const char *kept);

/* ---- database_read.c: whoever reads such a file checks it in the same way. They block, and die with one line. --------------- */

/* All of fd, a regular file, with a 0 behind it; the caller frees it. path: for messages. */
char *database_xread(int fd, const char *path, size_t *bytes);
/* Like database_parse(); a text of no bytes has no images. */
struct database_image *database_xparse(char *text, size_t n, const char *path);

#endif
