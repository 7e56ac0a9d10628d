/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The program of --exec. One thread: that of the start, later the loop's. */
#ifndef SERVER_HOOK_H
#define SERVER_HOOK_H

#include "reactor/handover.h"
#include "reactor/pool.h"

/* A program to be run, once. */
struct hook {
	struct job job;
	char *argv[3], **envp; /* argv[0] NULL: there is none */
	bool busy; /* it is not begun yet */
	int error; /* the child shares our memory */
};

/* What hook_begin() is to run, and the image's path, both absolute and kept. At the start:
 * dies when there is no memory. */
void hook_init(struct hook *h, char *program, char *image);
/* Runs the program, on a worker, with the image's path as its argument and in XNBD_IMAGE; the
 * SIGCHLD handler reaps it. Takes no memory and does not wait; an error is logged. */
void hook_begin(struct hook *h);

/* For another program in this process: the two paths. */
void hook_handover(struct hook *h);

#endif
