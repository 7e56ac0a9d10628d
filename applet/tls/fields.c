/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Fields of the peer's messages, with bounds checks. */
#include "tls/internal.h"

bool fields_bytes(struct fields *f, size_t len, const uint8_t **bytes)
{
	if (f->left < len)
		return false;
	*bytes = f->at;
	f->at += len;
	f->left -= len;
	return true;
}

bool fields_number(struct fields *f, int bytes, uint32_t *value)
{
	const uint8_t *p;
	if (!fields_bytes(f, (size_t)bytes, &p))
		return false;
	for (*value = 0; bytes; bytes--)
		*value = *value << 8 | *p++;
	return true;
}

bool fields_vector(struct fields *f, int length_bytes, struct fields *body)
{
	uint32_t len;
	if (!fields_number(f, length_bytes, &len))
		return false;
	body->left = len;
	return fields_bytes(f, len, &body->at);
}

bool fields_contain(struct fields f, int bytes, uint32_t value)
{
	uint32_t found;
	while (fields_number(&f, bytes, &found)) {
		if (found == value)
			return true;
	}
	return false;
}

bool fields_only_vector(struct fields f, int length_bytes, struct fields *body)
{
	return fields_vector(&f, length_bytes, body) && !f.left;
}

bool fields_hello(struct fields *f, const uint8_t **random, struct fields *id)
{
	uint32_t version; /* means nothing: supported_versions does */
	return fields_number(f, 2, &version) && fields_bytes(f, HELLO_RANDOM_BYTES, random) && fields_vector(f, 1, id);
}

bool extensions_parse(struct extensions *e, struct fields f)
{
	struct fields list;
	if (!fields_only_vector(f, 2, &list))
		return false;
	for (e->count = 0; list.left; e->count++) {
		uint32_t type;
		if (e->count == EXTENSIONS_MAX || !fields_number(&list, 2, &type) || extensions_find(e, type) ||
		    !fields_vector(&list, 2, &e->body[e->count]))
			return false;
		e->type[e->count] = type;
	}
	return true;
}

const struct fields *extensions_find(const struct extensions *e, uint16_t type)
{
	for (size_t i = 0; i < e->count; i++) {
		if (e->type[i] == type)
			return &e->body[i];
	}
	return NULL;
}

bool extensions_vector(const struct extensions *e, uint16_t type, int length_bytes, struct fields *body)
{
	const struct fields *f = extensions_find(e, type);
	return f && fields_only_vector(*f, length_bytes, body);
}
