/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Options of the command lines of both servers: what they set, and which values and combinations make no sense. */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "device/kernel_nbd.h"
#include "device/ublk.h"
#include "reactor/message.h"
#include "server/server.h"
#include "storage/cow.h"

enum { CLIENTS_MAX = 1 << 20 }; /* more than there are descriptors; devices have places beside them */

static unsigned thread_count(const struct server_config *config, const char *threads)
{
	unsigned n = xatou_range(threads, 0, LOOPS_MAX);

	if (!n)
		n = get_cpu_count();
	/* A read through the page cache beside a direct write needs the core's ranges. */
	if (config->one_client || config->exports.root_storage)
		n = 1;
	return n < LOOPS_MAX ? n : LOOPS_MAX;
}

/* Its requests come to one thread forever, which the core's loop has not. */
static bool has_ublk(const struct server_config *config)
{
	const llist_t *l;

	for (l = config->devices; l; l = l->link) {
		const char *equals = strrchr(l->data, '=');

		if (equals && ublk_index(equals + 1) >= 0)
			return true;
	}
	return config->device && ublk_index(config->device) >= 0;
}

void server_limits(struct server_config *config, const char *clients, const char *queue, const char *buf, const char *threads)
{
	const struct export_config *e = &config->exports;
	bool is_passed = listen_is_passed();

	if (ENABLE_FEATURE_XNBD_SERVER_INIT && ENABLE_FEATURE_XNBD_SERVER_COW && e->root_storage && (e->cow || e->cow_client))
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--root-storage") IF_NOT_LONG_OPTS("-K") " cannot be combined with copy on write");
	config->limits.sessions = xatou_range(clients, 0, CLIENTS_MAX);
	config->limits.requests = xatou(queue);
	config->max_buf_bytes = xatoull_sfx(buf, kMG_suffixes);
	config->threads = ENABLE_FEATURE_XNBD_SERVER_THREADS ? thread_count(config, threads) : 1;
	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && config->threads == 1 && has_ublk(config))
		config->threads = 2;
	config->exports.loops = config->threads;
	if (xatou_range(config->lport, 0, 65535) == 0)
		config->lport = NULL;
	if (!config->lport && !config->unix_path && !config->one_client && !config->device && !config->devices && !is_passed)
		bb_simple_error_msg_and_die("nothing to listen on: give " IF_LONG_OPTS("--lport or --unix") IF_NOT_LONG_OPTS("-l or -u"));
}

#if ENABLE_FEATURE_XNBD_SERVER_DEVICE
void server_devices(struct server_config *config, const char *connections)
{
	config->connections = connections ? xatou_range(connections, 1, KERNEL_NBD_CONNECTIONS_MAX) : 1;
	if ((connections || config->keep_device) && !config->device && !config->devices)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--connections and --keep-device are for --device") IF_NOT_LONG_OPTS("-N and -J are for -D"));
	if (config->keep_device && config->exports.cow)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--keep-device") IF_NOT_LONG_OPTS("-J") " of a copy-on-write target: its data ends with the server");
}
#endif

void server_sectors(struct server_config *config, const char *sector, const char *discard)
{
	if (sector) {
		uint64_t n = xatoull_sfx(sector, kMG_suffixes);

		if (n != 512 && n != BLOCK_BYTES)
			bb_error_msg_and_die("the sector size is 512 or 4096, not '%s'", sector);
		config->exports.sector_bytes = (uint32_t)n;
	}
	if (!discard)
		return;
	config->exports.keeps_space = strcmp(discard, "ignore") == 0;
	if (!config->exports.keeps_space && strcmp(discard, "unmap") != 0)
		bb_error_msg_and_die(IF_LONG_OPTS("--discard") IF_NOT_LONG_OPTS("-U") " is 'ignore' or 'unmap', not '%s'", discard);
}

void server_descriptions(struct server_config *config, const llist_t *list)
{
	config->exports.descriptions = list;
	for (; list; list = list->link) {
		const char *equals = strchr(list->data, '=');

		if (!equals)
			bb_error_msg_and_die("'%s' must be NAME=TEXT", (char *)list->data);
		if (strlen(equals + 1) > NBD_NAME_MAX)
			bb_simple_error_msg_and_die("a description has at most 4096 bytes");
	}
}

void server_cow_client(struct server_config *config, const char *limit)
{
	if (limit && !config->exports.cow_client)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--cow-limit is for --cow-client") IF_NOT_LONG_OPTS("-G is for -O"));
	if (limit)
		cow_limit_bytes = xatoull_sfx(limit, kMG_suffixes);
	if (config->exports.cow_client && (config->device || config->devices))
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--device cannot be combined with --cow-client") IF_NOT_LONG_OPTS("-D cannot be combined with -O"));
}

void server_tls(struct server_config *config, const char *mode)
{
	config->limits.tls = config->tls_psk ? NBD_TLS_ON : NBD_TLS_UNKNOWN;
	if (!mode)
		return;
	if (strcmp(mode, "off") == 0)
		config->limits.tls = NBD_TLS_OFF;
	else if (strcmp(mode, "require") == 0)
		config->limits.tls = NBD_TLS_REQUIRE;
	else if (strcmp(mode, "on") != 0)
		bb_error_msg_and_die(IF_LONG_OPTS("--tls") IF_NOT_LONG_OPTS("-e") " is off, on or require, not '%s'", mode);
	if (config->limits.tls != NBD_TLS_OFF && !config->tls_psk)
		bb_simple_error_msg_and_die("TLS needs keys: give " IF_LONG_OPTS("--tls-psk") IF_NOT_LONG_OPTS("-E"));
	if (config->limits.tls == NBD_TLS_REQUIRE && (config->limits.oldstyle || config->past_handshake))
		bb_simple_error_msg_and_die("TLS cannot be required of clients without a newstyle handshake");
}

#if ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY
void server_key_rules(struct server_config *config, const llist_t *rules)
{
	key_rules_check(rules);
	config->limits.key_rules = rules;
	if (rules && config->limits.tls < NBD_TLS_ON)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--allow-key needs TLS: give --tls-psk") IF_NOT_LONG_OPTS("-k needs TLS: give -E"));
}
#endif
