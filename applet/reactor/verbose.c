/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Lines of --verbose, and how many of them. */
//config:config FEATURE_XNBD_SERVER_VERBOSE
//config:	bool "--verbose (4.3 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	A line for each client that comes, goes or is refused, and for errors of
//config:	the disk and of the origin; a few of each kind in a second at most.
#include "libbb.h"
#include "reactor/lock.h"
#include "reactor/loop.h"
#include "reactor/verbose.h"

enum {
	LINE_BYTES = 900, /* with the applet's name it is a message that is not cut */
};

bool verbose_is_on;

static struct mutex lock; /* of all below, which loops share */
static struct {
	uint64_t since_ms; /* its second began */
	unsigned lines;    /* written in it */
	unsigned left_out; /* in it */
} kinds[VERBOSE_KINDS];
static uint64_t left_out; /* of all kinds, ever */
static bool timed;        /* one of the timers is set, or fires */
static struct timer timers[LOOPS_MAX]; /* each belongs to its loop */

/* Takes how many were left out of this kind. Under the lock. */
static unsigned pop_left_out(unsigned kind)
{
	unsigned n = kinds[kind].left_out;

	kinds[kind].left_out = 0;
	return n;
}

static void write_left_out(unsigned kind, unsigned n)
{
	static const char *const names[VERBOSE_KINDS] = { "clients", "refusals", "errors", "disk" };

	if (n)
		bb_error_msg("%u more lines about %s were left out event=left-out kind=%s lines=%u", n, names[kind], names[kind], n);
}

/* Of those kinds whose second is over at now_ms. False: there are others. */
static bool write_all_left_out(uint64_t now_ms)
{
	unsigned n[VERBOSE_KINDS] = { 0 };
	bool done = true;
	unsigned i;

	mutex_lock(&lock);
	for (i = 0; i < VERBOSE_KINDS; i++) {
		if (now_ms >= kinds[i].since_ms + VERBOSE_MS)
			n[i] = pop_left_out(i);
		done &= !kinds[i].left_out;
	}
	timed = !done;
	mutex_unlock(&lock);
	for (i = 0; i < VERBOSE_KINDS; i++)
		write_left_out(i, n[i]);
	return done;
}

static void second_is_over(struct timer *t)
{
	if (!write_all_left_out(loop_now_ms()))
		timer_set(t, loop_now_ms() + VERBOSE_MS);
}

void verbose_end(void)
{
	write_all_left_out(UINT64_MAX);
}

/* Whether a line of this kind may be written now. *before: how many were left out that nobody was told of. */
static bool may_write(unsigned kind, unsigned *before)
{
	uint64_t now_ms = loop_now_ms();
	struct timer *t = NULL;
	bool may;

	mutex_lock(&lock);
	*before = 0;
	/* Clocks of loops differ by a turn: one that is behind is in the same second. */
	if (now_ms >= kinds[kind].since_ms + VERBOSE_MS) {
		kinds[kind].since_ms = now_ms;
		kinds[kind].lines = 0;
		*before = pop_left_out(kind);
	}
	may = kinds[kind].lines < VERBOSE_LINES;
	if (may) {
		kinds[kind].lines++;
	} else {
		kinds[kind].left_out++;
		left_out++;
		if (!timed)
			t = &timers[this_loop->index];
		timed = true;
	}
	mutex_unlock(&lock);
	if (t) {
		t->fire = second_is_over;
		timer_set(t, now_ms + VERBOSE_MS);
	}
	return may;
}

void verbose_line(enum verbose_kind kind, const char *format, ...)
{
	char line[LINE_BYTES];
	unsigned before;
	va_list args;

	if (!may_write(kind, &before))
		return;
	write_left_out(kind, before);
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	bb_simple_error_msg(line);
}

uint64_t verbose_left_out(void)
{
	uint64_t n;

	mutex_lock(&lock);
	n = left_out;
	mutex_unlock(&lock);
	return n;
}

char *verbose_word(char *to, size_t room, const char *name, size_t n)
{
	char *p = to, *end = to + room - sizeof("...");
	size_t i;

	for (i = 0; i < n && end - p >= 3; i++) {
		unsigned char b = (unsigned char)name[i];

		if (b > ' ' && b < 0x7f && b != '%' && b != '=' && b != '\'' && b != '"')
			*p++ = (char)b;
		else
			p += snprintf(p, 4, "%%%02x", b);
	}
	strcpy(p, i < n ? "..." : "");
	return to;
}
