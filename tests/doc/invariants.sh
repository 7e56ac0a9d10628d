# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Each rule of ARCHITECTURE.md, "Invariants", names the function of the simulator that checks it:
# that function exists, and cites the rule in the report of a run that breaks it or in its comment.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck disable=SC2016 # backquotes of Markdown
row='^| *\(F*[0-9]*\) |.*| `\([a-z_]*\.c\)`: `\([a-z_]*\)`.*'
found=$(sed -n "s/$row/\1 \2 \3/p" ARCHITECTURE.md)
echo "$found" | {
	bad=0 n=0
	while read -r rule file function; do
		n=$((n + 1))
		body=$(awk -v f="$function(" '
			/^[ \t]*(\/\*| \*)/ { comment = comment $0 }
			/^[a-z].*\(/ { inside = index($0, f) && $0 !~ /;$/; if (inside) print comment }
			/^}/ { comment = "" }
			inside { print }
			/^}/ { inside = 0 }' "tests/sim/$file")
		[ -n "$body" ] || { echo "rule $rule: tests/sim/$file has no $function()"; bad=1; }
		echo "$body" | grep -qi "rules\? .*\b$rule\b" || { echo "rule $rule: $function() in tests/sim/$file does not cite it"; bad=1; }
	done
	[ $n = 15 ] || { echo "15 rules have a function, $n were found"; bad=1; }
	exit $bad
}
