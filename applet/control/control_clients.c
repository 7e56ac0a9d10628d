/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket: the list of clients. All loops are asked first, so the reply is sent later. */
#include "libbb.h"
#include "client/counters.h"
#include "control/connection.h"

void control_clients_list(struct control *k)
{
	struct client_report *r = k->report;

	k->listing = true;
	for (; k->list_part < LOOPS_MAX; k->list_part++, k->list_next = 0) {
		const struct report_part *p = &r->part[k->list_part];

		if (p->lacks) {
			client_report_free(r);
			k->report = NULL;
			k->listing = false;
			control_answer(k, "out of memory");
			return;
		}
		while (k->list_next < p->bytes) {
			const char *line = p->text + k->list_next;
			size_t n = (size_t)((const char *)memchr(line, '\n', p->bytes - k->list_next) - line) + 1;

			if (!control_has_room(k))
				return; /* goes on when that has been read */
			control_emit(k, "client ", 7);
			control_emit(k, line, n);
			k->list_next += n;
		}
	}
	client_report_free(r);
	k->report = NULL;
	k->listing = false;
	control_answer(k, NULL);
}

static void clients_done(void *ctx, struct client_report *r)
{
	struct control *k = ctx;

	if (!control_report_arrived(k, r))
		return;
	k->report = r;
	k->list_part = 0;
	k->list_next = 0;
	control_clients_list(k);
}

void control_clients(struct control *k)
{
	k->waiting = true;
	if (client_report(control_subject(k), true, clients_done, k))
		return;
	k->waiting = false;
	control_answer(k, "out of memory");
}
