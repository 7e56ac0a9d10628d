/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The text of xnbd-wrapper's database: parsed, and written. */
#include "libbb.h"
#include "nbd/nbd.h"
#include "server/database_text.h"

static const char *const keys[] = {
	[DATABASE_MODE] = "mode",
	[DATABASE_IMAGE] = "image_path",
	[DATABASE_BITMAP] = "bitmap_path",
	[DATABASE_CONTROL] = "control_socket_path",
	[DATABASE_HOST] = "remote_host",
	[DATABASE_PORT] = "remote_port",
	[DATABASE_EXPORT] = "remote_export_name",
	[DATABASE_URI] = "xnbdbox_uri",
	[DATABASE_WORDS] = "xnbdbox_words",
};

/* ---- the parser ----------------------------------------------------------------------------- */

struct parser {
	char *p;         /* the next byte; a 0 ends the text */
	const char *end;
	unsigned line;
	const char *wrong; /* the first thing; nothing is parsed behind it */
	const char *wrong_at;
};

/* False, always. */
static bool is_wrong(struct parser *r, const char *at, const char *what)
{
	if (!r->wrong) {
		r->wrong = what;
		r->wrong_at = at;
	}
	return false;
}

static void skip_space(struct parser *r)
{
	for (; *r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n'; r->p++)
		r->line += *r->p == '\n';
}

/* The next byte is this one, and is behind us; what: if it is not. */
static bool parse_byte(struct parser *r, char c, const char *what)
{
	skip_space(r);
	if (*r->p != c)
		return is_wrong(r, r->p, r->p == r->end ? "the text ends too early" : what);
	r->p++;
	return true;
}

static bool parse_hex4(struct parser *r, uint32_t *value)
{
	unsigned i;

	*value = 0;
	for (i = 0; i < 4; i++, r->p++) {
		char c = *r->p, lower = (char)(c | 0x20);

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (uint32_t)(c - '0');
		else if (lower >= 'a' && lower <= 'f')
			*value = *value << 4 | (uint32_t)(lower - 'a' + 10);
		else
			return is_wrong(r, r->p, "\\u needs four hexadecimal digits");
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
static bool parse_code(struct parser *r, uint32_t *c)
{
	const char *at = r->p - 2;
	uint32_t low;

	if (!parse_hex4(r, c))
		return false;
	if (!*c)
		return is_wrong(r, at, "a string has a zero byte");
	if (*c < 0xd800 || *c >= 0xe000)
		return true;
	if (*c >= 0xdc00 || r->p[0] != '\\' || r->p[1] != 'u')
		return is_wrong(r, at, "half of a surrogate pair");
	r->p += 2;
	if (!parse_hex4(r, &low))
		return false;
	if (low < 0xdc00 || low >= 0xe000)
		return is_wrong(r, at, "half of a surrogate pair");
	*c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

/* Behind a backslash. It is replaced by what it means, which is not longer. */
static bool parse_escape(struct parser *r, char **to)
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
		return is_wrong(r, r->p, "no such escape");
	r->p++;
	if (!parse_code(r, &code))
		return false;
	*to = put_utf8(*to, code);
	return true;
}

/* A string, in its place in the text. NULL: it is none. */
static char *parse_string(struct parser *r)
{
	char *begin, *to;

	if (!parse_byte(r, '"', "a string is wanted here"))
		return NULL;
	begin = to = r->p;
	while (*r->p != '"') {
		if (r->p == r->end) {
			is_wrong(r, r->p, "the text ends too early");
			return NULL;
		}
		if ((unsigned char)*r->p < ' ') {
			is_wrong(r, r->p, "a string has a control character");
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

static void skip_digits(struct parser *r)
{
	if (*r->p < '0' || *r->p > '9')
		is_wrong(r, r->p, "a number lacks a digit");
	while (*r->p >= '0' && *r->p <= '9')
		r->p++;
}

/* As JSON has them; the value of none is needed. */
static void skip_number(struct parser *r)
{
	if (*r->p == '-')
		r->p++;
	if (r->p[0] == '0' && r->p[1] >= '0' && r->p[1] <= '9')
		is_wrong(r, r->p, "a number begins with 0");
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

static bool skip_word(struct parser *r, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(r->p, word, n) != 0)
		return false;
	r->p += n;
	return true;
}

/* Behind a value in an object or a list. True: another one follows. */
static bool parse_more(struct parser *r, char close)
{
	if (r->wrong)
		return false;
	skip_space(r);
	if (*r->p == ',') {
		r->p++;
		return true;
	}
	if (*r->p != close)
		return is_wrong(r, r->p, r->p == r->end ? "the text ends too early" : "a comma or the end of this level is wanted here");
	r->p++;
	return false;
}

/* Whether the object or list that has just been opened is closed at once. */
static bool is_empty(struct parser *r, char close)
{
	skip_space(r);
	if (*r->p != close)
		return false;
	r->p++;
	return true;
}

/* A key, and its colon. NULL: wrong. */
static char *parse_key(struct parser *r)
{
	char *key = parse_string(r);

	return key && parse_byte(r, ':', "a colon is wanted here") ? key : NULL;
}

static void skip_value(struct parser *r, unsigned depth);

/* It has been opened. NOLINTNEXTLINE(misc-no-recursion): DATABASE_DEPTH_MAX */
static void skip_inside(struct parser *r, char close, unsigned depth)
{
	if (depth == DATABASE_DEPTH_MAX) {
		is_wrong(r, r->p - 1, "too many levels");
		return;
	}
	if (is_empty(r, close))
		return;
	do {
		if (close == ']' || parse_key(r))
			skip_value(r, depth);
	} while (parse_more(r, close));
}

/* NOLINTNEXTLINE(misc-no-recursion): DATABASE_DEPTH_MAX */
static void skip_value(struct parser *r, unsigned depth)
{
	skip_space(r);
	switch (*r->p) {
	case '"':
		parse_string(r);
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
			skip_number(r);
		else if (!skip_word(r, "true") && !skip_word(r, "false") && !skip_word(r, "null"))
			is_wrong(r, r->p, r->p == r->end ? "the text ends too early" : "a value is wanted here");
	}
}

/* An object: each member's value is parsed by member(), which gets its key, and where that is. */
static void parse_object(struct parser *r, void (*member)(struct parser *r, void *ctx, const char *key, const char *key_at), void *ctx)
{
	if (!parse_byte(r, '{', "a JSON object is wanted here") || is_empty(r, '}'))
		return;
	do {
		const char *key, *key_at;

		skip_space(r);
		key_at = r->p;
		key = parse_key(r);
		if (key)
			member(r, ctx, key, key_at);
	} while (parse_more(r, '}'));
}

/* ---- what the values mean ---------------------------------------------------------------------- */

struct fields {
	struct database_image *image;
	bool seen[DATABASE_FIELDS];
};

static void parse_field(struct parser *r, void *ctx, const char *key, const char *key_at)
{
	struct fields *to = (struct fields *)ctx;
	unsigned f = 0;

	while (f < DATABASE_FIELDS && strcmp(key, keys[f]) != 0)
		f++;
	if (f == DATABASE_FIELDS) {
		skip_value(r, 2);
		return;
	}
	if (to->seen[f]) {
		is_wrong(r, key_at, "an image has a key twice");
		return;
	}
	to->seen[f] = true;
	skip_space(r);
	if (f < DATABASE_EXPORT || !skip_word(r, "null"))
		to->image->field[f] = parse_string(r);
}

static bool is_proxy(const struct database_image *i)
{
	return strcmp(i->field[DATABASE_MODE], "proxy") == 0;
}

/* Whether it has what its mode needs; we are at its end. */
static void check_image(struct parser *r, const struct database_image *i)
{
	const char *at = r->p - 1;
	unsigned f, needed;

	if (!i->field[DATABASE_MODE]) {
		is_wrong(r, at, "an image has no mode");
		return;
	}
	if (!is_proxy(i) && strcmp(i->field[DATABASE_MODE], "target") != 0) {
		is_wrong(r, at, "the mode of an image is neither target nor proxy");
		return;
	}
	needed = is_proxy(i) ? DATABASE_PORT : DATABASE_IMAGE;
	for (f = DATABASE_IMAGE; f <= needed; f++)
		if (!i->field[f] || !*i->field[f])
			is_wrong(r, at, is_proxy(i) ? "a proxy lacks one of image_path, bitmap_path, control_socket_path, remote_host and remote_port" :
							 "a target has no image_path");
}

static bool check_name(struct parser *r, const struct database_image *list, unsigned count, const char *name, const char *at)
{
	if (strlen(name) > NBD_NAME_MAX)
		return is_wrong(r, at, "the name of an image has more than 4096 bytes");
	if (count == DATABASE_IMAGES_MAX)
		return is_wrong(r, at, "more than 10000 images");
	for (; list; list = list->next)
		if (strcmp(list->name, name) == 0)
			return is_wrong(r, at, "two images have the same name");
	return true;
}

struct images {
	struct database_image *first, **last;
	unsigned count;
};

static void parse_image(struct parser *r, void *ctx, const char *name, const char *name_at)
{
	struct images *all = (struct images *)ctx;
	struct fields fields = { .seen = { false } };

	if (!check_name(r, all->first, all->count++, name, name_at))
		return;
	fields.image = calloc(1, sizeof(*fields.image));
	if (!fields.image) {
		is_wrong(r, name_at, "out of memory");
		return;
	}
	fields.image->name = name;
	*all->last = fields.image;
	all->last = &fields.image->next;
	parse_object(r, parse_field, &fields);
	if (!r->wrong)
		check_image(r, fields.image);
}

static void parse_version(struct parser *r)
{
	const char *at;

	skip_space(r);
	at = r->p;
	if (*at != '-' && (*at < '0' || *at > '9'))
		is_wrong(r, at, "the version is no number");
	else
		skip_number(r);
	if (r->p - at != 1 || *at != '2')
		is_wrong(r, at, "the version is not 2");
}

struct database {
	struct images images;
	bool has_version, has_images;
};

static void parse_part(struct parser *r, void *ctx, const char *key, const char *key_at)
{
	struct database *to = (struct database *)ctx;
	bool is_version = strcmp(key, "version") == 0, is_images = strcmp(key, "images") == 0;

	if ((is_version && to->has_version) || (is_images && to->has_images))
		is_wrong(r, key_at, "a key is there twice");
	else if (is_version)
		parse_version(r);
	else if (is_images)
		parse_object(r, parse_image, &to->images);
	else
		skip_value(r, 1);
	to->has_version |= is_version;
	to->has_images |= is_images;
}

static void parse_database(struct parser *r, struct database *to)
{
	to->images.last = &to->images.first;
	parse_object(r, parse_part, to);
	if (r->wrong)
		return;
	skip_space(r);
	if (r->p != r->end)
		is_wrong(r, r->p, "something follows the end of the object");
	if (!to->has_version)
		is_wrong(r, r->p, "there is no version");
	if (!to->has_images)
		is_wrong(r, r->p, "there are no images");
}

struct database_image *database_parse(char *text, size_t n, struct database_error *error)
{
	struct parser r = { .p = text, .end = text + n, .line = 1 };
	struct database to = { .has_version = false };
	size_t good = nbd_utf8(text, n);

	if (good == n) {
		parse_database(&r, &to);
	} else {
		is_wrong(&r, text + good, "no UTF-8");
		for (; r.p < r.wrong_at; r.p++)
			r.line += *r.p == '\n';
	}
	*error = (struct database_error){ .what = r.wrong, .line = r.line, .at = r.wrong ? (size_t)(r.wrong_at - text) : 0 };
	if (!r.wrong)
		return to.images.first;
	database_free(to.images.first);
	return NULL;
}

void database_free(struct database_image *list)
{
	while (list) {
		struct database_image *next = list->next;

		free(list);
		list = next;
	}
}

/* ---- written ------------------------------------------------------------------------------------- */

static void put_bytes(struct database_text *t, const char *p, size_t n)
{
	enum { FIRST = 4096 };

	if (t->lacks)
		return;
	if (t->bytes + n >= t->room) {
		size_t room = (t->room ? t->room * 2 : FIRST) + n;
		char *text = bb_grow(t->text, t->bytes, room);

		t->lacks = !text;
		if (!text)
			return;
		t->text = text;
		t->room = room;
	}
	memcpy(t->text + t->bytes, p, n);
	t->bytes += n;
	t->text[t->bytes] = '\0';
}

void database_put_text(struct database_text *t, const char *s)
{
	put_bytes(t, s, strlen(s));
}

void database_put_encoded(struct database_text *t, const char *s, const char *kept)
{
	char code[4];

	for (; *s; s++) {
		bool plain = (*s >= '0' && *s <= '9') || ((*s | 0x20) >= 'a' && (*s | 0x20) <= 'z') || strchr("-._~", *s) || strchr(kept, *s);

		snprintf(code, sizeof(code), plain ? "%c" : "%%%02x", (unsigned char)*s);
		database_put_text(t, code);
	}
}

/* s is UTF-8. */
static void put_string(struct database_text *t, const char *s)
{
	char code[8];

	put_bytes(t, "\"", 1);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\') {
			put_bytes(t, "\\", 1);
			put_bytes(t, s, 1);
		} else if ((unsigned char)*s < ' ' || *s == 0x7f) {
			snprintf(code, sizeof(code), "\\u%04x", *s);
			put_bytes(t, code, 6);
		} else {
			put_bytes(t, s, 1);
		}
	}
	put_bytes(t, "\"", 1);
}

void database_begin_text(struct database_text *t)
{
	database_put_text(t, "{\n \"version\": 2,\n \"images\": {");
}

void database_put(struct database_text *t, const struct database_image *i)
{
	unsigned f, last = is_proxy(i) ? DATABASE_EXPORT : DATABASE_IMAGE;

	database_put_text(t, t->images++ ? ",\n  " : "\n  ");
	put_string(t, i->name);
	database_put_text(t, ": {");
	for (f = DATABASE_MODE; f < DATABASE_FIELDS; f++) {
		if (f > last && !(is_proxy(i) && i->field[f]))
			continue;
		database_put_text(t, f ? ",\n   \"" : "\n   \"");
		database_put_text(t, keys[f]);
		database_put_text(t, "\": ");
		if (i->field[f])
			put_string(t, i->field[f]);
		else
			database_put_text(t, "null");
	}
	database_put_text(t, "\n  }");
}

void database_end_text(struct database_text *t)
{
	database_put_text(t, t->images ? "\n }\n}\n" : "}\n}\n");
}
