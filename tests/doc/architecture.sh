#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# ARCHITECTURE.md names each source file, and each header without a source file of its name; and a function
# only together with the file that defines it: "`port_io()` in `storage/disk.c`", or "`core/copier.c`
# (`copier_conn_down()`, ...)". Comments name functions that are there.
set -u
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-architecture.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
fail=0
wrong() {
	echo "ARCHITECTURE.md: $*"
	fail=1
}

for file in applet/*.c applet/*/*.c; do
	[ "${file#applet/libbb/}" = "$file" ] || continue # a helper a file, with BusyBox's names
	grep -q "\b$(basename "$file")\b" ARCHITECTURE.md || wrong "$file is not named"
done
for file in applet/*.h applet/*/*.h; do
	[ -f "${file%.h}.c" ] || grep -q "\b$(basename "$file")\b" ARCHITECTURE.md || wrong "$file is not named"
done

# FUNCTION FILE, one pair a line. Sentences go over the ends of lines.
tr '\n' ' ' <ARCHITECTURE.md | tr -s ' ' >"$T/text"
{
	grep -oE '`[a-z0-9_]+\(\)` in `[a-z0-9_/]+\.c`' "$T/text" | sed 's/`\(.*\)()` in `\(.*\)`/\1 \2/'
	grep -oE '`[a-z0-9_/]+\.c`:? \(?(`[a-z0-9_]+\(\)`(, | and )?)+' "$T/text" | tr -d '(),:' | sed 's/ and / /g; s/`//g' |
		while read -r file functions; do
			for function in $functions; do echo "$function $file"; done
		done
} | sort -u >"$T/pairs"
while read -r function file; do
	found=
	for path in "applet/$file" applet/*/"$file" "tests/sim/$file"; do
		[ -f "$path" ] || continue
		! grep -qE "^[a-z].*[ *]$function\(.*[^;]$" "$path" || found=yes
	done
	[ -n "$found" ] || wrong "$file does not define $function()"
done <"$T/pairs"

# Comments name functions that are there, but for the kernel's, and names that stand for many.
awk '
	BEGIN { n = split("nbd_xmit_timeout ublk_ch_mmap X_handover IF_x IF_NOT_x", name, " "); for (i = 1; i <= n; i++) there[name[i]] }
	{
		rest = $0
		while (match(rest, /[A-Za-z_][A-Za-z0-9_]*\)?\(\)?/)) {
			word = substr(rest, RSTART, RLENGTH)
			rest = substr(rest, RSTART + RLENGTH)
			gsub(/[()]/, "", word)
			before = substr($0, 1, length($0) - length(rest))
			if (before !~ /\(\)$/)
				there[word]
			else if (before ~ /\/\*|^[ \t]*\* /)
				named[word] = FILENAME
		}
	}
	END { for (word in named) if (!(word in there)) print named[word] ": there is no " word "()" }' applet/*.[ch] applet/*/*.[ch] >"$T/dangling"
cat "$T/dangling"
[ ! -s "$T/dangling" ] || fail=1
pairs=$(wc -l <"$T/pairs")
[ "$pairs" -ge 20 ] || wrong "only $pairs functions with their files were found: has the way to name them changed?"
[ $fail = 0 ] && echo "$pairs functions are where ARCHITECTURE.md says"
exit $fail
