/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The text of an error chunk ("Structured reply types"): a few words for a person. */
#include "libbb.h"
#include "client/session.h"

const char *reason(const struct core *c, const struct request *r, uint32_t error)
{
	if (error == NBD_EPERM)
		return "read-only";
	if (r->type != NBD_CMD_FLUSH && core_is_outside(c, r))
		return "outside of the disk";
	if (error == NBD_EIO)
		return r->why ? r->why : "error of the image or its bitmap";
	return ""; /* the error says it all */
}
