# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Man pages are clean, and program, usage text and man page have the same options:
# "-x,--long" each. And getopt32long() has room for them: it does not count.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
status=0
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

for page in man/*; do
	mandoc -T lint -W warning "$page" || status=1
done

# differ WHAT A B
differ() {
	diff "$2" "$3" && return
	echo "$1"
	status=1
}

# compare APPLET SOURCE PAGE
compare() {
	# "long\0" Required_argument "x": --shutdown has the letter of --switch.
	sed -n 's/.*"\([a-z0-9-]*\)\\0" [A-Za-z]*_argument "\(.\)".*/-\2,--\1/p' "$2" | grep -vxe "-s,--shutdown" | sort >"$T/code"
	build/xnbdbox "$1" --help 2>&1 | grep -oE -- '^	-[A-Za-z],--[a-z0-9-]+' | tr -d '\t' | sort >"$T/usage"
	mandoc -T ascii "$3" | sed 's/.\x08//g' |
		sed -n 's/^ \{5\}\(-[A-Za-z]\)\( [A-Z=]*\)\{0,1\}, \(--[a-z0-9-]*\).*/\1,\3/p' | sort >"$T/man"
	[ -s "$T/code" ] || status=1
	differ "$1: options of the program (<) and of $3 (>)" "$T/code" "$T/man"
	# What xNBD's wrapper has, and is of no use here, is in the page only.
	[ "$1" != xnbd-wrapper ] || sed -i '/^-X,\|--port$/d' "$T/code"
	differ "$1: options of the program (<) and of its usage text (>)" "$T/code" "$T/usage"
	# Defaults in the usage text, "(8520;" or "(4096)", are told in the page too.
	build/xnbdbox "$1" --help 2>&1 | sed -n 's/.*(\([0-9][0-9]*\)[;)].*/\1/p' | while read -r number; do
		mandoc -T ascii "$3" | grep -qw "$number" || echo "$1: default $number is not in $3"
	done >"$T/defaults"
	cat "$T/defaults"
	[ ! -s "$T/defaults" ] || status=1
}

# fits SOURCE: with all features, no option is beyond OPTIONS_MAX; one without an argument, and a list
# (":*"), has a bit of the result.
fits() {
	awk '/^static const char options\[\]/ { inside = 1 } inside { print } inside && /;$/ { exit }' "$1" |
		grep -o '"[^"]*"' | tr -d '"\n' | awk -v source="$1" -v max="$max" -v bits="$bits" '
		{
			for (i = 1; i <= length($0) && !bad; i++) {
				c = substr($0, i, 1)
				if (c == ":" || c == "*")
					continue
				behind = substr($0, i + 1, 2)
				if (n >= max || (n >= bits && (behind !~ /^:/ || behind == ":*"))) {
					print source ": getopt32long() has no room for -" c
					bad = 1
				}
				n++
			}
		}
		END { exit bad || !n }' || status=1
}

max=$(sed -n 's/.*OPTIONS_MAX = \([0-9]*\),.*/\1/p' applet/libbb/getopt32.c)
bits=$(sed -n 's/.*BITS = \([0-9]*\),.*/\1/p' applet/libbb/getopt32.c)
[ "$max" ] && [ "$bits" ] || status=1
for applet in bgctl client server watchdog wrapper wrapper_ctl; do
	fits "applet/xnbd_$applet.c"
done

compare xnbd-bgctl applet/xnbd_bgctl.c man/xnbd-bgctl.1
compare xnbd-client applet/xnbd_client.c man/xnbd-client.8
compare xnbd-server applet/xnbd_server.c man/xnbd-server.8
compare xnbd-watchdog applet/xnbd_watchdog.c man/xnbd-watchdog.8
compare xnbd-wrapper applet/xnbd_wrapper.c man/xnbd-wrapper.8
compare xnbd-wrapper-ctl applet/xnbd_wrapper_ctl.c man/xnbd-wrapper-ctl.8
exit $status
