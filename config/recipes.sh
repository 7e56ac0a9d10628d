#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# config/recipes.sh TARBALL DIR [URL]: recipes for the release TARBALL, in DIR/alpine, DIR/buildroot and
# DIR/openwrt. URL is the directory that the tarball can be downloaded from; without one, it is taken
# from where it is.
set -eu
tarball=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2"
dir=$(cd "$2" && pwd)
url=${3:-file://${tarball%/*}}
cd "$(dirname "$0")"
version=$(basename "$tarball" .tar.gz)
version=${version#xnbdbox-}
sha256=$(sha256sum <"$tarball")
sha512=$(sha512sum <"$tarball")

# fill: stdin, with what is known of the tarball.
fill() {
	sed -e "s|@VERSION@|$version|g; s|@URL@|$url|g; s|@SOURCE@|${1-}|g" \
		-e "s|@SHA256@|${sha256%% *}|g; s|@SHA512@|${sha512%% *}|g"
}

rm -rf "$dir/alpine" "$dir/buildroot" "$dir/openwrt"
mkdir "$dir/alpine" "$dir/openwrt"
# abuild knows no file: URL; a source without one is beside the APKBUILD.
fill "${3:+$3/}" <alpine/APKBUILD.in >"$dir/alpine/APKBUILD"
[ -n "${3-}" ] || cp "$tarball" "$dir/alpine/"

# OpenWrt looks for it in all directories of a file: URL, and takes it only if there is one.
(
	if [ -z "${3-}" ]; then
		cp "$tarball" "$dir/openwrt/"
		url='file://$(CURDIR)'
	fi
	fill <openwrt/Makefile.in >"$dir/openwrt/Makefile"
)

# The external tree takes the source that it is a part of; this copy takes the tarball.
cp -r buildroot "$dir/buildroot"
package=$dir/buildroot/package/xnbdbox
sed -e '/^# The external tree is/d; /^XNBDBOX_SITE_METHOD/d' -e 's|^XNBDBOX_SITE = .*|XNBDBOX_VERSION = @VERSION@\nXNBDBOX_SITE = @URL@|' \
	buildroot/package/xnbdbox/xnbdbox.mk | fill >"$package/xnbdbox.mk"
{
	cat buildroot/package/xnbdbox/xnbdbox.hash
	echo "sha256  ${sha256%% *}  xnbdbox-$version.tar.gz"
} >"$package/xnbdbox.hash"
