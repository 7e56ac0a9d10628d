/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Picks the applet by the name the program was called by, or by its first argument. */
#include "libbb.h"

#include <limits.h>

#include "usage.h"   /* made from the //usage: lines */
#include "version.h" /* XNBDBOX_VERSION, made from Makefile's VERSION */

#define APPLET_ODDNAME(name, main, dir, suid, help) int main##_main(int argc, char **argv);
#define APPLET(name, dir, suid)                     APPLET_ODDNAME(name, name, dir, suid, name)
#include "applets.h" /* made from the //applet: lines */
#undef APPLET_ODDNAME

struct applet {
	const char *name;
	int (*main)(int argc, char **argv);
	const char *usage;
};

#define APPLET_ODDNAME(name, main, dir, suid, help) { #name, main##_main, help##_trivial_usage help##_full_usage },

static const struct applet applets[] = {
#include "applets.h"
	{ NULL, NULL, NULL },
};
#undef APPLET_ODDNAME

/* Where the link of each belongs. */
#define BB_DIR_USR_BIN  "/usr/bin"
#define BB_DIR_USR_SBIN "/usr/sbin"
#define APPLET_ODDNAME(name, main, dir, suid, help) dir,

static const char *const dirs[] = {
#include "applets.h"
	NULL,
};

static void print(int fd, const char *text)
{
	full_write(fd, text, strlen(text));
}

static int print_version(const char *name, const char *version)
{
	print(STDOUT_FILENO, name);
	print(STDOUT_FILENO, version);
	return 0;
}

static const struct applet *find_applet(const char *name)
{
	const struct applet *a = applets;

	while (a->name && strcmp(a->name, name) != 0)
		a++;
	return a;
}

void bb_show_usage(void)
{
	int fd = xfunc_error_retval ? STDERR_FILENO : STDOUT_FILENO;

	print(fd, "Usage: ");
	print(fd, applet_name);
	print(fd, " ");
	print(fd, find_applet(applet_name)->usage);
	print(fd, "\n");
	xfunc_die();
}

static int run_applet(const struct applet *a, int argc, char **argv)
{
	applet_name = a->name;
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		xfunc_error_retval = 0;
		bb_show_usage();
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return print_version(a->name, " (xnbdbox) " XNBDBOX_VERSION "\n");
	return a->main(argc, argv);
}

/* --install [-s] [DIR]: links, symbolic with -s, in DIR, or each where it belongs. One that is there stays. */
static int install(char **argv)
{
	char *program = xzalloc(PATH_MAX);
	int (*make_link)(const char *to, const char *from) = link;
	unsigned i;

	if (argv[0] && strcmp(argv[0], "-s") == 0) {
		make_link = symlink;
		argv++;
	}
	if (readlink("/proc/self/exe", program, PATH_MAX - 1) < 0)
		bb_simple_perror_msg_and_die("/proc/self/exe");
	xfunc_error_retval = 0;
	for (i = 0; dirs[i]; i++) {
		char *path = xasprintf("%s/%s", argv[0] ? argv[0] : dirs[i], applets[i].name);

		if (make_link(program, path) < 0 && errno != EEXIST) {
			bb_simple_perror_msg(path);
			xfunc_error_retval = 1;
		}
		free(path);
	}
	return xfunc_error_retval;
}

static void print_names(int fd)
{
	const struct applet *a;

	for (a = applets; a->name; a++) {
		print(fd, a->name);
		print(fd, "\n");
	}
}

/* The basename of the path the program was called by. */
static const char *own_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int main(int argc, char **argv)
{
	const struct applet *a;

	bb_sanitize_stdio();
	if (!argc)
		return 127;
	a = find_applet(own_name(argv[0]));
	if (a->name)
		return run_applet(a, argc, argv);
	if (argc > 1 && (a = find_applet(argv[1]))->name)
		return run_applet(a, argc - 1, argv + 1);
	if (ARRAY_SIZE(applets) == 2) /* with the NULL behind it */
		return run_applet(applets, argc, argv); /* there is nothing to pick */
	if (argc == 1 || strcmp(argv[1], "--help") == 0)
		print(STDOUT_FILENO, "Usage: xnbdbox APPLET [ARGUMENTS]\n"
				     IF_FEATURE_INSTALLER("       xnbdbox --install [-s] [DIR]\n")
				     "\nApplets, each also a program of its own when linked by its name:\n");
	if (argc == 1 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "--list") == 0) {
		print_names(STDOUT_FILENO);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0)
		return print_version(applet_name, " " XNBDBOX_VERSION "\n");
	if (ENABLE_FEATURE_INSTALLER && strcmp(argv[1], "--install") == 0)
		return install(argv + 2);
	xfunc_error_retval = 127;
	bb_error_msg_and_die("%s: applet not found; see xnbdbox --list", argv[1]);
}
