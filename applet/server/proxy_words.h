/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The text form of a proxy of xnbd-wrapper: URI KEY=VALUE KEY ...
 *
 * Any thread; a struct proxy_words belongs to one thread at a time.
 */
#ifndef SERVER_PROXY_WORDS_H
#define SERVER_PROXY_WORDS_H

#include "origin/origin.h"
#include "server/database_text.h"

/* The caller sets text and separator; all else is zero at first. The strings point into text, if no other word is said. */
struct proxy_words {
	char *text;            /* its own, of malloc(3); cut into pieces by the parser */
	const char *separator; /* one character */
	struct nbd_uri uri;    /* of the origin */
	struct origin_address origin; /* the same; host, key and psk_file (from the root on) are its own */
	const char *image, *bitmap, *socket;
	const char *commit, *hook, *hold, *rate; /* NULL: not said */
	bool clear, adopt, accept, cover, switched, auto_switch, verify;
	unsigned hold_s;
	uint64_t rate_bytes;
};

/* Dies with what is wrong, without the name of the proxy. Reads the file with the key, if there is one: may block. */
void proxy_words_parse(struct proxy_words *w);
/* What is its own, not the struct. */
void proxy_words_free(struct proxy_words *w);

/* Of an image in the database, with spaces between. The caller's to free(3); NULL: out of memory. */
char *proxy_words_text(const struct database_image *i);
/* What xNBD has no key for, each word with a space before it: without what is meant for one start only, clear-bitmap and the
 * like. commit, hook: the paths as seen from the root. */
void proxy_words_put(const struct proxy_words *w, const char *commit, const char *hook, struct database_text *t);
/* The URI of an origin. host: as xnbd-server takes it. export, user, psk_file: NULL for none; the last for TLS. */
void proxy_words_put_uri(struct database_text *t, const char *host, const char *port, const char *export, const char *user,
			 const char *psk_file);

#endif
