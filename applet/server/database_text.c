/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The text of xnbd-wrapper's database: parsed, and written. */
#include "libbb.h"
#include "nbd/nbd.h"
#include "server/database_text.h"
#include "server/json.h"

#include <limits.h>

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
	[DATABASE_KEPT] = "xnbdbox_kept",
};

/* ---- what the values mean ---------------------------------------------------------------------- */

struct fields {
	struct database_image *image;
	bool seen[DATABASE_FIELDS];
};

static void parse_field(struct json *r, void *ctx, const char *key, const char *key_at)
{
	struct fields *to = (struct fields *)ctx;
	unsigned f = 0;

	while (f < DATABASE_FIELDS && strcmp(key, keys[f]) != 0)
		f++;
	if (f == DATABASE_FIELDS) {
		json_skip_value(r, 2);
		return;
	}
	if (to->seen[f]) {
		json_wrong(r, key_at, "an image has a key twice");
		return;
	}
	to->seen[f] = true;
	json_skip_space(r);
	if (f < DATABASE_EXPORT || !json_skip_word(r, "null"))
		to->image->field[f] = json_string(r);
}

static bool is_proxy(const struct database_image *i)
{
	return strcmp(i->field[DATABASE_MODE], "proxy") == 0;
}

/* Whether it has what its mode needs; we are at its end. */
static void check_image(struct json *r, const struct database_image *i)
{
	const char *at = r->p - 1;
	unsigned f, needed;

	if (!i->field[DATABASE_MODE]) {
		json_wrong(r, at, "an image has no mode");
		return;
	}
	if (!is_proxy(i) && strcmp(i->field[DATABASE_MODE], "target") != 0) {
		json_wrong(r, at, "the mode of an image is neither target nor proxy");
		return;
	}
	needed = is_proxy(i) ? DATABASE_PORT : DATABASE_IMAGE;
	for (f = DATABASE_IMAGE; f <= needed; f++)
		if (!i->field[f] || !*i->field[f])
			json_wrong(r, at, is_proxy(i) ? "a proxy lacks one of image_path, bitmap_path, control_socket_path, remote_host and remote_port" :
							   "a target has no image_path");
	if (!r->wrong && strlen(i->field[DATABASE_IMAGE]) >= PATH_MAX) /* a reply of "list" has room for it */
		json_wrong(r, at, "an image_path has more than 4095 bytes");
}

static bool check_name(struct json *r, const struct database_image *list, unsigned count, const char *name, const char *at)
{
	if (strlen(name) > NBD_NAME_MAX)
		return json_wrong(r, at, "the name of an image has more than 4096 bytes");
	if (count == DATABASE_IMAGES_MAX)
		return json_wrong(r, at, "more than 10000 images");
	for (; list; list = list->next)
		if (strcmp(list->name, name) == 0)
			return json_wrong(r, at, "two images have the same name");
	return true;
}

struct images {
	struct database_image *first, **last;
	unsigned count;
};

static void parse_image(struct json *r, void *ctx, const char *name, const char *name_at)
{
	struct images *all = (struct images *)ctx;
	struct fields fields = { .seen = { false } };

	if (!check_name(r, all->first, all->count++, name, name_at))
		return;
	fields.image = calloc(1, sizeof(*fields.image));
	if (!fields.image) {
		json_wrong(r, name_at, "out of memory");
		return;
	}
	fields.image->name = name;
	*all->last = fields.image;
	all->last = &fields.image->next;
	json_object(r, parse_field, &fields);
	if (!r->wrong)
		check_image(r, fields.image);
}

static void parse_version(struct json *r)
{
	const char *at;

	json_skip_space(r);
	at = r->p;
	if (*at != '-' && (*at < '0' || *at > '9'))
		json_wrong(r, at, "the version is not a number");
	else
		json_skip_number(r);
	if (r->p - at != 1 || *at != '2')
		json_wrong(r, at, "the version is not 2");
}

struct database {
	struct images images;
	bool has_version, has_images;
};

static void parse_part(struct json *r, void *ctx, const char *key, const char *key_at)
{
	struct database *to = (struct database *)ctx;
	bool is_version = strcmp(key, "version") == 0, is_images = strcmp(key, "images") == 0;

	if ((is_version && to->has_version) || (is_images && to->has_images))
		json_wrong(r, key_at, "a key is there twice");
	else if (is_version)
		parse_version(r);
	else if (is_images)
		json_object(r, parse_image, &to->images);
	else
		json_skip_value(r, 1);
	to->has_version |= is_version;
	to->has_images |= is_images;
}

static void parse_database(struct json *r, struct database *to)
{
	to->images.last = &to->images.first;
	json_object(r, parse_part, to);
	if (r->wrong)
		return;
	json_skip_space(r);
	if (r->p != r->end)
		json_wrong(r, r->p, "something follows the end of the object");
	if (!to->has_version)
		json_wrong(r, r->p, "there is no version");
	if (!to->has_images)
		json_wrong(r, r->p, "there are no images");
}

struct database_image *database_parse(char *text, size_t n, struct database_error *error)
{
	struct json r = { .p = text, .end = text + n, .line = 1 };
	struct database to = { .has_version = false };
	size_t good = nbd_utf8(text, n);

	if (good == n) {
		parse_database(&r, &to);
	} else {
		json_wrong(&r, text + good, "no UTF-8");
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
