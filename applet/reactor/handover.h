/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What a server hands over to the program that takes its place in the same process (server/upgrade.c):
 * numbers, bytes and descriptors, one behind the other. Each is marked by its kind, so a reader that expects
 * something else notices. In which order they come, writer and reader have to agree: HANDOVER_VERSION names it.
 *
 * The core's thread. The caller owns the memory: handover_free().
 */
#ifndef REACTOR_HANDOVER_H
#define REACTOR_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HANDOVER_VERSION = 1 };

struct handover {
	uint8_t *bytes;
	size_t count; /* written, or to be read */
	size_t room;  /* for writing */
	size_t at;    /* of the next to be read */
	int *fds;     /* that were written */
	unsigned fd_count;
	bool bad;     /* there was no memory, or what is read is not what was written */
	bool trial;   /* what is read is only looked at: nobody does anything with it */
};

/* Writing. After h->bad they do nothing. */
void handover_put(struct handover *h, uint64_t number);
void handover_put_bytes(struct handover *h, const void *p, size_t n);
/* NULL is "". */
void handover_put_string(struct handover *h, const char *s);
/* fd: stays the caller's; -1: none. */
void handover_put_fd(struct handover *h, int fd);
/* Whether a new program gets the descriptors that were written. */
void handover_keep_fds(const struct handover *h, bool keep);

/* Reading. What is not there sets h->bad, and is 0, nothing or -1 from then on. */
uint64_t handover_get(struct handover *h);
/* A number of at most `most`. */
uint32_t handover_get_number(struct handover *h, uint32_t most);
/* The bytes stay where they are in h: *n of them, at most `most`. */
const uint8_t *handover_get_bytes(struct handover *h, size_t *n, size_t most);
/* Allocated, the caller's; NULL: "", or bad. */
char *handover_get_string(struct handover *h);
/* The caller's, and no new program gets it; -1: none. In a trial it is a number and nothing else. */
int handover_get_fd(struct handover *h);

void handover_free(struct handover *h);

#endif
