/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-bgctl --watch: lines of the server, as a picture that fills a terminal. */
//config:config FEATURE_XNBD_BGCTL_WATCH
//config:	bool "--watch (570 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_BGCTL_CLIENTS
//config:	help
//config:	State and clients on a terminal, every two seconds.
//kbuild:lib-$(CONFIG_FEATURE_XNBD_BGCTL_WATCH) += xnbd_bgctl_watch.o
#include "libbb.h"
#include "xnbd_bgctl.h"

#include <poll.h>
#include <sys/ioctl.h>

enum {
	WATCH_MS = 2000, /* between two pictures */
};

void bgctl_picture_begin(struct picture *p)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--watch") IF_NOT_LONG_OPTS("-w") " needs a terminal");
	p->rows = w.ws_row ? w.ws_row - 1U : 23; /* the last one is for a message */
	p->columns = w.ws_col ? w.ws_col - 1U : 79; /* behind the very last one, some terminals clear what they have shown */
	p->at = 0;
	p->begins = true;
}

static void row_end(struct picture *p)
{
	static const char clear_rest[] ALIGN1 = "\033[K\r\n";

	if (!p->at)
		return;
	p->at = 0;
	p->rows--;
	bgctl_print(clear_rest, sizeof(clear_rest) - 1);
}

/* What has no room is cut. */
void bgctl_picture_line(struct picture *p, const char *text, size_t n, bool own_row)
{
	if (p->begins)
		bgctl_print("\033[H", 3);
	p->begins = false;
	if (own_row || p->at + 2 + n > p->columns)
		row_end(p);
	if (!p->rows)
		return;
	if (p->at)
		bgctl_print("  ", 2);
	if (n > p->columns)
		n = p->columns;
	bgctl_print(text, n);
	p->at += (unsigned)n + 2;
}

void bgctl_picture_end(struct picture *p, bool wait)
{
	row_end(p);
	bgctl_print("\033[J", 3);
	if (wait)
		(void)poll(NULL, 0, WATCH_MS);
}
