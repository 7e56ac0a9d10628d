/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Messages of a server that serves. A write of them may block for ever: a pipe that nobody
 * reads, a stopped terminal, a disk that hangs, journald waiting for the disk that is
 * served. So a thread of its own writes them, and who has a message never waits.
 */
#ifndef REACTOR_LOG_H
#define REACTOR_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* From now on messages of all threads go this way: to stderr; syslog: to /dev/log or, when
 * nobody listens there, to the kernel's log. Dies when a thread cannot be had. */
void log_begin(bool syslog);

/* Tells the service manager, in the order of messages. Any thread, after log_begin(). */
void log_notify(const char *state);

/* Waits, for a bounded time, until what was told is written. At the end, from any thread. */
void log_end(void);

/* How many messages could not be written. Any thread. */
uint64_t log_lost(void);

#endif
