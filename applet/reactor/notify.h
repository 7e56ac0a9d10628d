/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The service manager (sd_notify(3)): log.c calls this, so that what it is told comes in the order of messages.
 */
#ifndef REACTOR_NOTIFY_H
#define REACTOR_NOTIFY_H

/* Tells it, if there is one (NOTIFY_SOCKET); errors are lost. Any thread; may block as long as it does
 * not read. */
void notify(const char *state);

#endif
