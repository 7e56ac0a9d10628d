/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Whether a request may be done, and which blocks it needs for that. Pure. */
#include "core/request.h"

/* "Command flags": which are documented for which command. FUA is for all. */
static uint16_t flags_allowed(uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF;
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE;
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

bool core_is_outside(const struct core *c, const struct request *r)
{
	return r->offset > c->size_bytes || r->length > c->size_bytes - r->offset;
}

uint32_t core_check(const struct core *c, const struct request *r)
{
	bool outside = core_is_outside(c, r);

	if (r->type > NBD_CMD_BLOCK_STATUS || r->type == NBD_CMD_DISC)
		return NBD_EINVAL;
	if (r->flags & ~flags_allowed(r->type))
		return NBD_EINVAL;
	if (r->type == NBD_CMD_FLUSH)
		return r->offset || r->length ? NBD_EINVAL : NBD_SUCCESS;
	if (is_write(r)) {
		if (c->readonly)
			return NBD_EPERM;
		if (outside)
			return r->type == NBD_CMD_TRIM ? NBD_EINVAL : NBD_ENOSPC;
	}
	return outside || !r->length ? NBD_EINVAL : NBD_SUCCESS;
}

uint64_t request_first_needed(const struct core *c, struct request *r)
{
	uint64_t first = touched_first(r);
	uint64_t end = touched_end(r);

	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY || map_is_complete(&c->map) || r->type == NBD_CMD_TRIM)
		return UINT64_MAX;
	if (!is_write(r)) {
		r->scan = map_next_missing(&c->map, r->scan > first ? r->scan : first, end);
		return r->scan < end ? r->scan : UINT64_MAX;
	}
	if (first < whole_first(r) && !map_is_local(&c->map, first))
		return first;
	if (end > whole_end(c, r) && !map_is_local(&c->map, end - 1))
		return end - 1;
	return UINT64_MAX;
}

uint64_t request_first_awaited(const struct core *c, struct request *r)
{
	return r->type == NBD_CMD_BLOCK_STATUS ? UINT64_MAX : request_first_needed(c, r);
}

bool core_misses(const struct core *c, struct request *r)
{
	r->scan = 0;
	return request_first_awaited(c, r) != UINT64_MAX;
}
