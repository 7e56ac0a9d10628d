/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-wrapper's database: a file with all images and proxies that it serves, from which they come back at the next
 * start. It is written anew after each change. An image that cannot be opened stays in the file, and can be retried.
 *
 * Core's thread. Only database_begin() and database_end() block.
 */
#ifndef SERVER_DATABASE_H
#define SERVER_DATABASE_H

/* At the start, behind what the command line names: reads the file, or creates it, and serves what is in it. Takes turns of
 * the loop; dies when the file cannot be used. Sets control_database. */
void database_begin(const char *path);
/* At the end: what is not in the file yet is written, if that takes no more than a few seconds; else a message tells. */
void database_end(void);
/* SIGHUP: tries again what could not be opened, if there is a database. */
void database_reload(void);
/* For another program in this process: see reactor/handover.h. There it replaces database_begin(), behind all exports. */
void database_handover(void);

#endif
