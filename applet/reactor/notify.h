/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The service manager (sd_notify(3)): log.c calls this, so that what it is told comes in the order of messages.
 */
#ifndef REACTOR_NOTIFY_H
#define REACTOR_NOTIFY_H

/* Sends state to the service manager, if there is one (NOTIFY_SOCKET); errors are ignored. Any
 * thread; may block for as long as the service manager does not read. */
void notify(const char *state);

#endif
