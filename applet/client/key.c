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
	u->sessions++;
	s->key = u;
	return true;
}

void key_drop(struct session *s)
{
	struct key_use *u = s->key, **p = &uses;

	s->key = NULL;
	if (!u || --u->sessions)
		return;
	while (*p != u)
		p = &(*p)->next;
	*p = u->next;
	free(u);
}

bool clients_keys(void (*each)(void *ctx, const char *name, unsigned sessions), void *ctx)
{
	const struct key_use *u;

	for (u = uses; u; u = u->next)
		each(ctx, u->name, u->sessions);
	return uses;
}

/* ---- what they may --------------------------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY
bool key_may(const struct session *s, const char *export)
{
	const llist_t *l;
	bool all = true;

	for (l = client_limits.key_rules; l; l = l->link) {
		const char *rule = l->data, *equals = strchr(rule, '=');
		size_t n = (size_t)(equals - rule);

		if (strcmp(equals + 1, export) != 0)
			continue;
		all = false;
		if (s->key && strlen(s->key->name) == n && memcmp(s->key->name, rule, n) == 0)
			return true;
	}
	return all;
}

void key_rules_check(const llist_t *rules)
{
	for (; rules; rules = rules->link) {
		const char *equals = strchr(rules->data, '=');

		if (!equals || equals == rules->data || equals - (char *)rules->data > TLS_NAME_MAX || !equals[1])
			bb_error_msg_and_die("'%s' must be NAME=EXPORT, with the name of a TLS key", (char *)rules->data);
	}
}
#endif
