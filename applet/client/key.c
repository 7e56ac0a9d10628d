/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Which keys clients are using, and which key may use which export. */
#include "client/session.h"
#include "tls/tls.h"

static struct key_use *uses; /* those with sessions */

/* ---- in use ---------------------------------------------------------------------------------- */

bool key_hold(struct session *s, const char *name)
{
	struct key_use *u = uses;

	while (u && strcmp(u->name, name) != 0)
		u = u->next;
	if (!u) {
		u = calloc(1, sizeof(*u) + strlen(name) + 1);
		if (!u)
			return false;
		strcpy(u->name, name);
		u->next = uses;
		uses = u;
	}
	s->key = u;
	s->key_at = &u->sessions;
	s->key_next = u->sessions;
	if (s->key_next)
		s->key_next->key_at = &s->key_next;
	u->sessions = s;
	return true;
}

void key_drop(struct session *s)
{
	struct key_use *u = s->key, **p = &uses;

	if (!u)
		return;
	s->key = NULL;
	*s->key_at = s->key_next;
	if (s->key_next)
		s->key_next->key_at = s->key_at;
	if (u->sessions)
		return;
	while (*p != u)
		p = &(*p)->next;
	*p = u->next;
	free(u);
}

bool clients_keys(const struct export *e, void (*each)(void *ctx, const char *name, unsigned sessions), void *ctx)
{
	const struct key_use *u;
	const struct session *s;
	bool any = false;

	for (u = uses; u; u = u->next) {
		unsigned n = 0;

		for (s = u->sessions; s; s = s->key_next)
			n += !e || s->export == e;
		if (n)
			each(ctx, u->name, n);
		any |= n != 0;
	}
	return any;
}

/* ---- what they may --------------------------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY
static const char **rules; /* in the order of their exports: strangers ask for a thousand exports at once (LIST) */
static size_t rule_count;

static const char *rule_export(const char *rule)
{
	return strchr(rule, '=') + 1;
}

bool key_may(const struct session *s, const char *export)
{
	size_t first = 0, end = rule_count;
	bool all = true;

	while (first < end) { /* the first rule of this export lies from `first` to `end` */
		size_t middle = (first + end) / 2;

		if (strcmp(rule_export(rules[middle]), export) < 0)
			first = middle + 1;
		else
			end = middle;
	}
	for (; first < rule_count && strcmp(rule_export(rules[first]), export) == 0; first++) {
		size_t n = (size_t)(rule_export(rules[first]) - 1 - rules[first]);

		all = false;
		if (s->key && strlen(s->key->name) == n && memcmp(s->key->name, rules[first], n) == 0)
			return true;
	}
	return all;
}

static int compare_rules(const void *a, const void *b)
{
	return strcmp(rule_export(*(const char *const *)a), rule_export(*(const char *const *)b));
}

void key_rules_check(const llist_t *list)
{
	const llist_t *l;
	size_t count = 0;

	for (l = list; l; l = l->link, count++) {
		const char *equals = strchr(l->data, '=');

		if (!equals || equals == l->data || equals - (char *)l->data > TLS_NAME_MAX || !equals[1])
			bb_error_msg_and_die("'%s' must be NAME=EXPORT, with the name of a TLS key", (char *)l->data);
	}
	if (!count)
		return;
	rules = xzalloc(count * sizeof(*rules));
	for (l = list; l; l = l->link)
		rules[rule_count++] = l->data;
	qsort(rules, count, sizeof(*rules), compare_rules);
}
#endif
