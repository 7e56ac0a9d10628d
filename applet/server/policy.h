/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What a proxy does by itself when its disk is complete: compare, switch, run the hook. Loop's thread;
 * nothing here blocks. c: the core of the one disk there is, which has begun as a proxy.
 */
#ifndef SERVER_POLICY_H
#define SERVER_POLICY_H

#include "core/core.h"
#include "reactor/handover.h"

/* A switch without force. NULL: it is under way, or done; else why not. */
const char *policy_switch(struct core *c);
/* --auto-switch, --verify and --exec: once a turn. */
void policy_apply(struct core *c);

/* For another program in this process. The comparison of --verify begins anew. */
void policy_handover(void);

#endif
