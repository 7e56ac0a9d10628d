/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The reader of JSON: strings, objects, and what is skipped. */
#include "libbb.h"
#include "nbd/nbd.h"
#include "server/json.h"

bool json_wrong(struct json *r, const char *at, const char *what)
{
	if (!r->wrong) {
		r->wrong = what;
		r->wrong_at = at;
	}
	return false;
}

void json_skip_space(struct json *r)
{
	for (; *r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n'; r->p++)
		r->line += *r->p == '\n';
}

/* The next byte is this one, and is behind us; what: if it is not. */
static bool parse_byte(struct json *r, char c, const char *what)
{
	json_skip_space(r);
	if (*r->p != c)
		return json_wrong(r, r->p, r->p == r->end ? "the text ends too early" : what);
	r->p++;
	return true;
}

static bool parse_hex4(struct json *r, uint32_t *value)
{
	unsigned i;

	*value = 0;
	for (i = 0; i < 4; i++, r->p++) {
		int digit = nbd_hex_digit(*r->p);

		if (digit < 0)
			return json_wrong(r, r->p, "\\u needs four hexadecimal digits");
		*value = *value << 4 | (uint32_t)digit;
	}
	return true;
}

static char *put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*to++ = (char)(0xe0 | c >> 12);
		} else {
			*to++ = (char)(0xf0 | c >> 18);
			*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*to++ = (char)(0x80 | (c & 0x3f));
	return to;
}

/* Behind "\u". A character beyond 16 bits comes as two of them. */
static bool parse_code(struct json *r, uint32_t *c)
{
	const char *at = r->p - 2;
	uint32_t low;

	if (!parse_hex4(r, c))
		return false;
	if (!*c)
		return json_wrong(r, at, "a string has a zero byte");
	if (*c < 0xd800 || *c >= 0xe000)
		return true;
	if (*c >= 0xdc00 || r->p[0] != '\\' || r->p[1] != 'u')
		return json_wrong(r, at, "half of a surrogate pair");
	r->p += 2;
	if (!parse_hex4(r, &low))
		return false;
	if (low < 0xdc00 || low >= 0xe000)
		return json_wrong(r, at, "half of a surrogate pair");
	*c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

/* Behind a backslash. It is replaced by what it means, which is not longer. */
static bool parse_escape(struct json *r, char **to)
{
	static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
	const char *c = *r->p ? strchr(from, *r->p) : NULL;
	uint32_t code;

	if (c) {
		r->p++;
		*(*to)++ = means[c - from];
		return true;
	}
	if (*r->p != 'u')
		return json_wrong(r, r->p, "no such escape");
	r->p++;
	if (!parse_code(r, &code))
		return false;
	*to = put_utf8(*to, code);
	return true;
}

char *json_string(struct json *r)
{
	char *begin, *to;

	if (!parse_byte(r, '"', "a string is wanted here"))
		return NULL;
	begin = to = r->p;
	while (*r->p != '"') {
		if (r->p == r->end) {
			json_wrong(r, r->p, "the text ends too early");
			return NULL;
		}
		if ((unsigned char)*r->p < ' ') {
			json_wrong(r, r->p, "a string has a control character");
			return NULL;
		}
		if (*r->p != '\\') {
			*to++ = *r->p++;
			continue;
		}
		r->p++;
		if (!parse_escape(r, &to))
			return NULL;
	}
	r->p++;
	*to = '\0';
	return begin;
}

static void skip_digits(struct json *r)
{
	if (*r->p < '0' || *r->p > '9')
		json_wrong(r, r->p, "a number lacks a digit");
	while (*r->p >= '0' && *r->p <= '9')
		r->p++;
}

void json_skip_number(struct json *r)
{
	if (*r->p == '-')
		r->p++;
	if (r->p[0] == '0' && r->p[1] >= '0' && r->p[1] <= '9')
		json_wrong(r, r->p, "a number begins with 0");
	skip_digits(r);
	if (*r->p == '.') {
		r->p++;
		skip_digits(r);
	}
	if (*r->p == 'e' || *r->p == 'E') {
		r->p++;
		if (*r->p == '-' || *r->p == '+')
			r->p++;
		skip_digits(r);
	}
}

bool json_skip_word(struct json *r, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(r->p, word, n) != 0)
		return false;
	r->p += n;
	return true;
}

/* Behind a value in an object or a list. True: another one follows. */
static bool parse_more(struct json *r, char close)
{
	if (r->wrong)
		return false;
	json_skip_space(r);
	if (*r->p == ',') {
		r->p++;
		return true;
	}
	if (*r->p != close)
		return json_wrong(r, r->p, r->p == r->end ? "the text ends too early" : "a comma or the end of this level is wanted here");
	r->p++;
	return false;
}

/* Whether the object or list that has just been opened is closed at once. */
static bool is_empty(struct json *r, char close)
{
	json_skip_space(r);
	if (*r->p != close)
		return false;
	r->p++;
	return true;
}

/* A key, and its colon. NULL: wrong. */
static char *parse_key(struct json *r)
{
	char *key = json_string(r);

	return key && parse_byte(r, ':', "a colon is wanted here") ? key : NULL;
}

/* It has been opened. NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX */
static void skip_inside(struct json *r, char close, unsigned depth)
{
	if (depth == JSON_DEPTH_MAX) {
		json_wrong(r, r->p - 1, "too many levels");
		return;
	}
	if (is_empty(r, close))
		return;
	do {
		if (close == ']' || parse_key(r))
			json_skip_value(r, depth);
	} while (parse_more(r, close));
}

/* NOLINTNEXTLINE(misc-no-recursion): JSON_DEPTH_MAX */
void json_skip_value(struct json *r, unsigned depth)
{
	json_skip_space(r);
	switch (*r->p) {
	case '"':
		json_string(r);
		break;
	case '{':
		r->p++;
		skip_inside(r, '}', depth + 1);
		break;
	case '[':
		r->p++;
		skip_inside(r, ']', depth + 1);
		break;
	default:
		if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'))
			json_skip_number(r);
		else if (!json_skip_word(r, "true") && !json_skip_word(r, "false") && !json_skip_word(r, "null"))
			json_wrong(r, r->p, r->p == r->end ? "the text ends too early" : "a value is wanted here");
	}
}

void json_object(struct json *r, void (*member)(struct json *r, void *ctx, const char *key, const char *key_at), void *ctx)
{
	if (!parse_byte(r, '{', "a JSON object is wanted here") || is_empty(r, '}'))
		return;
	do {
		const char *key, *key_at;

		json_skip_space(r);
		key_at = r->p;
		key = parse_key(r);
		if (key)
			member(r, ctx, key, key_at);
	} while (parse_more(r, '}'));
}
