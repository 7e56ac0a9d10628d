/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* URIs of NBD servers. */
#include "nbd/nbd.h"
#include "autoconf.h"

#include <string.h>

static const char default_port[] = "10809";

int nbd_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 'a' - 'A';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool nbd_percent_decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		int high, low;

		if (*s != '%') {
			*to++ = *s;
			continue;
		}
		high = nbd_hex_digit(s[1]);
		low = high < 0 ? -1 : nbd_hex_digit(s[2]);
		if (low < 0 || !(high | low))
			return false;
		*to++ = (char)(high << 4 | low);
		s += 2;
	}
	*to = '\0';
	return true;
}

/* Ends the text at the first c, and returns what is behind it; NULL: there is none. */
static char *cut(char *s, char c)
{
	char *at = strchr(s, c);

	if (at)
		*at++ = '\0';
	return at;
}

/* HOST, HOST:PORT, [IPV6] or [IPV6]:PORT. */
static const char *parse_authority(char *s, struct nbd_uri *u)
{
	char *port;

	if (*s == '[') {
		port = cut(++s, ']');
		if (!port || (*port && *port != ':'))
			return "has no address between its brackets";
		port = cut(port, ':');
	} else {
		port = cut(s, ':');
	}
	if (!*s || !nbd_percent_decode(s))
		return "has no host";
	u->host = s;
	u->port = port && *port ? port : default_port;
	return NULL;
}

/* "USER@" in front of the authority, which is returned. */
static char *parse_user(char *s, struct nbd_uri *u)
{
	char *authority = cut(s, '@');

	if (!authority)
		return s;
	u->user = nbd_percent_decode(s) ? s : ""; /* which no key has as its name */
	return authority;
}

static void parse_query(char *s, struct nbd_uri *u)
{
	char *next;

	for (; s; s = next) {
		next = cut(s, '&');
		if (strncmp(s, "socket=", 7) == 0 && s[7] && nbd_percent_decode(s + 7))
			u->path = s + 7;
		else if (strncmp(s, "tls-psk-file=", 13) == 0 && s[13] && nbd_percent_decode(s + 13))
			u->psk_file = s + 13;
	}
}

/* Behind its text, or NULL. */
static char *after(char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

bool nbd_is_uri(const char *text)
{
	const char *colon = strchr(text, ':');

	return colon && strncmp(colon, "://", 3) == 0;
}

const char *nbd_uri_parse(char *text, struct nbd_uri *u)
{
	char *query, *export, *rest = after(text, "nbd");
	bool is_local;

	memset(u, 0, sizeof(*u));
	u->tls = rest && *rest == 's';
	rest = rest ? after(rest + u->tls, "+unix://") : NULL;
	is_local = rest;
	if (!is_local)
		rest = after(text, u->tls ? "nbds://" : "nbd://");
	if (!rest)
		return "is not a URI of NBD over TCP or a Unix socket";
	if (!ENABLE_FEATURE_XNBD_TLS && u->tls)
		return "requires TLS, which this xnbdbox does not speak";
	query = cut(rest, '?');
	export = cut(rest, '/');
	if (export && !nbd_percent_decode(export))
		return "has a % that no byte follows";
	u->export_name = export ? export : "";
	if (strlen(u->export_name) > NBD_NAME_MAX)
		return "has too long a name";
	parse_query(query, u);
	if (u->tls)
		rest = parse_user(rest, u);
	else if (strchr(rest, '@'))
		return "has a user name, which needs TLS: nbds://";
	if (u->tls && !u->psk_file)
		return "has no ?tls-psk-file=FILE";
	if (!u->tls && u->psk_file)
		return "has tls-psk-file=, which needs TLS: nbds://";
	if (!is_local) {
		u->path = NULL;
		return parse_authority(rest, u);
	}
	if (*rest)
		return "has a host before the path of a Unix socket";
	return u->path ? NULL : "has no ?socket=PATH";
}
