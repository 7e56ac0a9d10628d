# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# An applet is added by adding files: nothing else is edited.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cp -r applet config Kconfig Makefile man "$T"
cat >"$T/applet/xnbd_hello.c" <<'END'
//config:config XNBD_HELLO
//config:	bool "xnbd-hello"
//config:	default y
//config:	help
//config:	Says hello.
//applet:IF_XNBD_HELLO(APPLET_ODDNAME(xnbd-hello, xnbd_hello, BB_DIR_USR_BIN, BB_SUID_DROP, xnbd_hello))
//kbuild:lib-$(CONFIG_XNBD_HELLO) += xnbd_hello.o
//usage:#define xnbd_hello_trivial_usage
//usage:       "NAME"
//usage:#define xnbd_hello_full_usage "\n\n"
//usage:       "Say hello to NAME"
#include "libbb.h"
#include "xnbd_hello.h"

int xnbd_hello_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_hello_main(int argc UNUSED_PARAM, char **argv)
{
	hello(argv[1]);
	return 0;
}
END
cat >"$T/applet/xnbd_hello_text.c" <<'END'
//kbuild:lib-$(CONFIG_XNBD_HELLO) += xnbd_hello_text.o
#include "libbb.h"
#include "xnbd_hello.h"

void hello(const char *name)
{
	bb_error_msg("hello, %s", name);
}
END
echo 'void hello(const char *name);' >"$T/applet/xnbd_hello.h"
make -s -C "$T" full_defconfig
make -s -C "$T" olddefconfig >/dev/null 2>&1
make -s -j2 -C "$T"
"$T/build/xnbd-hello" world 2>&1 | grep -x 'xnbd-hello: hello, world'
"$T/build/xnbdbox" --list | grep -x xnbd-hello
"$T/build/xnbdbox" xnbd-hello --help | grep -x 'Say hello to NAME'
# There is a link for each applet, and for nothing else.
"$T/build/xnbdbox" --list | sort >"$T/list"
(cd "$T/build" && printf '%s\n' xnbd-*) | diff - "$T/list"
