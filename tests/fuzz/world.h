/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The world around the program under test, and its lives. The parts of applet/ are
 * the real ones, built so that what they ask libc for goes through world.c, and so that
 * their globals lie in sections of their own (globals.h). One input is one life: the
 * program begins, lives through what the input tells, and ends; then its memory,
 * globals, descriptors and files are what they were before.
 *
 * Time passes only when the program waits for it. Nothing happens beside it: while it
 * runs, its peers do not; when it waits in epoll_wait(2) and nothing is there, they
 * take a step. So a life is the same each time.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A finding: says why and ends the process. */
void finding(const char *why) __attribute__((noreturn));

/* Of a file of this life; the string is valid until the end of the process. */
const char *world_path(const char *name);
/* Removes what earlier lives have left. */
void world_sweep(void);

/* Runs main with arg until it returns or exits. Its exit status; LIFE_KILLED after ... */
int life(int (*main)(void *arg), void *arg);
/* ... this, as by kill -9. */
void world_kill(void) __attribute__((noreturn));
enum { LIFE_KILLED = 137 };

extern uint64_t world_ms;      /* CLOCK_MONOTONIC */
extern uint64_t world_told_ms; /* when it was told to end */

/* What the program's peers do while it waits; set before life(), none after it. step: true
 * if something was done that may have an effect. read: before a read(2) of fd. */
struct world_peers {
	bool (*step)(void);
	void (*before_read)(int fd);
	void (*synced)(int fd);      /* a fdatasync(2) that went well */
	bool (*connected)(int fd, const char *path); /* a connect(2) to that path: may it? */
	bool (*handed)(int fd);      /* whether that is a descriptor of what was handed over, not asked for before */
};
extern struct world_peers world_peers;

/* Lets time pass until then, though nothing happens. */
extern uint64_t world_pass_until_ms;
extern bool world_disk_full;  /* pwrite(2) says ENOSPC */
extern bool world_sync_fails; /* fdatasync(2) says EIO */
extern bool world_terminal;   /* stderr is one, of ... */
extern unsigned short world_columns;
extern bool world_prints_lines; /* a line on stdout, or stderr that is no terminal, has nothing that a terminal obeys */

/* ---- pool.c: the workers ----------------------------------------------------------- */

extern bool pool_slow; /* jobs are run by pool_step() only */
/* Runs the oldest job, or the newest one. False: there is none. */
bool pool_step(bool newest);

#endif
