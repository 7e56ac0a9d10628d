#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Where the bytes are. What this prints, it has built.
#
#   config/bloat.sh table      the table of README.md: configurations and features
#   config/bloat.sh write      puts it into README.md
#   config/bloat.sh check      does README.md say the same, but for 2 %? Features in `full` only.
#                              And have the prompts of Kconfig the figures of README.md?
#   config/bloat.sh prompts    puts these into the prompts, as BusyBox has them: "xnbd-bgctl (9.2 kb)"
#   config/bloat.sh base REV   what has changed since REV, symbol by symbol
set -eu
cd "$(dirname "$0")/.."
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-bloat.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
# What the compiler has said of a file is kept.
if command -v ccache >/dev/null; then
	mkdir "$T/bin"
	ln -s "$(command -v ccache)" "$T/bin/musl-gcc"
	PATH=$T/bin:$PATH
	: "${BLOAT_CCACHE:=$T/ccache}" # of all its processes
	export BLOAT_CCACHE CCACHE_DIR="$BLOAT_CCACHE"
fi

config/generate kconfig "$T"

# kept OLD: the objects of $T/tree whose sources, generated ones among them, name no symbol that is
# another one in include/autoconf.h than in OLD. A symbol changes few of them.
kept() {
	(cd "$T/tree" && find build/obj -name '*.d' -exec awk -v old="$1" '
	function symbols(file, value,    line, word) {
		while ((getline line <file) > 0)
			if (split(line, word, " ") == 3 && word[2] ~ /^ENABLE_/) value[substr(word[2], 8)] = word[3]
	}
	# Is a symbol that has changed named in it? The definitions of all of them are no use of one.
	function concerned(file,    line, name) {
		if (!(file in answer)) {
			answer[file] = 0
			while (file !~ /autoconf.h$/ && (getline line <file) > 0)
				for (name in changed)
					if (index(line, name)) answer[file] = 1
			close(file)
		}
		return answer[file]
	}
	BEGIN {
		symbols(old, was)
		symbols("build/include/autoconf.h", is)
		for (name in is)
			if (is[name] != was[name]) changed[name]
	}
	FNR == 1 {
		o = FILENAME
		sub(/d$/, "o", o)
		object[o]
	}
	{
		for (i = 1; i <= NF; i++)
			if ($i ~ /[ch]$/ && concerned($i)) anew[o]
	}
	END {
		for (o in object)
			if (!(o in anew)) print o
	}' {} +)
}

# build CONFIG: the program is left in $T/tree/build.
build() {
	if [ ! -d "$T/tree" ]; then
		mkdir "$T/tree"
		cp -r applet config Kconfig Makefile man "$T/tree"
	fi
	cp "$1" "$T/tree/.config"
	if [ -e "$T/tree/build/xnbdbox" ]; then
		cp "$T/tree/build/include/autoconf.h" "$T/autoconf.h"
		(cd "$T/tree" && config/generate headers && touch build/generated.stamp)
		kept "$T/autoconf.h" | (cd "$T/tree" && xargs -r touch)
	fi
	make -s -j2 -C "$T/tree" all >"$T/log" 2>&1 || {
		cat "$T/log" >&2
		exit 1
	}
}

# file CONFIG: the bytes of the file.
file() {
	build "$1" && stat -c %s "$T/tree/build/xnbdbox"
}

# contents CONFIG: code and data, without what fills the file up to 512 bytes between them.
contents() {
	build "$1" && size "$T/tree/build/xnbdbox" | awk 'NR == 2 { print $1 + $2 }'
}

# without NAME SYMBOL: config/NAME_defconfig, less that and what depends on it.
without() {
	awk -v symbol="$2" '
	# Do the symbols of `chosen` allow what depends on this? Sums of products, as Kconfig has them here.
	function allows(expression,    sum, product, i, k, all) {
		for (i = split(expression, sum, / *\|\| */); i; i--) {
			all = 1
			for (k = split(sum[i], product, / *&& */); k; k--)
				all = all && (product[k] ~ /^!/ ? !(substr(product[k], 2) in chosen) : product[k] in chosen)
			if (all) return 1
		}
		return 0
	}
	FNR == NR {
		if ($1 == "config") now = $2
		if ($1 == "depends") {
			sub(/^[ \t]*depends on */, "")
			needs[now] = $0
		}
		next
	}
	/^#/ {
		print
		next
	}
	{ name = substr($0, 8, index($0, "=") - 8) }
	name != symbol { chosen[name] = $0 }
	END {
		do {
			left = 0
			for (name in chosen)
				if (name in needs && !allows(needs[name])) {
					delete chosen[name]
					left = 1
				}
		} while (left)
		for (name in chosen)
			print chosen[name]
	}' "$T/Config.in" "config/$1_defconfig" >"$T/config"
}

# with NAME SYMBOL: config/NAME_defconfig, and that.
with() {
	{
		cat "config/$1_defconfig"
		echo "CONFIG_$2=y"
	} >"$T/config"
}

# worth NAME BYTES SYMBOL: what the symbol is worth in that configuration, which has so many
# bytes; in brackets if it is not in it.
worth() {
	if grep -q "^CONFIG_$3=y" "config/$1_defconfig"; then
		without "$1" "$3"
		echo $(($2 - $(contents "$T/config")))
	else
		with "$1" "$3"
		echo "($(($(contents "$T/config") - $2)))"
	fi
}

# The prompt of a symbol, without its figure.
prompt() {
	awk -v symbol="$1" '
	$1 == "config" { here = $2 == symbol }
	here && $1 == "bool" { sub(/^[^"]*"/, ""); sub(/".*/, ""); sub(/ \([0-9.]+ (kb|bytes)\)$/, ""); print; exit }' "$T/Config.in"
}

table() {
	echo '| configuration (`make NAME_defconfig`) | bytes of the file |'
	echo '| --- | --- |'
	for name in full initramfs rescue bgctl bgctl-min; do
		echo "| \`$name\` | $(file config/${name}_defconfig) |"
	done
	full=$(contents config/full_defconfig)
	initramfs=$(contents config/initramfs_defconfig)
	echo
	echo '| bytes of a feature; in brackets: what it would add | symbol | in `full` | in `initramfs` |'
	echo '| --- | --- | --- | --- |'
	sed -n 's/^\(# \)*CONFIG_\([A-Z0-9_]*\)\(=y\| is not set\)$/\2/p' config/full_defconfig >"$T/symbols"
	config/bloat.sh share 0 2 "$1" "$full" "$initramfs" <"$T/symbols" >"$T/rows.0" &
	config/bloat.sh share 1 2 "$1" "$full" "$initramfs" <"$T/symbols" >"$T/rows.1"
	wait $!
	# A row of the one, a row of the other.
	paste -d '\n' "$T/rows.0" "$T/rows.1" | sed '/^$/d'
}

# share I N HOW FULL INITRAMFS: of the features in standard input every N-th, from the I-th on; a process with a tree
# of its own, as linking takes longest, and uses one processor. The bytes of those two configurations are known.
share() {
	awk -v i="$1" -v n="$2" 'NR % n == (i + 1) % n' | while read -r symbol; do
		echo "| $(prompt "$symbol") | \`$symbol\` | $(worth full "$4" "$symbol") |" \
			"$(if [ "$3" = check ]; then echo '?'; else worth initramfs "$5" "$symbol"; fi) |"
	done
}

# The lines of README.md between the marks.
readme_table() {
	sed -n '/<!-- sizes -->/,/<!-- end of sizes -->/p' README.md | grep '^|'
}

write() {
	table write >"$T/table"
	awk -v file="$T/table" '
	/<!-- end of sizes -->/ { inside = 0 }
	!inside { print }
	/<!-- sizes -->/ { inside = 1; while ((getline line <file) > 0) print line }' README.md >"$T/readme"
	sed "s/Linux of [0-9]* KB/Linux of $(kilobytes) KB/" "$T/readme" >README.md
	prompts
}

# Of `full`, by the table.
kilobytes() { sed -n 's/^| `full` | \([0-9]*\) |$/\1/p' "${1:-$T/table}" | awk '{ print int($1 / 1000 + 0.5) }'; }

# with_figures FILE: FILE, with prompts that have the figures of README.md: what the symbol
# takes where it takes most, as what is shared with another one is counted for neither.
with_figures() {
	readme_table | awk -F'|' '
	function bytes(text) {
		gsub(/[^0-9-]/, "", text)
		return text + 0
	}
	FNR == NR {
		n = bytes($4) > bytes($5) ? bytes($4) : bytes($5)
		gsub(/[` ]/, "", $3)
		figure[$3] = n < 100 ? "" : sprintf(n < 950 ? " (%d bytes)" : n < 9950 ? " (%.1f kb)" : " (%.0f kb)",
			n < 950 ? int(n / 10 + 0.5) * 10 : n / 1000)
		next
	}
	{ line = $0; sub(/^\/\/config:/, "", line) }
	line ~ /^config / { symbol = substr(line, 8) }
	symbol in figure && line ~ /^\tbool "/ {
		sub(/( \([0-9.]+ (kb|bytes)\))?"$/, "")
		$0 = $0 figure[symbol] "\""
		symbol = ""
	}
	{ print }' - "$1"
}

prompts() {
	for file in Kconfig $(grep -l "^//config:" applet/*.c applet/*/*.c); do
		with_figures "$file" >"$T/file"
		cmp -s "$T/file" "$file" || cat "$T/file" >"$file"
	done
	config/busybox.sh patches
}

prompts_are_true() {
	for file in Kconfig $(grep -l "^//config:" applet/*.c applet/*/*.c); do
		with_figures "$file" | diff "$file" - || {
			echo "$file: the figures of README.md: config/bloat.sh prompts"
			return 1
		}
	done
}

# A difference of 2 % of what is shown, or of 256 bytes: what the compiler inlines differs by that.
check() {
	prompts_are_true || exit 1
	readme_table >"$T/told"
	grep -q "Linux of $(kilobytes "$T/told") KB" README.md || {
		echo "README.md: its first lines have another size than its table"
		exit 1
	}
	table check | grep '^|' >"$T/is"
	paste -d '~' "$T/told" "$T/is" | awk -F'~' '
	# The columns that differ by more than that, or in what they say.
	function differ(told, is,    n, i, x, y, t, s) {
		n = split(told, t, "|")
		if (split(is, s, "|") != n) return 1
		for (i = 1; i <= n; i++) {
			if (t[i] == s[i] || s[i] == " ? ") continue
			if (t[i] !~ /^ *\(?-?[0-9]+\)? *$/ || (t[i] ~ /\(/) != (s[i] ~ /\(/)) return 1
			gsub(/[() ]/, "", t[i])
			gsub(/[() ]/, "", s[i])
			x = t[i] - s[i]
			y = x < 0 ? -x : x
			if (y > 256 && y * 50 > s[i] + 0) return 1
		}
		return 0
	}
	differ($1, $2) {
		print "README.md: " $1 "\n       is: " $2
		bad = 1
	}
	END { exit bad }'
}

symbols() {
	nm -S -t d --size-sort "$1" | awk '{ n[$4] = $2 + 0 } END { for (s in n) print s, n[s] }' | sort
}

base() {
	file .config >"$T/bytes"
	cp "$T/tree/build/xnbdbox_unstripped" "$T/new"
	cp .config "$T/config"
	rm -rf "$T/tree"
	mkdir "$T/tree"
	git archive "$1" | tar -x -C "$T/tree"
	file "$T/config" >"$T/old_bytes"
	symbols "$T/new" >"$T/new.txt"
	symbols "$T/tree/build/xnbdbox_unstripped" >"$T/old.txt"
	join -a 1 -a 2 -e 0 -o 0,1.2,2.2 "$T/old.txt" "$T/new.txt" |
		awk '$2 != $3 { printf "%+7d  %6d -> %6d  %s\n", $3 - $2, $2, $3, $1 }' | sort -rn
	echo "$(($(cat "$T/bytes") - $(cat "$T/old_bytes"))) bytes of the file, $(cat "$T/old_bytes") -> $(cat "$T/bytes")"
}

case ${1-} in
table | write | check) "$1" "$1" ;;
share)
	shift
	share "$@"
	;;
prompts) prompts ;;
base) base "$2" ;;
*)
	echo "usage: config/bloat.sh table|write|check|prompts|base REV" >&2
	exit 1
	;;
esac
