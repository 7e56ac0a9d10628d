/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A server in the background: its parent, pid file and log. One thread: that of the start, later the loop's. All but
 * daemon_reopen_log() are for the start: they may block, and die with one line when it cannot be done. Paths are the
 * caller's.
 */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

#include "reactor/handover.h"

/* Before anything else: returns in a child. The parent ends when the child is ready, or with the child's failure. With
 * --restart there is a keeper between them: it returns in another child whenever one was killed, and then true. */
bool daemonize(void);
/* Before anything is changed on disk. */
void daemon_open_log(const char *path);
void daemon_open_pidfile(const char *path);
/* When the server is nearly ready. */
void daemon_write_pidfile(const char *path);
/* Clients can connect from now on. Messages go to the log from here on; before, they went to
 * whoever started us. */
void daemon_ready(void);
/* The end has been asked for: the keeper does not start the server again, also when that is killed before it has ended. */
void daemon_ends(void);
/* For another program in this process: the lock on the pid file, and where the log is. */
void daemon_handover(void);
/* The log's file may have been renamed: a worker opens it anew. */
void daemon_reopen_log(void);

#endif
