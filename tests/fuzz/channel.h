/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The other end of a socket of the program under test. Nothing here blocks. */
#ifndef FUZZ_CHANNEL_H
#define FUZZ_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHANNEL_BYTES = 1 << 20 };

struct channel {
	int fd;      /* -1: not connected */
	bool unread; /* leaves what comes where it is */
	bool hung_up; /* by the program */
	bool end;    /* shutdown(2) after the last byte */
	uint8_t *out; /* still to be sent; what does not fit is lost */
	size_t out_bytes;
	uint8_t *in; /* what has come; NULL: thrown away */
	size_t in_bytes;
	uint8_t *log; /* with `in`: all that was said */
	size_t log_bytes;
	bool lost; /* there was no room for all of what has come */
};

/* Buffers are kept for the next connection. */
void channel_open(struct channel *c, int fd, bool keeps);
/* -1 when there is nothing that listens. */
int channel_connect(const char *path);
void channel_close(struct channel *c);
void channel_say(struct channel *c, const void *p, size_t n);
/* Sends and receives what can be. True: something was. */
bool channel_step(struct channel *c);
/* The first n bytes of `in` are done with. */
void channel_take(struct channel *c, size_t n);

#endif
