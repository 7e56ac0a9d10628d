/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A server, its clients and its origin, as an input tells it.
 *
 * Three bytes say what server and what origin (enum below). What follows are bytes that
 * somebody sends to the server. "|*|" and a letter stand between them:
 *
 *   . what follows is sent when the server has nothing more to do
 *   a b c    what follows is from this NBD client, which connects if it has not
 *   k l      ... from this client of the control socket
 *   o p      ... from the origin, on its newest connection, the one before
 *   #        the next byte says how many KiB of anything are sent
 *   w x u    the one who sends: ends its stream; hangs up; reads no more, or again
 *   m t T    0.1, 1, 35 seconds pass
 *   s        SIGUSR2
 *   d f      the disk is full, or no more; syncs fail, or no more
 *   j J      slow disk: the oldest, the newest job is done
 *   R        the origin answers as it should what it was asked
 *   h        the origin hangs up
 *   y z      the origin is a disk of another size; of other content; or no more
 *   !        kill -9: what follows is for the next server, on what is there
 */
#ifndef FUZZ_SCRIPT_H
#define FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCRIPT_SERVER, SCRIPT_ORIGIN, SCRIPT_MORE, SCRIPT_HEAD };

enum script_server {
	SERVER_PROXY = 1 << 0,
	SERVER_READONLY = 1 << 1,
	SERVER_OLDSTYLE = 1 << 2,
	SERVER_POOR = 1 << 3, /* little memory, few requests */
	SERVER_HOLD = 1 << 4,
	SERVER_SLOW = 1 << 5, /* disk: see pool.c */
	SERVER_AGAIN = 1 << 6, /* clients leave before its end; it is started once more on what it has left */
	SERVER_CACHE = 1 << 7, /* a cache of xNBD is there */
};

enum script_origin {
	ORIGIN_SIZE = 7, /* index of the disk's size */
	ORIGIN_SIMPLE = 1 << 3, /* no structured replies */
	ORIGIN_NO_STATUS = 1 << 4,
	ORIGIN_UNIT = 1 << 5, /* its blocks are larger than ours */
	ORIGIN_MULTI = 1 << 6,
	ORIGIN_SICK = 1 << 7, /* cannot read some blocks */
};

enum script_more {
	MORE_LEAVES = 15, /* the origin hangs up after so many replies, times 8; 0 = never */
	MORE_BY_HAND = 1 << 4,  /* all that the origin says is from the input ... */
	MORE_VERIFIED = 1 << 5, /* ... but the handshake and the samples */
	MORE_SMALL = 1 << 6,    /* origin's maximum payload */
};

/* When script_begin() has said yes: that server is xnbd-wrapper. */
extern bool script_wrapper;

/* One input, its bytes going to this channel first. The exit status of the last start. */
int script_run(const uint8_t *data, size_t n, char channel);

/* Called in a life before the server begins. True: this start may be refused, and what clients see is not checked; NULL: no. */
extern bool (*script_begin)(void);

/* Puts other files there before the first start; NULL: no others. */
extern void (*script_files)(uint64_t size_bytes);
void script_put_file(const char *name, const void *p, size_t n, uint64_t offset);
/* Returns the bytes that are there; 0: none, or no such file. */
size_t script_read_file(const char *name, void *to, size_t room);

#endif
