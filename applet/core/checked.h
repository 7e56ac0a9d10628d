/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The ports as the files of core/ call them, and assert(3). Without NDEBUG, that is, in builds with sanitizers and in
 * the core's tests, the core notes that a port function is running, and asserts that nothing calls into the core
 * meanwhile.
 */
#ifndef CORE_CHECKED_H
#define CORE_CHECKED_H

#include "core/internal.h"

#include <assert.h>

#ifndef NDEBUG
#define port_io(c, io) ({ \
	(c)->in_port = true; \
	bool complete_ = port_io(c, io); \
	(c)->in_port = false; \
	complete_; })
#define port_alloc(c, n) ({ \
	(c)->in_port = true; \
	void *memory_ = port_alloc(c, n); \
	(c)->in_port = false; \
	memory_; })
#define IN_PORT(c, call) ((c)->in_port = true, call, (void)((c)->in_port = false))
#define port_free(c, p, n) IN_PORT(c, port_free(c, p, n))
#define port_reply(c, r) IN_PORT(c, port_reply(c, r))
#define port_conn_read(c, conn, cookie, offset, length) IN_PORT(c, port_conn_read(c, conn, cookie, offset, length))
#define port_conn_status(c, conn, cookie, offset, length) IN_PORT(c, port_conn_status(c, conn, cookie, offset, length))
#define port_copy_conn(c, wanted) IN_PORT(c, port_copy_conn(c, wanted))
#define port_conns_close(c) IN_PORT(c, port_conns_close(c))
#define port_switch(c, complete) IN_PORT(c, port_switch(c, complete))
#define port_job_changed(c) IN_PORT(c, port_job_changed(c))
#endif

#endif
