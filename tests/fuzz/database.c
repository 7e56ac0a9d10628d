/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The text of xnbd-wrapper's database. What is refused has a reason and a place; what is parsed is written, and then parsed
 * again as the same.
 */
#include "server/database_text.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

/* world.c: of memory that came from what is tested. */
void fuzz_free(void *p);

static char *copy(const void *from, size_t n)
{
	char *text = malloc(n + 1);

	if (n)
		memcpy(text, from, n);
	text[n] = '\0';
	return text;
}

static void check_error(const struct database_error *e, const char *text, size_t n)
{
	size_t i;
	unsigned line = 1;

	if (e->at > n)
		finding("an error is behind the end");
	if (!e->line)
		finding("an error has no line");
	for (i = 0; i < n; i++)
		line += text[i] == '\n';
	if (e->line > line)
		finding("an error is in a line that is not there");
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : !a && !b;
}

static void check_same(const struct database_image *a, const struct database_image *b)
{
	unsigned f;

	for (; a && b; a = a->next, b = b->next) {
		bool proxy = strcmp(a->field[DATABASE_MODE], "proxy") == 0;

		if (strcmp(a->name, b->name) != 0)
			finding("a name is another one");
		for (f = 0; f < (proxy ? DATABASE_FIELDS : DATABASE_BITMAP); f++)
			if (!is_same_text(a->field[f], b->field[f]))
				finding("a field is another one");
	}
	if (a || b)
		finding("there are more or fewer images");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *text = copy(data, n), *again;
	struct database_error error;
	struct database_image *list = database_parse(text, n, &error), *second;
	const struct database_image *i;
	struct database_text out = { 0 };

	if (error.what) {
		check_error(&error, (const char *)data, n);
		if (list)
			finding("it is refused, and there are images");
		free(text);
		return 0;
	}
	database_begin_text(&out);
	for (i = list; i; i = i->next)
		database_put(&out, i);
	database_end_text(&out);
	again = copy(out.text, out.bytes);
	second = database_parse(again, out.bytes, &error);
	if (error.what)
		finding("what was written is refused");
	check_same(list, second);
	database_free(list);
	database_free(second);
	fuzz_free(out.text);
	free(again);
	free(text);
	return 0;
}
