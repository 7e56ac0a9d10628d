/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What every unit test needs: CHECK(condition), and `return test_end();` in main(). */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static unsigned test_passed, test_failed;

static bool test_check(bool ok, const char *file, int line, const char *what)
{
	if (ok) {
		test_passed++;
	} else {
		test_failed++;
		printf("not ok %s:%d: %s\n", file, line, what);
		fflush(stdout); /* a sanitizer may be about to end this */
	}
	return ok;
}

/* Both give back whether it held. */
#define CHECK(cond) test_check((cond), __FILE__, __LINE__, #cond)
#define CHECK_STR(is, want)                                                                                            \
	(test_check(!strcmp((is), (want)), __FILE__, __LINE__, #is " is " #want) || (printf("#  is: %s\n", (is)), false))

/* The last line and the exit status of a test. */
static int test_end(void)
{
	printf("%u passed, %u failed\n", test_passed, test_failed);
	return test_failed || !test_passed;
}

#endif
