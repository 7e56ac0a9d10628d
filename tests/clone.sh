# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# For tests of what needs a git clone, from the top of the tree.
# shellcheck shell=sh
# A clone may be somebody else's than who tests it.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# clone DIR: a clone of the last commit; of a tree that is none, as that of a release's tarball,
# a clone of all that is in it.
clone() {
	if [ -e .git ]; then
		git clone -q . "$1"
		return
	fi
	git init -q "$1"
	tar --exclude=./build -cf - . | tar -xf - -C "$1"
	git -C "$1" add -A
	git -C "$1" -c user.name=xnbdbox -c user.email=xnbdbox commit -q -m 'The tree as it is'
}
