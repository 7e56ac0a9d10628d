/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * What a proxy does by itself when its disk is complete: compare, switch, run the hook. Core's thread;
 * nothing here blocks. c: the core of its disk, which has begun as a proxy.
 */
#ifndef SERVER_POLICY_H
#define SERVER_POLICY_H

#include "core/core.h"
#include "reactor/handover.h"
#include "server/hook.h"

/* Zeroed but for the first three; its memory is the caller's, and lives as long as c. */
struct policy {
	bool auto_switch, verify; /* --auto-switch, after --verify */
	struct hook hook;         /* --exec */
	struct commit_waiter own_switch; /* asked for by a signal or by ourselves; done NULL: none */
	uint64_t again_ms;        /* no switch by ourselves before that */
	bool has_begun, has_told; /* the comparison; what is wrong */
	bool hook_done;
	bool has_looked, was_complete, was_target; /* policy_tell() */
};

/* A switch without force. NULL: it is under way, or done; else why not. */
const char *policy_switch(struct policy *p, struct core *c);
/* --auto-switch, --verify and --exec: once a turn. */
void policy_apply(struct policy *p, struct core *c);
/* Once a turn: tells when all blocks are local, and of the switch, whoever wanted it. */
void policy_tell(struct policy *p, const struct core *c);

/* For another program in this process. The comparison of --verify restarts. */
void policy_handover(struct policy *p);

#endif
