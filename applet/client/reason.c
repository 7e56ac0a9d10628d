/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The text of an error chunk ("Structured reply types"): a few words for a person. */
#include "libbb.h"
#include "client/session.h"

const char *reason(const struct command *x, uint32_t error)
{
	const struct session *s = x->session;
	const struct request *r = &x->req;

	if (error == NBD_EPERM)
		return "read-only";
	if (r->type != NBD_CMD_FLUSH && core_is_outside(s->export->disk.core, r))
		return "outside of the disk";
	if (ENABLE_FEATURE_XNBD_SERVER_SECTORS && error == NBD_EINVAL && r->type != NBD_CMD_FLUSH && !is_aligned(s, r))
		return "no whole sectors";
	if (error == NBD_EIO)
		return r->why ? r->why : "error of the image or its bitmap";
	return ""; /* the error says it all */
}
