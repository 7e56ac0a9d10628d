/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * --root-storage (what such a server needs from the machine), and the program of --exec. One thread: that of the start,
 * later the loop's.
 */
#ifndef SERVER_INIT_H
#define SERVER_INIT_H

#include "reactor/handover.h"
#include "reactor/pool.h"

/* A program to be run, once. */
struct hook {
	struct job job;
	char *argv[3], **envp; /* argv[0] NULL: there is none */
	bool busy; /* it is not begun yet */
	int error; /* the child shares our memory */
};

/* From now on this process needs nothing that could be on the disk it serves; dies when it
 * may not. again: it is the same process, with another program. */
void init_root_storage(bool again);
/* What init_run_hook() is to run, and the image's path, both absolute and kept. At the start:
 * dies when there is no memory. */
void init_hook(struct hook *h, char *program, char *image);
/* Runs the program, on a worker, with the image's path as its argument and in XNBD_IMAGE; the
 * SIGCHLD handler reaps it. Takes no memory and does not wait; an error is logged. */
void init_run_hook(struct hook *h);

/* For another program in this process: the two paths. */
void init_handover(struct hook *h);

#endif
