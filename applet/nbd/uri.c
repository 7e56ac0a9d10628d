/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* URIs of NBD servers. */
#include "nbd/nbd.h"

#include <string.h>

static const char default_port[] = "10809";

static int hex_digit(char c)
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
		high = hex_digit(s[1]);
		low = high < 0 ? -1 : hex_digit(s[2]);
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

	if (strchr(s, '@'))
		return "has a user name, which NBD has not";
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

static const char *parse_query(char *s, struct nbd_uri *u)
{
	char *next;

	for (; s; s = next) {
		next = cut(s, '&');
		if (strncmp(s, "socket=", 7) == 0 && s[7] && nbd_percent_decode(s + 7))
			u->path = s + 7;
	}
	return u->path ? NULL : "has no ?socket=PATH";
}

const char *nbd_uri_parse(char *text, struct nbd_uri *u)
{
	static const char tcp[] = "nbd://", local[] = "nbd+unix://";
	bool is_local = strncmp(text, local, sizeof(local) - 1) == 0;
	char *query, *export;

	memset(u, 0, sizeof(*u));
	if (strncmp(text, "nbds", 4) == 0)
		return "requires TLS, which xnbdbox does not speak";
	if (!is_local && strncmp(text, tcp, sizeof(tcp) - 1) != 0)
		return "is not a URI of NBD over TCP or a Unix socket";
	text += is_local ? sizeof(local) - 1 : sizeof(tcp) - 1;
	query = cut(text, '?');
	export = cut(text, '/');
	if (export && !nbd_percent_decode(export))
		return "has a % that no byte follows";
	u->export_name = export ? export : "";
	if (strlen(u->export_name) > NBD_NAME_MAX)
		return "has too long a name";
	if (!is_local)
		return parse_authority(text, u);
	return *text ? "has a host before the path of a Unix socket" : parse_query(query, u);
}
