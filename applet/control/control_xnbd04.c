/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The control protocol of xNBD: a native 32-bit command, and what that command needs.
 * For its own xnbd-bgctl, and the scripts around it.
 */
//config:config FEATURE_XNBD_SERVER_OLD_CONTROL
//config:	bool "xNBD's control protocol (1.6 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	The control socket also serves the xnbd-bgctl of xNBD 0.4.
#include "libbb.h"
#include "client/client.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/buf.h"

enum xnbd04_command {
	XNBD04_QUERY_STATUS = 1,
	XNBD04_REGISTER_FD,
	XNBD04_REGISTER_FORWARDER_FD,
	XNBD04_REGISTER_SHARED_BUFFER_FD,
	XNBD04_DETECT_SWITCH,

	XNBD04_TEXT_BYTES = 4096,
};

/* The answer to XNBD04_QUERY_STATUS; both ends are of one machine, and one word size. */
struct xnbd04_status {
	int64_t disk_size;
	char image[XNBD04_TEXT_BYTES];
	char bitmap[XNBD04_TEXT_BYTES];
	int32_t pid;
	char host[XNBD04_TEXT_BYTES];
	char port[XNBD04_TEXT_BYTES];
	size_t buf_limit, queue_limit, buf_used, queue_used;
};
_Static_assert(offsetof(struct xnbd04_status, buf_limit) == (12 + 4 * XNBD04_TEXT_BYTES + sizeof(size_t) - 1) / sizeof(size_t) * sizeof(size_t),
	       "the same in xnbd_bgctl_xnbd04.c");

static void put_text(char *to, const char *text)
{
	snprintf(to, XNBD04_TEXT_BYTES, "%s", text);
}

static void emit_status(struct control *k)
{
	const struct export *e = k->export;
	struct core_status core;
	struct xnbd04_status s;

	core_status(e->disk.core, &core);
	memset(&s, 0, sizeof(s));
	s.disk_size = (int64_t)e->nbd.size_bytes;
	put_text(s.image, e->disk.path[FILE_IMAGE]);
	put_text(s.bitmap, e->disk.path[FILE_BITMAP]);
	s.pid = getpid();
	put_text(s.host, origin_address(e->disk.origin)->host);
	put_text(s.port, origin_address(e->disk.origin)->port);
	s.buf_limit = (size_t)control_config.max_buf_bytes;
	s.queue_limit = client_limits.requests;
	s.buf_used = (size_t)buf_used();
	s.queue_used = core.in_flight;
	control_emit(k, &s, sizeof(s));
	control_finish(k);
}

/* The session that was handed over has ended, and all it asked for is done. */
static void session_ended(void *ctx)
{
	struct control *k = ctx;

	k->xnbd04_session = NULL;
	control_emit(k, "", 1);
	control_finish(k);
}

static void adopted(void *ctx, const char *error, bool refused)
{
	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database && !error)
		control_database->save(NULL, NULL); /* it has another address */
	if (error && refused)
		disk_error_msg(ctx, "the origin that was handed over is refused: %s; the old one stays", error);
	else if (error)
		disk_error_msg(ctx, "%s", error);
}

/* The command that needs a descriptor has got it. False: close the connection. */
static bool receive_fd(struct control *k, uint32_t command)
{
	struct export *e = k->export;
	const char *why = "none is wanted now";
	int fd = k->passed_fd;

	k->passed_fd = -1;
	switch (command) {
	case XNBD04_REGISTER_FD:
		if (e->removed) /* its end may have begun */
			break;
		k->xnbd04_session = session_begin(fd, e);
		if (k->xnbd04_session)
			session_tell(k->xnbd04_session, session_ended, k);
		return k->xnbd04_session != NULL;
	case XNBD04_REGISTER_FORWARDER_FD:
		if (core_is_proxy(e->disk.core))
			why = origin_adopt(e->disk.origin, fd, adopted);
		if (!why)
			return false;
		disk_error_msg(&e->disk, "an origin was handed over, but %s", why);
		break;
	}
	close(fd); /* a shared buffer is of no use here */
	return false;
}

bool xnbd04_begins(const struct control *k)
{
	uint8_t b = (uint8_t)k->in[0];

	return k->in_bytes && (b < '\n' || b >= 0x7f);
}

bool xnbd04_parse(struct control *k)
{
	uint32_t command;

	if (k->xnbd04_session) { /* any byte: the session is to end */
		k->in_bytes = 0;
		session_drain(k->xnbd04_session);
		return true;
	}
	if (k->xnbd04_detects || k->in_bytes < sizeof(command))
		return k->in_bytes < CONTROL_IN_BYTES;
	memcpy(&command, k->in, sizeof(command));
	switch (command) {
	case XNBD04_QUERY_STATUS:
		emit_status(k);
		return true;
	case XNBD04_REGISTER_FD:
	case XNBD04_REGISTER_FORWARDER_FD:
	case XNBD04_REGISTER_SHARED_BUFFER_FD:
		if (k->passed_fd < 0) /* comes with the byte behind the command */
			return k->in_bytes == sizeof(command);
		k->in_bytes = 0;
		return receive_fd(k, command);
	case XNBD04_DETECT_SWITCH:
		k->in_bytes = 0;
		k->xnbd04_detects = core_is_proxy(k->export->disk.core);
		return k->xnbd04_detects;
	default:
		return false;
	}
}

void xnbd04_end(struct control *k)
{
	if (k->xnbd04_session)
		session_disown(k->xnbd04_session);
	k->xnbd04_session = NULL;
	k->xnbd04_detects = false;
}
