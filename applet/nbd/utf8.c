/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* UTF-8, which names of exports are meant to be. */
#include "nbd/nbd.h"

/* The bytes of the character whose first one is b; 0: none begins so. *min: the smallest that needs so many. */
static unsigned length(uint8_t b, uint32_t *value, uint32_t *min)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned n = b < 0x80 ? 1 : b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;

	if ((b >= 0x80 && b < 0xc0) || b >= 0xf8)
		return 0;
	*value = n == 1 ? b : b & (0x7fU >> n);
	*min = smallest[n];
	return n;
}

size_t nbd_utf8(const char *text, size_t n)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t at = 0;

	while (at < n) {
		uint32_t value, min;
		unsigned i, bytes = length(p[at], &value, &min);

		if (!bytes || bytes > n - at)
			return at;
		for (i = 1; i < bytes; i++) {
			if ((p[at + i] & 0xc0) != 0x80)
				return at;
			value = value << 6 | (p[at + i] & 0x3f);
		}
		if (value < min || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
			return at;
		at += bytes;
	}
	return n;
}
