# SPDX-License-Identifier: GPL-2.0-or-later
# Man pages are clean, and tell of the same options as the usage texts.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
status=0

for page in man/*; do
	mandoc -T lint -W warning "$page" || status=1
done

# options of a text: the long ones, sorted
options() {
	grep -oE -- '--[a-z][a-z0-9-]+' | sort -u
}

compare() {
	applet=$1 page=$2
	build/xnbdbox "$applet" --help 2>&1 | options >"/tmp/usage.$$"
	mandoc -T ascii "$page" | sed 's/.\x08//g' | options >"/tmp/man.$$"
	if ! diff "/tmp/usage.$$" "/tmp/man.$$"; then
		echo "$applet: usage (<) and $page (>) name different options"
		status=1
	fi
	rm -f "/tmp/usage.$$" "/tmp/man.$$"
}

compare xnbd-bgctl man/xnbd-bgctl.1
compare xnbd-server man/xnbd-server.8
exit $status
