/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Messages of a server that is running. Writing one may block forever: a pipe that nobody reads, a stopped terminal, a
 * disk that hangs, journald waiting for the disk that we serve. So a separate thread writes them, and the callers never
 * wait.
 */
#ifndef REACTOR_LOG_H
#define REACTOR_LOG_H

#include "reactor/handover.h"

#include <stdbool.h>
#include <stdint.h>

/* Starts that thread. From now on it writes the messages of all threads: to stderr or, with syslog,
 * to /dev/log, or to the kernel's log when nobody listens there. file: stderr is a file, and its lines
 * begin with the time. Dies when the thread cannot be started. */
void log_begin(bool syslog, bool file);

/* Tells the service manager, in the order of messages. Any thread, after log_begin(). */
void log_notify(const char *state);

/* Waits for a bounded time until all queued messages are written. At the end; any thread. */
void log_end(void);

/* Hands over (or restores, before log_begin()) the messages that are not written yet, and their destination. */
void log_handover(void);

/* How many messages could not be written. Any thread. */
uint64_t log_lost(void);

#endif
