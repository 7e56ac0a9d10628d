/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Which addresses may connect. */
//config:config FEATURE_XNBD_SERVER_ALLOW
//config:	bool "--allow (860 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Only clients of some addresses may connect.
#include "libbb.h"
#include "client/listen.h"

#include <arpa/inet.h>

enum {
	V4_BITS = 96, /* in front of an address of IPv4, as IPv6 writes it */
};

/* Both families in one form: ::ffff:A.B.C.D. */
static struct allowed {
	struct in6_addr address;
	unsigned bits;
} *allowed;
static unsigned count;

static void map_v4(struct in6_addr *to, const struct in_addr *v4)
{
	memset(to, 0, sizeof(*to));
	memset(to->s6_addr + 10, 0xff, 2);
	memcpy(to->s6_addr + 12, v4, sizeof(*v4));
}

/* Whether the first n bits of a and b are the same. */
static bool is_prefix(const struct in6_addr *a, const struct in6_addr *b, unsigned n)
{
	unsigned bytes = n / 8, mask = 0xff00U >> n % 8;

	return !memcmp(a, b, bytes) && (!(n % 8) || !((a->s6_addr[bytes] ^ b->s6_addr[bytes]) & mask));
}

/* ADDRESS or ADDRESS/BITS. text: is changed. False: it is none. */
static bool parse(char *text, struct allowed *a)
{
	char *slash = strchrnul(text, '/');
	bool has_bits = *slash;
	unsigned max = 128, first = 0, bit;
	struct in_addr v4;

	*slash = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1) {
		map_v4(&a->address, &v4);
		first = V4_BITS;
		max = 32;
	} else if (!ENABLE_FEATURE_IPV6 || inet_pton(AF_INET6, text, &a->address) != 1) {
		return false;
	}
	a->bits = first + (has_bits ? xatou_range(slash + 1, 0, max) : max);
	/* A network has no bits behind its own: who gives some means another one. */
	for (bit = a->bits; bit < 128; bit++)
		if (a->address.s6_addr[bit / 8] & 0x80U >> bit % 8)
			return false;
	return true;
}

void allow_parse(const char *list)
{
	char *copy = xstrdup(list), *text = copy, *word;
	struct allowed *more;

	while ((word = strsep(&text, ","))) {
		char *whole = xstrdup(word);

		more = bb_grow(allowed, count * sizeof(*allowed), (count + 1) * sizeof(*allowed));
		if (!more)
			bb_simple_error_msg_and_die("out of memory");
		allowed = more;
		if (!parse(word, &allowed[count++]))
			bb_error_msg_and_die("'%s' is not ADDRESS/BITS of a network", whole);
		free(whole);
	}
	free(copy);
}

bool is_allowed(const struct endpoint *e)
{
	struct in6_addr address;
	unsigned i;

	if (!count || e->address.any.sa_family == AF_UNIX) /* the mode of its file decides */
		return true;
	if (e->address.any.sa_family == AF_INET)
		map_v4(&address, &e->address.v4.sin_addr);
	else if (e->address.any.sa_family == AF_INET6)
		address = e->address.v6.sin6_addr;
	else
		return false;
	for (i = 0; i < count; i++) {
		/* ::/0 is all of IPv6, not of IPv4. */
		if (IN6_IS_ADDR_V4MAPPED(&address) && allowed[i].bits < V4_BITS)
			continue;
		if (is_prefix(&address, &allowed[i].address, allowed[i].bits))
			return true;
	}
	return false;
}
