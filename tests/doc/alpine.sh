# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make recipes: the APKBUILD obeys the rules of aports, its checksum is that of the tarball, and its
# functions build, check and install what belongs into each package. abuild is not here: below is
# what the functions use of it.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-alpine.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
clone "$T/clone"
make -s -C "$T/clone" "O=$T/out" recipes >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
cd "$T/out/recipes/alpine"

# ---- rules -----------------------------------------------------------------------
shellcheck -s dash -e SC2034,SC2154 APKBUILD
! grep -nE ' $|	$|^ |`|\$\{[a-z]+\}|=""$' APKBUILD | grep -v maintainer= || exit 1
! grep -nE '^.{81}' APKBUILD | grep -v '[0-9a-f]\{128\}' || exit 1
grep -oE '^[a-z0-9_]+(=|\(\) \{$)' APKBUILD | tr '\n' ' ' >"$T/order"
echo 'maintainer= pkgname= pkgver= pkgrel= pkgdesc= url= arch= license= makedepends= subpackages= source=' \
	'_make() { build() { check() { package() { mkinitfs() { sha512sums= ' | tr -d '\n' | cmp - "$T/order"
! grep '@[A-Z0-9]*@' APKBUILD || exit 1

# ---- by hand ---------------------------------------------------------------------
startdir=$PWD
cat >"$T/abuild" <<'END'
srcdir=$T/src pkgdir=$T/pkg/xnbdbox
default_prepare() {
	:
}
# amove FILE: from the main package, which keeps no empty directory, to this one.
amove() {
	mkdir -p "$(dirname "$subpkgdir/$1")"
	mv "$pkgdir/$1" "$subpkgdir/$1"
	rmdir -p "$(dirname "$1")" 2>/dev/null || :
}
set -eu
. "$startdir/APKBUILD"
builddir=$srcdir/$pkgname-$pkgver
mkdir "$srcdir" "$T/pkg"
echo "$sha512sums" | (cd "$startdir" && grep . | sha512sum -c)
for file in $source; do
	tar -xf "$startdir/$file" -C "$srcdir"
done
for step in build check package; do
	(cd "$builddir" && $step)
done
[ "$subpackages" = "xnbdbox-doc xnbdbox-mkinitfs::noarch" ]
subpkgdir=$T/pkg/xnbdbox-mkinitfs
(cd "$pkgdir" && mkinitfs)
END
export T startdir
# abuild's own flags, which would make a dynamic program.
CC=musl-gcc CFLAGS=-O0 LDFLAGS=-Wl,--as-needed dash "$T/abuild" >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
cd "$T/pkg"
find . ! -type d | sort >"$T/list"
diff - "$T/list" <<'END'
./xnbdbox-mkinitfs/etc/mkinitfs/features.d/xnbd.files
./xnbdbox-mkinitfs/etc/mkinitfs/features.d/xnbd.modules
./xnbdbox-mkinitfs/usr/share/xnbdbox/init
./xnbdbox-mkinitfs/usr/share/xnbdbox/mkinitfs-init
./xnbdbox/usr/bin/xnbd-bgctl
./xnbdbox/usr/bin/xnbdbox
./xnbdbox/usr/sbin/xnbd-client
./xnbdbox/usr/sbin/xnbd-migrate
./xnbdbox/usr/sbin/xnbd-server
./xnbdbox/usr/sbin/xnbd-watchdog
./xnbdbox/usr/sbin/xnbd-wrapper
./xnbdbox/usr/sbin/xnbd-wrapper-ctl
./xnbdbox/usr/share/man/man1/xnbd-bgctl.1
./xnbdbox/usr/share/man/man1/xnbdbox.1
./xnbdbox/usr/share/man/man7/xnbd-migrate.7
./xnbdbox/usr/share/man/man8/xnbd-client.8
./xnbdbox/usr/share/man/man8/xnbd-migrate.8
./xnbdbox/usr/share/man/man8/xnbd-server.8
./xnbdbox/usr/share/man/man8/xnbd-watchdog.8
./xnbdbox/usr/share/man/man8/xnbd-wrapper-ctl.8
./xnbdbox/usr/share/man/man8/xnbd-wrapper.8
./xnbdbox/usr/share/xnbdbox/devices
END
# Each file that goes into the initramfs is in a package.
while read -r file; do
	case $file in
	/etc/xnbd.* | /usr/share/mkinitfs/*) ;; # the administrator's, and mkinitfs' own
	*) ls -d ./*"$file" ;;
	esac
done <xnbdbox-mkinitfs/etc/mkinitfs/features.d/xnbd.files
readelf -hl xnbdbox/usr/bin/xnbdbox >"$T/elf"
grep 'Type:.*DYN' "$T/elf"
! grep INTERP "$T/elf" || exit 1
