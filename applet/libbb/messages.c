/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* One line on stderr. */
#include "libbb.h"

const char *applet_name = "xnbdbox";
uint8_t xfunc_error_retval = 1;

enum {
	LINE_BYTES = 1024, /* what is longer is cut */
};

void (*die_func)(void);

void xfunc_die(void)
{
	if (die_func)
		die_func();
	exit(xfunc_error_retval);
}

void (*bb_message_out)(const char *line, size_t n);

/* error: an errno, or 0 for none. */
static void message(const char *format, va_list args, int error)
{
	char line[LINE_BYTES];
	size_t n = (size_t)snprintf(line, LINE_BYTES - 1, "%s: ", applet_name);

	vsnprintf(line + n, LINE_BYTES - 1 - n, format, args);
	if (error) {
		n = strlen(line);
		snprintf(line + n, LINE_BYTES - 1 - n, ": %s", strerror(error));
	}
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
	message(format, args, 0);
	va_end(args);
	errno = error;
}

void bb_perror_msg(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error);
	va_end(args);
	errno = error;
}

void bb_error_msg_and_die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	message(format, args, 0);
	va_end(args);
	xfunc_die();
}

void bb_perror_msg_and_die(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	message(format, args, error);
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
