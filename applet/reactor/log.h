/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Messages of a server that is running. Writing one may block for ever: a pipe that nobody reads, a
 * stopped terminal, a disk that hangs, journald waiting for the disk that we serve. So a separate
 * thread writes them, and whoever has a message never waits.
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

/* Waits, for a bounded time, until what was told is written. At the end, from any thread. */
void log_end(void);

/* For another program in this process: what is not written yet, and where to. It is read before log_begin(). */
void log_handover(void);

/* How many messages could not be written. Any thread. */
uint64_t log_lost(void);

#endif
