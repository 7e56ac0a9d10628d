/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The file of xnbd-wrapper's database, for database.c, which knows what is in it. Core's thread; only
 * database_file_begin() blocks.
 */
#ifndef SERVER_DATABASE_FILE_H
#define SERVER_DATABASE_FILE_H

#include "control/control.h"
#include "server/database_text.h"

/* Absolute; NULL: there is no database. */
extern const char *database_path;

/* Opens the file, or creates it, and locks it. Returns what is in it, which the caller frees. Dies if that cannot be
 * done. */
char *database_file_begin(const char *path, size_t *bytes);
/* Has the file written, once more if that is under way; done (or NULL) is called behind that, as control_done. */
void database_save(control_done *done, void *ctx);
bool database_is_writing(void);
/* ... or could not be, and is tried again. */
bool database_is_unwritten(void);
/* In database.c: what the file is to have now. The caller frees t->text. */
void database_make_text(struct database_text *t);

/* NULL, or why t is nothing for the file. */
const char *database_is_too_large(const struct database_text *t);
/* For another program in this process, or from it: the file, locked. */
void database_file_handover(void);

/* Who is answered when something has been done. */
struct waiter {
	control_done *done;
	void *ctx;
	struct waiter *next;
};

/* done may be NULL: nobody waits. Without memory, it is answered at once. */
void waiter_add(struct waiter **list, control_done *done, void *ctx);
/* why: NULL, or what went wrong. The list is empty then; a callback may add to it. */
void waiters_answer(struct waiter **list, const char *why);

#endif
