/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * How many descriptors the process may have (RLIMIT_NOFILE), and who gets the last of them. The kernel gives the lowest number
 * that is free, so who keeps none above a number leaves all above it to others: images and clients to origins that come back,
 * control sockets, the log, and the service manager.
 */
#ifndef REACTOR_DESCRIPTORS_H
#define REACTOR_DESCRIPTORS_H

#include <stdbool.h>

/* In eighths of all. An image must leave some to clients; a proxy gets its connections to the origin later. */
enum fd_share { FD_IMAGES = 3, FD_CLIENTS = 6 };

/* At the start: raises the limit as far as the process may. Before that, all is everybody's. */
void descriptors_begin(void);
/* So many at most, for a program that is about to replace a child of vfork(2); shares stay as they are. */
void descriptors_limit(unsigned most);
/* Whether fd, which is open, is one of those that such a user leaves to others. Any thread. */
bool fd_is_kept(int fd, enum fd_share share);
/* fd, or -1 with errno, if it is that already, or if it is such a one (EMFILE), which is then closed. Any thread. */
int fd_within(int fd, enum fd_share share);

#endif
