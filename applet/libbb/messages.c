/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* One line on stderr. */
#include "libbb.h"

#include <setjmp.h>

const char *applet_name = "xnbdbox";
uint8_t xfunc_error_retval = 1;

enum {
	LINE_BYTES = 1024, /* what is longer is cut */
};

void (*die_func)(void);

#if ENABLE_FEATURE_XNBD_SERVER_PROXY
static _Thread_local struct survivor {
	jmp_buf at;
	char *text;
	size_t room;
} *survivor; /* NULL: this thread does not survive */

bool bb_survives(void (*f)(void *arg), void *arg, char *text, size_t room)
{
	struct survivor s = { .text = text, .room = room };

	survivor = &s;
	if (setjmp(s.at)) {
		survivor = NULL;
		return false;
	}
	f(arg);
	survivor = NULL;
	return true;
}

/* The last words go to who survives. False: nobody does. */
static bool keep_words(const char *words)
{
	if (survivor)
		snprintf(survivor->text, survivor->room, "%s", words);
	return survivor;
}

static void survive(void)
{
	if (survivor)
		longjmp(survivor->at, 1);
}
#else
static bool keep_words(const char *words UNUSED_PARAM)
{
	return false;
}

static void survive(void)
{
}
#endif

void xfunc_die(void)
{
	survive();
	if (die_func)
		die_func();
	exit(xfunc_error_retval);
}

void (*bb_message_out)(const char *line, size_t n);

/* One line, whatever others have put into their names and paths. */
void bb_make_printable(char *p, size_t n)
{
	for (; n; n--, p++) {
		unsigned char b = (unsigned char)*p;

		if (b == 0xc2 && (n == 1 || (p[1] & 0xe0) == 0x80)) { /* n == 1: the rest may come later */
			b = 0;
			if (n > 1)
				p[1] = 0;
		}
		if (b < ' ' || b == 0x7f)
			*p = '?';
	}
}

/* error: an errno, or 0 for none. */
static void message(const char *format, va_list args, int error, bool dies)
{
	char line[LINE_BYTES];
	size_t n = (size_t)snprintf(line, LINE_BYTES - 1, "%s: ", applet_name), first = n;

	vsnprintf(line + n, LINE_BYTES - 1 - n, format, args);
	if (error) {
		n = strlen(line);
		snprintf(line + n, LINE_BYTES - 1 - n, ": %s", strerror(error));
	}
	bb_make_printable(line + first, strlen(line + first));
	if (dies && keep_words(line + first))
		return;
	n = strlen(line);
	line[n++] = '\n';
	if (bb_message_out)
		bb_message_out(line, n);
	else
		full_write(STDERR_FILENO, line, n);
}

void bb_error_msg(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, 0, false);
	va_end(args);
	errno = error;
}

void bb_perror_msg(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error, false);
	va_end(args);
	errno = error;
}

void bb_error_msg_and_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(format, args, 0, true);
	va_end(args);
	xfunc_die();
}

void bb_perror_msg_and_die(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error, true);
	va_end(args);
	xfunc_die();
}

void bb_simple_error_msg(const char *text)
{
	bb_error_msg("%s", text);
}

void bb_simple_perror_msg(const char *text)
{
	bb_perror_msg("%s", text);
}

void bb_simple_error_msg_and_die(const char *text)
{
	bb_error_msg_and_die("%s", text);
}

void bb_simple_perror_msg_and_die(const char *text)
{
	bb_perror_msg_and_die("%s", text);
}
