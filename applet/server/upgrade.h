/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Another program replaces this one, in the same process: xnbd-bgctl --upgrade.
 *
 * What the new program finds on the disk is what a start after kill -9 finds, which loses nothing that was answered. In
 * addition, descriptors stay open with their locks, and unanswered requests are handed over and done again. So nothing
 * has to finish first, and nothing has changed if the new program is refused.
 *
 * The core's thread.
 */
#ifndef SERVER_UPGRADE_H
#define SERVER_UPGRADE_H

#include <stdbool.h>

/* Begins to read the program, which is program_fd's file; takes the descriptor. NULL: control_upgraded() will be
 * called, if this program goes on; else why not, in one line. */
const char *upgrade_begin(int program_fd);
/* Between two turns of the loop: when the program has been read, and no sync is under way (for which it is to be called again,
 * for 10 s at most), tries it, and becomes it. Returns if there is nothing to do yet, or it was refused, as while a worker
 * hangs: an exec would wait for its end. Blocks, with all loops standing, until the new program has looked at the state: some
 * milliseconds; one that gives no answer is killed after 5 s. */
void upgrade_now(void);

/* At the start: whether there is another program's state, which has the keys, too. Dies when it is of another version, or not
 * whole. May be called again. */
bool upgrade_found(void);
/* If it is only to be looked at: says so to the other program, and ends. */
void upgrade_is_tried(void);
/* Takes all of it, when there are threads. Dies when it cannot. Of a proxy, reads what is local (store_resume()), while clients
 * wait: the other program has had a worker read the same. */
void upgrade_restore(void);

#endif
