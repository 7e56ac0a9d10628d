/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The address of an origin, copied and kept. */
#include "libbb.h"
#include "origin/internal.h"
#include "storage/paths.h"

/* Our copy of a host, or NULL. A path is made absolute: a daemon leaves its directory. */
static char *host_dup(const char *host)
{
	char *path, *full;

	if (strncmp(host, "unix:", 5) != 0)
		return strdup(host);
	path = path_absolute(host + 5);
	full = path ? bb_asprintf("unix:%s", path) : NULL;
	free(path);
	return full;
}

void origin_address_of(struct origin_address *a, const struct nbd_uri *u)
{
	a->host = u->path ? xasprintf("unix:%s", u->path) : xstrdup(u->host);
	a->port = u->path ? "-" : u->port;
	a->name = u->export_name;
	a->psk_file = u->psk_file;
}

void address_clear(struct address *a)
{
	free((char *)a->at.host);
	free((char *)a->at.port);
	free((char *)a->at.name);
	free((char *)a->at.psk_file);
	if (ENABLE_FEATURE_XNBD_TLS && a->key_file)
		a->key_file->origin = NULL;
	if (ENABLE_FEATURE_XNBD_TLS && a->at.psk)
		secret_free((struct psk *)a->at.psk, sizeof(*a->at.psk));
	memset(a, 0, sizeof(*a));
}

bool address_set(struct address *a, const struct origin_address *from)
{
	a->at.host = host_dup(from->host);
	a->at.port = strdup(from->port);
	a->at.name = strdup(from->name);
	if (ENABLE_FEATURE_XNBD_TLS && from->psk)
		a->at.psk = psk_dup(from->psk);
	if (ENABLE_FEATURE_XNBD_TLS && from->psk_file)
		a->at.psk_file = path_absolute(from->psk_file);
	if (a->at.host && a->at.port && a->at.name && !a->at.psk == !from->psk && (!ENABLE_FEATURE_XNBD_TLS || !a->at.psk_file == !from->psk_file))
		return true;
	address_clear(a);
	return false;
}
