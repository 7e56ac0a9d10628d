/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The state that is handed over, between upgrade.c and upgrade_state.c. The core's thread. */
#ifndef SERVER_UPGRADE_STATE_H
#define SERVER_UPGRADE_STATE_H

#define UPGRADE_VARIABLE "XNBD_HANDOVER" /* of the environment: the descriptor of the state */

/* The byte behind the state: what becomes of it. */
enum {
	UPGRADE_NEW = 0,   /* it is only to be looked at */
	UPGRADE_TRIED = 1, /* that was done: another program, which does not know what it is asked, also ends in good order */
};

/* All of the state: puts it into `handover`, or takes it from there (handover.reads); then it dies of what it cannot
 * take. */
void upgrade_handover(void);

#endif
