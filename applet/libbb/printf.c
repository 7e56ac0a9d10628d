/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Formatted text without stdio, which would bring float printf and locales. */
#include "libbb.h"

struct output {
	char *to;
	size_t room;  /* with the NUL */
	size_t bytes; /* that there would be, without the NUL */
};

struct field {
	bool left, zero;
	int width;
	int precision; /* -1 = none */
	unsigned size; /* 0 int, 1 long, 2 long long */
};

static void put(struct output *o, char c)
{
	if (o->bytes + 1 < o->room)
		o->to[o->bytes] = c;
	o->bytes++;
}

static void pad(struct output *o, int n, char c)
{
	while (n-- > 0)
		put(o, c);
}

/* n bytes of s, as wide as the field. */
static void put_field(struct output *o, const struct field *f, const char *s, size_t n)
{
	int spaces = f->width - (int)n;

	if (!f->left)
		pad(o, spaces, f->zero ? '0' : ' ');
	while (n--)
		put(o, *s++);
	if (f->left)
		pad(o, spaces, ' ');
}

static void put_string(struct output *o, const struct field *f, const char *s)
{
	put_field(o, f, s, f->precision < 0 ? strlen(s) : strnlen(s, (size_t)f->precision));
}

static void put_number(struct output *o, const struct field *f, unsigned long long v, unsigned base, char a)
{
	char digits[24];
	char *p = digits + sizeof(digits);

	do {
		unsigned d = (unsigned)(v % base);

		*--p = (char)(d < 10 ? '0' + d : a + d - 10);
		v /= base;
	} while (v);
	put_field(o, f, p, (size_t)(digits + sizeof(digits) - p));
}

static void put_signed(struct output *o, struct field *f, long long v)
{
	if (v < 0) {
		put(o, '-');
		f->width--;
	}
	put_number(o, f, v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v, 10, 'a');
}

/* A number of the format, or of the arguments. */
static const char *get_width(const char *format, int *width, int star)
{
	*width = 0;
	if (*format == '*') {
		*width = star;
		return format + 1;
	}
	while (*format >= '0' && *format <= '9')
		*width = *width * 10 + (*format++ - '0');
	return format;
}

/* What stands between '%' and the letter. */
static const char *get_field(const char *format, struct field *f, va_list *args)
{
	*f = (struct field){ .precision = -1 };
	for (;; format++) {
		if (*format == '-')
			f->left = true;
		else if (*format == '0')
			f->zero = true;
		else
			break;
	}
	format = get_width(format, &f->width, *format == '*' ? va_arg(*args, int) : 0);
	if (*format == '.') {
		format++;
		format = get_width(format, &f->precision, *format == '*' ? va_arg(*args, int) : 0);
	}
	for (; *format == 'l' || *format == 'z'; format++)
		f->size++;
	return format;
}

static void put_argument(struct output *o, struct field *f, char letter, va_list *args)
{
	unsigned long long v;
	char c;

	if (letter == 's') {
		put_string(o, f, va_arg(*args, const char *));
		return;
	}
	if (letter == 'c') {
		c = (char)va_arg(*args, int);
		put_field(o, f, &c, 1);
		return;
	}
	if (letter == 'd') {
		put_signed(o, f, f->size == 2 ? va_arg(*args, long long)
				 : f->size    ? va_arg(*args, long)
					      : va_arg(*args, int));
		return;
	}
	v = f->size == 2 ? va_arg(*args, unsigned long long)
	    : f->size    ? va_arg(*args, unsigned long)
			 : va_arg(*args, unsigned);
	put_number(o, f, v, letter == 'u' ? 10 : 16, letter == 'X' ? 'A' : 'a');
}

int bb_vsnprintf(char *to, size_t size, const char *format, va_list args)
{
	struct output o = { .to = to, .room = size };
	struct field f;
	va_list a; /* va_list may be an array: a copy can be pointed to */

	va_copy(a, args);
	for (; *format; format++) {
		if (*format != '%') {
			put(&o, *format);
			continue;
		}
		format = get_field(format + 1, &f, &a);
		if (*format == '%')
			put(&o, '%');
		else
			put_argument(&o, &f, *format, &a);
	}
	va_end(a);
	if (size)
		to[o.bytes < size ? o.bytes : size - 1] = '\0';
	return (int)o.bytes;
}

int bb_snprintf(char *to, size_t size, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = bb_vsnprintf(to, size, format, args);
	va_end(args);
	return n;
}

static char *format_new(const char *format, va_list args)
{
	va_list again;
	size_t n;
	char *s;

	va_copy(again, args);
	n = (size_t)bb_vsnprintf(NULL, 0, format, again) + 1;
	va_end(again);
	s = malloc(n);
	if (s)
		bb_vsnprintf(s, n, format, args);
	return s;
}

char *bb_asprintf(const char *format, ...)
{
	va_list args;
	char *s;

	va_start(args, format);
	s = format_new(format, args);
	va_end(args);
	return s;
}

char *xasprintf(const char *format, ...)
{
	va_list args;
	char *s;

	va_start(args, format);
	s = format_new(format, args);
	va_end(args);
	if (!s)
		bb_simple_error_msg_and_die("out of memory");
	return s;
}
