/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The keys of clients with TLS, which are read at the start; these and those of origins are read again while the server runs. */
#include "libbb.h"
#include "reactor/pool.h"
#include "server/life.h"
#include "server/server.h"
#include "storage/paths.h"

static struct {
	struct repeated_job reload;
	char *path; /* absolute: a daemon leaves its directory */
	char error[PSK_ERROR_BYTES];
} keys;

static void keys_run(struct job *j UNUSED_PARAM)
{
	struct psk_list *l = psk_read(keys.path, keys.error);

	if (l)
		psk_use(l);
	else
		bb_error_msg(PSK_STAYS, keys.error);
}

static void keys_done(struct job *j UNUSED_PARAM)
{
	if (repeated_end(&keys.reload))
		keys_reload();
}

void keys_reload(void)
{
	const struct served *s;

	for_each_served(s)
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->export->disk.origin)
			origin_read_key(s->export->disk.origin);
	if (keys.path && repeated_begin(&keys.reload))
		repeated_submit(&keys.reload, JOB_SLOW, keys_run, keys_done);
}

void keys_begin(const char *path)
{
	struct psk_list *l;

	keys.path = xpath_absolute(path);
	l = psk_read(keys.path, keys.error);
	if (!l)
		bb_simple_error_msg_and_die(keys.error);
	psk_use(l);
}

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
void keys_handover(void)
{
	const struct served *s;
	unsigned origins = 0;

	for_each_served(s)
		if (ENABLE_FEATURE_XNBD_SERVER_PROXY && s->export->disk.origin && origin_address(s->export->disk.origin)->psk)
			origins++;
	handover_text(&keys.path);
	psk_handover(origins);
}
#endif
