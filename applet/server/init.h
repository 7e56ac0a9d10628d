/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* --root-storage: what such a server needs from the machine. The thread of the start. */
#ifndef SERVER_INIT_H
#define SERVER_INIT_H

#include <stdbool.h>

/* From now on this process needs nothing that could be on the disk it serves; dies when it
 * may not. again: it is the same process, with another program. */
void init_root_storage(bool again);
/* The part of it that a process without clients and disk needs. */
void init_root_process(void);
/* In a child of such a process, before exec: it is another program, which gets none of that. Only system calls. */
void init_is_other(void);

#endif
